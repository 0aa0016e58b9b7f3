"""Images that are read off at given places: linear, cubic and nearest.

A result is the sum of the pixels near its place, each times one weight for each axis: a hat, which
goes down to 0 at the next pixels, or the cubic of resizing. A place that rounding may put before or
behind a pixel brings in one pixel more, with a weight of 0 and that error. In 16-bit formats places
are off by a good part of a pixel: there they are rounded as kernels do, and known. A kernel may add
up pixels and channels one after the other: that is one contraction.
``interpolation_mode``: 0 linear, 1 nearest, 2 cubic; ``padding_mode``: 0 zeros, 1 border,
2 reflection.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, ignore_error, is_uncertain, stored
from gradwitness.rules.layers.cubic import far, near
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import added_up, numbered

_LINEAR, _NEAREST, _CUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2


class Taps(NamedTuple):
    """The pixels that each place reads along one axis: (images, pixels, places).

    ``slope`` and ``curve`` are the derivatives of the weight by the coordinate.
    """

    pixel: Array
    exists: Array
    weight: Array
    slope: Array
    curve: Array


def _begun(t: Array) -> Array:
    """Return 1 from 0 on, and 0 before; in doubt, both are within the bound."""
    return np.minimum(np.maximum(np.floor(t) + 1, 0), 1)


def _reflected(at: Array, size: int, align: bool) -> tuple[Array, Array]:
    """Reflect at the outermost pixels, or at their edges; with the slope, 1 or -1."""
    low, span = (0.0, size - 1.0) if align else (-0.5, float(size))
    if span == 0:
        return 0 * at, 0 * at
    away = stored(at - low, at)
    away, turned = np.absolute(away), 2 * _begun(away) - 1
    spans = np.floor(away / span)
    periods = np.floor(ignore_error(spans) / 2)
    inside = stored(away - 2 * span * periods, away)
    folded = stored(span - np.absolute(span - inside), inside)
    return stored(folded + low, folded), turned * (1 - 2 * (spans - 2 * periods))


def _position(coordinate: Array, size: int, padding: int, align: bool) -> tuple[Array, Array]:
    """Return the place among the pixels of an axis, and how it moves with the coordinate."""
    shifted = stored(coordinate + 1, coordinate)
    if align:
        at, slope = stored(shifted / 2 * (size - 1), shifted), (size - 1) / 2
    else:
        scaled = stored(shifted * size, shifted)
        at, slope = stored((scaled - 1) / 2, scaled), size / 2
    turned: Any = 1
    if padding == _REFLECTION:
        at, turned = _reflected(at, size, align)
    if padding in (_BORDER, _REFLECTION):
        # On the border itself the slope is 0.
        turned = turned * (1 - _begun(-at)) * (1 - _begun(at - (size - 1)))
        at = np.minimum(np.maximum(at, 0), size - 1)
    return at, slope * turned * np.ones_like(coordinate)


def _taps(coordinate: Array, size: int, mode: int, padding: int, align: bool) -> Taps:
    if mode == _CUBIC:
        return _cubic_taps(coordinate, size, padding, align)
    at, scale = _position(coordinate, size, padding, align)
    if mode == _NEAREST:
        return linear_taps(np.rint(at), np.zeros_like(coordinate), size, 1)
    return linear_taps(at, scale, size, 2)


def linear_taps(at: Array, scale: Array, size: int, count: int) -> Taps:
    """Return the pixels beside each place, or the one of whole places; scale times the slopes."""
    first, past, doubt = _split(at)
    if not np.any(doubt):
        pixels, weights, slopes = [first, first + 1], [1 - past, past], [-scale, scale]
        pixels, weights, slopes = pixels[:count], weights[:count], slopes[:count]
    else:
        aside = first + np.where(ignore_error(past) < 0.5, -1, 2)
        pixels = [first, first + 1, aside]
        gaps = [at - pixel for pixel in pixels]
        weights = [np.maximum(1 - np.absolute(gap), 0) for gap in gaps]
        weights[2] = np.where(doubt, weights[2], 0)
        slopes = [scale * (_begun(t + 1) - 2 * _begun(t) + _begun(t - 1)) for t in gaps]
    inside = np.stack(pixels, axis=1)
    slope = np.stack(slopes, axis=1)
    return Taps(*_within(inside, size), np.stack(weights, axis=1), slope, np.zeros_like(slope))


def _split(at: Array) -> tuple[Array, Array, Array]:
    """Return the pixel before each place, how far past it that is, and whether rounding decides."""
    floor = np.floor(at)
    first = ignore_error(floor)
    return first, stored(at - first, at), is_uncertain(floor)


def _cubic_taps(coordinate: Array, size: int, padding: int, align: bool) -> Taps:
    at, scale = _position(coordinate, size, _ZEROS, align)
    first, past, doubt = _split(at)
    steps: list[Any] = [-1, 0, 1, 2]
    left = 1 - past
    # By the distance from each pixel, which grows with the place before it and shrinks behind.
    kinds = [(far, past + 1, 1), (near, past, 1), (near, left, -1), (far, left + 1, -1)]
    taps: list[Any] = [(of(t), sign * of(t, 1), of(t, 2)) for of, t, sign in kinds]
    if np.any(doubt):
        low = ignore_error(past) < 0.5
        t = np.where(low, past, left) + 2
        aside = (far(t), np.where(low, 1, -1) * far(t, 1), far(t, 2))
        taps.append(tuple(np.where(doubt, number, 0) for number in aside))
        steps.append(np.where(low, -2, 3))
    weight, slope, curve = (np.stack(numbers, axis=1) for numbers in zip(*taps, strict=True))
    pixel = np.stack([first + step for step in steps], axis=1)
    if padding == _REFLECTION:
        pixel = _reflected(pixel, size, align)[0]
    if padding in (_BORDER, _REFLECTION):
        pixel = np.clip(pixel, 0, size - 1)
    scale = scale[:, None]
    return Taps(*_within(pixel, size), weight, slope * scale, curve * scale * scale)


def _within(pixel: Array, size: int) -> tuple[Array, Array]:
    return np.clip(pixel, 0, size - 1).astype(np.int64), (pixel >= 0) & (pixel < size)


@dataclass(frozen=True)
class Reading:
    """What each place reads: the pixels of all axes' taps, (images, pixels, places)."""

    taps: list[Taps]
    pixels: Array
    exists: Array

    @classmethod
    def of(
        cls,
        x: Array,
        grid: Array,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
        output_mask: Any = None,  # noqa: ARG003 (a parameter of the backward)
    ) -> Reading:
        """Return what is read of images at the places of a grid."""
        if not np.all(np.isfinite(grid)):
            raise NotImplementedError("a coordinate that is not a number")
        sizes = x.shape[2:]
        places = np.reshape(grid, (len(grid), math.prod(grid.shape[1:-1]), len(sizes)))
        how = (interpolation_mode, padding_mode, align_corners)
        # The grid's last axis names the image's last axis first.
        columns = (places[..., len(sizes) - 1 - axis] for axis in range(len(sizes)))
        taps = [_taps(column, size, *how) for column, size in zip(columns, sizes, strict=True)]
        return cls.at(taps, sizes)

    @classmethod
    def at(cls, taps: list[Taps], sizes: Any) -> Reading:
        """Return what is read where the taps of each axis say."""
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        offsets = [of.pixel * stride for of, stride in zip(taps, strides, strict=True)]
        exists = _crossed(np.logical_and, [of.exists for of in taps])
        return cls(taps, _crossed(np.add, offsets), exists)

    def weights(self, *along: int) -> Array:
        """Multiply the weights of all axes; along some, named once or twice, the derivatives."""
        factors = [of[2 + along.count(axis)] for axis, of in enumerate(self.taps)]
        return np.where(self.exists, _crossed(np.multiply, factors), 0)

    def slopes(self) -> Array:
        """Return the slope of each weight for each coordinate, along one axis more."""
        axes = range(len(self.taps))
        return np.stack([self.weights(axis) for axis in reversed(axes)], axis=-1)

    def moved(self, u: Array, *along: int) -> Array:
        """Return how a weight, or its slope along an axis, moves where the places move by u."""
        steps = np.reshape(u, (len(u), 1, self.pixels.shape[2], len(self.taps)))
        total: Any = 0
        for axis in range(len(self.taps)):
            step = steps[..., len(self.taps) - 1 - axis]
            total = total + step * self.weights(axis, *along)
        return total

    def read(self, x: Array) -> Array:
        """Return the pixels that are read, of each channel: (images, channels, pixels, places)."""
        plane = np.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
        index = np.reshape(self.pixels, (len(self.pixels), 1, math.prod(self.pixels.shape[1:])))
        found = np.take_along_axis(plane, index, axis=2)
        return np.reshape(found, (*x.shape[:2], *self.pixels.shape[1:]))

    def to_image(self, g: Array, x: Array, weights: Array) -> Array:
        """Add what came in, times weights, to the pixels."""
        parts = accumulate_in_format(spread(g) * weights[:, None])
        return added_up(parts, self.read(numbered(x)), x)


