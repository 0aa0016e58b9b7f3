"""Regions of images, pooled into bins: of interpolated samples, or of whole pixels.

A region is a row of ``rois``: its image, and its left, upper, right and lower edge, which are
scaled. Samples lie evenly in each bin; what one reads is a product of weights along both axes, so
that the mean of a bin is a product of two matrices with the pixels between them. The
position-sensitive forms read each bin from a channel of its own.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error, is_uncertain, require_certain
from gradwitness.rules.layers.grid_sample import linear_taps
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import added_up, flat, numbered

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class _Bins:
    """The bins of one region along one axis: weights (bins, pixels) of a range of pixels."""

    pixels: slice
    weights: Array


def _sampled_bins(
    low: Array, high: Array, size: int, bins: int, *, ratio: int, scale: Any, aligned: bool
) -> _Bins:
    """Return the weights of a mean over samples between two edges."""
    shift = 0.5 if aligned else 0.0
    start = low * scale - shift
    length = high * scale - shift - start
    if not aligned:
        length = np.maximum(length, 1)
    width = length / bins
    count = ratio if ratio > 0 else int(require_certain(np.ceil(width)))
    if count <= 0:
        return _Bins(slice(0, 0), np.zeros_like(low, shape=(bins, 0)))
    bin_, sample = np.divmod(np.arange(bins * count), count)
    at = start + bin_ * width + (sample + 0.5) * width / count
    plain = ignore_error(at)
    edge = is_uncertain(np.floor(at)) & ((np.abs(plain + 1) < 0.5) | (np.abs(plain - size) < 0.5))
    if np.any(edge):
        raise NotImplementedError("a sample on the edge of what counts, where rounding decides")
    counts = (plain >= -1) & (plain <= size)
    at = np.minimum(np.maximum(at, 0), size - 1)
    taps = linear_taps(at[None], np.ones_like(at)[None], size, 2)
    kept = taps.exists & counts
    weights = np.where(kept, taps.weight, 0)
    if not np.any(kept):
        return _Bins(slice(0, 0), np.zeros_like(low, shape=(bins, 0)))
    first = int(np.min(taps.pixel[kept]))
    span = int(np.max(taps.pixel[kept])) + 1 - first
    place = np.where(kept, bin_ * span + taps.pixel - first, 0)
    total = np.bincount(
        np.ravel(place), weights=np.reshape(weights, (place.size,)), minlength=bins * span
    )
    return _Bins(slice(first, first + span), np.reshape(total, (bins, span)) / count)


def _rounded(edge: Array, scale: Any) -> int:
    """Return a scaled edge as a whole pixel: halves go away from 0."""
    scaled = edge * scale
    whole = int(require_certain(np.floor(np.absolute(scaled) + 0.5)))
    return -whole if ignore_error(scaled) < 0 else whole


def _ranges(low: Array, high: Array, size: int, bins: int, *, scale: Any, last: int) -> list[slice]:
    """Return the pixels of each bin of whole ones, as kernels round their ends."""
    start = _rounded(low, scale)
    length = max(_rounded(high, scale) - start + last, 1)
    ends = []
    for kind in (np.float32, np.float64):
        step: Any = np.arange(bins + 1).astype(kind)
        width = kind(length) / kind(bins)
        found = np.stack([np.floor(step[:-1] * width), np.ceil(step[1:] * width)])
        ends.append(np.clip(found + start, 0, size).astype(np.int64))
    if not np.array_equal(*ends):
        raise NotImplementedError("a bin whose pixels depend on rounding")
    return [slice(int(begin), int(end)) for begin, end in ends[0].T]


def _whole_bins(low: Array, high: Array, size: int, bins: int, *, scale: Any) -> _Bins:
    """Return 1 for the pixels of each bin.

    The forward kernel leaves the image's last row and column out. (Its backward does not.)
    """
    weights = np.zeros((bins, size))
    for bin_, pixels in enumerate(_ranges(low, high, size - 1, bins, scale=scale, last=0)):
        weights[bin_, pixels] = 1
    return _Bins(slice(0, size), weights)


def _regions(rois: Array, x: Shaped, bins: tuple[int, int], of: Callable[..., Any]) -> list[Any]:
    """Return each region's image, and what a function makes of its edges along both axes."""
    rows = [rois[region] for region in range(len(rois))]
    return [
        (
            int(ignore_error(roi[0])),
            *(of(roi[2 - k], roi[4 - k], x.shape[2 + k], bins[k]) for k in (0, 1)),
        )
        for roi in rows
    ]


