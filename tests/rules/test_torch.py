"""Torch's results lie within the derived bounds, in each format, and use a fair part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.capture.arrays import dtype_name
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, part
from gradwitness.judging.compare import compare
from gradwitness.verdict import Verdict
from rules.harness import Case, make, name, numbers, pairs
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.compare import Comparison
    from rules.samples import Sample

    Result = tuple[Sample, str]

SEEDS = range(4)
# How long a contraction is: no sum at all, the main job's width, more than one block of a kernel.
LENGTHS = (1, 21, 257)
# The least part of the bound that the worst of torch's errors has to use. The bound of a long
# sum is a worst case that rounding comes nowhere near, so it is the short sums that decide. In
# float64 torch and NumPy do the same arithmetic, and often do not differ at all.
USED = {"float64": 0.0, "float32": 0.02, "bfloat16": 0.1}
# One backward kernel that calls several functions of a library: in 16 bits it rounds once, where
# the bound counts each. The part that has to be used is half of that.
SEVERAL_FUNCTIONS = (
    ("native_layer_norm", "dw"),
    ("native_group_norm", "dw"),
    ("native_group_norm each channel", "dw"),
    ("renorm", "dx"),
    ("renorm 3, last axis", "dx"),
    ("logspace", "y"),
    ("logspace base 2", "y"),
    ("mish", "dx"),
    ("celu 1.3", "dx"),
    ("_softmax", "y"),
    ("_safe_softmax", "y"),
    ("soft_margin_loss_backward mean", "ddy"),
    ("binary_cross_entropy_backward mean", "ddy"),
    # Pi, which lies close to a number of 16 bits.
    ("angle real", "y"),
)
# Sums by place that this kernel makes in float32, but a GPU's atomically in 16 bits; the value of
# two axes it interpolates in float32, but that of one or three in 16 bits.
BY_PLACE = ("upsample_", "_upsample_")
# The bound takes the longest chain of roundings in a polynomial, and its worst cancellation, for
# each of its terms; that of a pseudoinverse the norm of all of it for each of its numbers.
WHOLE = ("linalg_matrix_exp", "linalg_pinv")

# A result is the value, y (y[0], y[1] of several), or the gradient of an operand, dx.
RESULTS = [(sample, result) for sample in SAMPLES for result in make(sample).compared]
RESULTS += [(sample, f"d{operand}") for sample, operand in pairs()]


def expected(case: Case, result: str) -> Any:
    if result in case.names:
        return case.values()[case.names.index(result)]
    return case.gradient(result[1:], Arithmetic.stepwise(case.dtype))


def cases(sample: Sample, dtype: str) -> Iterator[Case]:
    for length in LENGTHS if sample.sized else LENGTHS[:1]:
        for seed in SEEDS:
            yield make(sample, dtype, seed, length)


def comparison(case: Case, result: str) -> Comparison:
    """Torch's result against the rule's."""
    if result not in case.names:
        made = case.torch_gradient(result[1:])
        return compare(made, expected(case, result), made.dtype.name)
    recorded = case.outputs[case.names.index(result)]
    return compare(numbers(recorded), expected(case, result), dtype_name(recorded))


def kept_in(case: Case, result: str) -> str:
    """The format of a result, or of its parts: statistics of 16-bit numbers may be float32."""
    if result not in case.names:
        return case.dtype
    return part(dtype_name(case.outputs[case.names.index(result)]))


# Torch has no gradient of detach, whose vjp custom functions need, nor of the statistics that the
# backward of a normalisation is given, and a wrong one of a broadcast mse_loss and of the backward
# of an embedding by frequency (see test_conventions and test_conventions_twice).
NO_WITNESS = (
    "detach",
    "mse_loss broadcast",
    "native_layer_norm_backward statistics",
    "native_batch_norm_backward statistics",
    "embedding_dense_backward by frequency",
)
TORCH_HAS = [(s, result) for s, result in RESULTS if result[0] == "y" or s.name not in NO_WITNESS]

# Torch has no kernel for 16-bit numbers.
NO_16_BITS = (
    "affine_grid_generator aligned, one wide",
    "_cdist_forward",
    "_ctc_loss",
    "_pdist_forward",
    "_to_copy real to complex",
    "cholesky",
    "complex",
    "_fft_",
    "polar",
    "view_as_complex",
    "grid_sampler",
    "_linalg_",
    "linalg_cholesky",
    "linalg_householder",
    "linalg_inv",
    "linalg_lu",
    "linalg_matrix_exp",
    "linalg_pinv",
    "linalg_qr",
    "linalg_solve",
    "lu_unpack",
    "multi_margin_loss",
    "multilabel_margin_loss_forward",
    "special_erfcx",
    "triangular_solve",
    "special_i1",
    "special_log_ndtr",
    "special_ndtri",
)
# Sums of which torch stores every partial one in 16 bits, and stays far below the worst case.
ADDED_IN_16_BITS = ("nll_loss", "soft_margin_loss mean")
# A transform of real numbers may be one of complex numbers, of half the length: the bound has room
# for both ways. A complex quotient is bounded for any denominator, also where that is a count.
TWO_WAYS = ("_fft_", "mean.dim complex")
# Operations that torch's CPU has no 16-bit kernel for.
NO_KERNEL = ("avg_pool3d",)


def in_each_format() -> Iterator[Any]:
    for sample, result in TORCH_HAS:
        for dtype in USED:
            if dtype == "bfloat16" and sample.name.startswith(NO_KERNEL):
                continue
            if dtype == "bfloat16" and (sample.planar or sample.name.startswith(NO_16_BITS)):
                continue
            label = f"{name(sample)}: {result}, {dtype}"
            yield pytest.param(sample, result, dtype, id=label)


@pytest.mark.parametrize(("sample", "result", "dtype"), list(in_each_format()))
def test_torch_uses_the_bound_and_stays_within(sample: Sample, result: str, dtype: str) -> None:
    drawn = list(cases(sample, dtype))
    found = [comparison(case, result) for case in drawn]
    assert [c for c in found if c.verdict is not Verdict.AGREES] == []
    assert [c.probable_ratio for c in found if c.suspicious] == []
    worst = max(c.ratio for c in found)
    if sample.shows_no_error(result):
        assert worst == 0
    elif used := USED[kept_in(drawn[0], result)]:
        share = 0.5 if (sample.name, result) in SEVERAL_FUNCTIONS else 1.0
        if dtype == "bfloat16" and sample.name.startswith(BY_PLACE):
            share = 0.05
        share = 0.5 if name(sample).startswith(ADDED_IN_16_BITS) else share
        share = 0.1 if name(sample).startswith(WHOLE) else share
        share = 0.4 if name(sample).startswith(TWO_WAYS) else share
        assert worst > share * used, "the bound is slack"


def label(result: Result) -> str:
    return f"{name(result[0])}: {result[1]}"


@pytest.mark.parametrize("result", RESULTS, ids=label)
def test_bound_is_0_where_nothing_rounds_and_nowhere_else(result: Result) -> None:
    sample, what = result
    found = expected(make(sample, "float32"), what)
    bound = found.rigorous if isinstance(found, Bounded) else None
    assert (bound is None or not np.any(bound)) == sample.is_exact(what)


@pytest.mark.parametrize("factor", [1 + 2**-20, 1 - 2**-20])
@pytest.mark.parametrize("result", [("tanh", "y"), ("mm", "dA"), ("convolution 1-d", "dw")])
def test_error_of_16_roundings_is_refuted(result: tuple[str, str], factor: float) -> None:
    sample = next(s for s in SAMPLES if s.name == result[0])
    case = make(sample, "float32")
    found = expected(case, result[1])
    wrong = (np.asarray(found.value) * factor).astype(np.float32)
    assert compare(wrong, found, "float32").verdict is Verdict.DISAGREES
