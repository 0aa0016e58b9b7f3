"""Wrong steps that no gradient feels: their error reaches no leaf, or is multiplied by zeros.

A function that writes into scratch memory may send it anything, if nobody asks for the gradient of
that memory. Such a step is wrong, and the gradients that the user receives are right.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.engine.custom_forwards import with_detached
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.engine.replay import backward_pass
from gradwitness.engine.replay_steps import Steps
from gradwitness.judging.custom.accused import ALONG
from gradwitness.judging.custom.between_inputs import BETWEEN
from gradwitness.judging.custom.tangents import SYMMETRIC
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.note import Note
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.replay import Instead
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Node, Tape

NodeInput = tuple[int, int]

UNFELT = "wrong, but no gradient that was asked for depends on it"
# What is left where numbers cancel: so many roundings of the gradient's largest number, and of each
# element as random errors leave it, which do not cancel.
_ROUNDINGS = 64
# In 16 bits 64 roundings are a quarter: there, no more than this share of it.
_SHARE = 2.0**-6
_OTHERS = 4
_ALONG_SYMMETRIC = f"{ALONG} {SYMMETRIC.name} directions only"
# A pass is run for each wrong step: beyond so many, the rest counts as felt.
_MOST = 64


class Effect(NamedTuple):
    """An error, and what arrives of it where the program asked for gradients.

    Attributes
    ----------
    error, sent : ndarray
        By how much a node sent too much, and what it sent.
    arriving : dict
    """

    error: NDArray[Any]
    sent: NDArray[Any]
    arriving: dict[NodeInput, Any]


class Trusting(Steps):
    """The steps of a replay that takes what some nodes sent as recorded.

    Some others stand for what lies, detached, ``between`` their inputs.
    """

    def __init__(self, nodes: Collection[int | None], between: Collection[int | None] = ()) -> None:
        self._nodes = nodes
        self._between = between

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        if node.id in self._nodes:
            # Nothing of the change that is followed is known beyond it.
            raise Unjudgeable(f"the gradient of {node.name} is judged by slopes")
        if node.id in self._between:
            node = with_detached(tape, node)
        return super().backward(tape, node, incoming, lookup)


def without_unfelt(
    tape: Tape, findings: Sequence[Finding], trusted: Collection[int | None]
) -> tuple[list[Finding], list[Note]]:
    """Return findings in which a wrong step that no gradient feels agrees, and a note about them.

    Parameters
    ----------
    tape : Tape
    findings : sequence of Finding
    trusted : collection of int
        Nodes whose recorded forward does not show what they send.
    """
    wrong = [f for f in findings if f.verdict is Verdict.DISAGREES or f.grade.startswith(ALONG)]
    if not any(_is_custom(tape, f) for f in wrong):
        # Torch's own steps have no scratch memory: what is wrong there is never meant.
        return list(findings), []
    # What looks like a surrogate may be meant: its rule, 0 everywhere, does not stop an error.
    surrogates = (f for f in findings if f.advice and math.isinf(f.comparison.relative_error))
    between = {f.node for f in findings if f.grade == BETWEEN}
    steps = Trusting({*trusted, *(f.node for f in surrogates)}, between)
    sweeps = {f.sweep for f in wrong if f.sweep is not None and not is_seen(tape, f.sweep)}
    unfelt: set[int] = set()
    for sweep in sweeps:
        of_pass = [f for f in wrong if f.sweep == sweep]
        if _nothing_arrives(tape, sweep, of_pass, Trusting(trusted, between)):
            unfelt |= {id(f) for f in of_pass}
    left = [f for f in wrong if f.sweep in sweeps and id(f) not in unfelt]
    effects = {id(f): _effect(tape, f, steps) for f in left[:_MOST]}
    unfelt |= {id(f) for f in left if _vanishes(tape, f, effects.get(id(f)), steps)}
    for sweep in sweeps:
        # By the chain rule, what is wrong at a leaf is the sum of what each wrong step sends there.
        felt = [f for f in left if f.sweep == sweep and id(f) not in unfelt]
        if len(felt) > 1 and _cancel(tape, felt, [effects.get(id(f)) for f in felt], steps):
            unfelt |= {id(f) for f in felt}
    kept = [
        replace(f, comparison=_acquitted(f.comparison)) if id(f) in unfelt else f for f in findings
    ]
    noted = [f for f in wrong if id(f) in unfelt and f.verdict is Verdict.DISAGREES]
    return kept, [_note(noted)] if noted else []


def _acquitted(comparison: Comparison) -> Comparison:
    agrees = Verdict.AGREES
    return replace(comparison, verdict=agrees, reason=UNFELT, refuted=0, probable_ratio=0.0)


def _note(unfelt: list[Finding]) -> Note:
    first = unfelt[0]
    return Note(
        "wrong step without effect",
        f"{listed([f.title for f in unfelt])}: not the derivative of the recorded forward. But the "
        "error reaches no gradient that was asked for, is multiplied by zeros, or cancels.",
        source=first.source,
        node=first.node,
        sweep=first.sweep,
    )


def _nothing_arrives(tape: Tape, sweep: int, findings: Sequence[Finding], steps: Steps) -> bool:
    """Whether no error of a pass's steps reaches a gradient, nor would in other proportions."""
    generator = np.random.default_rng(0)

    def in_proportion(finding: Finding) -> NDArray[Any]:
        error, _ = _error(tape, finding)
        return error * generator.normal(size=error.shape)

    arriving = changes_of(tape, sweep, findings, steps, in_proportion)
    return arriving is not None and not _size(tape, sweep, _at_asked(tape, sweep, arriving))


