"""Built-in backwards that took another branch of their formula because they were recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import LeafUpdate, NodeRun, Tape

# Found by scripts/branches.py, which compares torch's own samples with and without a mode: 12,590
# samples of 538 real and 324 complex operations in torch 2.13. Ormqr's did not show
# there, but in an earlier comparison.
BRANCHING = (
    "CumprodBackward",
    "LinalgDetBackward",
    "MaskedFillBackward1",
    "OrmqrBackward",
    "ProdBackward",
)


class Branches(Detector):
    """Notes where the program's gradients may have other bits than without gradwitness."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._notes: dict[tuple[str, str], Note] = {}

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update, findings
        if not node_run.seen:
            return
        node = self.tape.nodes[node_run.node]
        if not node.name.startswith(BRANCHING):
            return
        source = None if node.call is None else self.tape.calls[node.call].source
        text = (
            f"torch computes the backward of {node.name} #{node.id} by another branch of its "
            "formula while each of its operations is recorded, as under create_graph=True and "
            "checkpoints: without gradwitness its gradients may differ in the last bits."
        )
        key = (node.name, source.line if source else "")
        self._notes.setdefault(key, Note("another branch", text, source, node=node.id, sweep=sweep))

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        del judged
        return list(self._notes.values())
