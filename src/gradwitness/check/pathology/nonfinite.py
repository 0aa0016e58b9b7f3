"""Where NaN and infinity are born: the first step that makes them of numbers without."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector
from gradwitness.engine.binding import Unjudgeable
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.check.recorded import Records
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Argument, Call, Firing, LeafUpdate, Tape

_KINDS = {"NaN": np.isnan, "infinity": np.isinf}


class Nonfinite(Detector):
    """Remembers the first birth of each sort, in forward and in backward, and counts the others.

    Infinity that the program wrote itself, as a constant or a mask, is nobody's fault.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._first: dict[tuple[str, str], Note] = {}
        self._count: dict[tuple[str, str], int] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        if all(math.isfinite(f.comparison.norm) for f in findings):
            return
        operands = [n for argument in call.arguments.values() for n in references(argument)]
        if not operands:
            return
        written = any(_is_infinite(argument) for argument in call.arguments.values())
        self._look(
            "forward",
            call.outputs,
            operands,
            f"{call.op} (call {call.id})",
            Note("", "", call.source, call=call.id),
            but=("infinity",) if written else (),
        )

    def fired(  # noqa: D102
        self,
        sweep: int,
        firing: Firing,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update
        if all(math.isfinite(f.comparison.norm) for f in findings):
            return
        node = self.tape.nodes[firing.node]
        source = next((f.source for f in findings if f.source is not None), None)
        where = Note("", "", source, node=node.id, sweep=sweep)
        title = f"{node.name} #{node.id}"
        self._look("backward", firing.outgoing, firing.incoming, title, where)

    def _look(
        self,
        phase: str,
        made: Iterable[int | None],
        given: Iterable[int | None],
        title: str,
        where: Note,
        but: tuple[str, ...] = (),
    ) -> None:
        outputs, operands = self._arrays(made), self._arrays(given)
        for kind, test in _KINDS.items():
            counts = [int(np.count_nonzero(test(array))) for array in outputs]
            if kind in but or not any(counts) or any(test(array).any() for array in operands):
                continue
            key = (phase, kind)
            self._count[key] = self._count.get(key, 0) + 1
            total = sum(array.size for array in outputs)
            text = (
                f"{title} makes {sum(counts)} of {total} numbers {kind}, first of all in the "
                f"{phase} pass, from {'gradients' if phase == 'backward' else 'operands'} without."
            )
            note = Note(f"{kind} born", text, where.source, where.call, where.node, where.sweep)
            self._first.setdefault(key, note)

    def _arrays(self, numbers: Iterable[int | None]) -> list[Any]:
        found = []
        for number in numbers:
            try:
                array = None if number is None else self.records(number)
            except Unjudgeable:
                continue
            if array is not None and array.dtype == np.float64:
                found.append(array)
        return found

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del tape, findings, rows, replayed
        return list(self._first.values())


def _is_infinite(argument: Argument) -> bool:
    if isinstance(argument, tuple):
        return any(map(_is_infinite, argument))
    return isinstance(argument, float) and math.isinf(argument)
