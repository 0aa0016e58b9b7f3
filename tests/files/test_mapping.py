"""Arrays that stay in their file, and are read in pieces."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwitness.files import mapping
from gradwitness.files.mapping import MappedFile, forget, pieces, slabs

NUMBERS = np.arange(150_000, dtype=np.float32).reshape(300, 500)
LAYOUTS = {
    "plain": NUMBERS,
    "transposed": NUMBERS.T,
    "by columns": np.asfortranarray(NUMBERS),
    "every other": NUMBERS[:, ::2],
    "other byte order": NUMBERS.astype(">f4"),
    "none": NUMBERS[:0],
    "scalar": NUMBERS[0, 1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_are_all_numbers_in_c_order(layout: str) -> None:
    array = np.asarray(LAYOUTS[layout])
    read = [piece.copy() for (piece,) in pieces(array)]
    assert np.array_equal(np.concatenate([np.zeros(0), *read]), array.reshape(-1))


@pytest.mark.parametrize("layout", ["plain", "transposed", "by columns", "other byte order"])
@pytest.mark.parametrize("ends", [(0, 1), (70_000, 75_001), (3, 70_000)])
def test_a_stretch_of_numbers(layout: str, ends: tuple[int, int]) -> None:
    array = LAYOUTS[layout]
    read = [piece.copy() for (piece,) in pieces(array, start=ends[0], stop=ends[1])]
    assert np.array_equal(np.concatenate(read), array.reshape(-1)[slice(*ends)])


def test_what_broadcasts_is_the_same_in_every_piece() -> None:
    for x, one in pieces(NUMBERS, np.asarray(2.0)):
        assert x.shape == one.shape
        assert (one == 2).all()


@pytest.mark.parametrize(
    "shape", [(7, 6, 5), (7, 10), (1, 100), (100, 1), (90,), (3, 40), (), (0, 3)]
)
def test_slabs_hold_every_number_once(monkeypatch: Any, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(mapping, "PIECE", 32)
    monkeypatch.setattr(mapping, "_KEPT", 3)
    counts = np.zeros(shape, int)
    indices = list(slabs(counts))
    for index in indices:
        counts[index] += 1
        assert counts[index].size <= 12
    assert (counts == 1).all()
    assert indices  # also where there are no numbers


def test_mapped_numbers_are_there_after_they_were_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(b"abc" + NUMBERS.tobytes())
    array = MappedFile(path).array(NUMBERS.dtype, NUMBERS.shape, 3)
    base: Any = array.base
    assert isinstance(base, mmap.mmap)
    forget(array, NUMBERS)
    assert np.array_equal(array, NUMBERS)
    assert np.array_equal(np.concatenate([x.copy() for (x,) in pieces(array)]), NUMBERS.ravel())


def test_a_file_that_ends_early_is_told() -> None:
    with pytest.raises(ValueError, match="an array of 4000000 bytes ends after"):
        MappedFile(Path(__file__)).array(NUMBERS.dtype, (1_000_000,), 0)
