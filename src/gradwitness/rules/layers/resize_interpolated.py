"""Resampling by interpolation: linear along each axis, or cubic.

A result lies at a real place between elements, and is the sum of those near it, each times one
weight for each axis. Kernels work the places out in float32 for 16-bit formats too, and store the
weights in the tensor's format. A place that rounding may put before or behind an element brings in
the element on its other side, with a weight of 0 and that error.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import enter_kernel, leave_kernel, scattered
from gradwitness.rules.layers.cubic import far, near
from gradwitness.rules.layers.resize_nearest import SCALES, scaled_axes
from gradwitness.rules.made_like import full_like
from gradwitness.rules.registry import ALWAYS, Array, Rule, rule
from gradwitness.rules.shape.create import plain
from gradwitness.rules.shape.indexing import numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.rules.layers.windows import Sizes

# One tap: for each result along an axis, the element that it takes, the weight of it, and whether
# that counts.
Tap: TypeAlias = "tuple[Array, Array, Array]"
Stored: TypeAlias = "Callable[[Array], Array]"


def _all(shape: Any, like: Array) -> Array:
    return np.asarray(np.ones(shape, dtype=bool), like=like)


def _step(like: Array, n: int, count: int, scale: Any, align_corners: bool) -> Array:
    """Return how far apart ``count`` results lie along an axis of n elements."""
    if align_corners:
        return full_like(like, (), n - 1) / max(count - 1, 1)
    one = full_like(like, (), 1)
    return one * (1 / scale) if scale else one * n / count


def _places(like: Array, n: int, count: int, scale: Any, align_corners: bool) -> Array:
    """Return where each of ``count`` results lies along an axis of n elements."""
    step = _step(enter_kernel(like), n, count, scale, align_corners)
    at = np.arange(count, like=like)
    if align_corners:
        return step * (at if count > 1 else 0 * at)
    return step * (at + 0.5) - 0.5


def _linear_taps(
    like: Array, n: int, count: int, scale: Any, align_corners: bool, stored: Stored
) -> list[Tap]:
    if n == count:
        return [(np.arange(n, like=like), np.ones_like(like, shape=(n,)), _all(n, like))]
    real = np.maximum(_places(like, n, count, scale, align_corners), 0)
    first = np.minimum(np.floor(plain(real)).astype(np.int64), n - 1)
    part = np.minimum(np.maximum(real - first, 0), 1)
    used = _all(count, like)
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


def _cubic_taps(
    like: Array, n: int, count: int, scale: Any, align_corners: bool, stored: Stored
) -> list[Tap]:
    if n == count:
        return [(np.arange(n, like=like), np.ones_like(like, shape=(n,)), _all(n, like))]
    real = _places(like, n, count, scale, align_corners)
    first = np.floor(plain(real)).astype(np.int64)
    part = real - first
    weights = (far(part + 1), near(part), near(1 - part), far(2 - part))
    used = _all(count, like)
    return [(np.clip(first + k - 1, 0, n - 1), stored(w), used) for k, w in enumerate(weights)]


def _hat(t: Array) -> Array:
    return np.maximum(1 - t, 0)


def _keys(t: Array) -> Array:
    # As Pillow has it, less sharp than without smoothing.
    return np.where(np.less(t, 1), near(t, a=-0.5), far(t, a=-0.5))


def _lanczos(t: Array) -> Array:
    near_0 = np.less(t, 2.0**-30)
    angle = np.where(near_0, 1, t * math.pi)
    return np.where(near_0, 1, np.sin(angle) * np.sin(angle / 3) / (angle * angle / 3))


def _smooth_taps(curve: Callable[[Array], Array], reach: int) -> Callable[..., list[Tap]]:
    """Return taps for a curve that, where results lie wider apart, is stretched to their step.

    Its weights are divided by their sum. It is 0 from ``reach`` on: rounding decides whether an
    element there counts, with an error but no weight.
    """

    def taps(
        like: Array, n: int, count: int, scale: Any, align_corners: bool, stored: Stored
    ) -> list[Tap]:
        step = _step(enter_kernel(like), n, count, scale, align_corners)
        if align_corners and count == 1:
            step = 0 * step
        stretch = np.maximum(step, 1)
        middle = step * (np.arange(count, like=like) + 0.5)
        widest = reach * float(plain(stretch))
        first = np.floor(plain(middle) - widest - 0.5).astype(np.int64)
        elements, weights, counts = [], [], []
        for k in range(math.ceil(2 * widest) + 3):
            at = first + k
            t = np.absolute((at + 0.5 - middle) * (1 / stretch))
            weight, away = curve(t), plain(t) - reach
            counted = (at >= 0) & (at < n) & (away < 2.0**-16 * (1 + n))
            weight = np.where(away < 0, weight, weight - plain(weight))
            elements.append(np.clip(at, 0, n - 1))
            weights.append(np.where(counted, weight, 0))
            counts.append(counted)
        total = sum(weights[1:], start=weights[0])
        return [
            (at, stored(weight / total), counted)
            for at, weight, counted in zip(elements, weights, counts, strict=True)
            if np.any(counted)
        ]

    return taps


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
        index, term, kept = numbered(x), g, _all(g.shape, g)
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


def _enter(
    name: str,
    kind: Callable[..., list[Tap]],
    word: str,
    weights: str,
    aliases: tuple[str, ...] = (),
) -> Rule:
    scaled = "scale_factors or (scales_d, scales_h, scales or scales_w)"
    how = f"output_size, align_corners, {scaled}, {word}"

    @rule(
        name,
        f"y = interpolate(x, {how})",
        meaning=f"adds each gradient, times the weights of the {weights}, to the elements that it "
        "was taken from",
        aliases=aliases,
        composite=True,
        doubles=SCALES,
        apart="nc->nc",
    )
    def upsample(
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
        return _resampled(x, _taps(kind, x, x.shape[2:], output_size, align_corners, *named))

    @upsample.vjp("x", f"interpolate_add(g, x, {how})", kernel=ALWAYS)
    def _(g: Array, x: Array, **how: Any) -> Array:
        return _given_back(g, x, _taps(kind, g, x.shape[2:], stored=_held, **how))

    return upsample


upsample_bilinear2d = _enter(
    "aten.upsample_bilinear2d",
    _linear_taps,
    "hat",
    "interpolation",
    ("aten.upsample_linear1d", "aten.upsample_trilinear3d"),
)
upsample_bicubic2d = _enter("aten.upsample_bicubic2d", _cubic_taps, "cubic", "cubic")
upsample_bilinear2d_aa = _enter(
    "aten._upsample_bilinear2d_aa", _smooth_taps(_hat, 1), "wide_hat", "smoothed interpolation"
)
upsample_bicubic2d_aa = _enter(
    "aten._upsample_bicubic2d_aa", _smooth_taps(_keys, 2), "wide_cubic", "smoothed cubic"
)
upsample_lanczos2d_aa = _enter(
    "aten._upsample_lanczos2d_aa", _smooth_taps(_lanczos, 3), "wide_sinc", "smoothed sinc"
)
