"""Mistake: backpropagation through time is cut short, the state of a loop being detached."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.replayed_faults import Trial, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Wrong

BETWEEN_STEPS = "detached between steps"
_MOST = 200_000  # the longest search for states, in steps through the graph


@on_replay
def truncated(trial: Trial) -> Iterator[Explanation]:
    """Explain by a state detached between the repetitions of a line, at one or all of them."""
    sites = {site.node.id: site for site in trial.sites()}
    repeated: dict[tuple[str, str], list[Site]] = defaultdict(list)
    for site in sites.values():
        if site.call.source.line:
            repeated[site.op, site.place].append(site)
    for repetitions in repeated.values():
        if len(repetitions) < 2 or len(repetitions) * len(sites) > _MOST:
            continue
        # In the order of the backward pass: the last step comes first.
        pairs = list(itertools.pairwise(repetitions))
        if not all(_is_repeated(trial, later, earlier) for later, earlier in pairs):
            continue
        cuts = [_between(sites, later, earlier) for later, earlier in pairs]
        if all(cuts):
            yield from _explained(trial, repetitions[0].place, cuts)


def _is_repeated(trial: Trial, later: Site, earlier: Site) -> bool:
    """Whether a line was repeated, rather than making two such calls at once."""
    between = trial.tape.calls[earlier.call.id + 1 : later.call.id]
    return any(call.source.line not in ("", later.call.source.line) for call in between)


def _between(sites: Mapping[int, Site], later: Site, earlier: Site) -> dict[int, set[int]]:
    """Return the edges, by node, along which a step's gradient enters the previous state."""
    reached, pending = set(), [later.node.id]
    entering: dict[int, set[int]] = defaultdict(set)
    while pending:
        number = pending.pop()
        if number in reached or number not in sites or number == earlier.node.id:
            continue
        reached.add(number)
        for edge_nr, edge in enumerate(sites[number].node.edges):
            if edge is None:
                continue
            if edge.node == earlier.node.id:
                entering[number].add(edge_nr)
            pending.append(edge.node)
    return dict(entering)


def _explained(
    trial: Trial, place: str, cuts: Sequence[Mapping[int, set[int]]]
) -> Iterator[Explanation]:
    sites = {site.node.id: site for site in trial.sites()}

    def mistakes(chosen: Sequence[Mapping[int, set[int]]]) -> list[tuple[Site, Wrong]]:
        return [(sites[n], without(*edges)) for cut in chosen for n, edges in cut.items()]

    text = f"the gradient does not go back from a step to the previous one through {place}"
    everywhere = f"{text}: it is detached between all {_steps(len(cuts) + 1)}"
    yield from trial.explained(BETWEEN_STEPS, everywhere, mistakes(cuts), place=place, freedom=1)
    for number, cut in enumerate(cuts if len(cuts) > 1 else (), 1):
        if not trial.suspects.isdisjoint(cut):
            once = f"{text}: it is detached before the last {_steps(number)}"
            yield from trial.explained(
                BETWEEN_STEPS, once, mistakes([cut]), place=place, freedom=len(cuts)
            )


def _steps(number: int) -> str:
    return "step" if number == 1 else f"{number} steps"
