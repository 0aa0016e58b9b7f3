"""Gradients of gradients that a custom function's backward cuts off.

With ``create_graph=True`` a pass leaves a graph of its own steps, for a later pass to
differentiate. Where a custom backward detaches what it uses, this graph lacks a part: each step of
the later pass is right, and what comes of it is not the second derivative.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from gradwitness._errors import Unjudgeable
from gradwitness.engine.custom_forwards import edge_value, unseen_in
from gradwitness.engine.floats import is_inexact
from gradwitness.judging.comparing.compare import unjudged
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.judging.graph_queries import source_of
from gradwitness.judging.note import Note
from gradwitness.judging.sight import creates, leaves, made, needed
from gradwitness.rules.declarations import is_allowed
from gradwitness.tape import Kind, Source
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.tape import Call, Node, NodeRun, Sweep, Tape

KIND = "second derivative cut off"
_TEXT = (
    "{title}: part of the second derivative is missing. Its backward makes constants here of "
    "numbers that depend on what it is differentiated by. Save inputs and results only, use them "
    "as ctx.saved_tensors gives them, and compute with grad mode and torch; or declare what is "
    "meant: gradwitness.allow_detach."
)
# Their derivative is 0 wherever there is one.
_STEPS = frozenset(f"aten.{name}" for name in ("sign", "sgn", "round", "floor", "ceil", "trunc"))
# Subtracted and added again: what is made of them does not depend on it.
_SHIFTS = frozenset({"aten.max", "aten.amax"})


class Cut(NamedTuple):
    """An outgoing gradient whose graph lacks a part.

    Attributes
    ----------
    sweep : int
    node, input_nr : int
        What sent it.
    from_ : frozenset of int
        The values that it is made of out of autograd's sight.
    source : Source
    """

    sweep: int
    node: int
    input_nr: int
    from_: frozenset[int]
    source: Source


@dataclass
class _State:
    """The values that a number of a backward is made of, by where it leaves autograd's sight."""

    seen: set[int] = field(default_factory=set)
    # None before a backward has taken what its forward left.
    left: dict[int, Source | None] = field(default_factory=dict)


def without_cut(
    tape: Tape, rows: Sequence[Row]
) -> tuple[list[Row], tuple[Finding, ...], tuple[Note, ...]]:
    """Return rows with those in doubt whose gradient lacks a part; what cuts it off, and notes."""
    result, doubts = list(rows), []
    notes: dict[tuple[str, str], Note] = {}
    for cut in _cuts(tape):
        later = _later(tape, cut)
        if not later:
            continue
        node = tape.nodes[cut.node]
        reason = f"{node.name}, differentiated again, lacks a part: it detaches what it uses"
        title = f"{node.name} #{node.id}, gradient of input {cut.input_nr}, differentiated again"
        doubts.append(
            Finding(Step.ACCUMULATE, title, unjudged(reason), sweep=later[0], source=cut.source)
        )
        note = Note(KIND, _TEXT.format(title=title), cut.source, node=node.id, sweep=cut.sweep)
        notes.setdefault((node.name, cut.source.line), note)
        behind = needed(tape, set(cut.from_))
        for index, row in enumerate(result):
            leaf = tape.nodes[row.node].outputs[row.input_nr]
            if row.sweep in later and leaf in behind and row.verdict is Verdict.AGREES:
                result[index] = replace(
                    row, verdict=Verdict.INCONCLUSIVE, reason=reason, inherited=True, apart=None
                )
    return result, tuple(doubts), tuple(notes.values())


def _later(tape: Tape, cut: Cut) -> list[int]:
    """Return the later passes that a gradient is differentiated by, not detached before."""
    run = next(run for run in tape.sweeps[cut.sweep].node_runs if run.node == cut.node)
    sent, later = run.outgoing[cut.input_nr], []
    for number, sweep in enumerate(tape.sweeps[cut.sweep + 1 :], cut.sweep + 1):
        roots = {tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.roots}
        if sent in needed(tape, roots, seen=True):
            later.append(number)
    return later


def _cuts(tape: Tape) -> Iterator[Cut]:
    passes = {n: sweep for n, sweep in enumerate(tape.sweeps[:-1]) if _makes_graph(tape, sweep)}
    if not passes:
        return
    uses = _Uses(tape)
    for number, sweep in passes.items():
        begin = sweep.after
        for run in sweep.node_runs:
            node = tape.nodes[run.node]
            if node.kind == Kind.CUSTOM and not unseen_in(tape, node, run):
                yield from _cuts_of(uses, number, node, run, tape.calls[begin : run.after])
            begin = run.after


def _makes_graph(tape: Tape, sweep: Sweep) -> bool:
    """Whether the gradients that torch's own nodes sent are results of recorded calls."""
    built_in = {r.node: r for r in sweep.node_runs if tape.nodes[r.node].kind == Kind.OPERATION}
    last = max((run.after for run in sweep.node_runs), default=sweep.after)
    return any(
        call.during in built_in and not made(call).isdisjoint(built_in[call.during].outgoing)
        for call in tape.calls[sweep.after : last]
    )