def changes_of(
    tape: Tape,
    sweep: int,
    findings: Sequence[Finding],
    steps: Steps,
    error: Callable[[Finding], NDArray[Any]],
) -> dict[NodeInput, Any] | None:
    """Return by how much errors of steps have changed what arrives anywhere; None if not known."""
    errors: dict[int, dict[int, NDArray[Any]]] = {}
    try:
        for f in findings:
            if f.node is not None:
                errors.setdefault(f.node, {})[f.tensor_nr] = error(f)
        instead = {number: _sending(tape, number, own, steps) for number, own in errors.items()}
        arriving, unknown = backward_pass(tape, sweep, {}, instead, steps)
    except Unjudgeable:
        return None
    return None if unknown else arriving


def _sending(tape: Tape, number: int, own: dict[int, NDArray[Any]], steps: Steps) -> Instead:
    """Return how a node passes a change on, and adds its own."""
    node = tape.nodes[number]

    def sent(incoming: list[Any]) -> list[Any]:
        passed: Sequence[Any] = [None] * len(node.edges)
        if any(change is not None for change in incoming):
            passed = steps.backward(tape, node, incoming, recorded(tape))
        return [
            own.get(k, 0.0) + (0.0 if p is None else np.asarray(p))
            if k in own or p is not None
            else None
            for k, p in enumerate(passed)
        ]

    return sent


def _effect(tape: Tape, finding: Finding, steps: Steps) -> Effect | None:
    """Return what the error of a step makes of the gradients that the program asked for.

    None if it is not known.
    """
    try:
        error, sent = _error(tape, finding)
    except Unjudgeable:
        return None
    arriving = _spread(tape, finding, error, steps)
    return None if arriving is None else Effect(error, sent, arriving)


def _error(tape: Tape, finding: Finding) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the error of a custom function's step, and what it sent."""
    if finding.node is None or finding.sweep is None or not _is_custom(tape, finding):
        raise Unjudgeable("not the backward of a custom function")
    if finding.grade == _ALONG_SYMMETRIC:
        return _antisymmetric(tape, finding)
    error, sent = error_of(tape, finding.sweep, tape.nodes[finding.node], finding.tensor_nr)
    if not np.max(np.abs(error), initial=0.0) >= finding.comparison.error / 2:
        raise Unjudgeable("something other than torch has written to the numbers since")
    return error, sent


def _antisymmetric(tape: Tape, finding: Finding) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a random error beside all symmetric matrices, along which there is none.

    No record need show it: what a random one does not reach, none reaches.
    """
    runs = tape.sweeps[finding.sweep or 0].node_runs
    number = next(r for r in runs if r.node == finding.node).outgoing[finding.tensor_nr]
    assert number is not None  # noqa: S101 (it is right along some directions)
    sent = recorded(tape)(number)
    drawn = np.max(np.abs(sent)) * np.random.default_rng(0).normal(size=sent.shape)
    return drawn - np.swapaxes(drawn, -1, -2), sent


def is_seen(tape: Tape, sweep: int) -> bool:
    """Whether more than leaves may depend on a pass: hooks of the program, or a graph that it made.

    What hooks do with a gradient is not known, and later passes may differentiate the graph.
    """
    ran = {run.node for run in tape.sweeps[sweep].node_runs}
    own = {number for number in ran if tape.nodes[number].kind != Kind.CUSTOM}
    makes_graph = any(call.node is not None and call.during in own for call in tape.calls)
    return makes_graph or bool(tape.sweeps[sweep].hooks)


def _is_custom(tape: Tape, finding: Finding) -> bool:
    """Whether a finding is about the backward of a custom function."""
    custom = finding.node is not None and tape.nodes[finding.node].kind == Kind.CUSTOM
    return custom and finding.step is Step.BACKWARD


def _spread(
    tape: Tape, finding: Finding, error: NDArray[Any], steps: Steps
) -> dict[NodeInput, Any] | None:
    """Return what arrives of an error where gradients were asked for; None if it is not known."""
    assert finding.node is not None  # noqa: S101 (the caller has looked)
    assert finding.sweep is not None  # noqa: S101
    edges = tape.nodes[finding.node].edges
    sent = [error if k == finding.tensor_nr else None for k in range(len(edges))]
    instead = {finding.node: lambda _: sent}
    arriving, unknown = backward_pass(tape, finding.sweep, {}, instead, steps)
    return None if unknown else _at_asked(tape, finding.sweep, arriving)


def _at_asked(tape: Tape, sweep: int, arriving: dict[NodeInput, Any]) -> dict[NodeInput, Any]:
    """Return what arrives where the program asked for a gradient."""
    return {n: arriving[n] for n in _asked(tape, sweep) if n in arriving}


def _vanishes(tape: Tape, finding: Finding, effect: Effect | None, steps: Steps) -> bool:
    """Whether nothing of a step's error is left, but for rounding."""
    if effect is None:
        return False
    left = _size(tape, finding.sweep, effect.arriving)
    if not 0 < left <= 1:
        return left == 0
    others = _others(tape, finding, effect, steps)
    return others is not None and _is_rounding(tape, finding.sweep, effect.arriving, others)


