"""Mistake: another gradient was added, of an earlier pass or another tensor, or momentum."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, fits, jointly, refuted
from gradwitness.diagnose.factor_names import ACCUMULATED
from gradwitness.diagnose.facts import Facts
from gradwitness.diagnose.hypotheses.wrong_tensor import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

MOMENTUM = "momentum"
_MOMENTA = (0.9, 0.99, 0.95, 0.8, 0.5, 0.999)


def earlier_passes(case: Case) -> Iterator[Explanation]:
    """Suppose h = g + the gradients of earlier passes, in full or with momentum."""
    earlier = [(n, g) for n, g in Facts(case).other_sweeps() if n < case.sweep]
    summed: dict[str, NDArray[np.float64]] = {}
    for count, (number, gradients) in enumerate(reversed(earlier), 1):
        summed = {k: summed.get(k, 0.0) + g for k, g in gradients.items()}
        predicted = jointly(refuted(case), partial(_plus, summed, 1.0))
        reason = f"since backward pass {number + 1}: .grad was not cleared"
        if predicted:
            yield Explanation(
                ACCUMULATED,
                f"The gradient of {listed(predicted)} is the sum of {count + 1} passes, {reason}.",
                predicted,
                coefficient=count + 1,
                freedom=count,
                reveals=False,
            )
    if earlier:
        yield from _momentum(case, earlier[-1][1])


def another_added(case: Case) -> Iterator[Explanation]:
    """Suppose h = g + the gradient of another tensor of the same shape."""
    for exhibit in refuted(case):
        g, h = exhibit.witness, exhibit.claim
        for tried, other in enumerate(case.exhibits.values(), 1):
            if other.name == exhibit.name or not g.shape == h.shape == other.witness.shape:
                continue
            if fits(exhibit, g + other.witness):
                yield Explanation(
                    f"{ELSEWHERE} added",
                    f"The gradient of {exhibit.name} includes that of {other.name}: both were "
                    "accumulated in the same place.",
                    {exhibit.name: g + other.witness},
                    freedom=tried,
                    reveals=False,
                )
                break


def _plus(
    others: Mapping[str, NDArray[np.float64]], share: float, exhibit: Exhibit
) -> NDArray[np.float64] | None:
    other = others.get(exhibit.name)
    return None if other is None else exhibit.witness + share * other


def _momentum(case: Case, before: Mapping[str, NDArray[np.float64]]) -> Iterator[Explanation]:
    """Suppose h = g + m (gradient of the previous pass), m fitted."""
    for exhibit in refuted(case):
        other = before.get(exhibit.name)
        if other is None or not other.any() or exhibit.claim.shape != other.shape:
            continue
        fitted = float(np.vdot(exhibit.claim - exhibit.witness, other) / np.vdot(other, other))
        shares = [(k, m) for k, m in enumerate(_MOMENTA, 1) if abs(m - fitted) < 0.01]
        for tried, share in [*shares, (REAL, fitted)]:
            predicted = jointly(refuted(case), partial(_plus, before, share))
            if predicted and not np.isclose(share, 1):
                yield Explanation(
                    MOMENTUM,
                    f"The gradient of {listed(predicted)} is the right one plus {share:.6g} times "
                    "that of the previous pass: the momentum buffer instead of the gradient.",
                    predicted,
                    coefficient=share,
                    freedom=tried,
                )
                return
