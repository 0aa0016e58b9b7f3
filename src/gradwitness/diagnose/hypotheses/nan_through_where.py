"""NaN that is 0 times infinity, from elements that a where, a mask or an index does not select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import named, refuted
from gradwitness.diagnose.replayed_faults import Trial
from gradwitness.engine.backward import unbroadcast
from gradwitness.engine.forward import run
from gradwitness.engine.masked_elements import CURE, SELECTING, THROUGH_WHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Visit, Wrong

    Array = NDArray[Any]
    Predicted = Mapping[str, NDArray[np.float64]]
    Faults = list[tuple[Site, Wrong]]

OVERFLOW = "overflow"
_GUARDS = SELECTING | {"aten.index", "aten.masked_select", "aten.maximum", "aten.minimum"}


def through_where(case: Case) -> Iterator[Explanation]:
    """Explain NaN by 0 times an infinite derivative where a step does not select."""
    if not any(np.isnan(exhibit.claim).any() for exhibit in refuted(case)):
        return
    trial = Trial.of(case)
    if trial is None:
        return
    sites = list(trial.sites())
    guards = [s for s in sites if s.op in _GUARDS and s.node.id in trial.suspects]
    every: list[tuple[Site, str, Faults]] = []
    for guard in guards:
        found = list(_unguarded(trial, guard, sites))
        every += [(guard, op, faults) for op, faults in found]
        for op, faults in [*found, *_unselected(trial, guard)]:
            yield from _explained(trial, [(guard, op, faults)])
    if len({guard.node.id for guard, _, _ in every}) > 1:
        yield from _explained(trial, every)


def _explained(trial: Trial, chosen: list[tuple[Site, str, Faults]]) -> Iterator[Explanation]:
    predicted = trial.with_faults([fault for _, _, faults in chosen for fault in faults])
    if not predicted:
        return
    places = dict.fromkeys(guard.place for guard, _, _ in chosen)
    place = ", ".join(places)
    place = place if len(places) == 1 else f"{len(places)} steps: {place}"
    node = chosen[0][0].node.id if len(chosen) == 1 else None
    text = _told(trial.case, chosen, predicted)
    yield Explanation(THROUGH_WHERE, text, predicted, place=place, node=node, reveals=False)
    told = f"a step behind {place} sends more than its format can hold, as in 16 bits"
    yield Explanation(OVERFLOW, told, predicted, place=place, node=node, reveals=False)


def _told(case: Case, chosen: list[tuple[Site, str, Faults]], predicted: Predicted) -> str:
    total = sum(int(np.isnan(e.claim).sum()) for e in refuted(case))
    count = sum(int(np.isnan(p).sum()) for p in predicted.values())
    ops = named(dict.fromkeys(op for _, op, _ in chosen if op))
    what = f"the derivative of {ops} is infinite" if ops else "there is no derivative"
    guards = named(dict.fromkeys(f"{guard.op} at {guard.place}" for guard, _, _ in chosen))
    return (
        f"{count} of {total} NaN in the claims are just where NaN arrives if {what} at the "
        f"elements that are left out by {guards}. {CURE}."
    )


# The recorded program is safe: its guard keeps the argument of an operation where it is finite.


def _unguarded(trial: Trial, guard: Site, sites: list[Site]) -> Iterator[tuple[str, Faults]]:
    """Yield what comes of computing an operation at the elements, too, that a guard keeps out."""
    made = guard.call.outputs[0]
    for user in sites:
        for operand, number in user.numbers.items():
            if user is guard or operand not in user.names or trial.origin(number) != made:
                continue
            for edge, name in enumerate(guard.names):
                faults = _computed_everywhere(guard, edge, name, user, operand)
                if faults:
                    yield user.op, faults


def _computed_everywhere(guard: Site, edge: int, name: str, user: Site, operand: str) -> Faults:
    x = guard.operands[name]
    if guard.node.edges[edge] is None or not isinstance(x, np.ndarray):
        return []
    nothing = _of_nothing(user, {operand: x})
    if not np.isnan(nothing.get(operand, 0.0)).any():
        return []

    def passing(visit: Visit) -> list[Any] | None:
        return visit.sending(visit.sent[edge] + nothing[operand], edge)

    def computing(visit: Visit) -> list[Any]:
        also = [nothing[n] if n != operand else 0.0 for n in user.names]
        return [
            s + add if s is not None and np.shape(add) in ((), np.shape(s)) else s
            for s, add in zip(visit.sent, also, strict=True)
        ]

    return [(user, computing), (guard, passing)]


def _of_nothing(user: Site, changed: dict[str, Array]) -> dict[str, Array]:
    """Return what an operation on other operands sends if zeros arrive: 0, or NaN."""
    operands = {**user.operands, **changed}
    found: dict[str, Array] = {}
    try:
        y = run("the rule", user.rule.function, *operands.values(), **user.parameters)
        if isinstance(y, tuple):
            return {}
        for name in user.names:
            rule, given = user.rule.gradients[name], tuple(operands.values())
            g = run("the vjp", rule, np.zeros_like(y), y, given, user.parameters)
            found[name] = np.where(np.isnan(g), np.nan, 0.0)
            found[name] = np.asarray(unbroadcast(found[name], np.shape(operands[name])))
    except (Unjudgeable, ValueError, IndexError, TypeError):
        return {}
    return found


# The operation's derivative is finite by torch's convention, or by a formula that the claims do
# not use: then NaN lies at all elements that are not selected.


def _unselected(trial: Trial, guard: Site) -> Iterator[tuple[str, Faults]]:
    """Yield what comes of NaN wherever a guard selects nothing, if that is not everywhere."""
    for edge, name in enumerate(guard.names):
        if guard.node.edges[edge] is None:
            continue
        try:
            dropped = guard.vjp(name, np.ones_like(guard.y)) == 0
        except Unjudgeable:
            continue
        if not dropped.any() or dropped.all():
            continue

        def spoiled(where: Array, edge: int = edge) -> Faults:
            return [
                (
                    guard,
                    lambda visit: visit.sending(np.where(where, np.nan, visit.sent[edge]), edge),
                )
            ]

        predicted, whole = (trial.with_faults(spoiled(w)) for w in (dropped, np.ones_like(dropped)))
        # An overflow there would look the same if nothing comes through unharmed.
        if any(not np.array_equal(np.isnan(p), np.isnan(whole[n])) for n, p in predicted.items()):
            yield "", spoiled(dropped)
