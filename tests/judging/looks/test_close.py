"""Steps without a form, held against float64: what is said to be detected is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.engine.floats import numpy_dtype
from gradwitness.judging.comparing.comparison import CLOSE, Comparison
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.close import Closeness, is_clear
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.sums import Sums
from gradwitness.report.tables.depth import looked_at
from gradwitness.tape import Value
from judging.looks.test_fast import changed, found, place_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.tape import Tape

PLACES = {"first": 0, "middle": 30, "last": 59}


def close(
    value: Value, expected: Any, *, sums: Sums | None = None, by_element: bool = False
) -> Comparison | None:
    assert value.array is not None
    held = Closeness(value, norm_of(value.array), sums or Sums(), by_element=by_element)
    near = held.take(expected)
    return held.result() if near and not held.left else None


def value_of_array(array: NDArray[Any]) -> Value:
    return Value(0, array.shape, str(array.dtype), array)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_any_number_is_seen(place: str, dtype: str) -> None:
    expected = np.linspace(-3, 2, 60).reshape(5, 12).astype(dtype).astype("complex128")
    expected = expected if dtype == "complex64" else expected.real
    right = close(value_of_array(expected.astype(dtype)), expected)
    assert right is not None
    # 64 roundings of 2^-24, of the largest number, 3, and of the root mean square of all; twice.
    middle = math.sqrt(float(np.mean(np.abs(expected) ** 2)))
    assert right.detects == pytest.approx(2 * 64 * 2**-24 * (3 + middle))
    assert (right.reason, right.share, right.size) == (CLOSE, 1, 60)
    wrong = expected.astype(dtype)
    wrong.reshape(-1)[PLACES[place]] += 1.01 * right.detects
    assert close(value_of_array(wrong), expected) is None
    wrong.reshape(-1)[PLACES[place]] = np.nan
    assert close(value_of_array(wrong), expected) is None


def test_whole_numbers_are_the_same_or_not() -> None:
    numbers = np.arange(12)
    right = close(value_of_array(numbers), numbers)
    assert right is not None
    assert (right.reason, right.detects) == ("", 0)
    assert close(value_of_array(numbers), np.where(numbers == 11, 0, numbers)) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_are_what_float64_rounds_to(dtype: str) -> None:
    expected = np.linspace(-3, 2, 60)
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    kind = numpy_dtype(dtype)
    right = close(value_of_array(expected.astype(kind)), expected)
    assert right is not None
    # One rounding to the format beside those of float32.
    assert 2 * unit * 3 < right.detects < 2 * unit * 3 * 1.1
    wrong = expected.astype(kind)
    wrong[0] += kind.type(4 * unit * 3)
    assert close(value_of_array(wrong), expected) is None


def test_float64_does_not_tell_of_itself() -> None:
    assert not is_clear(value_of_array(np.ones(5)))
    assert is_clear(value_of_array(np.ones(5, np.float32)))


def test_a_number_made_of_few_is_held_against_itself() -> None:
    """Beside a million, an error of 1e-3 of a number of size 1 is small; of its own it is not."""
    expected = np.array([1e6, 1.0, -2.0])
    wrong = expected.astype(np.float32) * np.array([1, 1.001, 1], np.float32)
    assert close(value_of_array(wrong), expected) is not None
    assert close(value_of_array(wrong), expected, by_element=True) is None
    held = Closeness(value_of_array(wrong), 1e6, Sums(), by_element=True)
    assert held.take(expected)
    assert [list(places) for places in held.left] == [[1]]


@pytest.mark.parametrize("axis", [0, 1])
def test_places_are_left_where_they_lie_in_the_whole(axis: int) -> None:
    expected = np.arange(1.0, 13.0).reshape(3, 4)
    wrong = expected.astype(np.float32)
    wrong[2, 1] += 1
    held = Closeness(value_of_array(wrong), norm_of(wrong), Sums(), by_element=True)
    for piece in (slice(0, 1), slice(1, None)):
        index = (*(slice(None),) * axis, piece)
        assert held.take(expected[index], index)
    assert [list(places) for places in held.left] == [[9]]


def test_a_long_sum_may_be_off_by_a_quarter_of_the_worst_case() -> None:
    """n terms in turn are off by n u of the sum at worst: Higham 2002, section 4.2."""
    expected, n = np.array([2.0, 2.0]), 40_000
    for share, near in ((0.2, True), (0.6, False)):
        wrong = value_of_array((expected * (1 + share * n * 2.0**-24)).astype(np.float32))
        assert (close(wrong, expected, sums=Sums(n)) is not None) == near
        assert close(wrong, expected) is None


def test_what_is_left_of_terms_that_cancel_is_left_to_the_bounds() -> None:
    """Four terms of size 1, whose sum is 0: what float32 leaves is no signal.

    So may be a right number, where the terms are large only elsewhere: both look the same.
    """
    left = value_of_array(np.array([3e-7, -1e-7], np.float32))
    for sums in (Sums(), Sums(4, 2.0)):
        assert close(left, np.array([0.0, 0.0]), sums=sums) is None


def apart(case: str) -> torch.Tensor:
    """Return a layer's loss whose terms are large only where they do nothing."""
    torch.manual_seed(0)
    x, w = torch.randn(256, 96), torch.randn(128, 96, requires_grad=True)
    upon = torch.randn(256, 128)
    if case == "beside terms that cancel":
        x[1::2], upon[:, 0] = x[::2], 1e9
        upon[1::2, 0] = -1e9
    elif case == "beside a row without a gradient":
        x[0], upon[0] = 1e9 * x[0], 0
    else:
        x[0] *= 1e9
        x = (x.requires_grad_() * 1.0)[1 + torch.arange(256) % 255]
    return (torch.nn.functional.linear(x, w) * upon).sum()


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize(
    "case",
    [
        "beside terms that cancel",
        "beside a row without a gradient",
        "of other rows than the table's",
    ],
)
def test_numbers_are_no_zeros_where_others_have_large_terms(case: str, depth: str) -> None:
    """A weight's gradient is a few: beside a row of terms of 1e9, or of images that add nothing."""
    with record() as recorder:
        torch.autograd.backward(apart(case))
    tape = recorder.tape
    report = gw.judge(tape, depth=depth)
    assert report.verdict is gw.Verdict.AGREES
    products = [f for f in report.findings if (f.step, f.title[:2]) == (Step.BACKWARD, "Mm")]
    (finding,) = (f for f in products if 256 not in tape.values[value_of(tape, f)].shape)
    if "rows" in case:
        # How large the rows are that took part is known.
        assert finding.comparison.detects_relative < 1e-3
    wrong: Any = -np.asarray(tape.values[value_of(tape, finding)].array)
    now = gw.judge(changed(tape, value_of(tape, finding), wrong), depth=depth)
    verdicts = {place_of(f): f.verdict for f in now.findings}
    assert verdicts[place_of(finding)] is gw.Verdict.DISAGREES


