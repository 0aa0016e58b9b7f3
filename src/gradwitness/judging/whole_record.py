"""Gradients that the record supports as a whole, though steps of the program's own do not.

Two steps may be right together that are wrong alone: a function doubles the gradient of one
argument of a kernel, and the other argument is detached; a hook solves for the gradient of an
equilibrium that was found with gradients off. So the record is judged once more as if it were the
forward of one custom function, of which detached numbers are a part like any others.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.backward import gradients
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.custom_forwards import storages
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.replay import confirmed_digits
from gradwitness.judging import sight
from gradwitness.judging.compare import SHARE
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.normwise import normwise
from gradwitness.judging.note import Note
from gradwitness.judging.recorded_forward import iteration
from gradwitness.judging.records import largest
from gradwitness.tape import Edge, Kind, Node
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.judging.finding import Row
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, Sweep, Tape

WHOLE = "as the derivative of the whole record has it, what is detached included"
_RIGHT = "not the derivative of the recorded forward; the gradients it leads to are right, {why}"
# A pass is differentiated for each that is in question: beyond so many, the rest stays so.
_MOST = 8
# And only a record of so many numbers, with their bounds.
_LARGEST = 2**26


def is_the_programs(tape: Tape, finding: Finding) -> bool:
    """Whether a step is what the program itself wrote: the backward of a function, or a hook."""
    if finding.step is Step.BACKWARD and finding.node is not None:
        return tape.nodes[finding.node].kind == Kind.CUSTOM
    hooked = [] if finding.sweep is None else tape.sweeps[finding.sweep].hooks
    at = (finding.node, finding.tensor_nr)
    return finding.step is Step.FAN_IN and at in [(e.node, e.index) for e, _ in hooked]


def acquitted(
    findings: Iterable[Finding], rows: Iterable[Row], wrong: Sequence[Finding], why: str
) -> tuple[list[Finding], list[Row], Note]:
    """Return findings and rows in which some steps agree, and all gradients of their passes.

    Parameters
    ----------
    findings, rows : iterable
    wrong : sequence of Finding
    why : str
        What supports the gradients.
    """
    agreed: dict[str, Any] = {"verdict": Verdict.AGREES, "refuted": 0, "probable_ratio": 0.0}
    ids, passes = {id(f) for f in wrong}, {f.sweep for f in wrong}
    reason = _RIGHT.format(why=why)
    found = [
        replace(f, comparison=replace(f.comparison, reason=reason, **agreed), advice="")
        if id(f) in ids
        else f
        for f in findings
    ]
    of_passes = [
        replace(row, verdict=Verdict.AGREES, reason="", inherited=False, apart=None)
        if row.sweep in passes and row.verdict is not Verdict.AGREES
        else row
        for row in rows
    ]
    first = wrong[0]
    note = Note(
        "right as a whole",
        f"{listed([f.title for f in wrong])}: not the derivative of the recorded forward. But each "
        f"gradient that it leads to is right, {why}.",
        source=first.source,
        node=first.node,
        sweep=first.sweep,
    )
    return found, of_passes, note


class Decided(NamedTuple):
    """What the derivative of the whole record has decided.

    Attributes
    ----------
    findings, rows : list
    notes : list of Note
    supported : set of (int, int or None)
        The gradients that it supports, by pass and leaf.
    """

    findings: list[Finding]
    rows: list[Row]
    notes: list[Note]
    supported: set[tuple[int, int | None]]


def by_whole_record(
    tape: Tape, findings: Sequence[Finding], rows: Sequence[Row], records: Records
) -> Decided:
    """Let the derivative of the whole record decide about steps of the program's own.

    It acquits those of a pass if it supports every gradient that they put in question, and excludes
    what autograd sees of the record. It refutes nothing: a solver's steps are not its solution.
    """
    found, result, notes = list(findings), list(rows), []
    supported: set[tuple[int, int | None]] = set()
    passes = dict.fromkeys(row.sweep for row in rows if row.verdict is not Verdict.AGREES)
    forward = any(f.step is Step.FORWARD and f.verdict is not Verdict.AGREES for f in findings)
    for number in [] if forward else list(passes)[:_MOST]:
        steps = [f for f in found if f.sweep == number and f.verdict is not Verdict.AGREES]
        if not steps or not all(is_the_programs(tape, f) for f in steps):
            continue
        of_pass = [row for row in result if row.sweep == number]
        try:
            whole = _Whole(tape, records, number, of_pass)
            told = {
                id(row): whole.judged(row) for row in of_pass if row.verdict is not Verdict.AGREES
            }
        except Unjudgeable:
            continue
        if all(row.verdict is Verdict.AGREES for row in told.values()):
            supported |= {(number, tape.nodes[r.node].outputs[r.input_nr]) for r in told.values()}
            result = [told.get(id(row), row) for row in result]
            found, result, note = acquitted(found, result, steps, WHOLE)
            notes.append(note)
    return Decided(found, result, notes, supported)


class _Whole:
    """The record up to a pass, as the forward of one function from leaves to roots.

    Raises
    ------
    Unjudgeable
        If nothing has left autograd's sight, or not all that it came from is on the record.
    """

    def __init__(self, tape: Tape, records: Records, number: int, rows: Sequence[Row]) -> None:
        self._records = records
        self._at = [(row.node, row.input_nr) for row in rows]
        sweep = tape.sweeps[number]
        leaves = {tape.nodes[node].outputs[index] for node, index in self._at}
        roots = [(tape.nodes[e.node].outputs[e.index], seed) for e, seed in sweep.roots]
        calls = _before(tape, sweep, {root for root, _ in roots}, leaves)
        left = [call for call in calls if call.node is None and sight.leaves(call)]
        if not left:
            raise Unjudgeable("nothing has left autograd's sight")
        numbers = {n for call in calls for n in (*call.operands, *call.outputs) if n is not None}
        if sum(math.prod(tape.values[n].shape) for n in numbers) > _LARGEST:
            raise Unjudgeable("too large to be differentiated once more")
        self._node = Node(
            id=0,
            name="the whole record",
            kind=Kind.CUSTOM,
            edges=tuple(Edge(*at) for at in self._at),
            outputs=tuple(root for root, _ in roots),
            inner=tuple(call.id for call in calls),
        )
        dtype = records.coarsest(numbers)
        arithmetic = replace(Arithmetic.stepwise(dtype), scatters_wide=True)
        seeds = [
            np.ones(() if root is None else tape.values[root].shape)
            if seed is None
            else records(seed)
            for root, seed in roots
        ]
        incoming = [Bounded(seed, arithmetic) for seed in seeds]
        self._expected = gradients(tape, self._node, incoming, records, arithmetic)
        out_of_sight = {call.id for call in left}
        seen = tuple(call.id for call in calls if call.id not in out_of_sight)
        self._seen: Sequence[Any] = [None] * len(self._at)
        # All of a root may have come from there.
        with suppress(Unjudgeable):
            self._seen = gradients(tape, replace(self._node, inner=seen), seeds, records, None)
        unseen = replace(self._node, inner=tuple(call.id for call in left))
        self._solver = iteration(tape, unseen, records)

    def judged(self, row: Row) -> Row:
        """Judge a gradient. It agrees only if what autograd sees of the record is excluded."""
        k = self._at.index((row.node, row.input_nr))
        expected, seen = self._expected[k], self._seen[k]
        if row.value is None or expected is None:
            raise Unjudgeable("no gradient")
        unsettled = 0.0 if self._solver is None else self._solver.unsettled
        allowed = unsettled * largest(expected.value)
        c = self._records.against(row.value, normwise(self._node, expected), allowed)
        apart = largest(expected.value - (0.0 if seen is None else seen))
        if c.verdict is Verdict.AGREES and (c.detects_relative > SHARE or apart <= c.detects):
            c = replace(c, verdict=Verdict.INCONCLUSIVE)
        return replace(
            row,
            verdict=c.verdict,
            reason="",
            inherited=False,
            comparison=c,
            digits=confirmed_digits(self._records(row.value), expected.value),
            apart=None,
        )


def _before(
    tape: Tape, sweep: Sweep, roots: set[int | None], leaves: set[int | None]
) -> list[Call]:
    """Return the calls from which a pass's roots come, up to its leaves.

    Raises
    ------
    Unjudgeable
        If they depend on an earlier pass's gradients, whose steps were not recorded as calls.
    """
    wanted, calls = set(roots), []
    memory = storages(tape, roots)
    for call in reversed(tape.calls[: sweep.after]):
        made = sight.made(call)
        touches = not wanted.isdisjoint(made) or not memory.isdisjoint(storages(tape, made))
        if touches and leaves.isdisjoint(made):
            wanted.update(call.operands)
            memory |= storages(tape, call.operands)
            calls.append(call)
    known = {n for call in calls for n in sight.made(call)} | leaves
    for earlier in tape.sweeps[: tape.sweeps.index(sweep)]:
        runs = (n for run in earlier.node_runs for n in (*run.incoming, *run.outgoing))
        if not (wanted - known).isdisjoint({*runs, *(leaf.after for leaf in earlier.leaves)}):
            raise Unjudgeable("it depends on the gradients of an earlier pass")
    return calls[::-1]
