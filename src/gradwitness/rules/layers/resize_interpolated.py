"""Resampling by interpolation: linear along each axis, or cubic.

A result lies at a real place between elements, and is the sum of those near it, each times one
weight for each axis. Kernels work the places out in float32 for 16-bit formats too, and store the
weights in the tensor's format. A place that rounding may put before or behind an element brings in
the element on its other side, with a weight of 0 and that error.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import enter_kernel, leave_kernel, scattered
from gradwitness.rules.layers.resize_nearest import SCALES, scaled_axes
from gradwitness.rules.registry import ALWAYS, Array, rule
from gradwitness.rules.shape.create import plain
from gradwitness.rules.shape.indexing import numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.rules.layers.windows import Sizes

# One tap: for each result along an axis, the element that it takes, the weight of it, and whether
# that counts.
Tap: TypeAlias = "tuple[Array, Array, Array]"
Stored: TypeAlias = "Callable[[Array], Array]"


def _places(like: Array, n: int, count: int, scale: Any, align_corners: bool) -> Array:
    """Return where each of ``count`` results lies along an axis of n elements."""
    like = enter_kernel(like)
    at = np.arange(count)
    if align_corners:
        step = np.full_like(like, n - 1, shape=()) / max(count - 1, 1)
        return step * (at if count > 1 else 0 * at)
    one = np.ones_like(like, shape=())
    step = one * (1 / scale) if scale else one * n / count
    return step * (at + 0.5) - 0.5


def _linear_taps(
    like: Array, n: int, count: int, scale: Any, align_corners: bool, stored: Stored
) -> list[Tap]:
    if n == count:
        return [(np.arange(n), np.ones_like(like, shape=(n,)), np.ones(n, dtype=bool))]
    real = np.maximum(_places(like, n, count, scale, align_corners), 0)
    first = np.minimum(np.floor(plain(real)).astype(np.int64), n - 1)
    part = np.minimum(np.maximum(real - first, 0), 1)
    used = np.ones(count, dtype=bool)
    taps = [
        (first, 1 - stored(part), used),
        (np.minimum(first + 1, n - 1), stored(part), used),
    ]
    slack = 2.0**-18 * (1 + first)
    below, above = np.less(part, slack), np.less(1 - part, slack)
    if np.any(below | above):
        # Weights of 0 with an error, where rounding decides between two neighbours.
        aside = part - plain(part)
        taps += [
            (np.maximum(first - 1, 0), stored(np.where(below, aside, 0)), below),
            (np.minimum(first + 2, n - 1), stored(np.where(above, aside, 0)), above),
        ]
    return taps


_SHARPNESS = -0.75  # of the cubic that torch and others use


def _near(t: Array) -> Array:
    a = _SHARPNESS
    return ((a + 2) * t - (a + 3)) * t * t + 1


def _far(t: Array) -> Array:
    a = _SHARPNESS
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a


def _cubic_taps(
    like: Array, n: int, count: int, scale: Any, align_corners: bool, stored: Stored
) -> list[Tap]:
    if n == count:
        return [(np.arange(n), np.ones_like(like, shape=(n,)), np.ones(n, dtype=bool))]
    real = _places(like, n, count, scale, align_corners)
    first = np.floor(plain(real)).astype(np.int64)
    part = real - first
    weights = (_far(part + 1), _near(part), _near(1 - part), _far(2 - part))
    used = np.ones(count, dtype=bool)
    return [(np.clip(first + k - 1, 0, n - 1), stored(w), used) for k, w in enumerate(weights)]


def _taps(
    kind: Callable[..., list[Tap]],
    like: Array,
    sizes: Sizes,
    output_size: Sizes | None = None,
    align_corners: bool = False,
    *scales: Any,
    stored: Stored = leave_kernel,
    **named: Any,
) -> list[list[Tap]]:
    """Return the taps of each axis, with their weights as they are stored."""
    axes = scaled_axes(sizes, output_size, *scales, **named)
    return [kind(like, *axis, align_corners, stored) for axis in axes]


def _held(weight: Array) -> Array:
    """Keep a weight in the kernel's own format, as backward does."""
    return weight


