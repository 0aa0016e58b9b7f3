"""Data movement: the same NumPy function runs on the value and on each bound; nothing rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    FUNCTIONS,
    Bounded,
    Plain,
    lifted,
    value_of,
)
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.kernel_ops import where

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.engine.floats import Arithmetic


# The modes of np.pad that compute nothing.
_PADDING = ("constant", "edge", "reflect", "symmetric", "wrap")


@stands_for(np.arange, np.asarray, np.identity, np.tri, np.zeros)
def _constant(make: Any, *args: Any, **form: Any) -> Any:
    """Make an array with ``like``: a plain one, as its numbers are exact."""
    return make(*args, **form)


def _plane(array: Any, tier: int) -> Plain:
    """Return one tier's bound, dense; anything but a Bounded is exact."""
    error = array.errors[tier] if isinstance(array, Bounded) else None
    return np.zeros(np.shape(value_of(array))) if error is None else error


def _move(arrays: Sequence[Any], run: Callable[[Sequence[Any]], Any]) -> Any:
    """Apply a movement to the values of arrays and, if there are any, to their bounds."""
    bounded = [array for array in arrays if isinstance(array, Bounded)]
    if not bounded:
        return run(arrays)
    arithmetic = bounded[0].arithmetic
    arrays = [lifted(arithmetic, array) for array in arrays]
    bounded = [array for array in arrays if isinstance(array, Bounded)]
    value = run([value_of(array) for array in arrays])
    if all(array.is_exact for array in bounded):
        return _wrap(value, None, None, arithmetic)
    rigorous = run([_plane(array, 0) for array in arrays])
    if all(array.rigorous is array.probable for array in bounded):
        return _wrap(value, rigorous, rigorous, arithmetic)
    return _wrap(value, rigorous, run([_plane(array, 1) for array in arrays]), arithmetic)


def _wrap(value: Any, rigorous: Any, probable: Any, arithmetic: Arithmetic) -> Any:
    if isinstance(value, (list, tuple)):
        nothing = [None] * len(value)
        rows = zip(value, rigorous or nothing, probable or nothing, strict=True)
        return [Bounded(v, arithmetic, r, p) for v, r, p in rows]
    return Bounded(value, arithmetic, rigorous, probable)


def _first_argument(func: Any, args: Any, kwargs: Any) -> Any:
    """Move one array; the other arguments are shapes, axes and indices."""
    array, *rest = args
    if not isinstance(array, Bounded):
        raise RuleError(f"calls np.{func.__name__}: only its first argument may carry a bound")
    return _move((array,), lambda items: func(items[0], *rest, **kwargs))


def _joined(func: Any, args: Any, kwargs: Any) -> Any:
    arrays, *rest = args
    return _move(arrays, lambda items: func(items, *rest, **kwargs))


def _where(_: Any, args: Any, kwargs: Any) -> Any:
    condition, *branches = args
    return _move(branches, lambda items: where(value_of(condition), *items, **kwargs))


def _padded(func: Any, args: Any, kwargs: Any) -> Any:
    """Pad the values with the constant and the bounds with its error."""
    array, widths, *rest = args
    mode = rest[0] if rest else kwargs.get("mode", "constant")
    if not isinstance(array, Bounded) or mode not in _PADDING or len(rest) > 1:
        raise RuleError(
            f"calls np.pad with arguments other than an array, widths and a mode of {_PADDING}"
        )
    fill = lifted(array.arithmetic, kwargs.get("constant_values", 0))
    if mode == "constant" and (
        np.ndim(value_of(fill)) or kwargs.keys() - {"mode", "constant_values"}
    ):
        raise RuleError("calls np.pad with more than one number as constant_values")
    if mode != "constant":
        return _move((array,), lambda items: func(items[0], widths, **{**kwargs, "mode": mode}))
    return _move((array, fill), lambda items: func(items[0], widths, constant_values=items[1]))


def _filled(func: Any, args: Any, kwargs: Any) -> Bounded:
    """Return a new writable array, exact unless the fill value is not."""
    array, *rest = args
    filled = Bounded(func(array.value, *rest, **kwargs), array.arithmetic)
    if func is np.full_like:
        filled[...] = rest[0] if rest else kwargs["fill_value"]
    return filled


@stands_for(np.shape, np.ndim, np.size)
def _measured(func: Any, a: Bounded, *axis: int) -> Any:
    return func(a.value, *axis)


_MOVEMENTS: dict[str, Any] = {
    func.__name__: _first_argument
    for func in (
        np.array_split, np.atleast_1d, np.atleast_2d, np.broadcast_to, np.copy, np.delete, np.diag,
        np.diagonal, np.expand_dims, np.flip, np.fliplr, np.flipud, np.hsplit,
        np.lib.stride_tricks.sliding_window_view, np.matrix_transpose, np.moveaxis, np.ravel,
        np.repeat, np.reshape, np.roll, np.rot90, np.split, np.squeeze, np.swapaxes, np.take,
        np.take_along_axis, np.tile, np.transpose, np.tril, np.triu, np.vsplit,
    )
}  # fmt: skip
_MOVEMENTS |= {"pad": _padded, "where": _where}
_MOVEMENTS |= dict.fromkeys(
    ("concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"), _joined
)
_MOVEMENTS |= {
    func.__name__: _filled for func in (np.empty_like, np.zeros_like, np.ones_like, np.full_like)
}
FUNCTIONS |= _MOVEMENTS
# Movements apply to complex numbers too; their bounds are real.
COMPLEX_FUNCTIONS.update(_MOVEMENTS)
COMPLEX_FUNCTIONS.update(("shape", "ndim", "size", "asarray"))
