"""A ``.grad`` changed outside of the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.numbers import short
from gradwitness.judging.pathology.detector import Detector, Judgement, listed
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding

_WHO = (
    "Another thread, a hook in C++, a collective, memory shared with NumPy or an engine called "
    "directly can do that. What was recorded was judged, what .grad holds now was not."
)


class Unseen(Detector):
    """Says how the norm of each changed."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        by_reason: dict[str, list[str]] = {}
        for unseen in tape.unseen:
            leaf = tape.nodes[unseen.node].leaf
            name = "" if leaf is None else tape.values[leaf].name or f"value {leaf}"
            change = _change([f for f in judged.findings if f.node == unseen.node])
            by_reason.setdefault(unseen.reason, []).append(f"{name}{change}")
        return [
            Note("gradient changed unseen", f"{listed(names)}: {reason}. {_WHO}")
            for reason, names in by_reason.items()
        ]


def _change(findings: list[Finding]) -> str:
    """Return how the norm of a ``.grad`` changed."""
    last = [f.comparison for f in findings if f.step is Step.ACCUMULATE][-2:]
    if len(last) < 2 or last[0].verdict is not Verdict.AGREES or not last[0].norm:
        return ""
    before, after = (c.norm for c in last)
    return f" (norm {short(before)}, then {short(after)}: {short(after / before)} times)"
