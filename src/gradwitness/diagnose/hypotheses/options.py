"""Mistake: another leaky slope, or a loss without its class weights or label smoothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.losses import LIKELIHOODS
from gradwitness.diagnose.programs import explained_by_program, forward_calls
from gradwitness.diagnose.replayed_faults import Mistake, Trial, aten, explanations, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Visit
    from gradwitness.tape import Call

SLOPE = "another leaky slope"
_LEAKY = aten("leaky_relu")
# Usual slopes; 0 is a ReLU's, which has another hypothesis.
_SLOPES = (0.01, 0.1, 0.2, 0.3, 0.05, 0.25, 0.02, 0.001, 1 / 5.5, 0.15, 0.5)


@on_replay
def other_slopes(trial: Trial) -> Iterator[Explanation]:
    """Explain by a leaky ReLU with another slope, forward and backward or backward alone."""
    calls = [call for call in forward_calls(trial) if call.base_op in _LEAKY]
    sites = list(trial.sites(_LEAKY))
    for tried, slope in enumerate(_SLOPES if calls else (), 1):
        changes: dict[int, dict[str, Any]] = {
            call.id: {"negative_slope": slope}
            for call in calls
            if not np.isclose(_slope(call), slope, rtol=1e-6, atol=0)
        }
        text = f"the claims are those of a leaky ReLU with slope {slope:.4g} at {{place}}"
        for explanation in explained_by_program(trial, SLOPE, text, changes):
            yield dataclasses.replace(explanation, coefficient=slope, freedom=tried)
        text = (
            f"the leaky ReLU at {{place}} multiplies the gradient by {slope:.4g} where its input "
            "was negative, which is not its slope"
        )

        def wrong(visit: Visit, slope: float = slope) -> list[Any]:
            return visit.sending(visit.site.vjp(visit.site.names[0], visit.g, negative_slope=slope))

        for explanation in explanations(trial, Mistake(SLOPE, text, _LEAKY, wrong), sites):
            yield dataclasses.replace(explanation, coefficient=slope, freedom=tried)


def _slope(call: Call) -> float:
    slope = call.arguments.get("negative_slope", 0.01)
    return float(slope) if isinstance(slope, float | int) else np.nan


@on_replay
def loss_options(trial: Trial) -> Iterator[Explanation]:
    """Explain by a cross-entropy without its class weights or label smoothing."""
    weights: dict[int, dict[str, Any]] = {}
    smoothing: dict[int, dict[str, Any]] = {}
    for call in forward_calls(trial):
        if call.base_op in LIKELIHOODS:
            if call.arguments.get("weight") is not None:
                weights[call.id] = {"weight": None}
            smoothing |= _unsmoothed(trial, call)
    yield from explained_by_program(
        trial,
        "class weights ignored",
        "the claims are those of the cross-entropy at {place} without its class weights: all "
        "targets count the same",
        weights,
        singly=False,
    )
    yield from explained_by_program(
        trial,
        "label smoothing ignored",
        "the claims are those of the cross-entropy without label smoothing at {place}",
        smoothing,
        singly=False,
    )


def _unsmoothed(trial: Trial, likelihood: Call) -> dict[int, dict[str, Any]]:
    """Return the changes by which torch's smoothed loss, (1 - s) l + (s / C) m, becomes l."""
    users = _users(trial, likelihood.outputs[0])
    kept = next((call for call in users if _times_a_number(call)), None)
    if kept is None or not 0 < kept.arguments["other"] < 1:  # type: ignore[operator]
        return {}
    for total in _users(trial, kept.outputs[0]):
        others = total.operands
        for number in others if total.base_op == "aten.add" else ():
            other = trial.makers.get(number)
            if other is not None and other is not kept and _times_a_number(other):
                return {kept.id: {"other": 1.0}, other.id: {"other": 0.0}}
    return {}


def _users(trial: Trial, number: int | None) -> list[Call]:
    return [call for call in forward_calls(trial) if number in call.operands]


def _times_a_number(call: Call) -> bool:
    return call.op == "aten.mul.Scalar" and isinstance(call.arguments["other"], float)
