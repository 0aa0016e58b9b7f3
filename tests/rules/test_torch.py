"""Torch's results lie within the derived bounds, in each format, and use a fair part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gradwitness.capture.memory.arrays import dtype_name
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, part
from gradwitness.judging.comparing.compare import compare
from gradwitness.verdict import Verdict
from rules.harness import Case, make, name, numbers
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.comparing.compare import Comparison
    from rules.samples import Sample

# How often operands are drawn: the fewest, and as often as it takes to use the bound, at most.
FEWEST, SEEDS = 2, range(4)
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
# each of its terms; that of a pseudoinverse the norm of all of it for each of its numbers; that of
# stretched curves the error of their sum for each weight.
WHOLE = (
    "linalg_matrix_exp",
    "linalg_pinv",
    "linalg_lstsq",
    "_upsample_bicubic2d_aa",
    "_upsample_lanczos2d_aa",
)


def expected(case: Case) -> dict[str, Any]:
    """What the rule says: the values, y (or y[0], y[1]), and the gradients of operands, dx."""
    values = dict(zip(case.names, case.values(), strict=True))
    gradients = case.gradients(case.differentiable, Arithmetic.stepwise(case.dtype))
    return {y: values[y] for y in case.compared} | {f"d{x}": g for x, g in gradients.items()}


def comparisons(case: Case) -> dict[str, Comparison]:
    """Torch's results against the rule's."""
    outputs = dict(zip(case.names, case.outputs, strict=True))
    found = {y: (numbers(outputs[y]), dtype_name(outputs[y])) for y in case.compared}
    if case.sample.name not in NO_WITNESS:
        made = case.torch_gradients(case.differentiable)
        found |= {f"d{x}": (g, g.dtype.name) for x, g in made.items()}
    ours = expected(case)
    return {result: compare(made, ours[result], dtype) for result, (made, dtype) in found.items()}


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
    "geqrf",
    "grid_sampler",
    "_histogramdd_",
    "histogram.",
    "_linalg_",
    "linalg_cholesky",
    "linalg_eig",
    "linalg_householder",
    "linalg_inv",
    "linalg_ldl",
    "linalg_lstsq",
    "linalg_lu",
    "linalg_matrix_exp",
    "linalg_pinv",
    "linalg_qr",
    "linalg_solve",
    "lu_unpack",
    "multi_margin_loss",
    "multilabel_margin_loss_forward",
    "ormqr",
    "special_erfcx",
    "triangular_solve",
    "special_i1",
    "special_log_ndtr",
    "special_ndtri",
)
# Torch's exponential for this kernel in 16 bits has 20 bits in vectors of AVX, and all elsewhere.
FEW_BITS = "_scaled_dot_product_flash_attention_for_cpu"
# Sums of which torch stores every partial one in 16 bits, and stays far below the worst case.
ADDED_IN_16_BITS = ("nll_loss", "soft_margin_loss mean")
# One kernel where its numbers lie in memory in their order, else a chain of kernels: the bound
# is that of the chain.
A_CHAIN_ELSEWHERE = "native_batch_norm_backward"
# A transform of real numbers may be one of complex numbers, of half the length: the bound has room
# for both ways. A complex quotient is bounded for any denominator, also where that is a count.
TWO_WAYS = ("_fft_", "linalg_eig", "mean.dim complex")
# Operations that torch's CPU has no 16-bit kernel for.
NO_KERNEL = ("avg_pool3d",)


def in_each_format() -> Iterator[Any]:
    for sample in SAMPLES:
        for dtype in USED:
            if dtype == "bfloat16" and sample.name.startswith(NO_KERNEL):
                continue
            if dtype == "bfloat16" and (sample.planar or sample.name.startswith(NO_16_BITS)):
                continue
            yield pytest.param(sample, dtype, id=f"{name(sample)}: {dtype}")


def least(case: Case, result: str) -> float:
    """The part of its bound that the worst of a result's errors has to use."""
    sample, dtype = case.sample, case.dtype
    share = 0.5 if (sample.name, result) in SEVERAL_FUNCTIONS else 1.0
    if dtype == "bfloat16" and sample.name.startswith(BY_PLACE):
        share = 0.05
    share = 0.5 if name(sample).startswith(ADDED_IN_16_BITS) else share
    share = 0.1 if name(sample).startswith(WHOLE) else share
    share = 0.4 if name(sample).startswith(TWO_WAYS) else share
    if dtype == "bfloat16" and name(sample).startswith(A_CHAIN_ELSEWHERE):
        share = 0.5
    if dtype == "bfloat16" and (name(sample).startswith(FEW_BITS), result) == (True, "y[1]"):
        share = share if torch.backends.cpu.get_cpu_capability().startswith("AVX") else 0.05
    return share * USED[kept_in(case, result)]


def is_slack(case: Case, result: str, worst: float) -> bool:
    """Whether torch's worst error uses too little of a result's bound."""
    if case.sample.shows_no_error(result):
        return False
    used = least(case, result)
    return used > 0 and worst <= used


@pytest.mark.parametrize(("sample", "dtype"), list(in_each_format()))
def test_torch_uses_the_bound_and_stays_within(sample: Sample, dtype: str) -> None:
    worst: dict[str, float] = {}
    slack = [""]
    for seed in SEEDS:
        if seed >= FEWEST and not slack:
            break
        for length in LENGTHS if sample.sized else LENGTHS[:1]:
            case = make(sample, dtype, seed, length)
            found = comparisons(case)
            assert [(r, c) for r, c in found.items() if c.verdict is not Verdict.AGREES] == []
            assert [(r, c.probable_ratio) for r, c in found.items() if c.suspicious] == []
            worst |= {r: max(worst.get(r, 0.0), c.ratio) for r, c in found.items()}
        slack = [result for result, used in worst.items() if is_slack(case, result, used)]
    assert worst
    assert [r for r, used in worst.items() if used and sample.shows_no_error(r)] == []
    assert slack == [], "the bound is slack"


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_bound_is_0_where_nothing_rounds_and_nowhere_else(sample: Sample) -> None:
    found = expected(make(sample, "float32"))
    bounds = {r: e.rigorous if isinstance(e, Bounded) else None for r, e in found.items()}
    assert found
    assert {r: bound is None or not np.any(bound) for r, bound in bounds.items()} == {
        result: sample.is_exact(result) for result in found
    }


@pytest.mark.parametrize("factor", [1 + 2**-20, 1 - 2**-20])
@pytest.mark.parametrize("result", [("tanh", "y"), ("mm", "dA"), ("convolution 1-d", "dw")])
def test_error_of_16_roundings_is_refuted(result: tuple[str, str], factor: float) -> None:
    sample = next(s for s in SAMPLES if s.name == result[0])
    case = make(sample, "float32")
    found = expected(case)[result[1]]
    wrong = (np.asarray(found.value) * factor).astype(np.float32)
    assert compare(wrong, found, "float32").verdict is Verdict.DISAGREES
