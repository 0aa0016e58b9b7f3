"""Torch tensors as NumPy arrays of the same memory, and where they lie in it."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.engine.floats import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dtype_name(tensor: torch.Tensor) -> str:
    """Return torch's name of a dtype without the prefix."""
    return str(tensor.dtype).removeprefix("torch.")


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a tensor's shape, with length 1 for ragged axes: their numbers are not an array."""
    if tensor.is_nested and tensor.layout is torch.strided:
        return (1,) * tensor.dim()
    lengths: tuple[Any, ...] = tuple(tensor.shape)
    return tuple(length if isinstance(length, int) else 1 for length in lengths)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is strided numbers that NumPy can share or copy."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)
    )


def is_mirrored(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a lazy view: the conjugates or negatives of its memory."""
    return tensor.is_conj() or tensor.is_neg()


def as_array(tensor: torch.Tensor) -> NDArray[np.generic] | None:
    """Return the numbers of a plain tensor, sharing its memory on the CPU, copied elsewhere.

    None for a tracer's fake tensors, freed memory and formats that NumPy lacks. Shared memory must
    not be read once the program has resized it (see `ValueStore`).
    """
    try:
        # Inside a transform of functions, even a plain tensor's detach() would be wrapped.
        with torch._C._DisableFuncTorch():
            bare = tensor.detach()
            if bare.is_neg() or bare.is_conj():
                bare = bare.resolve_neg().resolve_conj()
            # Zeros without memory (the gradient of sgn) become an array of zeros.
            unreal = bare._is_zerotensor()
            bare = torch.zeros(bare.shape, dtype=bare.dtype) if unreal else bare.cpu()
            if bare.dtype is torch.complex32:
                return _paired(torch.view_as_real(bare))
            return _shared(bare) if bare.dtype in _FORMATS else None
    except (NotImplementedError, RuntimeError, TypeError):
        # This runs inside the program, which must go on if something cannot be recorded.
        return None


def address(tensor: torch.Tensor) -> int:
    """Return a key for a tensor's storage; -1 if it has none: sparse and wrapped tensors."""
    if tensor.is_nested:
        return -1
    try:
        key: int = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return -1
    return key


def whereabouts(storage: torch.UntypedStorage) -> tuple[int, int] | None:
    """Return the address and size of memory in bytes; None where NumPy cannot see it."""
    try:
        return (storage.data_ptr(), storage.nbytes()) if storage.device == _HERE else None
    except RuntimeError:
        # A wrapper around other tensors has no memory.
        return None


class _Window:
    """Memory shared with NumPy, which keeps the storage alive.

    ``tensor.numpy()`` would forbid the program to resize that storage ever after.
    """

    def __init__(self, storage: torch.UntypedStorage, interface: dict[str, Any]) -> None:
        self._storage = storage
        self.__array_interface__ = interface


def _shared(tensor: torch.Tensor) -> NDArray[np.generic] | None:
    """Return a read-only array of a tensor's own memory, if there is one."""
    (dtype, code), storage = _FORMATS[tensor.dtype], tensor.untyped_storage()
    shape, steps, size = tuple(tensor.shape), tensor.stride(), tensor.element_size()
    end = tensor.storage_offset() + 1 + sum(map(mul, shape, steps)) - sum(steps)
    if 0 in shape:
        array = np.empty(shape, dtype)
        array.flags.writeable = False
        return array
    # A tracer's fake tensor claims another device than its storage's, and a wrapper has none.
    if end * size > storage.nbytes() or storage.device != _HERE or not storage.data_ptr():
        return None
    interface = {
        "version": 3,
        "shape": shape,
        "strides": tuple([step * size for step in steps]),
        "typestr": code,
        "data": (tensor.data_ptr(), True),
    }
    array = np.asarray(_Window(storage, interface))
    # A format registered by ml_dtypes comes as bare bytes.
    return array.view(dtype) if code == "<V2" else array


def _paired(halves: torch.Tensor) -> NDArray[np.generic] | None:
    """Return a copy of complex numbers, whose parts have 16 bits: NumPy has 32 or more."""
    parts = _shared(halves)
    if parts is None:
        return None
    copy = np.ascontiguousarray(parts, np.float32).view(np.complex64)[..., 0]
    copy.flags.writeable = False
    return copy


def _formats() -> dict[torch.dtype, tuple[np.dtype[Any], str]]:
    """Return the formats that are recorded, without scaled ones and raw bits."""
    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    inexact = ["bfloat16", "float16", "float32", "float64", "complex64", "complex128"]
    named = {name: numpy_dtype(name) for name in ("bool", *integers, *inexact)}
    return {getattr(torch, name): (dtype, dtype.str) for name, dtype in named.items()}


_FORMATS = _formats()
_HERE = torch.device("cpu")
