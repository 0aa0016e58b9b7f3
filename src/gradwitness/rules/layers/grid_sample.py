"""Images that are read off at given places: bilinear, trilinear and nearest.

A pixel's weight is a hat around its place: it goes down to 0 at the next pixels. Two pixels on
either side are asked, so that a rounding error which moves a place past a pixel is counted too.
In 16-bit formats places are off by a good part of a pixel: there they are rounded as
kernels do, and known.
``interpolation_mode``: 0 linear, 1 nearest; ``padding_mode``: 0 zeros, 1 border, 2 reflection.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, ignore_error, is_certain, stored
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.indexing import added_up

_LINEAR, _NEAREST = 0, 1
_BORDER, _REFLECTION = 1, 2


class _Tap(NamedTuple):
    """One pixel along one axis: its place, whether there is one, its weight and its slope."""

    place: Array
    exists: Array
    weight: Array
    slope: Array


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


def _taps(coordinate: Array, size: int, mode: int, padding: int, align: bool) -> list[_Tap]:
    at, slope = _position(coordinate, size, padding, align)
    if mode == _NEAREST:
        at, slope = np.rint(at), np.zeros_like(coordinate)
    first = np.floor(ignore_error(at))
    if is_certain(at):
        past = stored(at - first, at)
        taps = [_tap(first, size, 1 - past, -slope), _tap(first + 1, size, past, slope)]
        return taps[:1] if mode == _NEAREST else taps
    taps = []
    for step in (-1, 0, 1) if mode == _NEAREST else (-1, 0, 1, 2):
        gap = at - (first + step)
        weight = np.maximum(1 - np.absolute(gap), 0)
        # What lies so far off that no rounding brings it near.
        weight = np.where(np.absolute(ignore_error(gap)) > 1.25, 0, weight)
        hat = _begun(gap + 1) - 2 * _begun(gap) + _begun(gap - 1)
        taps.append(_tap(first + step, size, weight, hat * slope))
    return taps


def _tap(place: Array, size: int, weight: Array, slope: Array) -> _Tap:
    inside = np.minimum(np.maximum(place, 0), size - 1).astype(np.int64)
    return _Tap(inside, (place >= 0) & (place < size), weight, slope)


class _Sample(NamedTuple):
    """What one pixel adds to each place: where it is in the image, and each axis's tap."""

    places: Array
    exists: Array
    taps: tuple[_Tap, ...]


def _samples(
    x: Array,
    grid: Array,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    output_mask: Any = None,  # noqa: ARG001 (a parameter of the backward)
) -> list[_Sample]:
    if interpolation_mode not in (_LINEAR, _NEAREST):
        raise NotImplementedError("a bicubic sample")
    if not np.all(np.isfinite(grid)):
        raise NotImplementedError("a coordinate that is not a number")
    sizes = x.shape[2:]
    # The grid's last axis names the image's last axis first.
    axes = [
        _taps(
            grid[..., len(sizes) - 1 - axis], size, interpolation_mode, padding_mode, align_corners
        )
        for axis, size in enumerate(sizes)
    ]
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) * math.prod(sizes)
    planes = planes.reshape(*x.shape[:2], *(1,) * len(sizes))
    samples = []
    for taps in itertools.product(*axes):
        inside, exists = np.zeros_like(taps[0].place), np.ones_like(taps[0].exists)
        for tap, size in zip(taps, sizes, strict=True):
            inside, exists = inside * size + tap.place, exists & tap.exists
        samples.append(_Sample(planes + inside[:, None], exists[:, None], taps))
    return samples


def _weight(sample: _Sample, *along: int) -> Array:
    """Multiply the weights of all axes, or the slopes along some by the others' weights."""
    total: Any = 1
    for axis, tap in enumerate(sample.taps):
        total = total * (tap.slope if axis in along else tap.weight)
    return np.where(sample.exists, np.expand_dims(total, 1), 0)


def _read(x: Array, sample: _Sample) -> Array:
    return np.take(np.reshape(x, (x.size,)), sample.places)


