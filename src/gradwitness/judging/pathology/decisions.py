"""Numbers that decide what runs, and reach the loss in no other way: autograd sees no gradient.

``if x > threshold``, ``while error > tolerance``, ``x[: int(n)]`` and the index of a grid cell are
constants for autograd. That is right almost everywhere for what has other ways to the loss: a
piecewise function has the derivative of its piece. Noted are leaves without any other way, and
parts of tensors, as one time of a grid of times. A part is not where the same line reads another
part that has a way: ``max``, ``sorted`` and ``if x[i] > 0`` in a loop choose one piece for each. An
equality holds at single points, where the other pieces have the derivative. Nor is a part that was
computed and became Python's number: most are logged, and in a loss it is recognised by its digits.
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
_EQUALITIES = ("aten.eq", "aten.ne")
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
    kind, text = (NUMBER, _NUMBER) if _is_number(tape, call) else (BRANCH, _BRANCH)
    text = text.format(f"{names}: {what}no gradient")
    others = dict.fromkeys(place(d.call.source) for d in found)
    others.pop(place(call.source))
    also = f" It is read at {listed(others)}, too." if others else ""
    return Note(kind, text + also, call.source, call.id)


def decisions(tape: Tape) -> dict[int, list[Decision]]:
    """Return the decisions by numbers that reach no root of a pass in any other way, by value."""
    found: dict[int, list[Decision]] = {}
    # Lines that read a part of a value which does reach a root.
    other: set[tuple[str, int]] = set()
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
                if is_part is None:
                    other.add((call.source.line, value))
                else:
                    found.setdefault(value, []).append(Decision(call, value, is_part))
    meant = {n: [d for d in of if not _is_piece(d, of, other, ways)] for n, of in found.items()}
    return {number: of_value for number, of_value in meant.items() if of_value}


def _is_piece(
    decision: Decision, of_value: Sequence[Decision], other: set[tuple[str, int]], ways: _Ways
) -> bool:
    """Whether a part was read for a function in pieces, or only to be shown."""
    call, value, is_part = decision
    if not is_part:
        return False
    if not ways.tape.values[value].requires_grad and _is_number(ways.tape, call):
        return True
    return (call.source.line, value) in other and not any(map(ways.is_equality, of_value))


def _is_number(tape: Tape, call: Call) -> bool:
    """Whether Python reads a number, not whether something is true."""
    return call.op.startswith(OUTSIDE) and is_inexact(tape.values[call.operands[0]].dtype)


class _Ways:
    """The ways by which numbers reach the roots of backward passes."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.makers = {n: call for call in tape.calls for n in made(call)}
        self._asked: set[int | None] | None = None
        if any(sweep.limited_to is not None for sweep in tape.sweeps):
            asked = [e for sweep in tape.sweeps for e in sweep.limited_to or ()]
            self._asked = {tape.nodes[e.node].outputs[e.index] for e in asked}
        # Where the operands of what a pass differentiated lay, and its roots.
        taken: dict[int, set[_Place]] = {}
        self._takers = takers(tape)
        roots = [tape.nodes[e.node].outputs[e.index] for s in tape.sweeps for e, _ in s.roots]
        numbers = (n for n, calls in self._takers.items() if not all(c.is_view for c in calls))
        for number in (*numbers, *(root for root in roots if root is not None)):
            lies = _place(tape.values[number])
            if lies is not None:
                taken.setdefault(lies.layout.storage, set()).add(lies)
        self._taken = {storage: _Taken(places) for storage, places in taken.items()}

    def is_equality(self, decision: Decision) -> bool:
        """Whether a decision asks whether numbers are equal."""
        asked = [self.makers[n] for n in decision.call.operands if n in self.makers]
        return any(call.base_op in _EQUALITIES for call in [decision.call, *asked])

    def blind(self, numbers: list[int]) -> Iterator[tuple[int, bool | None]]:
        """Yield what some values are made of that reaches no root, and whether it is a part.

        Of what does reach one, the value that it is a view of is given, with None.
        """
        waiting, met = [(n, n) for n in numbers], set[tuple[int, int]]()
        for number, region in waiting:
            if (number, region) in met:
                continue
            met.add((number, region))
            value, call = self.tape.values[number], self.makers.get(number)
            is_counted = not is_inexact(value.dtype)
            if not is_counted and self._is_taken(region):
                while call is not None and call.is_view:
                    number = call.operands[0]
                    call = self.makers.get(number)
                yield number, None
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
        lies = _place(self.tape.values[region])
        if lies is None:
            return region in self._takers
        taken = self._taken.get(lies.layout.storage)
        return taken is not None and taken.meets(lies)


class _Place(NamedTuple):
    """Which elements of a storage a value has."""

    layout: Layout
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """Return the place behind the last element."""
        steps = zip(self.shape, self.layout.strides, strict=True)
        return self.layout.offset + 1 + sum((n - 1) * s for n, s in steps)

    def memory(self) -> NDArray[np.int8]:
        """Return an array that lies in memory as a value does, a byte an element; none reads it."""
        to_there = np.lib.stride_tricks.as_strided(_START, (self.layout.offset + 1,), (1,))
        return np.lib.stride_tricks.as_strided(
            to_there[self.layout.offset :], self.shape, self.layout.strides, writeable=False
        )


class _Taken:
    """Places of one storage, of which those that cannot meet another are passed over at once."""

    def __init__(self, places: set[_Place]) -> None:
        self._places = [*places]
        self._starts = np.array([p.layout.offset for p in self._places])
        self._ends = np.array([p.end for p in self._places])

    def meets(self, other: _Place) -> bool:
        """Whether a place has an element of one of these."""
        near = (self._starts < other.end) & (self._ends > other.layout.offset)
        own = other.memory()
        return any(np.shares_memory(own, self._places[k].memory()) for k in np.flatnonzero(near))


def _place(value: Value) -> _Place | None:
    return None if value.layout is None else _Place(value.layout, value.shape)


def _name(tape: Tape, number: int, makers: dict[int, Call]) -> str:
    value, call = tape.values[number], makers.get(number)
    if value.requires_grad or call is None:
        return value.name or f"value {number}"
    return f"the result of {call.op} (call {call.id})"
