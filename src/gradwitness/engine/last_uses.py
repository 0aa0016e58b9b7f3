"""When a replay may forget a number: after the last step that reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradwitness import rules
from gradwitness.engine.binding import vjp_arguments
from gradwitness.engine.replay_memory import Memory
from gradwitness.tape import Kind, references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.engine.storage_spans import Piece
    from gradwitness.tape import Call, Node, Tape


@dataclass
class ForgetfulMemory(Memory):
    """A memory that forgets what no later step reads.

    Values that share memory are forgotten together.
    """

    _left: dict[int, list[int | Piece]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        last: dict[int | Piece, int] = {}
        for step, numbers in enumerate(_reads(self.tape)):
            last |= dict.fromkeys((self._pieces.get(n, n) for n in numbers), step)
        self._by_place: dict[int | Piece, list[int]] = {}
        for value in self.tape.values:
            place = self._pieces.get(value.id, value.id)
            self._by_place.setdefault(place, []).append(value.id)
        for place, step in last.items():
            self._left.setdefault(step, []).append(place)

    def begins(self, step: int) -> None:
        """Forget what the step before was the last to read."""
        for place in self._left.pop(step - 1, ()):
            for number in self._by_place[place]:
                self.values.pop(number, None)
            if not isinstance(place, int):
                self.buffers.pop(place, None)
                self.windows.pop(place, None)


def _reads(tape: Tape) -> Iterator[set[int]]:
    """Yield the values that each step of a replay reads or writes: calls, then node runs."""
    for call in tape.calls:
        yield _of(call)
    for sweep in tape.sweeps:
        for node_run in sweep.node_runs:
            yield _sending(tape, tape.nodes[node_run.node])


def _of(call: Call) -> set[int]:
    return {*call.operands, *(n for n in call.outputs if n is not None)}


def _sending(tape: Tape, node: Node) -> set[int]:
    """Return the values that a node's gradients are computed from."""
    if node.kind == Kind.CUSTOM:
        return {n for number in node.inner for n in _of(tape.calls[number])}
    if node.call is None:
        return set()
    call = tape.calls[node.call]
    rule = rules.find(call.base_op)
    if rule is None or rule.given or rule.precise:
        return _of(call)
    results = {
        n for k, n in enumerate(call.outputs) if n is not None and rule.keeps(k, len(call.outputs))
    }
    used = vjp_arguments(rule, call)
    return results.union(n for name in used for n in references(call.arguments[name]))
