"""Torch's results lie within the derived bounds, in each format, and use a fair part of them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from gradwitness.check.compare import compare
from gradwitness.check.verdict import Verdict
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from rules.harness import make, name, pairs
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from gradwitness.check.compare import Comparison
    from rules.samples import Sample

    Result = tuple[Sample, str]

DTYPES = ("float64", "float32", "bfloat16")
SEEDS = range(5)
# How long a contraction is: no sum at all, the main job's width, more than one block of a kernel.
LENGTHS = (1, 21, 257)
# The least part of the bound that the worst of torch's errors has to use. The bound of a long
# sum is a worst case that rounding comes nowhere near; a sum of one number is in each sample too.
USED = {"float64": 0.02, "float32": 0.02, "bfloat16": 0.1}

# A result is the value, y, or the gradient of an operand, dx.
RESULTS = [(sample, "y") for sample in SAMPLES]
RESULTS += [(sample, f"d{operand}") for sample, operand in pairs()]


@cache
def comparisons(sample: Sample, result: str, dtype: str) -> dict[str, Comparison]:
    """Torch's result against the rule's, for all seeds and lengths."""
    found = {}
    for length in LENGTHS if sample.sized else LENGTHS[:1]:
        for seed in SEEDS:
            case = make(sample, dtype, seed, length)
            if result == "y":
                recorded, expected = case.result, case.value()
            else:
                recorded = case.torch_gradient(result[1:])
                expected = case.gradient(result[1:], Arithmetic.stepwise(dtype))
            found[f"length {length}, seed {seed}"] = compare(recorded, expected, dtype)
    return found


def has_gradient(sample: Sample, result: str) -> bool:
    """Whether torch differentiates this operation: not detach, whose vjp custom functions need."""
    return result == "y" or make(sample).output.requires_grad


TORCH_HAS = [pair for pair in RESULTS if has_gradient(*pair)]


def label(result: Result) -> str:
    return f"{name(result[0])}: {result[1]}"


def test_only_detach_has_a_gradient_that_torch_lacks() -> None:
    assert {name(sample) for sample, _ in set(RESULTS) - set(TORCH_HAS)} == {"detach"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("result", TORCH_HAS, ids=label)
def test_torch_is_within_the_bound(result: Result, dtype: str) -> None:
    found = comparisons(*result, dtype)
    assert {k: c for k, c in found.items() if c.verdict is not Verdict.AGREES} == {}
    assert {k: c.likely_ratio for k, c in found.items() if c.suspicious} == {}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("result", TORCH_HAS, ids=label)
def test_bound_is_not_slack(result: Result, dtype: str) -> None:
    sample, what = result
    worst = max(c.ratio for c in comparisons(sample, what, dtype).values())
    if what in sample.exact | sample.unused:
        assert worst == 0
    else:
        assert worst > USED[dtype]


@pytest.mark.parametrize("result", RESULTS, ids=label)
def test_exact_is_said_of_what_rounds_nothing_and_of_nothing_else(result: Result) -> None:
    sample, what = result
    case = make(sample, "float32")
    expected = (
        case.value() if what == "y" else case.gradient(what[1:], Arithmetic.stepwise("float32"))
    )
    is_exact = expected.is_exact if isinstance(expected, Bounded) else True
    assert is_exact == (what in sample.exact)
