"""Orthogonal polynomials, by the recurrences that kernels run: their roundings are the bound.

Torch differentiates none of them. Between -1 and 1, Chebyshev's are cosines and sines from some
degree on, where a recurrence would lose more digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import require_certain
from gradwitness.rules.registry import Array, elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    # The next polynomial, from k, x, and those of degree k and k - 1.
    Step: TypeAlias = Callable[[int, Array, Array, Array], Array]
    First: TypeAlias = Callable[[Array], Array]

# Beyond, neither a recurrence nor its bound says anything.
_MOST = 512


def _degrees(x: Array, n: Array) -> tuple[Array, Array]:
    """Return the argument as an array, and the degrees: whole numbers, cut off."""
    if "f" not in (
        getattr(x, "dtype", np.dtype(int)).kind,
        getattr(n, "dtype", np.dtype(int)).kind,
    ):
        raise NotImplementedError("whole numbers, which the kernel converts first")
    if getattr(x, "dtype", np.dtype(int)).kind != "f" or not hasattr(x, "shape"):
        x = np.ones_like(n) * x
    degree = require_certain(np.trunc(n)).astype(np.int64)
    if _largest(degree) > _MOST:
        raise NotImplementedError(f"degrees above {_MOST}")
    return x, degree


def _largest(degree: Array) -> int:
    return int(np.max(degree)) if degree.size else 0


def _recurrence(x: Array, degree: Array, first: First, step: Step) -> Array:
    below, at = np.ones_like(x), first(x)
    y = np.where(np.equal(degree, 0), below, np.where(np.equal(degree, 1), at, np.zeros_like(x)))
    for k in range(1, _largest(degree)):
        below, at = at, step(k, x, at, below)
        y = np.where(np.equal(degree, k + 1), at, y)
    return y


def _enter(name: str, text: str, first: First, step: Step) -> None:
    @elementwise(f"aten.special_{name}", text)
    def polynomial(x: Array, n: Array) -> Array:
        return _recurrence(*_degrees(x, n), first, step)


_enter(
    "hermite_polynomial_h",
    "y = hermite(n, x)",
    lambda x: 2 * x,
    lambda k, x, at, below: 2 * x * at - 2 * k * below,
)
_enter(
    "hermite_polynomial_he",
    "y = probabilists_hermite(n, x)",
    lambda x: x,
    lambda k, x, at, below: x * at - k * below,
)
_enter(
    "laguerre_polynomial_l",
    "y = laguerre(n, x)",
    lambda x: 1 - x,
    lambda k, x, at, below: ((2 * k + (1 - x)) * at - k * below) / (k + 1),
)
_enter(
    "legendre_polynomial_p",
    "y = legendre(n, x)",
    lambda x: x,
    lambda k, x, at, below: ((2 * k + 1) * x * at - k * below) / (k + 1),
)


def _in_degrees(kind: str, t: Array, degree: Array) -> Array:
    """Return one of Chebyshev's polynomials at cos(t)."""
    if kind == "T":
        return np.cos(degree * t)
    if kind == "U":
        return np.sin((degree + 1) * t) / np.sin(t)
    if kind == "V":
        return np.cos((degree + 0.5) * t) / np.cos(t / 2)
    return np.sin((degree + 0.5) * t) / np.sin(t / 2)


# The first polynomial, by kind.
_CHEBYSHEV: dict[str, First] = {
    "T": lambda x: x,
    "U": lambda x: 2 * x,
    "V": lambda x: 2 * x - 1,
    "W": lambda x: 2 * x + 1,
}


def _chebyshev(kind: str, x: Array, degree: Array, by_angle: Array) -> Array:
    rest = np.where(by_angle, 0, degree)
    y = _recurrence(x, rest, _CHEBYSHEV[kind], lambda _, x, at, below: 2 * x * at - below)
    if not np.any(by_angle):
        return y
    angle = np.arccos(np.where(by_angle, x, 0.0))
    return np.where(by_angle, _in_degrees(kind, angle, degree), y)


def _enter_chebyshev(
    kind: str, shifted: str, moved: Callable[[Array], Array], at: str, highest: int
) -> None:
    """Enter a polynomial, and up to which degree the kernel takes the recurrence everywhere."""

    @elementwise(
        f"aten.special_{shifted}chebyshev_polynomial_{kind.lower()}",
        f"y = chebyshev('{kind}', n, {at})",
    )
    def polynomial(x: Array, n: Array) -> Array:
        x, degree = _degrees(x, n)
        z = moved(x)
        return _chebyshev(kind, z, degree, (degree > highest) & np.less(np.absolute(z), 1))


for _kind, _highest, _highest_shifted in (("T", 6, 6), ("U", 8, 6), ("V", 8, 6), ("W", 8, 4)):
    _enter_chebyshev(_kind, "", lambda x: x, "x", _highest)
    _enter_chebyshev(_kind, "shifted_", lambda x: 2 * x - 1, "2 * x - 1", _highest_shifted)
