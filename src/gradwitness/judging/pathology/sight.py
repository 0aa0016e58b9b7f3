"""Numbers that leave autograd's sight and come back into a loss: part of a gradient is missing.

A target that is detached from other parameters is a constant, as it is meant. Noted is where such
numbers meet, in one operation, numbers of the same parameter that autograd still sees: the rule of
products, quotients or differences then lacks a term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import edge_value, with_detached
from gradwitness.engine.floats import is_inexact, round_to, unit_roundoff
from gradwitness.judging.custom.between_inputs import BETWEEN
from gradwitness.judging.graph_queries import behind, leaves_behind
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.shifts import rescales, shifts, sum_terms
from gradwitness.judging.sight import (
    SIGNS,
    creates,
    inner_calls,
    is_sized,
    leaves,
    made,
    needed,
    takers,
    way,
)
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import Edge, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, Node, Sweep, Tape

KIND = "numbers leave autograd's sight"
_WAYS = {"detach()": "detach() or .data"}
# Losses of a prediction and a target.
LOSSES = frozenset(
    f"aten.{n}"
    for n in (
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "huber_loss",
        "mse_loss",
        "smooth_l1_loss",
    )
)
# A singular value is stationary in its vectors: products with these need no gradient of them.
_PRODUCTS = frozenset(f"aten.{name}" for name in ("mv", "mm", "dot", "vdot", "bmm", "addmv"))
_OF_TWO = _PRODUCTS | {"aten.mul"}
# A Python number may be this power of a value, times a number with so many digits.
_POWERS, _SHORT = np.array([1, -1, 2, -2, 0.5, -0.5]), 3
# Within some roundings of float64.
_CLOSE = 2.0**-50


class _Exit(NamedTuple):
    """How numbers left, at which call, and which call had made them."""

    call: int
    way: str
    since: int


@dataclass
class _State:
    """The leaves that a value is made of: those that autograd sees, and those that left."""

    seen: set[int] = field(default_factory=set)
    left: dict[int, _Exit] = field(default_factory=dict)


class Sight(Detector):
    """Follows the numbers of each leaf through the forward pass, out of autograd's sight and back.

    Python numbers leave no call behind: they are recognised by their digits where they come back.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        self._makers: dict[int, int] = {}
        # Single numbers that calls made, by their digits.
        self._digits: dict[float, int] = {}
        self._directions: set[int] = set()
        # By call: the values whose numbers it takes as Python numbers.
        self._returned: dict[int, set[int]] = {}

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        for number in self._constants(call):
            origin = self._origin(number) if call.grad else self._digits.get(number)
            if origin is not None:
                self._returned.setdefault(call.id, set()).add(origin)
        for output in made(call):
            self._makers[output] = call.id
            # (Few are single numbers.)
            value = None if len(self.tape.values[output].shape) > 1 else self._single(output)
            if value is not None:
                self._digits.setdefault(value, output)
            if not call.grad and self._is_direction(output):
                self._directions.add(output)

    def _origin(self, number: float) -> int | None:
        """Return the single value that a Python number is, or is made of: k v^p, with a short k.

        A number that is short itself is a constant of the program's own.
        """
        if number in self._digits or float(f"{number:.6g}") == number:
            return self._digits.get(number)
        singles = np.array([v for v in self._digits if v > 0 and float(f"{v:.6g}") != v])
        with np.errstate(all="ignore"):
            shares = number / singles[:, None] ** _POWERS
            digits = 10 ** (_SHORT - np.ceil(np.log10(np.abs(shares))))
            fits = np.abs(np.rint(shares * digits) / digits - shares) <= _CLOSE * np.abs(shares)
        if not fits.any():
            return None
        return self._digits[float(singles[np.argmax(fits.any(axis=1))])]

    def _is_direction(self, number: int) -> bool:
        """Whether a value is a vector of length 1."""
        value = self.tape.values[number]
        if max(value.shape, default=1) != math.prod(value.shape) or not is_inexact(value.dtype):
            return False
        try:
            length = float(np.linalg.norm(np.ravel(self.records(number))))
        except Unjudgeable:
            return False
        return abs(length - 1) <= 4 * unit_roundoff(value.dtype) * max(value.shape, default=1)

    def _constants(self, call: Call) -> list[float]:
        found = [a for a in call.arguments.values() if isinstance(a, float)]
        for operand in call.operands:
            if operand not in self._makers and (value := self._single(operand)) is not None:
                found += () if self.tape.values[operand].name else (value,)
        return found

    def _single(self, number: int) -> float | None:
        """Return a value's number if it is one, with digits that another hardly has by chance."""
        value = self.tape.values[number]
        if (value.shape and value.shape != (1,)) or not is_inexact(value.dtype):
            return None
        try:
            array: NDArray[Any] = self.records(number).reshape(())
        except Unjudgeable:
            return None
        by_chance = array.dtype.kind == "c" or round_to(array, "bfloat16") == array
        return None if by_chance else float(array)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        found: dict[str, tuple[_Exit, Call, dict[int, None]]] = {}
        functions = {f.node for f in judged.findings if f.grade == BETWEEN and f.node is not None}
        followed = {n for k in functions for n in _between(tape, tape.nodes[k])}
        for number, sweep in enumerate(tape.sweeps):
            before = [earlier.after for earlier in tape.sweeps[:number]]
            flow = _Flow(tape, sweep, self._makers, self._returned, self._directions, followed)
            gradients = {} if sweep.captured else _with_graphs(tape, tape.sweeps[:number])
            flow.follow(gradients)
            for leaf, left, call in flow.meetings():
                truncated = any(left.since < after <= call.id for after in before)
                if truncated:
                    # Numbers of an earlier step: truncated in time, as it is meant.
                    continue
                line = tape.calls[left.call].source.line
                leaves = gradients.get(leaf, {leaf})
                found.setdefault(line, (left, call, {}))[2].update(dict.fromkeys(leaves))
        return [self._note(tape, *entry) for entry in found.values()]

    @staticmethod
    def _note(tape: Tape, left: _Exit, call: Call, leaf_numbers: dict[int, None]) -> Note:
        names = list(
            dict.fromkeys(tape.values[n].name or f"value {n}" for n in sorted(leaf_numbers))
        )
        source = tape.calls[left.call].source
        text = (
            f"{listed(names)}: part of the gradient is missing. {_WAYS.get(left.way, left.way)} "
            "makes constants of numbers that depend on them, and "
            f"{call.op} (call {call.id}) joins these with numbers that autograd still sees. "
            "Use the tensor itself, unless the gradient is meant to stop."
        )
        return Note(KIND, text, source, left.call)


