"""Pooling over windows, choosing the nearest element, and channels that become pixels.

Each result belongs to a window of the input's last axes: the elements that it is the largest of,
or the mean. The elements of all windows are gathered along one axis; a mean is one sum over it, and
the backward one sum for each element, so that the bound covers every order of summation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.indexing import added_up, numbered
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Callable

Sizes: TypeAlias = tuple[int, ...]
Numbers: TypeAlias = "int | Sizes"


@dataclass(frozen=True)
class Windows:
    """What each result sees: ``lines`` has, for each axis, a window's elements by result.

    A line is an array (elements of the window, results) of coordinates, of which those outside of
    ``sizes`` stand for no element.
    """

    lines: tuple[Array, ...]
    sizes: Sizes

    @property
    def seen(self) -> Array:
        """Where an element of a window is one of the input: (elements, *results)."""
        pairs = zip(self.lines, self.sizes, strict=True)
        return _crossed(np.logical_and, [(at >= 0) & (at < n) for at, n in pairs])

    @property
    def places(self) -> Array:
        """The number of each element in the input's plane, 0 where there is none."""
        strides = (math.prod(self.sizes[k + 1 :]) for k in range(len(self.sizes)))
        steps = [at * stride for at, stride in zip(self.lines, strides, strict=True)]
        return np.where(self.seen, _crossed(np.add, steps), 0)

    def gathered(self, x: Array, fill: float) -> Array:
        """Return the elements of all windows, (planes, elements, *results), with ``fill``."""
        return np.where(self.seen, self._planes(x)[:, self.places], fill)

    def total(self, x: Array) -> Array:
        """Return each window's sum, in the shape of the results."""
        return self._shaped(np.sum(self.gathered(x, 0), axis=1), x)

    def given_back(self, g: Array, x: Array) -> Array:
        """Add each result's gradient to all elements of its window."""
        seen = self.seen
        flat = np.reshape(g, (-1, 1, *seen.shape[1:]))
        each = np.broadcast_to(flat, (flat.shape[0], *seen.shape))
        places = self._planes(numbered(x))[:, self.places]
        return added_up(each[:, seen], places[:, seen], x)

    def largest(self, x: Array) -> tuple[Array, Array]:
        """Return each window's largest element and its place: the first, but of NaN the last."""
        seen, places = self.seen, self.places
        if not np.all(np.any(seen, axis=0)):
            raise NotImplementedError("a window that meets nothing but padding")
        items = self.gathered(x, -math.inf)
        best = np.max(items, axis=1, keepdims=True)
        first = np.argmax(seen & np.equal(items, best), axis=1)
        last = len(seen) - 1 - np.argmax(np.flip(np.isnan(items), 1), axis=1)
        element = np.where(np.any(np.isnan(items), axis=1), last, first)
        index = np.take_along_axis(places[None], element[:, None], axis=1)
        values = np.take_along_axis(items, element[:, None], axis=1)
        return self._shaped(values[:, 0], x), self._shaped(index[:, 0], x)

    def _planes(self, x: Array) -> Array:
        return np.reshape(x, (-1, math.prod(self.sizes)))

    def _shaped(self, results: Array, x: Array) -> Array:
        return np.reshape(results, (*x.shape[: x.ndim - len(self.sizes)], *results.shape[1:]))


def _crossed(join: Callable[[Array, Array], Array], lines: list[Array]) -> Array:
    """Join the lines of all axes, elements with elements and results with results."""
    whole = lines[0]
    for line in lines[1:]:
        across = np.reshape(line, (1, len(line), *(1,) * (whole.ndim - 1), line.shape[1]))
        joined = join(whole[:, None, ..., None], across)
        whole = np.reshape(joined, (-1, *joined.shape[2:]))
    return whole


def _divisor(like: Array, counts: Array) -> Any:
    """Return divisors as an array like another: a format may not hold a large one."""
    numbers = np.unique(counts)
    if numbers.size == 1:
        return int(numbers[0])
    out = np.zeros_like(like, shape=counts.shape)
    for number in numbers:
        out[counts == number] = int(number)
    return out


# Windows that walk over the plane.


