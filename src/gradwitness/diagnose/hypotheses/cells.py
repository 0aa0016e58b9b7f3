"""Recurrent layers whose steps share one line, as those of nn.GRU do: what was detached in them.

Such a line's operations come again and again in the same order. That tells its steps, and what
goes from one to the next.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.hypotheses.truncated_bptt import BETWEEN_STEPS
from gradwitness.diagnose.hypotheses.zeros import DETACHED
from gradwitness.diagnose.replayed_faults import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Wrong

    Faults = list[tuple[Site, Wrong]]

_LEAST = 4  # operations of a step: fewer come again by chance


@dataclass(frozen=True)
class _Cell:
    """The steps of one layer.

    Attributes
    ----------
    sites : tuple of Site
        In the order of their calls.
    period : int
        How many make a step.
    offset : int
        How many come before the first whole step.
    """

    sites: tuple[Site, ...]
    period: int
    offset: int = 0

    def step(self, at: int) -> int:
        """Return the number of the step that a site belongs to."""
        return (at - self.offset) // self.period

    def position(self, at: int) -> int:
        """Return where in its step a site stands."""
        return (at - self.offset) % self.period

    def crossing(self) -> dict[int, list[tuple[Site, int]]]:
        """Return the edges from one step to the step before, by the position that they lead to."""
        places = {site.node.id: at for at, site in enumerate(self.sites)}
        found: dict[int, list[tuple[Site, int]]] = defaultdict(list)
        for at, site in enumerate(self.sites):
            for number, edge in enumerate(site.node.edges):
                to = None if edge is None else places.get(edge.node)
                if to is not None and self.step(to) < self.step(at):
                    found[self.position(to)].append((site, number))
        return found

    def gates(self) -> list[list[Site]]:
        """Return the activations at each position of the steps."""
        found: dict[int, list[Site]] = defaultdict(list)
        for at, site in enumerate(self.sites):
            if site.op in POINTWISE:
                found[self.position(at)].append(site)
        return list(found.values())


def detached_cells(case: Case) -> Iterator[Explanation]:
    """Explain by states, or a gate, of a recurrent layer that no gradient goes back through."""
    trial = Trial.of(case)
    if trial is None:
        return
    lines: dict[str, list[Site]] = defaultdict(list)
    for site in sorted(trial.sites(), key=lambda site: site.call.id):
        lines[site.place].append(site)
    for place, same in lines.items():
        cells = [_begun(cell) for cell in _cells(same)]
        yield from _states(trial, place, cells)
        for cell in cells or _repeated(same):
            yield from _gates(trial, place, cell)


def _repeated(sites: Sequence[Site]) -> Iterator[_Cell]:
    """Yield each activation of a line that is come back to in a loop written out, as a cell."""
    found: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        if site.op in POINTWISE:
            found[site.op].append(site)
    yield from (_Cell(tuple(same), 1) for same in found.values() if len(same) > 1)


def _cells(sites: Sequence[Site]) -> Iterator[_Cell]:
    """Yield the parts of a line that repeat themselves."""
    ops = [site.op for site in sites]
    begin = 0
    while begin < len(ops):
        for period in range(_LEAST, (len(ops) - begin) // 2 + 1):
            end = begin
            while end + period < len(ops) and ops[end] == ops[end + period]:
                end += 1
            if end - begin >= period:
                yield _Cell(tuple(sites[begin : end + period]), period)
                begin = end + period
                break
        else:
            begin += 1


def _begun(cell: _Cell) -> _Cell:
    """Return a cell whose steps begin where the least is handed on from one to the next."""
    ways = [_Cell(cell.sites, cell.period, offset) for offset in range(cell.period)]
    return min(ways, key=lambda way: sum(map(len, way.crossing().values())))


def _states(trial: Trial, place: str, cells: Sequence[_Cell]) -> Iterator[Explanation]:
    crossings = [cell.crossing() for cell in cells]
    every = [edge for each in crossings for edges in each.values() for edge in edges]
    sets = [every]
    sets += [[e for edges in each.values() for e in edges] for each in crossings if len(cells) > 1]
    sets += [edges for each in crossings for edges in each.values() if len(each) > 1]
    for chosen in sets:
        predicted = trial.with_faults(_cut(chosen)) if chosen else {}
        if predicted:
            text = (
                f"the gradient does not go back from a step of {place} to the one before: "
                f"{'the state' if chosen is every else 'a part of the state'} is detached between "
                "all steps"
            )
            freedom = 1 + len(sets)
            yield Explanation(
                BETWEEN_STEPS, text, predicted, place=place, freedom=freedom, reveals=False
            )


def _gates(trial: Trial, place: str, cell: _Cell) -> Iterator[Explanation]:
    gates = cell.gates()
    for number, gate in enumerate(gates, 1):
        faults: Faults = [(site, without(*range(len(site.node.edges)))) for site in gate]
        predicted = trial.with_faults(faults)
        if predicted:
            text = (
                f"no gradient goes back through activation {number} of the {len(gates)} in a step "
                f"of {place} ({gate[0].op.partition('.')[2]}), at any step: it is detached"
            )
            shown = f"{len(gate)} steps: {place}"
            yield Explanation(
                DETACHED, text, predicted, place=shown, freedom=len(gates), reveals=False
            )


def _cut(edges: Sequence[tuple[Site, int]]) -> Faults:
    numbers: dict[int, set[int]] = defaultdict(set)
    sites = {}
    for site, number in edges:
        numbers[site.node.id].add(number)
        sites[site.node.id] = site
    return [(site, without(*numbers[node])) for node, site in sites.items()]
