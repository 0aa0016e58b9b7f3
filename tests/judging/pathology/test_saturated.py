"""Sigmoids and tanhs rounded to 1: the note counts them where other numbers have a gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable


def noted(
    function: Callable[[Any], Any], *numbers: float, dtype: torch.dtype = torch.float64
) -> tuple[list[str], list[float]]:
    """Return the notes about saturation, and the gradient."""
    x = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(function(x).sum())
    assert not witness.report.wrong
    assert x.grad is not None
    notes = [note.text for note in witness.report.notes if note.kind == "saturated"]
    return notes, x.grad.tolist()


@pytest.mark.parametrize(
    ("function", "number", "slope", "end"),
    [
        # e^-x / (1 + e^-x)^2, and 1 / cosh(x)^2.
        (torch.sigmoid, 40.0, math.exp(-40), "36.7"),
        (torch.tanh, -20.0, 4 * math.exp(-40), "19.1"),
    ],
)
def test_tails_beside_larger_numbers_are_counted(
    function: Callable[[Any], Any], number: float, slope: float, end: str
) -> None:
    (text,), gradient = noted(function, number, 0.5, 1.0)
    assert gradient[0] == 0 < slope < 1e-16 * gradient[1]
    assert text.startswith("1 of 3 numbers after ")
    assert f"x = {end} on in float64" in text
    # The end is where it says, to three digits.
    sign = math.copysign(1, number)
    assert len(noted(function, sign * 1.01 * float(end), 0.5)[0]) == 1
    assert noted(function, sign * 0.98 * float(end), 0.5)[0] == []


def test_in_float32_they_end_sooner() -> None:
    (text,), _ = noted(torch.tanh, 9.2, 0.5, dtype=torch.float32)
    assert "x = 9.01 on in float32" in text


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.sigmoid(x) * (x < 1),  # nothing arrives at the tail
        lambda x: torch.sigmoid(x) * (x > 1),  # nor elsewhere: no digit of all is right
        lambda x: torch.nn.functional.logsigmoid(-x),
        lambda x: torch.sigmoid(-x),  # e^-40 is a number
    ],
)
def test_where_nothing_is_lost_beside_others_no_note_is_made(function: Any) -> None:
    assert noted(function, 40.0, 0.5)[0] == []


def test_sixteen_bits_are_not_counted() -> None:
    assert noted(torch.tanh, 9.0, 0.5, dtype=torch.bfloat16)[0] == []
