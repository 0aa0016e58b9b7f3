"""Bounds of reflections in turn: by the norm of what was off before, and number by number.

A reflection H = I - t v v^H is a normal matrix, whose eigenvalues are 1 and 1 - t |v|^2. So the
norm of an error E grows by ``|H|_2 = max(1, |1 - t |v|^2|)`` at most, by 1 where H is unitary, and
number by number ``|H| |E|`` may grow by 3 each time. What each adds itself, its m + 4 roundings, is
that of its formula. So r in turn are off by r times what one of them is (Higham 2002, lemmas 19.2
and 19.3, theorem 19.4). Blocks of reflections, as LAPACK applies them, satisfy a bound of the same
form (section 19.5): that they round in another order is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import COMPLEX_FUNCTIONS, Bounded, errors_of, value_of
from gradwitness.engine.bounded.orthogonal import roundings_of, size_of
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import gamma
from gradwitness.rules.linalg.factor_dispatch import householder

if TYPE_CHECKING:
    from gradwitness.engine.bounded.array import Error, Plain


class Reflected(Bounded):
    """A matrix whose error is known by its norm, too: of each column, and of the whole.

    ``norms`` holds both for each tier. Whatever else is computed from the matrix reads the bounds
    of its numbers.
    """

    __slots__ = ("norms",)

    norms: list[tuple[Plain, Plain]]


def _norms(error: Error) -> tuple[Plain, Plain]:
    """Return the norm of each column of an error, and of the whole."""
    squares = np.square(np.zeros((1, 1)) if error is None else error)
    columns = np.sqrt(np.sum(squares, axis=-2, keepdims=True))
    return columns, np.sqrt(np.sum(squares, axis=(-2, -1), keepdims=True))


def _growth(X: Bounded, v: Any, factor: Any, tier: int) -> Plain:
    """Return by what the norm of an error grows at most, its own roundings included."""
    t, off = value_of(factor), errors_of(factor)[tier]
    size, moved = size_of(value_of(v)), errors_of(v)[tier]
    off_t = 0.0 if off is None else off
    square = size**2 if moved is None else (size + size_of(moved)) ** 2
    rounded = gamma(roundings_of(X) * (np.shape(v)[-2] + 4), X.arithmetic.unit)
    grown = np.maximum(1, np.abs(1 - t * size**2))
    # What is off in t and v moves H itself.
    grown = grown + np.abs(t) * (square - size**2) + off_t * square
    return np.asarray(grown + rounded * (1 + (np.abs(t) + off_t) * square))[..., None, None]


@stands_for(householder)
def _householder(func: Any, X: Any, v: Any, factor: Any, *, right: bool = False) -> Bounded:
    arithmetic = next(x.arithmetic for x in (X, v, factor) if isinstance(x, Bounded))
    exact = Bounded(value_of(X), arithmetic)
    X = X if isinstance(X, Bounded) else exact
    by_number: Bounded = func.__wrapped__(X, v, factor, right=right)
    own: Bounded = func.__wrapped__(exact, v, factor, right=right)
    before = X.norms if isinstance(X, Reflected) else [*map(_norms, X.errors)]

    def norms(tier: int) -> tuple[Plain, Plain]:
        growth = _growth(X, v, factor, tier)
        pairs = zip(before[tier], _norms(own.errors[tier]), strict=True)
        columns, whole = (growth * past + added for past, added in pairs)
        # On its right, columns of an error mix.
        columns = np.fmin(np.inf if right else columns, whole)
        of_columns, of_whole = _norms(by_number.errors[tier])
        return np.fmin(columns, of_columns), np.fmin(whole, of_whole)

    both = [norms(tier) for tier in (0, 1)]
    errors = (
        None if error is None else np.fmin(error, columns)
        for error, (columns, _) in zip(by_number.errors, both, strict=True)
    )
    result = Reflected(by_number.value, arithmetic, *errors)
    result.norms = both
    return result


COMPLEX_FUNCTIONS.add("householder")
