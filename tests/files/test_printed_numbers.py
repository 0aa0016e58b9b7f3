"""Printed numbers are rounded as Python rounds them, whatever their form; nothing else is read."""

from __future__ import annotations

import math
import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwitness.files import printed_numbers
from gradwitness.files.printed_numbers import _in_two_parts, blocks_of, read_printed, values_of

FORMS = ["%.17e", "%.16e", "%.8e", "%.3f", "%g", "%.15g", "%+.12e", "%.9E", "%.25e", "%.0f"]
WORD = re.compile(r"[-+]?\d*(?P<point>\.(?P<decimals>\d*))?(?:[eE](?P<exponent>[-+]?\d+))?")
EDGES = [
    *("1.", ".5", "-.5", "+5", "1e5", "1E+05", "-0", "-0.0", "0e-400", "1e400", "-1e400", "1e-400"),
    *("4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308"),
    *("1e22", "1e23", "8.5e22", "9007199254740993", "9007199254740993.0", "9007199254740991e22"),
    *("123456789012345678", "1234567890123456789", "0.00000000000000000000000001"),
    *(
        "1e0000000000000000000000005",
        "1.5e00000000000000000000",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
    ),
]


def generator(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 (no secret)


def same(values: Any, words: list[str]) -> bool:
    """Whether numbers are what Python reads, to the last bit."""
    return bool(values.tobytes() == np.array([float(word) for word in words]).tobytes())


def drawn(seed: int, count: int = 3000) -> list[str]:
    """Return numbers of all sizes in all forms, many of them in the middle between two."""
    rng, words = generator(seed), []
    for _ in range(count):
        x = rng.gauss(0, 1) * 10.0 ** rng.randint(-300, 300)
        words += [rng.choice(FORMS) % (x if abs(x) < 1e30 else rng.gauss(0, 1)), repr(x)]
        middle = 2 * (rng.getrandbits(53) | 1 << 52) + 1
        words += [str(middle), f"{5 * middle}e-1", f"{25 * middle}e-2", f"{middle}e5"]
    rng.shuffle(words)
    return words


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("between", [" ", "\n", " \t ", "\r\n"])
def test_numbers_of_all_forms_are_rounded_as_python_rounds_them(seed: int, between: str) -> None:
    words = drawn(seed)
    printed = read_printed(between.join(words).encode())
    assert same(printed.values, words)


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_one_form(form: str) -> None:
    rng = generator(form)
    words = [form % (rng.gauss(0, 1) * 10.0 ** rng.randint(-20, 20)) for _ in range(3000)]
    assert same(read_printed(" ".join(words).encode()).values, words)


@pytest.mark.parametrize("word", EDGES)
def test_numbers_at_the_edges_of_what_is_read_at_once(word: str) -> None:
    for words in ([word], ["1.25", word, "-3e-2"], ["1.25"] * 100 + [word]):
        assert same(read_printed(" ".join(words).encode()).values, words)


@settings(max_examples=200)
@given(st.lists(st.floats(), min_size=1), st.sampled_from(["%r", "%.17g", "%.6e"]))
def test_any_floats_come_back(numbers: list[float], form: str) -> None:
    words = [form % x for x in numbers]
    values = read_printed("\n".join(words).encode()).values
    right = np.array([float(word) for word in words])
    assert np.array_equal(values, right, equal_nan=True)
    assert np.array_equal(np.signbit(values), np.signbit(right) & ~np.isnan(right))


def test_where_the_last_digit_is_and_where_each_number_ends() -> None:
    for words in ([*drawn(9, 200), *EDGES, "nan", "-inf"], EDGES[:9], EDGES[-3:], ["nan", "-inf"]):
        _check_last_digits(words)


def _check_last_digits(words: list[str]) -> None:
    text = "  ".join(words) + " "
    printed = read_printed(text.encode())
    found = [WORD.fullmatch(word) for word in words]
    decimals = [len(m["decimals"]) if m and m["point"] else -1 for m in found]
    assert printed.decimals.tolist() == decimals
    assert printed.exponents.tolist() == [int((m and m["exponent"]) or 0) for m in found]
    assert printed.is_scaled.tolist() == [bool(m and m["exponent"]) for m in found]
    assert printed.ends.tolist() == [m.end() for m in re.finditer(r"\S+", text)]


@pytest.mark.parametrize(
    "word",
    [
        *(".", "-", "+", "e", "e5", "1e", "1e+", "1e--5", "1-e5", "--5", "5-3", "1.2.3", "1..2"),
        *("1e5e6", "1e5.", "1.5.", "1_0", "0x10", "nan(1)", "1,2", "abc", "in", "1d5", "\u0661"),
        *(
            "1/2",
            "1:2",
            "5:",
            "1e/",
            "1234567/",
            "12345678:",
            "\0001",
            "1\v2",
            "1\f2",
            "/" * 8,
            "1" * 7 + "\xff",
        ),
    ],
)
def test_what_is_no_number_is_refused(word: str) -> None:
    for words in ([word], ["1.5", word, "2.5e-3"], ["7"] * 200 + [word]):
        with pytest.raises(ValueError, match=r".+"):
            read_printed(" ".join(words).encode())


@pytest.mark.parametrize("text", [b"", b" ", b"\n\t\r\n "])
def test_no_numbers(text: bytes) -> None:
    assert read_printed(text).values.size == 0
    assert values_of(text).size == 0


def test_blocks_end_between_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    words = drawn(4, 100)
    text = " ".join(words).encode()
    for size in (1, 7, 100, 10**6):
        monkeypatch.setattr(printed_numbers, "BLOCK", size)
        assert b"".join(blocks_of(text, b" ")) == text
        assert same(values_of(text), words)


def test_few_numbers_are_left_to_be_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise all of the above would hold for NumPy's reader alone.
    left: list[int] = []
    plain = printed_numbers._one_by_one

    def counted(padded: bytes, begins: Any, ends: Any) -> Any:
        left.append(len(ends))
        return plain(padded, begins, ends)

    monkeypatch.setattr(printed_numbers, "_one_by_one", counted)
    rng = generator(0)
    numbers = [rng.gauss(0, 1) for _ in range(2000)]
    for form in ("%.4f", "%.8e", "%.17e"):
        read_printed(" ".join(form % x for x in numbers).encode())
        assert not left
    read_printed(" ".join(map(repr, numbers)).encode())
    assert sum(left) < 200
    assert math.isnan(read_printed(b"nan" + b" 1.5" * 100).values[0])
    assert left[-1] == 1


def test_what_two_float64_do_not_decide_is_told() -> None:
    rng = generator(1)
    middles = [2 * (rng.getrandbits(53) | 1 << 52) + 1 for _ in range(100)]
    # Below 2^54 every other integer is a float64: the last odd one lies between it and 2^54 - 2.
    middles.append(2**54 - 1)
    for digits, power in ((5, -1), (25, -2)):
        mantissa = np.array([digits * middle for middle in middles], np.uint64)
        powers = np.full(mantissa.shape, power)
        assert _in_two_parts(mantissa, powers)[1].all()
        assert not _in_two_parts(mantissa + 1, powers)[1].any()
