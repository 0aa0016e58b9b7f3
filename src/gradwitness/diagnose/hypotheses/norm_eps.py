"""A normalisation with another eps than the recorded one: the forward pass differs first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.programs import explained_by_program, forward_calls
from gradwitness.diagnose.replayed_faults import Trial
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.tape import Call

ELSEWHERE = "eps elsewhere"
# What libraries and papers take, the commonest first.
_USUAL = (1e-5, 1e-6, 1e-3, 1e-8, 1e-12, 1e-4, 1e-7, 1e-2, 0.1)
_ROOTS = frozenset({"aten.sqrt", "aten.rsqrt"})
_FEW = 6  # normalisations that are tried one by one with each usual eps


def eps_elsewhere(case: Case) -> Iterator[Explanation]:
    """Explain by a normalisation without its eps, with it outside of the root, or with another."""
    trial = Trial.of(case)
    if trial is None:
        return
    places = _places(trial)
    text = "the claims are those of a normalisation "
    none = {number: _changed(at, 0.0) for number, at in places.items()}
    yield from explained_by_program(trial, ELSEWHERE, text + "without eps at {place}", none)
    outside = {
        call.id: {"eps": away}
        for call in forward_calls(trial)
        if call.id in places and (away := _outside(trial, call)) is not None
    }
    yield from explained_by_program(
        trial,
        ELSEWHERE,
        text + "with eps outside of the root at {place}: sqrt(variance) + eps",
        outside,
    )
    for tried, eps in enumerate(_USUAL, 1):
        changes = {
            number: _changed(at, eps)
            for number, at in places.items()
            if not np.isclose(at[1], eps, rtol=1e-6, atol=0)
        }
        words = f"with eps {eps:g} at {{place}}; the recorded one has another"
        yield from _with(trial, text + words, changes, eps, tried)


def _with(
    trial: Trial, text: str, changes: dict[int, dict[str, Any]], eps: float, tried: int
) -> Iterator[Explanation]:
    """Yield one eps at all normalisations, and at each of a few."""
    sets = [changes] if changes else []
    if 1 < len(changes) <= _FEW:
        sets += [{number: change} for number, change in changes.items()]
    for each in sets:
        for made in explained_by_program(trial, ELSEWHERE, text, each, singly=False):
            yield Explanation(
                made.cause,
                made.text,
                made.predicted,
                eps,
                made.place,
                made.node,
                tried,
                reveals=False,
            )


def _places(trial: Trial) -> Mapping[int, tuple[str, float, bool]]:
    """Return where an eps stands: by call, the argument's name, its number, if it is a tensor."""
    found: dict[int, tuple[str, float, bool]] = {}
    calls = forward_calls(trial)
    rooted = {n for c in calls if c.base_op in _ROOTS for n in references(c.arguments["self"])}
    for call in calls:
        eps = call.arguments.get("eps")
        if isinstance(eps, float) and eps > 0:
            found[call.id] = "eps", eps, False
        elif call.base_op == "aten.add" and rooted & set(call.outputs):
            name, argument = list(call.arguments.items())[1]
            if isinstance(argument, float | int):
                found[call.id] = name, float(argument), False
            for number in references(argument):
                if np.ndim(trial.lookup(number)) == 0:
                    found[call.id] = name, float(trial.lookup(number)), True
    return found


def _changed(at: tuple[str, float, bool], eps: float) -> dict[str, Any]:
    name, _, is_tensor = at
    return {name: np.full((), eps) if is_tensor else eps}


def _outside(trial: Trial, call: Call) -> NDArray[np.float64] | None:
    """Return what eps has to be within the root to be what it is outside: 2 s eps + eps^2."""
    rate = call.outputs[2] if len(call.outputs) == 3 else None
    eps = call.arguments["eps"] if rate is not None else None
    if rate is None or call.base_op != "aten.native_layer_norm" or not isinstance(eps, float):
        return None
    inverse = trial.lookup(rate)
    deviation = np.sqrt(np.maximum(1 / inverse**2 - eps, 0))
    return np.asarray(2 * deviation * eps + eps * eps)
