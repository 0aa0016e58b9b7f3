"""Gradients that vanish on their way back through many steps of one loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.finding import Finding
    from gradwitness.judging.records import Records
    from gradwitness.tape import LeafUpdate, NodeRun, Source, Tape

# So many steps must be lost: fewer repetitions are layers, not time.
_STEPS = 16
# Float32's unit roundoff: beside what arrived at first, less than this is no more than a rounding.
_LEAST = 2.0**-24


class Vanishing(Detector):
    """Follows the size of the gradient from one repetition of an operation to the one before."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # By pass, place and node: the norm of what arrived, in the order of the backward pass.
        self._norms: dict[tuple[int, Source, str], list[float]] = {}

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update
        node = self.tape.nodes[node_run.node]
        if node.call is None:
            return
        key = (sweep, self.tape.calls[node.call].source, node.name)
        for finding in findings:
            if finding.step is Step.FAN_IN and finding.tensor_nr == 0:
                self._norms.setdefault(key, []).append(finding.comparison.norm)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        del judged
        # An operation that a step takes once tells how many steps there are.
        by_steps = sorted(self._norms.items(), key=lambda item: len(item[1]))
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
