"""Inline custom functions: each operation of their forward gets a node that can be at fault.

Autograd has one node for a whole custom function. But its calls are recorded, and the witness
differentiates them one by one. Here they are put on the tape as if torch had done so too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.rank import Cause, diagnose
from gradwitness.engine.binding import inputs_of
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.engine.replay import replay
from gradwitness.tape import Edge, Kind, Node, NodeRun, Ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.diagnose.case import Case
    from gradwitness.tape import Tape

_SAME = 1e-9  # of a gradient's largest number: the same float64 sum in two orders


def diagnose_inlined(case: Case) -> tuple[Cause, ...]:
    """Find the causes of a case's refuted claims, also within custom functions."""
    without, hosts = inlined(case)
    return tuple(
        cause if cause.node is None else replace(cause, node=hosts.get(cause.node, cause.node))
        for cause in diagnose(without)
    )


def inlined(case: Case) -> tuple[Case, Mapping[int, int]]:
    """Return a case without custom functions, and the function of each node that was added.

    Returns the case itself if there are none, or if inlining changes a gradient: a function's
    gradient may have been declared to be something else.
    """
    tape = case.tape
    if tape is None or all(node.kind != Kind.CUSTOM for node in tape.nodes):
        return case, {}
    inliner = _Inliner(tape)
    try:
        tape_inlined = inliner.tape()
        replayed = replay(tape_inlined)
    except (Unjudgeable, ValueError, LookupError):
        return case, {}
    for node, leaf in tape_inlined.leaves():
        exhibit = case.exhibits.get(leaf.name)
        g = replayed.gradient(case.sweep, node.id)
        if exhibit is None:
            continue
        largest = np.max(np.abs(exhibit.witness), initial=0.0)
        if g is None or np.any(np.abs(g - exhibit.witness) > _SAME * largest):
            return case, {}
    return replace(case, tape=tape_inlined, replay=replayed), inliner.hosts


@dataclass
class _Inliner:
    """Inlines the custom functions of a tape."""

    original: Tape
    hosts: dict[int, int] = field(default_factory=dict)  # the custom function of each new node
    # From the outputs of custom functions to those of the inlined nodes.
    moved: dict[Edge, Edge] = field(default_factory=dict)

    def tape(self) -> Tape:
        """Return the inlined tape; raise `Unjudgeable` if a function cannot be inlined."""
        nodes = list(self.original.nodes)
        inside: dict[int, list[Node]] = {}
        for node in self.original.nodes:
            if node.kind == Kind.CUSTOM:
                inside[node.id] = self._inlined(node, len(nodes))
                nodes += inside[node.id]
        nodes = [replace(n, edges=tuple(self._where(e) for e in n.edges)) for n in nodes]
        sweeps = []
        for sweep in self.original.sweeps:
            node_runs = [new for run in sweep.node_runs for new in self._node_runs(run, inside)]
            roots = tuple((self._moved(edge), seed) for edge, seed in sweep.roots)
            sweeps.append(replace(sweep, node_runs=tuple(node_runs), roots=roots))
        return replace(self.original, nodes=nodes, sweeps=sweeps)

    def _inlined(self, node: Node, first: int) -> list[Node]:
        origin: dict[int, Edge] = {}
        for edge in node.edges:
            value = edge_value(self.original, edge, node)
            if edge is not None and value is not None:
                origin.setdefault(value, edge)
        inlined: list[Node] = []
        for number in node.inner:
            call = self.original.calls[number]
            if origin.keys().isdisjoint(call.operands):
                # Constants, whatever made them.
                continue
            input_nrs = inputs_of(self.original, call)
            edges = tuple(
                origin.get(a.value) if isinstance(a, Ref) else None for _, _, a in input_nrs
            )
            if all(edge is None for edge in edges):
                continue
            name = f"{call.base_op.partition('.')[2]} in {node.name}"
            new = Node(first + len(inlined), name, Kind.OPERATION, edges, call.outputs, call.id)
            inlined.append(new)
            self.hosts[new.id] = node.id
            for index, value in enumerate(call.outputs):
                if value is not None:
                    origin[value] = Edge(new.id, index)
        for index, value in enumerate(node.outputs):
            if value is None or value not in origin:
                raise Unjudgeable(f"no recorded operation leads to output {index} of {node.name}")
            self.moved[Edge(node.id, index)] = origin[value]
        return inlined

    def _moved(self, edge: Edge) -> Edge:
        while edge in self.moved:
            edge = self.moved[edge]
        return edge

    def _where(self, edge: Edge | None) -> Edge | None:
        return None if edge is None else self._moved(edge)

    def _node_runs(self, node_run: NodeRun, inside: Mapping[int, list[Node]]) -> list[NodeRun]:
        if node_run.node not in inside:
            return [node_run]
        return [
            NodeRun(n.id, (None,) * len(n.outputs), (None,) * len(n.edges), after=node_run.after)
            for n in reversed(inside[node_run.node])
        ]
