"""Gradients that a hook changed, against what the hook was declared to do.

What no hook declares is judged by the record, if that is complete. Where numbers left autograd's
sight before the tensor that a hook is on, the hook may send what the record leaves out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, gamma
from gradwitness.engine.forward import numbers, run
from gradwitness.judging.carried_bounds import total
from gradwitness.judging.comparison import Comparison, unjudged
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.judging.records import largest
from gradwitness.judging.sight import leaks, made, needed, way
from gradwitness.rules.declarations import meant_hooks
from gradwitness.tape import LEAVING
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.judging.records import Records
    from gradwitness.rules.declarations import MeantHook
    from gradwitness.tape import Sweep, Tape

GRADE = "declared by the program: the hook {place} sends {text}; normwise"
CHANGED = "a hook changed it"
_INCOMPLETE = (
    f"{CHANGED}, and may stand for what autograd does not see ({{way}} at {{line}}), as in "
    "implicit differentiation: declare what it is meant to send"
)
# Roundings that a hook may take beyond those of its formula, relative to the largest number.
_ROUNDINGS = 8


Hooked: TypeAlias = "Mapping[tuple[int | None, int | None, int], tuple[Comparison, str]]"


def as_meant(finding: Finding, hooks: Hooked) -> Finding:
    """Return a finding where a hook changed what arrives, with the judgement of that hook."""
    key = (finding.sweep, finding.node, finding.tensor_nr)
    if finding.step is not Step.FAN_IN or key not in hooks:
        return finding
    comparison, grade = hooks[key]
    return replace(finding, comparison=comparison, grade=grade)


def unknown_hooks(tape: Tape, findings: Sequence[Finding]) -> Hooked:
    """Return the doubts about what undeclared hooks made, where the record is not complete."""
    wrong = {
        (f.sweep, f.node, f.tensor_nr)
        for f in findings
        if f.step is Step.FAN_IN and f.verdict is Verdict.DISAGREES
    }
    cut = list(leaks(tape, {leaf.id for _, leaf in tape.leaves()})) if wrong else []
    found: dict[tuple[int | None, int | None, int], tuple[Comparison, str]] = {}
    for number, sweep in enumerate(tape.sweeps):
        for edge, text in sweep.hooks:
            key = (number, edge.node, edge.index)
            if key not in wrong or text.startswith(LEAVING):
                continue
            of = needed(tape, {tape.nodes[edge.node].outputs[edge.index]})
            call = next((call for call in cut if not of.isdisjoint(made(call))), None)
            if call is not None:
                reason = _INCOMPLETE.format(way=way(call), line=Path(call.source.line).name)
                found[key] = (unjudged(reason), "")
    return found


def behind_hooks(row: Row, records: Records) -> Comparison:
    """Return the comparison of a gradient in a pass with declared hooks.

    What was carried to it from before a hook says nothing: the steps on its way decide.
    """
    if row.comparison.verdict is not Verdict.DISAGREES or row.value is None:
        return row.comparison
    try:
        return records.against(row.value, records.exact(row.value))
    except Unjudgeable as reason:
        return unjudged(str(reason))


def judged_hooks(tape: Tape, records: Records) -> Hooked:
    """Return the judgement of what declared hooks made, by pass, node and input, with its grade."""
    found: dict[tuple[int | None, int | None, int], tuple[Comparison, str]] = {}
    for number, sweep in enumerate(tape.sweeps):
        hooks = meant_hooks(sweep)
        for node_run in sweep.node_runs if hooks else ():
            for index, arrived in enumerate(node_run.incoming):
                declared = hooks.get((node_run.node, index))
                if declared is None or arrived is None:
                    continue
                try:
                    expected = _expected(tape, records, sweep, (node_run.node, index), declared)
                    comparison = records.against(arrived, expected)
                except Unjudgeable as reason:
                    comparison = unjudged(str(reason), tape.values[arrived].array)
                said = [GRADE.format(place=hook.place.text, text=hook.text) for hook in declared]
                found[number, node_run.node, index] = (comparison, "; ".join(said))
    return found


def _expected(
    tape: Tape,
    records: Records,
    sweep: Sweep,
    at: tuple[int, int],
    hooks: Sequence[MeantHook],
) -> Any:
    """Return what should arrive: the sum of what was sent, through every declared hook."""
    seeds = [seed for edge, seed in sweep.roots if (edge.node, edge.index) == at]
    terms = [seed for seed in seeds if seed is not None]
    for node_run in sweep.node_runs:
        for edge, sent in zip(tape.nodes[node_run.node].edges, node_run.outgoing, strict=False):
            if edge is not None and sent is not None and (edge.node, edge.index) == at:
                terms.append(sent)
    output = tape.nodes[at[0]].outputs[at[1]]
    if output is None:
        raise Unjudgeable("the tensor of a declared hook was not recorded")
    dtype = tape.values[output].dtype
    arithmetic = Arithmetic.stepwise(dtype)
    summed = total(tape, records, terms, seeds.count(None), output)
    g = summed if isinstance(summed, Bounded) else Bounded(np.asarray(summed), arithmetic)
    for hook in hooks:
        whose = f"the declared hook {hook.place.text}"
        bounded = [g, records.exact(output, arithmetic)][: 2 if hook.takes_tensor else 1]
        given = [array.value if hook.tolerance else array for array in bounded]
        made: Any = numbers(whose, run(whose, hook.function, *given), dtype, arithmetic)
        if made.shape != g.shape:
            raise Unjudgeable(f"{whose} gives shape {made.shape}, but g has shape {g.shape}")
        share = hook.tolerance or gamma(_ROUNDINGS, arithmetic.unit)
        allowed = np.full(made.shape, share * largest(made.value))
        errors = [allowed if e is None else e + allowed for e in made.errors]
        g = Bounded(made.value, arithmetic, *errors)
    return g
