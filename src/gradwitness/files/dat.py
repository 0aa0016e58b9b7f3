"""Gradients as text: one file for each side, with every bit of every number.

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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_LINE = "# gradwitness-gradients: 1"


@dataclass(frozen=True)
class GradientFile:
    """What such a file holds.

    Attributes
    ----------
    header : dict of str to str
    tensors : dict of str to ndarray
        In the file's order, in the format that the file names.
    """

    header: dict[str, str]
    tensors: dict[str, NDArray[Any]]


def format_dat(header: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return tensors as text.

    Parameters
    ----------
    header : mapping of str to str
        One comment line each; line breaks are folded.
    tensors : mapping of str to ndarray
        float16, bfloat16, float32 or float64.

    Raises
    ------
    InputError
        If a name has white space in it, or numbers are in another format.
    """
    out = io.StringIO()
    out.write(FIRST_LINE + "\n")
    for key, text in header.items():
        out.write(f"# {key}: {' '.join(str(text).split())}\n")
    for name, array in tensors.items():
        if not name or name.split() != [name]:
            raise InputError(f"a tensor named {name!r} cannot be written: no white space in names")
        if not is_float(array.dtype.name):
            raise InputError(f"tensor {name} cannot be written: {array.dtype} is no real format")
        out.write(" ".join(["tensor", name, array.dtype.name, *map(str, array.shape)]) + "\n")
        if array.size:
            # float32 holds every 16-bit number, and prints it shorter than float64 would.
            # Some processors remark on NaNs of the signalling kind.
            with np.errstate(invalid="ignore"):
                wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
            np.savetxt(out, wide.reshape(-1, wide.shape[-1] if wide.ndim else 1).astype(str), "%s")
    return out.getvalue()


def read_dat(path: Path) -> GradientFile:
    """Read a file of `format_dat`'s text.

    Raises
    ------
    FileFormatError
        If the file is something else; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read as text ({error})") from None
    if not lines or lines[0] != FIRST_LINE:
        raise FileFormatError(f"{path}, line 1: expected {FIRST_LINE!r}; is this another format?")
    header: dict[str, str] = {}
    tensors: dict[str, NDArray[Any]] = {}
    at = 1
    while at < len(lines) and lines[at].startswith("#"):
        key, _, text = lines[at].removeprefix("#").partition(":")
        header[key.strip()] = text.strip()
        at += 1
    while at < len(lines):
        name, array, end = _tensor(path, lines, at)
        if name in tensors:
            raise FileFormatError(f"{path}, line {at + 1}: tensor {name} is there twice")
        tensors[name] = array
        at = end
    return GradientFile(header, tensors)


def _tensor(path: Path, lines: list[str], at: int) -> tuple[str, NDArray[Any], int]:
    words = lines[at].split()
    sizes = words[3:]
    if (
        len(words) < 3
        or words[0] != "tensor"
        or not all(s.isascii() and s.isdigit() for s in sizes)
    ):
        raise FileFormatError(f"{path}, line {at + 1}: expected 'tensor NAME DTYPE SIZE ...'")
    if not is_float(words[2]):
        raise FileFormatError(f"{path}, line {at + 1}: unknown dtype {words[2]!r}")
    shape = tuple(map(int, sizes))
    end = at + 1
    while end < len(lines) and not lines[end].startswith("tensor "):
        end += 1
    # Text to float64 and then to float32 rounds to the same bits: the shortest decimal of a float32
    # lies nearer to it than to the middle between two.
    try:
        flat = np.array(" ".join(lines[at + 1 : end]).split(), dtype=np.float64)
    except ValueError as error:
        raise FileFormatError(f"{path}, lines {at + 2} to {end}: {error}") from None
    if flat.size != math.prod(shape):
        raise FileFormatError(
            f"{path}, line {at + 1}: {words[1]} of shape {shape} wants "
            f"{math.prod(shape)} numbers, {flat.size} follow"
        )
    with np.errstate(invalid="ignore"):
        return words[1], flat.reshape(shape).astype(numpy_dtype(words[2])), end
