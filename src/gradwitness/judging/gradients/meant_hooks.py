"""Gradients that a hook changed, against what the hook was declared to do.

What no hook declares is judged by the record, if that is complete. Where numbers left autograd's
sight before the tensor that a hook is on, the hook may send what the record leaves out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.engine.floats import Arithmetic, gamma, is_inexact
from gradwitness.engine.forward import numbers, run
from gradwitness.judging import sight
from gradwitness.judging.comparing.comparison import SHARE, Comparison, unjudged
from gradwitness.judging.comparing.fan_in import total
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.rules.declarations import meant_hooks
from gradwitness.tape import AFTERWARDS, LEAVING
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.records import Records
    from gradwitness.rules.declarations import MeantHook
    from gradwitness.tape import NodeRun, Sweep, Tape

HOOK = "declared by the program: the hook"
GRADE = f"{HOOK} {{place}} sends {{text}}; normwise"
CHANGED = "a hook changed it"
_INCOMPLETE = (
    f"{CHANGED}, and may stand for what autograd does not see ({{way}} at {{line}}), as in "
    "implicit differentiation: declare what it is meant to send"
)
_FOUND_BEFORE = (
    f"{CHANGED}, and may stand for what this record does not hold: its tensor nearly equals one "
    "that came from outside, as the result of a solver that ran before would, or outside torch: "
    "declare what it is meant to send"
)
# How near two tensors are of which a solver found one: its equation gives the other.
_NEAR = 2.0**-6
# Roundings that a hook may take beyond those of its formula, relative to the largest number.
_ROUNDINGS = 8


# By pass, node, step, and input or edge of the node.
Hooked: TypeAlias = (
    "Mapping[tuple[int | None, int | None, Step, int | None], tuple[Comparison, str]]"
)


def as_meant(finding: Finding, hooks: Hooked) -> Finding:
    """Return a finding where a hook changed a gradient, with the judgement of that hook."""
    key = (finding.sweep, finding.node, finding.step, finding.tensor_nr)
    if key not in hooks:
        return finding
    comparison, grade = hooks[key]
    return replace(finding, comparison=comparison, grade=grade, advice="")


def unknown_hooks(tape: Tape, findings: Sequence[Finding], records: Records) -> Hooked:
    """Return the doubts about what undeclared hooks made, where the record is not complete."""
    wrong = {
        (f.sweep, f.node, f.step, f.tensor_nr) for f in findings if f.verdict is Verdict.DISAGREES
    }
    cut = list(sight.leaks(tape, {leaf.id for _, leaf in tape.leaves()})) if wrong else []
    found: dict[tuple[int | None, int | None, Step, int | None], tuple[Comparison, str]] = {}
    for number, sweep in enumerate(tape.sweeps):
        for edge, text in sweep.hooks:
            key = (number, edge.node, Step.FAN_IN, edge.index)
            if key not in wrong or text.startswith((LEAVING, AFTERWARDS)):
                continue
            tensor = tape.nodes[edge.node].outputs[edge.index]
            of = sight.needed(tape, {tensor})
            call = next((call for call in cut if not of.isdisjoint(sight.made(call))), None)
            if call is not None:
                reason = _INCOMPLETE.format(way=sight.way(call), line=Path(call.source.line).name)
                found[key] = (unjudged(reason), "")
            elif _found_before(tape, tensor, of, records):
                found[key] = (unjudged(_FOUND_BEFORE), "")
    return found


def _found_before(tape: Tape, tensor: int | None, of: set[int], records: Records) -> bool:
    """Whether a tensor nearly equals one from outside that it was made of: a fixed point."""
    if tensor is None or tape.values[tensor].array is None:
        return False
    made = {n for call in tape.calls for n in sight.made(call)}
    leaves = {leaf.id for _, leaf in tape.leaves()}
    z = tape.values[tensor]
    for number in of - made - leaves:
        value = tape.values[number]
        if value.shape == z.shape and is_inexact(value.dtype) and value.array is not None:
            gap = float(np.linalg.norm((records(tensor) - records(number)).ravel()))
            if gap <= _NEAR * float(np.linalg.norm(records(number).ravel())):
                return True
    return False


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


class _Change(NamedTuple):
    """What a hook made of a gradient.

    ``before`` computes what it got, ``tensor`` is the one whose gradient it is.
    """

    step: Step
    at: int
    made: int
    before: Callable[[Arithmetic], Any]
    tensor: int | None


def judged_hooks(tape: Tape, records: Records) -> Hooked:
    """Return the judgement of what declared hooks made, with its grade."""
    found: dict[tuple[int | None, int | None, Step, int | None], tuple[Comparison, str]] = {}
    for number, sweep in enumerate(tape.sweeps):
        for node, change, declared in _changes(tape, records, sweep):
            try:
                expected = _expected(tape, records, change, declared)
                comparison = records.against(change.made, expected)
            except Unjudgeable as reason:
                comparison = unjudged(str(reason), tape.values[change.made].array)
            said = (GRADE.format(place=h.place.text, text=h.text) for h in declared)
            found[number, node, change.step, change.at] = (comparison, "; ".join(said))
    return found


def hook_errors(
    tape: Tape, records: Records, sweep: Sweep
) -> dict[tuple[int, Step, int], NDArray[Any]]:
    """Return how far what declared hooks made is off, by node, step, and input or edge.

    What they made of a ``.grad`` goes nowhere.
    """
    found = {}
    changes = _changes(tape, records, sweep)
    for node, change, declared in (c for c in changes if c[1].step is not Step.ACCUMULATE):
        with suppress(Unjudgeable):
            expected = _expected(tape, records, change, declared)
            error = far_off(records(change.made), expected.value)
            if error is not None:
                found[node, change.step, change.at] = error
    return found


def far_off(numbers: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any] | None:
    """Return an error that hides under the largest number; None if each number is right by itself.

    A tenth counts, as of the largest number.
    """
    error = numbers - expected
    return error if np.any(np.abs(error) > SHARE * np.abs(expected)) else None


def _changes(
    tape: Tape, records: Records, sweep: Sweep
) -> Iterator[tuple[int, _Change, Sequence[MeantHook]]]:
    """Yield what declared hooks made in a pass, with the node and the hooks."""
    runs = {run.node: run for run in sweep.node_runs}
    for when, changes in (("", _arriving), (LEAVING, _leaving), (AFTERWARDS, _accumulated)):
        for (node, index), declared in meant_hooks(sweep, when).items():
            if node in runs:
                for change in changes(tape, records, sweep, runs[node], index):
                    yield node, change, declared


def _arriving(
    tape: Tape, records: Records, sweep: Sweep, node_run: NodeRun, index: int
) -> Iterator[_Change]:
    """Yield what arrived at an input of a node: before, the sum of what was sent."""
    arrived, output = node_run.incoming[index], tape.nodes[node_run.node].outputs[index]
    if arrived is None:
        return
    at = (node_run.node, index)
    seeds = [seed for edge, seed in sweep.roots if (edge.node, edge.index) == at]
    terms = [seed for seed in seeds if seed is not None]
    for sender in sweep.node_runs:
        for edge, sent in zip(tape.nodes[sender.node].edges, sender.outgoing, strict=False):
            if edge is not None and sent is not None and (edge.node, edge.index) == at:
                terms.append(sent)

    def before(_: Arithmetic) -> Any:
        if output is None:
            raise Unjudgeable("the tensor of a declared hook was not recorded")
        return total(tape, records, terms, seeds.count(None), output)

    yield _Change(Step.FAN_IN, index, arrived, before, output)


def _leaving(
    tape: Tape, records: Records, _: Sweep, node_run: NodeRun, __: int
) -> Iterator[_Change]:
    """Yield all that a node sent: before, what the rules say."""
    node = tape.nodes[node_run.node]

    def before(input_nr: int, arithmetic: Arithmetic) -> Any:
        incoming = [None if n is None else records.exact(n, arithmetic) for n in node_run.incoming]
        sent = gradients(tape, node, incoming, records, arithmetic)[input_nr]
        if sent is None:
            raise Unjudgeable(f"{node.name} sends no gradient for a declared hook to change")
        return sent

    for input_nr, made in enumerate(node_run.outgoing):
        if made is not None:
            tensor = edge_value(tape, node.edges[input_nr])
            yield _Change(Step.BACKWARD, input_nr, made, partial(before, input_nr), tensor)


def _accumulated(
    tape: Tape, records: Records, sweep: Sweep, node_run: NodeRun, _: int
) -> Iterator[_Change]:
    """Yield the ``.grad`` of a leaf: before, the sum of what it was and what arrived."""
    arrived = node_run.incoming[0]
    update = next((u for u in sweep.leaves if u.node == node_run.node), None)
    if update is None or update.after is None or arrived is None:
        return
    terms = [n for n in (update.before, arrived) if n is not None]
    leaf = tape.nodes[node_run.node].leaf
    before = partial(total, tape, records, terms, 0, arrived)
    yield _Change(Step.ACCUMULATE, 0, update.after, lambda _: before(), leaf)


def _expected(tape: Tape, records: Records, change: _Change, hooks: Sequence[MeantHook]) -> Any:
    """Return what a gradient should be after every declared hook."""
    dtype = tape.values[change.made].dtype
    arithmetic = Arithmetic.stepwise(dtype)
    got = change.before(arithmetic)
    g = got if isinstance(got, Bounded) else Bounded(np.asarray(got), arithmetic)
    for hook in hooks:
        whose = f"the declared hook {hook.place.text}"
        given: list[Any] = [g]
        if hook.takes_tensor:
            if change.tensor is None:
                raise Unjudgeable("the tensor of a declared hook was not recorded")
            given.append(records.exact(change.tensor, arithmetic))
        given = [array.value for array in given] if hook.tolerance else given
        made: Any = numbers(whose, run(whose, hook.function, *given), dtype, arithmetic)
        if made.shape != g.shape:
            raise Unjudgeable(f"{whose} gives shape {made.shape}, but g has shape {g.shape}")
        share = hook.tolerance or gamma(_ROUNDINGS, arithmetic.unit)
        allowed = np.full(made.shape, share * largest(made.value))
        errors = [allowed if e is None else e + allowed for e in made.errors]
        g = Bounded(made.value, arithmetic, *errors)
    return g
