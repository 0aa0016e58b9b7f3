"""A mean that each number corrects takes more roundings than a sum: few numbers show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn.functional import group_norm, layer_norm

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.kernel_ops import corrected_mean

if TYPE_CHECKING:
    from collections.abc import Callable


def corrected(x: Any) -> Any:
    """Return a mean over the last axis, in float32, number by number."""
    mean = x[:, 0]
    for k in range(1, x.shape[1]):
        mean = mean + (x[:, k] - mean) * np.float32(1 / (k + 1))
    return mean[:, None]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_the_bound_holds_whatever_the_numbers(count: int, shift: float) -> None:
    generator = np.random.default_rng(count)
    x = (generator.normal(size=(5000, count)) + shift).astype(np.float32)
    exact = x.astype(np.float64)
    mean: Any = corrected_mean(Bounded(exact, Arithmetic.fused("float32")), over=(1,))
    error = np.abs(corrected(x) - exact.mean(axis=1, keepdims=True))
    bound = 0.0 if mean.rigorous is None else mean.rigorous
    # What float64 rounds is as nothing beside.
    assert (error <= bound + 1e-15 * np.abs(exact).max()).all()
    # And no wider than derived: S / n, times what a sum, its division and 3 (1 + H) give, and one.
    # H is at most 1 + ln(n - 1).
    size = np.abs(exact).mean(axis=1, keepdims=True)
    terms = count + 1 + np.ceil(3 * (2 + np.log(max(1, count - 1))))
    assert (bound <= 1.01 * terms * 2.0**-24 * size + 1e-30).all()


@pytest.mark.parametrize(
    "normal",
    [
        lambda x: layer_norm(x, (2,)),
        lambda x: group_norm(x[..., None], 1)[..., 0],
        lambda x: group_norm(x.reshape(16, 4, 2, 1), 4).reshape(64, 2),
    ],
)
def test_two_numbers_are_normalised_without_being_refuted(normal: Callable[[Any], Any]) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(64, 2, requires_grad=True)
        with gw.watch() as witness:
            torch.autograd.backward((normal(x) * torch.randn(64, 2)).sum())
        assert not witness.report.wrong
