"""Running sums in 16 bits: torch's own partial sums, in pieces of any length, lie in the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, round_to
from gradwitness.rules.kernel_ops import accumulate_in_format

TERMS = 200


def running(terms: Any, arithmetic: Arithmetic) -> Any:
    bounded: Any = Bounded(terms, arithmetic)
    return np.cumsum(bounded, axis=0)


def in_pieces(terms: Any, pieces: int) -> float:
    """Add in order within each piece, then the pieces, and round every partial sum."""
    whole = 0.0
    for piece in np.array_split(terms, pieces):
        part = 0.0
        for term in piece:
            part = float(round_to(np.asarray(part + term), "bfloat16"))
        whole = float(round_to(np.asarray(whole + part), "bfloat16"))
    return whole


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", [Arithmetic.stepwise, Arithmetic.fused], ids=["steps", "kernel"])
def test_product_that_is_stored_at_every_factor_is_within_its_bound(seed: int, kind: Any) -> None:
    drawn = 1 + np.random.default_rng(seed).random(20) / 8
    factors = round_to(drawn, "bfloat16")
    whole = 1.0
    for factor in factors:
        whole = float(round_to(np.asarray(whole * factor), "bfloat16"))
    bounded: Any = Bounded(factors, kind("bfloat16"))
    found: Any = np.prod(accumulate_in_format(bounded))
    off = abs(whole - float(found.value))
    assert off <= found.rigorous < float(found.value) / 8
    # More than one rounding at the end, which is all that a product in float32 would have.
    assert found.rigorous > 10 * 2.0**-8 * float(found.value) / 2


def terms_of(seed: int, positive: bool) -> Any:
    drawn = np.random.default_rng(seed).standard_normal(TERMS)
    return round_to(np.abs(drawn) if positive else drawn, "bfloat16")


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 7, TERMS])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [Arithmetic.stepwise, Arithmetic.fused], ids=["steps", "kernel"])
def test_sum_in_pieces_is_within_the_bound(
    seed: int, pieces: int, positive: bool, kind: Any
) -> None:
    terms = terms_of(seed, positive)
    total = running(terms, kind("bfloat16"))[-1]
    off = abs(in_pieces(terms, pieces) - float(total.value))
    assert 0 < off <= total.probable <= total.rigorous


def test_signs_that_change_narrow_the_bound() -> None:
    terms = terms_of(0, positive=False)
    total = running(terms, Arithmetic.stepwise("bfloat16"))[-1]
    any_order = (TERMS - 1) * 2.0**-8 * np.sum(np.abs(terms))
    assert 0 < total.rigorous < any_order / 3


def test_long_sums_have_a_bound_all_the_same() -> None:
    total = running(np.ones(3000), Arithmetic.stepwise("bfloat16"))[-1]
    # It stands still at 256, where 1 is half a unit in the last place.
    assert in_pieces(np.ones(3000), 1) == 256
    assert 3000 - 256 <= total.rigorous < np.inf


def test_one_term_is_exact() -> None:
    assert running(np.ones((1, 3)), Arithmetic.stepwise("bfloat16")).is_exact
