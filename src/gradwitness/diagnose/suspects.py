"""Which backward steps can be at fault: those whose mistake would reach what is refuted, only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.binding import over_complex
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.diagnose.case import Case, Exhibit
    from gradwitness.tape import Edge, Tape

# Backward steps up to which every suspect is tried, and not only those that explain all at once.
FEW = 150

# A claim speaks for its step only if a mistake would have shown: far above its allowance.
_TELLING = 100


def suspects(case: Case) -> tuple[frozenset[int], bool]:
    """Return the nodes that may be at fault, and whether that is all of them.

    A node is suspected for the edges along which no telling claim was found right, if a refuted
    claim lies behind one. On a large tape only the nodes are kept behind whose suspected edges lie
    all refuted claims: one mistake could explain everything.
    """
    assert case.tape is not None  # noqa: S101 (asked of tapes only)
    behind = _behind(case.tape, case.sweep)
    exhibits = case.exhibits
    refuted = frozenset(name for name, e in exhibits.items() if e.refuted)
    right = frozenset(name for name, e in exhibits.items() if _speaks(e))
    every: set[int] = set()
    whole: set[int] = set()
    for node_run in case.tape.sweeps[case.sweep].node_runs:
        reached: frozenset[str] = frozenset()
        for edge in case.tape.nodes[node_run.node].edges:
            names = _names(behind, edge)
            reached |= frozenset() if names & right else names & refuted
        if reached:
            every.add(node_run.node)
        if reached == refuted:
            whole.add(node_run.node)
    if len(case.tape.sweeps[case.sweep].node_runs) <= FEW:
        return frozenset(every), True
    return frozenset(whole or every), not whole or whole == every


def untried(case: Case) -> str:
    """Say what no hypothesis was tried on; empty if everything was.

    To be asked after a diagnosis.
    """
    if case.tape is None or case.replay is None or not case.tape.sweeps:
        return ""
    chosen, complete = suspects(case)
    said = []
    if not complete:
        said.append(
            f"only {len(chosen)} steps were tried as the place of a fault, behind which all "
            "refuted gradients lie; several independent faults may be missed"
        )
    if case.skipped:
        said.append(
            f"not every fault was tried at each of its steps alone: {len(case.skipped)} were left "
            "out for some (faults at all steps of a line were tried)"
        )
    notes = [f"the tape is large: {'; '.join(said)}"] if said else []
    called = (case.tape.nodes[number].call for number in chosen)
    calls = [case.tape.calls[number] for number in called if number is not None]
    count = sum(over_complex(case.tape, call) for call in calls)
    if count:
        notes.append(f"{count} steps have to do with complex numbers: no mistake was tried there")
    return "; ".join(notes)


def behind_inputs(case: Case) -> dict[tuple[int, int], frozenset[str]]:
    """Return, for each input of a node, the leaves whose gradients depend on what arrives there."""
    assert case.tape is not None  # noqa: S101 (asked of tapes only)
    return _behind(case.tape, case.sweep)


def _speaks(exhibit: Exhibit) -> bool:
    """Whether a claim is right, and would hardly be so by chance.

    One of a single axis, a bias, may be: it is a sum, and there are mistakes that keep sums.
    """
    if exhibit.refuted or exhibit.witness.ndim < 2 or not exhibit.witness.size:
        return False
    largest = float(np.max(np.abs(exhibit.witness)))
    return largest > _TELLING * float(np.max(exhibit.allowance))


def _behind(tape: Tape, sweep: int) -> dict[tuple[int, int], frozenset[str]]:
    # Accumulators have no turn where torch.autograd.grad was asked for the gradients.
    found = {(node.id, 0): frozenset({leaf.name}) for node, leaf in tape.leaves()}
    for node_run in reversed(tape.sweeps[sweep].node_runs):
        node = tape.nodes[node_run.node]
        if node.kind == Kind.ACCUMULATE:
            continue
        names = frozenset[str]().union(*(_names(found, edge) for edge in node.edges))
        for index in range(len(node_run.incoming)):
            found[node.id, index] = names
    return found


def _names(behind: dict[tuple[int, int], frozenset[str]], edge: Edge | None) -> frozenset[str]:
    return frozenset() if edge is None else behind.get((edge.node, edge.index), frozenset())
