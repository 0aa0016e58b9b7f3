"""Claims in MATLAB's .mat files, read by SciPy."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.binary import check_growth, claims_in

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims

_HEADER = 128
_COMPRESSED = 15
_PIECE = 1 << 18


def read_mat(path: Path) -> Claims:
    """Read the arrays of a .mat file of versions 4 to 7, also in structs and cells.

    MATLAB's vectors are matrices with one row or column. Text and logical values are no claims.
    """
    # Slow to import, and few files are such.
    from scipy.io import loadmat
    from scipy.io.matlab import matfile_version

    try:
        version = matfile_version(path)[0]
        if version == 1:
            _check_compressed(path)
        contents = loadmat(path, simplify_cells=True)
    except (FileFormatError, MemoryError):
        raise
    except NotImplementedError:
        raise FileFormatError(
            f"{path}: a .mat file of version 7.3. Save it with save('gradients.mat', '-v7')."
        ) from None
    except Exception as error:
        # A damaged file fails in many ways.
        raise FileFormatError(f"{path}: not a readable .mat file ({error})") from error
    own = {key: value for key, value in contents.items() if not key.startswith("__")}
    return claims_in(_arrays(own, path), path)


def _check_compressed(path: Path) -> None:
    """Refuse compressed variables that would grow to more than gradients do."""
    grown = 0
    with path.open("rb") as file:
        order = "<" if file.read(_HEADER)[-2:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            begin = file.tell()
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                left = file.read(size)
                while left and not unpacker.eof:
                    grown += len(unpacker.decompress(left, _PIECE))
                    left = unpacker.unconsumed_tail
                    check_growth(grown, path)
            file.seek(begin + size)


def _arrays(contents: Any, path: Path) -> Any:
    """Return the arrays in structs and cells; None in place of what is no claim."""
    if isinstance(contents, dict):
        return {key: _arrays(value, path) for key, value in contents.items()}
    if isinstance(contents, list):
        return [_arrays(value, path) for value in contents]
    if hasattr(contents, "toarray"):
        # A sparse matrix.
        check_growth(int(np.prod(contents.shape)) * contents.dtype.itemsize, path)
        return contents.toarray()
    if isinstance(contents, np.ndarray) and contents.dtype.kind == "O":
        return [_arrays(value, path) for value in contents.reshape(-1)]
    is_number = (
        isinstance(contents, int | float)
        or getattr(contents, "dtype", np.dtype("U")).kind in "fiuc"
    )
    return contents if is_number else None