def _crossed(join: Any, lines: list[Array]) -> Array:
    """Join the pixels of one axis with those of the next: (images, all pixels, places)."""

    def both(one: Array, other: Array) -> Array:
        pairs = join(one[:, :, None], other[:, None])
        return np.reshape(pairs, (len(pairs), -1, pairs.shape[-1]))

    return functools.reduce(both, lines)


def spread(g: Array) -> Array:
    """Return gradients with an axis for the pixels: (images, channels, 1, places)."""
    return np.reshape(g, (*g.shape[:2], 1, math.prod(g.shape[2:])))


def summed(pixels: Array, weights: Array) -> Array:
    """Add up pixels times weights at each place of each channel."""
    return np.einsum("ncsp,nsp->ncp", accumulate_in_format(pixels), weights)


def to_grid(parts: Array, slopes: Array, grid: Array) -> Array:
    """Add up pixels times what came in times slopes, over pixels and channels."""
    total = np.einsum("ncsp,nspa->npa", accumulate_in_format(parts), slopes)
    return np.reshape(total, grid.shape)


_WHERE = "interpolation_mode, padding_mode, align_corners"


def _sampler(axes: int, node: str) -> None:
    @rule(
        f"aten.grid_sampler_{axes}d",
        "y = sampled(x, grid, interpolation_mode, padding_mode, align_corners)",
        meaning="gives each pixel the gradients of the places that it was read for, times its "
        "weight there, and each place the gradient times the slope of the image",
        node=node,
        composite=True,
        apart="nc,n->nc",
    )
    def grid_sampler(
        x: Array, grid: Array, *, interpolation_mode: int, padding_mode: int, align_corners: bool
    ) -> Array:
        reading = Reading.of(x, grid, interpolation_mode, padding_mode, align_corners)
        found = summed(reading.read(x), reading.weights())
        return np.reshape(found, (*x.shape[:2], *grid.shape[1:-1]))

    @grid_sampler.vjp("x", f"to_image(g, x, grid, {_WHERE})")
    def _(g: Array, x: Shaped, grid: Array, **how: Any) -> Array:
        reading = Reading.of(x, grid, **how)
        return reading.to_image(g, x, reading.weights())

    @grid_sampler.vjp("grid", f"to_grid(g, x, grid, {_WHERE})")
    def _(g: Array, x: Array, grid: Array, **how: Any) -> Array:
        reading = Reading.of(x, grid, **how)
        return to_grid(spread(g) * reading.read(x), reading.slopes(), grid)