@dataclass(frozen=True)
class Walk:
    """How windows walk over the last two axes; the fields are the schema's."""

    kernel_size: Numbers
    stride: Numbers = ()
    padding: Numbers = 0
    dilation: Numbers = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def windows(self, x: Array) -> Windows:
        """Return what each result sees."""
        kernel = _pair(self.kernel_size)
        steps = zip(_pair(self.stride or kernel), _pair(self.padding), strict=True)
        rest = zip(x.shape[-2:], kernel, steps, _pair(self.dilation), strict=True)
        lines = (self._line(n, k, s, p, d) for n, k, (s, p), d in rest)
        return Windows(tuple(lines), tuple(x.shape[-2:]))

    def divided(self, sums: Array, x: Array) -> Array:
        """Divide what belongs to each window by the number of its elements, or as told."""
        if self.divisor_override is not None:
            return sums / self.divisor_override
        found = self.windows(x)
        inside = found.seen
        if self.count_include_pad:
            ends = (n + p for n, p in zip(found.sizes, _pair(self.padding), strict=True))
            pairs = zip(found.lines, ends, strict=True)
            inside = _crossed(np.logical_and, [at < end for at, end in pairs])
        return sums / _divisor(sums, np.sum(inside, axis=0))

    def _line(self, n: int, k: int, s: int, p: int, d: int) -> Array:
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if self.ceil_mode else room // s) + 1
        # A window that ceil_mode adds begins in the input, or in the padding before it.
        if self.ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        return d * np.arange(k)[:, None] + s * np.arange(count) - p


def _pair(numbers: Numbers) -> Sizes:
    if isinstance(numbers, int):
        return numbers, numbers
    return (numbers[0], numbers[-1])


def _to_largest(g: Any, y: Any, x: Array) -> Array:
    """Add each window's gradient to the element whose index was returned."""
    planes = math.prod(x.shape[:-2])
    index = np.reshape(y[1], (planes, math.prod(y[1].shape[-2:])))
    places = np.take_along_axis(np.reshape(numbered(x), (planes, -1)), index, axis=1)
    return added_up(g[0], places, x)


