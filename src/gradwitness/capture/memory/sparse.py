"""Sparse tensors as arrays of all their numbers, copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.capture.memory.arrays import as_array
from gradwitness.engine.floats import wide

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LAYOUTS = frozenset(
    {
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    }
)
# Larger ones, in full, are left unread.
_MOST_BYTES = 2**28


def is_sparse(tensor: torch.Tensor) -> bool:
    """Whether a tensor names the places of its numbers."""
    return tensor.layout in _LAYOUTS and tensor.device.type != "meta"


def version(tensor: torch.Tensor) -> int:
    """Return how often a tensor without memory was written to: known of sparse ones alone."""
    return tensor._version if is_sparse(tensor) and not tensor.is_inference() else 0


def dense(tensor: torch.Tensor) -> tuple[NDArray[np.generic] | None, int]:
    """Return all numbers of a sparse tensor, and how many terms a place has at most.

    Where it names none there is -0.0, to which sums add nothing; a zero that it names is 0.0, so
    that the places are known. What it names twice is added in float64 and rounded once.
    """
    bare = tensor.detach()
    if bare.numel() * bare.element_size() > _MOST_BYTES:
        return None, 1
    coo: Any = bare if bare.layout is torch.sparse_coo else bare.to_sparse(layout=torch.sparse_coo)
    places, numbers = as_array(coo._indices()), as_array(coo._values())
    if places is None or numbers is None:
        return None, 1
    kind = numbers.dtype
    is_exact = kind.kind in "biu"
    terms = numbers if is_exact else wide(numbers) + 0.0
    full = np.zeros(tuple(tensor.shape), terms.dtype) if is_exact else _nothing(tensor, terms)
    add = np.logical_or if kind.kind == "b" else np.add
    add.at(full, tuple(places), terms)
    with np.errstate(over="ignore"):
        full = full.astype(kind)
    full.flags.writeable = False
    counts = np.unique(places, axis=1, return_counts=True)[1]
    return full, int(counts.max(initial=1))


def _nothing(tensor: torch.Tensor, terms: NDArray[Any]) -> NDArray[Any]:
    nothing = complex(-0.0, -0.0) if terms.dtype.kind == "c" else -0.0
    return np.full(tuple(tensor.shape), nothing, terms.dtype)
