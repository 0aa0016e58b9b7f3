"""Infinite results: those passed on from infinite operands, and those from finite ones.

An infinity has no distance to anything, so its bound can only be 0 or infinity. The bound is 0 if
the infinity is certain: from infinite operands, whatever the rounding errors of the others (adding
to a mask of -inf), or from exact operands (log 0, 1 / 0). If an error could turn it into something
else, the bound is infinite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Plain: TypeAlias = "NDArray[Any]"
    Error: TypeAlias = "NDArray[np.float64] | None"
    # Where infinite results are handed on, from the operands' values and one tier of their bounds.
    HandedOn: TypeAlias = "Callable[[Sequence[Any], Sequence[Error]], Any]"


def settled(
    value: Plain,
    error: Error,
    operands: Sequence[Any],
    errors: Sequence[Error],
    handed_on: HandedOn,
) -> Error:
    """Replace the bounds of infinite results: 0 where they are handed on, else infinity."""
    applies = handed_on is not elementwise or _match(operands, value.shape)
    bound = np.where(applies and handed_on(operands, errors), 0.0, np.inf)
    return np.where(np.isinf(value), bound, 0.0 if error is None else error)


def _match(operands: Sequence[Any], shape: tuple[int, ...]) -> bool:
    """Whether a result has the shape of an elementwise one."""
    try:
        return np.broadcast_shapes(*map(np.shape, operands)) == shape
    except ValueError:
        return False


def elementwise(operands: Sequence[Any], errors: Sequence[Error]) -> Any:
    """Certain where an operand is infinite without an error, or where all are without one."""
    infinite: Any = False
    certain: Any = True
    exact: Any = True
    for x, e in zip(operands, errors, strict=True):
        at = np.isinf(x)
        infinite = infinite | at
        if e is not None:
            certain = certain & np.where(at, e == 0, np.isfinite(e))
            exact = exact & (e == 0)
    return (infinite & certain) | exact


def signed(operands: Sequence[Any], errors: Sequence[Error]) -> Any:
    """Of products and quotients: where also no error can change the sign of an operand."""
    certain: Any = elementwise(operands, errors)
    for x, e in zip(operands, errors, strict=True):
        if e is not None:
            certain = certain & ((e == 0) | (np.abs(x) > e))
    return certain


def reduced(run: Callable[[Plain], Any]) -> HandedOn:
    """Of a reduction of one array that ``run`` makes of counts: where an infinity is among them."""

    def handed_on(operands: Sequence[Any], errors: Sequence[Error]) -> Any:
        (x,), (e,) = operands, errors
        infinite = np.isinf(x)
        doubtful = np.zeros(x.shape) if e is None else np.where(infinite, e != 0, ~np.isfinite(e))
        return (run(infinite.astype(np.float64)) > 0) & (run(doubtful.astype(np.float64)) == 0)

    return handed_on


def multiplied(operands: Sequence[Any], errors: Sequence[Error]) -> Any:
    """Of a matrix product: where a row or a column holds an infinity, of exact matrices."""
    left, right = operands
    if any(e is not None and np.any(e) for e in errors):
        return False
    rows = np.isinf(left).any(axis=-1)
    columns = np.isinf(right).any(axis=-2) if np.ndim(right) > 1 else np.isinf(right).any()
    if np.ndim(right) == 1:
        return rows | columns
    return (rows[..., None] if np.ndim(left) > 1 else rows) | (
        columns[..., None, :] if np.ndim(left) > 1 else columns
    )