def _sampler_backward(axes: int) -> None:
    @rule(
        f"aten.grid_sampler_{axes}d_backward",
        f"y = to_image(dy, x, grid, {_WHERE}), to_grid(dy, x, grid, {_WHERE})",
        meaning="reads what came in for the image off at the places, and the image along what came "
        "in for them; image and places get the gradient that was sent through, times what came in "
        "for the other",
        composite=True,
    )
    def backward(
        dy: Array,
        x: Array,
        grid: Array,
        *,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
        output_mask: tuple[bool, ...],
    ) -> tuple[Array | None, ...]:
        reading = Reading.of(x, grid, interpolation_mode, padding_mode, align_corners)
        of_x, of_grid = output_mask
        return (
            reading.to_image(dy, x, reading.weights()) if of_x else None,
            to_grid(spread(dy) * reading.read(x), reading.slopes(), grid) if of_grid else None,
        )

    @backward.vjp("dy", f"sampled(g[0], grid, {_WHERE}) + sampled_along(g[1], x, grid, {_WHERE})")
    def _(g: Any, dy: Shaped, x: Array, grid: Array, **how: Any) -> Array:
        of_x, of_grid = _shaped(g, x, grid)
        reading = Reading.of(x, grid, **how)
        pixels = np.concatenate([reading.read(of_x), reading.read(x)], axis=2)
        weights = np.concatenate([reading.weights(), reading.moved(of_grid)], axis=1)
        return np.reshape(summed(pixels, weights), dy.shape)

    @backward.vjp("x", f"to_image_along(g[1], dy, x, grid, {_WHERE})")
    def _(g: Any, dy: Array, x: Array, grid: Array, **how: Any) -> Array:
        reading = Reading.of(x, grid, **how)
        return reading.to_image(dy, x, reading.moved(_shaped(g, x, grid)[1]))

    @backward.vjp(
        "grid", f"to_grid(dy, g[0], grid, {_WHERE}) + to_grid_along(g[1], dy, x, grid, {_WHERE})"
    )
    def _(g: Any, dy: Array, x: Array, grid: Array, **how: Any) -> Array:
        of_x, of_grid = _shaped(g, x, grid)
        reading = Reading.of(x, grid, **how)
        own, other, columns = reading.read(of_x), reading.read(x), []
        for axis in reversed(range(axes)):
            straight, bend = reading.weights(axis), reading.moved(of_grid, axis)
            parts = spread(dy) * (own * straight[:, None] + other * bend[:, None])
            columns.append(np.sum(parts, axis=(1, 2)))
        return np.reshape(np.stack(columns, axis=-1), grid.shape)


def _shaped(g: Any, x: Array, grid: Array) -> tuple[Array, Array]:
    """Return the gradients of both results: zeros of their shape, where one was not asked for."""
    of_x, of_grid = (
        item if item.shape == like.shape else np.zeros_like(item, shape=like.shape)
        for item, like in zip(g, (x, grid), strict=True)
    )
    return of_x, of_grid


_sampler(2, "GridSampler2DBackward")
_sampler(3, "GridSampler3DBackward")
_sampler_backward(2)
_sampler_backward(3)