def test_what_is_more_than_zero_within_rounding_is_held_against_its_own_size() -> None:
    """64 roundings of terms of size 1e4, each way, are 0.08: an error of a third of 0.2."""
    sums, expected = Sums(4, 1e4), np.array([0.2, -0.04])
    assert 0.1 < 2 * 64 * 2**-24 * 1e4 / 0.2 < 1
    right = close(value_of_array(expected.astype(np.float32)), expected, sums=sums)
    assert right is not None
    assert right.reason == CLOSE
    assert right.detects == pytest.approx(0.1 * 0.2)
    assert close(value_of_array((expected * 1.2).astype(np.float32)), expected, sums=sums) is None
    assert close(value_of_array((expected - 0.021).astype(np.float32)), expected, sums=sums) is None


@pytest.mark.parametrize("length", [64, 256])
@pytest.mark.parametrize("depth", ["full", "fast"])
def test_attention_to_values_that_are_nearly_the_same_is_no_zero(depth: str, length: int) -> None:
    """Where all values were equal, queries and keys would get nothing: here 2e-5 of their size."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, length, 32) for _ in range(3))
    v = v[:, :, :1] + 2e-5 * v
    with record(names={"q": q.requires_grad_(), "k": k.requires_grad_()}) as recorder:
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    tape = recorder.tape
    sent = [f for f in gw.judge(tape, depth=depth).findings if f.step is Step.BACKWARD]
    sent = [f for f in sent if "Dot" in f.title]
    assert [f.tensor_nr for f in sent] == [0, 1]
    for finding in sent:
        assert finding.verdict is gw.Verdict.AGREES
        assert finding.comparison.detects_relative <= 0.1
        array = tape.values[value_of(tape, finding)].array
        assert array is not None
        for factor in (0.7, 1.2, -1.0):
            wrong = np.ascontiguousarray(array.astype(np.float32) * np.float32(factor))
            report = gw.judge(changed(tape, value_of(tape, finding), wrong), depth=depth)
            (now,) = (f for f in report.findings if place_of(f) == place_of(finding))
            assert now.verdict is not gw.Verdict.AGREES


def test_of_zeros_alone_it_says_nothing() -> None:
    assert close(value_of_array(np.zeros(5, "float32")), np.zeros(5)) is None
    assert close(value_of_array(np.ones((5, 1), "float32")), np.ones((1, 5))) is None
    assert close(value_of_array(np.ones((), "float32")), None) is None


def recurrent() -> Tape:
    model = nn.LSTM(8, 16)
    return taped(model, lambda: model(torch.randn(7, 4, 8))[0])


def groups() -> Tape:
    model = nn.GroupNorm(4, 16)
    return taped(model, lambda: model(torch.randn(8, 16, 9)))


def waves() -> Tape:
    model = nn.Linear(16, 32)
    return taped(model, lambda: torch.fft.rfft(model(torch.randn(20, 16))).abs())


def bags() -> Tape:
    model = nn.EmbeddingBag(50, 16, mode="mean")
    return taped(model, lambda: model(torch.arange(300).reshape(60, 5) % 50))


def taped(model: nn.Module, y: Callable[[], torch.Tensor]) -> Tape:
    with record(model) as recorder:
        torch.autograd.backward(y().square().mean())
    return recorder.tape


@pytest.mark.parametrize("make", [recurrent, groups, waves, bags])
def test_what_is_said_to_be_detected_is_found(make: Callable[[], Tape]) -> None:
    torch.manual_seed(0)
    tape = make()
    report = gw.judge(tape, depth="fast")
    assert report.verdict is gw.Verdict.AGREES
    bounds = {place_of(f): f.comparison.detects for f in gw.judge(tape).findings}
    kinds = Step.FORWARD, Step.BACKWARD
    steps = [f for f in report.findings if f.comparison.reason == CLOSE and f.step in kinds]
    assert len(steps) >= 4
    assert f"{len(steps)} steps against float64" in looked_at(report)
    for finding in steps:
        array = tape.values[value_of(tape, finding)].array
        assert array is not None
        size = 1.01 * max(finding.comparison.detects, bounds[place_of(finding)])
        for place in {0, array.size // 2, array.size - 1}:
            wrong = np.ascontiguousarray(array).copy()
            wrong.reshape(-1)[place] += size
            assert found(tape, finding, wrong, size), finding.title


def test_attention_to_one_key_alone_leaves_what_rounding_leaves() -> None:
    # The first query of a causal attention sees the first key: its gradient is 0, of terms that are
    # as large as those of others.
    torch.manual_seed(0)
    q, k, v = ((torch.randn(2, 4, 128, 64) / 2 + c).requires_grad_() for c in (0, 0, 4))
    with record(names={"q": q, "k": k, "v": v}) as recorder:
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    tape = recorder.tape
    steps = [f for f in gw.judge(tape).findings if "ScaledDotProduct" in f.title]
    sent = {f.tensor_nr: f for f in steps if f.step is Step.BACKWARD}
    assert {n for n, f in sent.items() if f.comparison.reason == CLOSE} == {0, 1, 2}
    for finding in (sent[0], sent[1]):
        array = tape.values[value_of(tape, finding)].array
        assert array is not None
        size = 1.01 * finding.comparison.detects
        assert size < 1e-4 * np.abs(array).max()
        for place in (0, array.size // 2, array.size - 1):
            wrong = np.ascontiguousarray(array).copy()
            wrong.reshape(-1)[place] += size
            assert found(tape, finding, wrong, size), finding.title


def test_infinities_that_cancel_are_added_without_a_warning() -> None:
    x, factors = torch.randn(40, 40, requires_grad=True), torch.ones(40, 40)
    factors[0, 0] = math.inf
    with np.errstate(all="raise"):
        with gw.watch() as witness:
            torch.autograd.backward((x * factors).sum() - (x * factors).sum())
        report = witness.report
    # The NaN is told; an exception of NumPy's would leave the step unjudged, as a failure.
    assert "NaN in 1 of 1600 elements" in report.reasons()
    assert not [
        text for text in (*report.reasons(), *(n.text for n in report.notes)) if "failed" in text
    ]


@pytest.mark.parametrize("depth", ["fast", "full"])
def test_a_convolution_without_results_is_judged(depth: str) -> None:
    x, kernel = (
        torch.randn(*shape, requires_grad=True) for shape in ((64, 1, 48, 1), (1, 5, 2, 2))
    )
    with gw.watch(depth=depth) as witness:
        # Padding takes as much as there is.
        y = nn.functional.conv_transpose2d(x, kernel, padding=(0, 1))
        assert y.shape == (64, 5, 49, 0)
        torch.autograd.backward(y, torch.randn_like(y))
    # (Of the gradients, zeros are right.)
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
