"""Accused functions, tried elsewhere: when only they are wrong."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import one_line
from gradwitness.judging.custom.accused import Accused, Case
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.fuzz.drawn import Drawn, memory_of
from gradwitness.judging.fuzz.plan import court_of, where_wrong
from gradwitness.judging.fuzz.trials import Deadline
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds of the processor for all functions of a report together, and how many of them are tried.
_SECONDS = 3.0
_MOST = 8
# What is wrong at its own inputs may be wrong by a little.
_UNSEEN = 1e-6


def fuzzed(findings: Sequence[Finding], accused: Sequence[Finding]) -> list[Finding]:
    """Return findings, those of wrong functions with when only they are wrong.

    Parameters
    ----------
    findings : sequence of Finding
        As they ended.
    accused : sequence of Finding
        The same before their slopes were measured.
    """
    cases = {_place(f): f.case for f in accused if isinstance(f, Accused)}
    until, tried = Deadline(_SECONDS), set[object]()
    said = []
    for finding in findings:
        case = cases.get(_place(finding))
        wrong = finding.verdict is Verdict.DISAGREES and finding.step is Step.BACKWARD
        if wrong and isinstance(case, Case) and case.owner not in tried and len(tried) < _MOST:
            tried.add(case.owner)
            said.append(replace(finding, fuzz=one_line(_told(case, until))))
        else:
            said.append(finding)
    return said


def _place(finding: Finding) -> tuple[int | None, ...]:
    return finding.sweep, finding.node, finding.tensor_nr


def _told(case: Case, until: Deadline) -> str:
    try:
        subject, resizes = case.again.elsewhere(case.operand)
        values = case.again.values
        arrived = [None if n is None else values[n] for n in case.incoming]
        cotangents = [
            None
            if g is None or g.array is None
            else Drawn(g.array.astype(np.float64), memory_of(g))
            for g in arrived
        ]
        with warnings.catch_warnings(), np.errstate(all="ignore"), subject.aside():
            warnings.simplefilter("ignore")
            court = court_of(subject, cotangents, unseen=_UNSEEN, until=until, resizes=resizes)
            return where_wrong(court)
    except Exception:  # noqa: BLE001 (no verdict depends on it)
        return ""