def _resampled(x: Array, taps: list[list[Tap]]) -> Array:
    """Sum over the taps of one axis after the other, from the last."""
    for axis, of_axis in reversed(list(enumerate(taps, 2))):
        across = (-1, *(1,) * (x.ndim - axis - 1))
        terms = [np.take(x, at, axis=axis) * np.reshape(w, across) for at, w, _ in of_axis]
        x = sum(terms[1:], start=terms[0])
    return x


def _given_back(g: Array, x: Array, taps: list[list[Tap]]) -> Array:
    """Add each gradient, times its weights, to the elements that it was taken from: one sum."""
    places, terms = [], []
    for chosen in product(*taps):
        index, term, kept = numbered(x), g, np.ones(g.shape, dtype=bool)
        for axis, (at, w, counts) in enumerate(chosen, 2):
            across = (-1, *(1,) * (x.ndim - axis - 1))
            index = np.take(index, at, axis=axis)
            term = term * np.reshape(w, across)
            kept = kept & np.reshape(counts, across)
        places.append(index[kept])
        terms.append(term[kept])
    weights = np.concatenate(terms)
    total = scattered(weights, np.concatenate(places), x.size)
    return np.reshape(total, x.shape)


@rule(
    "aten.upsample_bilinear2d",
    "y = interpolate(x, output_size, align_corners, "
    "scale_factors or (scales_d, scales_h, scales or scales_w), hat)",
    meaning="adds each gradient, times the weights of the interpolation, to the elements that it "
    "was taken from",
    aliases=("aten.upsample_linear1d", "aten.upsample_trilinear3d"),
    composite=True,
    doubles=SCALES,
)
def upsample_bilinear2d(
    x: Array,
    *,
    output_size: Sizes | None = None,
    align_corners: bool,
    scales: Any = None,
    scales_d: Any = None,
    scales_h: Any = None,
    scales_w: Any = None,
    scale_factors: tuple[Any, ...] | None = None,
) -> Array:
    named = (scales, scales_d, scales_h, scales_w, scale_factors)
    return _resampled(x, _taps(_linear_taps, x, x.shape[2:], output_size, align_corners, *named))


@upsample_bilinear2d.vjp(
    "x",
    "interpolate_add(g, x, output_size, align_corners, "
    "scale_factors or (scales_d, scales_h, scales or scales_w), hat)",
    kernel=ALWAYS,
)
def _(g: Array, x: Array, **how: Any) -> Array:
    return _given_back(g, x, _taps(_linear_taps, g, x.shape[2:], stored=_held, **how))


@rule(
    "aten.upsample_bicubic2d",
    "y = interpolate(x, output_size, align_corners, scale_factors or (scales_h, scales_w), cubic)",
    meaning="adds each gradient, times the weights of the cubic, to the elements that it was taken "
    "from",
    composite=True,
    doubles=SCALES,
)
def upsample_bicubic2d(
    x: Array,
    *,
    output_size: Sizes | None = None,
    align_corners: bool,
    scales_h: Any = None,
    scales_w: Any = None,
    scale_factors: tuple[Any, ...] | None = None,
) -> Array:
    named = (None, None, scales_h, scales_w, scale_factors)
    return _resampled(x, _taps(_cubic_taps, x, x.shape[2:], output_size, align_corners, *named))


@upsample_bicubic2d.vjp(
    "x",
    "interpolate_add(g, x, output_size, align_corners, "
    "scale_factors or (scales_h, scales_w), cubic)",
    kernel=ALWAYS,
)
def _(g: Array, x: Array, **how: Any) -> Array:
    return _given_back(g, x, _taps(_cubic_taps, g, x.shape[2:], stored=_held, **how))
