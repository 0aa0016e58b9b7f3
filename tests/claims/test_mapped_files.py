"""Large arrays stay in their files, whatever the format; damaged files are refused all the same."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from gradwitness import FileFormatError, diff
from gradwitness.claims.sources import read_claims
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = np.random.default_rng(0).standard_normal((1500, 1500), np.float32)


def save(path: Path, array: Any) -> None:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        # Of an odd number of letters, so that its numbers are not aligned.
        np.savez(path, a=array)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file({"a": np.ascontiguousarray(array)}, path)
    elif path.suffix == ".pt":
        torch.save({"a": torch.from_numpy(array)}, path)
    else:
        with h5py.File(path, "w") as file:
            file["a"] = array


FORMATS = [".npy", ".npz", ".safetensors", ".h5", ".pt"]


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_large_arrays_are_not_copied(tmp_path: Path, extension: str, dtype: Any) -> None:
    array, path = NUMBERS.astype(dtype).T, tmp_path / f"a{extension}"
    save(path, array)
    read_claims(path)  # imports
    tracemalloc.start()
    (run,) = read_claims(path).runs
    judged = diff(path, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(run["a"].array, array)
    assert run["a"].array.dtype == dtype
    assert judged.verdict is Verdict.AGREES
    # Some pieces of 2^16 numbers, and what goes with them; the array takes 4.5 to 18 MB.
    assert peak < 4e6


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("missing", [10, 5_000_000])
def test_a_large_file_cut_off_is_refused(tmp_path: Path, extension: str, missing: int) -> None:
    path = tmp_path / f"a{extension}"
    save(path, NUMBERS)
    content = path.read_bytes()
    path.write_bytes(content[:-missing])
    with pytest.raises(FileFormatError, match=f"a{extension}"):
        read_claims(path)


def test_a_large_array_that_is_longer_than_its_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save(path, NUMBERS)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(1500, 1500)", b"(1500, 9500)"))
    with pytest.raises(FileFormatError, match=r"declares an array of shape \(1500, 9500\)"):
        read_claims(path)


def test_compressed_datasets_and_other_floats_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("packed", data=NUMBERS, compression="gzip")
        file.create_dataset("swapped", data=NUMBERS.astype(">f4"))
        file.create_dataset("empty", shape=(0, 3), dtype=np.float32)
    (run,) = read_claims(tmp_path / "a.h5").runs
    for name in ("packed", "swapped"):
        assert np.array_equal(run[name].array, NUMBERS)
    assert run["empty"].array.shape == (0, 3)


@pytest.mark.parametrize("is_first", [False, True])
def test_a_damaged_npz_is_refused_before_its_numbers_are_called_wrong(
    tmp_path: Path, *, is_first: bool
) -> None:
    pair = right, damaged = tmp_path / "right.npz", tmp_path / "damaged.npz"
    for path in pair:
        save(path, NUMBERS)
    content = bytearray(right.read_bytes())
    at = content.index(NUMBERS[700, 700].tobytes() + NUMBERS[700, 701].tobytes())
    content[at] ^= 1  # the last bit of a number, which agrees all the same
    damaged.write_bytes(content)
    assert diff(*pair[:: -1 if is_first else 1]).verdict is Verdict.AGREES
    content[at + 3] ^= 0x80  # its sign
    damaged.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"damaged\.npz: 'a\.npy' is not what was written"):
        diff(*pair[:: -1 if is_first else 1])
    with pytest.raises(FileFormatError, match=r"damaged\.npz: 'a\.npy' is not what was written"):
        read_claims(damaged)
