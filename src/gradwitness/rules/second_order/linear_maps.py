"""Backward kernels of operations that are linear in their operand: pooling, padding, parts.

Of ``y = A x`` the backward is ``dx = A^T dy``, and the backward of that is A itself. So formula and
function of each stand in the operation's own rule already.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.layers.pooling import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d_with_indices,
)
from gradwitness.rules.layers.resize_interpolated import (
    upsample_bicubic2d,
    upsample_bicubic2d_aa,
    upsample_bilinear2d,
    upsample_bilinear2d_aa,
    upsample_lanczos2d_aa,
)
from gradwitness.rules.layers.resize_nearest import upsample_nearest2d, upsample_nearest_exact2d
from gradwitness.rules.layers.windows import Numbers, Sizes, dimensions
from gradwitness.rules.registry import Array, Rule, Shaped, rule
from gradwitness.rules.second_order.transposed_parameters import Parameters
from gradwitness.rules.shape.indexing import embedding
from gradwitness.rules.shape.padding import reflection_pad, replication_pad
from gradwitness.rules.shape.rearranging import diagonal, unfold
from gradwitness.rules.shape.shape import select, slice_


def _shaped(sizes: Sizes, like: Array) -> Array:
    """Return an array of which only the shape is asked, and where it lives."""
    return np.broadcast_to(np.zeros((), like=like), sizes)


def _twice(forward: Rule, does: str, *aliases: str, sizes: str = "", **renamed: str) -> None:
    """Enter the backward of a linear operation.

    ``does`` is the meaning, ``aliases`` name other operations whose backward is the same, ``sizes``
    is the argument that says the operand's shape, where the backward does not take the operand, and
    ``renamed`` says what the backward calls parameters of the operation.
    """
    parameters = Parameters(forward, renamed)

    def to_operand(dy: Array, x: Array, **how: Any) -> Array:
        return forward.gradients["x"](dy, None, (x,), parameters.own(how))

    def to_sizes(dy: Array, **how: Any) -> Array:
        return to_operand(dy, _shaped(how[sizes], dy), **how)

    operand = f"zeros({sizes})" if sizes else "x"
    transposed = rule(
        f"{forward.name}_backward",
        "y = " + parameters.worded(forward.gradients["x"].text, g="dy", x=operand),
        meaning=does,
        aliases=tuple(f"aten.{alias}_backward" for alias in aliases),
        composite=True,
        doubles=forward.doubles,
    )(
        parameters.given_to(to_sizes, "dy", more=(sizes,))
        if sizes
        else parameters.given_to(to_operand, "dy", "x")
    )
    text = parameters.worded(forward.text.removeprefix("y = "), x="g")
    transposed.vjp("dy", text)(lambda g, **how: forward.function(g, **parameters.own(how)))
    if not sizes:
        transposed.constant_in("x")


_twice(select, "selects the place of the gradient that was sent through", sizes="input_sizes")
_twice(slice_, "slices the gradient as the operation did", sizes="input_sizes")
_twice(diagonal, "reads the gradient off the diagonal", sizes="input_sizes")
_twice(unfold, "reads the gradient through the windows", sizes="input_sizes", dimension="dim")
_twice(
    reflection_pad,
    "pads the gradient by its mirror image",
    "reflection_pad1d",
    "reflection_pad3d",
)
_twice(
    replication_pad,
    "pads the gradient by copies of its edge",
    "replication_pad1d",
    "replication_pad3d",
)
_twice(avg_pool2d, "averages the gradient over each window", "avg_pool3d")
_twice(
    upsample_nearest2d,
    "copies the gradient of the nearest element",
    "upsample_nearest1d",
    "upsample_nearest3d",
    sizes="input_size",
)
_twice(
    upsample_nearest_exact2d,
    "copies the gradient of the nearest element",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact3d",
    sizes="input_size",
)
_twice(
    upsample_bilinear2d,
    "interpolates the gradient as the operation did",
    "upsample_linear1d",
    "upsample_trilinear3d",
    sizes="input_size",
)
for _cubic_or_smooth in (
    upsample_bicubic2d,
    upsample_bilinear2d_aa,
    upsample_bicubic2d_aa,
    upsample_lanczos2d_aa,
):
    _twice(_cubic_or_smooth, "interpolates the gradient as the operation did", sizes="input_size")


def _read_at(g: Array, indices: Array, many: int) -> Array:
    """Read a gradient off at the places in each plane that indices name."""
    planes = math.prod(indices.shape[: indices.ndim - many])
    rows = np.reshape(g, (planes, math.prod(g.shape[g.ndim - many :])))
    places = np.reshape(indices, (planes, math.prod(indices.shape[indices.ndim - many :])))
    return np.reshape(np.take_along_axis(rows, places, axis=1), indices.shape)


@rule(
    "aten.max_pool2d_with_indices_backward",
    "y = to_index((dy, 0), (0, indices), x, kernel_size)",
    meaning="takes the gradient at each window's largest element",
    aliases=("aten.max_pool3d_with_indices_backward",),
    ignores=("stride", "padding", "dilation", "ceil_mode"),
    composite=True,
)
def max_pool2d_backward(dy: Array, x: Array, indices: Array, *, kernel_size: Numbers) -> Array:
    how = {"kernel_size": kernel_size}
    return max_pool2d_with_indices.gradients["x"]((dy, None), (None, indices), (x,), how)


max_pool2d_backward.vjp("dy", "at_index(g, dy, indices)")(
    lambda g, indices, *, kernel_size: _read_at(g, indices, dimensions(kernel_size))
)
max_pool2d_backward.constant_in("x")


def _adaptive(many: int) -> None:
    """Enter the backwards of pooling by parts, which are not told along how many axes."""

    @rule(
        f"aten.adaptive_max_pool{many}d_backward",
        f"y = to_index((dy, 0), (0, indices), x, shape(dy)[-{many}:])",
        meaning="takes the gradient at each part's largest element",
        composite=True,
    )
    def largest(dy: Array, x: Array, indices: Array) -> Array:
        how = {"output_size": dy.shape[-many:]}
        return adaptive_max_pool2d.gradients["x"]((dy, None), (None, indices), (x,), how)

    @largest.vjp("dy", "at_index(g, dy, indices)")
    def _(g: Array, indices: Array) -> Array:
        return _read_at(g, indices, many)

    largest.constant_in("x")

    @rule(
        f"aten._adaptive_avg_pool{many}d_backward",
        f"y = part_add(dy / part_size(x, shape(dy)[-{many}:]), x, shape(dy)[-{many}:])",
        meaning="averages the gradient over each part",
        composite=True,
    )
    def mean(dy: Array, x: Array) -> Array:
        how = {"output_size": dy.shape[-many:]}
        return adaptive_avg_pool2d.gradients["x"](dy, None, (x,), how)

    @mean.vjp("dy", f"part_sum(g, shape(dy)[-{many}:]) / part_size(x, shape(dy)[-{many}:])")
    def _(g: Array, dy: Shaped) -> Array:
        return adaptive_avg_pool2d.function(g, output_size=dy.shape[-many:])

    mean.constant_in("x")


_adaptive(2)
_adaptive(3)


@rule(
    "aten.embedding_dense_backward",
    "y = add_rows(dy, zeros((num_weights, shape(dy)[-1])), 0, indices, padding_idx, "
    "scale_grad_by_freq)",
    meaning="looks up the rows of the gradient that the indices name, and has zeros for "
    "padding_idx",
    composite=True,
)
def embedding_backward(
    dy: Array, indices: Array, *, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Array:
    table = _shaped((num_weights, dy.shape[-1]), dy)
    how = {"padding_idx": padding_idx, "scale_grad_by_freq": scale_grad_by_freq}
    return embedding.gradients["weight"](dy, None, (table, indices), how)


@embedding_backward.vjp("dy", "looked_up(g, indices, padding_idx, scale_grad_by_freq)")
def _(
    g: Array, indices: Array, *, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Array:
    kept = np.expand_dims(indices != padding_idx, -1)
    rows = np.where(kept, np.take(g, indices, axis=0), 0)
    if not scale_grad_by_freq:
        return rows
    often = np.bincount(np.ravel(indices), minlength=num_weights)
    return rows / np.expand_dims(np.take(often, indices), -1)
