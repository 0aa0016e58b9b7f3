"""Custom functions opened: each operation of their forward gets a node, so that it can be at fault.

Autograd has one node for the whole function. What the function does is recorded call by call, and
the witness's gradient of it is made of those: here they stand on the tape as if torch had
differentiated them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.rank import Cause, diagnose
from gradwitness.engine.backward import edge_value
from gradwitness.engine.binding import bind, recorded
from gradwitness.engine.replay import replay
from gradwitness.tape import Edge, Kind, Node, NodeRun, Ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.diagnose.case import Case
    from gradwitness.tape import Tape

_SAME = 1e-9  # of a gradient's largest number: two orders of summing the same terms in float64


def diagnose_opened(case: Case) -> tuple[Cause, ...]:
    """Say why the refuted claims of a case are wrong; a custom function's steps are tried too."""
    without, hosts = opened(case)
    return tuple(
        cause if cause.node is None else replace(cause, node=hosts.get(cause.node, cause.node))
        for cause in diagnose(without)
    )


def opened(case: Case) -> tuple[Case, Mapping[int, int]]:
    """Return a case without custom functions, and the function of each node that was added.

    It is the case itself where there are none, or where opening them changes a gradient: one may
    have been declared to be something else.
    """
    tape = case.tape
    if tape is None or all(node.kind != Kind.CUSTOM for node in tape.nodes):
        return case, {}
    opening = _Opening(tape)
    try:
        made = opening.tape()
        again = replay(made)
    except (Unjudgeable, ValueError, LookupError):
        return case, {}
    for node, leaf in made.leaves():
        exhibit = case.exhibits.get(leaf.name)
        g = again.gradient(case.sweep, node.id)
        if exhibit is None:
            continue
        largest = np.max(np.abs(exhibit.witness), initial=0.0)
        if g is None or np.any(np.abs(g - exhibit.witness) > _SAME * largest):
            return case, {}
    return replace(case, tape=made, replay=again), opening.hosts


@dataclass
class _Opening:
    """A tape whose custom functions are being opened.

    Attributes
    ----------
    whole : Tape
    hosts : dict of int to int
        The custom function of each new node.
    moved : dict
        Where a gradient now goes that went to a custom function.
    """

    whole: Tape
    hosts: dict[int, int] = field(default_factory=dict)
    moved: dict[Edge, Edge] = field(default_factory=dict)

    def tape(self) -> Tape:
        """Return the opened tape.

        Raises
        ------
        Unjudgeable
            If a function cannot be opened.
        """
        nodes = list(self.whole.nodes)
        inside: dict[int, list[Node]] = {}
        for node in self.whole.nodes:
            if node.kind == Kind.CUSTOM:
                inside[node.id] = self._opened(node, len(nodes))
                nodes += inside[node.id]
        nodes = [replace(n, edges=tuple(self._where(e) for e in n.edges)) for n in nodes]
        sweeps = []
        for sweep in self.whole.sweeps:
            node_runs = [f for node_run in sweep.node_runs for f in self._fired(node_run, inside)]
            roots = tuple((self._moved(edge), seed) for edge, seed in sweep.roots)
            sweeps.append(replace(sweep, node_runs=tuple(node_runs), roots=roots))
        return replace(self.whole, nodes=nodes, sweeps=sweeps)

    def _opened(self, node: Node, first: int) -> list[Node]:
        origin: dict[int, Edge] = {}
        for edge in node.edges:
            value = edge_value(self.whole, edge)
            if edge is not None and value is not None:
                origin.setdefault(value, edge)
        lookup = recorded(self.whole)
        made: list[Node] = []
        for number in node.inner:
            call = self.whole.calls[number]
            input_nrs = bind(self.whole, call, lookup, arithmetic=None, skip=True).inputs()
            edges = tuple(
                origin.get(a.value) if isinstance(a, Ref) else None for _, _, a in input_nrs
            )
            if all(edge is None for edge in edges):
                continue
            name = f"{call.base_op.partition('.')[2]} in {node.name}"
            new = Node(first + len(made), name, Kind.OPERATION, edges, call.outputs, call.id)
            made.append(new)
            self.hosts[new.id] = node.id
            for index, value in enumerate(call.outputs):
                if value is not None:
                    origin[value] = Edge(new.id, index)
        for index, value in enumerate(node.outputs):
            if value is None or value not in origin:
                raise Unjudgeable(f"no recorded operation leads to output {index} of {node.name}")
            self.moved[Edge(node.id, index)] = origin[value]
        return made

    def _moved(self, edge: Edge) -> Edge:
        while edge in self.moved:
            edge = self.moved[edge]
        return edge

    def _where(self, edge: Edge | None) -> Edge | None:
        return None if edge is None else self._moved(edge)

    def _fired(self, node_run: NodeRun, inside: Mapping[int, list[Node]]) -> list[NodeRun]:
        if node_run.node not in inside:
            return [node_run]
        return [
            NodeRun(n.id, (None,) * len(n.outputs), (None,) * len(n.edges), after=node_run.after)
            for n in reversed(inside[node_run.node])
        ]
