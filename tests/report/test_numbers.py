"""Numbers as short text."""

from __future__ import annotations

import math

import pytest

from gradwitness.judging.numbers import digits_right, short, subscript


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [
        (0.0, 3, "0"),
        (-0.0, 3, "-0"),
        (1.0, 3, "1"),
        (0.0473123, 3, "0.0473"),
        (0.001, 3, "0.001"),
        (0.000999, 3, "9.99e-04"),
        (1.2345e-8, 3, "1.23e-08"),
        (1.2345e-8, 2, "1.2e-08"),
        (123.4, 3, "123"),
        (1234.5, 3, "1234"),
        (99999.0, 3, "99999"),
        (100000.0, 3, "1.00e+05"),
        (-2.5, 3, "-2.5"),
        (0.123456789, 6, "0.123457"),
        (math.inf, 3, "inf"),
        (-math.inf, 3, "-inf"),
        (math.nan, 3, "-"),
    ],
)
def test_short(number: float, digits: int, text: str) -> None:
    assert short(number, digits) == text


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        (math.inf, "all"),
        (7.25, "7.2"),
        (0.42, "0.42"),
        # An error of the size of the number, and one of twice it: log10(1) and -log10(2).
        (-4.9e-8, "0"),
        (4.1e-9, "0"),
        (-0.301, "0"),
        (-math.inf, "0"),
        (math.nan, "-"),
    ],
)
def test_digits_that_are_right(digits: float, text: str) -> None:
    assert digits_right(digits) == text


def test_places() -> None:
    assert subscript((2, 5)) == "[2,5]"
    assert subscript((0,)) == "[0]"
    assert subscript(()) == ""
    assert subscript(None) == ""
