"""Slopes compared with claimed gradients of functions with known derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness._errors import Unjudgeable
from gradwitness.judging.custom.slopes import Claim, measure
from gradwitness.tape import Value
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.judging.comparing.compare import Comparison

X = np.random.default_rng(4).normal(size=(30, 40))
G = np.random.default_rng(5).normal(size=(30, 40))


class Given:
    """One function of one operand."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.runs = 0

    def run(self, moved: Mapping[int, Any]) -> Sequence[Any]:
        self.runs += 1
        return [self.function(moved[0])]


def judged(
    function: Callable[[Any], Any],
    sent: Any,
    dtype: str = "float64",
    recorded: Any = None,
    at: Any = X,
) -> Comparison:
    y = function(at) if recorded is None else recorded
    value = Value(1, y.shape, "float64", y)
    claim = Claim(
        node=0, value=0, at=at, sent=sent, dtype=dtype, incoming=[G[: len(at)]], outputs=[value]
    )
    return measure(Given(function), claim)


SMOOTH: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "cube": (lambda x: x**3, lambda x: 3 * x * x),
    "linear": (lambda x: 2 * x, lambda x: 2 + 0 * x),
    # Kinks lie among so many numbers; hardly any lies within a small step.
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_right_claim_agrees(name: str, dtype: str) -> None:
    function, derivative = SMOOTH[name]
    comparison = judged(function, G * derivative(X), dtype)
    assert comparison.verdict is Verdict.AGREES, comparison.reason
    assert comparison.size == 4


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("factor", [-1.0, 0.0, 2.0])
def test_a_wrong_claim_disagrees(name: str, factor: float, dtype: str) -> None:
    function, derivative = SMOOTH[name]
    assert judged(function, factor * G * derivative(X), dtype).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("name", ["exp", "sin", "tanh", "cube"])
def test_one_wrong_element_among_many(name: str) -> None:
    function, derivative = SMOOTH[name]
    sent = G * derivative(X)
    sent[3, 7] += 0.1
    assert judged(function, sent, "float32").verdict is Verdict.DISAGREES
    # No larger than bfloat16's rounding of all elements together: not refuted.
    assert judged(function, sent, "bfloat16").verdict is not Verdict.DISAGREES


@pytest.mark.parametrize("name", ["exp", "tanh", "cube"])
def test_the_error_is_honest(name: str) -> None:
    function, derivative = SMOOTH[name]
    for seed in range(20):
        at = np.random.default_rng(seed).normal(size=(30, 40))
        comparison = judged(function, G * derivative(at), at=at)
        # The claim is exact, so all of the distance is the measurement's error.
        assert comparison.error <= comparison.bound


def test_rounding_at_random_in_the_recorded_format_agrees() -> None:
    for seed in range(50):
        noise = 1 + 2.0**-22 * np.random.default_rng(seed).uniform(-1, 1, X.shape)
        comparison = judged(np.exp, G * np.exp(X) * noise, "float32")
        assert comparison.verdict is Verdict.AGREES


def test_a_common_error_of_all_elements_within_rounding_agrees() -> None:
    assert judged(np.exp, G * np.exp(X) * (1 + 2.0**-23), "float32").verdict is Verdict.AGREES


def rough(x: Any) -> Any:
    """Round in the middle, like a kernel that always works in float32."""
    return np.exp(x.astype(np.float32)).astype(np.float64)


def test_rounding_inside_is_part_of_the_error() -> None:
    sent = G * np.exp(X)
    assert judged(rough, sent, "float32").verdict is not Verdict.DISAGREES
    assert judged(rough, -sent, "float32").verdict is Verdict.DISAGREES


def test_a_kink_right_there_is_left_open(snapshot: SnapshotAssertion) -> None:
    at = np.zeros((3, 40))
    # The slope of |x| at 0 by central differences is 0, but neither one-sided slope is refuted.
    for side in (1.0, -1.0, 0.0):
        comparison = judged(np.abs, G[:3] * side, at=at)
        assert comparison.verdict is Verdict.INCONCLUSIVE
        assert comparison.reason == snapshot


def test_another_result_each_time(snapshot: SnapshotAssertion) -> None:
    state = np.random.default_rng(0)

    def noisy(x: Any) -> Any:
        return x + state.normal(scale=1e-9, size=x.shape)

    comparison = judged(noisy, G)
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reason == snapshot


def test_another_result_than_recorded(snapshot: SnapshotAssertion) -> None:
    comparison = judged(np.exp, G * np.exp(X), recorded=np.sin(X))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reason == snapshot


def test_a_refusal_is_the_reason() -> None:
    def refuses(x: Any) -> Any:
        raise Unjudgeable("float64 is not for me")

    comparison = judged(refuses, G, recorded=X)
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reason == "float64 is not for me"


@pytest.mark.parametrize(
    ("sent", "verdict"),
    [
        (np.zeros((2, 2)), Verdict.DISAGREES),
        (np.full(X.shape, np.nan), Verdict.INCONCLUSIVE),
    ],
    ids=["shape", "nan"],
)
def test_what_is_no_gradient(sent: Any, verdict: Verdict, snapshot: SnapshotAssertion) -> None:
    comparison = judged(np.exp, sent)
    assert comparison.verdict is verdict
    assert comparison.reason == snapshot


def test_zero_for_a_function_that_does_not_use_its_operand_agrees() -> None:
    def constant(x: Any) -> Any:
        return np.ones(X.shape)

    assert judged(constant, np.zeros(X.shape)).verdict is Verdict.AGREES
    assert judged(constant, G).verdict is Verdict.DISAGREES
