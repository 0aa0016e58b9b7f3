"""Bounds of symmetric factors L D L^T: judged by their product, as other factors are.

Elimination with blocks of one or two rows gives the exact factors of A + D, with
``|D| <= gamma_13n (|A| + |L| |D| |L^T|)`` in the order of A's rows: of each of up to n steps the
solution with a block counts 10 roundings, and the product that is taken away 3 (Higham 2002,
theorem 11.3, for the method). So do the solutions of two triangular systems and of D.

A recorded factor may be off by that: D itself, a number of L over the larger number of D in its
column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import COMPLEX_FUNCTIONS, Bounded, Plain
from gradwitness.engine.bounded.orthogonal import DOUBT, require_finite, roundings_of
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.linalg.ldl import (
    block_of,
    blocks,
    exchange,
    mirrored,
    product,
    symmetric_factors,
    symmetric_product,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _roundings(A: Bounded) -> int:
    return 13 * roundings_of(A) * A.shape[-1]


def _sizes(LD: Plain, pivots: Plain, hermitian: bool) -> Plain:
    """Return |L| |D| |L^T| of one matrix."""
    return np.asarray(product(np.abs(LD), pivots, hermitian))


def _shows(E: Plain, LD: Plain, pivots: Plain, hermitian: bool) -> Plain:
    """Return from where on an error of a factor moves the product by more than E."""
    found = np.array(E)
    for k, end, one, other in blocks(pivots):
        exchange(found, one, other, k)
        size = np.abs(block_of(LD, k, end, hermitian))
        with np.errstate(divide="ignore", invalid="ignore"):
            each = found[end:, None, k:end] / size
        found[end:, k:end] = np.min(np.where(size > 0, each, np.inf), axis=-1)
    return np.tril(found)


@stands_for(symmetric_factors)
def _symmetric_factors(
    func: Any, A: Bounded, *, LD: Plain, pivots: Plain, hermitian: bool
) -> Bounded:
    require_finite(A.value)
    arithmetic, roundings = A.arithmetic, _roundings(A)
    value = np.zeros(A.shape, LD.dtype)
    errors = [np.zeros(A.shape), np.zeros(A.shape)]
    for at in np.ndindex(A.shape[:-2]):
        matrix, recorded, order = mirrored(A.value[at], hermitian), LD[at], pivots[at]
        size = np.abs(matrix) + _sizes(recorded, order, hermitian)
        off = np.abs(product(recorded, order, hermitian) - matrix)

        def holds(growth: Callable[[float], float], off: Plain = off, size: Plain = size) -> bool:
            return bool(np.all(off <= growth(roundings) * size))

        taken = holds(arithmetic.probable_growth)
        if not taken and holds(arithmetic.worst_growth):
            raise NotImplementedError(DOUBT)
        form: dict[str, Any] = {"LD": recorded, "pivots": order, "hermitian": hermitian}
        value[at] = np.tril(recorded) if taken else func(A.value[at], **form)
        for error, growth in zip(errors, arithmetic.growths, strict=True):
            error[at] = _shows(2 * growth(roundings) * size, value[at], order, hermitian)
    return Bounded(value, arithmetic, *errors)


@stands_for(symmetric_product)
def _symmetric_product(func: Any, LD: Bounded, *, pivots: Plain, hermitian: bool) -> Bounded:
    value = func(LD.value, pivots=pivots, hermitian=hermitian)
    sizes = np.zeros(LD.shape)
    for at in np.ndindex(LD.shape[:-2]):
        sizes[at] = _sizes(LD.value[at], pivots[at], hermitian)
    errors = (growth(_roundings(LD)) * sizes for growth in LD.arithmetic.growths)
    return Bounded(value, LD.arithmetic, *errors)


COMPLEX_FUNCTIONS.update(("symmetric_factors", "symmetric_product"))
