"""Regions of images, pooled into bins: of interpolated samples, or of whole pixels.

A region is a row of ``rois``: its image, and its left, upper, right and lower edge, which are
scaled. What a bin takes of a pixel is a product of weights along both axes, so that a region's bins
are a product of two matrices with the pixels between them. The position-sensitive forms read each
bin from a channel of its own. Kernels add up sample after sample: their roundings are counted so.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import added_in_windows, ignore_error, weighed
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import added_up
from gradwitness.rules.vision.bins import Region, regions, sampled_bins, whole_bins, whole_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of a sample: the product with its weight, which itself is one, three sums and the division.
_OF_SAMPLE = 5


def _finite(x: Array) -> Array:
    """Return numbers that a weight of 0 leaves out."""
    if not np.all(np.isfinite(ignore_error(x))):
        raise NotImplementedError("regions with numbers that are not finite")
    return x


def _stacked(parts: list[Array], like: Array, shape: tuple[int, ...]) -> Array:
    return np.stack(parts) if parts else np.zeros_like(like, shape=(0, *shape))


def _times_added(found: list[Region], x: Shaped) -> Array:
    """Return how many samples are added to each pixel of each image: (images, rows, columns)."""
    times = np.zeros((x.shape[0], *x.shape[2:]), dtype=np.int64)
    for region in found:
        of_rows, of_columns = (np.sum(of.terms, axis=0) for of in (region.rows, region.columns))
        times[region.image][region.window] += np.outer(of_rows, of_columns)
    return times


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
    of = functools.partial(sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=aligned)
    parts = [
        weighed(
            _finite(x[region.image][region.window]),
            region.rows.weights,
            region.columns.weights,
            np.maximum(region.samples, 0) + _OF_SAMPLE,
        )
        for region in regions(rois, x, bins, of)
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
    of = functools.partial(sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=aligned)
    found = regions(rois, x, g.shape[2:], of)
    roundings = _times_added(found, x) + _OF_SAMPLE

    def parts() -> Iterable[tuple[Any, Array]]:
        for number, region in enumerate(found):
            part = weighed(
                _finite(g[number]),
                np.swapaxes(region.rows.weights, 0, 1),
                np.swapaxes(region.columns.weights, 0, 1),
                roundings[region.image][region.window],
            )
            yield (region.image, *region.window), part

    return added_in_windows(g, parts=parts(), shape=x.shape)


roi_align.constant_in("rois")


# What a bin of pixels holds none of which is above it.
_LEAST = -float(np.finfo(np.float32).max)


@rule(
    "torchvision.roi_pool",
    "y = max_regions(x, rois, spatial_scale, pooled_height, pooled_width)",
    meaning="gives each bin's gradient to its largest pixel, whose index the forward pass returned",
    composite=True,
)
def roi_pool(
    x: Array, rois: Array, *, spatial_scale: Any, pooled_height: int, pooled_width: int
) -> tuple[Array, Array]:
    bins, image = (pooled_height, pooled_width), ignore_error(rois)[:, 0].astype(np.int64)
    along = [
        whole_ranges(
            rois[:, 2 - k], rois[:, 4 - k], x.shape[2 + k], bins[k], scale=spatial_scale, last=1
        )
        for k in (0, 1)
    ]
    values = np.zeros_like(x, shape=(len(image), x.shape[1], *bins))
    places = np.full(values.shape, -1)
    for region, (rows, columns) in enumerate(zip(*along, strict=True)):
        pixels = x[image[region]]
        places[region], least = _largest(ignore_error(pixels), rows, columns)
        index = np.reshape(np.maximum(places[region], 0), (x.shape[1], math.prod(bins)))
        plane = np.reshape(pixels, (x.shape[1], math.prod(x.shape[2:])))
        best = np.reshape(np.take_along_axis(plane, index, axis=1), values.shape[1:])
        values[region] = np.where(places[region] < 0, least, best)
    return values, places


def _largest(x: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Return the place of each bin's largest pixel, row after row the first, or -1; and what then.

    Of each row the largest of each bin's columns, and of those the largest of each bin's rows.
    """
    first = min(int(np.min(rows)), x.shape[1] - 1)
    near = x[:, first : max(int(np.max(rows)), first + 1)]
    lines, at = _best(np.where(near > _LEAST, near, _LEAST), columns)
    over_rows = _best(np.swapaxes(lines, 1, 2), rows - first)
    best, row = (np.swapaxes(found, 1, 2) for found in over_rows)
    place = (first + row) * x.shape[2] + np.take_along_axis(at, row, axis=1)
    holds = np.logical_and.outer(*(ends[:, 1] > ends[:, 0] for ends in (rows, columns)))
    return np.where(holds & (best > _LEAST), place, -1), np.where(holds, _LEAST, 0)


