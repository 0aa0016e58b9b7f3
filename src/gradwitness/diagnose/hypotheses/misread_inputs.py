"""Mistake: an input is read transposed, flipped, negated, or instead of another, in backward."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.wrong_values import FLIPPED, TRANSPOSED, WRONG_VALUE
from gradwitness.diagnose.programs import predicted_by
from gradwitness.diagnose.replayed_faults import Trial, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.tape import Value

NEGATED = "factor with the wrong sign in the derivative"

_MOST = 48  # readings that are tried: each replays the function as a whole
_FREEDOM = 16  # a mistake at a single derivative is likelier


@on_replay
def misread_inputs(trial: Trial) -> Iterator[Explanation]:
    """Explain by gradients that are right where another input has other numbers."""
    leaves = [leaf for _, leaf in trial.tape.leaves()]
    readings = ((leaf, *reading) for leaf in leaves for reading in _readings(trial, leaf, leaves))
    for tried, (leaf, cause, how, value) in enumerate(itertools.islice(readings, _MOST), 1):
        changed = predicted_by(trial, trial.tape, {leaf.id: value})
        # Of its own numbers' gradient it is the place, and no factor.
        others = {name: g for name, g in changed.items() if name != leaf.name}
        alone = ({name: g} for name, g in others.items() if len(others) > 1)
        for extra, predicted in enumerate(filter(None, [others, *alone])):
            yield Explanation(
                cause,
                f"The gradient of {listed(predicted)} is computed with {leaf.name} {how}.",
                predicted,
                freedom=_FREEDOM + tried + extra,
                reveals=False,
            )


def _readings(trial: Trial, leaf: Value, leaves: Sequence[Value]) -> Iterator[tuple[str, str, Any]]:
    """Yield causes, texts, and other numbers for an input."""
    right = np.asarray(trial.lookup(leaf.id))
    if right.ndim > 1 and right.shape[-1] == right.shape[-2]:
        turned = np.swapaxes(right, -1, -2)
        yield TRANSPOSED, "transposed in its last two axes, or not where it has to be", turned
    for count in (1, 2):
        for axes in itertools.combinations(range(right.ndim), count):
            along = listed(map(str, axes))
            text = f"flipped along axis {along}, or not flipped where it has to be"
            yield FLIPPED, text, np.flip(right, axes)
    yield NEGATED, "negated, or not conjugated where it has to be", -right
    for other in leaves:
        if other.id != leaf.id and other.shape == leaf.shape:
            yield WRONG_VALUE, f"replaced by {other.name}", np.asarray(trial.lookup(other.id))
