"""A program may resize and free its memory while it is watched, and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gradwitness as gw
from capture.programs import leaf
from gradwitness.capture import record
from gradwitness.capture.memory.arrays import as_array
from gradwitness.judging.comparing import records as recorded
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FREED = "its memory was freed, or filled by something unseen, before it could be read"
# So large that the system takes it back at once: to read it then would end the process.
LARGE = 2**20


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read from where they lie whenever the check needs them."""
    monkeypatch.setattr(recorded, "_CACHE_BYTES", 0)


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.BatchNorm1d(2))


def test_every_storage_can_be_resized_afterwards() -> None:
    model, x = net(), torch.randn(4, 3)
    with gw.watch(model) as witness:
        y = model(x)
        y.square().sum().backward()
    witness.require()
    held = [x, y, *model.buffers(), *model.parameters(), *(p.grad for p in model.parameters())]
    for tensor in held:
        assert tensor is not None
        tensor.untyped_storage().resize_(tensor.untyped_storage().nbytes() + 64)
        tensor.untyped_storage().resize_(0)


def grow_out(p: Any) -> Any:
    buffer = torch.empty(0)
    with torch.no_grad():
        torch.add(p, 1.0, out=buffer)
        first = buffer.clone()
        torch.cat([p, p, p], out=buffer.resize_(0))
    return (p * first).sum() + (p * buffer[: p.numel()]).sum()


def grow_filled(p: Any) -> Any:
    d = torch.empty(4)
    d.fill_(1.0)
    d.resize_(LARGE)
    return p.square().sum()


def share(p: Any) -> Any:
    y = p * 3
    y.detach().share_memory_()
    return y.square().sum()


def replace_data(p: Any) -> Any:
    weight = leaf(4)
    y = p + weight
    weight.data = torch.ones(4)
    return (y * weight).sum()


def set_memory(p: Any) -> Any:
    d: Any = torch.ones(4)
    y = p + d
    d.set_(torch.full((8,), 2.0)[4:])
    return (y * d).sum()


def swap(p: Any) -> Any:
    a, b = torch.ones(4), torch.full((4,), 5.0)
    y = p * a.clone() * b.clone()
    swapped: Any = torch.utils.swap_tensors
    swapped(a, b)
    return (y * a).sum()


def resize_by_operator(p: Any) -> Any:
    y = p.exp()
    z = y * y
    size = y.numel() * y.element_size()
    torch.ops.inductor.resize_storage_bytes_(y, LARGE)
    torch.ops.inductor.resize_storage_bytes_(y, size)
    return z.sum()


def discard_and_make_again(p: Any) -> Any:
    """Free an activation, and fill it again ahead of the backward pass, as checkpoints do."""
    y = p.exp()
    z = y * y
    size = y.untyped_storage().nbytes()
    y.untyped_storage().resize_(0)

    def refill(_: Any) -> None:
        y.untyped_storage().resize_(size)
        y.data.copy_(p.detach().exp())

    z.register_hook(refill)
    return z.sum()


def bits(run: Callable[[Any], Any], watched: bool) -> tuple[Any, Any]:
    torch.manual_seed(0)
    p = leaf(4)
    if not watched:
        run(p).backward()
        return p.grad, None
    with gw.watch() as witness:
        run(p).backward()
    return p.grad, witness


@pytest.mark.parametrize(
    "run",
    [
        grow_out,
        grow_filled,
        share,
        replace_data,
        set_memory,
        swap,
        resize_by_operator,
        discard_and_make_again,
    ],
)
def test_resizing_is_as_it_is_without_a_watch(run: Callable[[Any], Any]) -> None:
    plain, _ = bits(run, watched=False)
    grad, witness = bits(run, watched=True)
    assert torch.equal(plain, grad)
    witness.require()


