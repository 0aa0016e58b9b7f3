"""Channels that become pixels, pixels that become channels, and channels in another order."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.registry import Array, Shaped, rule


def _shuffled(x: Array, r: int) -> Array:
    *rest, channels, height, width = x.shape
    at = len(rest)
    parts = np.reshape(x, (*rest, channels // r**2, r, r, height, width))
    order = (*range(at), at, at + 3, at + 1, at + 4, at + 2)
    return np.reshape(np.transpose(parts, order), (*rest, channels // r**2, height * r, width * r))


def _unshuffled(x: Array, r: int) -> Array:
    *rest, channels, height, width = x.shape
    at = len(rest)
    parts = np.reshape(x, (*rest, channels, height // r, r, width // r, r))
    order = (*range(at), at, at + 2, at + 4, at + 1, at + 3)
    return np.reshape(np.transpose(parts, order), (*rest, channels * r**2, height // r, width // r))


@rule(
    "aten.pixel_shuffle",
    "y = shuffle(x, upscale_factor)",
    meaning="puts the gradients of each square of pixels back into the channels that they came "
    "from",
)
def pixel_shuffle(x: Array, *, upscale_factor: int) -> Array:
    return _shuffled(x, upscale_factor)


pixel_shuffle.vjp("x", "unshuffle(g, upscale_factor)")(
    lambda g, *, upscale_factor: _unshuffled(g, upscale_factor)
)


@rule(
    "aten.pixel_unshuffle",
    "y = unshuffle(x, downscale_factor)",
    meaning="puts the gradients of the channels back to the squares of pixels that they came from",
)
def pixel_unshuffle(x: Array, *, downscale_factor: int) -> Array:
    return _unshuffled(x, downscale_factor)


pixel_unshuffle.vjp("x", "shuffle(g, downscale_factor)")(
    lambda g, *, downscale_factor: _shuffled(g, downscale_factor)
)


def _dealt(x: Array, groups: int) -> Array:
    """Give out the channels in turn: the first of each group, then the second of each."""
    parts = np.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    return np.reshape(np.swapaxes(parts, 1, 2), x.shape)


@rule(
    "aten.channel_shuffle",
    "y = deal(x, groups)",
    meaning="puts the gradients of the channels back into the order that the channels had",
)
def channel_shuffle(x: Array, *, groups: int) -> Array:
    return _dealt(x, groups)


@channel_shuffle.vjp("x", "gather_up(g, groups)")
def _(g: Array, x: Shaped, *, groups: int) -> Array:
    return _dealt(g, x.shape[1] // groups)
