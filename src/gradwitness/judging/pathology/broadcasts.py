"""A vector that met a column in a loss: (N,) against (N, 1) is (N, N), every pair of the two.

Pairs are often meant. Those noted went straight into a sum of all, and nobody asked for the axis of
length 1: a layer or the data brought it.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import by_element, is_summed, made, takers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.tape import Call, Tape

# Torch itself warns where these broadcast: pairs are never meant.
_LOSSES = frozenset(f"aten.{n}_loss" for n in ("huber", "mse", "smooth_l1"))


class _Meeting(NamedTuple):
    """A call, and the two values whose shapes met there."""

    call: Call
    vector: int
    column: int
    shape: tuple[int, ...]


class Broadcasts(Detector):
    """Looks at the shapes of what meets, and at where the result goes."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        flow = _Flow(tape)
        notes: dict[str, Note] = {}
        for meeting in filter(flow.is_unmeant, flow.meetings()):
            call = meeting.call
            vector, column = (tape.values[n].shape for n in (meeting.vector, meeting.column))
            text = (
                f"shape {vector} met {column} in {call.op} (call {call.id}) and became "
                f"{meeting.shape}, all of which the loss sums up: each number of the one is paired "
                "with every number of the other. Give both the same shape, by squeeze(-1) or "
                "unsqueeze(-1)."
            )
            notes.setdefault(
                call.source.line, Note("shapes broadcast", text, call.source, call.id, call.node)
            )
        return list(notes.values())


class _Flow:
    """Who made each value of the forward pass, and who takes it on the way to a loss."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._takers = takers(tape)
        self._calls = {call.id: call for calls in self._takers.values() for call in calls}
        self._makers = {n: call for call in tape.calls for n in made(call)}

    def meetings(self) -> Iterator[_Meeting]:
        """Yield where two shapes meet that are one but for axes of length 1."""
        for _, call in sorted(self._calls.items()):
            if not (by_element(call) or call.base_op in _LOSSES):
                continue
            operands = {self._before_expansion(n) for n in call.operands}
            for vector, column in permutations(operands, 2):
                one, other = (self._tape.values[n].shape for n in (vector, column))
                if len(one) < len(other) and _squeezed(one) == _squeezed(other):
                    shape = np.broadcast_shapes(one, other)
                    if math.prod(shape) > math.prod(one):
                        yield _Meeting(call, vector, column, shape)
                        break

    def _before_expansion(self, number: int) -> int:
        call = self._makers.get(number)
        return call.operands[0] if call is not None and call.base_op == "aten.expand" else number

    def is_unmeant(self, meeting: _Meeting) -> bool:
        """Whether all pairs are summed up though nobody asked for them."""
        if meeting.call.base_op in _LOSSES:
            return True
        vector, column = (list(self._origins(n)) for n in (meeting.vector, meeting.column))
        if any(self._tape.values[n].requires_grad for n in (*vector, *column)):
            # A parameter has no axis of samples: centres, for each sample.
            return False
        if any(map(self._widens, column)) or not {*vector}.isdisjoint(column):
            return False
        return is_summed(self._tape, meeting.call, self._takers, meeting.shape)

    def _origins(self, number: int) -> Iterator[int]:
        """Yield a value, and those from which it differs by views and steps by element."""
        waiting = [number]
        for n in waiting:
            yield n
            call = self._makers.get(n)
            if call is not None and (call.is_view or by_element(call)):
                size = math.prod(self._tape.values[n].shape)
                waiting += [
                    k for k in call.operands if math.prod(self._tape.values[k].shape) == size
                ]

    def _widens(self, number: int) -> bool:
        """Whether a view gave a value its axis of length 1."""
        call = self._makers.get(number)
        # What a slice of one column leaves is as wide as before.
        if call is None or not call.is_view or call.base_op == "aten.slice":
            return False
        before, after = (self._tape.values[n].shape for n in (call.operands[0], number))
        return after.count(1) > before.count(1)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
