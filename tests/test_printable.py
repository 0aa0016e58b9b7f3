"""Lists of names as a sentence has them."""

from __future__ import annotations

import pytest

from gradwitness._printable import listed, several


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("", ""),
        ("a", "a"),
        ("ab", "a and b"),
        ("abc", "a, b and c"),
        ("abcd", "a, b, c and 1 more"),
        ("abcdef", "a, b, c and 3 more"),
    ],
)
def test_a_list_names_the_first_and_counts_the_others(names: str, text: str) -> None:
    assert listed(iter(names), most=3) == text


def test_one_is_not_said_as_several_are() -> None:
    said = [several(count, "step agrees", "steps agree") for count in (0, 1, 2)]
    assert said == ["0 steps agree", "1 step agrees", "2 steps agree"]
