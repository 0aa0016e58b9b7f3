"""Digits that torch's own formula loses though every step of it is right: cancellation.

The float64 replay is the reference. In float64 itself, what record and replay lose alike goes
unseen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.floats import is_inexact, limits
from gradwitness.engine.replay import confirmed_digits
from gradwitness.judging.compare import CANCELS
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, listed
from gradwitness.judging.records import largest
from gradwitness.tape import references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.tape import Call, Node, NodeRun, Source, Sweep, Tape

# A gradient is noted if it keeps less than this share of its format's digits, and one step is
# named if it alone loses this share, and so many digits.
_KEPT, _LOST, _DIGITS = 0.4, 0.3, 1.5
# Any sum may lose the two digits of bfloat16, and no formula would save them: nothing is told.
_FEWEST = 2.5
# Below this share of its terms, even the replay's sum is rounding: in truth it is zero.
_NOISE = 2.0**-40
# Operations with kinks: where rounding takes a number to the other side of one, another slope is
# right, and no digits were lost in a formula.
_KINKED = frozenset(
    {
        "aten._prelu_kernel",
        "aten.abs",
        "aten.amax",
        "aten.amin",
        "aten.clamp",
        "aten.clamp_max",
        "aten.clamp_min",
        "aten.hardsigmoid",
        "aten.hardswish",
        "aten.hardtanh",
        "aten.leaky_relu",
        "aten.max",
        "aten.max_pool2d_with_indices",
        "aten.max_pool3d_with_indices",
        "aten.maximum",
        "aten.min",
        "aten.minimum",
        "aten.relu",
        "aten.rrelu_with_noise",
        "aten.sort",
        "aten.threshold",
        "aten.topk",
    }
)
# How many nodes that only move numbers may lie between a leaf and the sum that it gets.
_STEPS = 4


class LostDigits(Detector):
    """Follows, with the float64 replay as reference, where correct digits disappear."""

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        if replayed is None or any(f.verdict is Verdict.DISAGREES for f in findings):
            return []
        poor = [
            row
            for row in rows
            # Zero has no digits to lose.
            if is_inexact(row.dtype)
            and row.comparison.reason != CANCELS
            and row.digits < _KEPT * _format_digits(row.dtype)
        ]
        # To find the steps costs a pass over all numbers, which only a poor gradient is worth.
        shares = _Shares(tape, replayed) if poor else None
        poor = [row for row in poor if shares is not None and shares.is_poor(row)]
        if shares is None or not poor:
            return []
        worst = shares.worst()
        full = shares.full(poor[0])
        if worst is None or worst.share < max(_LOST, _DIGITS / full):
            return []
        names = list(dict.fromkeys(row.name for row in poor))
        digits = max(0.0, min(row.digits for row in poor))
        text = (
            f"{listed(names)}: {digits:.1f} of {full:.1f} decimal digits are right. Most are lost "
            f"in {worst.title}, where nearly equal numbers are subtracted, or what they lost "
            "before shows. Every step rounds as it may: write the formula in another way "
            "(log_softmax, logsumexp, expm1, log1p, var), or compute it in float64."
        )
        return [Note("digits lost", text, worst.source, worst.call, worst.node)]


@cache
def _format_digits(dtype: str) -> float:
    return -math.log10(float(limits(dtype).eps))


class _Formats:
    """The coarsest format that each number has passed through: it has no more digits than that.

    Under autocast a gradient in float32 is made of bfloat16 numbers, and is as good as those.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._values: dict[int, str] = {}
        for call in tape.calls:
            came = list(map(self.value, _operands(call)))
            for output in call.outputs:
                if output is not None:
                    self._values[output] = _coarsest([tape.values[output].dtype, *came])
        self._gradients = [dict(self._carried(sweep)) for sweep in tape.sweeps]

    def value(self, number: int) -> str:
        """Return that of a forward value."""
        return self._values.get(number) or _coarsest([self._tape.values[number].dtype])

    def gradient(self, sweep: int, node: int, index: int) -> str:
        """Return that of what arrives at an input of a node."""
        return self._gradients[sweep].get((node, index), _FINEST)

    def _carried(self, sweep: Sweep) -> Iterator[tuple[tuple[int, int], str]]:
        """Yield the formats of gradients, from input to input; the last of a input holds."""
        tape = self._tape
        found: dict[tuple[int, int], str] = {}
        for node_run in sweep.node_runs:
            node = tape.nodes[node_run.node]
            calls = [tape.calls[n] for n in (*node.inner, node.call) if n is not None]
            used = {n for call in calls for n in (*_operands(call), *call.outputs) if n is not None}
            met = [self.value(n) for n in used]
            for index, number in enumerate(node_run.incoming):
                input_nr = (node.id, index)
                own = _FINEST if number is None else tape.values[number].dtype
                found[input_nr] = _coarsest([own, found.get(input_nr, _FINEST)])
                met.append(found[input_nr])
                yield input_nr, found[input_nr]
            for edge in node.edges:
                if edge is not None:
                    input_nr = (edge.node, edge.index)
                    found[input_nr] = _coarsest([found.get(input_nr, _FINEST), *met])
                    yield input_nr, found[input_nr]