def _stacked(parts: list[Array], like: Array, shape: tuple[int, ...]) -> Array:
    return np.stack(parts) if parts else np.zeros_like(like, shape=(0, *shape))


def _given_back(regions: list[Any], parts: list[Array], x: Shaped, g: Array) -> Array:
    """Add up, for each pixel, its parts of all regions, in one sum."""
    if not parts:
        return np.zeros_like(g, shape=x.shape)
    numbers = numbered(x)
    places = [
        np.ravel(numbers[image][:, rows.pixels, columns.pixels]) for image, rows, columns in regions
    ]
    return added_up(np.concatenate([flat(part) for part in parts]), np.concatenate(places), x)


@rule(
    "torchvision.roi_align",
    "y = align_regions(x, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, "
    "aligned)",
    meaning="gives each pixel the gradients of the bins that have samples near it, times its "
    "weight in their mean",
    composite=True,
)
def roi_align(
    x: Array,
    rois: Array,
    *,
    spatial_scale: Any,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    bins = (pooled_height, pooled_width)
    of = functools.partial(
        _sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=aligned
    )
    parts = [
        rows.weights @ x[image][:, rows.pixels, columns.pixels] @ np.swapaxes(columns.weights, 0, 1)
        for image, rows, columns in _regions(rois, x, bins, of)
    ]
    return _stacked(parts, x, (x.shape[1], *bins))


@roi_align.vjp(
    "x",
    "to_aligned(g, x, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)",
)
def _(
    g: Array,
    x: Shaped,
    rois: Array,
    *,
    spatial_scale: Any,
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    of = functools.partial(
        _sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=aligned
    )
    regions = _regions(rois, x, g.shape[2:], of)
    parts = [
        np.swapaxes(rows.weights, 0, 1) @ g[region] @ columns.weights
        for region, (_, rows, columns) in enumerate(regions)
    ]
    return _given_back(regions, parts, x, g)


roi_align.constant_in("rois")


@rule(
    "torchvision.roi_pool",
    "y = max_regions(x, rois, spatial_scale, pooled_height, pooled_width)",
    meaning="gives each bin's gradient to its largest pixel, whose index the forward pass returned",
)
def roi_pool(
    x: Array, rois: Array, *, spatial_scale: Any, pooled_height: int, pooled_width: int
) -> tuple[Array, Array]:
    bins = (pooled_height, pooled_width)
    of = functools.partial(_ranges, scale=spatial_scale, last=1)
    regions = _regions(rois, x, bins, of)
    values = np.zeros_like(x, shape=(len(regions), x.shape[1], *bins))
    places = np.full(values.shape, -1)
    numbers = np.reshape(np.arange(math.prod(x.shape[2:])), x.shape[2:])
    for region, (image, rows, columns) in enumerate(regions):
        for at in np.ndindex(*bins):
            inside = (slice(None), rows[at[0]], columns[at[1]])
            items = x[image][inside]
            if items.size:
                items = np.reshape(items, (x.shape[1], -1))
                best = np.argmax(items, axis=1)
                values[(region, slice(None), *at)] = items[np.arange(x.shape[1]), best]
                places[(region, slice(None), *at)] = np.ravel(numbers[inside[1:]])[best]
    return values, places


@roi_pool.vjp("x", "to_largest_pixels(g[0], y[1], x, rois)")
def _(g: Any, y1: Array, x: Shaped, rois: Array) -> Array:
    images = ignore_error(rois)[:, 0].astype(np.int64)
    planes = np.reshape(numbered(x), (*x.shape[:2], math.prod(x.shape[2:])))[images]
    index = np.reshape(y1, (*y1.shape[:2], math.prod(y1.shape[2:])))
    places = np.take_along_axis(planes, np.maximum(index, 0), axis=2)
    return added_up(np.where(y1 < 0, 0, g[0]), places, x)


roi_pool.constant_in("rois")


def _own_channels(x: Array, bins: tuple[int, int]) -> Array:
    """Return channels by result and bin: (results, bins along both axes, pixels)."""
    return np.reshape(x, (x.shape[0] // math.prod(bins), *bins, *x.shape[1:]))


def _channels(regions: list[Any], x: Shaped, bins: tuple[int, int]) -> Array:
    """Return the channel that each result is of."""
    numbers = np.reshape(np.arange(x.shape[1]), (1, x.shape[1] // math.prod(bins), *bins))
    return np.repeat(numbers, len(regions), axis=0)


def _weighed(x: Array, regions: list[Any], bins: tuple[int, int]) -> Array:
    """Return the sum of each bin's pixels in its own channel, times their weights."""
    parts = []
    for image, rows, columns in regions:
        pixels = _own_channels(x[image][:, rows.pixels, columns.pixels], bins)
        lines = np.einsum("cpqhw,ph->cpqw", pixels, rows.weights)
        parts.append(np.einsum("cpqw,qw->cpq", lines, columns.weights))
    return _stacked(parts, x, (x.shape[1] // math.prod(bins), *bins))


def _spread(g: Array, regions: list[Any], x: Shaped) -> Array:
    """Give each pixel of a bin's own channel the bin's gradient, times its weight."""
    parts = [
        g[region][..., None, None] * (rows.weights[:, None, :, None] * columns.weights[:, None])
        for region, (_, rows, columns) in enumerate(regions)
    ]
    return _given_back(regions, parts, x, g)


@rule(
    "torchvision.ps_roi_align",
    "y = align_regions_by_channel(x, rois, spatial_scale, pooled_height, pooled_width, "
    "sampling_ratio)",
    meaning="gives each pixel of a bin's own channel the bin's gradient, times its weight in the "
    "mean of the samples",
    composite=True,
)
def ps_roi_align(
    x: Array,
    rois: Array,
    *,
    spatial_scale: Any,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> tuple[Array, Array]:
    bins = (pooled_height, pooled_width)
    of = functools.partial(_sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=True)
    regions = _regions(rois, x, bins, of)
    return _weighed(x, regions, bins), _channels(regions, x, bins)


@ps_roi_align.vjp(
    "x",
    "to_aligned_by_channel(g[0], x, rois, spatial_scale, pooled_height, pooled_width, "
    "sampling_ratio)",
)
def _(g: Any, x: Shaped, rois: Array, *, spatial_scale: Any, sampling_ratio: int) -> Array:
    of = functools.partial(_sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=True)
    return _spread(g[0], _regions(rois, x, g[0].shape[2:], of), x)


ps_roi_align.constant_in("rois")


def _areas(regions: list[Any]) -> Array:
    """Return the number of pixels of each bin, 1 where there is none: (regions, 1, bins)."""
    sizes = [
        np.outer(np.sum(rows.weights, axis=1), np.sum(columns.weights, axis=1))
        for _, rows, columns in regions
    ]
    return np.maximum(np.stack(sizes), 1)[:, None] if sizes else 1.0


@rule(
    "torchvision.ps_roi_pool",
    "y = mean_regions_by_channel(x, rois, spatial_scale, pooled_height, pooled_width)",
    meaning="divides each bin's gradient by its size, and adds it to the pixels of the bin in "
    "its own channel",
    composite=True,
)
def ps_roi_pool(
    x: Array, rois: Array, *, spatial_scale: Any, pooled_height: int, pooled_width: int
) -> tuple[Array, Array]:
    bins = (pooled_height, pooled_width)
    regions = _regions(rois, x, bins, functools.partial(_whole_bins, scale=spatial_scale))
    return _weighed(x, regions, bins) / _areas(regions), _channels(regions, x, bins)


@ps_roi_pool.vjp(
    "x",
    "to_mean_by_channel(g[0], x, rois, spatial_scale, pooled_height, pooled_width)",
)
def _(g: Any, x: Shaped, rois: Array, *, spatial_scale: Any) -> Array:
    of = functools.partial(_whole_bins, scale=spatial_scale)
    regions = _regions(rois, x, g[0].shape[2:], of)
    return _spread(g[0] / _areas(regions), regions, x)


ps_roi_pool.constant_in("rois")
