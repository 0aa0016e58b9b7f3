"""Order: the largest and smallest, sorting, limits, and running sums."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import converted
from gradwitness.rules.reduce.sum_mean import Dim, axes, spread
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import along, filled

Pair: TypeAlias = "tuple[Array, Array]"


def _placed(g: Array, x: Array, dim: int, index: Array) -> Array:
    """Zeros in the shape of x, with g where an index along an axis points; no place twice."""
    return filled(np.zeros_like(g, shape=x.shape), along(x, dim, index), g)


def only(x: Array) -> Pair:
    """Return the element of a tensor without axes, and its place."""
    return x, np.zeros((), dtype=np.int64, like=x)


# The largest and the smallest, over all elements or along axes.


def _to_extreme(g: Any, y: Any, x: Array, *, dim: int | None, keepdim: bool) -> Array:
    if dim is None:
        # All that tie share alike. NaN is the largest and the smallest at once.
        return _shared(g, np.equal(x, y) | (np.isnan(x) & np.isnan(y)), None, False)
    kept = (g[0], y[1]) if keepdim else (np.expand_dims(g[0], dim), np.expand_dims(y[1], dim))
    return _placed(kept[0], x, dim, kept[1])


def _shared(g: Array, hit: Array, dim: Dim, keepdim: bool) -> Array:
    """Share each gradient evenly among the places that hit."""
    over = axes(dim, hit.ndim)
    return np.where(hit, spread(g, hit, dim, keepdim), 0) / np.sum(hit, axis=over, keepdims=True)


def _share_ties(g: Array, y: Array, x: Array, *, dim: Dim, keepdim: bool) -> Array:
    return _shared(g, np.equal(x, spread(y, x, dim, keepdim)), dim, keepdim)


def _enter_extremes(word: str, best: Any, index_of: Any, superlative: str) -> None:
    """Enter the rules of max and amax, or of min and amin."""

    @rule(
        f"aten.{word}",
        f"y = {word}_of(x, dim, keepdim)",
        meaning=f"gives the gradient to the {superlative} element; along an axis to the one whose "
        "index the forward pass returned, else in equal shares to all that tie",
    )
    def extreme(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return best(x)
        if not x.ndim:
            return only(x)
        return best(x, axis=dim, keepdims=keepdim), index_of(x, axis=dim, keepdims=keepdim)

    @rule(
        f"aten.a{word}",
        f"y = a{word}(x, dim, keepdim)",
        meaning=f"shares the gradient evenly among all elements that tie for the {superlative}",
    )
    def extremes(x: Array, *, dim: Dim = (), keepdim: bool = False) -> Array:
        return best(x, axis=axes(dim, x.ndim), keepdims=keepdim)

    extreme.vjp("x", "to_extreme(g, y, x, dim, keepdim)")(_to_extreme)
    extremes.vjp("x", "share_ties(g, y, x, dim, keepdim)")(_share_ties)


_enter_extremes("max", np.max, np.argmax, "largest")
_enter_extremes("min", np.min, np.argmin, "smallest")


# Two tensors. A comparison with NaN is false, so that both sides of a NaN get the whole gradient.


def _enter_choice(choose: np.ufunc, text: str, beyond: str, comparative: str) -> None:
    """Enter the rule of maximum or minimum; ``beyond`` compares what is not chosen."""
    entered = rule(
        f"aten.{choose.__name__}",
        f"y = {text}",
        meaning=f"gives the gradient to the {comparative} of the two, and half to each where they "
        "tie",
    )(lambda a, b: choose(a, b))
    entered.vjps(
        a=f"where(a {beyond} b, 0, where(a == b, g / 2, g))",
        b=f"where(b {beyond} a, 0, where(a == b, g / 2, g))",
    )


_enter_choice(np.maximum, "greater(a, b)", "<", "greater")
_enter_choice(np.minimum, "-greater(-a, -b)", ">", "smaller")


# Limits: each a number, a tensor, or None.


def _limited(x: Array, low: Any, high: Any) -> Array:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _within(g: Array, x: Array, low: Any, high: Any) -> Array:
    g = g if low is None else np.where(np.greater_equal(x, low), g, 0)
    return g if high is None else np.where(np.less_equal(x, high), g, 0)


@rule(
    "aten.clamp",
    "y = limit(x, low, high)",
    meaning="lets the gradient through where the input lies within the limits or on them; a limit "
    "that is a tensor gets what it stopped",
)
def clamp(x: Array, low: Any, high: Any) -> Array:
    return _limited(x, low, high)


clamp.vjp("x", "where(is_within(x, low, high), g, 0)")(_within)


@clamp.vjp("low", "where(is_below(x, low, high), g, 0)")
def _(g: Array, x: Array, low: Any, high: Any) -> Array:
    below = np.less(x, low)
    return np.where(below if high is None else below & np.less(low, high), g, 0)


@clamp.vjp("high", "where(is_above(x, low, high), g, 0)")
def _(g: Array, x: Array, low: Any, high: Any) -> Array:
    above = np.greater(x, high)
    return np.where(above if low is None else above | np.less(high, low), g, 0)


@rule(
    "aten.clamp_min",
    "y = limit(x, low, None)",
    meaning="lets the gradient through where the input is not below the limit; a limit that is a "
    "tensor gets the rest",
)
def clamp_min(x: Array, low: Any) -> Array:
    return _limited(x, low, None)


clamp_min.vjp("x", "where(is_within(x, low, None), g, 0)")(
    lambda g, x, low: _within(g, x, low, None)
)
clamp_min.vjp("low", "where(is_below(x, low, None), g, 0)")(
    lambda g, x, low: np.where(np.less(x, low), g, 0)
)


@rule(
    "aten.clamp_max",
    "y = limit(x, None, high)",
    meaning="lets the gradient through where the input is not above the limit; a limit that is a "
    "tensor gets the rest",
)
def clamp_max(x: Array, high: Any) -> Array:
    return _limited(x, None, high)


clamp_max.vjp("x", "where(is_within(x, None, high), g, 0)")(
    lambda g, x, high: _within(g, x, None, high)
)
clamp_max.vjp("high", "where(is_above(x, None, high), g, 0)")(
    lambda g, x, high: np.where(np.greater(x, high), g, 0)
)


# Sorting. NaN counts as the largest. Which of several equal elements comes first is torch's own
# affair, unless the sort is said to be stable: there its order is taken as recorded, if it is one.


def _order(x: Array, dim: int, descending: bool) -> Array:
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    # Backwards, so that equal elements stay in their order.
    return x.shape[dim] - 1 - np.flip(_order(np.flip(x, dim), dim, False), dim)


def _sorted(x: Array, dim: int, descending: bool) -> Array:
    return np.flip(np.sort(x, axis=dim), dim) if descending else np.sort(x, axis=dim)


def _first(x: Array, dim: int, k: int) -> Array:
    return x[(*(slice(None),) * (dim % x.ndim), slice(k))]


def _brings(x: Array, order: Array, values: Array, dim: int) -> bool:
    """Whether an order names no element twice, and brings these values about."""
    if order.shape != values.shape or np.any((order < 0) | (order >= max(1, x.shape[dim]))):
        return False
    named = np.sort(order, axis=dim)
    after = np.split(named, [min(1, named.shape[dim])], dim)[1]
    before = np.split(named, [max(0, named.shape[dim] - 1)], dim)[0]
    ordered = np.take_along_axis(x, order, axis=dim)
    alike = np.equal(ordered, values) | (np.isnan(ordered) & np.isnan(values))
    return bool(np.all(after != before) and np.all(alike))


@rule(
    "aten.sort",
    "y = ordered(x, dim, descending)",
    meaning="puts each gradient back at the place that its element was sorted from",
    given={"order": 1},
)
def sort(
    x: Array,
    *,
    dim: int = -1,
    descending: bool = False,
    stable: bool | None = False,
    order: Array,
) -> Pair:
    if not x.ndim:
        return only(x)
    values = _sorted(x, dim, descending)
    if not stable and _brings(x, order, values, dim):
        return values, order
    return values, _order(x, dim, descending)


sort.vjp("x", "put_back(g[0], x, dim, y[1])")(lambda g, y1, x, *, dim: _placed(g[0], x, dim, y1))


@rule(
    "aten.topk",
    "y = first_ordered(x, k, dim, largest)",
    meaning="puts each gradient back at the place that its element was taken from, among zeros",
    given={"order": 1},
)
def topk(
    x: Array,
    *,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
    order: Array,
) -> Pair:
    if not x.ndim:
        return only(x)
    values = _first(_sorted(x, dim, largest), dim, k)
    if not sorted and order.shape == values.shape:
        recorded = np.take_along_axis(x, np.clip(order, 0, max(0, x.shape[dim] - 1)), axis=dim)
        ranked = np.take_along_axis(order, _order(recorded, dim, largest), axis=dim)
        if _brings(x, ranked, values, dim):
            return recorded, order
        raise NotImplementedError("topk in no order")
    if _brings(x, order, values, dim):
        return values, order
    return values, _first(_order(x, dim, largest), dim, k)


topk.vjp("x", "put_back(g[0], x, dim, y[1])")(lambda g, y1, x, *, dim: _placed(g[0], x, dim, y1))


@rule(
    "aten.cumsum",
    "y = running_sum(x, dim)",
    meaning="gives each element the sum of the gradients of all running sums that it is part of",
)
def cumsum(x: Array, *, dim: int, dtype: str | None = None) -> Array:
    return np.cumsum(converted(x, dtype), axis=dim) if x.ndim else x


@cumsum.vjp("x", "flip(running_sum(flip(g, [dim]), dim), [dim])")
def _(g: Array, x: Shaped, *, dim: int) -> Array:
    return np.flip(np.cumsum(np.flip(g, dim), axis=dim), dim) if x.ndim else g
