"""Fit a number to the claims, where predictions depend on it nonlinearly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case

    Predicted = Mapping[str, NDArray[np.float64]]

_ROUNDS = 8
_HALVINGS = 6
# What gains no more than this share of a residual has come to its least.
_GAIN = 1e-3
# A fit must leave no more than this share of the error.
_REST = 0.03


def fitted(
    case: Case, predict: Callable[[float], Predicted], starts: Sequence[float]
) -> tuple[float, Predicted] | None:
    """Find the number whose prediction fits the claims best, by the Gauss-Newton method.

    ``predict`` leads from a number to the gradients that it changes; 0 changes none. Of the starts
    the best one is used. Returns the number and its prediction, or None if no number comes close.
    """
    gap = _vector(case, {}, claims=True)
    total = float(gap @ gap)
    if not total or not np.isfinite(total):
        return None

    def residual(number: float) -> tuple[float, NDArray[np.float64], Predicted]:
        predicted = predict(number)
        left = gap - _vector(case, predicted)
        size = float(left @ left)
        return (size if np.isfinite(size) else np.inf), left, predicted

    attempts = [(*residual(start), start) for start in starts]
    size, left, predicted, number = min(attempts, key=lambda attempt: attempt[0])
    for _ in range(_ROUNDS):
        step = 1e-5 * number
        slope = (left - residual(number + step)[1]) / step
        steepness = float(slope @ slope)
        if not steepness or not np.isfinite(steepness):
            break
        stride = float(slope @ left) / steepness
        for _ in range(_HALVINGS):
            next_number = number + stride
            next_fit = residual(next_number)
            if next_fit[0] < size and next_number:
                break
            # If a ReLU changes sides on the way, the stride is too long.
            stride /= 2
        else:
            break
        gained = 1 - next_fit[0] / size
        number, (size, left, predicted) = next_number, next_fit
        if gained < _GAIN:
            break
    return (number, predicted) if size <= _REST**2 * total else None


def _vector(case: Case, predicted: Predicted, *, claims: bool = False) -> NDArray[np.float64]:
    """Return the errors of all tensors in one vector, each relative to its tensor's size."""
    blocks = []
    for name, exhibit in case.exhibits.items():
        if exhibit.claim.shape != exhibit.witness.shape:
            continue
        gradient = exhibit.claim if claims else predicted.get(name, exhibit.witness)
        size = float(np.max(np.abs(exhibit.witness), initial=0.0)) or 1.0
        blocks.append(np.ravel(gradient - exhibit.witness) / size)
    return np.concatenate(blocks) if blocks else np.zeros(0)
