"""A number is fitted to claims by few predictions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.diagnose.fitting import fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

STARTS = (0.01, 0.1, 1.0)
RNG = np.random.default_rng(0)
WITNESS, AWAY = RNG.standard_normal((2, 200))


def tried(claim: NDArray[np.float64]) -> tuple[float | None, int]:
    """The number in ``w exp(-r w)`` that fits a claim, and how many were tried."""
    rates = []

    def predict(rate: float) -> dict[str, NDArray[np.float64]]:
        rates.append(rate)
        return {"w": WITNESS * np.exp(-rate * WITNESS)}

    case = Case({"w": Exhibit("w", WITNESS, claim, 0.0, refuted=True)})
    found = fitted(case, predict, STARTS)
    return (None if found is None else found[0]), len(rates)


def test_a_number_that_fits_is_found_with_its_digits() -> None:
    rate, _ = tried(WITNESS * np.exp(-0.3 * WITNESS))
    assert rate is not None
    assert math.isclose(rate, 0.3, rel_tol=1e-9)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_where_none_fits_that_is_seen_early(share: float) -> None:
    rate, tries = tried(WITNESS * np.exp(-0.3 * WITNESS) + share * AWAY)
    assert rate is None
    # After the starts, a slope and a stride for each of a few rounds of at most eight.
    assert tries <= len(STARTS) + 2 * 4
