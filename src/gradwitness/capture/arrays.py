"""Torch tensors as NumPy arrays of the same memory, and where they lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dtype_name(tensor: torch.Tensor) -> str:
    """Return torch's name of a dtype without the prefix."""
    return str(tensor.dtype).removeprefix("torch.")


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a tensor's shape, in which a ragged axis has length 1: its numbers are no array."""
    if tensor.is_nested and tensor.layout is torch.strided:
        return (1,) * tensor.dim()
    lengths: tuple[Any, ...] = tuple(tensor.shape)
    return tuple(length if isinstance(length, int) else 1 for length in lengths)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is strided numbers that NumPy can see or be handed a copy of."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)
    )


def is_mirrored(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a lazy view: of its memory's numbers the conjugates or negatives."""
    return tensor.is_conj() or tensor.is_neg()


def as_array(tensor: torch.Tensor) -> NDArray[np.generic] | None:
    """Return the numbers of a plain tensor, sharing its memory on the CPU, copied elsewhere.

    None where there are none: fake tensors of a tracer.
    """
    array: NDArray[Any]
    try:
        # Inside a transform of functions, even a plain tensor's detach() would be wrapped.
        with torch._C._DisableFuncTorch():
            bare = tensor.detach()
            if bare.is_neg() or bare.is_conj():
                bare = bare.resolve_neg().resolve_conj()
            # Zeros of no memory (the gradient of sgn) come as an array of zeros.
            unreal = bare._is_zerotensor()
            bare = torch.zeros(bare.shape, dtype=bare.dtype) if unreal else bare.cpu()
            if bare.dtype is torch.bfloat16:
                array = bare.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
            else:
                array = bare.numpy()
    except (NotImplementedError, RuntimeError, TypeError):
        # It is the program that runs here: what cannot be recorded must not stop it.
        return None
    array.flags.writeable = False
    return array
