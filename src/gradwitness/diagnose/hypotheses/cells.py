"""Mistake: the state or a gate of a recurrent layer is detached, its steps sharing one line.

The operations of such a line, as of nn.GRU, repeat in the same order. This period shows its steps,
and the edges from each to the next.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.hypotheses.truncated_bptt import BETWEEN_STEPS
from gradwitness.diagnose.hypotheses.zeros import DETACHED
from gradwitness.diagnose.replayed_faults import Trial, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Wrong

    Mistakes = list[tuple[Site, Wrong]]

_LEAST = 4  # operations of a step: fewer repeat by chance


@dataclass(frozen=True)
class _Cell:
    """The steps of one layer."""

    sites: tuple[Site, ...]  # in the order of their calls
    period: int  # the number of sites in a step
    offset: int = 0  # the number of sites before the first complete step

    def step(self, index: int) -> int:
        """Return the number of a site's step."""
        return (index - self.offset) // self.period

    def position(self, index: int) -> int:
        """Return the position of a site in its step."""
        return (index - self.offset) % self.period

    def crossing(self) -> dict[int, list[tuple[Site, int]]]:
        """Return the edges from each step to the previous one, by the position they lead to."""
        indices = {site.node.id: index for index, site in enumerate(self.sites)}
        edges: dict[int, list[tuple[Site, int]]] = defaultdict(list)
        for index, site in enumerate(self.sites):
            for edge_nr, edge in enumerate(site.node.edges):
                target = None if edge is None else indices.get(edge.node)
                if target is not None and self.step(target) < self.step(index):
                    edges[self.position(target)].append((site, edge_nr))
        return edges

    def gates(self) -> list[list[Site]]:
        """Return the activations at each position of the steps."""
        gates: dict[int, list[Site]] = defaultdict(list)
        for index, site in enumerate(self.sites):
            if site.op in POINTWISE:
                gates[self.position(index)].append(site)
        return list(gates.values())


@on_replay
def detached_cells(trial: Trial) -> Iterator[Explanation]:
    """Explain by a detached state or gate of a recurrent layer."""
    lines: dict[str, list[Site]] = defaultdict(list)
    for site in sorted(trial.sites(), key=lambda site: site.call.id):
        lines[site.place].append(site)
    for place, same in lines.items():
        cells = [_aligned(cell) for cell in _cells(same)]
        yield from _states(trial, place, cells)
        for cell in cells or _loops(same):
            yield from _gates(trial, place, cell)


def _loops(sites: Sequence[Site]) -> Iterator[_Cell]:
    """Yield each activation that a line repeats in an explicit loop, as a cell."""
    by_op: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        if site.op in POINTWISE:
            by_op[site.op].append(site)
    yield from (_Cell(tuple(same), 1) for same in by_op.values() if len(same) > 1)


def _cells(sites: Sequence[Site]) -> Iterator[_Cell]:
    """Yield the periodic parts of a line."""
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


def _aligned(cell: _Cell) -> _Cell:
    """Return the cell with its steps beginning where the fewest edges cross."""
    alignments = [_Cell(cell.sites, cell.period, offset) for offset in range(cell.period)]
    return min(alignments, key=lambda alignment: sum(map(len, alignment.crossing().values())))


def _states(trial: Trial, place: str, cells: Sequence[_Cell]) -> Iterator[Explanation]:
    crossings = [cell.crossing() for cell in cells]
    all_edges = [edge for c in crossings for edges in c.values() for edge in edges]
    sets = [all_edges]
    sets += [[e for edges in c.values() for e in edges] for c in crossings if len(cells) > 1]
    sets += [edges for c in crossings for edges in c.values() if len(c) > 1]
    for cut in sets:
        text = (
            f"the gradient does not go back from a step of {place} to the previous one: "
            f"{'the state' if cut is all_edges else 'a part of the state'} is detached between all "
            "steps"
        )
        if cut:
            yield from trial.explained(
                BETWEEN_STEPS, text, _cut(cut), place=place, freedom=1 + len(sets)
            )


def _gates(trial: Trial, place: str, cell: _Cell) -> Iterator[Explanation]:
    gates = cell.gates()
    for number, gate in enumerate(gates, 1):
        mistakes: Mistakes = [(site, without(*range(len(site.node.edges)))) for site in gate]
        text = (
            f"activation {number} of the {len(gates)} in a step of {place} "
            f"({gate[0].op.partition('.')[2]}) is detached at every step"
        )
        location = f"{len(gate)} steps: {place}"
        yield from trial.explained(DETACHED, text, mistakes, place=location, freedom=len(gates))


def _cut(edges: Sequence[tuple[Site, int]]) -> Mistakes:
    numbers: dict[int, set[int]] = defaultdict(set)
    sites = {}
    for site, number in edges:
        numbers[site.node.id].add(number)
        sites[site.node.id] = site
    return [(site, without(*numbers[node])) for node, site in sites.items()]
