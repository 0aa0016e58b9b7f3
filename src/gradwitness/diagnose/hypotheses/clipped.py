"""Mistake: the gradients were clipped, by their total norm, each norm, or value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, jointly, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

BY_NORM = "clipped by norm"
BY_VALUE = "clipped by value"
_LIMITS = tuple(d * 10.0**p for p in range(-4, 5) for d in (1.0, 5.0, 2.0, 2.5, 3.0, 4.0))
_EPSILONS = (1e-6, 0.0)  # torch adds 1e-6 to the norm
_NEAR = 1e-4  # relative distance within which a norm is considered


def clipped_by_norm(case: Case) -> Iterator[Explanation]:
    """Suppose h = g c / |g| with a round c, |g| being the norm of all tensors or of each."""
    wrong = refuted(case)
    if any(e.claim.shape != e.witness.shape for e in case.exhibits.values()):
        return
    total = math.hypot(*(float(np.linalg.norm(e.witness)) for e in case.exhibits.values()))
    claimed = math.hypot(*(float(np.linalg.norm(e.claim)) for e in case.exhibits.values()))
    if len(case.exhibits) < 2:
        limits = []
    else:
        limits = [(k, c, c / (total + eps)) for k, c in _round(claimed) for eps in _EPSILONS]
    for tried, limit, factor in limits:
        predicted = jointly(wrong, lambda e, s=factor: s * e.witness)  # type: ignore[misc]
        if len(predicted) == len(wrong):
            yield Explanation(
                BY_NORM,
                f"The total norm of all gradients is {limit:g} instead of {total:.6g}, and each is "
                f"{factor:.6g} times what it should be: clipped to a norm of {limit:g}.",
                predicted,
                coefficient=factor,
                freedom=tried,
            )
            break
    yield from _each_by_norm(case, wrong)


def clipped_by_value(case: Case) -> Iterator[Explanation]:
    """Suppose h = min(max(g, -c), c)."""
    wrong = [e for e in refuted(case) if e.claim.shape == e.witness.shape]
    if not wrong or not all(np.isfinite(e.claim).all() for e in wrong):
        return
    limit = max(float(np.max(np.abs(e.claim))) for e in wrong)
    usual = [(tried, c) for tried, c in _round(limit) if abs(c / limit - 1) < _NEAR**1.5]
    for tried, c in [*usual, (REAL, limit)]:
        predicted = jointly(wrong, lambda e, c=c: _clipped(e, c))  # type: ignore[misc]
        if predicted:
            yield Explanation(
                BY_VALUE,
                f"{listed(predicted)}: clipped to [-{c:.6g}, {c:.6g}]. Larger values are cut off, "
                "and the others are right.",
                predicted,
                coefficient=c,
                freedom=tried,
            )
            return


def _clipped(exhibit: Exhibit, c: float) -> NDArray[np.float64] | None:
    """Return what is clipped to c; None if no number is."""
    is_beyond = np.abs(exhibit.witness) > c + exhibit.allowance
    return np.clip(exhibit.witness, -c, c) if is_beyond.any() else None


def _each_by_norm(case: Case, wrong: list[Exhibit]) -> Iterator[Explanation]:
    norms = {e.name: float(np.linalg.norm(e.claim)) for e in wrong if e.witness.any()}
    if not norms:
        return
    for tried, limit in _round(next(iter(norms.values()))):
        scale = {n: limit / float(np.linalg.norm(case.exhibits[n].witness)) for n in norms}
        predicted = jointly(
            wrong,
            lambda e, s=scale: s[e.name] * e.witness if e.name in s else None,  # type: ignore[misc]
        )
        if predicted:
            yield Explanation(
                BY_NORM,
                f"The gradient of {listed(predicted)} has norm {limit:g}, each tensor separately: "
                "clipped or normalised.",
                predicted,
                coefficient=limit,
                freedom=tried + len(case.exhibits),
            )


def _round(number: float) -> list[tuple[int, float]]:
    """Return the round numbers near a number, and how many were tried up to each."""
    return [
        (tried, limit)
        for tried, limit in enumerate(_LIMITS, 1)
        if number and abs(limit / number - 1) < _NEAR
    ]