class _Flow:
    """The numbers of the leaves of one backward pass, on their way to its roots."""

    def __init__(
        self,
        tape: Tape,
        sweep: Sweep,
        makers: dict[int, int],
        returned: dict[int, set[int]],
        directions: set[int],
        followed: set[int],
    ) -> None:
        self._tape = tape
        self._makers = makers
        self._returned = returned
        self._directions = directions
        self._after = sweep.after
        self._takers = takers(tape)
        # A hook on a gradient may add what is missing, as implicit layers do; it has its own note.
        hooked = {edge.node for edge, _ in sweep.hooks if tape.nodes[edge.node].leaf is None}
        self._ran = {run.node for run in sweep.node_runs} - behind(tape, hooked)
        self._inside = followed.union(inner_calls(tape))
        outputs = {tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.roots}
        self._wanted = needed(tape, outputs.union(*returned.values()))
        taken = [tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.captured]
        numbers = {*taken, *(tape.nodes[update.node].leaf for update in sweep.leaves)}
        self._states = {n: _State({n}) for n in numbers if n is not None}
        # Leaves whose gradients the program goes on with, by hand.
        self._asked = _used_gradients(tape) & self._states.keys()

    def follow(self, numbers: Iterable[int]) -> None:
        """Follow these numbers, too, as those of leaves."""
        self._states |= {n: _State({n}) for n in numbers}

    def meetings(self) -> Iterator[tuple[int, _Exit, Call]]:
        """Yield each leaf whose numbers left, how, and the call where both kinds meet."""
        for call in self._tape.calls[: self._after]:
            name = call.base_op
            numbers = {
                n for n in made(call) & self._wanted if is_inexact(self._tape.values[n].dtype)
            }
            creates = name in SOURCES or name.endswith("_like") or ".new_" in name
            if call.during is not None or not numbers:
                continue
            states = [] if creates else [s for n in {*call.operands} if (s := self._states.get(n))]
            states += self._through_python(call)
            if not states:
                continue
            if call.node in self._ran and name not in SIGNS:
                yield from self._meetings(call, states)
            # A parameter, or what an update with gradients off has written, begins anew.
            updates = bool(call.writes) and not (call.grad or self._is_new(call))
            for number in numbers - self._asked:
                if updates or self._tape.values[number].name:
                    continue
                result, leaf = self._result(call, states), self._states.get(number)
                # A leaf that is made of others, as the result of a solver is by requires_grad_().
                self._states[number] = result if leaf is None else _State(leaf.seen, result.left)

    def _result(self, call: Call, states: list[_State]) -> _State:
        seen = {leaf for state in states for leaf in state.seen}
        left = {leaf: exit_ for state in reversed(states) for leaf, exit_ in state.left.items()}
        if call.id in self._inside or not leaves(call):
            return _State(seen, left)
        since = max((self._makers.get(n, call.id) for n in call.operands), default=call.id)
        return _State(set(), left | dict.fromkeys(seen, _Exit(call.id, way(call), since)))

    def _is_new(self, call: Call) -> bool:
        """Whether a call writes to memory that was made for it, not to what was there before."""
        written = call.arguments[call.writes[0]]
        maker = self._maker(written.value) if isinstance(written, Ref) else None
        while maker is not None and maker.is_view:
            maker = self._maker(next(iter(maker.operands), None))
        return maker is not None and creates(maker)

    def _through_python(self, call: Call) -> Iterator[_State]:
        for number in self._returned.get(call.id, ()):
            state = self._states.get(number)
            if state is not None:
                left = _Exit(call.id, "item(), tolist() or float()", self._makers[number])
                yield _State(left=dict.fromkeys(state.seen, left))

    def _meetings(self, call: Call, states: list[_State]) -> Iterator[tuple[int, _Exit, Call]]:
        """Yield what meets at a call, or in the sums that it takes; each leaf only once.

        A sum is not judged before another operation takes it, when all of its terms are known.
        """
        for number in {*call.operands}:
            state = self._states.get(number, _State())
            for leaf in state.seen & state.left.keys():
                left = state.left.pop(leaf)
                maker = self._maker(number)
                if maker is not None and not (self._is_excused(number) or self._is_error(maker)):
                    yield leaf, left, maker
        constants = {n for n in call.operands if n in self._states and not self._states[n].seen}
        excused = call.base_op in _PRODUCTS and bool(constants) and constants <= self._directions
        # So is what a running softmax multiplies by when its largest number changes.
        running = [n for n in constants if rescales(self._maker, n, self._states)]
        excused |= call.base_op in ("aten.mul", "aten.div") and constants == {*running} != set()
        # A target is meant to be a constant.
        excused |= call.base_op in LOSSES and constants == {*call.operands[1:2]}
        for state in states:
            for leaf, left in list(state.left.items()):
                if any(leaf in other.seen for other in states):
                    del state.left[leaf]
                    excused = excused or self._is_of_other_data(call, constants)
                    if not excused:
                        yield leaf, left, call

    def _is_of_other_data(self, call: Call, constants: set[int]) -> bool:
        """Whether a product's constants are made of data that its other factors are not made of.

        So are the other view of a contrastive loss, and the advantage beside a policy's logarithm.
        """
        shapes = [self._tape.values[n].shape for n in constants]
        if not (constants and all(shapes) and call.base_op in _OF_TWO):
            return False
        live, fixed = (self._data(numbers) for numbers in ({*call.operands} - constants, constants))
        return bool(live and fixed - live)

    def _data(self, numbers: set[int]) -> set[int]:
        """Return the data that some values are made of, noise included."""
        return {
            n
            for n in needed(self._tape, set(numbers))
            if self._tape.values[n].shape
            and not self._tape.values[n].requires_grad
            and ((call := self._maker(n)) is None or creates(call))
        }

    def _is_excused(self, number: int) -> bool:
        """Whether a sum is right without the gradients that it lacks.

        A sum of losses, of which one is a constant for some; a straight-through estimator,
        ``x + (q - x).detach()``; numbers less their largest, a running softmax.
        """
        terms = sum_terms(self._maker, number)
        cancels = any(n and terms[t, not d] == -n for (t, d), n in list(terms.items()))
        constants = [t for t, detached in terms if detached or self._has_left(t)]
        largest = all(shifts(self._maker, t, self._states) for t in constants)
        return not self._tape.values[number].shape or cancels or largest

    def _is_error(self, call: Call) -> bool:
        """Whether a loss squares, or takes the size of, what a call leaves of a constant target."""
        if call.base_op != "aten.sub" or not any(map(self._has_left, call.operands)):
            return False
        return is_sized(self._tape, call, self._takers)

    def _has_left(self, number: int | None) -> bool:
        state = self._states.get(-1 if number is None else number, _State())
        return bool(state.left) and not state.seen

    def _maker(self, number: int | None) -> Call | None:
        call = self._makers.get(-1 if number is None else number)
        return None if call is None else self._tape.calls[call]


