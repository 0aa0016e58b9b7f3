"""The weights in the gradient's place, or mixed into it: decay, the update, the updated weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, jointly, named, refuted
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

DECAY = "weight decay added"
WEIGHT = "weight instead of gradient"
UPDATED = "updated weight instead of gradient"
# Learning rates and weight decays that people use, the usual digits first.
_USUAL = tuple(d * 10.0**-p for d in (1, 5, 2, 3) for p in range(6))


def weights(case: Case) -> Iterator[Explanation]:
    """Suppose h = w, h = w - r g, or h = g + r w, with the weights of the tape."""
    known = Facts(case).weights
    wrong = [
        e
        for e in refuted(case)
        if e.name in known and e.claim.shape == e.witness.shape == known[e.name].shape
    ]
    if not wrong:
        return
    predicted = jointly(wrong, lambda e: known[e.name])
    if predicted:
        text = f"What is claimed for {named(predicted)} is the weight itself, not its gradient."
        yield Explanation(WEIGHT, text, predicted, reveals=False)
    yield from _fitted(wrong, known, UPDATED, _updated, "is the weight after a step of {}")
    yield from _fitted(
        wrong, known, DECAY, _decayed, "has {} times the weight added: weight decay is in it"
    )


def _updated(w: NDArray[np.float64], rate: float, exhibit: Exhibit) -> NDArray[np.float64]:
    return w - rate * exhibit.witness


def _decayed(w: NDArray[np.float64], rate: float, exhibit: Exhibit) -> NDArray[np.float64]:
    return exhibit.witness + rate * w


def _fitted(
    wrong: list[Exhibit],
    known: Mapping[str, NDArray[np.float64]],
    cause: str,
    predict: Callable[[NDArray[np.float64], float, Exhibit], NDArray[np.float64]],
    words: str,
) -> Iterator[Explanation]:
    """Fit the one number r of a formula that is linear in it, to the tensor with most numbers."""
    lead = max(wrong, key=lambda e: e.witness.size if known[e.name].any() else 0)
    start = predict(known[lead.name], 0.0, lead)
    along = predict(known[lead.name], 1.0, lead) - start
    if not along.any() or not np.isfinite(lead.claim).all():
        return
    rate = float(np.vdot(lead.claim - start, along) / np.vdot(along, along))
    near = [(k, r) for k, r in enumerate(_USUAL, 1) if abs(r - rate) <= 0.01 * abs(rate)]
    for tried, r in [*near, (REAL, rate)]:
        predicted = jointly(wrong, lambda e, r=r: predict(known[e.name], r, e))  # type: ignore[misc]
        if predicted and r:
            text = f"What is claimed for {named(predicted)} {words.format(f'{r:.6g}')}."
            yield Explanation(cause, text, predicted, coefficient=r, freedom=tried)
            return
