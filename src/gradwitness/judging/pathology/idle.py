"""Parameters with gradients that no optimizer updates, while others are updated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class Idle(Detector):
    """Checks which parameters with a gradient are written to afterwards."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # By storage: the first leaf that got a gradient, and the first call that wrote after it.
        self._leaves: dict[int, int] = {}
        self._updates: dict[int, int] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if not call.writes:
            return
        for number in call.outputs:
            layout = None if number is None else self.tape.values[number].layout
            if layout is not None and layout.storage in self._leaves:
                self._updates.setdefault(layout.storage, call.id)

    def accumulated(  # noqa: D102
        self, sweep: int, node_run: NodeRun, update: LeafUpdate
    ) -> None:
        del sweep, update
        leaf = self.tape.nodes[node_run.node].leaf
        layout = None if leaf is None else self.tape.values[leaf].layout
        if leaf is not None and layout is not None:
            self._leaves.setdefault(layout.storage, leaf)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        parameters = {tape.values[n].name for n in tape.parameters}
        idle = [
            tape.values[leaf].name
            for storage, leaf in sorted(self._leaves.items(), key=lambda pair: pair[1])
            if storage not in self._updates and tape.values[leaf].name in parameters
        ]
        if not idle or not self._updates:
            return []
        call = tape.calls[min(self._updates.values())]
        text = (
            f"{listed(idle)}: gradients arrived, but only other parameters were updated. Pass "
            "these to the optimizer, or freeze them; if they were replaced after the optimizer "
            "was created, recreate it."
        )
        return [Note("parameters not updated", text, call.source, call.id)]