def _between(tape: Tape, function: Node) -> tuple[int, ...]:
    """Return the calls that a function stands for, unless other numbers of leaves meet there."""
    inner = with_detached(tape, function).inner
    calls = [tape.calls[number] for number in inner]
    made_there = {n for call in calls for n in made(call)}
    inputs = {edge_value(tape, edge, function) for edge in function.edges}
    others = {n for call in calls for n in call.operands} - made_there - inputs
    leaves_behind = any(tape.values[n].requires_grad for n in needed(tape, {*others}))
    return () if leaves_behind else inner


def _with_graphs(tape: Tape, sweeps: Sequence[Sweep]) -> dict[int, set[int]]:
    """Return the gradients that passes returned with a graph, and the parameters behind each.

    A product of one and its own numbers is a second derivative along the gradient, as it is meant,
    where `autograd.grad` differentiates it; in the loss of a backward pass it lacks a term.
    """
    returned = {n for sweep in sweeps for _, n in sweep.captured}
    found: dict[int, set[int]] = {}
    for node in tape.nodes:
        for number in node.outputs:
            if number is not None and number in returned:
                behind_it = leaves_behind(tape, [node.id])
                found[number] = behind_it.intersection(tape.parameters) or behind_it
    return found


def _used_gradients(tape: Tape) -> set[int | None]:
    """Return the values whose gradients a call or another pass takes."""
    used = {n for call in tape.calls for n in call.operands}
    used.update(seed for sweep in tape.sweeps for _, seed in sweep.roots if seed is not None)
    found: set[int | None] = set()
    for sweep in tape.sweeps:
        runs = [run for run in sweep.node_runs if tape.nodes[run.node].leaf is not None]
        arrived = [(Edge(run.node, 0), run.incoming[0]) for run in runs]
        added = [(Edge(update.node, 0), update.after) for update in sweep.leaves]
        returned = [*sweep.captured, *arrived, *added]
        found |= {tape.nodes[e.node].outputs[e.index] for e, n in returned if n in used}
    return found
