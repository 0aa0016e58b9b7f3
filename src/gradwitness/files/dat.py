"""Gradients as text: one file per side, with every bit of every number.

The format, version 1: lines that start with ``#`` hold ``key: value`` pairs; then, for each tensor,
a line ``tensor NAME DTYPE SIZE SIZE ...`` and its rows, one line for each index of the leading
axes, in torch's layout. Numbers are the shortest decimals that read back to the same bits.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError
from gradwitness.engine.floats import is_float, numpy_dtype
from gradwitness.files.printed_numbers import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_LINE = "# gradwitness-gradients: 1"
# No array of any NumPy has more axes, nor longer ones.
_MOST_AXES, _MOST_DIGITS = 64, 18


@dataclass(frozen=True)
class GradientFile:
    """The content of such a file."""

    header: dict[str, str]
    tensors: dict[str, NDArray[Any]]  # in the file's order, with the dtypes that the file names


def format_dat(header: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return tensors of float16, bfloat16, float32 or float64 as text, under a header.

    Raises `InputError` if a name contains white space, or a dtype is another one.
    """
    out = io.StringIO()
    out.write(FIRST_LINE + "\n")
    for key, text in header.items():
        out.write(f"# {key}: {' '.join(str(text).split())}\n")
    for name, array in tensors.items():
        if not name or name.split() != [name]:
            raise InputError(f"cannot write tensor {name!r}: names must not contain white space")
        if not is_float(array.dtype.name):
            raise InputError(f"cannot write tensor {name!r}: unsupported dtype {array.dtype}")
        out.write(" ".join(["tensor", name, array.dtype.name, *map(str, array.shape)]) + "\n")
        if array.size:
            # float32 holds every 16-bit number, and prints it shorter than float64 would.
            # Some processors warn of signalling NaNs.
            with np.errstate(invalid="ignore"):
                exact = array.astype(np.float32) if array.dtype.itemsize < 4 else array
            rows = exact.reshape(-1, exact.shape[-1] if exact.ndim else 1)
            np.savetxt(out, rows.astype(str), "%s")
    return out.getvalue()


def read_dat(path: Path) -> GradientFile:
    """Read a file that `format_dat` wrote; raise `FileFormatError`, with the line, if malformed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"cannot read {path} as text: {error}") from None
    if not lines or lines[0] != FIRST_LINE:
        raise FileFormatError(f"{path}, line 1: expected {FIRST_LINE!r}. Is this another format?")
    header: dict[str, str] = {}
    tensors: dict[str, NDArray[Any]] = {}
    line_nr = 1
    while line_nr < len(lines) and lines[line_nr].startswith("#"):
        key, _, text = lines[line_nr].removeprefix("#").partition(":")
        header[key.strip()] = text.strip()
        line_nr += 1
    while line_nr < len(lines):
        name, array, next_line = _tensor(path, lines, line_nr)
        if name in tensors:
            raise FileFormatError(f"{path}, line {line_nr + 1}: tensor {name} is defined twice")
        tensors[name] = array
        line_nr = next_line
    return GradientFile(header, tensors)


def _tensor(path: Path, lines: list[str], line_nr: int) -> tuple[str, NDArray[Any], int]:
    words = lines[line_nr].split()
    sizes = words[3:]
    if (
        len(words) < 3
        or words[0] != "tensor"
        or len(sizes) > _MOST_AXES
        or not all(s.isascii() and s.isdigit() and len(s) <= _MOST_DIGITS for s in sizes)
    ):
        raise FileFormatError(f"{path}, line {line_nr + 1}: expected 'tensor NAME DTYPE SIZE ...'")
    if not is_float(words[2]):
        raise FileFormatError(f"{path}, line {line_nr + 1}: unknown dtype {words[2]!r}")
    shape = tuple(map(int, sizes))
    end = line_nr + 1
    while end < len(lines) and not lines[end].startswith("tensor "):
        end += 1
    # Text to float64 to float32 rounds to the same bits: the shortest decimal of a float32 lies
    # nearer to it than to the midpoint of two.
    try:
        numbers = _numbers(" ".join(lines[line_nr + 1 : end]))
    except ValueError as error:
        raise FileFormatError(f"{path}, lines {line_nr + 2} to {end}: {error}") from None
    if numbers.size != math.prod(shape):
        raise FileFormatError(
            f"{path}, line {line_nr + 1}: {words[1]} of shape {shape} needs {math.prod(shape)} "
            f"numbers, but {numbers.size} follow"
        )
    with np.errstate(invalid="ignore"):
        return words[1], numbers.reshape(shape).astype(numpy_dtype(words[2])), end


def _numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers of a text; `ValueError`, which names the word, if one is none."""
    try:
        return values_of(text.encode())
    except ValueError:
        return np.array(text.split(), np.float64)
