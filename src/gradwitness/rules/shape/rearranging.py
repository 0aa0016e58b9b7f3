"""Rearranging: copies, reversals, rolls, triangles, diagonals, windows, padding."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import added_up, filled, numbered

Size: TypeAlias = tuple[int, ...]


@rule(
    "aten.repeat",
    "y = tile(x, repeats)",
    meaning="sums the gradients of all copies of each element",
)
def repeat(x: Array, *, repeats: Size) -> Array:
    return np.tile(x, repeats)


@repeat.vjp("x", "untile(g, x, repeats)")
def _(g: Array, x: Shaped, *, repeats: Size) -> Array:
    # Torch stores the sum over the axes that were added before it sums the rest.
    added = len(repeats) - x.ndim
    g = np.sum(g, axis=tuple(range(added))) if added else g
    # Each axis becomes two, copies before elements.
    pairs = [n for pair in zip(repeats[added:], x.shape, strict=True) for n in pair]
    return np.sum(np.reshape(g, tuple(pairs)), axis=tuple(range(0, len(pairs), 2)))


@rule("aten.flip", "y = flip(x, dims)", meaning="reverses the gradient along the same axes")
def flip(x: Array, *, dims: Size) -> Array:
    return np.flip(x, dims)


flip.vjp("x", "flip(g, dims)")(lambda g, *, dims: np.flip(g, dims))


@rule(
    "aten.rot90",
    "y = turned(x, k, dims)",
    meaning="turns the gradient back by as many quarters",
)
def rot90(x: Array, *, k: int = 1, dims: Size = (0, 1)) -> Array:
    return _turned(x, k, dims)


def _turned(x: Array, quarters: int, dims: Size) -> Array:
    """Turn a plane by quarters, from its first axis towards its second."""
    first, second = dims
    for _ in range(quarters % 4):
        x = np.flip(np.swapaxes(x, first, second), first)
    return x


rot90.vjp("x", "turned(g, -k, dims)")(lambda g, *, k, dims: _turned(g, -k, dims))


@rule(
    "aten.roll",
    "y = roll(x, shifts, dims)",
    meaning="rolls the gradient back by the same number of places",
)
def roll(x: Array, *, shifts: Size, dims: Size = ()) -> Array:
    return np.roll(x, shifts if dims else shifts[0], dims or None)


@roll.vjp("x", "unroll(g, shifts, dims)")
def _(g: Array, *, shifts: Size, dims: Size) -> Array:
    back = tuple(-shift for shift in shifts)
    return np.roll(g, back if dims else back[0], dims or None)


def _enter_triangle(name: str, part: Any, which: str, kept: str, lost: str) -> None:
    entered = rule(
        name,
        f"y = {which}_part(x, diagonal)",
        meaning=f"keeps the gradient on and {kept} the diagonal, and has zero {lost} it",
    )(lambda x, *, diagonal=0: part(x, diagonal))
    entered.vjp("x", f"{which}_part(g, diagonal)")(lambda g, *, diagonal: part(g, diagonal))


_enter_triangle("aten.tril", np.tril, "lower", "below", "above")
_enter_triangle("aten.triu", np.triu, "upper", "above", "below")


@rule(
    "aten.diagonal",
    "y = diagonal_of(x, offset, dim1, dim2)",
    meaning="puts the gradient on the diagonal that was read, among zeros",
    aliases=("aten.diagonal_copy",),
)
def diagonal(x: Array, *, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return np.diagonal(x, offset, dim1, dim2)


@diagonal.vjp("x", "along_diagonal(g, x, offset, dim1, dim2)")
def _(g: Array, x: Array, *, offset: int, dim1: int, dim2: int) -> Array:
    places = np.diagonal(numbered(x), offset, dim1, dim2)
    return filled(np.zeros_like(g, shape=x.shape), places, g)


@rule(
    "aten.unfold",
    "y = windows(x, dimension, size, step)",
    meaning="adds the gradients of all windows that an element was seen through",
    aliases=("aten.unfold_copy",),
)
def unfold(x: Array, *, dimension: int, size: int, step: int) -> Array:
    return _windows(x, dimension, size, step)


@unfold.vjp("x", "add_windows(g, x, dimension, size, step)")
def _(g: Array, x: Array, *, dimension: int, size: int, step: int) -> Array:
    return added_up(g, _windows(numbered(x), dimension, size, step), x)


def _windows(x: Array, dimension: int, size: int, step: int) -> Array:
    if not x.ndim:  # one window, of what there is
        return np.reshape(x, (1,))[:size]
    seen = np.lib.stride_tricks.sliding_window_view(x, size, axis=dimension)
    return seen[(*(slice(None),) * (dimension % x.ndim), slice(None, None, step))]


@rule(
    "aten.constant_pad_nd",
    "y = padded(x, pad, value)",
    meaning="cuts the padding off the gradient, and has zeros where a negative padding cut",
)
def constant_pad_nd(x: Array, *, pad: Size, value: Any = 0) -> Array:
    widths = _widths(x, pad)
    out = np.zeros_like(
        x, shape=tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    )
    out[...] = value
    out[_inside(widths)] = x[_inside([(-a, -b) for a, b in widths])]
    return out


@constant_pad_nd.vjp("x", "unpadded(g, x, pad)")
def _(g: Array, x: Array, *, pad: Size) -> Array:
    widths = _widths(x, pad)
    out = np.zeros_like(g, shape=x.shape)
    out[_inside([(-a, -b) for a, b in widths])] = g[_inside(widths)]
    return out


def _widths(x: Array, pad: Size) -> list[tuple[int, int]]:
    """Return the padding before and after each axis; torch names the last axis first."""
    named = [(pad[k], pad[k + 1]) for k in range(0, len(pad), 2)]
    return [(0, 0)] * (x.ndim - len(named)) + named[::-1]


def _inside(widths: list[tuple[int, int]]) -> tuple[slice, ...]:
    """Return what lies between the paddings that are positive."""
    return tuple(slice(max(a, 0), -b if b > 0 else None) for a, b in widths)
