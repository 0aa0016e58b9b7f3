"""A backward that overwrites its incoming gradient, or returns one of a different shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import LeafUpdate, NodeRun, Tape


_CHANGED = (
    "writes to its incoming gradient, whose memory others may share: return a new tensor instead."
)
_SUMMED = (
    "returned a gradient larger than its input, and autograd silently reduced it to the input's "
    "shape: return a gradient of that shape."
)


class Cotangents(Detector):
    """Notes what autograd tolerates; the numbers may even be right this time."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # Each training step has new nodes, so a function is identified by name and line.
        self._notes: dict[tuple[str, str, str], Note] = {}

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update
        if not node_run.changed and not node_run.summed:
            return
        node = self.tape.nodes[node_run.node]
        source = next((f.source for f in findings if f.source is not None), None)
        for kind, advice, present in (
            ("gradient changed in place", _CHANGED, bool(node_run.changed)),
            ("gradient of another shape", _SUMMED, node_run.summed),
        ):
            if present:
                text = f"the backward of {node.name} #{node.id} {advice}"
                note = Note(kind, text, source, node=node.id, sweep=sweep)
                key = (kind, node.name, source.line if source else "")
                self._notes.setdefault(key, note)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        del judged
        return list(self._notes.values())
