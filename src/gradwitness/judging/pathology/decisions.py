"""Numbers that decide what runs, and reach the loss in no other way: autograd sees no gradient.

``if x > threshold``, ``while error > tolerance``, ``x[: int(n)]`` and the index of a grid cell are
constants for autograd. That is right almost everywhere for what has other ways to the loss: a
piecewise function has the derivative of its piece. Noted are leaves without any other way, and
parts of tensors, as one time of a grid of times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradwitness._printable import listed
from gradwitness.engine.floats import is_inexact
from gradwitness.judging.note import Note, place
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import inner_calls, leaves, made, needed, takers
from gradwitness.tape import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Call, Layout, Tape, Value

BRANCH = "branch on a tensor's value"
_BRANCH = (
    "{}. Here (if, while, an index, a comparison) autograd takes the numbers for constants, and "
    "they reach the loss in no other way: the gradients are those of the branch that ran. Let them "
    "reach it by operations with a derivative, or .detach() them if this is meant."
)
NUMBER = "number out of autograd's sight"
_NUMBER = (
    "{}. Here (item(), tolist(), int(), float()) the numbers become Python's, constants for "
    "autograd, and they reach the loss in no other way. Use the tensor itself, or .detach() it if "
    "this is meant."
)
_START = np.zeros(1, np.int8)


class Decision(NamedTuple):
    """A call that takes numbers for a decision, and the value whose numbers only decide."""

    call: Call
    value: int
    is_part: bool


class Decisions(Detector):
    """Follows what Python and indices read back to where gradients still go."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        by_line: dict[str, list[Decision]] = {}
        for number, found in decisions(tape).items():
            # Parameters without any gradient have their own note.
            if found[0].is_part or number not in tape.parameters:
                by_line.setdefault(found[0].call.source.line, []).extend(found)
        makers = {n: call for call in tape.calls for n in made(call)}
        notes = []
        for found in by_line.values():
            names = dict.fromkeys(_name(tape, decision.value, makers) for decision in found)
            notes.append(note_of(tape, found, listed(names)))
        return notes


def note_of(tape: Tape, found: Sequence[Decision], names: str) -> Note:
    """Return the note about decisions by the same numbers."""
    call, what = found[0].call, "the part that is read here gets " if found[0].is_part else ""
    is_number = call.op.startswith(OUTSIDE) and is_inexact(tape.values[call.operands[0]].dtype)
    kind, text = (NUMBER, _NUMBER) if is_number else (BRANCH, _BRANCH)
    text = text.format(f"{names}: {what}no gradient")
    others = dict.fromkeys(place(d.call.source) for d in found)
    others.pop(place(call.source))
    also = f" It is read at {listed(others)}, too." if others else ""
    return Note(kind, text + also, call.source, call.id)


def decisions(tape: Tape) -> dict[int, list[Decision]]:
    """Return the decisions by numbers that reach no root of a pass in any other way, by value."""
    found: dict[int, list[Decision]] = {}
    ways = _Ways(tape)
    inside = inner_calls(tape)
    roots = {tape.nodes[e.node].outputs[e.index] for sweep in tape.sweeps for e, _ in sweep.roots}
    wanted = needed(tape, roots)
    last = max((sweep.after for sweep in tape.sweeps), default=0)
    for call in tape.calls[:last]:
        if call.during is not None or call.id in inside:
            continue
        counts = [not is_inexact(tape.values[n].dtype) for n in made(call) & wanted]
        if call.op.startswith(OUTSIDE) or (counts and all(counts)):
            for value, is_part in ways.blind(call.operands):
                found.setdefault(value, []).append(Decision(call, value, is_part))
    return found


class _Ways:
    """The ways by which numbers reach the roots of backward passes."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._makers = {n: call for call in tape.calls for n in made(call)}
        self._asked: set[int | None] | None = None
        if any(sweep.limited_to is not None for sweep in tape.sweeps):
            asked = [e for sweep in tape.sweeps for e in sweep.limited_to or ()]
            self._asked = {tape.nodes[e.node].outputs[e.index] for e in asked}
        # Where the operands of what a pass differentiated lay, and its roots.
        self._taken: dict[int, list[tuple[Layout, Value]]] = {}
        self._takers = takers(tape)
        roots = [tape.nodes[e.node].outputs[e.index] for s in tape.sweeps for e, _ in s.roots]
        taken = (n for n, calls in self._takers.items() if not all(c.is_view for c in calls))
        for number in (*taken, *(root for root in roots if root is not None)):
            value = tape.values[number]
            if value.layout is not None:
                self._taken.setdefault(value.layout.storage, []).append((value.layout, value))

    def blind(self, numbers: list[int]) -> Iterator[tuple[int, bool]]:
        """Yield what some values are made of that reaches no root, and whether it is a part."""
        waiting, met = [(n, n) for n in numbers], set[tuple[int, int]]()
        for number, region in waiting:
            if (number, region) in met:
                continue
            met.add((number, region))
            value, call = self._tape.values[number], self._makers.get(number)
            is_counted = not is_inexact(value.dtype)
            if not is_counted and self._is_taken(region):
                continue
            if value.requires_grad:
                if self._asked is None or number in self._asked:
                    yield number, self._is_taken(number)
            elif call is None or (leaves(call) and not is_counted):
                continue
            elif call.is_view and not is_counted:
                waiting.append((call.operands[0], region))
            elif not is_counted and self._is_taken(number):
                yield number, True
            else:
                waiting += [(n, n) for n in call.operands]

    def _is_taken(self, region: int) -> bool:
        """Whether an operation that a pass differentiated takes some of a value's memory."""
        value = self._tape.values[region]
        if value.layout is None:
            return region in self._takers
        own = _memory(value.layout, value)
        taken = self._taken.get(value.layout.storage, ())
        return any(np.shares_memory(own, _memory(layout, other)) for layout, other in taken)


def _memory(layout: Layout, value: Value) -> NDArray[np.int8]:
    """Return an array that lies in memory as a value does, a byte an element; nothing reads it."""
    to_there = np.lib.stride_tricks.as_strided(_START, (layout.offset + 1,), (1,))
    return np.lib.stride_tricks.as_strided(
        to_there[layout.offset :], value.shape, layout.strides, writeable=False
    )


def _name(tape: Tape, number: int, makers: dict[int, Call]) -> str:
    value, call = tape.values[number], makers.get(number)
    if value.requires_grad or call is None:
        return value.name or f"value {number}"
    return f"the result of {call.op} (call {call.id})"
