"""Gradients as text: every bit comes back, and what is malformed is named by its line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradwitness import FileFormatError, InputError
from gradwitness.files.dat import FIRST_LINE, format_dat, read_dat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

# Each format with the unsigned integers of its size: all bit patterns are drawn.
BITS: dict[str, tuple[Any, Any]] = {
    "float16": (np.float16, np.uint16),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16),
    "float32": (np.float32, np.uint32),
    "float64": (np.float64, np.uint64),
}
FIRST = "# gradwitness-gradients: 1\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dat") / "made.dat"


def back(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    path.write_text(format_dat({}, {"a": array}), encoding="utf-8")
    return read_dat(path).tensors["a"]


def same_bits(actual: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two arrays are alike to the last bit; any NaN is as good as another."""
    # Processors remark on NaNs of the signalling kind.
    with np.errstate(invalid="ignore"):
        nan = np.isnan(expected)
        assert np.array_equal(np.isnan(actual), nan)
    return bool(
        actual.dtype == expected.dtype
        and actual.shape == expected.shape
        and actual[~nan].tobytes() == expected[~nan].tobytes()
    )


@pytest.mark.parametrize("name", BITS)
@settings(max_examples=60)
@given(data=st.data())
def test_all_bit_patterns_come_back(path: Path, name: str, data: st.DataObject) -> None:
    kind, unsigned = BITS[name]
    shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = data.draw(arrays.arrays(unsigned, shapes)).view(kind)
    assert same_bits(back(path, array), array)


@pytest.mark.parametrize("name", BITS)
def test_the_edges_of_the_format_come_back(path: Path, name: str) -> None:
    kind, unsigned = BITS[name]
    size = np.dtype(kind).itemsize * 8
    # Zero, the subnormals' first and last, the largest number, infinity; each with either sign.
    infinity = int(np.array(math.inf).astype(kind).view(unsigned))
    # 2 to the power of 1 - bias: all bits of the fraction 0, the exponent's last bit 1.
    smallest = 1 << {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[name]
    positive = [0, 1, smallest - 1, smallest, infinity - 1, infinity]
    patterns = positive + [p | 1 << (size - 1) for p in positive]
    array = np.array(patterns, dtype=unsigned).view(kind)
    restored = back(path, array)
    assert restored.view(unsigned).tolist() == patterns
    assert math.isnan(float(back(path, np.array(math.nan).astype(kind))))


def test_the_text_by_hand() -> None:
    text = format_dat(
        {"side": "torch\nautograd", "seed": "3"},
        {
            "loss": np.array(0.1, dtype=np.float32),
            "w": np.array([[1, -0.0, 2.5], [1e-45, math.inf, -3]], dtype=np.float32),
            "b": np.array([0.1], dtype=ml_dtypes.bfloat16),
            "none": np.zeros((0, 2)),
        },
    )
    # 0.1 in bfloat16 is 0x3dcd, 0.10009765625.
    assert text.splitlines() == [
        "# gradwitness-gradients: 1",
        "# side: torch autograd",
        "# seed: 3",
        "tensor loss float32",
        "0.1",
        "tensor w float32 2 3",
        "1.0 -0.0 2.5",
        "1e-45 inf -3.0",
        "tensor b bfloat16 1",
        "0.100097656",
        "tensor none float64 0 2",
    ]


def test_header_and_order_come_back(path: Path) -> None:
    tensors = {name: np.arange(3.0) for name in ("z", "a.weight", "m", "a.bias")}
    path.write_text(format_dat({"again": "gradwitness run --seed 3", "x: y": "1"}, tensors))
    restored = read_dat(path)
    assert list(restored.tensors) == ["z", "a.weight", "m", "a.bias"]
    assert restored.header["again"] == "gradwitness run --seed 3"


@pytest.mark.parametrize("name", ["", "two words", "tab\tbed", "line\nbreak", " front"])
def test_a_name_that_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="must not contain white space"):
        format_dat({}, {name: np.zeros(1)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tensor a float32 1\n1\n",
        FIRST + "# seed: 1\nnonsense\n",
        FIRST + "tensor a\n",
        FIRST + "tensor a float32 -1\n",
        FIRST + "tensor a float32 1.5\n",
        FIRST + "tensor a int8 1\n1\n",
        FIRST + "tensor a float32 2\n1\n",
        FIRST + "tensor a float32 1\n1\n2\n",
        FIRST + "tensor a float32\n",
        FIRST + "tensor a float32 2\n1 x\n",
        FIRST + "tensor b float32 1\n1\ntensor a float32 2\n1\n2 0x\n",
        FIRST + "tensor a float32 1\n1\ntensor a float32 1\n1\n",
        FIRST + "tensor a float32 99999999999 99999999999\n1\n",
    ],
)
def test_a_malformed_file_is_named_by_its_line(
    path: Path, text: str, snapshot: SnapshotAssertion
) -> None:
    path.write_text(text)
    with pytest.raises(FileFormatError) as error:
        read_dat(path)
    assert str(error.value).removeprefix(f"{path.parent}/") == snapshot


def test_files_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match=r"made\.dat as text"):
        read_dat(path)
    with pytest.raises(FileFormatError, match=r"absent\.dat as text"):
        read_dat(path.with_name("absent.dat"))


@pytest.mark.parametrize("text", ["\n", " \n \n", "nan(1)\n", "1_\n", "1,2\n", "0x1\n"])
def test_what_is_no_number_is_not_read_as_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.dat"
    path.write_text(f"{FIRST_LINE}\ntensor w float32 1\n{text}")
    with pytest.raises(FileFormatError, match="line"):
        read_dat(path)
