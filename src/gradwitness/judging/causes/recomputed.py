"""A step whose operands a checkpoint computed again, and otherwise than the forward had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.backward import gradients
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.rules.graph_terms import draws
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, Node, NodeRun, Tape

RANDOM = "the checkpoint ran the forward again with other random numbers"
OTHERWISE = "the checkpoint ran the forward again with another result"
REMEDY = "checkpoint(..., preserve_rng_state=True)"


def of_checkpoint(
    tape: Tape, records: Records, finding: Finding, node: Node, node_run: NodeRun
) -> Finding:
    """Return a finding with its cause, if what the pass computed again explains what was sent."""
    sent = node_run.outgoing[finding.tensor_nr]
    if node.call is None or sent is None or finding.sweep is None:
        return finding
    again = tape.calls[tape.sweeps[finding.sweep].after : node_run.after]
    own = tape.calls[node.call]
    numbers = {n for n in (*own.operands, *own.outputs) if n is not None}
    others = {n: m for n in numbers if (m := _twin(tape, own, n, again)) is not None}
    if not others:
        return finding

    def lookup(number: int) -> Any:
        return records(others.get(number, number))

    arithmetic = backward_arithmetic(tape, node, node_run)
    incoming = [None if n is None else records.exact(n, arithmetic) for n in node_run.incoming]
    try:
        expected = gradients(tape, node, incoming, lookup, arithmetic)[finding.tensor_nr]
        agrees = records.against(sent, expected).verdict is Verdict.AGREES
    except Unjudgeable:
        return finding
    if not agrees:
        return finding
    drawn = next((call for call in again if draws(call.op)), None)
    changed = sorted({_name(c) for c in again if not set(c.outputs).isdisjoint(others.values())})
    what = f"What {node.name} sent follows from the numbers of {listed(changed)} computed again"
    if drawn is None:
        why = f"{what} in the backward pass, and are not those of the forward."
        return replace(finding, cause=OTHERWISE, why=why)
    line = drawn.source.line.rpartition("/")[2]
    why = f"{what} in the backward pass, where {_name(drawn)} at {line} drew other numbers."
    return replace(finding, cause=RANDOM, why=why, remedy=REMEDY)


def _twin(tape: Tape, step: Call, number: int, again: Sequence[Call]) -> int | None:
    """Return the value that was computed again in the place of another, if it differs."""
    maker = next((c for c in reversed(tape.calls[: step.id + 1]) if number in c.outputs), None)
    if maker is None:
        return None
    at = maker.outputs.index(number)
    for call in reversed(again):
        # A module of torch's has the line of whoever runs it: here, of the backward pass.
        own, now = maker.source, call.source
        placed = own == now or (own.module == now.module and own.module)
        same = call.op == maker.op and placed and call.during is not None
        other = call.outputs[at] if same and at < len(call.outputs) else None
        if other is not None and _differs(tape, number, other):
            return other
    return None


def _differs(tape: Tape, number: int, other: int) -> bool:
    before, after = tape.values[number], tape.values[other]
    same = before.array is None or after.array is None or before.shape != after.shape
    return not same and not np.array_equal(before.array, after.array)  # type: ignore[arg-type]


def _name(call: Call) -> str:
    return call.base_op.partition(".")[2]
