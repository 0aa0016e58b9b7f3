"""Gradients that are reversed, scaled, clipped or passed through a clamp are recognised."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from gradwitness.rules import surrogates
from judging import passing_functions as functions
from judging.passing_functions import Passing

if TYPE_CHECKING:
    from collections.abc import Iterator

A, D = gw.Verdict.AGREES, gw.Verdict.DISAGREES
MASK = (torch.arange(60) % 3 > 0).reshape(6, 5, 2).float()
PASSED, CLAMPED = "is the identity: this looks like ", "clamps: this looks like a straight-through "
# Name: arguments besides the first, what it is recognised as, and the formula.
KINDS: list[tuple[str, tuple[Any, ...], str, str]] = [
    ("Reversed", (0.3,), PASSED + "a gradient reversal;", "-alpha g"),
    ("ReversedAsItIs", (), PASSED + "a gradient reversal;", "-g"),
    ("Scaled", (0.1,), PASSED + "a gradient scaled by scale;", "scale g"),
    ("Scaled", (torch.tensor(0.7),), PASSED + "a gradient scaled by scale;", "scale g"),
    ("Scaled", (MASK[0] + 1,), PASSED + "a gradient scaled by scale;", "scale g"),
    ("Divided", (8.0,), PASSED + "a gradient scaled by 1 / scale;", "1 / scale g"),
    ("Tenth", (), PASSED + "a gradient scaled by 0.1;", "0.1 g"),
    ("Masked", (MASK,), PASSED + "a gradient masked by mask;", "mask g"),
    ("Clipped", (0.4,), PASSED + "a gradient clipped by value;", "g clipped to [-most, most]"),
    ("ClippedUnevenly", (), PASSED + "a gradient clipped by value", "g clipped to [-0.25, 0.75]"),
    ("ClippedAbove", (0.75,), PASSED + "a gradient clipped by value", "g clipped to [-inf, most]"),
    ("ClippedNorm", (0.5,), PASSED + "a gradient clipped by its norm", "g clipped to |g| <= most"),
    (
        "ClippedRows",
        (0.6,),
        PASSED + "a gradient clipped by its norm",
        "g clipped to |g| <= most over axis=-1",
    ),
    (
        "ClippedSamples",
        (2.0,),
        PASSED + "a gradient clipped by its norm",
        "g clipped to |g| <= most over axis=(1, 2)",
    ),
    ("UnitRows", (), PASSED + "a gradient of norm 1;", "g / |g| over axis=-1"),
    ("Stopped", (), PASSED + "a stopped gradient;", "0"),
    ("Clamped", (), CLAMPED + "estimator, the identity;", "g"),
    ("ClampedWider", (), CLAMPED + "estimator, the identity, clipped;", "g where |x| <= 1.5"),
    ("ClampedLeaky", (), CLAMPED + "estimator, two levels", "1 g where x >= 0, else 0.25 g"),
    (
        "LowerBound",
        (torch.tensor([0.2]),),
        CLAMPED + "estimator, the identity, clipped;",
        "g where x >= bound or g < 0",
    ),
    (
        "BothBounds",
        (),
        CLAMPED + "estimator, the identity, clipped;",
        "g where x >= -1 or g < 0, and x <= 1 or g > 0",
    ),
]


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    before = dict(surrogates._declared)
    yield
    surrogates._declared.clear()
    surrogates._declared.update(before)


def watched(name: str, *further: Any, shape: tuple[int, ...] = (6, 5, 2)) -> gw.Witness:
    generator = torch.Generator().manual_seed(3)
    x = (1.5 * torch.randn(shape, generator=generator)).requires_grad_()
    weights = torch.randn(shape, generator=generator)
    with gw.watch(names={"x": x}) as witness:
        (apply(getattr(functions, name), 1 * x, *further) * weights).sum().backward()
    return witness


def advice(witness: gw.Witness) -> str:
    assert witness.verdict is D
    (wrong,) = witness.report.wrong
    return wrong.advice


def pasted(advice: str) -> str:
    code = textwrap.dedent(advice.partition("\n\n")[2])
    exec(code, {})  # noqa: S102 (it is there to be run)
    return code


@pytest.mark.parametrize(("name", "further", "said", "text"), KINDS)
def test_what_is_meant_can_be_pasted(
    name: str, further: Any, said: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = advice(watched(name, *further))
    assert said in told.partition("\n")[0]
    code = pasted(told)
    assert f'"{text}"' in code
    assert "tolerance" not in code
    assert watched(name, *further).verdict is A
    monkeypatch.setattr(Passing, "off", 0.01)
    assert watched(name, *further).verdict is D


@pytest.mark.parametrize("name", ["Squared", "ClampedTimesX", "Twice"])
def test_a_wrong_gradient_looks_like_nothing(name: str) -> None:
    assert advice(watched(name)) == ""


def test_a_declaration_follows_the_argument() -> None:
    pasted(advice(watched("Reversed", 0.3)))
    assert watched("Reversed", 0.9).verdict is A
    assert watched("Scaled", -0.9).verdict is D


def test_a_factor_of_zero_does_not_tell_its_sign() -> None:
    told = advice(watched("Reversed", 0.0))
    assert "a gradient scaled by alpha, which is 0 here" in told
    assert '"alpha g"' in pasted(told)


def test_many_rows_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (600, 9)
    assert "over axis=-1" in pasted(advice(watched("ClippedRows", 0.6, shape=shape)))
    assert watched("ClippedRows", 0.6, shape=shape).verdict is A
    monkeypatch.setattr(Passing, "off", 1e-3)
    assert watched("ClippedRows", 0.6, shape=shape).verdict is D


def test_a_gradient_that_is_not_sent_is_a_stopped_one() -> None:
    class Absent(Passing):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return Passing.forward(ctx, x)

        @classmethod
        def backward(cls, ctx: Any, *grads: Any) -> Any:  # noqa: ARG003
            return None

    x: Any = torch.linspace(-1, 1, 5).requires_grad_()

    def run() -> gw.Witness:
        with gw.watch() as witness:
            y: Any = apply(Absent, 2 * x)
            (y.sum() + x.sum()).backward()
        return witness

    told = advice(run())
    assert "a stopped gradient" in told
    exec(textwrap.dedent(told.partition("\n\n")[2]), {"Absent": Absent})  # noqa: S102
    assert run().verdict is A