_FINEST = "float64"


def _coarsest(dtypes: Iterable[str]) -> str:
    return min((d for d in dtypes if is_inexact(d)), key=_format_digits, default=_FINEST)


@dataclass(frozen=True)
class _Loss:
    """What share of its format's digits one step loses, 0 to 1."""

    share: float
    title: str
    source: Source | None
    call: int | None
    node: int | None
    is_sum: bool = False


class _Shares:
    """What share of their format's digits recorded numbers have right."""

    def __init__(self, tape: Tape, replayed: Replay) -> None:
        self._tape = tape
        self._replayed = replayed
        self._known: dict[int, float] = {}
        self._formats = _Formats(tape)
        # Of each pass: the turns of the nodes that send to an input of a node, and by which edge.
        self._senders: list[dict[tuple[int, int], list[tuple[NodeRun, int]]]] = []
        for sweep in tape.sweeps:
            found: dict[tuple[int, int], list[tuple[NodeRun, int]]] = {}
            for node_run in sweep.node_runs:
                edges = tape.nodes[node_run.node].edges
                for input_nr, (edge, g) in enumerate(zip(edges, node_run.outgoing, strict=False)):
                    if edge is not None and g is not None:
                        found.setdefault((edge.node, edge.index), []).append((node_run, input_nr))
            self._senders.append(found)

    def full(self, row: Row) -> float:
        """Return how many digits a gradient could have."""
        return _format_digits(self._formats.gradient(row.sweep, row.node, row.input_nr))

    def is_poor(self, row: Row) -> bool:
        """Return whether a gradient, zero excepted, has few of the digits that it could have."""
        full = self.full(row)
        return full >= _FEWEST and row.digits < _KEPT * full and not self._is_zero(row)

    def worst(self) -> _Loss | None:
        """Return the step that loses most.

        That is a step of the backward pass, or, if its formula starts from forward numbers that had
        few digits, the call that lost those.
        """
        worst = max(self._backward(), key=lambda loss: loss.share, default=None)
        if worst is None or worst.call is None or worst.is_sum:
            return worst
        call = self._tape.calls[worst.call]
        used = {*_operands(call), *(n for n in call.outputs if n is not None)}
        if min(map(self._value, used), default=1.0) > 1 - _LOST:
            return worst
        # None if no call lost any of those that its operands had.
        return max(self._forward(used), key=lambda loss: loss.share, default=None)

    def _forward(self, wanted: set[int]) -> Iterator[_Loss]:
        """Yield what each call loses on which some values depend."""
        for call in reversed(self._tape.calls):
            made = [n for n in call.outputs if n is not None]
            if wanted.isdisjoint(made):
                continue
            operands = _operands(call)
            wanted.update(operands)
            before = min(map(self._value, operands), default=1.0)
            lost = before - min(map(self._value, made))
            if lost > 0:
                title = f"{call.op} (call {call.id})"
                yield _Loss(lost, title, call.source, call.id, call.node)

    def _backward(self) -> Iterator[_Loss]:
        """Yield what each node loses, and what each sum of several gradients does."""
        for number, sweep in enumerate(self._tape.sweeps):
            for node_run in sweep.node_runs:
                yield from self._turn(number, node_run)

    def _turn(self, number: int, node_run: NodeRun) -> Iterator[_Loss]:
        tape = self._tape
        node = tape.nodes[node_run.node]
        source = None if node.call is None else tape.calls[node.call].source
        arrived = self._arrived(number, node_run)
        input_nrs = range(len(node_run.incoming))
        found = [s for k in input_nrs for s in self._senders[number].get((node.id, k), ())]
        if len(found) > len(input_nrs):
            before = min(self._arrived(number, sender) for sender, _ in found)
            leaf = None if node.leaf is None else tape.values[node.leaf].name
            title = f"the sum of the gradients of {leaf or f'{node.name} #{node.id}'}"
            yield _Loss(before - arrived, title, source, node.call, node.id, is_sum=True)
        after = [
            self._gradient(number, value, edge.node, edge.index)
            for value, edge in zip(node_run.outgoing, node.edges, strict=False)
            # Of several that are added, only the sum is known to the replay.
            if value is not None
            and edge is not None
            and len(self._senders[number][edge.node, edge.index]) == 1
        ]
        if after and not self._is_kinked(node):
            lost = arrived - min(after)
            yield _Loss(lost, f"{node.name} #{node.id}", source, node.call, node.id)

    def _is_kinked(self, node: Node) -> bool:
        call = None if node.call is None else self._tape.calls[node.call]
        return call is not None and call.base_op in _KINKED

    def _arrived(self, sweep: int, node_run: NodeRun) -> float:
        return min(
            (
                self._gradient(sweep, value, node_run.node, index)
                for index, value in enumerate(node_run.incoming)
                if value is not None
            ),
            default=1.0,
        )

    def _is_zero(self, row: Row) -> bool:
        """Return whether a gradient is zero in truth: a sum whose terms cancel altogether."""
        input_nr, sweep = (row.node, row.input_nr), row.sweep
        reference = self._replayed.gradient(sweep, *input_nr)
        size = 0.0 if reference is None else largest(reference)
        for _ in range(_STEPS):
            senders = self._senders[sweep].get(input_nr, [])
            terms = sum(self._terms(sweep, node_run, edge) for node_run, edge in senders)
            if size <= _NOISE * terms:
                return True
            if len(senders) != 1:
                break
            input_nr = (senders[0][0].node, 0)
        return size == 0

    def _terms(self, sweep: int, node_run: NodeRun, input_nr: int) -> float:
        """Return how large a gradient that was sent would be if no terms cancelled."""
        found = [
            self._replayed.gradient(sweep, node_run.node, k) for k in range(len(node_run.incoming))
        ]
        incoming = [None if g is None else np.abs(g) for g in found]

        def size(number: int) -> NDArray[Any]:
            array = self._replayed.values.get(number)
            if array is None:
                raise Unjudgeable("it was not replayed")
            return np.abs(array) if array.dtype.kind in "fc" else array

        try:
            sent = gradients(self._tape, self._tape.nodes[node_run.node], incoming, size, None)
        except Unjudgeable:
            return 0.0
        return 0.0 if sent[input_nr] is None else largest(sent[input_nr])

    def _value(self, number: int) -> float:
        if number not in self._known:
            full = _format_digits(self._formats.value(number))
            self._known[number] = self._share(number, self._replayed.values.get(number), full)
        return self._known[number]

    def _gradient(self, sweep: int, value: int, node: int, index: int) -> float:
        full = _format_digits(self._formats.gradient(sweep, node, index))
        return self._share(value, self._replayed.gradient(sweep, node, index), full)

    def _share(self, number: int, reference: NDArray[Any] | None, full: float) -> float:
        """Return the share of the digits it could have that a recorded number has right, 0 to 1."""
        value = self._tape.values[number]
        array = value.array
        if array is None or reference is None or array.size == 0:
            return 1.0
        if not is_inexact(value.dtype) or reference.shape != array.shape:
            return 1.0
        digits = confirmed_digits(array, reference)
        if math.isnan(digits):
            return 1.0
        return min(1.0, max(0.0, digits / full))


def _operands(call: Call) -> list[int]:
    return [n for argument in call.arguments.values() for n in references(argument)]
