"""Torch tensors as NumPy arrays of the same memory, and where they lie in it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._subclasses import FakeTensor

from gradwitness.engine.floats import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@functools.cache
def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def dtype_name(tensor: torch.Tensor) -> str:
    """Return torch's name of a dtype without the prefix."""
    return _name(tensor.dtype)


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a tensor's shape, with length 1 for ragged axes: their numbers are not an array."""
    if tensor.is_nested and tensor.layout is torch.strided:
        return (1,) * tensor.dim()
    lengths: tuple[Any, ...] = tensor.shape
    return tuple([length if type(length) is int else 1 for length in lengths])


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is strided numbers that NumPy can share or copy."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_quantized
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)
    )


def are_shapes(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether some tensors stand for shapes alone: on no device, or a tracer's."""
    for tensor in tensors:
        if tensor is not None:
            return tensor.is_meta or isinstance(tensor, FakeTensor)
    return False


def is_mirrored(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a lazy view: the conjugates or negatives of its memory."""
    return tensor.is_conj() or tensor.is_neg()


def as_array(tensor: torch.Tensor) -> NDArray[np.generic] | None:
    """Return the numbers of a plain tensor, sharing its memory on the CPU, copied elsewhere.

    None for a tracer's fake tensors, freed memory and formats that NumPy lacks. Shared memory must
    not be read once the program has resized it (see `ValueStore`).
    """
    try:
        paired = tensor.dtype is torch.complex32
        if not tensor.is_cpu or paired or is_mirrored(tensor) or tensor._is_zerotensor():
            tensor = _with_memory(tensor)
        return _paired(torch.view_as_real(tensor)) if paired else _shared(tensor)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        # This runs inside the program, which must go on if something cannot be recorded.
        return None


def _with_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return the numbers of a tensor whose own memory holds others, lies elsewhere, or is none."""
    # Inside a transform of functions, even a plain tensor's detach() would be wrapped.
    with torch._C._DisableFuncTorch():
        own = bare(tensor)
        # Zeros without memory (the gradient of sgn) become an array of zeros.
        unreal = own._is_zerotensor()
        return torch.zeros(own.shape, dtype=own.dtype) if unreal else _brought(own)


def bare(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without its history, whose memory holds its numbers."""
    own = tensor.detach()
    return own.resolve_neg().resolve_conj() if is_mirrored(own) else own


def _brought(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the host: its own there, else a copy that is made block by block."""
    if tensor.is_cpu:
        return tensor
    once = tensor
    for axis, step in enumerate(tensor.stride()):
        # What stands for a whole axis comes once.
        once = once if step else once.narrow(axis, 0, min(1, once.shape[axis]))
    host = torch.empty_like(once, device=_HERE)
    _copy_in_blocks(once, host)
    return host.expand(tensor.shape)


def _copy_in_blocks(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy between devices, with no more than a block on the way: halves along the widest steps."""
    if source.numel() * source.element_size() <= _BLOCK_BYTES:
        target.copy_(source)
        return
    pairs = zip(source.shape, source.stride(), strict=True)
    _, axis = max((step, axis) for axis, (length, step) in enumerate(pairs) if length > 1)
    for part, place in zip(source.chunk(2, axis), target.chunk(2, axis), strict=True):
        _copy_in_blocks(part, place)


def address(tensor: torch.Tensor) -> int:
    """Return a key for a tensor's storage; -1 if it has none: sparse and wrapped tensors."""
    if tensor.is_nested:
        return -1
    try:
        key: int = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return -1
    return key


def is_known(tensor: torch.Tensor) -> bool:
    """Whether a tensor's numbers have a format that is recorded bit for bit."""
    return tensor.dtype in _FORMATS


def whereabouts(storage: torch.UntypedStorage) -> tuple[int, int] | None:
    """Return the address and size of memory in bytes; None where it cannot be shared."""
    try:
        can_be = storage.device == _HERE or storage.device.type == "cuda"
        return (storage.data_ptr(), storage.nbytes()) if can_be else None
    except RuntimeError:
        # A wrapper around other tensors has no memory.
        return None


class _Window:
    """Memory shared with NumPy, which keeps the storage alive.

    ``tensor.numpy()`` would forbid the program to resize that storage ever after.
    """

    __slots__ = ("_extent", "_storage")

    def __init__(self, storage: torch.UntypedStorage, extent: tuple[int, int]) -> None:
        self._storage = storage
        self._extent = extent

    @property
    def __array_interface__(self) -> dict[str, Any]:
        at, size = self._extent
        return {"version": 3, "shape": (size,), "typestr": "|u1", "data": (at, True)}


def bytes_at(
    storage: torch.UntypedStorage, extent: tuple[int, int] | None
) -> NDArray[np.uint8] | None:
    """Return a storage's memory, which lies there, as read-only bytes, if NumPy can see it."""
    here = extent and all(extent) and storage.device == _HERE
    return np.asarray(_Window(storage, extent)) if here and extent else None


def lying_in(
    memory: NDArray[np.uint8],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    offset: int,
    strides: tuple[int, ...],
) -> NDArray[np.generic] | None:
    """Return the read-only part of a storage's bytes that is a tensor's; None if none is."""
    form = _FORMATS.get(dtype)
    if form is None:
        return None
    if 0 in shape:
        return _empty(shape, form)
    size = form.itemsize
    try:
        return np.ndarray(shape, form, memory, offset * size, [step * size for step in strides])
    except (TypeError, ValueError):
        return None


def _shared(tensor: torch.Tensor) -> NDArray[np.generic] | None:
    """Return a read-only array of a tensor's own memory, if there is one."""
    shape, storage = tuple(tensor.shape), tensor.untyped_storage()
    form = _FORMATS.get(tensor.dtype)
    if form is not None and 0 in shape:
        return _empty(shape, form)
    # A tracer's fake tensor claims another device than its storage's, and a wrapper has none.
    memory = bytes_at(storage, whereabouts(storage))
    if memory is None:
        return None
    return lying_in(memory, tensor.dtype, shape, int(tensor.storage_offset()), tensor.stride())


def _empty(shape: tuple[int, ...], form: np.dtype[Any]) -> NDArray[np.generic]:
    array = np.empty(shape, form)
    array.flags.writeable = False
    return array


def _paired(halves: torch.Tensor) -> NDArray[np.generic] | None:
    """Return a copy of complex numbers, whose parts have 16 bits: NumPy has 32 or more."""
    parts = _shared(halves)
    if parts is None:
        return None
    copy = np.ascontiguousarray(parts, np.float32).view(np.complex64)[..., 0]
    copy.flags.writeable = False
    return copy


def _formats() -> dict[torch.dtype, np.dtype[Any]]:
    """Return the formats that are recorded, without scaled ones and raw bits."""
    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    inexact = ["bfloat16", "float16", "float32", "float64", "complex64", "complex128"]
    return {getattr(torch, name): numpy_dtype(name) for name in ("bool", *integers, *inexact)}


_FORMATS = _formats()
_HERE = torch.device("cpu")
# Of a tensor elsewhere, so many bytes are copied at a time.
_BLOCK_BYTES = 2**26
