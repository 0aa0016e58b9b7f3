"""Mistake: a clamp is missing in, or present only in, the backward pass or the claims."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.activations import CLAMPS, LAYERS, masked, unchanged
from gradwitness.diagnose.programs import explained_by_program, forward_calls
from gradwitness.diagnose.replayed_faults import Mistake, Trial, explanations, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation

# Usual bounds.
_LIMITS = (1.0, 5.0, 10.0, 2.0, 3.0, 6.0, 0.5, 4.0, 20.0, 50.0, 100.0, 1e4)
# Arguments that turn a clamp into the identity.
_OPEN: dict[str, dict[str, Any]] = {
    "aten.clamp": {"min": None, "max": np.inf},
    "aten.clamp_min": {"min": -np.inf},
    "aten.clamp_max": {"max": np.inf},
    "aten.hardtanh": {"min_val": -np.inf, "max_val": np.inf},
}


@on_replay
def clamp_mistakes(trial: Trial) -> Iterator[Explanation]:
    """Explain by a clamp ignored in backward, applied there only, or in the recorded run only."""
    ignored = Mistake(
        "clamp ignored in backward",
        "the clamp at {place} is ignored in backward: the gradient also passes where the value was "
        "cut off",
        CLAMPS,
        unchanged,
    )
    yield from explanations(trial, ignored, list(trial.sites(CLAMPS)))
    layers = list(trial.sites(LAYERS))
    for tried, limit in enumerate(_LIMITS, 1):
        beyond = [s for s in layers if np.any(np.abs(s.y) > limit) and np.any(np.abs(s.y) <= limit)]
        mistake = Mistake(
            "clamp where there is none",
            f"the gradient at {{place}} is set to 0 where the output is beyond {limit:g}, as if it "
            f"were clamped to [-{limit:g}, {limit:g}], but the recorded one is not",
            LAYERS,
            masked(lambda y, c=limit: np.abs(y) <= c),
        )
        for explanation in explanations(trial, mistake, beyond):
            yield dataclasses.replace(explanation, freedom=tried, coefficient=limit)
    changes = {
        call.id: dict(_OPEN[call.base_op]) for call in forward_calls(trial) if call.base_op in _OPEN
    }
    text = "the claims are those of a network without the clamp at {place}, forward and backward"
    yield from explained_by_program(trial, "clamp left out", text, changes)
