"""Gradients along Lie groups, followed to where they end.

One by v must not be taken for one by the numbers, nor the other way round: each step would be right
by itself, and the chain wrong. Operations that only move whole elements pass them on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradwitness.judging.custom.accused import Along
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.note import Note
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.judging.finding import Row
    from gradwitness.tape import Node, NodeRun, Tape

_MOVES = (
    *("select", "slice", "split", "split_with_sizes", "unbind", "index", "index_select"),
    *("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "expand", "cat", "stack"),
    *("clone", "detach", "alias", "_to_copy"),
)
# What is sent is along the groups that a text names, by the numbers, or not known.
_PLAIN, _UNKNOWN = "", None
_Place = tuple[int, int, int]


@dataclass
class Followed:
    """What kinds of gradients arrive where: by pass, node and input."""

    kinds: dict[_Place, set[str | None]]

    def notes(self, rows: Sequence[Row]) -> list[Note]:
        """Say which of the user's gradients are along groups."""
        found: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            for kind in self.kinds.get((row.sweep, row.node, row.input_nr), ()):
                if kind:
                    found[kind].append(row.name)
        return [
            Note(
                "gradient along a group",
                f"the gradient of {', '.join(dict.fromkeys(names))} is {kind}: by v, where v moves "
                "an element along the group, not by the numbers of the element",
            )
            for kind, names in found.items()
        ]


def followed(tape: Tape, findings: Sequence[Finding]) -> tuple[list[Finding], Followed]:
    """Leave open where a gradient along a group is taken for another, or another for one."""
    kinds: dict[_Place, set[str | None]] = defaultdict(set)
    along = [f for f in findings if isinstance(f, Along)]
    if not along:
        return list(findings), Followed(kinds)
    by_place = {(f.sweep, f.node, f.tensor_nr): f for f in findings if f.step is Step.BACKWARD}
    doubts: dict[tuple[Step, int | None, int | None, int], str] = {}
    for number, sweep in enumerate(tape.sweeps):
        for edge, seed in sweep.roots:
            kinds[number, edge.node, edge.index].add(_PLAIN if seed is None else _UNKNOWN)
        for node_run in sweep.node_runs:
            node = tape.nodes[node_run.node]
            arrived = [kinds[number, node.id, k] for k in range(len(node_run.incoming))]
            for k, several in enumerate(arrived):
                if _UNKNOWN not in several and len(several) > 1:
                    doubts[Step.FAN_IN, number, node.id, k] = (
                        "adds a gradient along a group to one that is not, or along another"
                    )
            for input_nr, target in enumerate(node.edges):
                if target is None:
                    continue
                finding = by_place.get((number, node.id, input_nr))
                kind, doubt = _sends(tape, node, node_run, input_nr, finding, arrived)
                kinds[number, target.node, target.index].add(kind)
                if doubt:
                    doubts[Step.BACKWARD, number, node.id, input_nr] = doubt
    return list(_doubted(findings, doubts)), Followed(kinds)


def _sends(
    tape: Tape,
    node: Node,
    node_run: NodeRun,
    input_nr: int,
    finding: Finding | None,
    arrived: Sequence[set[str | None]],
) -> tuple[str | None, str]:
    """Return what kind of gradient a node sends, and what speaks against the kinds that arrived."""
    if finding is not None and finding.verdict is not Verdict.AGREES:
        return _UNKNOWN, ""
    own = finding.kinds if isinstance(finding, Along) else None
    kind = own.words if own is not None and own.operand else _PLAIN
    some = {k for k, number in enumerate(node_run.incoming) if number is not None}
    if any(_UNKNOWN in arrived[k] or not arrived[k] for k in some):
        return kind, ""
    tangent = {k for k in some if arrived[k] != {_PLAIN}}
    wanted = set() if own is None else some.intersection(own.results)
    if tangent == wanted:
        return kind, ""
    if own is None and _moves(tape, node, input_nr):
        return next(iter(arrived[min(tangent)])), ""
    words = next(iter(arrived[min(tangent)])) if tangent else ""
    return kind, (
        f"what arrives is a gradient {words}, and this step takes it for one by the numbers"
        if words
        else "what arrives is a gradient by the numbers, and this step takes it for one along a "
        "group"
    )


def _moves(tape: Tape, node: Node, input_nr: int) -> bool:
    """Whether a node only moves whole rows of its input."""
    if node.call is None:
        return node.name == "AliasBackward0"
    edge = node.edges[input_nr]
    source = None if edge is None else tape.nodes[edge.node].outputs[edge.index]
    shapes = [() if n is None else tape.values[n].shape for n in (source, *node.outputs)]
    rows = {shape[-1:] for shape in shapes}
    return len(rows) == 1 and tape.calls[node.call].base_op.removeprefix("aten.") in _MOVES


def _doubted(
    findings: Sequence[Finding], doubts: dict[tuple[Step, int | None, int | None, int], str]
) -> Iterator[Finding]:
    for finding in findings:
        reason = doubts.get((finding.step, finding.sweep, finding.node, finding.tensor_nr))
        if reason and finding.verdict is Verdict.AGREES:
            opened = replace(finding.comparison, verdict=Verdict.INCONCLUSIVE, reason=reason)
            yield replace(finding, comparison=opened)
        else:
            yield finding
