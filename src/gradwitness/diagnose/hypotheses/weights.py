"""Mistake: the claim is the weight, or includes it, by weight decay or an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, jointly, refuted
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

DECAY = "weight decay added"
WEIGHT = "weight instead of gradient"
UPDATED = "updated weight instead of gradient"
# Usual learning rates and weight decays, the most common digits first.
_USUAL = tuple(d * 10.0**-p for d in (1, 5, 2, 3) for p in range(6))


def weights(case: Case) -> Iterator[Explanation]:
    """Suppose h = w, h = w - r g, or h = g + r w, with the recorded weights w."""
    recorded = Facts(case).weights
    wrong = [
        e
        for e in refuted(case)
        if e.name in recorded and e.claim.shape == e.witness.shape == recorded[e.name].shape
    ]
    if not wrong:
        return
    predicted = jointly(wrong, lambda e: recorded[e.name])
    if predicted:
        text = f"The claim for {listed(predicted)} is the weight itself, not its gradient."
        yield Explanation(WEIGHT, text, predicted, reveals=False)
    yield from _fitted(
        wrong, recorded, UPDATED, _updated, "is the weight after an update with learning rate {}"
    )
    yield from _fitted(
        wrong, recorded, DECAY, _decayed, "includes {} times the weight: weight decay was added"
    )


def _updated(w: NDArray[np.float64], rate: float, exhibit: Exhibit) -> NDArray[np.float64]:
    return w - rate * exhibit.witness


def _decayed(w: NDArray[np.float64], rate: float, exhibit: Exhibit) -> NDArray[np.float64]:
    return exhibit.witness + rate * w


def _fitted(
    wrong: list[Exhibit],
    recorded: Mapping[str, NDArray[np.float64]],
    cause: str,
    predict: Callable[[NDArray[np.float64], float, Exhibit], NDArray[np.float64]],
    pattern: str,
) -> Iterator[Explanation]:
    """Fit the coefficient r of a formula that is linear in it, to the largest tensor."""
    lead = max(wrong, key=lambda e: e.witness.size if recorded[e.name].any() else 0)
    start = predict(recorded[lead.name], 0.0, lead)
    along = predict(recorded[lead.name], 1.0, lead) - start
    if not along.any() or not np.isfinite(lead.claim).all():
        return
    rate = float(np.vdot(lead.claim - start, along) / np.vdot(along, along))
    near = [(k, r) for k, r in enumerate(_USUAL, 1) if abs(r - rate) <= 0.01 * abs(rate)]
    for tried, r in [*near, (REAL, rate)]:
        predicted = jointly(wrong, lambda e, r=r: predict(recorded[e.name], r, e))  # type: ignore[misc]
        if predicted and r:
            text = f"The claim for {listed(predicted)} {pattern.format(f'{r:.6g}')}."
            yield Explanation(cause, text, predicted, coefficient=r, freedom=tried)
            return
