"""Repeated stretches are found, folded where that hides enough, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwitness.report.picture.stretches import Stretch, repeated


@pytest.mark.parametrize(
    ("letters", "stretches"),
    [
        ("", []),
        ("a", []),
        ("abcabc", []),
        ("aaaaa", [(0, 1, 5)]),
        ("abrbrbrc", [(1, 2, 3)]),
        ("xababababcdcdcdcdy", [(1, 2, 4), (9, 2, 4)]),
        # The part itself repeats: the longest run counts, in its shortest form.
        ("aabaabaab", [(0, 3, 3)]),
        ("abababab", [(0, 2, 4)]),
    ],
)
def test_by_hand(letters: str, stretches: list[tuple[int, int, int]]) -> None:
    signs = [ord(letter) for letter in letters]
    assert repeated(signs, [1] * len(signs), 4) == [Stretch(*s) for s in stretches]


def test_what_hides_too_little_stays() -> None:
    assert repeated([1, 1], [3, 3], 4) == []
    assert repeated([1, 1], [4, 4], 4) == [Stretch(0, 1, 2)]


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 6))
def test_every_stretch_repeats_and_none_overlaps(signs: list[int], least: int) -> None:
    end = 0
    for start, length, times in repeated(signs, [1] * len(signs), least):
        assert start >= end
        assert length * (times - 1) >= least
        part = signs[start : start + length]
        end = start + length * times
        assert signs[start:end] == part * times
        # It does not go on.
        assert signs[end : end + length] != part
