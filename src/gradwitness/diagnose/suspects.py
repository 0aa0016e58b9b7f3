"""The suspects: backward steps whose mistake would reach refuted gradients, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.binding import over_complex
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.diagnose.case import Case, Exhibit
    from gradwitness.tape import Edge, Tape

# Up to this many backward steps, every suspect is tried, not only those that explain everything.
FEW = 150

# A right claim clears its step only if a mistake would have shown: far above its allowance.
_CLEARING = 100


def suspects(case: Case) -> tuple[frozenset[int], bool]:
    """Return the nodes that may be at fault, and whether those are all of them.

    A node is a suspect if a refuted claim lies behind one of its edges, and no right claim behind
    that edge clears it. On a large tape only nodes are kept that all refuted claims lie behind: one
    mistake there could explain everything.
    """
    assert case.tape is not None  # noqa: S101 (asked of tapes only)
    behind = _behind(case.tape, case.sweep)
    exhibits = case.exhibits
    refuted = frozenset(name for name, e in exhibits.items() if e.refuted)
    clearing = frozenset(name for name, e in exhibits.items() if _clears(e))
    all_suspects: set[int] = set()
    reach_all: set[int] = set()
    for node_run in case.tape.sweeps[case.sweep].node_runs:
        reached: frozenset[str] = frozenset()
        for edge in case.tape.nodes[node_run.node].edges:
            names = _names(behind, edge)
            reached |= frozenset() if names & clearing else names & refuted
        if reached:
            all_suspects.add(node_run.node)
        if reached == refuted:
            reach_all.add(node_run.node)
    if len(case.tape.sweeps[case.sweep].node_runs) <= FEW:
        return frozenset(all_suspects), True
    return frozenset(reach_all or all_suspects), not reach_all or reach_all == all_suspects


def untried(case: Case) -> str:
    """Return a note on what a diagnosis has not tried; empty if it tried everything."""
    if case.tape is None or case.replay is None or not case.tape.sweeps:
        return ""
    chosen, complete = suspects(case)
    limits = []
    if not complete:
        limits.append(
            f"only the {len(chosen)} steps that all refuted gradients lie behind were tried; "
            "several independent mistakes may be missed"
        )
    if case.skipped:
        limits.append(
            f"{len(case.skipped)} steps were not tried one by one with every mistake (mistakes at "
            "all steps of a line were tried)"
        )
    notes = [f"the recording is large: {'; '.join(limits)}"] if limits else []
    call_numbers = (case.tape.nodes[number].call for number in chosen)
    calls = [case.tape.calls[number] for number in call_numbers if number is not None]
    count = sum(over_complex(case.tape, call) for call in calls)
    if count:
        notes.append(f"{count} steps involve complex numbers, and no mistakes were tried there")
    return "; ".join(notes)


def behind_inputs(case: Case) -> dict[tuple[int, int], frozenset[str]]:
    """Return, for each input of a node, the leaves whose gradients depend on its cotangent."""
    assert case.tape is not None  # noqa: S101 (asked of tapes only)
    return _behind(case.tape, case.sweep)


def _clears(exhibit: Exhibit) -> bool:
    """Whether a claim is right, and hardly so by chance.

    A tensor with a single axis may be right by chance: a bias's gradient is a sum, which some
    mistakes leave right.
    """
    if exhibit.refuted or exhibit.witness.ndim < 2 or not exhibit.witness.size:
        return False
    largest = float(np.max(np.abs(exhibit.witness)))
    return largest > _CLEARING * float(np.max(exhibit.allowance))


def _behind(tape: Tape, sweep: int) -> dict[tuple[int, int], frozenset[str]]:
    # Accumulators do not run where torch.autograd.grad computed the gradients.
    behind = {(node.id, 0): frozenset({leaf.name}) for node, leaf in tape.leaves()}
    for node_run in reversed(tape.sweeps[sweep].node_runs):
        node = tape.nodes[node_run.node]
        if node.kind == Kind.ACCUMULATE:
            continue
        names = frozenset[str]().union(*(_names(behind, edge) for edge in node.edges))
        for index in range(len(node_run.incoming)):
            behind[node.id, index] = names
    return behind


def _names(behind: dict[tuple[int, int], frozenset[str]], edge: Edge | None) -> frozenset[str]:
    return frozenset() if edge is None else behind.get((edge.node, edge.index), frozenset())
