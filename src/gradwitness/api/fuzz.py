"""What gradcheck says of a function at other shapes, strides and numbers than its inputs'."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.fuzz.description import counted, said
from gradwitness.judging.fuzz.plan import court_of, told, where_wrong, wrong_elsewhere
from gradwitness.judging.fuzz.trials import Deadline
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.capture.again.gradchecking import Subject
    from gradwitness.judging.fuzz.trials import Court

# Of the processor.
_SECONDS = 10.0
# A solver that stops early may be off by as much, and its gradient right.
_UNSEEN = 1e-3


def elsewhere(subject: Subject) -> tuple[Verdict, str, str]:
    """Try a function that is right at its own inputs; return the verdict, its title and text."""
    try:
        with _tried(subject) as court:
            wrong = wrong_elsewhere(court)
            only = told(court) if wrong else ""
    except Unjudgeable as why:
        return Verdict.INCONCLUSIVE, "fuzz", f"it could not be tried at other inputs: {why}"
    if not wrong:
        return Verdict.AGREES, "fuzz", counted(court)
    inputs = sorted({number for result in wrong for number in result.wrong})
    names = ", ".join(court.subject.names[number] for number in inputs)
    first = said(court, wrong[0].trial)
    only = only or f"wrong in {len(wrong)} of {len(court.results)} trials; the first: {first}"
    return (
        Verdict.DISAGREES,
        f"gradient of {names}, at other inputs",
        f"right at its own inputs, {only}. Call gradcheck with such inputs to see why",
    )


def when_wrong(subject: Subject) -> str:
    """Return when only a function is wrong that is wrong at its own inputs; empty if not known."""
    with suppress(Unjudgeable), _tried(subject) as court:
        return where_wrong(court)
    return ""


@contextmanager
def _tried(subject: Subject) -> Iterator[Court]:
    function = subject.elsewhere()
    with warnings.catch_warnings(), np.errstate(all="ignore"), function.aside():
        warnings.simplefilter("ignore")
        yield court_of(function, (), unseen=_UNSEEN, until=Deadline(_SECONDS))
