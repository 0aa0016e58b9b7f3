"""Functions of symmetric matrices that read one triangle of their argument.

A Cholesky factorisation does. Its derivative by the entries is 0 in the other triangle, and what a
function of symmetric matrices sends is another one, symmetric or not: it need only be right along
symmetric directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.custom.tangents import SYMMETRIC, is_symmetric, tangents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.custom.slopes import Claim, Runs
    from gradwitness.judging.custom.tangents import Tangent

    Floats = NDArray[np.float64]


def directions(functions: Runs, claim: Claim) -> list[Tangent]:
    """Return those along which alone a claim may be meant to be right."""
    unit = unit_roundoff(claim.dtype)
    kept = [*tangents(claim.at, claim.sent, unit)]
    fits = claim.sent.shape == claim.at.shape and is_symmetric(claim.at, unit)
    if SYMMETRIC not in kept and fits and _reads_one(functions, claim):
        kept.append(SYMMETRIC)
    return kept


def _reads_one(functions: Runs, claim: Claim) -> bool:
    """Whether a function reads one triangle of a matrix, the diagonal left aside, not the other."""
    generator = np.random.default_rng([claim.node, claim.value])
    step = np.max(np.abs(claim.at)) * generator.choice([-1.0, 1.0], claim.at.shape)

    def results(part: Floats) -> list[Floats]:
        return [y for y in functions.run({claim.value: claim.at + part}) if y is not None]

    def reads(part: Floats) -> bool:
        try:
            return not all(map(np.array_equal, results(part), at_rest))
        except Unjudgeable:
            return True

    at_rest = results(np.zeros(claim.at.shape))
    return reads(np.triu(step, 1)) != reads(np.tril(step, -1))
