"""Mistake: a backward returns its gradients in another order, or leaves one out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case

MISSING = "gradient missing"
COPIED = "gradient of another input"


def no_gradient(case: Case) -> Iterator[Explanation]:
    """Suppose that some inputs get none, or zeros, although the result depends on them."""
    zero = [
        e
        for e in refuted(case)
        if e.claim.shape == e.witness.shape and not e.claim.any() and e.witness.any()
    ]
    if zero:
        absent = case.alone.absent if case.alone else ()
        names = [e.name for e in zero]
        sent = "None" if all(name in absent for name in names) else "zeros"
        yield Explanation(
            MISSING,
            f"The backward returns {sent} for {listed(names)}, although the result depends on it.",
            {e.name: np.zeros_like(e.witness) for e in zero},
            reveals=False,
        )


def swapped(case: Case) -> Iterator[Explanation]:
    """Suppose that some inputs get each other's gradients."""
    wrong = refuted(case)
    for a, b in itertools.combinations(wrong, 2):
        if fits(a, b.witness) and fits(b, a.witness):
            yield Explanation(
                f"gradients of {a.name} and {b.name} swapped",
                f"The backward returns the gradient of {b.name} in the place of that of {a.name}, "
                "and the other way round: they go in the order of forward's arguments.",
                {a.name: b.witness, b.name: a.witness},
                reveals=False,
            )
    for exhibit in wrong:
        for other in case.exhibits.values():
            if other is not exhibit and fits(exhibit, other.witness):
                yield Explanation(
                    COPIED,
                    f"The backward returns the gradient of {other.name} for {exhibit.name}.",
                    {exhibit.name: other.witness},
                    freedom=8,
                    reveals=False,
                )
