"""A ``.grad`` changed outside of the recording."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.numbers import short
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import COMPILED, REDUCED, Source
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding

_WHO = (
    "Another thread, a hook in C++, a collective, memory shared with NumPy or an engine called "
    "directly can do that. What was recorded was judged, what .grad holds now was not."
)


_RANKS = (
    "Each rank's own steps were judged up to what ranks exchange; what they exchange, and so the "
    "gradients that result, was not. To judge one rank's gradients, run the inner model alone."
)


_EAGERLY = (
    "Torch does not compile while it is watched, so this code ran eagerly, and what is judged here "
    "are the eager gradients. To judge the compiled ones, compute them outside of watch and claim: "
    "gradwitness.check(model, x, loss=..., claims={name: p.grad for name, p in "
    "model.named_parameters()})."
)


class Unseen(Detector):
    """Says how the norm of each changed, and what spreads the program over ranks."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        by_reason: dict[str, list[str]] = {}
        for unseen in tape.unseen:
            leaf = None if unseen.node is None else tape.nodes[unseen.node].leaf
            if leaf is None or unseen.reason == REDUCED:
                continue
            name = tape.values[leaf].name or f"value {leaf}"
            place = unseen.node, unseen.sweep
            change = _change([f for f in judged.findings if (f.node, f.sweep) == place])
            by_reason.setdefault(unseen.reason, []).append(f"{name}{change}")
        notes = [
            Note("gradient changed unseen", f"{listed(names)}: {reason}. {_WHO}")
            for reason, names in by_reason.items()
        ]
        notes += [
            Note("compiled code", _EAGERLY, Source(line=unseen.line))
            for unseen in tape.unseen
            if unseen.reason == COMPILED
        ]
        by = tape.about.get("distributed", "")
        doubted = any(row.verdict is Verdict.INCONCLUSIVE for row in judged.rows)
        if (by and doubted) or any(unseen.reason == REDUCED for unseen in tape.unseen):
            text = f"{by or 'collectives'} spread this step over ranks. {_RANKS}"
            notes.append(Note("several ranks", text))
        return notes


def _change(findings: list[Finding]) -> str:
    """Return how the norm of a ``.grad`` changed: what a pass left, and the doubt about that."""
    told = [f.comparison for f in findings if f.step is Step.ACCUMULATE]
    if len(told) < 2 or told[0].verdict is not Verdict.AGREES:
        return ""
    before, after = told[0].norm, told[-1].norm
    if not (before > 0 and math.isfinite(after)):
        return ""
    return f" (norm {short(before)}, then {short(after)}: {short(after / before)} times)"