def _best(x: Array, bins: Array) -> tuple[Array, Array]:
    """Return the largest of each range along the last axis, and where the first of them is."""
    where = np.stack(
        [
            begin + np.argmax(x[..., begin:end], axis=-1) if end > begin else np.zeros(x.shape[:-1])
            for begin, end in bins
        ],
        axis=-1,
    ).astype(np.int64)
    return np.take_along_axis(x, where, axis=-1), where


@roi_pool.vjp("x", "to_largest_pixels(g[0], y[1], x, rois)")
def _(g: Any, y1: Array, x: Shaped, rois: Array) -> Array:
    images = ignore_error(rois)[:, 0].astype(np.int64)
    planes = images[:, None] * x.shape[1] + np.arange(x.shape[1])
    places = planes[..., None, None] * math.prod(x.shape[2:]) + np.maximum(y1, 0)
    return added_up(np.where(y1 < 0, 0, g[0]), places, x)


roi_pool.constant_in("rois")


def _own_channels(x: Array, bins: tuple[int, int]) -> Array:
    """Return channels by result and bin: (images, results, bins along both axes, pixels)."""
    return np.reshape(x, (len(x), x.shape[1] // math.prod(bins), *bins, *x.shape[2:]))


def _channels(found: list[Region], x: Shaped, bins: tuple[int, int]) -> Array:
    """Return the channel that each result is of."""
    numbers = np.reshape(np.arange(x.shape[1]), (1, x.shape[1] // math.prod(bins), *bins))
    return np.repeat(numbers, len(found), axis=0)


def _weighed(x: Array, found: list[Region], bins: tuple[int, int], further: int) -> Array:
    """Return the sum of each bin's pixels in its own channel, times their weights.

    It takes a rounding for each sample or pixel of the bin, and further ones.
    """
    own = _own_channels(x, bins)
    parts = [
        weighed(
            _finite(own[region.image][region.window]),
            region.rows.weights[:, None, None],
            region.columns.weights[:, None],
            np.maximum(region.samples + further, 0)[..., None, None],
        )[..., 0, 0]
        for region in found
    ]
    return _stacked(parts, x, (x.shape[1] // math.prod(bins), *bins))


def _spread(g: Array, found: list[Region], x: Shaped, further: int) -> Array:
    """Give each pixel of a bin's own channel the bin's gradient, times its weight.

    It takes a rounding for each of them that is added, and further ones.
    """
    bins = g.shape[2:]
    shape = (x.shape[0], g.shape[1], *bins, *x.shape[2:])
    times = np.zeros((x.shape[0], *bins, *x.shape[2:]), dtype=np.int64)
    for region in found:
        terms = region.rows.terms[:, None, :, None] * region.columns.terms[:, None]
        times[region.image][region.window] += terms
    roundings = np.maximum(times + further, 0)

    def parts() -> Iterable[tuple[Any, Array]]:
        for number, region in enumerate(found):
            part = weighed(
                _finite(g[number])[..., None, None],
                region.rows.weights[:, None, :, None],
                region.columns.weights[..., None],
                roundings[region.image][region.window],
            )
            yield (region.image, *region.window), part

    return np.reshape(added_in_windows(g, parts=parts(), shape=shape), x.shape)


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
    of = functools.partial(sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=True)
    found = regions(rois, x, bins, of)
    y = _weighed(x, found, bins, _OF_SAMPLE)
    if found:
        # The mean of no samples is 0 / 0.
        y = np.where(np.stack([region.samples == 0 for region in found])[:, None], np.nan, y)
    return y, _channels(found, x, bins)


@ps_roi_align.vjp(
    "x",
    "to_aligned_by_channel(g[0], x, rois, spatial_scale, pooled_height, pooled_width, "
    "sampling_ratio)",
)
def _(g: Any, x: Shaped, rois: Array, *, spatial_scale: Any, sampling_ratio: int) -> Array:
    of = functools.partial(sampled_bins, ratio=sampling_ratio, scale=spatial_scale, aligned=True)
    return _spread(g[0], regions(rois, x, g[0].shape[2:], of), x, _OF_SAMPLE)


ps_roi_align.constant_in("rois")


def _areas(found: list[Region]) -> Array:
    """Return the number of pixels of each bin, 1 where there is none: (regions, 1, bins)."""
    return np.maximum(np.stack([region.samples for region in found]), 1)[:, None] if found else 1.0


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
    found = regions(rois, x, bins, functools.partial(whole_bins, scale=spatial_scale))
    return _weighed(x, found, bins, -1) / _areas(found), _channels(found, x, bins)


@ps_roi_pool.vjp(
    "x",
    "to_mean_by_channel(g[0], x, rois, spatial_scale, pooled_height, pooled_width)",
)
def _(g: Any, x: Shaped, rois: Array, *, spatial_scale: Any) -> Array:
    found = regions(rois, x, g[0].shape[2:], functools.partial(whole_bins, scale=spatial_scale))
    return _spread(g[0] / _areas(found), found, x, -1)


ps_roi_pool.constant_in("rois")
