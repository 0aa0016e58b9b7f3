"""Convolution that reads the image at places which offsets move, and a mask weighs.

Offsets and masks are of groups of channels, the weights of others. What is read at each place of
the kernel, for each result, is a column of a matrix product with the weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import rounded_once
from gradwitness.rules.layers.grid_sample import Reading, linear_taps, spread, summed, to_grid
from gradwitness.rules.registry import Array, Shaped, rule

_WALK = "stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, offset_groups, use_mask"


def _reading(
    x: Shaped, weight: Shaped, offset: Array, walk: dict[str, Any]
) -> tuple[Reading, tuple[int, ...]]:
    """Return what is read, (images and groups, places of the kernel and results), and of what."""
    kernel, out, groups = weight.shape[2:], offset.shape[2:], walk["offset_groups"]
    count, points = math.prod(kernel), math.prod(out)
    moved = np.reshape(offset, (len(offset) * groups, count, 2, points))
    at, taps = np.indices((*kernel, *out)), []
    for axis, name in enumerate("hw"):
        start = at[2 + axis] * walk[f"stride_{name}"] - walk[f"pad_{name}"]
        start = np.reshape(start + at[axis] * walk[f"dilation_{name}"], (count, points))
        offsets = moved[:, :, axis]
        # The sum of a whole number, as the format holds it, and of an offset.
        begun = rounded_once(start + np.zeros_like(offsets), offsets)
        places = rounded_once(begun + offsets, begun)
        places = np.reshape(places, (len(moved), count * points))
        taps.append(linear_taps(places, np.ones_like(places), x.shape[2 + axis], 2))
    grouped = (len(moved), x.shape[1] // groups, *x.shape[2:])
    return Reading.at(taps, x.shape[2:]), grouped


def _by_mask(read: Array, mask: Array, walk: dict[str, Any]) -> Array:
    if not walk["use_mask"]:
        return read
    return read * np.reshape(mask, (read.shape[0], 1, read.shape[2]))


def _rows(weight: Array, groups: int) -> Array:
    return np.reshape(weight, (groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))


def _results(g: Array, groups: int) -> Array:
    """Return results, or their gradients, by group: (images, groups, channels, results)."""
    shape = (g.shape[0], groups, g.shape[1] // groups, math.prod(g.shape[2:]))
    return np.reshape(g, shape)


def _columns(read: Array, images: int, weight: Shaped, groups: int) -> Array:
    """Return what was read as columns: (images, groups, channels and kernel, results)."""
    inner = math.prod(weight.shape[1:])
    return np.reshape(read, (images, groups, inner, read.size // max(images * groups * inner, 1)))


@rule(
    "torchvision.deform_conv2d",
    f"y = deformed_conv(x, weight, offset, mask, bias, {_WALK})",
    meaning="takes the gradient back through the weights to what was read: image, mask and offsets "
    "get it by the weights of the interpolation, by what was read, and by the image's slope; the "
    "weights get its product with what was read, and the bias its sum",
    composite=True,
)
def deform_conv2d(
    x: Array,
    weight: Array,
    offset: Array,
    mask: Array,
    bias: Array,
    *,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Array:
    walk = {
        "stride_h": stride_h,
        "stride_w": stride_w,
        "pad_h": pad_h,
        "pad_w": pad_w,
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "offset_groups": offset_groups,
        "use_mask": use_mask,
    }
    columns = _read_columns(x, weight, offset, mask, groups, walk)
    y = np.reshape(
        _rows(weight, groups) @ columns, (x.shape[0], weight.shape[0], *offset.shape[2:])
    )
    return y + bias[:, None, None]


def _read_columns(
    x: Array, weight: Shaped, offset: Array, mask: Array, groups: int, walk: dict[str, Any]
) -> Array:
    reading, grouped = _reading(x, weight, offset, walk)
    read = summed(reading.read(np.reshape(x, grouped)), reading.weights())
    return _columns(_by_mask(read, mask, walk), x.shape[0], weight, groups)


def _back(g: Array, weight: Array, grouped: tuple[int, ...], groups: int) -> Array:
    """Return the gradient of the columns, as what was read: by image and group of offsets."""
    back = np.swapaxes(_rows(weight, groups), 1, 2) @ _results(g, groups)
    return np.reshape(back, (*grouped[:2], back.size // max(math.prod(grouped[:2]), 1)))


@deform_conv2d.vjp("x", f"to_deformed(g, x, weight, offset, mask, {_WALK})[0]")
def _(
    g: Array, x: Shaped, weight: Array, offset: Array, mask: Array, *, groups: int, **walk: Any
) -> Array:
    reading, grouped = _reading(x, weight, offset, walk)
    back = _by_mask(_back(g, weight, grouped, groups), mask, walk)
    image = np.broadcast_to(0.0, grouped)
    return np.reshape(reading.to_image(back, image, reading.weights()), x.shape)


@deform_conv2d.vjp("weight", f"to_deformed(g, x, weight, offset, mask, {_WALK})[1]")
def _(
    g: Array, x: Array, weight: Shaped, offset: Array, mask: Array, *, groups: int, **walk: Any
) -> Array:
    columns = _read_columns(x, weight, offset, mask, groups, walk)
    # One sum over images and results.
    given = np.moveaxis(_results(g, groups), 0, 2)
    met = np.moveaxis(columns, 0, 2)
    given, met = (np.reshape(part, (*part.shape[:2], -1)) for part in (given, met))
    return np.reshape(given @ np.swapaxes(met, 1, 2), weight.shape)


@deform_conv2d.vjp("offset", f"to_deformed(g, x, weight, offset, mask, {_WALK})[2]")
def _(
    g: Array, x: Array, weight: Array, offset: Array, mask: Array, *, groups: int, **walk: Any
) -> Array:
    reading, grouped = _reading(x, weight, offset, walk)
    back = _by_mask(_back(g, weight, grouped, groups), mask, walk)
    parts = spread(back) * reading.read(np.reshape(x, grouped))
    # Offsets name the rows' axis first, and each of its two numbers has a plane.
    columns = np.zeros((grouped[0], back.shape[2], 2))
    moved = np.flip(to_grid(parts, reading.slopes(), columns), -1)
    count = math.prod(weight.shape[2:])
    moved = np.reshape(moved, (grouped[0], count, back.shape[2] // max(count, 1), 2))
    return np.reshape(np.swapaxes(moved, 2, 3), offset.shape)


@deform_conv2d.vjp("mask", f"to_deformed(g, x, weight, offset, mask, {_WALK})[3]")
def _(
    g: Array, x: Array, weight: Array, offset: Array, mask: Shaped, *, groups: int, **walk: Any
) -> Array:
    if not walk["use_mask"]:
        return np.zeros_like(g, shape=mask.shape)
    reading, grouped = _reading(x, weight, offset, walk)
    read = summed(reading.read(np.reshape(x, grouped)), reading.weights())
    return np.reshape(np.sum(_back(g, weight, grouped, groups) * read, axis=1), mask.shape)


@deform_conv2d.vjp("bias", "sum_positions(g)")
def _(g: Array) -> Array:
    return np.sum(g, axis=(0, 2, 3))
