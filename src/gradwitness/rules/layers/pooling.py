"""Pooling over windows of two or three axes.

Each result belongs to a window: the elements that it is the largest of, or the mean. A mean is one
sum over it, and the backward one sum for each element, so that the bound covers every order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.layers.windows import (
    Numbers,
    Sizes,
    Walk,
    Windows,
    dimensions,
    divisor,
    each_axis,
    planes_apart,
)
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.indexing import added_up, filled, flat, last_ones, numbered

if TYPE_CHECKING:
    from collections.abc import Mapping


def _mean_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes to compute along, see `Rule`: all but those of the windows."""
    sizes = parameters.get("kernel_size") or parameters["output_size"]
    planes = planes_apart(shapes["x"], sizes)
    return f"{planes}->{planes}"


def _max_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    apart = _mean_apart(shapes, parameters)
    return f"{apart},{apart.partition('>')[2]}"


def to_largest(g: Any, y: Any, x: Array, many: int) -> Array:
    """Add each window's gradient to the element whose index was returned."""
    planes = math.prod(x.shape[:-many])
    index = np.reshape(y[1], (planes, math.prod(y[1].shape[-many:])))
    numbers = np.reshape(numbered(x), (planes, math.prod(x.shape[-many:])))
    places = np.take_along_axis(numbers, index, axis=1)
    return added_up(g[0], places, x)


