"""Digits that torch's own formula loses to cancellation though each of its steps is right.

The float64 replay is the reference. For recorded numbers that were freed, a replay stands whose
steps are off as rounding takes them. In a float64 program, digits that recording and replay both
lose go unseen: those in the tails of sigmoid and tanh are seen (`rules.registry.Rule.precise`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.backward import gradients
from gradwitness.engine.floats import is_inexact, limits
from gradwitness.engine.monte_carlo import rounded_replay
from gradwitness.engine.replay import confirmed_digits
from gradwitness.judging.comparing.compare import CANCELS
from gradwitness.judging.comparing.records import Records, largest
from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.cancelled import is_rounding
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.underflow import underflows
from gradwitness.rules import find
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.tape import Node, NodeRun, Source, Sweep, Tape

# A gradient is noted if it keeps less than this share of its format's digits, and a step is
# named if it alone loses this share, and at least so many digits.
_KEPT, _LOST, _DIGITS = 0.4, 0.3, 1.5
# Any sum may lose the two digits of bfloat16, and no formula would save them: no note.
_FEWEST = 2.5
# Below this share of its terms, even the replay's sum is only rounding: it is really zero.
_NOISE = 2.0**-40
# Operations with kinks: if rounding takes a number across one, a different slope is right, and
# the formula lost no digits.
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

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        if judged.replayed is None or any(f.verdict is Verdict.DISAGREES for f in judged.findings):
            return []
        poor = [
            row
            for row in judged.rows
            # Zero has no digits to lose.
            if is_inexact(row.dtype)
            and row.comparison.reason != CANCELS
            and row.digits < _KEPT * _format_digits(row.dtype)
        ]
        # What a custom function sends may be right without being the derivative of its record.
        doubted = {f.node for f in judged.findings if _is_doubt_of_custom(judged.tape, f)}
        shares = _Shares(judged, doubted) if poor else None
        poor = [
            row
            for row in poor
            if shares is not None and shares.is_poor(row) and not is_rounding(judged, row)
        ]
        if shares is None or not poor:
            return []
        # Finding the step takes a pass over all numbers: only worth it for a poor gradient.
        worst = shares.worst()
        full = shares.full(poor[0])
        if worst is None or worst.share < max(_LOST, _DIGITS / full):
            return []
        if worst.node in {node for _, node, _ in underflows(judged)}:
            # It has its own note.
            return []
        names = list(dict.fromkeys(row.name for row in poor))
        digits = max(0.0, min(row.digits for row in poor))
        text = (
            f"{listed(names)}: {digits:.1f} of {full:.1f} decimal digits are right. Most are lost "
            f"in {worst.title}, which subtracts nearly equal numbers or exposes an earlier loss. "
            "Each step rounds within its bound: rewrite the formula (log_softmax, logsumexp, "
            "logsigmoid, expm1, log1p, var)"
            + ("." if full >= _format_digits(_FINEST) else ", or compute it in float64.")
        )
        return [Note("digits lost", text, worst.source, worst.call, worst.node)]


def _is_doubt_of_custom(tape: Tape, finding: Finding) -> bool:
    custom = finding.node is not None and tape.nodes[finding.node].kind == Kind.CUSTOM
    backward = finding.step is Step.BACKWARD
    return custom and backward and finding.verdict is Verdict.INCONCLUSIVE


@cache
def _format_digits(dtype: str) -> float:
    return -math.log10(float(limits(dtype).eps))


class _Formats:
    """The coarsest format that each number has passed through, which limits its digits.

    Under autocast a float32 gradient is computed from bfloat16 numbers, and is no better.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._values: dict[int, str] = {}
        for call in tape.calls:
            incoming = list(map(self.value, call.operands))
            for output in call.outputs:
                if output is not None:
                    self._values[output] = _coarsest([tape.values[output].dtype, *incoming])
        self._gradients = [dict(self._carried(sweep)) for sweep in tape.sweeps]

    def value(self, number: int) -> str:
        """Return the coarsest format behind a forward value."""
        return self._values.get(number) or _coarsest([self._tape.values[number].dtype])

    def gradient(self, sweep: int, node: int, index: int) -> str:
        """Return the coarsest format behind the gradient at an input of a node."""
        return self._gradients[sweep].get((node, index), _FINEST)

    def _carried(self, sweep: Sweep) -> Iterator[tuple[tuple[int, int], str]]:
        """Yield the formats of gradients, from input to input; the last one of an input counts."""
        tape = self._tape
        formats: dict[tuple[int, int], str] = {}
        for node_run in sweep.node_runs:
            node = tape.nodes[node_run.node]
            calls = [tape.calls[n] for n in (*node.inner, node.call) if n is not None]
            used = {n for call in calls for n in (*call.operands, *call.outputs) if n is not None}
            seen = [self.value(n) for n in used]
            for index, number in enumerate(node_run.incoming):
                input_nr = (node.id, index)
                dtype = _FINEST if number is None else tape.values[number].dtype
                formats[input_nr] = _coarsest([dtype, formats.get(input_nr, _FINEST)])
                seen.append(formats[input_nr])
                yield input_nr, formats[input_nr]
            for edge in node.edges:
                if edge is not None:
                    input_nr = (edge.node, edge.index)
                    formats[input_nr] = _coarsest([formats.get(input_nr, _FINEST), *seen])
                    yield input_nr, formats[input_nr]


