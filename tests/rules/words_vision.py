"""Words of the formulas of regions and deformed convolutions, place after place.

All is computed in the format of the operands and in the order of torchvision's kernels. Nothing
here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any


def _samples(
    low: Plain, high: Plain, scale: float, bins: int, ratio: int, aligned: bool
) -> tuple[int, list[list[Plain]]]:
    """How many samples a bin has along an axis, and where those of each bin lie."""
    kind = low.dtype.type
    shift = kind(0.5 if aligned else 0)
    start, end = low * kind(scale) - shift, high * kind(scale) - shift
    length = end - start if aligned else max(end - start, kind(1))
    width = length / kind(bins)
    count = ratio if ratio > 0 else math.ceil(width)
    places = [
        [start + kind(b) * width + kind(i + 0.5) * width / kind(count) for i in range(count)]
        for b in range(bins)
    ]
    return count, places


def _beside(at: Plain, size: int) -> list[tuple[int, Plain]]:
    """The pixels beside a sample, with their weights; none if it lies far outside."""
    kind = type(at)
    if not -1 <= at <= size:
        return []
    at = max(at, kind(0))
    low = int(at)
    if low >= size - 1:
        return [(size - 1, kind(1))]
    past = at - kind(low)
    return [(low, kind(1) - past), (low + 1, past)]


def _read(x: Plain, rois: Plain, how: tuple[Any, ...]) -> Iterator[Any]:
    """For each bin of each region: both, its image and count, and for each sample its pixels."""
    scale, height, width, ratio, aligned = how
    for r, roi in enumerate(rois):
        rows, columns = (
            _samples(roi[2 - k], roi[4 - k], scale, bins, ratio, aligned)
            for k, bins in ((0, height), (1, width))
        )
        for p, q in np.ndindex(height, width):
            pairs = itertools.product(rows[1][p], columns[1][q])
            near = [(_beside(v, x.shape[2]), _beside(u, x.shape[3])) for v, u in pairs]
            taps = [[(i, j, a * b) for i, a in down for j, b in across] for down, across in near]
            yield r, int(roi[0]), p, q, rows[0] * columns[0], taps


def align_regions(x: Plain, rois: Plain, *how: Any) -> Plain:
    y = np.zeros((len(rois), x.shape[1], *how[1:3]), x.dtype)
    for r, n, p, q, count, taps in _read(x, rois, how):
        for sample in taps:
            y[r, :, p, q] += sum(w * x[n, :, i, j] for i, j, w in sample)
        y[r, :, p, q] /= x.dtype.type(max(count, 1))
    return y


def to_aligned(g: Plain, x: Plain, rois: Plain, *how: Any) -> Plain:
    dx = np.zeros(x.shape, g.dtype)
    for r, n, p, q, count, taps in _read(x, rois, how):
        for i, j, w in itertools.chain(*taps):
            dx[n, :, i, j] += g[r, :, p, q] * w / g.dtype.type(count)
    return dx


def _channels(rois: Plain, channels: int, height: int, width: int) -> Plain:
    one = np.arange(channels, dtype=np.int32).reshape(-1, height, width)
    return np.stack([one] * len(rois)) if len(rois) else one[None][:0]


def align_regions_by_channel(x: Plain, rois: Plain, *how: Any) -> Plain:
    height, width = how[1:3]
    mapping = _channels(rois, x.shape[1], height, width)
    y = np.zeros(mapping.shape, x.dtype)
    for r, n, p, q, count, taps in _read(x, rois, (*how, True)):
        own = x[n, p * width + q :: height * width]
        for sample in taps:
            y[r, :, p, q] += sum(w * own[:, i, j] for i, j, w in sample)
        with np.errstate(invalid="ignore"):
            y[r, :, p, q] /= x.dtype.type(count)
    return y, mapping


def to_aligned_by_channel(g: Plain, x: Plain, rois: Plain, *how: Any) -> Plain:
    height, width = how[1:3]
    dx = np.zeros(x.shape, g.dtype)
    for r, n, p, q, count, taps in _read(x, rois, (*how, True)):
        for i, j, w in itertools.chain(*taps):
            dx[n, p * width + q :: height * width, i, j] += g[r, :, p, q] * w / g.dtype.type(count)
    return dx


def _away_from_zero(number: Plain) -> int:
    return int(math.copysign(math.floor(abs(float(number)) + 0.5), float(number)))


def _whole(low: Plain, high: Plain, scale: float, bins: int, size: int, last: int) -> Plain:
    """The pixels of each bin along an axis."""
    kind = low.dtype.type
    start, end = (_away_from_zero(edge * kind(scale)) for edge in (low, high))
    width = kind(max(end - start + last, 1)) / kind(bins)
    ends = [(math.floor(kind(b) * width), math.ceil(kind(b + 1) * width)) for b in range(bins)]
    return [[min(max(start + at, 0), size) for at in pair] for pair in ends]


def _cut(x: Plain, rois: Plain, how: tuple[Any, ...], last: int, less: int) -> Iterator[Any]:
    """For each bin of each region: both, its image, and the ends of its rows and columns."""
    scale, height, width = how
    for r, roi in enumerate(rois):
        rows, columns = (
            _whole(roi[2 - k], roi[4 - k], scale, bins, x.shape[2 + k] - less, last)
            for k, bins in ((0, height), (1, width))
        )
        for p, q in np.ndindex(height, width):
            yield r, int(roi[0]), p, q, range(*rows[p]), range(*columns[q])


def max_regions(x: Plain, rois: Plain, *how: Any) -> Plain:
    y = np.zeros((len(rois), x.shape[1], *how[1:]), x.dtype)
    index = np.full(y.shape, -1, np.int32)
    for r, n, p, q, rows, columns in _cut(x, rois, how, 1, 0):
        for c in range(x.shape[1]):
            pixels = [(x[n, c, i, j], -i * x.shape[3] - j) for i in rows for j in columns]
            if pixels:
                y[r, c, p, q], place = max(pixels)
                index[r, c, p, q] = -place
    return y, index


def to_largest_pixels(g: Plain, index: Plain, x: Plain, rois: Plain) -> Plain:
    dx = np.zeros(x.shape, g.dtype)
    for at in np.ndindex(index.shape):
        if index[at] >= 0:
            dx[int(rois[at[0], 0]), at[1]].flat[index[at]] += g[at]
    return dx


def mean_regions_by_channel(x: Plain, rois: Plain, *how: Any) -> Plain:
    height, width = how[1:]
    mapping = _channels(rois, x.shape[1], height, width)
    y = np.zeros(mapping.shape, x.dtype)
    for r, n, p, q, rows, columns in _cut(x, rois, how, 0, 1):
        for i, j in itertools.product(rows, columns):
            y[r, :, p, q] += x[n, p * width + q :: height * width, i, j]
        y[r, :, p, q] /= x.dtype.type(max(len(rows) * len(columns), 1))
    return y, mapping


def to_mean_by_channel(g: Plain, x: Plain, rois: Plain, *how: Any) -> Plain:
    height, width = how[1:]
    dx = np.zeros(x.shape, g.dtype)
    for r, n, p, q, rows, columns in _cut(x, rois, how, 0, 1):
        for i, j in itertools.product(rows, columns):
            part = g[r, :, p, q] / g.dtype.type(len(rows) * len(columns))
            dx[n, p * width + q :: height * width, i, j] += part
    return dx


def _hats(at: Plain, size: int) -> list[tuple[int, Plain, int]]:
    """The pixels beside a place: number, weight and slope of the weight."""
    kind, low = type(at), math.floor(at)
    past = at - kind(low)
    pixels = [(low, kind(1) - past, -1), (low + 1, past, 1)]
    return [pixel for pixel in pixels if 0 <= pixel[0] < size]


def _moved(
    x: Plain, weight: Plain, offset: Plain, walk: list[int], offset_groups: int
) -> Iterator[Any]:
    """For each place: image, number in the mask, place in kernel and result, channels, pixels."""
    stride, pad, dilation = walk[:2], walk[2:4], walk[4:6]
    kind, share = offset.dtype.type, x.shape[1] // offset_groups
    for n, k, *kernel, o, p in np.ndindex(
        len(x), offset_groups, *weight.shape[2:], *offset.shape[2:]
    ):
        number = (k * weight.shape[2] + kernel[0]) * weight.shape[3] + kernel[1]
        rows, columns = (
            _hats(kind(out * s - b + i * d) + offset[n, 2 * number + axis, o, p], x.shape[2 + axis])
            for axis, (out, s, b, i, d) in enumerate(
                zip((o, p), stride, pad, kernel, dilation, strict=True)
            )
        )
        taps = list(itertools.product(rows, columns))
        yield n, number, kernel, (o, p), range(k * share, (k + 1) * share), taps


def _group(c: int, x: Plain, weight: Plain, groups: int) -> tuple[slice, int]:
    """The results that a channel counts for, and which of their channels it is."""
    outs, share = len(weight) // groups, x.shape[1] // groups
    return slice(c // share * outs, (c // share + 1) * outs), c % share


def deformed_conv(
    x: Plain, weight: Plain, offset: Plain, mask: Plain, bias: Plain, *how: Any
) -> Plain:
    *walk, groups, offset_groups, use_mask = how
    y = np.zeros((len(x), len(weight), *offset.shape[2:]), x.dtype)
    for n, m, (i, j), (o, p), channels, taps in _moved(x, weight, offset, walk, offset_groups):
        for c in channels:
            read = sum(a * b * x[n, c, r, s] for (r, a, _), (s, b, _) in taps)
            outs, own = _group(c, x, weight, groups)
            read = mask[n, m, o, p] * read if use_mask else read
            y[n, outs, o, p] += weight[outs, own, i, j] * x.dtype.type(read)
    return y + bias[:, None, None]


def to_deformed(g: Plain, x: Plain, weight: Plain, offset: Plain, mask: Plain, *how: Any) -> Plain:
    *walk, groups, offset_groups, use_mask = how
    kind = g.dtype.type
    dx, dw, do, dm = (np.zeros(operand.shape, kind) for operand in (x, weight, offset, mask))
    for n, m, (i, j), (o, p), channels, taps in _moved(x, weight, offset, walk, offset_groups):
        factor = mask[n, m, o, p] if use_mask else kind(1)
        for c in channels:
            outs, own = _group(c, x, weight, groups)
            back = np.sum(g[n, outs, o, p] * weight[outs, own, i, j], dtype=kind)
            read = kind(0)
            for (r, a, along), (s, b, across) in taps:
                pixel = x[n, c, r, s]
                read += a * b * pixel
                dx[n, c, r, s] += factor * (a * b) * back
                do[n, 2 * m, o, p] += factor * (kind(along) * b * pixel) * back
                do[n, 2 * m + 1, o, p] += factor * (a * kind(across) * pixel) * back
            dw[outs, own, i, j] += g[n, outs, o, p] * (factor * read)
            if use_mask:
                dm[n, m, o, p] += back * read
    return dx, dw, do, dm


def kept_boxes(boxes: Plain, scores: Plain, iou_threshold: float) -> Plain:
    kept: list[int] = []
    for box in np.argsort(-scores, kind="stable"):
        x, y, right, low = (float(edge) for edge in boxes[box])
        for other in kept:
            a, b, c, d = (float(edge) for edge in boxes[other])
            both = max(min(right, c) - max(x, a), 0) * max(min(low, d) - max(y, b), 0)
            if both > iou_threshold * ((right - x) * (low - y) + (c - a) * (d - b) - both):
                break
        else:
            kept.append(int(box))
    return np.array(kept, np.int64)


VISION: dict[str, Any] = {
    word.__name__: word
    for word in (
        align_regions,
        to_aligned,
        align_regions_by_channel,
        to_aligned_by_channel,
        max_regions,
        to_largest_pixels,
        mean_regions_by_channel,
        to_mean_by_channel,
        deformed_conv,
        to_deformed,
        kept_boxes,
    )
}
