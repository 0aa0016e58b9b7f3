"""Gradients that vanish on their way back through many steps of one loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from gradwitness.tape import Source

# So many steps must be lost: fewer repetitions are layers, not time.
_STEPS = 16
# Float32's unit roundoff: beside what arrived at first, less than this is no more than a rounding.
_LEAST = 2.0**-24


class Vanishing(Detector):
    """Follows the size of the gradient from one repetition of an operation to the one before."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        # By pass, place and node: the norm of what arrived, in the order of the backward pass.
        arrived: dict[tuple[int, Source, str], list[float]] = {}
        for f in judged.findings:
            if f.step is Step.FAN_IN and not f.tensor_nr and f.call is not None and f.source:
                key = f.sweep or 0, f.source, judged.tape.nodes[f.node or 0].name
                arrived.setdefault(key, []).append(f.comparison.norm)
        # An operation that a step takes once tells how many steps there are.
        by_steps = sorted(arrived.items(), key=lambda item: len(item[1]))
        notes: dict[int, Note] = {}
        for (sweep, source, _), norms in by_steps:
            if sweep not in notes and (text := _told(norms)):
                notes[sweep] = Note("vanishing gradient", text, source, sweep=sweep)
        return list(notes.values())


def _told(norms: list[float]) -> str:
    largest = max(norms)
    if not 0 < largest < math.inf:
        return ""
    shares = [norm / largest for norm in norms]
    # A loss at every step brings it back: what counts is where it stays so small.
    seen = max(step for step, share in enumerate(shares) if share > _LEAST) + 1
    left = max(step for step, share in enumerate(shares) if share > 0)
    if len(norms) - seen < _STEPS:
        return ""
    return (
        f"the gradient vanishes: {shares[left]:.0e} of its norm is left after {left} steps. "
        f"What lies more than {seen} of the {len(norms)} steps back counts for less than a "
        "rounding of float32."
    )
