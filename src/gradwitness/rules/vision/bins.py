"""The bins that regions of images are cut into: what each takes of the pixels along an axis.

Edges and widths are as kernels round them, wherever there is one way only to round: a scaled edge
is, and so is its difference from another. A product that half a pixel is taken from may be fused
with that, unless the scale is a power of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import (
    has_format,
    ignore_error,
    is_uncertain,
    require_certain,
    rounded_once,
    stored,
)
from gradwitness.rules.layers.grid_sample import Taps, linear_taps

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.rules.registry import Array, Shaped


@dataclass(frozen=True)
class Bins:
    """The bins of one region along one axis: weights (bins, pixels) of a range of pixels.

    ``terms`` says how often a kernel adds each pixel to each bin, and ``samples`` how many samples,
    or pixels, each bin has.
    """

    pixels: slice
    weights: Array
    terms: Array
    samples: Array


@dataclass(frozen=True)
class Region:
    """One region: its image, and its bins along both axes."""

    image: int
    rows: Bins
    columns: Bins

    @property
    def window(self) -> tuple[Any, ...]:
        """The pixels that it takes of the image's planes."""
        return (..., self.rows.pixels, self.columns.pixels)

    @property
    def samples(self) -> Array:
        """How many samples, or pixels, each bin has."""
        return np.multiply.outer(self.rows.samples, self.columns.samples)


def regions(
    rois: Array, x: Shaped, bins: tuple[int, int], of: Callable[..., list[Bins]]
) -> list[Region]:
    """Return each region, with what a function makes of all edges along each axis."""
    images = ignore_error(rois)[:, 0].astype(np.int64)
    along = [of(rois[:, 2 - k], rois[:, 4 - k], x.shape[2 + k], bins[k]) for k in (0, 1)]
    return [Region(int(image), *both) for image, *both in zip(images, *along, strict=True)]


def _scaled(low: Array, high: Array, scale: Any, shift: float) -> tuple[Array, Array]:
    """Return both edges in pixels, less a shift."""
    number = ignore_error(scale)
    is_power = math.frexp(float(number))[0] == 0.5
    known = rounded_once if is_power or shift == 0 else stored
    edges = [known(edge * number, edge) for edge in (low, high)]
    start, end = (rounded_once(edge - shift, edge) for edge in edges)
    return start, end


def sampled_bins(
    low: Array, high: Array, size: int, bins: int, *, ratio: int, scale: Any, aligned: bool
) -> list[Bins]:
    """Return the weights of the mean over samples, which lie evenly between two edges."""
    start, end = _scaled(low, high, scale, 0.5 if aligned else 0.0)
    length = rounded_once(end - start, start)
    if not aligned:
        length = np.maximum(length, 1)
    width = rounded_once(length / bins, length)
    shared = np.full(len(low), ratio)
    counts = shared if ratio > 0 else require_certain(np.ceil(width)).astype(np.int64)
    found: dict[int, Bins] = {}
    for count in map(int, np.unique(counts)):
        which = np.flatnonzero(counts == count)
        made = _with_samples(start[which], width[which], size, bins, count)
        found.update(zip(which.tolist(), made, strict=True))
    return [found[region] for region in range(len(low))]


def _with_samples(start: Array, width: Array, size: int, bins: int, count: int) -> list[Bins]:
    """Return the bins of regions with so many samples in each."""
    if count <= 0:
        of_none = Bins(
            slice(0, 0), np.zeros((bins, 0)), np.zeros((bins, 0), int), np.full(bins, count)
        )
        return [of_none] * len(start)
    bin_, sample = np.divmod(np.arange(bins * count), count)
    start, width = start[:, None], width[:, None]
    begun = stored(start + stored(bin_ * width, width), width)
    within = stored(stored((sample + 0.5) * width, width) / count, width)
    at = stored(begun + within, begun)
    plain = ignore_error(at)
    edge = is_uncertain(np.floor(at)) & ((np.abs(plain + 1) < 0.5) | (np.abs(plain - size) < 0.5))
    if np.any(edge):
        raise NotImplementedError("a sample on the edge of what counts, where rounding decides")
    at = np.minimum(np.maximum(at, 0), size - 1)
    taps = linear_taps(at, np.ones_like(at), size, 2)
    counts = (plain >= -1) & (plain <= size)
    return _gathered(taps, counts[:, None], bin_, bins, count)