@rule(
    "aten.max_pool2d_with_indices",
    "y = window_max(x, kernel_size, stride, padding, dilation, ceil_mode)",
    meaning="gives each window's gradient to the largest element, whose index the forward pass "
    "returned",
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


@max_pool2d_with_indices.vjp("x", "to_index(g, y, x)")
def _(g: Any, y: Any, x: Array, **walk: Any) -> Array:
    return _to_largest(g, y, x)


@rule(
    "aten.avg_pool2d",
    "y = window_sum(x, kernel_size, stride, padding, ceil_mode) / window_size(x, kernel_size, "
    "stride, padding, ceil_mode, count_include_pad, divisor_override)",
    meaning="divides each window's gradient by the window's size, and adds it to all of the "
    "window's elements",
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
def _(g: Array, y: Array, x: Array, **how: Any) -> Array:
    walk = Walk(**how)
    return walk.windows(x).given_back(walk.divided(g, x), x)


# Parts that cover the plane.


def _parts(x: Array, output_size: Numbers) -> Windows:
    """Cut each axis into parts, from floor(i n / count) to before ceil((i + 1) n / count)."""
    sizes = tuple(x.shape[-2:])
    lines = []
    for n, count in zip(sizes, _pair(output_size), strict=True):
        start, end = (np.arange(count) * n) // count, -(-np.arange(1, count + 1) * n // count)
        at = start + np.arange(np.max(end - start))[:, None]
        lines.append(np.where(at < end, at, n))
    return Windows(tuple(lines), sizes)


def _over_lengths(sums: Array, parts: Windows) -> Array:
    """Divide by the length of each part along one axis, then along the other, as torch does."""
    height, width = (np.sum(at < n, axis=0) for at, n in zip(parts.lines, parts.sizes, strict=True))
    return sums / _divisor(sums, height[:, None]) / _divisor(sums, width[None])


@rule(
    "aten._adaptive_avg_pool2d",
    "y = part_sum(x, output_size) / part_size(x, output_size)",
    meaning="divides each part's gradient by the part's size, and adds it to all of the part's "
    "elements",
)
def adaptive_avg_pool2d(x: Array, *, output_size: Numbers) -> Array:
    parts = _parts(x, output_size)
    return _over_lengths(parts.total(x), parts)


@adaptive_avg_pool2d.vjp("x", "part_add(g / part_size(x, output_size), x, output_size)")
def _(g: Array, y: Array, x: Array, *, output_size: Numbers) -> Array:
    parts = _parts(x, output_size)
    return parts.given_back(_over_lengths(g, parts), x)


@rule(
    "aten.adaptive_max_pool2d",
    "y = part_max(x, output_size)",
    meaning="gives each part's gradient to the largest element, whose index the forward pass "
    "returned",
)
def adaptive_max_pool2d(x: Array, *, output_size: Numbers) -> tuple[Array, Array]:
    return _parts(x, output_size).largest(x)


@adaptive_max_pool2d.vjp("x", "to_index(g, y, x)")
def _(g: Any, y: Any, x: Array, *, output_size: Numbers) -> Array:
    return _to_largest(g, y, x)


# Resampling.


def _nearest_line(n: int, count: int, scale: Any) -> Array:
    """Return the element that each of ``count`` results along an axis of n is a copy of.

    It is floor(i n / count), or floor(i / scale), in float32 whatever the tensor's format is; but
    one of torch's kernels for float64 rounds otherwise, and its backward as the others do.
    """
    if count in (n, 2 * n):
        return np.arange(count)[None] // (count // n)
    if scale is not None and not isinstance(scale, float):
        raise NotImplementedError("a scale that the format does not hold")
    step = 1 / scale if scale else n / count
    at = np.floor(np.arange(count, dtype=np.float32) * np.float32(step))
    double = np.arange(count) * step
    if any(np.any(at != np.floor(other)) for other in (double, double.astype(np.float32))):
        raise NotImplementedError("a nearest element that depends on torch's kernel")
    return np.minimum(at.astype(np.int64), n - 1)[None]


def _nearest(
    x: Array,
    output_size: Sizes | None = None,
    scale_factors: tuple[Any, ...] | None = None,
    **scales: Any,
) -> Windows:
    sizes = tuple(x.shape[2:])
    by = scale_factors or tuple(scales.values()) or (None,) * len(sizes)
    if output_size is None:
        if not all(isinstance(scale, float) for scale in by):
            raise NotImplementedError("a scale that the format does not hold")
        output_size = tuple(int(n * scale) for n, scale in zip(sizes, by, strict=True))
    axes = zip(sizes, output_size, by, strict=True)
    return Windows(tuple(_nearest_line(*axis) for axis in axes), sizes)


@rule(
    "aten.upsample_nearest2d",
    "y = nearest(x, output_size, scale_factors or (scales_h, scales_w))",
    meaning="adds up, for each element, the gradients of the pixels that are copies of it",
)
def upsample_nearest2d(
    x: Array,
    *,
    output_size: Sizes | None = None,
    scales_h: Any = None,
    scales_w: Any = None,
    scale_factors: tuple[Any, ...] | None = None,
) -> Array:
    scaled = _nearest(x, output_size, scale_factors, scales_h=scales_h, scales_w=scales_w)
    return scaled.total(x)


@upsample_nearest2d.vjp(
    "x", "nearest_add(g, x, output_size, scale_factors or (scales_h, scales_w))"
)
def _(g: Array, y: Array, x: Array, **how: Any) -> Array:
    return _nearest(x, **how).given_back(g, x)


@rule(
    "aten.upsample_nearest1d",
    "y = nearest(x, output_size, scale_factors or (scales,))",
    meaning="adds up, for each element, the gradients of those that are copies of it",
)
def upsample_nearest1d(
    x: Array,
    *,
    output_size: Sizes | None = None,
    scales: Any = None,
    scale_factors: tuple[Any, ...] | None = None,
) -> Array:
    return _nearest(x, output_size, scale_factors, scales=scales).total(x)


@upsample_nearest1d.vjp("x", "nearest_add(g, x, output_size, scale_factors or (scales,))")
def _(g: Array, y: Array, x: Array, **how: Any) -> Array:
    return _nearest(x, **how).given_back(g, x)


def _shuffled(x: Array, r: int) -> Array:
    *rest, channels, height, width = x.shape
    at = len(rest)
    parts = np.reshape(x, (*rest, channels // r**2, r, r, height, width))
    order = (*range(at), at, at + 3, at + 1, at + 4, at + 2)
    return np.reshape(np.transpose(parts, order), (*rest, channels // r**2, height * r, width * r))


def _unshuffled(x: Array, r: int) -> Array:
    *rest, channels, height, width = x.shape
    at = len(rest)
    parts = np.reshape(x, (*rest, channels, height // r, r, width // r, r))
    order = (*range(at), at, at + 2, at + 4, at + 1, at + 3)
    return np.reshape(np.transpose(parts, order), (*rest, channels * r**2, height // r, width // r))


@rule(
    "aten.pixel_shuffle",
    "y = shuffle(x, upscale_factor)",
    meaning="puts the gradients of each square of pixels back into the channels that they came "
    "from",
)
def pixel_shuffle(x: Array, *, upscale_factor: int) -> Array:
    return _shuffled(x, upscale_factor)


@pixel_shuffle.vjp("x", "unshuffle(g, upscale_factor)")
def _(g: Array, y: Array, x: Array, *, upscale_factor: int) -> Array:
    return _unshuffled(g, upscale_factor)


@rule(
    "aten.pixel_unshuffle",
    "y = unshuffle(x, downscale_factor)",
    meaning="puts the gradients of the channels back to the squares of pixels that they came from",
)
def pixel_unshuffle(x: Array, *, downscale_factor: int) -> Array:
    return _unshuffled(x, downscale_factor)


@pixel_unshuffle.vjp("x", "shuffle(g, downscale_factor)")
def _(g: Array, y: Array, x: Array, *, downscale_factor: int) -> Array:
    return _shuffled(g, downscale_factor)
