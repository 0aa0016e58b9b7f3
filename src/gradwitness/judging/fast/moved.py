"""Steps that only move numbers, held against the moved numbers bit for bit in their own format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Operations that are no views and compute nothing.
MOVES = frozenset(
    f"aten.{name}"
    for name in (
        "_unsafe_view", "alias", "cat", "clone", "contiguous", "copy", "detach", "embedding",
        "index_select", "lift_fresh", "stack",
    )
)  # fmt: skip


def is_same(recorded: NDArray[Any], moved: Any) -> bool:
    """Whether numbers are those expected: the same memory, or equal. NaN equals nothing."""
    if not isinstance(moved, np.ndarray):
        return False
    if (recorded.shape, recorded.dtype) != (moved.shape, moved.dtype):
        return False
    return _place(recorded) == _place(moved) or np.array_equal(recorded, moved)


def _place(array: NDArray[Any]) -> tuple[int, tuple[int, ...]]:
    # The stride of an axis of length 1 is arbitrary.
    pairs = zip(array.strides, array.shape, strict=True)
    return array.__array_interface__["data"][0], tuple(s for s, n in pairs if n != 1)
