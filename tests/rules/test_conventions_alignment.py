"""Connectionist temporal classification: torch's gradient, and targets that nothing can say."""

from __future__ import annotations

import numpy as np
import pytest

from gradwitness.engine.floats import Arithmetic
from gradwitness.verdict import Verdict
from rules.harness import Case, make
from rules.samples import aten
from rules.samples_losses import Fixed
from rules.sampling import normal, sample
from rules.test_formulas import gradient, judged
from rules.test_torch import comparisons

LABELS = Fixed((2, 3), numbers=((1, 1, 2), (3, 1, 0)))


def case(times: list[int], *, zero_infinity: bool = False, dtype: str = "float64") -> Case:
    probable = sample(
        aten._ctc_loss.default,
        normal(5, 2, 4),
        LABELS,
        times,
        [3, 2],
        0,
        zero_infinity,
        constant="y[1]",
    )
    return make(probable, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_has_the_probabilities_that_a_softmax_takes_away_again(dtype: str) -> None:
    torch_made = case([5, 4], dtype=dtype)
    assert comparisons(torch_made)["dx"].verdict is Verdict.AGREES


def test_gradient_is_what_all_paths_say() -> None:
    torch_made = case([5, 4])
    text = torch_made.bound().rule.gradients["x"].text
    computed = torch_made.gradient("x", Arithmetic.stepwise("float64"))
    assert judged(gradient(text, torch_made, "x"), computed).verdict is Verdict.AGREES
    assert np.all(computed.value[4, 1] == 0)  # past the end of the shorter one
    without = gradient(text, torch_made, "x") - np.exp(torch_made.operand("x"))
    assert judged(without, computed).verdict is Verdict.DISAGREES


def test_what_no_path_can_say_is_infinite_and_its_gradient_0_where_that_is_asked_for() -> None:
    # Two equal labels need a blank between: 1 1 2 takes four steps.
    torch_made = case([3, 5], zero_infinity=True)
    loss, *_ = torch_made.values()
    assert loss.value[0] == np.inf
    assert loss.rigorous[0] == 0
    found = torch_made.gradient("x")
    assert np.all(found[:, 0] == 0)
    assert found[:, 1].any()
    assert np.array_equal(torch_made.torch_gradient("x")[:, 0], found[:, 0])


def test_long_sequence_keeps_a_narrow_bound() -> None:
    rng = np.random.default_rng(5)
    labels = Fixed((2, 30), numbers=tuple(map(tuple, rng.integers(1, 8, (2, 30)))))
    long = sample(
        aten._ctc_loss.default, normal(200, 2, 8), labels, [200, 190], [30, 25], constant="y[1]"
    )
    torch_made = make(long, "float32")
    for result in ("y[0]", "dx"):
        found = comparisons(torch_made)[result]
        assert found.verdict is Verdict.AGREES
        assert found.detects_relative < 2e-2
