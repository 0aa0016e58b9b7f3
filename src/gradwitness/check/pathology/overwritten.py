"""A tensor that a backward step uses, changed in place between the forward pass and that step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.finding import Step
from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector
from gradwitness.check.verdict import Verdict
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.check.recorded import Records
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Call, Firing, LeafUpdate, Tape


class Overwritten(Detector):
    """Looks, where a backward step disagrees, for a write to the memory that it read.

    Autograd refuses to use what was changed, unless the change went round its back: through
    ``.data``, ``detach()`` or a raw pointer.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # How many calls had run when a node that disagrees had its turn.
        self._calls_before: dict[tuple[int, int], int] = {}

    def fired(  # noqa: D102
        self,
        sweep: int,
        firing: Firing,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update
        if any(f.step is Step.BACKWARD and f.verdict is Verdict.DISAGREES for f in findings):
            self._calls_before[sweep, firing.node] = len(self.tape.calls)

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, rows, replayed
        made = []
        for (sweep, number), count in self._calls_before.items():
            node = tape.nodes[number]
            calls = [*node.inner, *([] if node.call is None else [node.call])]
            writes = [_later_write(tape, tape.calls[call], count) for call in calls]
            write = next((write for write in writes if write is not None), None)
            if write is not None:
                text = (
                    f"{write.op} (call {write.id}) overwrote a tensor of the forward of "
                    f"{node.name} #{number} before backward came to it. Change a copy of it, or "
                    "change it after backward."
                )
                kind = "changed after it was saved"
                made.append(Note(kind, text, write.source, write.id, number, sweep))
        return made


def _later_write(tape: Tape, call: Call, count: int) -> Call | None:
    """Return the first of the calls after one, up to a count, that writes to memory of its own."""
    numbers = {n for argument in call.arguments.values() for n in references(argument)}
    numbers |= {n for n in call.outputs if n is not None}
    layouts = [tape.values[n].layout for n in numbers]
    memory = {layout.storage for layout in layouts if layout is not None}
    for later in tape.calls[call.id + 1 : count]:
        if later.writes:
            written = [tape.values[n].layout for n in later.outputs if n is not None]
            if any(layout is not None and layout.storage in memory for layout in written):
                return later
    return None
