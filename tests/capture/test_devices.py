"""Tensors on a device: handed to CuPy where they live, or copied to the host block by block.

There is no device here. What stands in for a tensor on one says that it is, and counts what is read
from it; what stands in for CuPy takes it, and counts nothing as a copy.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from engine.device_array import DeviceArray
from gradwitness.capture.memory import arrays, devices
from gradwitness.capture.memory.arrays import as_array, bytes_at, whereabouts
from gradwitness.capture.memory.devices import Library, handed_over
from gradwitness.capture.memory.storages import Draft, keep_copy
from gradwitness.capture.observer import Audience
from gradwitness.engine.distant import on_host


class Far(torch.Tensor):
    """A tensor that says that it is on a CUDA device, around one on the host."""

    near: torch.Tensor
    # The bytes of each copy to the host.
    copies: list[int]

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Self:
        wrapper: Any = torch.Tensor._make_wrapper_subclass
        far: Self = wrapper(
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device="cuda"
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        def near(item: Any) -> Any:
            return item.near if isinstance(item, Far) else item

        if func is torch.ops.aten.copy_.default:
            target, source = args[:2]
            assert not isinstance(target, Far)
            cls.copies.append(source.near.nbytes)
            return target.copy_(source.near)
        # Nothing else may bring numbers to the host.
        assert func is not torch.ops.aten._to_copy.default
        result = func(*tree_map(near, args), **tree_map(near, kwargs or {}))
        if func is torch.ops.aten.empty_like.default:
            return result
        return tree_map(lambda item: Far(item) if isinstance(item, torch.Tensor) else item, result)


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_found", [])
    Far.copies = []


NUMBERS = torch.arange(4096.0).reshape(32, 128)
FORMS = {
    "contiguous": NUMBERS,
    "transposed": NUMBERS.T,
    "with gaps": NUMBERS[:, ::3],
    "part": NUMBERS[5:, 7:],
    "flat": NUMBERS.reshape(-1),
    "channels last": NUMBERS.reshape(2, 4, 16, 32).to(memory_format=torch.channels_last),
    "bfloat16": NUMBERS.bfloat16(),
    "of integers": NUMBERS.long(),
    "one row": NUMBERS[:1],
    "scalar": NUMBERS[3, 4],
    "empty": NUMBERS[:, :0],
}


def expected(near: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor's numbers, by way of Python's."""
    return np.array(near.tolist()).reshape(tuple(near.shape))


@pytest.mark.parametrize("form", FORMS)
def test_numbers_come_to_the_host_in_blocks(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 256)
    near = FORMS[form]
    array: Any = as_array(Far(near))
    assert np.array_equal(array, expected(near))
    assert not array.flags.writeable
    assert sum(Far.copies) == near.nbytes
    assert max(Far.copies, default=0) <= 256


