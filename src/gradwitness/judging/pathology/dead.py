"""Rectified units that are zero for every sample: the layers that feed them learn nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.engine.distant import on_host, where_it_lives
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, Tape

# Operations that are 0 below 0, and the argument that must be 0 for that.
_RECTIFIERS = {
    "aten.relu": "",
    "aten.threshold": "value",
    "aten.clamp": "min",
    "aten.clamp_min": "min",
    "aten.hardtanh": "min_val",
}
# Fewer samples say little: half of them are negative by chance.
_SAMPLES = 16
# Rows that are tried first, usually enough to see every unit switched on.
_FIRST = 256


@dataclass
class _Units:
    """The units of a rectifier: which were ever switched on, and over how many samples."""

    alive: NDArray[np.bool_]
    samples: int
    calls: list[Call]


class DeadUnits(Detector):
    """Counts, after each rectifier, the units that no sample switches on.

    The samples of a convolution are its images, however many positions each has; elsewhere all
    axes but the last count. A rectifier is identified by its line, its module and its input.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._units: dict[tuple[Any, ...], _Units] = {}
        # Values whose units lie along axis 1, as after convolutions.
        self._channels: set[int | None] = set()
        # By value: the call that made it, or the module and parameter names of the last layer.
        self._makers: dict[int, int | tuple[str, ...]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        output = call.outputs[0] if call.outputs else None
        if output is None:
            return
        self._makers[output] = call.id
        by_channel = self._channels and self._is_by_channel(call, output)
        if by_channel or "convolution" in call.base_op:
            self._channels.update(call.outputs)
        if call.base_op in _RECTIFIERS and _rectifies(call) and (operands := _operands(call)):
            self._look(call, output, self._maker(operands[0]))

    def _is_by_channel(self, call: Call, output: int) -> bool:
        among = not self._channels.isdisjoint(_operands(call))
        return among and len(self.tape.values[output].shape) > 2

    def _maker(self, number: int) -> tuple[str, ...]:
        """Return the module and parameter names of the last layer that a value went through."""
        found = self._makers.get(number)
        if found is None:
            return ()
        while isinstance(found, int):
            call = self.tape.calls[found]
            operands = _operands(call)
            names = [name for n in operands if (name := self.tape.values[n].name)]
            before = (self._makers[n] for n in operands if n in self._makers)
            found = (call.source.module, *names) if names else next(before, ())
        self._makers[number] = found
        return found

    def _look(self, call: Call, output: int, maker: tuple[str, ...]) -> None:
        result = where_it_lives(self.tape.values[output]).array
        if result is None:
            return
        by_channel = output in self._channels
        axis = 1 if by_channel else result.ndim - 1
        if result.ndim < 2 or result.size == 0:
            return
        units = result.shape[axis]
        over = tuple(k for k in range(result.ndim) if k != axis)
        rows = result.size // units
        first = -(-_FIRST * len(result) // rows)
        alive = _are_on(result[:first], over)
        if not alive.all() and first < len(result):
            alive = alive | _are_on(result[first:], over)
        key = (call.source.module, call.source.line, call.base_op, maker, units)
        unit = self._units.setdefault(key, _Units(np.zeros(units, dtype=bool), 0, []))
        unit.alive |= alive
        unit.samples += result.shape[0] if by_channel else rows
        unit.calls.append(call)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        notes = []
        for units in self._units.values():
            dead = np.flatnonzero(~units.alive)
            # Only units that were differentiated are meant to learn.
            call = next((c for c in units.calls if tape.calls[c.id].node is not None), None)
            if call is None or not dead.size or units.samples < _SAMPLES:
                continue
            where = f" of module {call.source.module}" if call.source.module else ""
            which = listed([f"#{n}" for n in dead])
            text = (
                f"{dead.size} of {units.alive.size} units ({which}) are 0 "
                f"for all {units.samples} samples after {call.op} (call {call.id}){where}: no "
                "gradient passes through them. If this persists, lower the learning rate, check "
                "the biases that feed them, or use a leaky activation."
            )
            node = tape.calls[call.id].node
            notes.append(Note("dead units", text, call.source, call.id, node))
        return notes


def _are_on(result: NDArray[Any], over: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which units are not 0 everywhere."""
    above, below = result.max(axis=over), result.min(axis=over)
    return on_host((above != 0) | (below != 0))


def _operands(call: Call) -> list[int]:
    return [a.value for a in call.arguments.values() if isinstance(a, Ref)]


def _rectifies(call: Call) -> bool:
    argument = _RECTIFIERS.get(call.base_op)
    if argument is None:
        return False
    if not argument:
        return True
    # An argument left out has its default, which is not 0 (hardtanh: -1).
    bound = call.arguments.get(argument)
    return not isinstance(bound, Ref) and bound is not None and bound == 0
