"""Claims that only narrower bounds refute than a diagnosis has: no cause, and no wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.diagnose.rank import diagnose


def exhibit(allowance: float) -> Exhibit:
    right = np.random.default_rng(0).standard_normal((2, 16, 48))
    return Exhibit("x", right, 1.1 * right, np.full(right.shape, allowance), True)


@pytest.mark.parametrize(("allowance", "causes"), [(1e-7, ["constant factor"]), (0.5, [])])
def test_what_the_right_numbers_would_explain_has_no_cause(
    allowance: float, causes: list[str]
) -> None:
    # A tenth of the largest of 1,536 normal numbers is below 0.5: whatever is near would fit.
    found = diagnose(Case({"x": exhibit(allowance)}))
    assert [cause.cause for cause in found] == causes
