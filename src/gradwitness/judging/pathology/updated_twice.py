"""Parameters that are updated twice from one gradient: two optimizers hold them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.judging.note import Note, place
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class UpdatedTwice(Detector):
    """Follows what is read from a ``.grad`` to the parameters that are written with it.

    A second update counts if it reads the gradient again after the first: some optimizers write to
    a parameter several times, and others write without a gradient (averages, limits, restoring).
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._new = count()
        # By the storage of a parameter: its value, a mark of its gradient that changes with each
        # update, and the updates since a backward pass.
        self._leaves: dict[int, int] = {}
        self._marks: dict[int, int] = {}
        self._updates: dict[int, list[Call]] = {}
        # By the storage of a `.grad`: its parameters. By other storages: the marks in them.
        self._owners: dict[int, set[int]] = {}
        self._derived: dict[int, set[int]] = {}
        # By the places of both updates.
        self._twice: dict[tuple[str, str], tuple[Call, dict[str, None]]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if call.during is not None or not self._marks:
            # Without a backward pass there is no gradient to update by.
            return
        read = storages(self.tape, call.operands)
        marks = {self._marks[p] for s in read for p in self._owners.get(s, ())}
        marks |= {m for s in read for m in self._derived.get(s, ())} & {*self._marks.values()}
        if not marks:
            return
        for storage in (s for number in call.outputs for s in storages(self.tape, [number])):
            if storage not in self._marks:
                self._derived[storage] = marks
            elif call.writes and self._marks[storage] in marks:
                self._marks[storage] = next(self._new)
                self._updates[storage].append(call)
                if len(self._updates[storage]) > 1:
                    self._note(storage)

    def _note(self, storage: int) -> None:
        first, second = self._updates[storage][:2]
        leaf = self._leaves[storage]
        name = self.tape.values[leaf].name or f"value {leaf}"
        lines = (place(first.source), place(second.source))
        self._twice.setdefault(lines, (second, {}))[1][name] = None

    def accumulated(  # noqa: D102
        self, sweep: int, node_run: NodeRun, update: LeafUpdate
    ) -> None:
        del sweep
        leaf = self.tape.nodes[node_run.node].leaf
        if leaf is None:
            return
        for own in storages(self.tape, [leaf]):
            self._leaves[own], self._marks[own], self._updates[own] = leaf, next(self._new), []
            for storage in storages(self.tape, [update.after]):
                self._owners.setdefault(storage, set()).add(own)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        del judged
        return [
            Note(
                "updated twice",
                f"{listed(list(names))}: two updates from one gradient, at {first} and "
                f"{second}. Two optimizers hold them, or one steps twice: give each "
                "parameter to one optimizer.",
                call.source,
                call.id,
            )
            for (first, second), (call, names) in self._twice.items()
        ]
