"""Only what would have shown an error agrees: no bound so wide that any number passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import (
    ALL_ZERO,
    CANCELS,
    COARSE,
    PROBABLE,
    compare,
    settled_by,
)
from gradwitness.judging.comparing.comparison import NEAR
from gradwitness.judging.gradients.lost import LOST
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

A, I = gw.Verdict.AGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741


def watched(function: Callable[..., Any], **leaves: torch.Tensor) -> gw.Witness:
    with gw.watch(names=leaves) as witness:
        function(**leaves).sum().backward()
    return witness


def leaf(*numbers: float) -> Any:
    return torch.tensor(numbers, requires_grad=True)


def test_zeros_under_a_wide_bound_are_no_agreement() -> None:
    # A layer of one unit is 0 less its mean of itself: the weight gets 0, whatever arrives. But
    # 1e6 less its rounded mean is a rounding error, divided by the square root of eps.
    torch.manual_seed(19)
    x = torch.randn(5, 1) * 1e6

    def normalised(w: Any, b: Any) -> Any:
        return F.layer_norm(x, (1,), w, b)

    witness = watched(normalised, w=leaf(2.0), b=leaf(3.0))
    verdicts = {row.name: row.verdict for row in witness.report.rows}
    assert verdicts["w"] is I
    reasons = {f.title: f.comparison.reason for f in witness.report.findings if f.verdict is I}
    assert reasons["NativeLayerNormBackward0 #1, gradient of w"] == ALL_ZERO
    assert witness.verdict is I


@pytest.mark.parametrize(("dtype", "verdict"), [(torch.bfloat16, I), (torch.float32, A)])
def test_a_step_that_hides_a_tenth_is_named(dtype: torch.dtype, verdict: gw.Verdict) -> None:
    # The kernel adds up the 2^16 + 1 places of a word in bfloat16, where 256 + 1 is 256. So long a
    # sum is not added one by one to see that.
    words = torch.zeros(2**16 + 2, dtype=torch.int64)
    words[0] = 1
    factors = torch.ones(2**16 + 2, 4)
    factors[0] = 2.0**18
    layer = nn.Embedding(8, 4, dtype=dtype)
    with gw.watch(layer) as witness:
        (layer(words) * factors.to(dtype)).sum().backward()
    assert {row.verdict for row in witness.report.rows} == {verdict}
    doubts = {f.title for f in witness.report.findings if f.comparison.reason.startswith(LOST)}
    assert doubts == ({"EmbeddingBackward0 #2, gradient of weight"} if verdict is I else set())
    assert all(title in str(witness).replace("\n", "") for title in doubts)
    # 256 is there in place of 65537.
    # 256 is there in place of 65537, beside 2^18.
    told = " ".join(str(witness).split())
    assert ("24.9 % of its largest number off float64's result" in told) is (verdict is I)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(-x) * 3,  # masked
        lambda x: F.pad(x, (2, 2))[:2],  # none of them is used
        lambda x: torch.log(x / x) * 1,  # exactly 0, but for underflows
    ],
)
def test_exact_zeros_agree(function: Callable[[Any], Any]) -> None:
    assert watched(function, x=leaf(1.0, 2.0, 5.0)).verdict is A


OUT = float("-inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.logsumexp(x, 0),
        lambda x: torch.logaddexp(x[0], x[1]),
        lambda x: torch.logaddexp2(x[0], x[1]),
        lambda x: torch.logcumsumexp(x, 0),
    ],
)
def test_the_logarithm_of_a_sum_of_one_agrees(
    function: Callable[[Any], Any], dtype: torch.dtype
) -> None:
    # The corner of a dynamic programme: one way costs nothing, all others are barred. An error in
    # the sum, 1, would be one of the result, 0.
    barred = torch.tensor([0.0, OUT, OUT], dtype=dtype)
    witness = watched(lambda d: function(barred) + d, d=leaf(0.5))
    assert witness.verdict is A, witness.report.reasons()
    (step,) = [f for f in witness.report.findings if "log" in f.title]
    assert step.comparison.detects <= 64 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("size", "off", "reason", "verdict"),
    [
        (0.9, 0.0, CANCELS, Verdict.AGREES),
        # Rounding cannot make 1.5 times its bound of 0: it is near the right number, or in doubt.
        (1.5, 0.06, NEAR, Verdict.AGREES),
        (1.5, 0.09, COARSE, Verdict.INCONCLUSIVE),
        (15.0, 0.7, NEAR, Verdict.AGREES),
        (15.0, 0.9, COARSE, Verdict.INCONCLUSIVE),
    ],
)
def test_what_is_larger_than_its_bound_is_no_zero(
    size: float, off: float, reason: str, verdict: Verdict
) -> None:
    bound = np.array([1.0])
    expected = Bounded(np.array([size]), Arithmetic.stepwise("float32"), bound, bound)
    compared = compare(np.array([size + off], np.float32), expected, "float32")
    settled = settled_by(compared, lambda: 1e3)
    assert (settled.verdict, settled.reason) == (verdict, reason)
    if reason == NEAR:
        # What is as far off again on the other side, and more, no longer agrees.
        assert settled.detects == pytest.approx(size / 20 + off, rel=1e-6)


def test_zero_where_large_terms_cancel_agrees() -> None:
    # What a critic's bias gets from the mean over real and over made samples: 1/3 three times,
    # less as much.
    real, made = torch.randn(3, 2), torch.randn(3, 2)
    witness = watched(lambda b: (real + b).mean(0) - (made + b).mean(0), b=leaf(0.5, 0.25))
    assert witness.verdict is A
    (row,) = witness.report.rows
    assert row.comparison.expected == 0
    assert CANCELS in {f.comparison.reason for f in witness.report.findings}


@pytest.mark.parametrize(
    ("off", "verdict", "reason"),
    [
        (0.0, Verdict.AGREES, PROBABLE),
        # sqrt(2^20) u = 6e-5 < 1 % < 2^20 u = 6 %.
        (0.01, Verdict.INCONCLUSIVE, COARSE),
        (0.2, Verdict.DISAGREES, ""),
    ],
)
def test_a_long_sum_agrees_by_the_probable_bound(off: float, verdict: Verdict, reason: str) -> None:
    ones: Any = Bounded(np.ones(2**20), Arithmetic.stepwise("float32"))
    recorded = np.array(2**20 * (1 + off), dtype=np.float32)
    found = settled_by(compare(recorded, np.sum(ones), "float32"), lambda: 2.0**20)
    assert (found.verdict, found.reason) == (verdict, reason)
    if verdict is Verdict.AGREES:
        assert 1e-5 < found.detects_relative < 1e-3
