"""Rectified units that are zero for every sample of a batch: what feeds them learns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector
from gradwitness.engine.binding import Unjudgeable
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.check.recorded import Records
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Call, Tape

_RECTIFIERS = frozenset(["aten.relu", "aten.threshold"])
# Fewer samples say little: half of them are negative by chance.
_SAMPLES = 16


class DeadUnits(Detector):
    """Counts, after each rectifier, the units that no sample of the batch switches on."""

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._notes: dict[str, Note] = {}
        # Values whose units lie along axis 1, as convolutions make them.
        self._channels: set[int | None] = set()

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        operands = [a.value for a in call.arguments.values() if isinstance(a, Ref)]
        if "convolution" in call.base_op or (
            not self._channels.isdisjoint(operands)
            and call.outputs[0] is not None
            and len(self.tape.values[call.outputs[0]].shape) > 2
        ):
            self._channels.update(call.outputs)
        if call.base_op not in _RECTIFIERS or call.outputs[0] is None:
            return
        try:
            result = self.records(call.outputs[0])
        except Unjudgeable:
            return
        axis = 1 if call.outputs[0] in self._channels else result.ndim - 1
        others = tuple(n for n in range(result.ndim) if n != axis)
        if not others or result.size == 0 or result.size // result.shape[axis] < _SAMPLES:
            return
        dead = int(np.count_nonzero(~np.any(result, axis=others)))
        if dead:
            units = result.shape[axis]
            samples = result.size // units
            where = f" of module {call.source.module}" if call.source.module else ""
            text = (
                f"{dead} of {units} units are 0 for all {samples} samples after {call.op} "
                f"(call {call.id}){where}: no gradient passes through them."
            )
            key = call.source.module or call.source.line
            self._notes.setdefault(key, Note("dead units", text, call.source, call.id, call.node))

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del tape, findings, rows, replayed
        return list(self._notes.values())
