"""Gradients that changed outside of the recording, and blocks that were cut short.

Neither can be refuted, and neither agrees.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.judging.comparing.compare import unjudged
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.judging.graph_queries import ancestors
from gradwitness.tape import Kind, Source
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.tape import Tape, Unseen

_ADDS = (
    "it sent no gradient, but the .grad behind it was changed outside of what was recorded: it may "
    "have added to that itself"
)


def _of_grads(tape: Tape) -> list[Unseen]:
    """Return what happened to the ``.grad`` of leaves, or to all gradients of a pass."""
    return [u for u in tape.unseen if u.node is None or tape.nodes[u.node].leaf is not None]


def with_doubts(tape: Tape, findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the doubts about each ``.grad`` that changed unseen.

    What such a ``.grad`` held after an accumulation refutes nothing. A custom function that sends
    nothing there may add to the ``.grad`` itself.
    """
    unseen = _of_grads(tape)
    if not unseen:
        return [*findings]
    changed = ancestors(tape, {u.node for u in unseen if u.node is not None})
    kept = [
        replace(f, comparison=unjudged(_ADDS)) if _may_add(tape, f, changed) else f
        for f in findings
        if f.step is not Step.ACCUMULATE
        or f.verdict is not Verdict.DISAGREES
        or not any(u.sweep == f.sweep and u.node in (None, f.node) for u in unseen)
    ]
    doubts = [
        Finding(
            Step.ACCUMULATE,
            _title(tape, u),
            _unjudged(tape, u),
            node=u.node,
            sweep=u.sweep,
            source=Source(line=u.line),
        )
        for u in unseen
    ]
    return kept + doubts


def _may_add(tape: Tape, finding: Finding, changed: set[int]) -> bool:
    """Whether a custom function is refuted that sent nothing to one of some nodes."""
    wrong = finding.verdict is Verdict.DISAGREES and finding.step is Step.BACKWARD
    if not wrong or finding.node is None or finding.sweep is None:
        return False
    node = tape.nodes[finding.node]
    edge = node.edges[finding.tensor_nr] if node.kind == Kind.CUSTOM else None
    if edge is None or edge.node not in changed:
        return False
    run = next(run for run in tape.sweeps[finding.sweep].node_runs if run.node == node.id)
    return {*run.outgoing[finding.tensor_nr :][:1]} <= {None}


def doubted(tape: Tape, rows: Sequence[Row]) -> list[Row]:
    """Return rows with those in doubt whose ``.grad`` changed unseen, and a row for each other."""
    result = list(rows)
    for unseen in _of_grads(tape):
        own = [
            index
            for index, row in enumerate(result)
            if unseen.node in (None, row.node) and row.sweep == unseen.sweep
        ]
        for index in own:
            if result[index].verdict is not Verdict.DISAGREES:
                result[index] = _in_doubt(result[index], unseen.reason)
        if not own and unseen.node is not None:
            result.append(_row(tape, unseen, unseen.node))
    return result


def cut_short(tape: Tape, rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Return the doubt about a block that an exception ended."""
    if tape.ended is None:
        return ()
    path, _, line = tape.ended.line.rpartition(":")
    at = f" at {Path(path).name}:{line}" if path else ""
    reached, wanted = {row.name for row in rows}, _wanted(tape)
    missing = [name for name in wanted if name not in reached]
    got = f"{len(wanted) - len(missing)} of {len(wanted)} parameters got a gradient"
    reason = f"the step ended in {tape.ended.error}{at}; {got}"
    reason += f", not {listed(missing)}" if missing else ""
    source = Source(line=tape.ended.line)
    return (Finding(Step.FORWARD, "the step", unjudged(reason), source=source),)


def _wanted(tape: Tape) -> list[str]:
    """Return the names of what collects a gradient: parameters or, without a model, leaves."""
    values = [tape.values[number] for number in tape.parameters]
    values = [v for v in values if v.requires_grad] or [v for _, v in tape.leaves()]
    return list(dict.fromkeys(v.name or f"value {v.id}" for v in values))


def _in_doubt(row: Row, reason: str) -> Row:
    return replace(
        row,
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
        inherited=False,
        digits=math.nan,
        apart=None,
    )


def _title(tape: Tape, unseen: Unseen) -> str:
    if unseen.node is None:
        return f"the gradients of pass {(unseen.sweep or 0) + 1}"
    return f"{tape.nodes[unseen.node].name} #{unseen.node}, `.grad` at the end"


def _unjudged(tape: Tape, unseen: Unseen) -> Comparison:
    after = None if unseen.after is None else tape.values[unseen.after].array
    return unjudged(unseen.reason, after)


def _row(tape: Tape, unseen: Unseen, node: int) -> Row:
    leaf = tape.nodes[node].leaf
    assert leaf is not None  # noqa: S101 (`_of_grads` checked)
    value, comparison = tape.values[leaf], _unjudged(tape, unseen)
    return Row(
        name=value.name or f"value {value.id}",
        shape=value.shape,
        dtype=value.dtype,
        verdict=Verdict.INCONCLUSIVE,
        reason=comparison.reason,
        inherited=False,
        comparison=comparison,
        digits=math.nan,
        node=node,
        input_nr=0,
        sweep=max(len(tape.sweeps) - 1, 0) if unseen.sweep is None else unseen.sweep,
        value=None,
    )
