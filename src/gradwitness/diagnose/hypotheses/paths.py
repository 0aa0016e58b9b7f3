"""Ways that a gradient should have gone and did not: dropped edges, uses that were not counted."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.zeros import DETACHED
from gradwitness.diagnose.replayed_faults import Trial
from gradwitness.diagnose.suspects import behind_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Visit

    NodeInput = tuple[int, int]


def without(*edges: int) -> Any:
    """Return the mistake of sending nothing along some edges."""

    def wrong(visit: Visit) -> list[Any]:
        return [None if edge in edges else s for edge, s in enumerate(visit.sent)]

    return wrong


def dropped_paths(case: Case) -> Iterator[Explanation]:
    """Explain by one of several uses of a value, or of a weight, that is not counted."""
    trial = Trial.of(case)
    if trial is None:
        return
    sites = {site.node.id: site for site in trial.sites()}
    joins: dict[NodeInput, list[tuple[Site, int]]] = defaultdict(list)
    for site in sites.values():
        for number, edge in enumerate(site.node.edges):
            if edge is not None:
                joins[edge.node, edge.index].append((site, number))
    for input_nr, ways in joins.items():
        if len(ways) > 1:
            yield from _one_missing(trial, input_nr, ways)


def _one_missing(
    trial: Trial, input_nr: NodeInput, ways: list[tuple[Site, int]]
) -> Iterator[Explanation]:
    node = trial.tape.nodes[input_nr[0]]
    leaf = None if node.leaf is None else trial.tape.values[node.leaf].name
    for site, number in ways:
        if site.node.id not in trial.suspects:
            continue
        user = site.place
        predicted = trial.with_faults([(site, without(number))])
        if predicted and leaf:
            text = (
                f"{leaf} is used {len(ways)} times and its gradient is the sum over them; the use "
                f"in {user} was not counted"
            )
            yield Explanation(
                "tied weight counted once",
                text,
                predicted,
                place=user,
                node=site.node.id,
                reveals=False,
            )
        elif predicted:
            shared = _made_by(trial, input_nr)
            text = (
                f"the value made by {shared} is used {len(ways)} times and the gradients of its "
                f"uses add up; the one that comes back through {user} is missing"
            )
            yield Explanation(
                "one path dropped", text, predicted, place=user, node=site.node.id, reveals=False
            )
    if leaf and len(ways) > 2:
        yield from _one_left(trial, leaf, ways)


def _one_left(trial: Trial, leaf: str, ways: list[tuple[Site, int]]) -> Iterator[Explanation]:
    """Yield what is left if only one use was counted: it overwrote the others."""
    for kept, _ in (ways[0], ways[-1]):
        others = [(site, without(number)) for site, number in ways if site is not kept]
        predicted = trial.with_faults(others)
        if predicted:
            user = kept.place
            text = (
                f"{leaf} is used {len(ways)} times and its gradient is the sum over them; only the "
                f"use in {user} was counted"
            )
            yield Explanation(
                "tied weight counted once",
                text,
                predicted,
                place=user,
                node=kept.node.id,
                reveals=False,
            )


def _made_by(trial: Trial, input_nr: NodeInput) -> str:
    node = trial.tape.nodes[input_nr[0]]
    if node.call is None:
        return node.name
    call = trial.tape.calls[node.call]
    return f"{call.base_op.partition('.')[2]} in {call.source.module or call.source.line}"


def stopped_chains(case: Case) -> Iterator[Explanation]:
    """Explain by a gradient that ends at a layer: nothing reaches what lies before it."""
    trial = Trial.of(case)
    if trial is None:
        return
    behind = behind_inputs(case)
    for site in trial.sites():
        wanted = [k for k, edge in enumerate(site.node.edges) if edge is not None]
        if len(wanted) < 2 or site.node.id not in trial.suspects:
            continue  # behind a node of one edge it is the same as before it
        for number in wanted:
            edge = site.node.edges[number]
            assert edge is not None  # noqa: S101 (wanted)
            names = behind.get((edge.node, edge.index), frozenset())
            if len(names & set(case.exhibits)) < 2:
                continue
            predicted = trial.with_faults([(site, without(number))])
            if not predicted or any(p.any() for p in predicted.values()):
                continue  # some of it arrives on another path
            text = (
                f"the gradient stops at {site.place}: nothing is sent to its input, and everything "
                "before it gets zero (a detach, or a step left out of the chain)"
            )
            yield Explanation(
                DETACHED, text, predicted, place=site.place, node=site.node.id, reveals=False
            )
