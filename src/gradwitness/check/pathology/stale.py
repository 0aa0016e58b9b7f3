"""A ``.grad`` that held something from an earlier step, to which a backward pass added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector, listed
from gradwitness.engine.binding import Unjudgeable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.check.recorded import Records
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Call, Firing, LeafUpdate, Tape


class Stale(Detector):
    """Tells accumulation that was meant, several passes for one update, from the other kind."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # The memory of parameters that have a gradient from this block, and has been written to
        # since.
        self._used: set[int] = set()
        self._written: set[int] = set()
        self._before: dict[int, list[int]] = {}
        self._updated: dict[int, list[int]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if call.writes:
            layouts = [self.tape.values[n].layout for n in call.outputs if n is not None]
            self._written.update(layout.storage for layout in layouts if layout is not None)

    def fired(  # noqa: D102 (as the base class says)
        self,
        sweep: int,
        firing: Firing,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del findings
        leaf = self.tape.nodes[firing.node].leaf
        if update is None or leaf is None:
            return
        layout = self.tape.values[leaf].layout
        memory = -1 if layout is None else layout.storage
        again, changed = memory in self._used, memory in self._written
        self._used.add(memory)
        self._written.discard(memory)
        if update.before is None or (again and not changed) or self._is_zero(update.before):
            return
        (self._updated if again else self._before).setdefault(sweep, []).append(leaf)

    def _is_zero(self, number: int) -> bool:
        try:
            return not np.any(self.records(number))
        except Unjudgeable:
            return False

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, rows, replayed

        def names(leaves: list[int]) -> str:
            return listed([tape.values[n].name or f"value {n}" for n in sorted(leaves)])

        return [
            Note(
                "stale gradient",
                f"backward pass {sweep + 1} added to a .grad {how}: {names(leaves)}. "
                "Call zero_grad() between steps.",
                sweep=sweep,
            )
            for found, how in (
                (self._before, "that was there before the block"),
                (self._updated, "that an update of the weights had used already"),
            )
            for sweep, leaves in found.items()
        ]
