"""The derivation that ``--explain`` asks for: the whole one, or that of one entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

WHOLE = "all"


def derivation_of(tape: Tape, report: Report, wanted: str) -> str:
    """Return the derivation of an entry, such as ``first.weight[1,2]``, or the whole one."""
    from gradwitness.report.explain import explain
    from gradwitness.report.trace import trace

    return explain(tape, report) if wanted == WHOLE else trace(tape, report, wanted)
