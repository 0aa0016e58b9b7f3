"""The backward of a normalisation, differentiated once more.

With n = (x - mean) r and N terms, ``J h = r (h - sum(h) / N - n sum(h n) / N)`` is the derivative
of n, which equals its transpose, and ``dx = J (w dy)``. What came in for dx, v, goes through J
again; how J itself moves with x is a formula in x - mean, v and w dy. Mean and r are handed over by
the forward pass, and move with x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import enter_kernel, leave_kernel
from gradwitness.rules.layers.normalisation import batch_norm, layer_norm, per_channel
from gradwitness.rules.registry import OUT_OF_ORDER, Array, rule
from gradwitness.rules.second_order.convolution import added, arrived

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.rules.layers.windows import Sizes


@dataclass(frozen=True)
class _Normal:
    """A normalisation on its way back."""

    gap: Array  # the input's distance from the mean
    r: Array  # the inverse deviation
    over: Sizes  # the axes that the two were computed over; empty if they are constants
    dy: Array  # the gradient that was sent through
    w: Array | None

    def through(self, h: Array) -> Array:
        """Return J h."""
        if not self.over:
            return h * self.r
        count = self._count()
        along = self.gap * (self.r * self.r) * self._sum(h * self.gap)
        return (self.r / count) * (count * h - self._sum(h) - along)

    def bent(self, v: Array, h: Array) -> Array:
        """Return the gradient of ``<v, J h>`` for x."""
        if not self.over:
            return np.zeros_like(v)
        count, steep = self._count(), self.r * self.r * self.r
        of_v, of_h = self._sum(v), self._sum(h)
        along_v, along_h = self._sum(v * self.gap), self._sum(h * self.gap)
        inner = of_v * of_h / count - self._sum(h * v)
        inner = inner + self.r * self.r * along_h * along_v * 3 / count
        return (
            self.gap * steep * inner / count
            + along_v * steep / count * (of_h / count - h)
            + along_h * steep / count * (of_v / count - v)
        )

    def _count(self) -> int:
        return math.prod(self.gap.shape[axis] for axis in self.over)

    def _sum(self, x: Array) -> Array:
        return np.sum(x, axis=self.over, keepdims=True)


def _narrowed(statistic: Array) -> Array:
    """Round to the format of x, where that has 16 bits: statistics are kept in float32."""
    return leave_kernel(enter_kernel(statistic))


def _to_gradient(g: Any, normal: _Normal) -> Array:
    """Return the gradient of dy, from those of dx, dw and db, the last two in axes of x."""
    terms = []
    if arrived(g[0]):
        back = normal.through(g[0])
        terms.append(back if normal.w is None else back * normal.w)
    if arrived(g[1]):
        terms.append(g[1] * normal.gap * normal.r)
    if arrived(g[2]):
        terms.append(g[2] * np.asarray(np.ones(normal.gap.shape), like=g[2]))
    return added(terms, g[0], normal.gap.shape)


def _to_input(g: Any, normal: _Normal) -> Array:
    """Return the gradient of x alike."""
    terms, dy = [], normal.dy
    if arrived(g[0]):
        terms.append(normal.bent(g[0], dy if normal.w is None else dy * normal.w))
    if arrived(g[1]):
        terms.append(normal.through(g[1] * dy))
    return added(terms, g[0], dy.shape)


def _to_weight(g: Any, normal: _Normal) -> Array:
    """Return the gradient of w, before it is summed over the axes that w does not have."""
    # Where dx was not asked for, its gradient is 0 and has no shape.
    dy = normal.dy
    return dy * normal.through(g[0]) if arrived(g[0]) else np.zeros_like(g[0], shape=dy.shape)


_SENT = {"dy": _to_gradient, "x": _to_input, "w": _to_weight}


def _rows_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes that a layer norm's backward leaves apart, see `Rule`: the first, if any."""
    apart = len(shapes["x"]) > len(parameters["normalized_shape"])
    return "n,n,n,n,,->n,," if apart else ""


_MEANING = (
    "sends the gradient through the normalisation's backward once more, moves the mean and the "
    "deviation with the input, and has sums over the batch for the weight"
)


