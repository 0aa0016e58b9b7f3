"""Dropout by a mask that the forward pass returned: the mask is data, and taken as it is."""

from __future__ import annotations

from typing import Any

from gradwitness.rules.kernel_ops import where
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.create import plain


def _thinned(x: Array, mask: Array, p: Any, train: bool | None) -> Array:
    """Return what the mask keeps, over the probability of keeping it."""
    if train is False:
        return x
    if plain(p) == 1:
        return 0 * x
    return where(mask, x, 0) * (1 / (1 - p))


@rule(
    "aten.native_dropout",
    "y = thinned(x, mask, p, train), mask",
    meaning="keeps the gradient where the mask, as recorded, kept the input, and divides it by "
    "1 - p",
    composite=True,
    doubles=("p",),
    given={"mask": 1},
)
def native_dropout(
    x: Array, *, p: Any, train: bool | None = True, mask: Array
) -> tuple[Array, Array]:
    return _thinned(x, mask, p, train), mask


native_dropout.vjp("x", "thinned(g[0], mask, p, train)")(
    lambda g, *, p, train, mask: _thinned(g[0], mask, p, train)
)


@rule(
    "aten.native_dropout_backward",
    "y = where(mask, g_out, 0) * scale",
    meaning="keeps the gradient where the mask kept the input, and multiplies it by the scale",
    composite=True,
)
def native_dropout_backward(g_out: Array, mask: Array, *, scale: Any) -> Array:
    return where(mask, g_out, 0) * scale


native_dropout_backward.vjp("g_out", "where(mask, g, 0) * scale")(
    lambda g, mask, *, scale: where(mask, g, 0) * scale
)
native_dropout_backward.refused.add("mask")
