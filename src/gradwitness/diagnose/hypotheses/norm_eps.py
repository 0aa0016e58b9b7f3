"""Mistake: a normalisation has another eps, none, or one outside the square root."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.programs import explained_by_program, forward_calls
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Explanation
    from gradwitness.tape import Call

ELSEWHERE = "eps elsewhere"
# Usual values, the most common first.
_USUAL = (1e-5, 1e-6, 1e-3, 1e-8, 1e-12, 1e-4, 1e-7, 1e-2, 0.1)
_ROOTS = aten("sqrt rsqrt")
_FEW = 6  # up to this many normalisations are tried one by one with each usual eps


@on_replay
def eps_elsewhere(trial: Trial) -> Iterator[Explanation]:
    """Explain by a normalisation without eps, with eps outside the root, or with another eps."""
    eps_arguments = _eps_arguments(trial)
    claims = "the gradient is that" if trial.case.alone else "the claims are those"
    text = f"{claims} of a normalisation "
    without = {number: _changed(argument, 0.0) for number, argument in eps_arguments.items()}
    yield from explained_by_program(trial, ELSEWHERE, text + "without eps at {place}", without)
    outside = {
        call.id: {"eps": inner}
        for call in forward_calls(trial)
        if call.id in eps_arguments and (inner := _outside(trial, call)) is not None
    }
    yield from explained_by_program(
        trial,
        ELSEWHERE,
        text + "with eps outside the root at {place}: sqrt(variance) + eps",
        outside,
    )
    for tried, eps in enumerate(_USUAL, 1):
        changes = {
            number: _changed(argument, eps)
            for number, argument in eps_arguments.items()
            if not np.isclose(argument[1], eps, rtol=1e-6, atol=0)
        }
        suffix = f"with eps {eps:g} at {{place}}; the recorded eps is different"
        yield from _with_eps(trial, text + suffix, changes, eps, tried)


def _with_eps(
    trial: Trial, text: str, changes: dict[int, dict[str, Any]], eps: float, tried: int
) -> Iterator[Explanation]:
    """Yield one eps at all normalisations and, if they are few, at each."""
    sets = [changes] if changes else []
    if 1 < len(changes) <= _FEW:
        sets += [{number: change} for number, change in changes.items()]
    for chosen in sets:
        for explanation in explained_by_program(trial, ELSEWHERE, text, chosen, singly=False):
            yield dataclasses.replace(explanation, coefficient=eps, freedom=tried, reveals=False)


def _eps_arguments(trial: Trial) -> Mapping[int, tuple[str, float, bool]]:
    """Return the eps arguments by call: name, value, and whether it is a tensor."""
    eps_arguments: dict[int, tuple[str, float, bool]] = {}
    calls = forward_calls(trial)
    rooted = {n for c in calls if c.base_op in _ROOTS for n in references(c.arguments["self"])}
    for call in calls:
        eps = call.arguments.get("eps")
        if isinstance(eps, float) and eps > 0:
            eps_arguments[call.id] = "eps", eps, False
        elif call.base_op == "aten.add" and rooted & set(call.outputs):
            name, argument = list(call.arguments.items())[1]
            if isinstance(argument, float | int):
                eps_arguments[call.id] = name, float(argument), False
            for number in references(argument):
                if np.ndim(trial.lookup(number)) == 0:
                    eps_arguments[call.id] = name, float(trial.lookup(number)), True
    return eps_arguments


def _changed(argument: tuple[str, float, bool], eps: float) -> dict[str, Any]:
    name, _, is_tensor = argument
    return {name: np.full((), eps) if is_tensor else eps}


def _outside(trial: Trial, call: Call) -> NDArray[np.float64] | None:
    """Return the eps inside the root that equals eps outside it: 2 s eps + eps^2."""
    rate = call.outputs[2] if len(call.outputs) == 3 else None
    eps = call.arguments["eps"] if rate is not None else None
    if rate is None or call.base_op != "aten.native_layer_norm" or not isinstance(eps, float):
        return None
    inverse = trial.lookup(rate)
    deviation = np.sqrt(np.maximum(1 / inverse**2 - eps, 0))
    return np.asarray(2 * deviation * eps + eps * eps)
