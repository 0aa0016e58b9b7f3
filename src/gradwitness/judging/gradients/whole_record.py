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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.custom_forwards import storages
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging import sight
from gradwitness.judging.comparing.compare import SHARE
from gradwitness.judging.comparing.comparison import by_distance
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.normwise import normwise
from gradwitness.judging.custom.recorded_forward import iteration
from gradwitness.judging.finding import Finding, Step
from gradwitness.tape import Edge, Kind, Node
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Row
    from gradwitness.tape import Call, Sweep, Tape

_MEANT = (
    "not the derivative of the recorded forward; that of the whole record, what is detached "
    "included, it is: right if the detached numbers are meant to be followed"
)
_FREED = (
    "; whether it is right with what leaves autograd's sight ({way} at {line}) was not judged, as "
    "values were freed: keep=None judges that"
)
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


def by_whole_record(
    tape: Tape, findings: Sequence[Finding], rows: Sequence[Row], records: Records
) -> tuple[list[Finding], list[Row]]:
    """Leave steps of the program's own in doubt that the derivative of the whole record supports.

    Those of a pass, if it supports every gradient that they put in question, and excludes what
    autograd sees of the record. Only the program knows whether detached numbers are to be followed,
    so none agrees for it; and none is refuted: a solver's steps are not its solution.
    """
    found, result = list(findings), list(rows)
    if not tape.replayable:
        return _with_freed(tape, found), result
    passes = dict.fromkeys(f.sweep for f in findings if f.verdict is Verdict.DISAGREES)
    forward = any(f.step is Step.FORWARD and f.verdict is not Verdict.AGREES for f in findings)
    for number in [] if forward else [n for n in passes if n is not None][:_MOST]:
        steps = [f for f in found if f.sweep == number and f.verdict is not Verdict.AGREES]
        if not all(is_the_programs(tape, f) for f in steps):
            continue
        of_pass = [row for row in result if row.sweep == number]
        try:
            whole = _Whole(tape, records, number, of_pass)
            told = {
                id(row): whole.supports(row) for row in of_pass if row.verdict is not Verdict.AGREES
            }
        except Unjudgeable:
            found = found if tape.complete else _with_freed(tape, found)
            continue
        if told and all(told.values()):
            ids = {id(f) for f in steps if f.verdict is Verdict.DISAGREES}
            ids |= {id(row) for row in of_pass if row.verdict is Verdict.DISAGREES}
            found = [_in_doubt(f) if id(f) in ids else f for f in found]
            doubt: dict[str, Any] = {"verdict": Verdict.INCONCLUSIVE, "inherited": True}
            result = [replace(row, reason="", **doubt) if id(row) in ids else row for row in result]
    return found, result


def _with_freed(tape: Tape, findings: list[Finding]) -> list[Finding]:
    """Return findings that say where the whole record might have supported a step."""
    wrong = [f for f in findings if f.verdict is Verdict.DISAGREES and is_the_programs(tape, f)]
    leaves = {leaf.id for _, leaf in tape.leaves()}
    left = next(iter(sight.leaks(tape, leaves)), None) if wrong else None
    if left is None:
        return findings
    said = _FREED.format(way=sight.way(left), line=Path(left.source.line).name)
    ids = {id(f) for f in wrong}
    return [replace(f, grade=f.grade + said) if id(f) in ids else f for f in findings]


def _in_doubt(finding: Finding) -> Finding:
    doubt = replace(
        finding.comparison, verdict=Verdict.INCONCLUSIVE, reason=_MEANT, probable_ratio=0.0
    )
    return replace(finding, comparison=doubt, advice="")


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

    def supports(self, row: Row) -> bool:
        """Whether it supports a gradient, and excludes what autograd sees of the record."""
        k = self._at.index((row.node, row.input_nr))
        expected, seen = self._expected[k], self._seen[k]
        if row.value is None or expected is None:
            raise Unjudgeable("no gradient")
        unsettled = 0.0 if self._solver is None else self._solver.unsettled
        allowed = unsettled * largest(expected.value)
        c = self._records.against(row.value, normwise(self._node, expected), allowed)
        c = by_distance(c)
        apart = largest(expected.value - (0.0 if seen is None else seen))
        return c.verdict is Verdict.AGREES and c.detects_relative <= SHARE and apart > c.detects


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
    held, updated = storages(tape, leaves), set[int]()
    memory = storages(tape, roots)
    for call in reversed(tape.calls[: sweep.after]):
        made = sight.made(call)
        touches = not wanted.isdisjoint(made) or not memory.isdisjoint(storages(tape, made))
        if touches and call.writes and not call.grad and not held.isdisjoint(storages(tape, made)):
            # An optimizer has made a leaf anew: what it was before does not matter.
            updated |= made
            memory -= storages(tape, made)
        elif touches and leaves.isdisjoint(made):
            wanted.update(call.operands)
            memory |= storages(tape, call.operands)
            calls.append(call)
    known = {n for call in calls for n in sight.made(call)} | leaves | updated
    for earlier in tape.sweeps[: tape.sweeps.index(sweep)]:
        runs = (n for run in earlier.node_runs for n in (*run.incoming, *run.outgoing))
        if not (wanted - known).isdisjoint({*runs, *(leaf.after for leaf in earlier.leaves)}):
            raise Unjudgeable("it depends on the gradients of an earlier pass")
    return calls[::-1]
