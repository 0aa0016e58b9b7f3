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


def all_of(tensor: torch.Tensor) -> Any:
    """Return what a program can tell of a tensor: numbers to the last bit, and all around them."""
    bare, hooks = tensor.detach(), (tensor._backward_hooks, tensor._post_accumulate_grad_hooks)
    if bare.layout is torch.strided:
        around = (tuple(bare.stride()), tensor._version, tensor.untyped_storage().resizable())
    else:
        around, bare = (str(bare.layout), tensor._version, None), bare.to_dense()
    numbers = bare.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    kind = (str(bare.dtype), tuple(bare.shape), tensor.requires_grad)
    return (*kind, *around, [len(h) for h in hooks if h], bytes(numbers.tolist()))


def once_or_error(run: Callable[[], Any]) -> Any:
    """Return what a program made, or its error, and what random numbers would come next."""
    torch.manual_seed(1)
    try:
        made = [all_of(tensor) for tensor in tensors(run())]
    except Exception as error:  # noqa: BLE001 (compared with the same without watching)
        made = [type(error), str(error)]
    return made, torch.get_rng_state().tolist()


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


def forward_and_back(op: Any, sample: Any) -> Any:
    given = [sample.input, sample.args, sample.kwargs]
    leaves = [t for t in tensors(given) if t.requires_grad]
    outputs = list(
        tensors(sample.output_process_fn_grad(op(sample.input, *sample.args, **sample.kwargs)))
    )
    roots = [t for t in outputs if t.requires_grad]
    seeds = [
        torch.rand_like(root) if root.layout is torch.strided else root.detach() for root in roots
    ]
    found = torch.autograd.grad(roots, leaves, seeds, allow_unused=True) if roots and leaves else ()
    return [*outputs, *tensors(found), *tensors(given)]


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
        sample = None if op.name.startswith(_UNSET) else one_sample(op, dtype, position)
        if sample is None:
            continue

        def watched(op: Any = op, sample: Any = sample) -> Any:
            with gw.watch(keep=0):
                return forward_and_back(op, sample)

        plain = [once_or_error(lambda: forward_and_back(op, sample)) for _ in range(2)]  # noqa: B023
        tried += 1
        if plain[0] == plain[1] != once_or_error(watched):
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
    hooks = [
        (p._backward_hooks, getattr(p, "_post_accumulate_grad_hooks", None)) for p in parameters
    ]
    return (
        [all_of(t) for t in tensors([losses, parameters, list(model.buffers())])],
        [None if p.grad is None else all_of(p.grad) for p in parameters],
        [all_of(t) for t in tensors(list(adam.state.values()))],
        [[None if h is None else len(h) for h in pair] for pair in hooks],
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
    """A step's numbers take 4 MB: were they left behind, there would be 200."""
    model, x = (
        nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1)),
        torch.randn(512, 512),
    )
    used = []
    for _ in range(60):
        with gw.watch(model):
            model(x).square().mean().backward()
        used.append(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096)
    assert used[-1] - used[9] < 20e6
