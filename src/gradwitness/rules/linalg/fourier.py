"""Discrete Fourier transforms: of complex numbers, of real ones, and back; windows for them.

Real and imaginary parts are held apart, so the gradient is that of the adjoint: the transform in
the other direction, on the same scale.
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.registry import Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

Dims: TypeAlias = "tuple[int, ...]"

# By torch's number: none, by the root of the length, by the length. NumPy names them by the
# direction that is scaled.
_Norms: TypeAlias = "tuple[Literal['backward', 'ortho', 'forward'], ...]"
_FORWARD: _Norms = ("backward", "ortho", "forward")
_INVERSE: _Norms = ("forward", "ortho", "backward")


def _transform(x: Array, dim: Dims, normalization: int, forward: bool) -> Array:
    if not dim:
        return x
    if forward:
        return np.fft.fftn(x, axes=dim, norm=_FORWARD[normalization])
    return np.fft.ifftn(x, axes=dim, norm=_INVERSE[normalization])


def _batched(shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Any]) -> str:
    """Return the letters of the axes along which there is a transform for each place."""
    axes, along = len(shapes["x"]), parameters["dim"]
    letters = "".join("_" if k in along else string.ascii_letters[k] for k in range(axes))
    return f"{letters}->{letters}"


@rule(
    "aten._fft_c2c",
    "y = fft(x, dim, normalization, forward)",
    meaning="transforms the gradient in the other direction, on the same scale",
    apart=_batched,
)
def fft_c2c(x: Array, *, dim: Dims, normalization: int, forward: bool) -> Array:
    return _transform(x, dim, normalization, forward)


fft_c2c.vjp("x", "fft(g, dim, normalization, not forward)")(
    lambda g, *, dim, normalization, forward: _transform(g, dim, normalization, not forward)
)


@rule(
    "aten._fft_r2c",
    "y = rfft(x, dim, normalization, onesided)",
    meaning="transforms the gradient back, zeros in place of the frequencies that were left out, "
    "and takes the real part",
    apart=_batched,
)
def fft_r2c(x: Array, *, dim: Dims, normalization: int, onesided: bool) -> Array:
    if onesided:
        return np.fft.rfftn(x, axes=dim, norm=_FORWARD[normalization])
    return _transform(x, dim, normalization, True)


@fft_r2c.vjp("x", "real(fft(to_length(g, dim, shape(x)), dim, normalization, False))")
def _(g: Array, x: Shaped, *, dim: Dims, normalization: int, onesided: bool) -> Array:
    if not onesided:
        return np.real(_transform(g, dim, normalization, False))
    # Zeros in place of frequencies left out, and the real part: half a pair and its conjugate.
    sizes = [x.shape[axis] for axis in dim]
    halves = np.where(_paired(g, dim[-1], sizes[-1]), g / 2, g)
    return np.fft.irfftn(halves, s=sizes, axes=dim, norm=_INVERSE[normalization])


def _paired(spectrum: Array, axis: int, length: int) -> Array:
    """Where a one-sided spectrum stands for two frequencies, so that it can be broadcast to it."""
    axis %= spectrum.ndim
    frequency = np.arange(spectrum.shape[axis], like=spectrum)
    paired = (frequency > 0) & (frequency < math.ceil(length / 2))
    return np.expand_dims(paired, tuple(range(1, spectrum.ndim - axis)))


@rule(
    "aten._fft_c2r",
    "y = irfft(x, dim, normalization, last_dim_size)",
    meaning="transforms the gradient; what stood for two frequencies gets it twice",
    apart=_batched,
)
def fft_c2r(x: Array, *, dim: Dims, normalization: int, last_dim_size: int) -> Array:
    sizes = [*(x.shape[axis] for axis in dim[:-1]), last_dim_size]
    return np.fft.irfftn(x, s=sizes, axes=dim, norm=_INVERSE[normalization])


@fft_c2r.vjp("x", "twice_inside(rfft(g, dim, normalization, True), dim, last_dim_size)")
def _(g: Array, *, dim: Dims, normalization: int, last_dim_size: int) -> Array:
    spectrum = np.fft.rfftn(g, axes=dim, norm=_FORWARD[normalization])
    return np.where(_paired(spectrum, dim[-1], last_dim_size), 2 * spectrum, spectrum)


def _raised_cosine(length: Any, periodic: bool, alpha: Any, beta: Any) -> Array:
    """Return a window of a length, which comes as an array without axes if bounds are asked for."""
    count = int(ignore_error(length))
    if count < 2:
        return np.ones(count)
    step = 2 * np.pi / (length if periodic else length - 1)
    return alpha - beta * np.cos(step * np.arange(count))


@rule(
    "aten.hann_window",
    "y = raised_cosine(window_length, periodic, 0.5, 0.5)",
    composite=True,
    doubles=("window_length",),
)
def hann_window(*, window_length: Any, periodic: bool = True) -> Array:
    return _raised_cosine(window_length, periodic, 0.5, 0.5)


@rule(
    "aten.hamming_window",
    "y = raised_cosine(window_length, periodic, alpha, beta)",
    composite=True,
    doubles=("window_length",),
)
def hamming_window(
    *, window_length: Any, periodic: bool = True, alpha: Any = 0.54, beta: Any = 0.46
) -> Array:
    return _raised_cosine(window_length, periodic, alpha, beta)
