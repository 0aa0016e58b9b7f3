"""One number fitted to the claims, where a fault depends on it otherwise than linearly."""

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
# A fit that leaves more than this share of the error is none.
_REST = 0.03


def fitted(
    case: Case, predict: Callable[[float], Predicted], starts: Sequence[float]
) -> tuple[float, Predicted] | None:
    """Find the number for which a prediction meets the claims best: Gauss and Newton.

    Parameters
    ----------
    case : Case
    predict : callable
        From the number to the gradients that it changes; 0 changes none.
    starts : sequence of float
        Numbers to start from, besides 0; the nearest is taken.

    Returns
    -------
    tuple of (float, mapping) or None
        The number and its prediction; None if none comes near.
    """
    gap = _vector(case, {}, claims=True)
    whole = float(gap @ gap)
    if not whole or not np.isfinite(whole):
        return None

    def rest(number: float) -> tuple[float, NDArray[np.float64], Predicted]:
        predicted = predict(number)
        left = gap - _vector(case, predicted)
        size = float(left @ left)
        return (size if np.isfinite(size) else np.inf), left, predicted

    tries = [(*rest(start), start) for start in starts]
    size, left, predicted, number = min(tries, key=lambda each: each[0])
    for _ in range(_ROUNDS):
        step = 1e-5 * number
        slope = (left - rest(number + step)[1]) / step
        steepness = float(slope @ slope)
        if not steepness or not np.isfinite(steepness):
            break
        stride = float(slope @ left) / steepness
        for _ in range(_HALVINGS):
            following = number + stride
            better = rest(following)
            if better[0] < size and following:
                break
            # A ReLU that changes sides on the way makes the whole stride too long.
            stride /= 2
        else:
            break
        number, (size, left, predicted) = following, better
    return (number, predicted) if size <= _REST**2 * whole else None


def _vector(case: Case, predicted: Predicted, *, claims: bool = False) -> NDArray[np.float64]:
    """Return how far numbers lie from the right ones, by the size of their tensor, in one row."""
    parts = []
    for name, exhibit in case.exhibits.items():
        if exhibit.claim.shape != exhibit.witness.shape:
            continue
        other = exhibit.claim if claims else predicted.get(name, exhibit.witness)
        size = float(np.max(np.abs(exhibit.witness), initial=0.0)) or 1.0
        parts.append(np.ravel(other - exhibit.witness) / size)
    return np.concatenate(parts) if parts else np.zeros(0)
