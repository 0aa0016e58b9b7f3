"""Mistake: a backward computes anew what the forward drew, or in a shorter format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import refuted
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.rules.graph_terms import draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case

OTHER_NUMBERS = "recomputed with other random numbers"
WRITTEN_OVER = "incoming gradient overwritten"
PRECISION = "low precision"
_GROWTH = 256  # the roundings of a backward, in unit roundoffs of the largest number


def drawn_again(case: Case) -> Iterator[Explanation]:
    """Suppose that backward drew random numbers of its own, where forward had drawn some."""
    if case.alone is None or case.tape is None:
        return
    forward = [c for c in case.tape.calls if draws(c.op)]
    backward = [step for step in case.alone.steps if draws(step.op)]
    if forward and backward:
        line = backward[0].line.rpartition("/")[2]
        name = backward[0].op.split(".")[1]
        yield Explanation(
            OTHER_NUMBERS,
            f"The forward drew random numbers, and the backward draws new ones ({name} at {line}): "
            "save what was drawn, or the state of the generator.",
            {e.name: e.claim for e in refuted(case)},
            freedom=1,
            reveals=False,
        )


def overwritten(case: Case) -> Iterator[Explanation]:
    """Suppose that what is wrong was computed after the incoming gradient was written over."""
    wrong = {e.name: e.claim for e in refuted(case)}
    if case.alone is not None and case.alone.overwrites and wrong:
        yield Explanation(
            WRITTEN_OVER,
            "The backward writes to the memory of the gradient that arrived. What it computes from "
            f"it afterwards is wrong, and no known mistake explains {listed(wrong)} otherwise: "
            "write to a copy.",
            wrong,
            freedom=2**10,
            reveals=False,
        )


def computed_short(case: Case) -> Iterator[Explanation]:
    """Suppose that backward computed in a shorter format than that of what it sends."""
    if case.alone is None:
        return
    steps = [step for step in case.alone.steps if is_inexact(step.dtype)]
    coarse = max(steps, key=lambda step: unit_roundoff(step.dtype), default=None)
    if coarse is None:
        return
    unit = unit_roundoff(coarse.dtype)
    near = {}
    for exhibit in refuted(case):
        largest = float(np.max(np.abs(exhibit.witness), initial=0.0))
        if exhibit.claim.shape != exhibit.witness.shape:
            continue
        off = float(np.max(np.abs(exhibit.claim - exhibit.witness), initial=0.0))
        if off <= _GROWTH * unit * largest and np.max(exhibit.allowance) < unit * largest:
            near[exhibit.name] = exhibit.claim
    if near:
        line = coarse.line.rpartition("/")[2]
        yield Explanation(
            PRECISION,
            f"No wrong formula, but low precision: {coarse.op.split('.')[1]} at {line} computes in "
            f"{coarse.dtype}, whose unit roundoff is {unit:.1e}.",
            near,
            freedom=2,
            reveals=False,
        )
