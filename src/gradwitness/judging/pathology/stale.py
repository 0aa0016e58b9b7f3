"""A ``.grad`` that held something from an earlier step, to which a backward pass added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Source, Tape

_BEFORE = "was there before the block", "zero_grad() before it, unless you accumulate over blocks"
_UPDATED = "this update of the weights had used already", "zero_grad() between steps"


class Stale(Detector):
    """Tells accumulation that was meant, several passes for one update, from the other kind.

    What is cleared again before an update uses it, as one player's pass leaves it in another's
    parameters, does no harm and is not told.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # The memory of parameters that have a gradient from this block, and what has written to
        # memory since, and where.
        self._used: set[int] = set()
        self._written: dict[int, Source] = {}
        # What a pass has added to since, not yet used: leaf, pass, where the update before was.
        self._pending: dict[int, list[tuple[int, int, Source]]] = {}
        # For each sort: leaves, passes, and where the first update was made.
        self._found: dict[tuple[str, str], tuple[dict[int, None], list[int], Source | None]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if call.writes:
            layouts = [self.tape.values[n].layout for n in call.outputs if n is not None]
            for layout in layouts:
                if layout is not None:
                    self._written.setdefault(layout.storage, call.source)
                    for leaf, sweep, source in self._pending.pop(layout.storage, ()):
                        self._note(_UPDATED, leaf, sweep, source)

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del findings
        leaf = self.tape.nodes[node_run.node].leaf
        if update is None or leaf is None:
            return
        layout = self.tape.values[leaf].layout
        memory = -1 if layout is None else layout.storage
        again, changed = memory in self._used, self._written.pop(memory, None)
        self._used.add(memory)
        if update.before is None or self._is_zero(update.before):
            self._pending.pop(memory, None)
        elif not again:
            self._note(_BEFORE, leaf, sweep, None)
        elif changed is not None:
            self._pending.setdefault(memory, []).append((leaf, sweep, changed))

    def _note(self, sort: tuple[str, str], leaf: int, sweep: int, source: Source | None) -> None:
        leaves, passes, _ = self._found.setdefault(sort, ({}, [], source))
        leaves[leaf] = None
        if sweep not in passes:
            passes.append(sweep)

    def _is_zero(self, number: int) -> bool:
        array = self.tape.values[number].array
        return array is not None and not np.any(array)

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, rows, replayed
        made = []
        for (how, what), (leaves, passes, source) in self._found.items():
            # An updated parameter is another value of the same name.
            names = dict.fromkeys(tape.values[n].name or f"value {n}" for n in sorted(leaves))
            which = "es " if len(passes) > 1 else " "
            which += ", ".join(str(number + 1) for number in passes[:4])
            which += f" and {len(passes) - 4} more" if len(passes) > 4 else ""
            text = (
                f"{listed(list(names))}: backward pass{which} added to a .grad that {how}. "
                f"Call {what}."
            )
            made.append(Note("stale gradient", text, source, sweep=passes[0]))
        return made
