"""Losses divided by a number of passes for accumulation, and another number that ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import SIGNS, made
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape

# A loss's code for an average; a sum has its own divisor.
_MEAN = 1
_DEPTH, _UNKNOWN = 16, -1
_KEEPS = frozenset(f"aten.{n}" for n in ("_to_copy", "alias", "clone", "div", "mul", "neg", "view"))


class Accumulation(Detector):
    """Counts the passes whose gradients one update uses, and reads what divided their losses.

    Passes count if their losses are averages that one line divided, each of a graph of its own.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._makers: dict[int, Call] = {}
        self._divisors: dict[int, int] = {}
        # By storage of a leaf: passes since its gradient was cleared or used.
        self._open: dict[int, list[int]] = {}
        self._closed: dict[tuple[int, ...], None] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if call.during is not None:
            return
        for number in made(call):
            value = self.tape.values[number]
            layout = value.layout if call.writes else None
            if layout is not None and layout.storage in self._open:
                self._closed[tuple(self._open.pop(layout.storage))] = None
            if not value.shape:
                self._makers[number] = call
        if call.base_op == "aten.div" and len(call.operands) == 2:
            self._divide(call)

    def _divide(self, call: Call) -> None:
        by = call.operands[1]
        value = self.tape.values[by]
        try:
            divisor = 0.0 if value.shape or by in self._makers else float(self.records(by))
        except Unjudgeable:
            return
        if divisor >= 2 and divisor == int(divisor):
            self._divisors[call.id] = int(divisor)

    def accumulated(  # noqa: D102
        self, sweep: int, node_run: NodeRun, update: LeafUpdate
    ) -> None:
        leaf = self.tape.nodes[node_run.node].leaf
        layout = None if leaf is None else self.tape.values[leaf].layout
        if layout is not None:
            begins = update.before is None or not np.any(self._numbers(update.before))
            # What began before the block, or goes on after an update, is not known whole.
            before = [] if begins else self._open.get(layout.storage, [_UNKNOWN])
            self._open[layout.storage] = [*before, sweep]

    def _numbers(self, number: int) -> Any:
        try:
            return self.records(number)
        except Unjudgeable:
            return True

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        # What follows after the block may complete what is open, if others were complete in it.
        unfinished = self._closed or tape.ended or "distributed" in tape.about
        windows = [*self._closed] or ([] if unfinished else [*map(tuple, self._open.values())])
        counted = [
            (call, divisors.pop(), _graphs(tape, same), same[-1])
            for passes in dict.fromkeys(windows)
            if _UNKNOWN not in passes
            for call, divisors, same in self._by_line(tape, passes)
            if len(divisors) == 1
        ]
        # One pass alone may divide its loss by whatever it likes.
        accumulates = {call.source.line for call, _, count, _ in counted if count > 1}
        notes: dict[str, Note] = {}
        for call, divisor, count, sweep in counted:
            if count != divisor and call.source.line in accumulates:
                text = (
                    f"{count} backward passes add to one gradient, and each divides its loss by "
                    f"{divisor}: their sum is {count / divisor:.3g} times the average. Divide by "
                    f"{count}, the number of passes until the update; the last ones of an epoch "
                    "may be fewer."
                )
                note = Note("accumulation", text, call.source, call.id, call.node, sweep)
                notes.setdefault(call.source.line, note)
        return list(notes.values())

    def _by_line(
        self, tape: Tape, passes: tuple[int, ...]
    ) -> Iterator[tuple[Call, set[int], list[int]]]:
        """Yield, for each line that divides losses, a call, its divisors and the passes."""
        lines: dict[str, tuple[Call, set[int], list[int]]] = {}
        for number in passes:
            call = self._divided(tape, number)
            if call is not None:
                _, divisors, same = lines.setdefault(call.source.line, (call, set(), []))
                divisors.add(self._divisors[call.id])
                same.append(number)
        yield from lines.values()

    def _divided(self, tape: Tape, sweep: int) -> Call | None:
        """Return the call that divided an average, if a pass began from its result."""
        (edge, _), *others = tape.sweeps[sweep].roots
        number = tape.nodes[edge.node].outputs[edge.index]
        call = None if others or number is None else self._makers.get(number)
        while call is not None and _is_scaling(tape, call):
            call = self._makers.get(call.operands[0])
        if call is None or call.id not in self._divisors:
            return None
        maker = self._makers.get(call.operands[0])
        if maker is not None and maker.base_op == "aten.mul":
            # Weighted by its share: times its samples, over all.
            return None
        terms = list(self._terms(call.operands[0], _DEPTH))
        # The average of so many terms is none of passes.
        return call if all(terms) and len(terms) != self._divisors[call.id] else None

    def _terms(self, number: int, depth: int) -> Iterator[bool]:
        """Yield for each term of a loss whether it is an average."""
        call = self._makers.get(number)
        if call is None or not depth:
            yield False
            return
        scalars = [n for n in call.operands if n in self._makers]
        if call.base_op == "aten.mean" or call.arguments.get("reduction") == _MEAN:
            yield True
        elif call.base_op in SIGNS and scalars:
            for scalar in scalars:
                yield from self._terms(scalar, depth - 1)
        elif call.base_op == "aten.div" and self._makers[scalars[0]].base_op == "aten.sum":
            yield True
        elif call.base_op in _KEEPS and len(scalars) == 1:
            yield from self._terms(scalars[0], depth - 1)
        else:
            yield False


def _is_scaling(tape: Tape, call: Call) -> bool:
    """Whether a call puts a factor on a loss that is a tensor, as GradScaler does."""
    by = tape.values[call.operands[-1]]
    return call.base_op == "aten.mul" and by.shape == () and by.dtype == "float32"


def _graphs(tape: Tape, passes: Sequence[int]) -> int:
    """Return how many graphs some passes ran through: several may begin in one."""
    seen: list[set[int]] = []
    for number in passes:
        ran = {r.node for r in tape.sweeps[number].node_runs}
        own = {n for n in ran if tape.nodes[n].kind != Kind.ACCUMULATE}
        if all(own.isdisjoint(other) for other in seen):
            seen.append(own)
    return len(seen)
