"""Mistake: 0 times infinity gives NaN where a where, mask or index does not select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import refuted
from gradwitness.diagnose.replayed_faults import Trial, on_replay
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
    Mistakes = list[tuple[Site, Wrong]]

OVERFLOW = "overflow"
_GUARDS = SELECTING | {"aten.index", "aten.masked_select", "aten.maximum", "aten.minimum"}


@on_replay
def through_where(trial: Trial) -> Iterator[Explanation]:
    """Explain NaN by 0 times an infinite derivative at elements that are not selected."""
    if not any(np.isnan(exhibit.claim).any() for exhibit in refuted(trial.case)):
        return
    sites = list(trial.sites())
    guards = [s for s in sites if s.op in _GUARDS and s.node.id in trial.suspects]
    all_guards: list[tuple[Site, str, Mistakes]] = []
    for guard in guards:
        unguarded = list(_unguarded(trial, guard, sites))
        all_guards += [(guard, op, mistakes) for op, mistakes in unguarded]
        for op, mistakes in [*unguarded, *_unselected(trial, guard)]:
            yield from _explained(trial, [(guard, op, mistakes)])
    if len({guard.node.id for guard, _, _ in all_guards}) > 1:
        yield from _explained(trial, all_guards)


def _explained(trial: Trial, evidence: list[tuple[Site, str, Mistakes]]) -> Iterator[Explanation]:
    predicted = trial.with_mistakes([m for _, _, mistakes in evidence for m in mistakes])
    if not predicted:
        return
    places = dict.fromkeys(guard.place for guard, _, _ in evidence)
    place = ", ".join(places)
    place = place if len(places) == 1 else f"{len(places)} steps: {place}"
    node = evidence[0][0].node.id if len(evidence) == 1 else None
    text = _text(trial.case, evidence, predicted)
    yield Explanation(THROUGH_WHERE, text, predicted, place=place, node=node, reveals=False)
    overflow_text = f"a step behind {place} overflows its format, such as float16"
    yield Explanation(OVERFLOW, overflow_text, predicted, place=place, node=node, reveals=False)


def _text(case: Case, evidence: list[tuple[Site, str, Mistakes]], predicted: Predicted) -> str:
    total = sum(int(np.isnan(e.claim).sum()) for e in refuted(case))
    count = sum(int(np.isnan(p).sum()) for p in predicted.values())
    ops = listed(dict.fromkeys(op for _, op, _ in evidence if op))
    reason = f"the derivative of {ops} is infinite" if ops else "the derivative is undefined"
    guards = listed(dict.fromkeys(f"{guard.op} at {guard.place}" for guard, _, _ in evidence))
    return (
        f"{count} of {total} NaN in the claims are exactly where NaN arrives if {reason} at the "
        f"elements not selected by {guards}. {CURE}."
    )


# The recorded program is safe: its guard keeps the operation's argument in the finite range.


def _unguarded(trial: Trial, guard: Site, sites: list[Site]) -> Iterator[tuple[str, Mistakes]]:
    """Yield the mistakes of computing an operation also at the elements that a guard excludes."""
    guarded = guard.call.outputs[0]
    for user in sites:
        for operand, number in user.numbers.items():
            if user is guard or operand not in user.names or trial.origin(number) != guarded:
                continue
            for edge, name in enumerate(guard.names):
                mistakes = _computed_everywhere(guard, edge, name, user, operand)
                if mistakes:
                    yield user.op, mistakes


def _computed_everywhere(guard: Site, edge: int, name: str, user: Site, operand: str) -> Mistakes:
    x = guard.operands[name]
    if guard.node.edges[edge] is None or not isinstance(x, np.ndarray):
        return []
    nan_or_zero = _of_nothing(user, {operand: x})
    if not np.isnan(nan_or_zero.get(operand, 0.0)).any():
        return []

    def passing(visit: Visit) -> list[Any] | None:
        return visit.sending(visit.sent[edge] + nan_or_zero[operand], edge)

    def computing(visit: Visit) -> list[Any]:
        extra = [nan_or_zero[n] if n != operand else 0.0 for n in user.names]
        return [
            s + add if s is not None and np.shape(add) in ((), np.shape(s)) else s
            for s, add in zip(visit.sent, extra, strict=True)
        ]

    return [(user, computing), (guard, passing)]


def _of_nothing(user: Site, changed: dict[str, Array]) -> dict[str, Array]:
    """Return what an operation on other operands sends for a zero cotangent: 0 or NaN."""
    operands = {**user.operands, **changed}
    gradients: dict[str, Array] = {}
    try:
        y = run("the rule", user.rule.function, *operands.values(), **user.parameters)
        if isinstance(y, tuple):
            return {}
        for name in user.names:
            rule, given = user.rule.gradients[name], tuple(operands.values())
            g = run("the vjp", rule, np.zeros_like(y), y, given, user.parameters)
            gradients[name] = np.where(np.isnan(g), np.nan, 0.0)
            gradients[name] = np.asarray(unbroadcast(gradients[name], np.shape(operands[name])))
    except (Unjudgeable, ValueError, IndexError, TypeError):
        return {}
    return gradients


# The operation's derivative is finite by torch's convention, or by a formula that the claims do
# not use: then all elements that are not selected are NaN.


def _unselected(trial: Trial, guard: Site) -> Iterator[tuple[str, Mistakes]]:
    """Yield the mistakes of NaN at all elements that a guard does not select, if not everywhere."""
    for edge, name in enumerate(guard.names):
        if guard.node.edges[edge] is None:
            continue
        try:
            dropped = guard.vjp(name, np.ones_like(guard.y)) == 0
        except Unjudgeable:
            continue
        if not dropped.any() or dropped.all():
            continue

        def spoiled(where: Array, edge: int = edge) -> Mistakes:
            return [
                (
                    guard,
                    lambda visit: visit.sending(np.where(where, np.nan, visit.sent[edge]), edge),
                )
            ]

        predicted = trial.with_mistakes(spoiled(dropped))
        all_nan = trial.with_mistakes(spoiled(np.ones_like(dropped)))
        # If nothing finite gets through, an overflow would look the same.
        if any(not np.array_equal(np.isnan(p), np.isnan(all_nan[n])) for n, p in predicted.items()):
            yield "", spoiled(dropped)