@rule(
    "aten.native_layer_norm_backward",
    "y = row_back(dy if w is None else dy * w, x, m, r), "
    "add_up(dy * (x - m) * r, normalized_shape), add_up(dy, normalized_shape)",
    meaning=_MEANING,
    composite=True,  # each row's part is stored in the tensor's format
    apart=_rows_apart,
)
def layer_norm_backward(
    dy: Array,
    x: Array,
    m: Array,
    r: Array,
    w: Array | None,
    b: Array | None,
    *,
    normalized_shape: Sizes,
    output_mask: tuple[bool, ...],
) -> tuple[Array | None, ...]:
    how = {"normalized_shape": normalized_shape, "eps": None}
    return tuple(
        layer_norm.gradients[name]((dy,), (None, m, r), (x, w, b), how) if asked else None
        for name, asked in zip("xwb", output_mask, strict=True)
    )


def _over_rows(operand: str, text: str) -> None:
    @layer_norm_backward.vjp(operand, text)
    def _(
        g: Any, dy: Array, x: Array, m: Array, r: Array, w: Array | None, *, normalized_shape: Sizes
    ) -> Array:
        begun = x.ndim - len(normalized_shape)
        last = tuple(range(begun, x.ndim))
        sent = _SENT[operand](g, _Normal(x - _narrowed(m), _narrowed(r), last, dy, w))
        return np.sum(sent, axis=tuple(range(begun))) if operand == "w" else sent


_over_rows("dy", "(1 if w is None else w) * row_back(g[0], x, m, r) + g[1] * (x - m) * r + g[2]")
_over_rows(
    "x", "row_bend(g[0], dy if w is None else dy * w, x, m, r) + row_back(g[1] * dy, x, m, r)"
)
_over_rows("w", "add_up(dy * row_back(g[0], x, m, r), normalized_shape)")
layer_norm_backward.constant_in("m", "r", "b")


def _wide(g: Any, x: Array) -> tuple[Array, ...]:
    """Give what came in for weight and bias the axes of x, if anything did."""
    return g[0], *(per_channel(v, x) if arrived(v) else v for v in g[1:])


_STATISTICS = "running_mean, running_var, train, eps"


@rule(
    "aten.native_batch_norm_backward",
    f"y = batch_norm_input(dy, x, w, {_STATISTICS}), batch_norm_weight(dy, x, {_STATISTICS}), "
    "sum_positions(dy)",
    meaning=_MEANING,
    composite=OUT_OF_ORDER,
    apart="_c,_c,c,c,c,c,c->_c,c,c",
)
def batch_norm_backward(
    dy: Array,
    x: Array,
    w: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    saved_mean: Array | None,
    saved_inverse: Array | None,
    *,
    train: bool,
    eps: Any,
    output_mask: tuple[bool, ...],
) -> tuple[Array | None, ...]:
    results, how = (None, saved_mean, saved_inverse), {"training": train, "eps": eps}
    operands = (x, w, None, running_mean, running_var)
    return tuple(
        batch_norm.gradients[name]((dy,), results, operands, how) if asked else None
        for name, asked in zip("xwb", output_mask, strict=True)
    )


def _over_channels(operand: str, text: str) -> None:
    @batch_norm_backward.vjp(operand, text)
    def _(
        g: Any,
        dy: Array,
        x: Array,
        w: Array | None,
        running_mean: Array | None,
        running_var: Array | None,
        saved_mean: Array,
        saved_inverse: Array,
        *,
        train: bool,
        eps: Any,
    ) -> Array:
        over = (0, *range(2, x.ndim))
        if train:
            mean, r = (per_channel(_narrowed(kept), x) for kept in (saved_mean, saved_inverse))
        else:
            mean, r = per_channel(running_mean, x), 1 / np.sqrt(per_channel(running_var, x) + eps)
        scale = None if w is None else per_channel(w, x)
        normal = _Normal(x - mean, r, over if train else (), dy, scale)
        sent = _SENT[operand](_wide(g, x), normal)
        return np.sum(sent, axis=over) if operand == "w" else sent


_over_channels(
    "dy",
    f"batch_norm_input(g[0], x, w, {_STATISTICS})"
    f" + channel_times(batch_norm(x, None, None, {_STATISTICS})[0], g[1])"
    " + channel_times(ones(shape(x)), g[2])",
)
_over_channels(
    "x",
    f"batch_norm_bend(g[0], dy, x, w, {_STATISTICS})"
    f" + batch_norm_input(channel_times(dy, g[1]), x, None, {_STATISTICS})",
)
_over_channels("w", f"sum_positions(dy * batch_norm_input(g[0], x, None, {_STATISTICS}))")
batch_norm_backward.constant_in("saved_mean", "saved_inverse")
