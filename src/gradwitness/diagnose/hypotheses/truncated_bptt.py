"""Backpropagation through time cut short: a state that a step hands on to the next is detached."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.replayed_faults import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Wrong

BETWEEN_STEPS = "detached between steps"
_MOST = 200_000  # steps through a graph that the search for states may take


def truncated(case: Case) -> Iterator[Explanation]:
    """Explain by a state that was detached between the repetitions of a line, at one or at all."""
    trial = Trial.of(case)
    if trial is None:
        return
    sites = {site.node.id: site for site in trial.sites()}
    repeated: dict[tuple[str, str], list[Site]] = defaultdict(list)
    for site in sites.values():
        if site.call.source.line:
            repeated[site.op, site.place].append(site)
    for same in repeated.values():
        if len(same) < 2 or len(same) * len(sites) > _MOST:
            continue
        # In the order of the backward pass: the last step comes first.
        pairs = list(itertools.pairwise(same))
        if not all(_is_repeated(trial, later, sooner) for later, sooner in pairs):
            continue
        cuts = [_between(sites, later, sooner) for later, sooner in pairs]
        if all(cuts):
            yield from _explained(trial, same[0].place, cuts)


def _is_repeated(trial: Trial, later: Site, sooner: Site) -> bool:
    """Whether a line was come back to, and does not merely make two such calls."""
    between = trial.tape.calls[sooner.call.id + 1 : later.call.id]
    return any(call.source.line not in ("", later.call.source.line) for call in between)


def _between(sites: Mapping[int, Site], later: Site, sooner: Site) -> dict[int, set[int]]:
    """Return the edges, by node, along which one step's gradient enters the state before it."""
    reached, waiting = set(), [later.node.id]
    entering: dict[int, set[int]] = defaultdict(set)
    while waiting:
        number = waiting.pop()
        if number in reached or number not in sites or number == sooner.node.id:
            continue
        reached.add(number)
        for place, edge in enumerate(sites[number].node.edges):
            if edge is None:
                continue
            if edge.node == sooner.node.id:
                entering[number].add(place)
            waiting.append(edge.node)
    return dict(entering)


def _explained(
    trial: Trial, place: str, cuts: Sequence[Mapping[int, set[int]]]
) -> Iterator[Explanation]:
    sites = {site.node.id: site for site in trial.sites()}

    def faults(chosen: Sequence[Mapping[int, set[int]]]) -> list[tuple[Site, Wrong]]:
        return [(sites[n], without(*edges)) for cut in chosen for n, edges in cut.items()]

    text = (
        f"the gradient does not go back through what {place} makes, from a step to the one before"
    )
    predicted = trial.with_faults(faults(cuts))
    if predicted:
        said = f"{text}: it is detached between all {_steps(len(cuts) + 1)}"
        yield Explanation(BETWEEN_STEPS, said, predicted, place=place, freedom=1, reveals=False)
    for number, cut in enumerate(cuts if len(cuts) > 1 else (), 1):
        predicted = {} if trial.suspects.isdisjoint(cut) else trial.with_faults(faults([cut]))
        if predicted:
            said = f"{text}: it is detached before the last {_steps(number)}"
            yield Explanation(
                BETWEEN_STEPS, said, predicted, place=place, freedom=len(cuts), reveals=False
            )


def _steps(number: int) -> str:
    return "step" if number == 1 else f"{number} steps"
