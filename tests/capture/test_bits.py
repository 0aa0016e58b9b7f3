"""Watching changes nothing: every bit, counter, hook and piece of memory is as it is without."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading
import types
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

import gradwitness as gw
from capture.loops import LOOPS
from capture.test_hygiene import NOTHING, traces
from gradwitness.capture import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Whose numbers are, or depend on, whatever lay in memory: so do the pivots of one driver of lstsq.
_UNSET = ("empty", "new_empty", "linalg.lstsq")


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
def operations() -> Iterator[Any]:
    """Torch's own operations with sample inputs; they import a package that they do not use."""
    unused: Any = types.ModuleType("expecttest")
    unused.TestCase, unused.assert_expected_inline = unittest.TestCase, None
    sys.modules.setdefault("expecttest", unused)
    from torch.testing._internal import common_utils
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.opinfo import core

    # Twice for each operation they look for torch's own test around them, by `inspect.stack`,
    # which took nine tenths of the time. There is none.
    with pytest.MonkeyPatch.context() as patch:
        for module in (common_utils, core):
            patch.setattr(module, "extract_test_fn", lambda: None)
        yield op_db


def one_sample(op: Any, dtype: torch.dtype, position: int) -> Any:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (torch's samples draw from it)
    random.seed(0)
    graded = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    samples = op.sample_inputs("cpu", dtype, requires_grad=graded)
    # Those behind the one that is taken need not be made, which takes long for some.
    few = list(itertools.islice(samples, position % 7 + 1))
    return few[position % 7 % len(few)] if few else None


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
    [(torch.float64, 4, 130), (torch.float32, 7, 70), (torch.complex128, 3, 90)],
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
        if plain != run(record()) and plain == run(contextlib.nullcontext()):
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


def both(run: Callable[[], Any]) -> tuple[Any, Any]:
    plain = once_or_error(run)
    with gw.watch():
        watched = once_or_error(run)
    return plain, watched


def product_with_zeros() -> tuple[Any, Any]:
    rows = [[1e13, 0, 0], [1e13, 1e13, 0], [1e13] * 3]
    x: Any = torch.tensor(rows, requires_grad=True)
    torch.autograd.backward(torch.prod(x))
    return x, x.grad


def pseudo_inverse() -> tuple[Any, Any]:
    x: Any = torch.randn(5, 5, dtype=torch.complex128, requires_grad=True)
    torch.autograd.backward(torch.linalg.pinv(x).abs().pow(2).sum())
    return x, x.grad


def overwritten() -> tuple[Any, Any]:
    p: Any = torch.ones(3, requires_grad=True)
    loss = (p * p).sum()
    with torch.no_grad():
        torch._foreach_mul_([p], 2.0)
    torch.autograd.backward(loss)
    return p, p.grad


@pytest.mark.parametrize("run", [product_with_zeros, pseudo_inverse, overwritten])
def test_single_calls(run: Callable[[], Any]) -> None:
    plain, watched = both(run)
    assert plain == watched
    assert (plain[0] is RuntimeError) == (run is overwritten)


class OfTheProgram(TorchDispatchMode):
    """Remembers the operations, in their order, and the modes below it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[str, list[str]] = {}
        self.order: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        below = [type(mode).__name__ for mode in _get_current_dispatch_mode_stack()]
        self.seen[str(func)] = below
        self.order.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_program_s_own_modes_stay() -> None:
    x: Any = torch.ones(3, requires_grad=True)
    with OfTheProgram() as outer, gw.watch(), OfTheProgram() as inner:
        torch.autograd.backward(x.exp().sum())
        assert [type(m).__name__ for m in _get_current_dispatch_mode_stack()] == [
            *("OfTheProgram", "DispatchRecorder", "OfTheProgram")
        ]
    # exp runs forward, under the recorder; its backward is a product, which runs without.
    assert inner.seen["aten.exp.default"] == ["OfTheProgram", "DispatchRecorder"]
    assert inner.seen["aten.mul.Tensor"] == ["OfTheProgram"]
    assert outer.seen["aten.mul.Tensor"] == []


def new_tensors() -> None:
    w, x = torch.zeros(3).requires_grad_(), torch.linspace(0, 1, 3, requires_grad=True)
    y = torch.ones_like(x).requires_grad_() + torch.tensor([1.0, 2, 3], requires_grad=True)
    p = torch.nn.Parameter(torch.rand(3))
    torch.autograd.backward((w * x * y * p + torch.empty(3).fill_(2)).exp().sum())


def new_models() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()


def new_in_place() -> None:
    x = torch.ones(4, requires_grad=True)
    y: Any = torch.zeros(6)
    y[:4] = 2 * x
    y[1:3].mul_(3)
    y.cumsum(0).prod().backward()


@pytest.mark.parametrize("way", [{}, {"depth": "fast"}, {"keep": 0}], ids=str)
@pytest.mark.parametrize("run", [new_tensors, new_models, new_in_place])
def test_the_program_s_own_mode_sees_the_same_operations(run: Any, way: Any) -> None:
    with OfTheProgram() as plain:
        run()
    with gw.watch(**way) as witness, OfTheProgram() as watched:
        run()
    assert watched.order == plain.order
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("where", ["tensor", "before", "after", "accumulated"])
def test_an_error_in_a_hook_leaves_nothing_behind(where: str) -> None:
    def fails(*_: Any) -> None:
        raise LookupError("the program's own")

    x: Any = torch.ones(3, requires_grad=True)
    with pytest.raises(LookupError, match="own"), gw.watch() as witness:  # noqa: PT012
        y = x.exp()
        if where == "tensor":
            y.register_hook(fails)
        elif where == "before":
            y.grad_fn.register_prehook(fails)
        elif where == "after":
            y.grad_fn.register_hook(fails)
        else:
            x.register_post_accumulate_grad_hook(fails)
        try:
            y.sum().backward(retain_graph=True)
        finally:
            assert traces() == dict.fromkeys(NOTHING, 1)
    assert traces() == NOTHING
    assert witness.verdict is not gw.Verdict.DISAGREES


def attention_alone() -> Any:
    return nn.MultiheadAttention(8, 2, batch_first=True), lambda net, x: net(x, x, x)


def a_layer_alone() -> Any:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), lambda net, x: net(x)


def padded_layers() -> Any:
    mask = torch.arange(5) > torch.tensor([[2], [4]])
    layers = nn.TransformerEncoder(a_layer_alone()[0], 2)
    return layers, lambda net, x: net(x, src_key_padding_mask=mask)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("make", [attention_alone, a_layer_alone, padded_layers])
def test_layers_take_their_fast_path(make: Callable[[], Any], frozen: bool) -> None:
    """Torch computes them in one kernel without gradients, unless a function mode is on."""
    net, call = make()
    net.eval().requires_grad_(not frozen)
    student = nn.Linear(8, 8)

    def run() -> Any:
        student.zero_grad()
        x = torch.randn(2, 5, 8)
        with torch.set_grad_enabled(frozen):
            target = next(tensors(call(net, x)))
        torch.autograd.backward((student(x)[:, : target.shape[1]] - target).square().mean())
        return None, [target, *(p.grad for p in student.parameters())]

    plain = once_or_error(run)
    with gw.watch(judge="gradients") as witness:
        watched = once_or_error(run)
    assert plain == watched
    witness.require()


def test_an_interrupt_in_a_layer_s_fast_path_leaves_nothing_behind() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    layer = a_layer_alone()[0].eval()
    layer.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), gw.watch(), torch.no_grad():
        layer(torch.randn(2, 5, 8))
    assert traces() == NOTHING


def test_another_thread_trains_as_it_would_alone() -> None:
    alone, threaded = train(LOOPS[1], contextlib.nullcontext), []
    with gw.watch():
        torch.ones(3) + 1
        worker = threading.Thread(
            target=lambda: threaded.append(train(LOOPS[1], contextlib.nullcontext))
        )
        worker.start()
        worker.join()
    assert threaded == [alone]