def _to_image(g: Array, x: Array, samples: list[_Sample]) -> Array:
    parts = accumulate_in_format(np.stack([g * _weight(sample) for sample in samples]))
    return added_up(parts, np.stack([sample.places for sample in samples]), x)


def _to_grid(g: Array, x: Array, samples: list[_Sample]) -> Array:
    axes = []
    for axis in reversed(range(x.ndim - 2)):
        parts = [g * _read(x, sample) * _weight(sample, axis) for sample in samples]
        axes.append(np.sum(accumulate_in_format(np.stack(parts)), axis=(0, 2)))
    return np.stack(axes, axis=-1)


def _moved(u: Array, sample: _Sample, *along: int) -> Any:
    """Return how a weight, or its slope along an axis, moves where the places move by u."""
    total: Any = 0
    for axis in range(len(sample.taps)):
        if axis not in along:  # along its own axis a slope is constant
            step = np.expand_dims(u[..., len(sample.taps) - 1 - axis], 1)
            total = total + step * _weight(sample, axis, *along)
    return total


_WHERE = "interpolation_mode, padding_mode, align_corners"


def _sampler(axes: int, node: str) -> None:
    @rule(
        f"aten.grid_sampler_{axes}d",
        "y = sampled(x, grid, interpolation_mode, padding_mode, align_corners)",
        meaning="gives each pixel the gradients of the places that it was read for, times its "
        "weight there, and each place the gradient times the slope of the image",
        node=node,
        composite=True,
    )
    def grid_sampler(
        x: Array, grid: Array, *, interpolation_mode: int, padding_mode: int, align_corners: bool
    ) -> Array:
        samples = _samples(x, grid, interpolation_mode, padding_mode, align_corners)
        parts = np.stack([_read(x, s) * _weight(s) for s in samples])
        return np.sum(accumulate_in_format(parts), axis=0)

    @grid_sampler.vjp("x", f"to_image(g, x, grid, {_WHERE})")
    def _(g: Array, x: Array, grid: Array, **how: Any) -> Array:
        return _to_image(g, x, _samples(x, grid, **how))

    @grid_sampler.vjp("grid", f"to_grid(g, x, grid, {_WHERE})")
    def _(g: Array, x: Array, grid: Array, **how: Any) -> Array:
        return _to_grid(g, x, _samples(x, grid, **how))


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
        samples = _samples(x, grid, interpolation_mode, padding_mode, align_corners)
        ways = zip((_to_image, _to_grid), output_mask, strict=True)
        return tuple(way(dy, x, samples) if wanted else None for way, wanted in ways)

    @backward.vjp("dy", f"sampled(g[0], grid, {_WHERE}) + sampled_along(g[1], x, grid, {_WHERE})")
    def _(g: Any, x: Array, grid: Array, **how: Any) -> Array:
        of_x, of_grid = _shaped(g, x, grid)
        parts = [
            _read(of_x, s) * _weight(s) + _read(x, s) * _moved(of_grid, s)
            for s in _samples(x, grid, **how)
        ]
        return np.sum(np.stack(parts), axis=0)

    @backward.vjp("x", f"to_image_along(g[1], dy, x, grid, {_WHERE})")
    def _(g: Any, dy: Array, x: Array, grid: Array, **how: Any) -> Array:
        samples = _samples(x, grid, **how)
        _, of_grid = _shaped(g, x, grid)
        parts = np.stack([dy * _moved(of_grid, s) for s in samples])
        return added_up(parts, np.stack([s.places for s in samples]), x)

    @backward.vjp(
        "grid", f"to_grid(dy, g[0], grid, {_WHERE}) + to_grid_along(g[1], dy, x, grid, {_WHERE})"
    )
    def _(g: Any, dy: Array, x: Array, grid: Array, **how: Any) -> Array:
        of_x, of_grid = _shaped(g, x, grid)
        columns = []
        for axis in reversed(range(axes)):
            parts = [
                dy * (_read(of_x, s) * _weight(s, axis) + _read(x, s) * _moved(of_grid, s, axis))
                for s in _samples(x, grid, **how)
            ]
            columns.append(np.sum(np.stack(parts), axis=(0, 2)))
        return np.stack(columns, axis=-1)


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