def _others(
    tape: Tape, finding: Finding, effect: Effect, steps: Steps
) -> dict[NodeInput, Any] | None:
    """Return what is left of random errors, as large as what was wrong and what was sent."""
    generator = np.random.default_rng(0)
    size = np.abs(effect.error) + np.abs(effect.sent)
    most: dict[NodeInput, Any] = {}
    for _ in range(_OTHERS):
        other = _spread(tape, finding, size * generator.normal(size=size.shape), steps)
        if other is None:
            return None
        for input_nr, change in other.items():
            most[input_nr] = np.maximum(most.get(input_nr, 0.0), np.abs(change))
    return most


def _is_rounding(
    tape: Tape, sweep: int | None, left: dict[NodeInput, Any], beside: dict[NodeInput, Any]
) -> bool:
    """Whether each element of what is left is rounding beside the terms that cancelled there."""
    asked = _asked(tape, sweep or 0)
    for input_nr, change in left.items():
        number = asked[input_nr]
        share = 0.0 if number is None else _rounding_share(tape.values[number].dtype)
        if np.any(np.abs(change) > share * beside.get(input_nr, 0.0)):
            return False
    return True


def _cancel(
    tape: Tape,
    findings: list[Finding],
    effects: list[Effect | None],
    steps: Steps,
) -> bool:
    """Whether the errors of several steps cancel at every gradient."""
    total: dict[NodeInput, Any] = {}
    beside: dict[NodeInput, Any] = {}

    def add(changes: dict[NodeInput, Any]) -> None:
        for input_nr, change in changes.items():
            beside[input_nr] = beside.get(input_nr, 0.0) + np.abs(change)

    known = [effect for effect in effects if effect is not None]
    for effect in known:
        add(effect.arriving)
        for input_nr, change in effect.arriving.items():
            total[input_nr] = total.get(input_nr, 0.0) + change
    sweep = findings[0].sweep
    if len(known) < len(effects) or _size(tape, sweep, total) > 1:
        return False
    for finding, effect in zip(findings, known, strict=True):
        add(_others(tape, finding, effect, steps) or {})
    return _is_rounding(tape, sweep, total, beside)


def error_of(
    tape: Tape, sweep: int, node: Node, input_nr: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return by how much a node sent too much to one of its inputs, and what it sent."""
    lookup = recorded(tape)
    node_run = next(run for run in tape.sweeps[sweep].node_runs if run.node == node.id)
    incoming = [None if n is None else lookup(n) for n in node_run.incoming]
    expected = gradients(tape, node, incoming, lookup, None)[input_nr]
    number = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
    sent = 0.0 if number is None else lookup(number)
    with np.errstate(invalid="ignore"):
        error = np.asarray(sent - (0.0 if expected is None else expected))
    if not np.isfinite(error).all() or node.edges.count(node.edges[input_nr]) > 1:
        raise Unjudgeable("not finite, or only part of a sum")
    return error, np.broadcast_to(sent, error.shape)


def _asked(tape: Tape, sweep: int) -> dict[NodeInput, int | None]:
    """Return where a pass gave a gradient to the program, and which."""
    found: dict[NodeInput, int | None] = {
        (node_run.node, 0): node_run.incoming[0]
        for node_run in tape.sweeps[sweep].node_runs
        if tape.nodes[node_run.node].kind == Kind.ACCUMULATE
    }
    return found | {(e.node, e.index): number for e, number in tape.sweeps[sweep].captured}


def _size(tape: Tape, sweep: int | None, changes: dict[NodeInput, Any]) -> float:
    """Return the largest change of gradients, over what rounding may leave of each."""
    asked = _asked(tape, sweep or 0)
    return max((_over_rounding(tape, g, asked[n]) for n, g in changes.items()), default=0.0)


def _rounding_share(dtype: str) -> float:
    return min(_ROUNDINGS * unit_roundoff(dtype), _SHARE)


def _over_rounding(tape: Tape, change: Any, number: int | None) -> float:
    largest = float(np.max(np.abs(change), initial=0.0))
    if not largest or number is None or not is_inexact(tape.values[number].dtype):
        return math.inf if largest else 0.0
    try:
        size = float(np.max(np.abs(recorded(tape)(number)), initial=0.0))
    except Unjudgeable:
        return math.inf
    return largest / (_rounding_share(tape.values[number].dtype) * size) if size else math.inf