_FINEST = "float64"


def _coarsest(dtypes: Iterable[str]) -> str:
    return min((d for d in dtypes if is_inexact(d)), key=_format_digits, default=_FINEST)


@dataclass(frozen=True)
class _Loss:
    """The share of its format's digits that a step loses, 0 to 1."""

    share: float
    title: str
    source: Source | None
    call: int | None
    node: int | None
    is_sum: bool = False


class _Shares:
    """The shares of their format's digits that recorded numbers have right.

    ``doubted`` nodes lose none: the replay is no reference for what they send.
    """

    def __init__(self, judged: Judgement, doubted: Collection[int | None]) -> None:
        self._judged = judged
        self._tape = tape = judged.tape
        self._records = Records(tape)
        self._doubted = doubted
        self._shares_of: dict[int, float] = {}
        self._formats = _Formats(tape)
        # For each pass: the node runs that send to an input of a node, and by which edge.
        self._senders: list[dict[tuple[int, int], list[tuple[NodeRun, int]]]] = []
        for sweep in tape.sweeps:
            senders: dict[tuple[int, int], list[tuple[NodeRun, int]]] = {}
            for node_run in sweep.node_runs:
                edges = tape.nodes[node_run.node].edges
                for input_nr, (edge, g) in enumerate(zip(edges, node_run.outgoing, strict=False)):
                    if edge is not None and g is not None:
                        senders.setdefault((edge.node, edge.index), []).append((node_run, input_nr))
            self._senders.append(senders)

    @cached_property
    def _rounded(self) -> Replay:
        """What stands for recorded numbers that were freed."""
        return rounded_replay(self._tape)

    @property
    def _whole(self) -> Replay:
        whole = self._judged.whole_replay
        assert whole is not None  # noqa: S101 (there are no poor rows without a replay)
        return whole

    def full(self, row: Row) -> float:
        """Return how many digits a gradient could have."""
        return _format_digits(self._formats.gradient(row.sweep, row.node, row.input_nr))

    def is_poor(self, row: Row) -> bool:
        """Return whether a gradient other than zero has few of the digits it could have."""
        full = self.full(row)
        return full >= _FEWEST and row.digits < _KEPT * full and not self._is_zero(row)

    def worst(self) -> _Loss | None:
        """Return the step that loses most.

        It is a step of the backward pass or, if that one starts from forward numbers with few
        digits, the call that lost them.
        """
        worst = max(self._backward(), key=lambda loss: loss.share, default=None)
        if worst is None or worst.call is None or worst.is_sum:
            return worst
        call = self._tape.calls[worst.call]
        used = {*call.operands, *(n for n in call.outputs if n is not None)}
        if min(map(self._value, used), default=1.0) > 1 - _LOST:
            return worst
        # None if no call lost digits that its operands had.
        return max(self._forward(used), key=lambda loss: loss.share, default=None)

    def _forward(self, needed: set[int]) -> Iterator[_Loss]:
        """Yield the losses of the calls that some values depend on."""
        for call in reversed(self._tape.calls):
            outputs = [n for n in call.outputs if n is not None]
            if needed.isdisjoint(outputs):
                continue
            operands = call.operands
            needed.update(operands)
            before = min(map(self._value, operands), default=1.0)
            lost = before - min(map(self._value, outputs))
            if lost > 0:
                title = f"{call.op} (call {call.id})"
                yield _Loss(lost, title, call.source, call.id, call.node)

    def _backward(self) -> Iterator[_Loss]:
        """Yield the losses of nodes, and of sums of several gradients."""
        for number, sweep in enumerate(self._tape.sweeps):
            for node_run in sweep.node_runs:
                yield from self._node_losses(number, node_run)

    def _node_losses(self, number: int, node_run: NodeRun) -> Iterator[_Loss]:
        tape = self._tape
        node = tape.nodes[node_run.node]
        source = None if node.call is None else tape.calls[node.call].source
        arrived = self._arrived(number, node_run)
        input_nrs = range(len(node_run.incoming))
        senders = [s for k in input_nrs for s in self._senders[number].get((node.id, k), ())]
        if len(senders) > len(input_nrs):
            before = min(self._arrived(number, sender) for sender, _ in senders)
            leaf = None if node.leaf is None else tape.values[node.leaf].name
            title = f"the sum of the gradients of {leaf or f'{node.name} #{node.id}'}"
            yield _Loss(before - arrived, title, source, node.call, node.id, is_sum=True)
        after = [
            self._gradient(number, value, edge.node, edge.index)
            for value, edge in zip(node_run.outgoing, node.edges, strict=False)
            # The replay knows only the sum of several that are added.
            if value is not None
            and edge is not None
            and len(self._senders[number][edge.node, edge.index]) == 1
        ]
        if after and node.id not in self._doubted and not self._is_kinked(node):
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
        """Return whether a gradient is really zero: a sum whose terms all cancel."""
        input_nr, sweep = (row.node, row.input_nr), row.sweep
        replayed = self._judged.replayed
        reference = None if replayed is None else replayed.gradient(sweep, *input_nr)
        size = 0.0 if reference is None else largest(reference)
        for _ in range(_STEPS):
            senders = self._senders[sweep].get(input_nr, [])
            terms = sum(self._terms(sweep, node_run, edge) for node_run, edge in senders)
            if size <= _NOISE * terms:
                return True
            if len(senders) != 1 or not self._only_moves(senders[0][0].node):
                break
            input_nr = (senders[0][0].node, 0)
        return size == 0

    def _only_moves(self, node: int) -> bool:
        """Return whether what a node sends depends on no number but the gradient's."""
        call = self._tape.nodes[node].call
        rule = None if call is None else find(self._tape.calls[call].base_op)
        return rule is not None and all(g.reads <= {"g"} for g in rule.gradients.values())

    def _terms(self, sweep: int, node_run: NodeRun, input_nr: int) -> float:
        """Return how large an outgoing gradient would be if no terms cancelled."""
        tape, node = self._tape, node_run.node

        def size(number: int, replayed: Any = None) -> NDArray[Any]:
            if tape.values[number].array is None:
                replayed = self._whole.values.get(number) if replayed is None else replayed
            return self._records.magnitudes(number) if replayed is None else np.abs(replayed)

        def arrived(index: int, number: int | None) -> NDArray[Any] | None:
            freed = number is not None and tape.values[number].array is None
            g = self._whole.gradient(sweep, node, index) if freed else None
            return None if number is None else size(number, g)

        try:
            incoming = list(starmap(arrived, enumerate(node_run.incoming)))
            sent = gradients(tape, tape.nodes[node], incoming, size, None)
        except Unjudgeable:
            return 0.0
        return 0.0 if sent[input_nr] is None else largest(sent[input_nr])

    def _value(self, number: int) -> float:
        if number not in self._shares_of:
            full = _format_digits(self._formats.value(number))
            reference = self._whole.values.get(number)
            self._shares_of[number] = self._share(
                number, reference, full, lambda: self._rounded.values.get(number)
            )
        return self._shares_of[number]

    def _gradient(self, sweep: int, value: int, node: int, index: int) -> float:
        full = _format_digits(self._formats.gradient(sweep, node, index))
        return self._share(
            value,
            self._whole.gradient(sweep, node, index),
            full,
            lambda: self._rounded.gradient(sweep, node, index),
        )

    def _share(self, number: int, reference: Any, full: float, rounded: Callable[[], Any]) -> float:
        """Return the share of right digits of a recorded array, of those it could have, 0 to 1."""
        value = self._tape.values[number]
        array = value.array
        if array is None and not self._tape.complete and not value.freed:
            array = rounded()
        if array is None or reference is None or array.size == 0:
            return 1.0
        if not is_inexact(value.dtype) or reference.shape != array.shape:
            return 1.0
        digits = confirmed_digits(array, reference)
        if math.isnan(digits):
            return 1.0
        return min(1.0, max(0.0, digits / full))
