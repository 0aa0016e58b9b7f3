"""A single custom function as a case of its own: its recorded forward, its leaves its inputs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.case import Alone, Case, Exhibit
from gradwitness.diagnose.factor_names import Number
from gradwitness.diagnose.inlined_functions import inlined
from gradwitness.diagnose.replayed_faults import where
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.engine.replay import replay
from gradwitness.tape import Edge, Kind, Node, NodeRun, Ref, Sweep, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.tape import Argument, Call

# The right gradient by the record and by the float64 replay may differ by this share; beyond it,
# the replay is of something else: of a declared gradient, or a forward that it cannot follow.
_SAME = 1e-2
# An operation of one line that runs so often is a loop's.
_LOOP = 3


@dataclass(frozen=True)
class Sent:
    """What a node sent to one of its inputs, and what it should have sent.

    Attributes
    ----------
    name : str
        The input's, as in the signature of forward.
    input_nr : int
    claim, right : ndarray
    allowance : ndarray
    refuted : bool
    """

    name: str
    input_nr: int
    claim: Any
    right: Any
    allowance: Any
    refuted: bool


def step_case(
    tape: Tape,
    node: Node,
    node_run: NodeRun,
    sent: Sequence[Sent],
    numbers: Mapping[str, float],
) -> Case:
    """Return a custom function's run as a case, with its forward if that can be followed.

    ``numbers`` are those that forward was called with, by name.
    """
    incoming = {k: tape.values[n] for k, n in enumerate(node_run.incoming) if n is not None}
    calls = [tape.calls[number] for number in node.inner]
    alone = Alone(
        _numbers(tape, calls, numbers),
        bool(node_run.changed),
        {s.name for s in sent if node_run.outgoing[s.input_nr] is None},
        node_run.steps,
        {k: g for k, value in incoming.items() if (g := misread(value)) is not None},
    )
    exhibits = {s.name: Exhibit(s.name, s.right, s.claim, s.allowance, s.refuted) for s in sent}
    bare = Case(exhibits, alone=alone)
    try:
        extract = _Extract(tape)
        program = extract.step(node, node_run, {s.input_nr: s.name for s in sent})
        replayed = replay(program)
    except (Unjudgeable, ValueError, LookupError):
        return bare
    for leaf, value in program.leaves():
        exhibit, g = bare.exhibits[value.name], replayed.gradient(0, leaf.id)
        g = np.zeros(exhibit.witness.shape) if g is None else np.asarray(g)
        if g.shape != exhibit.witness.shape or g.dtype.kind == "c":
            return bare
        off = np.abs(g - exhibit.witness)
        if not np.all(off <= _SAME * np.max(np.abs(exhibit.witness), initial=0.0)):
            return bare
        exhibits[value.name] = replace(exhibit, witness=g, allowance=exhibit.allowance + off)
    alone = replace(alone, later=_later(tape, extract.numbers, node_run.after))
    full = replace(bare, exhibits=exhibits, tape=program, replay=replayed, alone=alone)
    case, _ = inlined(full)
    return case


def _numbers(
    tape: Tape, calls: Sequence[Call], arguments: Mapping[str, float]
) -> tuple[Number, ...]:
    """Return the numbers of operations, by what they are there, and those that none of them has.

    The numbers of a loop's steps are none of its limit's derivative.
    """
    numbers: list[Number] = []
    runs = Counter((call.source.line, call.op) for call in calls if call.source.line)
    for call in calls:
        if runs[call.source.line, call.op] >= _LOOP:
            continue
        for name, argument in call.arguments.items():
            number = _number(tape, argument) if name in ("other", "exponent") else None
            if number is not None:
                op = call.base_op.partition(".")[2]
                role, power = _ROLES.get(op, ("number", 0))
                own = next((f"{n}, " for n, v in arguments.items() if v == number), "")
                said = f"{own}the {role} of {op} at {where(call.source, 'an unknown line')}"
                numbers.append(Number(said, number, power))
    taken = {number.value for number in numbers}
    numbers += [Number(name, v) for name, v in arguments.items() if v not in taken]
    return tuple(n for n in numbers if n.value and np.isfinite(n.value))


# What a number is to an operation, and its power in the derivative.
_ROLES = {"mul": ("factor", 1), "div": ("divisor", -1), "pow": ("exponent", 1)}


def _later(tape: Tape, numbers: Mapping[int, int], until: int) -> dict[int, Any]:
    """Return the last numbers in the memory of values, if a call wrote to it in the meantime."""
    written = {n for call in tape.calls[:until] if call.writes for n in call.outputs}
    last = {tape.values[n].layout: tape.values[n] for n in sorted(n for n in written if n)}
    found = {}
    for number, own in numbers.items():
        value = tape.values[number]
        after = None if value.layout is None else last.get(value.layout)
        if after is None or after.id <= number or after.array is None or value.array is None:
            continue
        if after.shape == value.shape and np.any(after.array != value.array):
            found[own] = after.array.astype(np.float64)
    return found


def _number(tape: Tape, argument: Argument) -> float | None:
    """Return the number that an argument is, or a tensor without axes that collects nothing."""
    if isinstance(argument, Ref):
        value = tape.values[argument.value]
        is_one = value.shape == () and value.array is not None and not value.requires_grad
        return float(np.asarray(value.array)[()]) if is_one else None
    return float(argument) if isinstance(argument, int | float) else None


def misread(value: Value) -> Any:
    """Return a tensor as it reads if its strides are ignored; None where that changes nothing.

    Its memory must be as large as the tensor, in another order: a transpose or a permutation.
    """
    layout = value.layout
    if layout is None or value.array is None or value.array.size < 2:
        return None
    order = np.argsort([-s for s in layout.strides], kind="stable")
    lengths = [value.shape[k] for k in order]
    dense = [math.prod(lengths[k + 1 :]) for k in range(len(lengths))]
    pairs = zip(order, dense, lengths, strict=True)
    if any(length > 1 and layout.strides[k] != step for k, step, length in pairs):
        return None
    read = np.transpose(value.array, order).astype(np.float64).reshape(value.shape)
    return read if np.any(read != value.array) else None


@dataclass
class _Extract:
    """Copies a node and what its forward used to a tape of its own, with new numbers."""

    tape: Tape
    values: list[Value] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def step(self, node: Node, node_run: NodeRun, names: Mapping[int, str]) -> Tape:
        """Return the tape: the function is its first node, the accumulators of its inputs next."""
        leaves: dict[int, int] = {}
        edges: list[Edge | None] = []
        nodes: list[Node] = []
        for input_nr, edge in enumerate(node.edges):
            value = edge_value(self.tape, edge, node)
            if value is None or (input_nr not in names and value not in leaves):
                edges.append(None)
                continue
            if value not in leaves:
                leaf = self._value(value)
                named = replace(self.values[leaf], name=names[input_nr], requires_grad=True)
                self.values[leaf] = named
                leaves[value] = 1 + len(nodes)
                nodes.append(Node(1 + len(nodes), "", Kind.ACCUMULATE, (), (leaf,), leaf=leaf))
            edges.append(Edge(leaves[value], 0))
        calls: list[Call] = []
        for number in node.inner:
            call = self.tape.calls[number]
            calls.append(
                replace(
                    call,
                    id=len(calls),
                    arguments={n: self._argument(a) for n, a in call.arguments.items()},
                    outputs=tuple(map(self._value_or_none, call.outputs)),
                    base=self._value_or_none(call.base),
                    node=0,
                )
            )
        outputs = tuple(map(self._value_or_none, node.outputs))
        incoming = tuple(map(self._value_or_none, node_run.incoming))
        own = replace(
            node,
            id=0,
            edges=tuple(edges),
            outputs=outputs,
            inner=tuple(range(len(calls))),
            saved=(),
        )
        runs = [NodeRun(0, incoming, (None,) * len(edges), after=len(calls))]
        runs += [NodeRun(n.id, (None,), (), after=len(calls)) for n in nodes]
        roots = tuple((Edge(0, k), g) for k, g in enumerate(incoming) if g is not None)
        return Tape(self.values, calls, [own, *nodes], [Sweep(roots, tuple(runs))])

    def _value(self, number: int) -> int:
        if number not in self.numbers:
            self.numbers[number] = len(self.values)
            value = self.tape.values[number]
            self.values.append(replace(value, id=len(self.values), name="", requires_grad=False))
        return self.numbers[number]

    def _value_or_none(self, number: int | None) -> int | None:
        return None if number is None else self._value(number)

    def _argument(self, argument: Argument) -> Argument:
        if isinstance(argument, Ref):
            return Ref(self._value(argument.value))
        if isinstance(argument, tuple):
            return tuple(map(self._argument, argument))
        return argument
