"""What gradcheck says of a function at other shapes, strides and numbers than its inputs'."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.fuzz.description import counted, said
from gradwitness.judging.fuzz.plan import court_of, told, wrong_elsewhere
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.capture.gradchecking import Subject

# Of the processor.
_SECONDS = 10.0


def fuzz(subject: Subject) -> tuple[Verdict, str, str]:
    """Try a function that is right at its own inputs; return the verdict, its title and text."""
    try:
        function = subject.elsewhere()
        with warnings.catch_warnings(), np.errstate(all="ignore"), function.aside():
            warnings.simplefilter("ignore")
            court = court_of(function, (), until=time.process_time() + _SECONDS)
            wrong = wrong_elsewhere(court)
            only = told(court) if wrong else ""
    except Unjudgeable as why:
        return Verdict.INCONCLUSIVE, "fuzz", f"it could not be tried at other inputs: {why}"
    if not wrong:
        return Verdict.AGREES, "fuzz", counted(court)
    total = len(court.results)
    names = [function.names[n] for n in sorted({n for result in wrong for n in result.wrong})]
    title = f"gradient of {', '.join(names)}, at other inputs"
    only = only or (
        f"wrong in {len(wrong)} of {total} trials; the first: {said(court, wrong[0].trial)}"
    )
    return (
        Verdict.DISAGREES,
        title,
        f"right at its own inputs, {only}. Call gradcheck with such inputs to see why",
    )
