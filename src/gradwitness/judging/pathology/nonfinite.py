"""Where NaN and infinity are born: the first step that makes them of numbers without."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import is_inexact
from gradwitness.engine.masked_elements import CURE, THROUGH_WHERE, told, unselected_by
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.records import Records
    from gradwitness.tape import Argument, Call, LeafUpdate, NodeRun, Tape

_KINDS = {"NaN": np.isnan, "infinity": np.isinf}
# What helps, by a word in the operation's or node's name: against both, and against one alone.
_BOTH = {
    "softmax": "A row of nothing but -inf has no softmax: leave such rows out.",
    "logsumexp": "A row of nothing but -inf has no slope: leave such rows out.",
    "log": "Keep the argument above 0, by clamp(min=...).",
    "sqrt": "Keep the argument above 0: the slope at 0 is infinite.",
    "norm": "Keep the argument away from 0, where a norm has no slope.",
    "div": "Keep the divisor away from 0.",
    "reciprocal": "Keep the divisor away from 0.",
    "exp": "Subtract the largest exponent first.",
}
_HELP = {
    "NaN": _BOTH
    | {
        "pow": "Keep the base above 0.",
        "mean": "There may be no elements to average.",
        "nll": "Every target may be ignored, so that nothing is averaged.",
        "aten.mul.": "0 times infinity is NaN: a mask as a factor removes no infinity.",
    },
    "infinity": _BOTH
    | {"pow": "Keep the base away from 0 if the exponent is negative, and small if not."},
}
_MASKED = (
    " A gradient of 0 arrived there, which does not help: 0 times infinity is NaN. Make the "
    "argument safe before."
)


class Nonfinite(Detector):
    """Remembers the first birth of each sort, in forward and in backward.

    A NaN is always told. An infinity is a harmless mask as often as not: it is told if the result
    or a gradient is not finite in the end. What the program wrote itself is nobody's fault.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._first: dict[tuple[str, str], Note] = {}
        # Values with NaN or infinities that calls made, and those among them with NaN.
        self._tainted: set[int] = set()
        self._with_nan: set[int] = set()
        # What arrived where, in the backward pass that goes on.
        self._arrived: dict[tuple[int, int], int | None] = {}
        self._sweep = -1

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        if all(math.isfinite(f.comparison.norm) for f in findings):
            return
        operands = [n for argument in call.arguments.values() for n in references(argument)]
        outputs = [n for n in call.outputs if n is not None]
        if not operands:
            return
        title = f"{call.op} (call {call.id})"
        where = Note("", "", call.source, call=call.id)
        given = set(operands) & self._with_nan
        written = any(_is_infinite(argument) for argument in call.arguments.values())
        for kind, test in _KINDS.items():
            made = self._holding(outputs, test)
            if not made:
                continue
            if kind == "NaN":
                self._with_nan.update(made)
            known = not self._tainted.isdisjoint(operands) if kind == "infinity" else bool(given)
            self._tainted.update(made)
            brought = [] if known else self._holding(operands, test)
            if brought and kind == "NaN":
                name = self.tape.values[brought[0]].name or f"value {brought[0]}"
                self._tell("NaN came in", "forward", where, f"{title} meets NaN in {name}")
            if known or brought or (kind == "infinity" and written):
                continue
            text = f"{title} makes {kind}{self._place(made[0], operands, test)}"
            self._tell(
                f"{kind} born", "forward", where, text + _help(call.op, kind, self.tape, made)
            )

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        if sweep != self._sweep:
            self._sweep, self._arrived = sweep, {}
        self._arrived |= {(node_run.node, k): n for k, n in enumerate(node_run.incoming)}
        if all(math.isfinite(f.comparison.norm) for f in findings):
            return
        node = self.tape.nodes[node_run.node]
        if update is not None:
            # What an optimizer then meets in `.grad` has come from here.
            self._with_nan.update(self._holding([update.after], np.isnan))
            self._tainted.update(self._holding([update.after], lambda array: ~np.isfinite(array)))
        if self._holding(node_run.incoming, lambda array: ~np.isfinite(array)):
            return
        calls = [self.tape.calls[n] for n in (*node.inner, node.call) if n is not None]
        operands = {n for call in calls for a in call.arguments.values() for n in references(a)}
        used = operands.union(n for call in calls for n in call.outputs if n is not None)
        source = next((f.source for f in findings if f.source is not None), None)
        where = Note("", "", source, node=node.id, sweep=sweep)
        if self._through_where(node_run, sorted(operands), where):
            return
        if not used.isdisjoint(self._with_nan) or self._holding(sorted(used), np.isnan):
            # NaN in the forward pass was told there.
            return
        for kind, test in _KINDS.items():
            made = self._holding(node_run.outgoing, test)
            if made and kind == "infinity" and not used.isdisjoint(self._tainted):
                # It overflowed in the forward pass already.
                return
            if made:
                place = self._place(made[0], sorted(operands), test)
                text = f"{node.name} #{node.id} makes {kind} of finite gradients{place}"
                text += _help(node.name, kind, self.tape, made)
                masked = self._holding(node_run.incoming, lambda array: array == 0)
                text += _MASKED if kind == "NaN" and masked else ""
                self._tell(f"{kind} born", "backward", where, text)
                return

    def _through_where(self, node_run: NodeRun, operands: Sequence[int], where: Note) -> bool:
        """Tell of NaN that is made of zeros, which arrive for what a step did not select."""
        node, incoming = self.tape.nodes[node_run.node], next(iter(node_run.incoming), None)
        made = self._holding(node_run.outgoing, np.isnan)
        if not made or incoming is None:
            return False
        zero = self._numbers(incoming) == 0
        each = [np.isnan(self._numbers(number)) for number in made]
        born = each[0]
        alike = [e for e in each if e.shape == zero.shape]
        if born.shape != zero.shape or np.any(alike & ~zero):
            return False
        input_nr = (node.id, 0)
        call = unselected_by(self.tape, input_nr, born, self._arriving, self.records)
        if call is None:
            return False
        place = self._place(made[0], operands, np.isnan)
        text = (
            f"{node.name} #{node.id} makes NaN of zeros{place}: {told(call)} does not select what "
            f"was computed there. {CURE}"
        )
        self._tell(THROUGH_WHERE, "backward", where, text)
        return True

    def _arriving(self, node: int, index: int) -> Any:
        number = self._arrived.get((node, index))
        try:
            return None if number is None else self.records(number)
        except Unjudgeable:
            return None

    def _tell(self, kind: str, phase: str, where: Note, text: str) -> None:
        if (kind, phase) not in self._first:
            text = f"{text.rstrip('.')}." if not text.endswith(".") else text
            self._first[kind, phase] = replace(where, kind=kind, text=text)

    def _holding(self, numbers: Iterable[int | None], test: Any) -> list[int]:
        """Return the values that hold what a test finds."""
        return [n for n in numbers if n is not None and np.any(test(self._numbers(n)))]

    def _numbers(self, number: int) -> Any:
        nothing = np.empty(0)
        if not is_inexact(self.tape.values[number].dtype):
            return nothing
        try:
            return self.records(number)
        except Unjudgeable:
            return nothing

    def _place(self, made: int, operands: Sequence[int], test: Any) -> str:
        """Say where the first of them is, how many there are, and what the operands are there."""
        array = self._numbers(made)
        found = np.argwhere(test(array))
        at = tuple(int(n) for n in found[0])
        parts = [f", {len(found)} of {array.size}, first at [{', '.join(map(str, at))}]"]
        if array.ndim == 0:
            parts = [""]
        alike = [n for n in operands if n != made and self._numbers(n).shape == array.shape]
        if alike:
            shown = " and ".join(f"{self._numbers(n)[at]:.6g}" for n in alike[:3])
            parts.append(f", where the forward operands are {shown}" if alike[1:] else "")
            parts.append(f", where the forward operand is {shown}" if not alike[1:] else "")
        return "".join(parts)

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, replayed
        edges = [edge for sweep in tape.sweeps for edge, _ in sweep.roots]
        roots = {tape.nodes[edge.node].outputs[edge.index] for edge in edges}
        spoiled = not roots.isdisjoint(self._tainted) or any(
            not math.isfinite(row.comparison.norm) for row in rows if row.value is not None
        )
        return [
            note
            for (kind, _), note in self._first.items()
            if spoiled or not kind.startswith("infinity")
        ]


def _help(name: str, kind: str, tape: Tape, made: Sequence[int]) -> str:
    """Return a sentence on what to do, where one is known."""
    known = _HELP[kind]
    word = next((word for word in known if word in name.lower()), None)
    text = f". {known[word]}" if word else "."
    if tape.values[made[0]].dtype == "float16":
        text += " The largest number of float16 is 65504: scale the loss, or use bfloat16."
    return text


def _is_infinite(argument: Argument) -> bool:
    if isinstance(argument, tuple):
        return any(map(_is_infinite, argument))
    return isinstance(argument, float) and math.isinf(argument)
