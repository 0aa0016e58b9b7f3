"""Where NaN and infinity are born: the first step that computes them from finite numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import is_inexact
from gradwitness.engine.masked_elements import CURE, THROUGH_WHERE, told, unselected_by
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Argument, Call, LeafUpdate, NodeRun, Tape

_KINDS = {"NaN": np.isnan, "infinity": np.isinf}
_NORMALISATIONS = ("layer_norm", "group_norm", "batch_norm", "rms_norm")
_VARIANCE = "Its variance overflows, or is 0 with eps=0: divide what goes in by its size first."
# Advice by a word in the operation's or node's name: for both kinds, and for one alone.
_BOTH = {
    "softmax": "A row of only -inf has no softmax: leave such rows out.",
    "logsumexp": "A row of only -inf has no slope: leave such rows out.",
    "log": "Keep the argument above 0, by clamp(min=...).",
    "sqrt": "Keep the argument above 0: the slope at 0 is infinite.",
    "layernorm": _VARIANCE,
    "layer_norm": _VARIANCE,
    "groupnorm": _VARIANCE,
    "group_norm": _VARIANCE,
    "batchnorm": _VARIANCE,
    "batch_norm": _VARIANCE,
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
        "aten.mul.": "0 times infinity is NaN: multiplying by a mask does not remove an infinity.",
    },
    "infinity": _BOTH
    | {"pow": "Keep the base away from 0 if the exponent is negative, and small if not."},
}
_MASKED = (
    " The gradient of 0 that arrived there does not help: 0 times infinity is NaN. Make the "
    "argument safe beforehand."
)

# GradScaler's: its last argument tells of an infinity.
UNSCALE = "aten._amp_foreach_non_finite_check_and_unscale"
_SKIPPED = "GradScaler skipped this step: normal, as long as it is looking for its scale."
_BORN, _BEHIND = "infinity born", "NaN of an infinity"


class Nonfinite(Detector):
    """Remembers the first birth of each kind, in forward and in backward.

    A NaN is always noted. An infinity is often a harmless mask: it is noted only if the result or
    a gradient is not finite in the end. One that the program wrote itself is no fault.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._first: dict[tuple[str, str], Note] = {}
        # Values that calls returned with NaN or infinities, and those of them with NaN.
        self._tainted: set[int] = set()
        self._with_nan: set[int] = set()
        # What ran so far in the current backward pass, by node.
        self._ran: dict[int, NodeRun] = {}
        self._sweep = -1
        # By value that holds an infinity: where that came from.
        self._origins: dict[int, Note] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        if call.base_op == UNSCALE and self._holding(call.outputs[-1:], np.any):
            self._skip()
        if _are_finite(findings):
            return
        operands = call.operands
        outputs = [n for n in call.outputs if n is not None]
        if not operands:
            return
        title = f"{call.op} (call {call.id})"
        note = Note("", "", call.source, call=call.id)
        literal = any(_is_infinite(argument) for argument in call.arguments.values())
        for kind, test in _KINDS.items():
            bad_outputs = self._holding(outputs, test)
            if not bad_outputs:
                continue
            known = self._tainted if kind == "infinity" else self._with_nan
            already_bad = not known.isdisjoint(operands)
            known.update(bad_outputs)
            self._tainted.update(bad_outputs)
            bad_operands = [] if already_bad else self._holding(operands, test)
            came = _came_in(self.tape, title, kind, bad_operands)
            text = f"{title} computes {kind}{self._location(bad_outputs[0], operands, test)}"
            text += _help(call.op, kind, self.tape, bad_outputs)
            if kind == "infinity":
                came = f"{title} writes infinity." if literal else came
                self._trace(operands, bad_outputs, note, came, text)
            elif came:
                self._note("NaN came in", "forward", note, came)
            elif not already_bad and self._is_behind(call, title, note):
                continue
            if not (already_bad or came):
                self._note(f"{kind} born", "forward", note, text)

    def _trace(
        self, operands: list[int], outputs: list[int], note: Note, came: str, text: str
    ) -> None:
        """Remember where the infinities in some results come from."""
        born = replace(note, kind="infinity came in" if came else _BORN, text=came or text)
        origin = next((self._origins[n] for n in operands if n in self._origins), born)
        self._origins |= dict.fromkeys(outputs, origin)

    def _is_behind(self, call: Call, title: str, note: Note) -> bool:
        """Whether a normalisation makes NaN of an infinity, which is noted where it was born."""
        infinite = self._holding(call.operands, np.isinf)
        if not infinite or not call.base_op.endswith(_NORMALISATIONS):
            return False
        text = _came_in(self.tape, title, "infinity", infinite)
        origin = self._origins.get(infinite[0], replace(note, kind="infinity came in", text=text))
        text = f"{origin.text} {title} makes NaN of all that it normalises together with it."
        self._first.setdefault((_BEHIND, "forward"), replace(origin, text=text))
        return True

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        if sweep != self._sweep:
            self._sweep, self._ran = sweep, {}
        self._ran[node_run.node] = node_run
        if _are_finite(findings):
            return
        node = self.tape.nodes[node_run.node]
        if update is not None:
            # What an optimizer later reads from `.grad` comes from here.
            self._with_nan.update(self._holding([update.after], np.isnan))
            self._tainted.update(self._holding([update.after], lambda array: ~np.isfinite(array)))
        if self._holding(node_run.incoming, lambda array: ~np.isfinite(array)):
            return
        calls = [self.tape.calls[n] for n in (*node.inner, node.call) if n is not None]
        operands = {n for call in calls for n in call.operands}
        used = operands.union(n for call in calls for n in call.outputs if n is not None)
        source = next((f.source for f in findings if f.source is not None), None)
        note = Note("", "", source, node=node.id, sweep=sweep)
        if self._through_where(node_run, sorted(operands), note):
            return
        if not used.isdisjoint(self._with_nan) or self._holding(sorted(used), np.isnan):
            # NaN in the forward pass was noted there.
            return
        for kind, test in _KINDS.items():
            bad_gradients = self._holding(node_run.outgoing, test)
            if bad_gradients and kind == "infinity" and not used.isdisjoint(self._tainted):
                # It already overflowed in the forward pass.
                return
            if bad_gradients:
                location = self._location(bad_gradients[0], sorted(operands), test)
                text = f"{node.name} #{node.id} computes {kind} from finite gradients{location}"
                text += _help(node.name, kind, self.tape, bad_gradients)
                masked = self._holding(node_run.incoming, lambda array: array == 0)
                text += _MASKED if kind == "NaN" and masked else ""
                self._note(f"{kind} born", "backward", note, text)
                return

    def _through_where(self, node_run: NodeRun, operands: Sequence[int], note: Note) -> bool:
        """Note NaN computed from the zeros that arrive for elements that a step did not select."""
        node, incoming = self.tape.nodes[node_run.node], next(iter(node_run.incoming), None)
        bad_gradients = self._holding(node_run.outgoing, np.isnan)
        if not bad_gradients or incoming is None:
            return False
        zero = self._numbers(incoming) == 0
        nans = [np.isnan(self._numbers(number)) for number in bad_gradients]
        first = nans[0]
        same_shape = [e for e in nans if e.shape == zero.shape]
        if first.shape != zero.shape or np.any(same_shape & ~zero):
            return False
        input_nr = (node.id, 0)
        call = unselected_by(self.tape, input_nr, first, self._arriving, self.records)
        if call is None:
            return False
        location = self._location(bad_gradients[0], operands, np.isnan)
        text = (
            f"{node.name} #{node.id} computes NaN from zeros{location}: {told(call)} does not "
            f"select those elements. {CURE}"
        )
        self._note(THROUGH_WHERE, "backward", note, text)
        return True

    def _arriving(self, node: int, index: int) -> Any:
        run = self._ran.get(node)
        number = None if run is None else dict(enumerate(run.incoming)).get(index)
        try:
            return None if number is None else self.records(number)
        except Unjudgeable:
            return None

    def _skip(self) -> None:
        """Note that GradScaler skips a step for an overflow of the last pass."""
        overflow = self._first.get(("infinity born", "backward"))
        if overflow is not None and overflow.sweep == self._sweep:
            text = f"{_SKIPPED} {overflow.text}"
            self._first["infinity born", "backward"] = replace(
                overflow, kind="step skipped", text=text
            )

    def _note(self, kind: str, phase: str, note: Note, text: str) -> None:
        if (kind, phase) not in self._first:
            text = f"{text.rstrip('.')}." if not text.endswith(".") else text
            self._first[kind, phase] = replace(note, kind=kind, text=text)

    def _holding(self, numbers: Iterable[int | None], test: Any) -> list[int]:
        """Return the values for which a test is true somewhere."""
        return [n for n in numbers if n is not None and np.any(test(self._numbers(n)))]

    def _numbers(self, number: int) -> Any:
        nothing = np.empty(0)
        if not is_inexact(self.tape.values[number].dtype):
            return nothing
        try:
            return self.records(number)
        except Unjudgeable:
            return nothing

    def _location(self, number: int, operands: Sequence[int], test: Any) -> str:
        """Return where the first is, how many there are, and the operands there."""
        array = self._numbers(number)
        hits = np.argwhere(test(array))
        index = tuple(int(n) for n in hits[0])
        parts = [f", {len(hits)} of {array.size}, first at [{', '.join(map(str, index))}]"]
        if array.ndim == 0:
            parts = [""]
        same_shape = [n for n in operands if n != number and self._numbers(n).shape == array.shape]
        if same_shape:
            values = " and ".join(f"{self._numbers(n)[index]:.6g}" for n in same_shape[:3])
            parts.append(f", where the forward operands are {values}" if same_shape[1:] else "")
            parts.append(f", where the forward operand is {values}" if not same_shape[1:] else "")
        return "".join(parts)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        edges = [edge for sweep in tape.sweeps for edge, _ in sweep.roots]
        roots = {tape.nodes[edge.node].outputs[edge.index] for edge in edges}
        spoiled = not roots.isdisjoint(self._tainted) or any(
            not math.isfinite(row.comparison.norm) for row in judged.rows if row.value is not None
        )
        behind = self._first.get((_BEHIND, "forward"))
        return [
            note
            for (kind, _), note in self._first.items()
            if (spoiled or not kind.startswith("infinity"))
            and (note is behind or behind is None or note.call != behind.call)
        ]


def _came_in(tape: Tape, title: str, kind: str, numbers: Sequence[int]) -> str:
    return (
        ""
        if not numbers
        else f"{title} reads {kind} from {tape.values[numbers[0]].name or f'value {numbers[0]}'}."
    )


def _help(name: str, kind: str, tape: Tape, numbers: Sequence[int]) -> str:
    """Return advice, if there is any."""
    advice = _HELP[kind]
    word = next((word for word in advice if word in name.lower()), None)
    text = f". {advice[word]}" if word else "."
    if tape.values[numbers[0]].dtype == "float16":
        text += " The largest number of float16 is 65504: scale the loss, or use bfloat16."
    return text


def _is_infinite(argument: Argument) -> bool:
    if isinstance(argument, tuple):
        return any(map(_is_infinite, argument))
    return isinstance(argument, float) and math.isinf(argument)


def _are_finite(findings: Sequence[Finding]) -> bool:
    """Whether all that was found is of finite numbers."""
    return all(map(math.isfinite, [f.comparison.norm for f in findings]))
