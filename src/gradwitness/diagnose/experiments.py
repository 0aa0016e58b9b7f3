"""Suggest an experiment to distinguish two causes that fit the same claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradwitness.diagnose import factor_names
from gradwitness.diagnose.hypotheses import wrong_tensor
from gradwitness.engine.masked_elements import THROUGH_WHERE

if TYPE_CHECKING:
    from gradwitness.diagnose.case import Case, Explanation

# What to vary for a cause with a factor, and how the factor then changes.
_VARY = {
    factor_names.MEAN_SUM: (
        "run with a different number of samples (say, 3 instead of 2)",
        "the factor follows that number",
    ),
    factor_names.ACCUMULATED: ("clear .grad and run a single backward pass", "the factor is gone"),
    factor_names.LOSS_SCALE: ("run without the gradient scaler", "the factor is gone"),
    factor_names.WORLD_SIZE: (
        "run in one process without gradient accumulation",
        "the factor is gone",
    ),
    factor_names.ROOT: ("run with a different width", "the factor follows its square root"),
    factor_names.UPDATE: ("run with a different learning rate", "the factor follows it"),
    factor_names.LEARNING_RATE: ("run with a different learning rate", "the factor follows it"),
    wrong_tensor.STALE: ("run one backward pass in a fresh process", "the claim becomes right"),
}


def experiment(case: Case, first: Explanation, second: Explanation) -> str:
    """Return how to distinguish two explanations, and what each predicts."""
    distinguish = f"To distinguish '{first.cause}' from '{second.cause}'"
    for varied, other in ((second, first), (first, second)):
        if varied.cause in _VARY and not math.isnan(varied.coefficient):
            action, effect = _VARY[varied.cause]
            stays = other.coefficient
            no_effect = "it does not" if math.isnan(stays) else f"it stays {stays:.6g}"
            return (
                f"{distinguish}, {action}. With '{varied.cause}' {effect}; with '{other.cause}' "
                f"{no_effect}."
            )
    if first.cause == THROUGH_WHERE:
        return (
            f"{distinguish}, compute the claims in float64 with the loss divided by 1024. With "
            f"'{second.cause}' there are fewer NaN, or none; with '{first.cause}' they remain."
        )
    if first.place and second.place:
        # Two possible steps of the program: no other numbers distinguish them, only more gradients.
        return (
            f"'{first.cause}' and '{second.cause}' predict the same values here. To distinguish "
            "them, also supply the gradient of the network's input, or of a layer inserted before "
            "it."
        )
    extra = " in which no two axes have the same length" if _square(case, first) else ""
    return (
        f"{distinguish}, supply the gradients of another run with different random weights and "
        f"inputs{extra}; only one of them will still fit."
    )


def _square(case: Case, explanation: Explanation) -> bool:
    shapes = [case.exhibits[n].witness.shape for n in explanation.predicted if n in case.exhibits]
    return any(len(set(shape)) < len(shape) for shape in shapes)
