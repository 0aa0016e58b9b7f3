"""Mistake: a function was applied to each number, such as its absolute value or sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import glimpsed, jointly, refuted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case

MAGNITUDE = "absolute value"
SIGN = "sign only"
SQUARE = "squared"
ROOT = "square root"
ONE_SIDE = "one sign cut off"


def elementwise(case: Case) -> Iterator[Explanation]:
    """Suppose h = f(g), element by element."""
    for tried, (cause, text, function) in enumerate(_FUNCTIONS, 1):
        possible = [e for e in refuted(case) if glimpsed(e, function)]
        predicted = jointly(possible, lambda e, f=function: f(e.witness))  # type: ignore[misc]
        if predicted:
            yield Explanation(
                cause,
                f"The gradient of {listed(predicted)} is {text}.",
                predicted,
                freedom=tried,
                reveals=False,
            )


_FUNCTIONS: tuple[tuple[str, str, Callable[[NDArray[np.float64]], NDArray[np.float64]]], ...] = (
    (MAGNITUDE, "the absolute value of the right one", np.abs),
    (MAGNITUDE, "minus the absolute value of the right one", lambda g: -np.abs(g)),
    (SIGN, "the sign of the right one", np.sign),
    (SIGN, "minus the sign of the right one", lambda g: -np.sign(g)),
    (SQUARE, "the square of the right one", np.square),
    (ROOT, "the square root of the right one's absolute value", lambda g: np.sqrt(np.abs(g))),
    (ONE_SIDE, "the right one with negative numbers set to 0", lambda g: np.maximum(g, 0)),
    (ONE_SIDE, "the right one with positive numbers set to 0", lambda g: np.minimum(g, 0)),
)
