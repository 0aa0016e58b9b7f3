"""The experiment that tells two causes apart which fit the same claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradwitness.diagnose import factor_names
from gradwitness.diagnose.hypotheses import wrong_tensor
from gradwitness.engine.masked_elements import THROUGH_WHERE

if TYPE_CHECKING:
    from gradwitness.diagnose.case import Case, Explanation

# What to vary to see a cause's factor move, and how it moves then.
_VARY = {
    factor_names.MEAN_SUM: (
        "run with another number of samples (3 instead of 2, say)",
        "the factor follows that number",
    ),
    factor_names.ACCUMULATED: ("clear .grad and run a single backward pass", "the factor is gone"),
    factor_names.LOSS_SCALE: ("run without the gradient scaler", "the factor is gone"),
    factor_names.WORLD_SIZE: (
        "run in one process without gradient accumulation",
        "the factor is gone",
    ),
    factor_names.ROOT: ("run with another width", "the factor follows its square root"),
    factor_names.UPDATE: ("run with another learning rate", "the factor follows it"),
    factor_names.LEARNING_RATE: ("run with another learning rate", "the factor follows it"),
    wrong_tensor.STALE: ("run one backward pass in a fresh process", "the claim becomes right"),
}


def experiment(case: Case, first: Explanation, second: Explanation) -> str:
    """Return what to do to tell two explanations apart, and what each of them foretells."""
    for one, other in ((second, first), (first, second)):
        if one.cause in _VARY and not math.isnan(one.coefficient):
            what, then = _VARY[one.cause]
            return (
                f"To tell '{first.cause}' from '{second.cause}': {what}. With '{one.cause}' "
                f"{then}; with '{other.cause}' it stays {other.coefficient:.6g}."
                if not math.isnan(other.coefficient)
                else f"To tell '{first.cause}' from '{second.cause}': {what}. With '{one.cause}' "
                f"{then}; with '{other.cause}' it does not."
            )
    if first.cause == THROUGH_WHERE:
        return (
            f"To tell '{first.cause}' from '{second.cause}': compute the claims in float64, of a "
            f"1024th of the loss. With '{second.cause}' the NaN are gone, or fewer; with "
            f"'{first.cause}' they stay where they are."
        )
    if first.place and second.place:
        # Two steps of the program at fault: no other numbers tell them apart, only more gradients.
        return (
            f"Here '{first.cause}' and '{second.cause}' foretell the same numbers. To tell them "
            "apart, claim the gradient of the network's input too, or of a layer put before it."
        )
    where = " in which no two axes have the same length" if _square(case, first) else ""
    return (
        f"To tell '{first.cause}' from '{second.cause}': claim the gradients of another run with "
        f"other random weights and inputs{where}; one of the two ceases to fit."
    )


def _square(case: Case, explanation: Explanation) -> bool:
    shapes = [case.exhibits[n].witness.shape for n in explanation.predicted if n in case.exhibits]
    return any(len(set(shape)) < len(shape) for shape in shapes)
