"""Watching changes nothing: every bit, counter, hook and piece of memory is as it is without."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import types
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.loops import LOOPS
from capture.test_hygiene import NOTHING, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Whose numbers are whatever lay in memory.
_UNSET = ("empty", "new_empty")


def tensors(of: Any) -> Iterator[torch.Tensor]:
    if isinstance(of, torch.Tensor):
        yield of
    elif isinstance(of, list | tuple):
        for part in of:
            yield from tensors(part)
    elif isinstance(of, dict):
        yield from tensors(list(of.values()))


def all_of(tensor: torch.Tensor, *, given: bool) -> Any:
    """Return what a program can tell of a tensor: numbers to the last bit, and all around them.

    The counter of changes of a tensor that torch has just made may start at any number.
    """
    bare, hooks = tensor.detach(), (tensor._backward_hooks, _later(tensor))
    layout, resizable = str(bare.layout), None
    if bare.layout is torch.strided:
        layout, resizable = str(bare.stride()), tensor.untyped_storage().resizable()
    else:
        bare = bare.to_dense()
    if bare._is_zerotensor():
        bare = torch.zeros(bare.shape, dtype=bare.dtype)
    plain = bare.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return (
        *(str(bare.dtype), tuple(bare.shape), layout, resizable, tensor.requires_grad),
        [None if hook is None else len(hook) for hook in hooks],
        tensor._version if given else None,
        plain.reshape(-1).view(torch.uint8).numpy().tobytes(),
    )


def _later(tensor: torch.Tensor) -> Any:
    return getattr(tensor, "_post_accumulate_grad_hooks", None)


def once_or_error(run: Callable[[], tuple[Any, Any]]) -> Any:
    """Return what a program was given and made, or its error, and the random numbers' state."""
    torch.manual_seed(1)
    try:
        given, made = run()
    except Exception as error:  # noqa: BLE001 (compared with the same without watching)
        return type(error), str(error)
    before = [all_of(tensor, given=True) for tensor in tensors(given)]
    after = [all_of(tensor, given=False) for tensor in tensors(made)]
    return before, after, torch.get_rng_state().tolist()


@pytest.fixture(scope="module")
def operations() -> Any:
    """Torch's own operations with sample inputs; they import a package that they do not use."""
    unused: Any = types.ModuleType("expecttest")
    unused.TestCase, unused.assert_expected_inline = unittest.TestCase, None
    sys.modules.setdefault("expecttest", unused)
    from torch.testing._internal.common_methods_invocations import op_db

    return op_db


def one_sample(op: Any, dtype: torch.dtype, position: int) -> Any:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (torch's samples draw from it)
    random.seed(0)
    graded = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    few = list(itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=graded), 7))
    return few[position % len(few)] if few else None


def forward_and_back(op: Any, sample: Any, around: Any) -> tuple[Any, Any]:
    given = [sample.input, sample.args, sample.kwargs]
    leaves = [tensor for tensor in tensors(given) if tensor.requires_grad]
    with around:
        made = op(sample.input, *sample.args, **sample.kwargs)
        outputs = list(tensors(sample.output_process_fn_grad(made)))
        roots = [tensor for tensor in outputs if tensor.requires_grad]
        seeds = [torch.ones_like(root) / 3 for root in roots]
        if roots and leaves:
            outputs += tensors(torch.autograd.grad(roots, leaves, seeds, allow_unused=True))
    return given, outputs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("dtype", "every", "count"),
    [(torch.float64, 3, 200), (torch.float32, 5, 100), (torch.complex128, 2, 150)],
    ids=str,
)
def test_operations(operations: Any, dtype: torch.dtype, every: int, count: int) -> None:
    able = [op for op in operations if dtype in op.supported_dtypes("cpu")]
    tried, changed = 0, []
    for position, op in enumerate(able[::every]):

        def run(around: Any, op: Any = op, position: int = position) -> Any:
            sample = one_sample(op, dtype, position)
            return sample and once_or_error(lambda: forward_and_back(op, sample, around))

        plain = None if op.name.startswith(_UNSET) else run(contextlib.nullcontext())
        if plain is None:
            continue
        tried += 1
        if plain != run(gw.watch(keep=0)) and plain == run(contextlib.nullcontext()):
            changed.append(f"{op.name} {op.variant_test_name}, sample {position % 7}")
    assert tried > count
    assert not changed


def train(make: Callable[[], Any], around: Callable[[], Any]) -> Any:
    """Take five steps of Adam, and return all that came of them."""
    torch.manual_seed(0)
    model, loss = make()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        with around():
            adam.zero_grad()
            value = loss(model)
            if value is not None:
                value.backward()
                losses.append(value.detach())
            adam.step()
    parameters = list(model.parameters())
    state = [parameters, list(model.buffers()), list(adam.state.values())]
    return (
        [all_of(tensor, given=True) for tensor in tensors(state)],
        [all_of(tensor, given=False) for tensor in tensors([losses, [p.grad for p in parameters]])],
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("keep", [0, 2**30])
@pytest.mark.parametrize("make", LOOPS, ids=lambda loop: loop.__name__)
def test_loops(make: Callable[[], Any], keep: int) -> None:
    plain = train(make, contextlib.nullcontext)
    assert plain == train(make, contextlib.nullcontext)
    assert plain == train(make, lambda: gw.watch(keep=keep))
    assert traces() == NOTHING


def test_memory_stays_flat_over_fifty_steps() -> None:
    """A step's numbers take 1 MB: were they left behind, there would be 50."""
    model, x = (
        nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)),
        torch.randn(512, 256),
    )
    used = []
    for _ in range(60):
        with gw.watch(model):
            model(x).square().mean().backward()
        used.append(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096)
    assert used[-1] - used[9] < 10e6
