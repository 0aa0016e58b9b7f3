"""A function that runs again: slopes at its inputs decide about steps that are not its record's.

A custom function, or a hook, may send what is not the derivative of the recorded forward, and the
gradients that the program receives be right all the same: a hook that solves for the equilibrium of
a layer, two functions that undo each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import wide
from gradwitness.engine.replay import replay
from gradwitness.judging.finding import Step
from gradwitness.judging.meant_hooks import CHANGED
from gradwitness.judging.slopes import between, measure
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.judging.finding import Finding
    from gradwitness.judging.probe_results import Probe
    from gradwitness.judging.slopes import Claim, Runs
    from gradwitness.tape import Tape


def verdict_at_leaves(functions: Runs, claims: Mapping[str, Claim], found: Probe) -> Verdict:
    """Judge the gradients that a custom function or a hook put in question.

    Parameters
    ----------
    functions : Runs
        The whole program.
    claims : mapping of str to Claim
        Its gradients, by the name of the leaf; those of the recording are taken instead.
    found : Probe

    Returns
    -------
    Verdict
        AGREES if slopes support each of them, and exclude the derivative of the record along the
        direction in which the two differ most. DISAGREES if they exclude one. INCONCLUSIVE if they
        cannot tell, or if anything else is in question.
    """
    tape, report = found.tape, found.report
    steps = [f for f in report.findings if f.verdict is not Verdict.AGREES]
    probed = [f for p in found.passes for f in (*p.wrong, *p.doubts)]
    known = {f.title for f in steps}
    if not all(_is_the_programs(tape, f) for f in steps) or any(
        f.title not in known for f in probed
    ):
        return Verdict.INCONCLUSIVE
    by_record = replay(tape)
    verdict = Verdict.AGREES
    for row in report.rows:
        if row.verdict is Verdict.AGREES:
            continue
        other = by_record.gradient(row.sweep, row.node, row.input_nr)
        if row.name not in claims or row.value is None or other is None:
            return Verdict.INCONCLUSIVE
        sent = wide(recorded(tape)(row.value))
        claim = replace(claims[row.name], sent=sent, dtype=row.dtype)
        try:
            told = (measure(functions, claim).verdict, between(functions, claim, other))
        except Unjudgeable:
            return Verdict.INCONCLUSIVE
        if Verdict.DISAGREES in told:
            return Verdict.DISAGREES
        if Verdict.INCONCLUSIVE in told:
            verdict = Verdict.INCONCLUSIVE
    return verdict


def _is_the_programs(tape: Tape, finding: Finding) -> bool:
    """Whether a step is what the program itself wrote: the backward of a function, or a hook."""
    if finding.step is Step.BACKWARD and finding.node is not None:
        return tape.nodes[finding.node].kind == Kind.CUSTOM
    return finding.comparison.reason.startswith(CHANGED)