class _Uses:
    """Where the record first meets its values: looked up once for all runs of custom functions."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.of_nodes = {n for node in tape.nodes for n in node.outputs}
        self._first: dict[int, int] = {}
        self._detached: dict[int, list[Call]] = {}
        for call in tape.calls:
            for number in (*call.operands, *made(call)):
                self._first.setdefault(number, call.id)
            if call.base_op == "aten.detach":
                for number in call.operands:
                    self._detached.setdefault(number, []).append(call)

    def is_met(self, number: int, before: int) -> bool:
        """Whether a call before a given one has taken or made a value."""
        return number in self._first and self._first[number] < before

    def with_detached(self, numbers: set[int], before: int) -> set[int]:
        """Return values, with what calls before a given one detached of them."""
        found, waiting = set(numbers), list(numbers)
        while waiting:
            for call in self._detached.get(waiting.pop(), ()):
                if call.id < before:
                    waiting += made(call) - found
                    found |= made(call)
        return found


def _cuts_of(
    uses: _Uses, sweep: int, node: Node, run: NodeRun, calls: Sequence[Call]
) -> Iterator[Cut]:
    tape = uses.tape
    try:
        inputs = {
            value for edge in node.edges if (value := edge_value(tape, edge, node)) is not None
        }
    except Unjudgeable:
        return
    begin = calls[0].id if calls else run.after
    flow = _Flow(uses, inputs, {n for n in run.incoming if n is not None}, begin)
    flow.forward([tape.calls[n] for n in node.inner], node.outputs)
    flow.backward(calls)
    for input_nr, sent in enumerate(run.outgoing):
        if sent is None or not is_inexact(tape.values[sent].dtype):
            continue
        left = {n: s or Source() for n, s in flow.states.get(sent, _State()).left.items()}
        if not (flow.knows(sent) or sent in uses.of_nodes or _is_zero(tape, sent)):
            # Made without grad mode, or by NumPy.
            left = dict.fromkeys(flow.sources, source_of(tape, node) or Source())
        left = {n: source for n, source in left.items() if not is_allowed(source.line)}
        if left:
            yield Cut(sweep, node.id, input_nr, frozenset(left), next(iter(left.values())))


class _Flow:
    """The numbers of one run of a custom backward, from what it differentiates by.

    Attributes
    ----------
    sources : set of int
        The function's inputs, and the gradients that arrived.
    states : dict
    """

    def __init__(self, uses: _Uses, inputs: set[int], arrived: set[int], begin: int) -> None:
        self._uses = uses
        self._tape = uses.tape
        self._begin = begin
        self._inputs = inputs
        self.sources = inputs | arrived
        self.states = {n: _State({n}) for n in self.sources}
        self._made = set(self.sources)
        # Detached, and not yet taken by a call: handed to NumPy, say.
        self._loose: dict[int, dict[int, Source | None]] = {}
        self._makers: dict[int, Call] = {}

    def forward(self, calls: Sequence[Call], results: Sequence[int | None]) -> None:
        """Follow a forward: what it computed is out of sight, but for its results."""
        for call in calls:
            if not _is_constant(call):
                taken = [self.states[n] for n in call.operands if n in self.states]
                made_of = {n for state in taken for n in (*state.seen, *state.left)}
                self._put(call, _State(set(), dict.fromkeys(made_of)))
        # Torch itself detaches a result to save it.
        kept = self._uses.with_detached({n for n in results if n is not None}, self._begin)
        self.states |= {n: _State(set(self._inputs)) for n in kept}

    def backward(self, calls: Sequence[Call]) -> None:
        """Follow a backward."""
        for call in calls:
            constants = set(self._constants(call))
            state = _State()
            for number in call.operands:
                self._loose.pop(number, None)
                known = self.states.get(number, _State())
                # All out of sight, but sent a gradient: hooks have unpacked what torch had saved.
                if known.left and not known.seen and number not in constants:
                    known = _State({*known.left})
                state.seen |= known.seen
                state.left |= {n: s or call.source for n, s in known.left.items()}
            # A fresh single number may be one of Python's.
            fresh = constants - self.states.keys()
            if any(self._tape.values[n].shape and not self.knows(n) for n in fresh):
                lifted = call.base_op == "aten.lift_fresh"
                state.left |= self._handed_out() if lifted else self._all(call)
            self._made |= made(call)
            self._makers |= dict.fromkeys(made(call), call)
            if _is_constant(call):
                continue
            if leaves(call):
                shifts = any(self._maker(n) in _SHIFTS for n in call.operands)
                left = state.left | (dict.fromkeys(state.seen, call.source) if not shifts else {})
                state = _State(set(), left)
                self._loose |= dict.fromkeys(made(call), left)
            self._put(call, state)

    def knows(self, number: int) -> bool:
        """Whether a recorded call has taken or made a value so far."""
        return number in self._made or self._uses.is_met(number, self._begin)

    def _put(self, call: Call, state: _State) -> None:
        for number in made(call) if state.seen or state.left else ():
            if is_inexact(self._tape.values[number].dtype):
                self.states[number] = state

    def _constants(self, call: Call) -> Iterator[int]:
        """Yield the operands of a call that its node sends no gradient to."""
        values = [self._tape.values[n] for n in call.operands]
        values = [value for value in values if is_inexact(value.dtype)]
        edges = () if call.node is None else self._tape.nodes[call.node].edges
        if edges and len(edges) != len(values):
            return
        for position, value in enumerate(values):
            is_leaf = value.name or value.requires_grad
            if not is_leaf and (not edges or edges[position] is None):
                yield value.id

    def _handed_out(self) -> dict[int, Source | None]:
        return {n: source for left in self._loose.values() for n, source in left.items()}

    def _all(self, call: Call) -> dict[int, Source | None]:
        return dict.fromkeys(self.sources, call.source)

    def _maker(self, number: int) -> str:
        return self._makers[number].base_op if number in self._makers else ""


def _is_constant(call: Call) -> bool:
    """Whether what a call makes has the derivative 0, wherever it has one."""
    name = call.base_op
    return name in _STEPS or (creates(call) and name != "aten.lift_fresh")


def _is_zero(tape: Tape, number: int) -> bool:
    array = tape.values[number].array
    return array is not None and not array.any()
