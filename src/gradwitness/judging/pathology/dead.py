"""Rectified units that are zero for every sample of the block: what feeds them learns nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, listed
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, Tape

# Operations that are 0 below 0, and the argument that must be 0 for it.
_RECTIFIERS = {
    "aten.relu": "",
    "aten.threshold": "value",
    "aten.clamp": "min",
    "aten.clamp_min": "min",
    "aten.hardtanh": "min_val",
}
# Fewer samples say little: half of them are negative by chance.
_SAMPLES = 16
# So many rows are looked at first, which as a rule settles it.
_FIRST = 256


@dataclass
class _Units:
    """The units of one rectifier: which were ever switched on, and in how many samples."""

    alive: NDArray[np.bool_]
    samples: int
    calls: list[Call]


class DeadUnits(Detector):
    """Counts, after each rectifier, the units that no sample of the block switches on.

    The samples of a convolution are its images, however many positions each has; elsewhere all
    axes but the last count. A rectifier is known by its line, its module, and what feeds it.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._units: dict[tuple[Any, ...], _Units] = {}
        # Values whose units lie along axis 1, as convolutions make them.
        self._channels: set[int | None] = set()
        # By value: the module and the names of the parameters that went into it last.
        self._makers: dict[int, tuple[str, ...]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        output = call.outputs[0] if call.outputs else None
        if output is None:
            return
        operands = [a.value for a in call.arguments.values() if isinstance(a, Ref)]
        shape = self.tape.values[output].shape
        by_channel = len(shape) > 2 and not self._channels.isdisjoint(operands)
        if "convolution" in call.base_op or by_channel:
            self._channels.update(call.outputs)
        if _rectifies(call) and operands:
            self._look(call, output, self._makers.get(operands[0], ()))
        names = [name for n in operands if (name := self.tape.values[n].name)]
        made = (self._makers[n] for n in operands if n in self._makers)
        self._makers[output] = (call.source.module, *names) if names else next(made, ())

    def _look(self, call: Call, output: int, maker: tuple[str, ...]) -> None:
        try:
            result = self.records(output)
        except Unjudgeable:
            return
        by_channel = output in self._channels
        axis = 1 if by_channel else result.ndim - 1
        if result.ndim < 2 or result.size == 0:
            return
        units = result.shape[axis]
        table = np.moveaxis(result, axis, -1).reshape(-1, units)
        alive = np.any(table[:_FIRST], axis=0)
        missing = np.flatnonzero(~alive)
        if missing.size:
            alive[missing] = np.any(table[_FIRST:, missing], axis=0)
        key = (call.source.module, call.source.line, call.base_op, maker, units)
        known = self._units.setdefault(key, _Units(np.zeros(units, dtype=bool), 0, []))
        known.alive |= alive
        known.samples += result.shape[0] if by_channel else len(table)
        known.calls.append(call)

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, rows, replayed
        made = []
        for units in self._units.values():
            dead = np.flatnonzero(~units.alive)
            # Only what was differentiated was to learn.
            call = next((c for c in units.calls if tape.calls[c.id].node is not None), None)
            if call is None or not dead.size or units.samples < _SAMPLES:
                continue
            where = f" of module {call.source.module}" if call.source.module else ""
            which = listed([f"#{n}" for n in dead])
            text = (
                f"{dead.size} of {units.alive.size} units ({which}) are 0 "
                f"for all {units.samples} samples after {call.op} (call {call.id}){where}: no "
                "gradient passes through them. If that lasts, lower the learning rate, look at "
                "the biases that feed them, or use a leaky activation."
            )
            node = tape.calls[call.id].node
            made.append(Note("dead units", text, call.source, call.id, node))
        return made


def _rectifies(call: Call) -> bool:
    argument = _RECTIFIERS.get(call.base_op)
    if argument is None:
        return False
    if not argument:
        return True
    # A call may leave out what has a default; hardtanh's is -1.
    bound = call.arguments.get(argument)
    return not isinstance(bound, Ref) and bound is not None and bound == 0
