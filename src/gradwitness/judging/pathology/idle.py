"""Parameters that get gradients while only others are updated: no optimizer holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class Idle(Detector):
    """Looks which of the parameters with a gradient are written to afterwards."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # By memory: the first leaf that got a gradient, and the first call that wrote after it.
        self._given: dict[int, int] = {}
        self._updates: dict[int, int] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if not call.writes:
            return
        for number in call.outputs:
            layout = None if number is None else self.tape.values[number].layout
            if layout is not None and layout.storage in self._given:
                self._updates.setdefault(layout.storage, call.id)

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del sweep, findings
        leaf = self.tape.nodes[node_run.node].leaf
        layout = None if leaf is None else self.tape.values[leaf].layout
        if update is not None and leaf is not None and layout is not None:
            self._given.setdefault(layout.storage, leaf)

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, rows, replayed
        known = {tape.values[n].name for n in tape.parameters}
        idle = [
            tape.values[leaf].name
            for memory, leaf in sorted(self._given.items(), key=lambda item: item[1])
            if memory not in self._updates and tape.values[leaf].name in known
        ]
        if not idle or not self._updates:
            return []
        call = tape.calls[min(self._updates.values())]
        text = (
            f"{listed(idle)}: a gradient came, but the updates in the block change other "
            "parameters only. Give them to the optimizer, or freeze them; if they were replaced "
            "after the optimizer was made, it still holds the old ones: make it anew."
        )
        return [Note("parameters not updated", text, call.source, call.id)]
