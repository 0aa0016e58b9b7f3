"""Mistake: the gradient of one path, or of one use of a value or weight, is missing."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.zeros import DETACHED
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.diagnose.suspects import behind_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.replayed_faults import Site, Visit

    NodeInput = tuple[int, int]


COUNTED_ONCE = "tied weight counted once"


def without(*edges: int) -> Any:
    """Return the mistake of sending nothing along some edges."""

    def wrong(visit: Visit) -> list[Any]:
        return [None if edge in edges else s for edge, s in enumerate(visit.sent)]

    return wrong


@on_replay
def dropped_paths(trial: Trial) -> Iterator[Explanation]:
    """Explain by one of several uses of a value or weight that is not counted."""
    sites = {site.node.id: site for site in trial.sites()}
    joins: dict[NodeInput, list[tuple[Site, int]]] = defaultdict(list)
    for site in sites.values():
        for edge_nr, edge in enumerate(site.node.edges):
            if edge is not None:
                joins[edge.node, edge.index].append((site, edge_nr))
    for input_nr, uses in joins.items():
        if len(uses) > 1:
            yield from _one_missing(trial, input_nr, uses)


def _one_missing(
    trial: Trial, input_nr: NodeInput, uses: list[tuple[Site, int]]
) -> Iterator[Explanation]:
    node = trial.tape.nodes[input_nr[0]]
    leaf = None if node.leaf is None else trial.tape.values[node.leaf].name
    for site, edge_nr in uses:
        if site.node.id not in trial.suspects:
            continue
        if leaf:
            cause = COUNTED_ONCE
            text = (
                f"{leaf} is used {len(uses)} times and its gradient is the sum over all uses; the "
                f"use in {site.place} was not counted"
            )
        else:
            cause = "one path dropped"
            text = (
                f"the result of {_origin(trial, input_nr)} is used {len(uses)} times and the "
                f"gradients of its uses add up; the one through {site.place} is missing"
            )
        mistakes = [(site, without(edge_nr))]
        yield from trial.explained(cause, text, mistakes, place=site.place, node=site.node.id)
    if leaf and len(uses) > 2:
        yield from _one_counted(trial, leaf, uses)


def _one_counted(trial: Trial, leaf: str, uses: list[tuple[Site, int]]) -> Iterator[Explanation]:
    """Yield the gradient of a single use, which overwrote the others."""
    for kept, _ in (uses[0], uses[-1]):
        others = [(site, without(edge_nr)) for site, edge_nr in uses if site is not kept]
        text = (
            f"{leaf} is used {len(uses)} times and its gradient is the sum over all uses; only the "
            f"use in {kept.place} was counted"
        )
        yield from trial.explained(COUNTED_ONCE, text, others, place=kept.place, node=kept.node.id)


def _origin(trial: Trial, input_nr: NodeInput) -> str:
    node = trial.tape.nodes[input_nr[0]]
    if node.call is None:
        return node.name
    call = trial.tape.calls[node.call]
    return f"{call.base_op.partition('.')[2]} in {call.source.module or call.source.line}"


@on_replay
def stopped_chains(trial: Trial) -> Iterator[Explanation]:
    """Explain by a gradient that stops at a layer and reaches no earlier one."""
    behind = behind_inputs(trial.case)
    for site in trial.sites():
        open_edges = [k for k, edge in enumerate(site.node.edges) if edge is not None]
        if len(open_edges) < 2 or site.node.id not in trial.suspects:
            continue  # a node with one edge is no other place than the one before
        for edge_nr in open_edges:
            edge = site.node.edges[edge_nr]
            assert edge is not None  # noqa: S101 (by open_edges)
            names = behind.get((edge.node, edge.index), frozenset())
            if len(names & set(trial.case.exhibits)) < 2:
                continue
            predicted = trial.with_mistakes([(site, without(edge_nr))])
            if not predicted or any(p.any() for p in predicted.values()):
                continue  # some of it arrives by another path
            text = (
                f"the gradient stops at {site.place}: its input, and everything before it, gets "
                "zero (a detach, or a step missing from the chain)"
            )
            yield Explanation(
                DETACHED, text, predicted, place=site.place, node=site.node.id, reveals=False
            )