def test_what_is_freed_unseen_is_in_doubt() -> None:
    """Memory that a node saved is freed behind torch's back, and other put in its place."""
    # In float32 a sum of so many numbers would be in doubt itself.
    p: Any = torch.ones(LARGE, dtype=torch.float64, requires_grad=True)
    with gw.watch() as witness:
        y = p * 2
        z = y * y

        def swap_memory(_: Any) -> None:
            for _ in range(2):
                memory().resize_(0)
                memory().resize_(8 * LARGE + 4096)
            y.data.copy_(p.detach() * 2)

        def memory() -> Any:
            with torch._C.DisableTorchFunction():
                return y.untyped_storage()

        z.register_hook(swap_memory)
        z.sum().backward()
    # d/dp sum (2 p)^2 = 8 p.
    assert torch.equal(p.grad, torch.full_like(p, 8.0))
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert set(witness.report.reasons()) == {FREED}
    with pytest.raises(gw.GradientDisagreement, match=FREED):
        witness.require()


def test_a_storage_that_the_program_holds_is_copied_at_once() -> None:
    """Freed and allocated again, memory may come to lie where it lay: no look can tell."""
    constant = torch.full((64,), 3.0)
    storage = constant.untyped_storage()
    p: Any = torch.ones(64, requires_grad=True)
    with gw.watch() as witness:
        y = (p * constant).sum()
        storage.resize_(0)
        storage.resize_(256)
        storage.fill_(0)  # type: ignore[attr-defined]
        constant.data.fill_(3.0)
        y.backward()
    assert torch.equal(p.grad, torch.full_like(p, 3.0))
    witness.require()
    (product,) = (call for call in witness.tape.calls if call.op.startswith("aten.mul."))
    assert isinstance(product.arguments["other"], Ref)
    operand: Any = witness.tape.values[product.arguments["other"].value].array
    assert operand.tolist() == [3.0] * 64


@pytest.mark.parametrize("through", ["tensor", "view"])
def test_what_is_freed_afterwards_stays_on_the_tape(through: str) -> None:
    p: Any = torch.ones(LARGE, requires_grad=True)
    with record() as recorder:
        y = p * 2
        y.sum().backward()
    shown = y.detach() if through == "tensor" else y.detach()[5:]
    del y
    shown.untyped_storage().resize_(0)
    (product,) = (call for call in recorder.tape.calls if call.op.startswith("aten.mul."))
    array = recorder.tape.values[product.outputs[0] or 0].array
    assert array is not None
    assert (array == 2).all()


def test_memory_that_only_the_tape_holds_is_not_copied() -> None:
    p: Any = torch.ones(8, requires_grad=True)
    with record() as recorder:
        y = p * 2
        y.exp().sum().backward()
    arrays = {
        call.op: recorder.tape.values[call.outputs[0] or 0].array
        for call in recorder.tape.calls
        if call.outputs
    }
    exponents, products = arrays["aten.exp.default"], arrays["aten.mul.Tensor"]
    assert exponents is not None
    assert products is not None
    # A window on torch's memory; `y` is still there.
    assert exponents.base is not None
    assert products.base is None


def test_views_of_what_the_program_may_change_are_parts_of_one_copy() -> None:
    p: Any = torch.arange(6.0, requires_grad=True)
    with record() as recorder:
        (p[4:] * p.view(2, 3)[:, 1]).sum().backward()
    with torch.no_grad():
        p.zero_()
    views = {
        call.op: recorder.tape.values[call.outputs[0] or 0].array
        for call in recorder.tape.calls
        if call.is_view and recorder.tape.values[call.outputs[0] or 0].shape != ()
    }
    numbers = {op: None if view is None else view.tolist() for op, view in views.items()}
    assert numbers["aten.slice.Tensor"] == [4, 5]
    assert numbers["aten.view.default"] == [[0, 1, 2], [3, 4, 5]]
    assert numbers["aten.select.int"] == [1, 4]
    shared = [view.base for view in views.values() if view is not None]
    assert shared[0] is shared[1] is shared[2]
    assert isinstance(shared[0], np.ndarray)
    assert not shared[0].flags.writeable


