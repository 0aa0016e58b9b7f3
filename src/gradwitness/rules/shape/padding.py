"""Padding by what the array itself holds, and sliding blocks as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradwitness.rules.layers.windows import Walk
from gradwitness.rules.registry import Array, Rule, rule
from gradwitness.rules.shape.indexing import added_up, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

Size: TypeAlias = tuple[int, ...]
Pair: TypeAlias = "int | Size"


def _around(x: Array, padding: Size, line: Callable[[int, int, int], Array]) -> Array:
    """Take along the last axes, of which padding names the last first, what a line says."""
    for k in range(len(padding) // 2):
        axis = x.ndim - 1 - k
        x = np.take(x, line(x.shape[axis], padding[2 * k], padding[2 * k + 1]), axis=axis)
    return x


def _mirrored(n: int, before: int, after: int) -> Array:
    """Return places that turn back at the first and at the last element."""
    at = np.abs(np.arange(-before, n + after))
    return np.where(at < n, at, 2 * (n - 1) - at)


def _held(n: int, before: int, after: int) -> Array:
    """Return places that stay at the first and at the last element."""
    return np.clip(np.arange(-before, n + after), 0, n - 1)


def _enter(
    name: str, word: str, line: Callable[[int, int, int], Array], meaning: str, *aliases: str
) -> Rule:
    """Enter the rule of padding that shows, at each place, the element that a line says."""

    @rule(name, f"y = {word}(x, padding)", meaning=meaning, aliases=aliases)
    def padded(x: Array, *, padding: Size) -> Array:
        return _around(x, padding, line)

    @padded.vjp("x", f"{word}_add(g, x, padding)")
    def _(g: Array, x: Array, *, padding: Size) -> Array:
        return added_up(g, _around(numbered(x), padding, line), x)

    return padded


reflection_pad = _enter(
    "aten.reflection_pad2d",
    "mirrored",
    _mirrored,
    "adds the gradients of the mirror images to those of the elements that they show",
    "aten.reflection_pad1d",
    "aten.reflection_pad3d",
)
replication_pad = _enter(
    "aten.replication_pad2d",
    "held",
    _held,
    "adds the gradients of the copies to those of the elements at the edge",
    "aten.replication_pad1d",
    "aten.replication_pad3d",
)


# Sliding blocks. A block becomes a column: its channels, and in each its elements.


def _blocks(x: Array, how: dict[str, Pair]) -> tuple[Array, Array]:
    """Return, for each number of the columns of x, its place in x, and where it has one."""
    walk = Walk(how["kernel_size"], how["stride"], how["padding"], how["dilation"])
    blocks = walk.windows(x)
    seen = blocks.seen
    planes = np.reshape(numbered(x), (-1, x.shape[-2] * x.shape[-1]))
    places = planes[:, blocks.places]
    rest = x.shape[:-3]
    sizes = (*rest, x.shape[-3] * seen.shape[0], seen.shape[1] * seen.shape[2])
    return np.reshape(places, sizes), np.reshape(
        np.broadcast_to(np.asarray(seen, like=x), places.shape), sizes
    )


def _columns(x: Array, how: dict[str, Pair]) -> Array:
    places, seen = _blocks(x, how)
    return np.where(seen, np.reshape(x, (x.size,))[places], 0)


def _folded(columns: Array, image: Array, how: dict[str, Pair]) -> Array:
    """Add up the numbers of all columns that stand for each place of an image."""
    places, seen = _blocks(image, how)
    return added_up(columns[seen], places[seen], image)


@rule(
    "aten.im2col",
    "y = columns(x, kernel_size, dilation, padding, stride)",
    meaning="adds up the gradients of all blocks that an element is in",
)
def im2col(x: Array, *, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Array:
    how = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    return _columns(x, how)


im2col.vjp("x", "from_columns(g, shape(x), kernel_size, dilation, padding, stride)")(
    lambda g, x, **how: _folded(g, x, how)
)


def _image(x: Array, output_size: Size, kernel_size: Pair) -> Array:
    """Return an array in the shape of what the columns x are blocks of."""
    height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    channels = x.shape[-2] // (height * width)
    return np.zeros((*x.shape[:-2], channels, *output_size), like=x)


@rule(
    "aten.col2im",
    "y = from_columns(x, (*shape(x)[:-2], channels(x, kernel_size), *output_size), kernel_size, "
    "dilation, padding, stride)",
    meaning="gives each number of a block the gradient of the place that it was added to",
)
def col2im(
    x: Array,
    *,
    output_size: Size,
    kernel_size: Pair,
    dilation: Pair,
    padding: Pair,
    stride: Pair,
) -> Array:
    how = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    return _folded(x, _image(x, output_size, kernel_size), how)


col2im.vjp("x", "columns(g, kernel_size, dilation, padding, stride)")(
    lambda g, **how: _columns(g, how)
)