def _gathered(taps: Taps, counts: Array, bin_: Array, bins: int, count: int) -> list[Bins]:
    """Add up the weights of each pixel in each bin, of the samples that count."""
    kept = taps.exists & counts
    first = np.min(np.where(kept, taps.pixel, np.iinfo(np.int64).max), axis=(1, 2))
    past = np.max(np.where(kept, taps.pixel + 1, 0), axis=(1, 2))
    spans = np.maximum(past - first, 0)
    span = int(np.max(spans, initial=0))
    region = np.arange(len(spans))[:, None, None]
    places = (region * bins + bin_) * span + taps.pixel - first[:, None, None]
    # What does not count goes behind the last of them.
    size = len(spans) * bins * span
    places = np.ravel(np.where(kept, places, size))
    shape = (len(spans), bins, span)
    weights = np.bincount(places, weights=np.reshape(taps.weight, places.shape), minlength=size + 1)
    means = np.reshape(weights[:size], shape) / count
    terms = np.reshape(np.bincount(places, minlength=size + 1)[:size], shape)
    return [
        Bins(
            slice(int(first[n]), int(past[n])) if spans[n] else slice(0, 0),
            means[n, :, : spans[n]],
            terms[n, :, : spans[n]],
            np.full(bins, count),
        )
        for n in range(len(spans))
    ]


def _rounded(edge: Array, scale: Any) -> Array:
    """Return scaled edges as whole pixels: halves go away from 0."""
    scaled = rounded_once(edge * ignore_error(scale), edge)
    halves = require_certain(np.floor(2 * np.absolute(scaled)))
    return np.copysign((halves + 1) // 2, ignore_error(scaled))


def whole_ranges(low: Array, high: Array, size: int, bins: int, *, scale: Any, last: int) -> Array:
    """Return the pixels of each region's bins, (regions, bins, both ends), as kernels round them.

    A region has its last pixel, or ends before it.
    """
    start = _rounded(low, scale)
    length = np.maximum(_rounded(high, scale) - start + last, 1)[:, None]
    ends = _ends(rounded_once(length + np.zeros_like(low)[:, None], length), bins)
    # The float64 replay has to take the pixels that were taken in another format.
    if not (has_format(low) or np.array_equal(ends, _ends(length.astype(np.float32), bins))):
        raise NotImplementedError("a bin whose pixels depend on rounding")
    return np.clip(ends + start[:, None, None], 0, size).astype(np.int64)


def _ends(length: Array, bins: int) -> Array:
    """Return where bins of lengths begin and end, in the format of the lengths."""
    width = rounded_once(length / bins, length)
    steps = np.arange(bins + 1, dtype=length.dtype)
    begin, end = (rounded_once(step * width, width) for step in (steps[:-1], steps[1:]))
    return np.stack([require_certain(np.floor(begin)), require_certain(np.ceil(end))], axis=-1)


def whole_bins(low: Array, high: Array, size: int, bins: int, *, scale: Any) -> list[Bins]:
    """Return 1 for the pixels of each bin.

    The forward kernel leaves the image's last row and column out. (Its backward does not.)
    """
    found = []
    for ends in whole_ranges(low, high, size - 1, bins, scale=scale, last=0):
        kept = ends[ends[:, 1] > ends[:, 0]]
        first, past = (int(np.min(kept)), int(np.max(kept))) if kept.size else (0, 0)
        pixel = np.arange(first, past)
        inside = (pixel >= ends[:, :1]) & (pixel < ends[:, 1:])
        found.append(Bins(slice(first, past), inside * 1.0, inside * 1, np.sum(inside, axis=1)))
    return found
