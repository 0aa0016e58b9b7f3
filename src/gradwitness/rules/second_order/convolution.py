"""The backward of a convolution, differentiated once more: three convolutions again.

With dy the gradient that was sent through, and c(x, w) the convolution, its results are dx, dw and
db with ``<v, dx> + <u, dw> + <s, db> = <dy, c(v, w) + c(x, u) + s>`` for all v, u, s: each gradient
of a gradient is a value, or a gradient, of a convolution with another operand in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.layers.convolution import convolution
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.second_order.transposed_parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.rules.layers.windows import Sizes

_WALK = "stride, padding, dilation, transposed, output_padding, groups"


def arrived(g: Array) -> bool:
    """Whether a gradient came in: of a result that nothing depends on, it is 0."""
    return bool(np.any(np.not_equal(g, 0)))


def added(terms: list[Array], like: Array, shape: Sizes) -> Array:
    """Add up arrays of a shape; of none, zeros."""
    return sum(terms[1:], start=terms[0]) if terms else np.zeros_like(like, shape=shape)


def _back(operand: str, dy: Array, x: Array, w: Array, walk: dict[str, Any]) -> Array:
    """Return the gradient of an operand of the convolution of x with w."""
    return convolution.gradients[operand](dy, None, (x, w, None), walk)


def _apart(_shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes to compute along, see `Rule`: images, and the kernel's input channels."""
    if parameters.get("in_parts"):
        return ""
    if parameters["groups"] != 1:
        return "n,n,->n,,"
    return "n,nc,c->nc,c," if parameters["transposed"] else "n,nc,_c->nc,_c,"


def _all_back(
    dy: Array, x: Array, w: Array, *, output_mask: tuple[bool, ...], **walk: Any
) -> tuple[Array | None, ...]:
    asked = zip("xwb", output_mask, strict=True)
    return tuple(_back(name, dy, x, w, walk) if wanted else None for name, wanted in asked)


convolution_backward = rule(
    "aten.convolution_backward",
    f"y = conv_input(dy, x, w, {_WALK}), conv_weight(dy, x, w, {_WALK}), sum_positions(dy)",
    meaning="convolves the gradient that came in for the input with the kernel, and the input with "
    "the one that came in for the kernel; input and kernel get the gradient that was sent through "
    "the convolution, correlated with what came in for the other",
    ignores=("bias_sizes",),
    composite=True,
    apart=_apart,
)(Parameters(convolution, {}).given_to(_all_back, "dy", "x", "w", more=("output_mask",)))


@convolution_backward.vjp(
    "dy", f"conv(g[0], w, {_WALK}) + conv(x, g[1], {_WALK}) + channelwise(g[2])"
)
def _(g: Any, dy: Shaped, x: Array, w: Array, **walk: Any) -> Array:
    of_x, of_w, of_b = g
    walk = {name: walk[name] for name in convolution.parameters}
    terms = []
    if arrived(of_x):
        terms.append(convolution.function(of_x, w, None, **walk))
    if arrived(of_w):
        terms.append(convolution.function(x, of_w, None, **walk))
    if arrived(of_b):
        terms.append(
            np.reshape(of_b, (1, -1, *(1,) * (dy.ndim - 2)))
            * np.asarray(np.ones(dy.shape), like=of_b)
        )
    return added(terms, of_x, dy.shape)


@convolution_backward.vjp("x", f"conv_input(dy, x, g[1], {_WALK})")
def _(g: Any, dy: Array, x: Array, **walk: Any) -> Array:
    if not arrived(g[1]):
        return np.zeros_like(g[1], shape=x.shape)
    return _back("x", dy, x, g[1], walk)


@convolution_backward.vjp("w", f"conv_weight(dy, g[0], w, {_WALK})")
def _(g: Any, dy: Array, w: Array, **walk: Any) -> Array:
    if not arrived(g[0]):
        return np.zeros_like(g[0], shape=w.shape)
    return _back("w", dy, g[0], w, walk)
