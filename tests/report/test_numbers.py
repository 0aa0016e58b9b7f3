"""Numbers as short text."""

from __future__ import annotations

import math

import pytest

from gradwitness.judging.numbers import digits_right, seconds_shown, short, subscript


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
        (999.6, 3, "1000"),
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


def test_times() -> None:
    times = (0.00014, 0.0126, 0.9996, 1.0, 3.35, 1234.5)
    shown = ["0.14 ms", "12.6 ms", "1000 ms", "1 s", "3.35 s", "1234 s"]
    assert [seconds_shown(seconds) for seconds in times] == shown


def test_places() -> None:
    assert subscript((2, 5)) == "[2,5]"
    assert subscript((0,)) == "[0]"
    assert subscript(()) == ""
    assert subscript(None) == ""