@pytest.mark.parametrize("form", ["contiguous", "transposed", "channels last"])
def test_numbers_lie_on_the_host_as_they_did(form: str) -> None:
    near = FORMS[form]
    array: Any = as_array(Far(near))
    assert [step // array.itemsize for step in array.strides] == list(near.stride())
    assert len(Far.copies) == 1


def test_what_stands_for_a_whole_axis_comes_once() -> None:
    near = torch.arange(4.0)[:, None, None].expand(4, 1000, 1000)
    array: Any = as_array(Far(near))
    assert array.shape == (4, 1000, 1000)
    assert np.array_equal(array[:, 7, 9], [0, 1, 2, 3])
    assert Far.copies == [16]


def test_a_lazy_view_is_resolved_before_it_comes() -> None:
    near = torch.complex(NUMBERS, NUMBERS + 1)
    assert np.array_equal(as_array(Far(near.conj())), expected(near).conj())  # type: ignore[arg-type]


def test_what_came_to_the_host_is_not_copied_again() -> None:
    draft = Draft((32, 128), "float32", None, None, made=True, leaf=False)
    draft.read(Far(NUMBERS))
    array = draft.array
    keep_copy(draft)
    assert draft.array is array
    assert Far.copies == [NUMBERS.nbytes]


def test_memory_of_a_device_is_watched_and_never_read_as_the_hosts() -> None:
    device, other = torch.device("cuda"), torch.device("mps")
    storage: Any = SimpleNamespace(device=device, data_ptr=lambda: 4096, nbytes=lambda: 64)
    assert whereabouts(storage) == (4096, 64)
    assert bytes_at(storage, (4096, 64)) is None
    storage.device = other
    assert whereabouts(storage) is None


class Streams:
    """The streams in which something is computed, by device and number."""

    def __init__(self) -> None:
        self.entered: list[tuple[int, int]] = []

    def __call__(self, pointer: int, device: int) -> Any:
        self.entered.append((pointer, device))
        return nullcontext()


def cupy(version: str = "14.2.0", refused: str = "") -> Any:
    """Return what stands in for the module CuPy, which fails with some formats of numbers."""
    module: Any = ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    module.__version__ = version
    module.cuda = SimpleNamespace(ExternalStream=Streams())
    module.freed = module.asked = 0

    def from_dlpack(tensor: Far) -> DeviceArray:
        module.asked += 1
        # As torch: "use tensor.detach()", and no lazy view.
        assert not tensor.requires_grad
        assert not tensor.is_conj()
        assert not tensor.is_neg()
        if refused and refused in str(tensor.dtype):
            raise NotImplementedError(f"no {refused}")
        return DeviceArray(as_array(tensor.near))

    def free_all_blocks() -> None:
        module.freed += 1

    module.from_dlpack = from_dlpack
    module.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=free_all_blocks)
    return module


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch compute in a stream of its own."""
    current = SimpleNamespace(cuda_stream=77, device_index=0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: current)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.mark.usefixtures("streams")
def test_cupy_takes_numbers_in_the_stream_and_memory_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    near = torch.arange(6.0, requires_grad=True)
    array: Any = handed_over(Far(near.detach()).requires_grad_())
    assert isinstance(array, DeviceArray)
    near.data[2] = 50.0
    assert on_host(array).tolist() == [0, 1, 50, 3, 4, 5]
    assert not Far.copies
    assert module.cuda.ExternalStream.entered == [(77, 0)]
    audience: Any = Audience()
    audience.observer = module.cuda.ExternalStream.entered
    audience.tell(lambda entered: entered.append("told"))
    assert module.cuda.ExternalStream.entered == [(77, 0), (77, 0), "told"]
    assert devices.let_go() == {}
    assert module.freed == 1


@pytest.mark.usefixtures("streams")
def test_a_lazy_view_is_resolved_before_it_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy())
    near = torch.complex(NUMBERS, NUMBERS + 1)
    array: Any = handed_over(Far(near.conj()))
    assert isinstance(array, DeviceArray)
    assert np.array_equal(on_host(array), expected(near).conj())


@pytest.mark.usefixtures("streams")
def test_what_is_read_before_a_write_is_read_in_the_stream_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    draft = Draft((32, 128), "float32", None, None, made=True, leaf=False)
    near = NUMBERS.clone()
    draft.read(Far(near))
    entered = module.cuda.ExternalStream.entered
    before = len(entered)
    known = devices.fingerprint(draft.value(0))
    assert len(entered) == before + 1
    keep_copy(draft)
    assert len(entered) == before + 2
    near.zero_()
    kept: Any = draft.array
    assert isinstance(kept, DeviceArray)
    assert devices.fingerprint(draft.value(0)) == known
    assert np.array_equal(on_host(kept), expected(NUMBERS))


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("broken", ["stream", "memory"])
def test_cupy_that_fails_later_does_not_stop_the_program(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access")

    module = cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert isinstance(handed_over(Far(NUMBERS)), DeviceArray)
    if broken == "stream":
        monkeypatch.setattr(module.cuda, "ExternalStream", fails)
    else:
        monkeypatch.setattr(module, "get_default_memory_pool", fails)
    with devices.computing():
        pass
    assert devices.let_go() == {"CuPy": "RuntimeError: CUDA error: an illegal memory access"}


def test_without_cupy_numbers_come_to_the_host_and_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert isinstance(handed_over(Far(NUMBERS)), np.ndarray)
    assert Far.copies == [NUMBERS.nbytes]
    with devices.computing():
        assert devices.let_go() == {}


class Broken(ModuleType):
    """A module that fails as soon as it is used, as one does whose driver is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        raise RuntimeError("CUDA driver version is insufficient\nfor CUDA runtime version")


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            Broken("cupy"),
            "RuntimeError: CUDA driver version is insufficient for CUDA runtime version",
        ),
        (cupy("13.6.0"), "13.6.0 is too old: 14.1 or later is needed"),
        (cupy("14.0.1"), "14.0.1 is too old: 14.1 or later is needed"),
        (cupy(refused="float"), "torch.float32: NotImplementedError: no float"),
    ],
    ids=["no driver", "13.6", "14.0", "refuses"],
)
def test_cupy_that_fails_is_said_once_and_numbers_come_to_the_host(
    module: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    for _ in range(3):
        assert np.array_equal(handed_over(Far(NUMBERS)), expected(NUMBERS))  # type: ignore[arg-type]
    assert devices.let_go() == {"CuPy": said}
    assert devices.let_go() == {}


@pytest.mark.usefixtures("streams")
def test_a_format_that_cupy_refuses_is_no_other_formats_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy(refused="bfloat16"))
    for _ in range(3):
        assert isinstance(handed_over(Far(NUMBERS.bfloat16())), np.ndarray)
    assert sys.modules["cupy"].asked == 1
    assert isinstance(handed_over(Far(NUMBERS)), DeviceArray)
    assert devices.let_go() == {"CuPy": "torch.bfloat16: NotImplementedError: no bfloat16"}


def test_tensors_of_the_host_and_of_a_tracer_ask_for_no_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Library, "__init__", lambda _: pytest.fail("looked for"))
    assert np.array_equal(handed_over(NUMBERS), expected(NUMBERS))  # type: ignore[arg-type]
    with torch._subclasses.fake_tensor.FakeTensorMode():
        assert handed_over(torch.empty(3, device="cuda")) is None
