"""Mistake: a backward takes the wrong numbers for the gradient that arrives, or none at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.summed import ONE_SAMPLE
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.engine.binding import recorded
from gradwitness.engine.replay import backward_pass
from gradwitness.tape import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

IGNORED = "does not depend on the incoming gradient"
OUTPUT_IGNORED = "gradient of output {k} ignored"
SQUARED = "incoming gradient applied twice"
ONE_NUMBER = "one number of the incoming gradient for all"
MISREAD = "strides of the incoming gradient ignored"


@on_replay
def wrong_cotangents(trial: Trial) -> Iterator[Explanation]:
    """Explain by another gradient than the one that arrived."""
    arrived = _arrived(trial)
    if not arrived:
        return
    ones = {k: np.ones_like(g) for k, g in arrived.items()}
    yield from _explained(
        trial,
        ones,
        IGNORED,
        "The gradient of {names} is what it would be if every number that arrives were 1: multiply "
        "it by the incoming gradient.",
        1,
    )
    if len(arrived) > 1:
        for k in arrived:
            others = {j: g for j, g in arrived.items() if j != k}
            yield from _explained(
                trial,
                others,
                OUTPUT_IGNORED.format(k=k),
                f"What arrives for output {k} does not reach the gradient of {{names}}: its part "
                "is missing from the sum.",
                2,
            )
    squares = {k: g * g for k, g in arrived.items()}
    yield from _explained(
        trial,
        squares,
        SQUARED,
        "The gradient of {names} is multiplied by the incoming gradient once too often.",
        3,
    )
    for which, number in (("first", _first), ("mean", np.mean), ("sum", np.sum)):
        one = {k: np.full_like(g, number(g)) for k, g in arrived.items() if g.size}
        what = "number" if which == "first" else "of all numbers"
        yield from _explained(
            trial,
            one,
            ONE_NUMBER,
            f"The gradient of {{names}} is what it would be if every number that arrives were the "
            f"{which} {what}: multiply each part by its own.",
            4,
        )
    yield from _single_rows(trial, arrived)
    misread = trial.case.alone.misread if trial.case.alone else {}
    if misread:
        yield from _explained(
            trial,
            {**arrived, **misread},
            MISREAD,
            "The incoming gradient is not contiguous, and was read as if it were: the gradient of "
            "{names} follows from its memory in the wrong order. Call .contiguous() on it first.",
            1,
        )


def _single_rows(trial: Trial, arrived: Mapping[int, Array]) -> Iterator[Explanation]:
    for end, ordinal in ((-1, "last"), (0, "first")):
        rows = {k: _only(g, end) for k, g in arrived.items() if g.ndim and len(g) > 1}
        yield from _explained(
            trial,
            {**arrived, **rows},
            ONE_SAMPLE,
            f"The gradient of {{names}} is only that of what arrives in the {ordinal} row: add up "
            "those of all rows.",
            4,
        )


def _only(g: Array, row: int) -> Array:
    """Return a gradient with zeros in all rows but one."""
    kept = np.zeros_like(g)
    kept[row] = g[row]
    return kept


def _first(g: Array) -> float:
    return float(g.flat[0])


def _arrived(trial: Trial) -> dict[int, Array]:
    """Return what arrives for each output: the numbers of the roots."""
    lookup = recorded(trial.tape)
    roots = trial.sweep.roots
    return {k: lookup(seed) for k, (_, seed) in enumerate(roots) if seed is not None}


def _explained(
    trial: Trial, arriving: Mapping[int, Array], cause: str, text: str, freedom: int
) -> Iterator[Explanation]:
    tape, roots = trial.tape, []
    values = list(tape.values)
    for k, (edge, _) in enumerate(trial.sweep.roots):
        if k in arriving:
            values.append(Value(len(values), arriving[k].shape, "float64", arriving[k]))
            roots.append((edge, values[-1].id))
    changed = replace(tape, values=values, sweeps=[replace(trial.sweep, roots=tuple(roots))])
    received, lost = backward_pass(changed, 0, trial.replay.values)
    predicted = {}
    for node, leaf in () if lost else tape.leaves():
        exhibit = trial.case.exhibits[leaf.name]
        if not exhibit.refuted:
            continue  # the others may be computed in another way
        g = received.get((node.id, 0))
        g = np.zeros(exhibit.witness.shape) if g is None else np.asarray(g)
        if np.any(np.abs(g - exhibit.witness) > exhibit.allowance):
            predicted[leaf.name] = g
    for name, g in predicted.items():
        one = {name: g}
        yield Explanation(cause, text.format(names=name), one, freedom=freedom, reveals=False)
    if len(predicted) > 1:
        names = " and ".join(predicted)
        yield Explanation(
            cause, text.format(names=names), predicted, freedom=freedom, reveals=False
        )
