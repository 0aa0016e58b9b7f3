"""Properties of an input's numbers, with which they are tried and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.judging.fuzz.drawn import is_float

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]

ZEROS, NEGATIVE, TIES = "zeros", "negative", "ties"
DUPLICATES = "duplicates"


def properties(array: Array) -> dict[str, bool]:
    """Return which of them an array has."""
    flat = array.ravel()
    if not is_float(array):
        return {DUPLICATES: np.unique(flat).size < flat.size} if array.dtype.kind in "iu" else {}
    some = flat[flat != 0]
    return {
        ZEROS: bool((flat == 0).any()),
        NEGATIVE: bool((flat < 0).any()),
        TIES: np.unique(some).size < some.size,
    }


def changeable(array: Array) -> list[tuple[str, bool]]:
    """Return which property an array can be made to have or to lack, that it lacks or has."""
    holds = properties(array)
    return [(name, not has) for name, has in holds.items()]


def holding(array: Array, name: str, *, wanted: bool, rng: np.random.Generator) -> Array:
    """Return an array whose numbers have a property, or lack it."""
    flat = array.flatten()
    _MAKE[name, wanted](flat, rng)
    return flat.reshape(array.shape)


def _zeros(flat: Array, rng: np.random.Generator) -> None:
    flat[rng.permutation(flat.size)[: max(1, flat.size // 3)]] = 0


def _no_zeros(flat: Array, rng: np.random.Generator) -> None:
    other = flat[flat != 0]
    found = flat == 0
    size = np.abs(other).mean() if other.size else 1.0
    flat[found] = size * rng.uniform(0.5, 1.5, int(found.sum()))


def _negative(flat: Array, rng: np.random.Generator) -> None:
    flat[rng.permutation(flat.size)[: max(1, flat.size // 2)]] *= -1


def _not_negative(flat: Array, rng: np.random.Generator) -> None:
    del rng
    np.abs(flat, out=flat)


def _ties(flat: Array, rng: np.random.Generator) -> None:
    del rng
    flat[1::2] = flat[0 : 2 * (flat.size // 2) : 2]


def _no_ties(flat: Array, rng: np.random.Generator) -> None:
    flat *= 1 + 2.0**-6 * rng.uniform(-1, 1, flat.size)


def _unlike(flat: Array, rng: np.random.Generator) -> None:
    flat[:] = np.resize(rng.permutation(int(flat.max(initial=0)) + 1), flat.size)


_MAKE: Mapping[tuple[str, bool], Callable[[Array, np.random.Generator], None]] = {
    (ZEROS, True): _zeros,
    (ZEROS, False): _no_zeros,
    (NEGATIVE, True): _negative,
    (NEGATIVE, False): _not_negative,
    (TIES, True): _ties,
    (TIES, False): _no_ties,
    (DUPLICATES, True): _ties,
    (DUPLICATES, False): _unlike,
}
