"""Words of formulas of complex numbers and of Fourier transforms, these by their very definition.

Nothing here may come from the rules.
"""

from __future__ import annotations

import cmath
import math
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any
Dims: TypeAlias = "tuple[int, ...]"


def is_complex(x: Plain) -> bool:
    return np.iscomplexobj(x)


def conj(x: Plain) -> Plain:
    if isinstance(x, list):
        return [conj(each) for each in x]
    return np.asarray(x).real - 1j * np.asarray(x).imag if is_complex(x) else x


def parts(x: Plain) -> Plain:
    out = np.empty((*x.shape, 2))
    for at in np.ndindex(x.shape):
        out[at] = complex(x[at]).real, complex(x[at]).imag
    return out


def over(x: Plain, size: Plain) -> Plain:
    """A quotient, and 0 where the denominator is 0."""
    rows = np.broadcast_arrays(x, size)
    quotients = [a / b if b else 0 * a for a, b in zip(*map(np.ravel, rows), strict=True)]
    return np.array(quotients).reshape(rows[0].shape)


def _roots(n: int, sign: int) -> Plain:
    """The matrix of a transform, each of whose entries is one of n roots of unity."""
    roots = [cmath.exp(sign * 2j * math.pi * k / n) for k in range(n)]
    return np.array([[roots[j * k % n] for j in range(n)] for k in range(n)])


def _along(x: Plain, axis: int, matrix: Plain) -> Plain:
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def _scale(lengths: list[int], normalization: int) -> float:
    """The factor of no scale, of that by the root of the length, of that by the length."""
    return float(math.prod(lengths)) ** (0, -0.5, -1)[normalization]


def fft(x: Plain, dim: Dims, normalization: int, forward: bool) -> Plain:
    lengths = [x.shape[axis] for axis in dim]
    for axis, n in zip(dim, lengths, strict=True):
        x = _along(x, axis, _roots(n, -1 if forward else 1))
    return x * _scale(lengths, normalization)


def rfft(x: Plain, dim: Dims, normalization: int, onesided: bool) -> Plain:
    whole = fft(x, dim, normalization, forward=True)
    kept = x.shape[dim[-1]] // 2 + 1 if onesided else x.shape[dim[-1]]
    return np.moveaxis(np.moveaxis(whole, dim[-1], 0)[:kept], 0, dim[-1])


def irfft(x: Plain, dim: Dims, normalization: int, last_dim_size: int) -> Plain:
    """Put what half a spectrum leaves out beside it, conjugated, and take the real part."""
    n = last_dim_size
    for axis in dim[:-1]:
        x = _along(x, axis, _roots(x.shape[axis], 1))
    half = np.moveaxis(x, dim[-1], 0)
    whole = np.stack([half[k] if k <= n // 2 else conj(half[n - k]) for k in range(n)])
    # Of the numbers that have no partner the real part counts.
    for k in {0, n // 2} if n % 2 == 0 else {0}:
        whole[k] = whole[k].real
    lengths = [*(x.shape[axis] for axis in dim[:-1]), n]
    made = np.tensordot(_roots(n, 1), whole, (1, 0)).real
    return np.moveaxis(made, 0, dim[-1]) * _scale(lengths, normalization)


def to_length(g: Plain, dim: Dims, size: Dims) -> Plain:
    """Put zeros behind the numbers of the last axis that is transformed."""
    del dim
    out = np.zeros(size, np.complex128)
    for at in np.ndindex(g.shape):
        out[at] = g[at]
    return out


def twice_inside(x: Plain, dim: Dims, last_dim_size: int) -> Plain:
    """Double the frequencies that have a partner among those left out."""
    rows = np.moveaxis(np.array(x), dim[-1], 0)
    for k, row in enumerate(rows):
        partner = (last_dim_size - k) % last_dim_size
        if partner != k:
            row *= 2
    return np.moveaxis(rows, 0, dim[-1])


def raised_cosine(window_length: Any, periodic: bool, alpha: float, beta: float) -> Plain:
    """A window whose ends are alike; of a periodic one the last is left out."""
    length = int(window_length)
    if length < 2:
        return np.full(length, 1.0)
    turns = length if periodic else length - 1
    return np.array([alpha - beta * math.cos(2 * math.pi * k / turns) for k in range(length)])


COMPLEX: dict[str, Any] = {
    "real": lambda x: np.asarray(x).real,
    "imag": lambda x: np.asarray(x).imag,
} | {
    word.__name__: word
    for word in (
        is_complex,
        conj,
        parts,
        over,
        fft,
        rfft,
        irfft,
        to_length,
        twice_inside,
        raised_cosine,
    )
}
