"""Resampling by copies of the nearest element."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.layers.windows import Sizes, Windows
from gradwitness.rules.registry import Array, Rule, rule
from gradwitness.rules.shape.create import plain


def _line(n: int, count: int, scale: Any, exact: bool) -> Array:
    """Return the element that each of ``count`` results along an axis of n is a copy of.

    It is floor(i n / count), or floor(i / scale), with i + 1/2 for i where it is ``exact``, in
    float32 whatever the tensor's format is; but one of torch's kernels for float64 rounds
    otherwise, and its backward as the others do.
    """
    if count == n or (count == 2 * n and not exact):
        return np.arange(count)[None] // (count // n)
    step = 1 / scale if scale else n / count
    i = np.arange(count) + 0.5 * exact
    at = np.floor(i.astype(np.float32) * np.float32(step))
    double = i * step
    if any(np.any(at != np.floor(other)) for other in (double, double.astype(np.float32))):
        raise NotImplementedError("a nearest element that depends on torch's kernel")
    return np.minimum(at.astype(np.int64), n - 1)[None]


def scaled_axes(
    sizes: Sizes,
    output_size: Sizes | None = None,
    scales: Any = None,
    scales_d: Any = None,
    scales_h: Any = None,
    scales_w: Any = None,
    scale_factors: tuple[Any, ...] | None = None,
) -> list[tuple[int, int, Any]]:
    """Return each axis's length before and after, and the scale that was asked for, or None."""
    named = scale_factors or (scales_d, scales_h, scales or scales_w)[-len(sizes) :]
    by = [plain(scale) for scale in named]
    counts = output_size or [int(n * scale) for n, scale in zip(sizes, by, strict=True)]
    return list(zip(sizes, counts, by, strict=True))


def _nearest(x: Array, exact: bool, *given: Any, **named: Any) -> Windows:
    sizes = tuple(x.shape[2:])
    axes = scaled_axes(sizes, *given, **named)
    return Windows(tuple(_line(*axis, exact) for axis in axes), sizes)


SCALES = ("scales", "scales_d", "scales_h", "scales_w", "scale_factors")


def _enter(name: str, aliases: tuple[str, ...], exact: bool) -> Rule:
    parameters = "output_size, scale_factors or (scales_d, scales_h, scales or scales_w)"
    half = ", 1 / 2" if exact else ""

    @rule(
        name,
        f"y = nearest(x, {parameters}{half})",
        meaning="adds up, for each element, the gradients of the pixels that are copies of it",
        aliases=aliases,
        doubles=SCALES,
        apart="nc->nc",
        moves=True,
    )
    def upsample_nearest(
        x: Array,
        *,
        output_size: Sizes | None = None,
        scales: Any = None,
        scales_d: Any = None,
        scales_h: Any = None,
        scales_w: Any = None,
        scale_factors: tuple[Any, ...] | None = None,
    ) -> Array:
        named = (output_size, scales, scales_d, scales_h, scales_w, scale_factors)
        return _nearest(x, exact, *named).total(x)

    @upsample_nearest.vjp("x", f"nearest_add(g, x, {parameters}{half})")
    def _(g: Array, x: Array, **how: Any) -> Array:
        return _nearest(x, exact, **how).given_back(g, x)

    return upsample_nearest


upsample_nearest2d = _enter(
    "aten.upsample_nearest2d", ("aten.upsample_nearest1d", "aten.upsample_nearest3d"), exact=False
)
upsample_nearest_exact2d = _enter(
    "aten._upsample_nearest_exact2d",
    ("aten._upsample_nearest_exact1d", "aten._upsample_nearest_exact3d"),
    exact=True,
)
