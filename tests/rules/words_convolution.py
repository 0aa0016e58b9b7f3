"""The words of convolutions: one visit for each product that a convolution is a sum of."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]
Visit: TypeAlias = tuple[Sizes, Sizes, Sizes]


def _visits(
    y: Sizes, x: Sizes, w: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Iterator[Visit]:
    """Places in result, input and kernel that meet: at s i + d k - p, within the group."""
    for n, o in itertools.product(range(y[0]), range(y[1])):
        group = o // (y[1] // groups)
        for i, k in itertools.product(np.ndindex(y[2:]), np.ndindex(w[2:])):
            steps = zip(i, k, stride, dilation, padding, strict=True)
            at = tuple(s * a + d * b - p for a, b, s, d, p in steps)
            if any(not 0 <= a < size for a, size in zip(at, x[2:], strict=True)):
                continue
            for c in range(w[1]):
                yield (n, o, *i), (n, group * w[1] + c, *at), (o, c, *k)


class _Walk:
    """A convolution term by term: each product of an input, a weight and an output entry.

    A transposed convolution exchanges what is walked over and what is made.
    """

    def __init__(
        self,
        x: Plain,
        w: Plain,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        transposed: bool,
        output_padding: Sizes,
        groups: int,
    ) -> None:
        # One number alone stands for all axes.
        stride, padding, dilation, output_padding = (
            (*each,) * (w.ndim - 2 if len(each) == 1 else 1)
            for each in (stride, padding, dilation, output_padding)
        )
        axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
        if transposed:
            sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes]
            spatial = [n + extra for n, extra in zip(sizes, output_padding, strict=True)]
            self.made = (x.shape[0], w.shape[1] * groups, *spatial)
            small, large = x.shape, self.made
        else:
            sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]
            self.made = (x.shape[0], w.shape[0], *sizes)
            small, large = self.made, x.shape
        self.terms = [
            (at_large, at_w, at_small) if transposed else (at_small, at_w, at_large)
            for at_small, at_large, at_w in _visits(
                small, large, w.shape, stride, padding, dilation, groups
            )
        ]


def conv(x: Plain, w: Plain, *rest: Any) -> Plain:
    walk = _Walk(x, w, *rest)
    y = np.zeros(walk.made)
    for at_y, at_w, at_x in walk.terms:
        y[at_y] += x[at_x] * w[at_w]
    return y


def conv_input(g: Plain, x: Plain, w: Plain, *rest: Any) -> Plain:
    dx = np.zeros(x.shape)
    for at_y, at_w, at_x in _Walk(x, w, *rest).terms:
        dx[at_x] += g[at_y] * w[at_w]
    return dx


def conv_weight(g: Plain, x: Plain, w: Plain, *rest: Any) -> Plain:
    dw = np.zeros(w.shape)
    for at_y, at_w, at_x in _Walk(x, w, *rest).terms:
        dw[at_w] += g[at_y] * x[at_x]
    return dw


class channelwise:
    """One number for each channel, which is axis 1 of what it is added to; None adds nothing."""

    __array_ufunc__ = None  # so that ndarray + channelwise comes here

    def __init__(self, b: Plain | None) -> None:
        self.b = b

    def __radd__(self, y: Plain) -> Plain:
        if self.b is None:
            return y
        return np.stack([y[:, o] + self.b[o] for o in range(y.shape[1])], axis=1)


def sum_positions(g: Plain) -> Plain:
    return np.array([math.fsum(np.ravel(g[:, o])) for o in range(g.shape[1])])


CONVOLUTION: dict[str, Any] = {
    word.__name__: word for word in (conv, conv_input, conv_weight, channelwise, sum_positions)
}