@rule(
    "aten.max_pool2d_with_indices",
    "y = window_max(x, kernel_size, stride, padding, dilation, ceil_mode)",
    meaning="gives each window's gradient to the largest element, whose index the forward pass "
    "returned",
    aliases=("aten.max_pool3d_with_indices",),
    apart=_max_apart,
    moves=True,
)
def max_pool2d_with_indices(
    x: Array,
    *,
    kernel_size: Numbers,
    stride: Numbers = (),
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    walk = Walk(kernel_size, stride, padding, dilation, ceil_mode)
    return walk.windows(x).largest(x)


max_pool2d_with_indices.vjp("x", "to_index(g, y, x, kernel_size)")(
    lambda g, y, x, *, kernel_size: to_largest(g, y, x, dimensions(kernel_size))
)


@rule(
    "aten.avg_pool2d",
    "y = window_sum(x, kernel_size, stride, padding, ceil_mode) / window_size(x, kernel_size, "
    "stride, padding, ceil_mode, count_include_pad, divisor_override)",
    meaning="divides each window's gradient by the window's size, and adds it to all of the "
    "window's elements",
    aliases=("aten.avg_pool3d",),
    apart=_mean_apart,
    moves=True,
)
def avg_pool2d(
    x: Array,
    *,
    kernel_size: Numbers,
    stride: Numbers = (),
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    walk = Walk(kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
    return walk.divided(walk.windows(x).total(x), x)


@avg_pool2d.vjp(
    "x",
    "window_add(g / window_size(x, kernel_size, stride, padding, ceil_mode, count_include_pad, "
    "divisor_override), x, kernel_size, stride, padding, ceil_mode)",
)
def _(g: Array, x: Array, **how: Any) -> Array:
    walk = Walk(**how)
    return walk.windows(x).given_back(walk.divided(g, x), x)


# Parts that cover the plane.


def _parts(x: Array, output_size: Numbers) -> Windows:
    """Cut each axis into parts, from floor(i n / count) to before ceil((i + 1) n / count)."""
    many = dimensions(output_size)
    sizes = tuple(x.shape[-many:])
    lines = []
    for n, count in zip(sizes, each_axis(output_size, many), strict=True):
        start, end = (np.arange(count) * n) // count, -(-np.arange(1, count + 1) * n // count)
        at = start + np.arange(np.max(end - start))[:, None]
        lines.append(np.where(at < end, at, n))
    return Windows(tuple(lines), sizes)


def _over_lengths(sums: Array, parts: Windows) -> Array:
    """Divide by the length of each part along one axis after the other, as torch does."""
    many = len(parts.sizes)
    for axis, (at, n) in enumerate(zip(parts.lines, parts.sizes, strict=True)):
        lengths = np.sum(at < n, axis=0)
        across = tuple(-1 if axis == other else 1 for other in range(many))
        sums = sums / divisor(sums, np.reshape(lengths, across))
    return sums


@rule(
    "aten._adaptive_avg_pool2d",
    "y = part_sum(x, output_size) / part_size(x, output_size)",
    meaning="divides each part's gradient by the part's size, and adds it to all of the part's "
    "elements",
    aliases=("aten._adaptive_avg_pool3d",),
    apart=_mean_apart,
    moves=True,
)
def adaptive_avg_pool2d(x: Array, *, output_size: Numbers) -> Array:
    parts = _parts(x, output_size)
    # Over three axes torch adds up in the tensor's own format.
    total = parts.stored_total if len(parts.sizes) == 3 else parts.total
    return _over_lengths(total(x), parts)


@adaptive_avg_pool2d.vjp("x", "part_add(g / part_size(x, output_size), x, output_size)")
def _(g: Array, x: Array, *, output_size: Numbers) -> Array:
    parts = _parts(x, output_size)
    return parts.given_back(_over_lengths(g, parts), x)


@rule(
    "aten.adaptive_max_pool2d",
    "y = part_max(x, output_size)",
    meaning="gives each part's gradient to the largest element, whose index the forward pass "
    "returned",
    aliases=("aten.adaptive_max_pool3d",),
    apart=_max_apart,
    moves=True,
)
def adaptive_max_pool2d(x: Array, *, output_size: Numbers) -> tuple[Array, Array]:
    return _parts(x, output_size).largest(x)


adaptive_max_pool2d.vjp("x", "to_index(g, y, x, output_size)")(
    lambda g, y, x, *, output_size: to_largest(g, y, x, dimensions(output_size))
)


# The way back: each number to the place that its index names.


def _unpooled(x: Array, indices: Array, output_size: Sizes) -> Array:
    """Return the places of a plane that indices name, in each plane of what is made."""
    many = len(output_size)
    count, points = math.prod(x.shape[: x.ndim - many]), math.prod(output_size)
    element = np.reshape(np.arange(count * points, like=x), (count, points))
    index = np.reshape(indices, (count, math.prod(x.shape[x.ndim - many :])))
    return np.reshape(np.take_along_axis(element, index, axis=1), x.shape)


def _staying(x: Array, places: Array, recorded: Array) -> Array:
    """Return which numbers stay, of those written to one place: the last that is recorded."""
    written = np.equal(flat(x), flat(recorded)[np.ravel(places)])
    # Of several to one place the last one counts; what was not recorded comes before all others.
    order = np.argsort(written, kind="stable")
    where = np.ravel(places)
    last = order[last_ones(where[order], math.prod(recorded.shape))]
    return np.reshape(last[where] == np.arange(places.size, like=x), places.shape)


@rule(
    "aten.max_unpool2d",
    "y = unpool(x, indices, output_size)",
    meaning="takes the gradient at the place that each number was written to; one that another was "
    "written over gets 0",
    aliases=("aten.max_unpool3d",),
    ignores=("stride", "padding"),
    given={"recorded": 0},
)
def max_unpool2d(x: Array, indices: Array, *, output_size: Sizes, recorded: Array) -> Array:
    zeros = np.zeros_like(x, shape=(*x.shape[: x.ndim - len(output_size)], *output_size))
    places = _unpooled(x, indices, output_size)
    kept = _staying(x, places, recorded)
    return filled(zeros, places[kept], x[kept])


@max_unpool2d.vjp("x", "repool(g, x, indices)")
def _(g: Array, x: Array, indices: Array, *, output_size: Sizes, recorded: Array) -> Array:
    places = _unpooled(x, indices, output_size)
    return np.where(_staying(x, places, recorded), flat(g)[places], 0)