def test_what_a_hook_frees_has_been_copied() -> None:
    p: Any = torch.ones(LARGE, requires_grad=True)
    with gw.watch() as witness:
        y = p * 2
        z = y * y

        def swap_memory(_: Any) -> None:
            y.untyped_storage().resize_(0)
            y.untyped_storage().resize_(4 * LARGE)
            y.data.copy_(p.detach() * 2)

        z.register_hook(swap_memory)
        z.sum().backward()
    # d/dp sum (2 p)^2 = 8 p.
    assert torch.equal(p.grad, torch.full_like(p, 8.0))
    witness.require()


def test_a_file_of_freed_numbers_can_be_saved(tmp_path: Any) -> None:
    p: Any = torch.ones(LARGE, requires_grad=True)
    with gw.watch(keep=None) as witness:
        y = p * 2
        z = y * y

        def grow(_: Any) -> None:
            with torch._C.DisableTorchFunction():
                y.untyped_storage().resize_(8 * LARGE)

        z.register_hook(grow)
        z.sum().backward()
    assert FREED in witness.report.reasons()
    witness.save(tmp_path / "tape.npz")
    assert gw.judge(gw.load_tape(tmp_path / "tape.npz")).verdict is gw.Verdict.INCONCLUSIVE


_FORMATS = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64),
    *(torch.bfloat16, torch.float16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
]


@pytest.mark.parametrize("dtype", _FORMATS, ids=str)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_arrays_of_every_format_and_shape(dtype: torch.dtype, requires_grad: bool) -> None:
    start = torch.arange(24).reshape(4, 6).to(dtype)
    if requires_grad and not (dtype.is_floating_point or dtype.is_complex):
        pytest.skip("no gradients in this format")
    start.requires_grad_(requires_grad)
    forms = [
        *(start, start.t(), start[1:, ::2], start[2, 3], start[0, 0:0], start[:0]),
        *(start[0].expand(5, 6), start.reshape(-1).as_strided((3, 2), (1, 4), 2)),
    ]
    if dtype.is_complex:
        forms += [start.conj(), start.imag, start.conj().imag, start[1, 1].conj()]
    for form in forms:
        array: Any = as_array(form)
        assert array.shape == form.shape
        assert array.tolist() == form.tolist()
        assert not array.flags.writeable
    assert start.untyped_storage().resizable()


class _Wrapper(torch.Tensor):
    """Tells of a tensor, and has no memory."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape)

    @classmethod
    def __torch_dispatch__(cls, *_: Any) -> Any:
        raise AssertionError


def without_numbers() -> Iterator[torch.Tensor]:
    yield _Wrapper(torch.ones(3))
    with FakeTensorMode():
        yield torch.ones(3)
    for left in (0, 8):
        freed = torch.ones(3)
        freed.untyped_storage().resize_(left)
        yield freed
    yield torch.ones(3).to(torch.float8_e4m3fn)
    yield torch.ones(3).to(torch.float8_e5m2)


def test_what_has_no_memory_has_no_numbers() -> None:
    for tensor in without_numbers():
        with torch._C._DisableTorchDispatch():
            assert as_array(tensor) is None


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed = pytest.importorskip("torch.distributed")
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_parameters_that_are_gathered_and_freed() -> None:
    """FSDP frees each layer's parameters after its forward, and gathers them for its backward."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def sharded() -> Any:
        mesh = init_device_mesh("cpu", (1,))
        model = net()[:3]
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    x = torch.randn(4, 3)
    plain, watched = sharded(), sharded()
    for _ in range(2):
        plain(x).square().mean().backward()
        with gw.watch(watched) as witness:
            watched(x).square().mean().backward()
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a.grad.full_tensor(), b.grad.full_tensor())
    assert witness.verdict is not gw.Verdict.DISAGREES
