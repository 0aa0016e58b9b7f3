"""Read claims from any source: arrays in memory, a function, or a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gradwitness._errors import FileFormatError, InputError
from gradwitness.claims.binary import read_npy, read_npz, read_pt, read_safetensors
from gradwitness.claims.claim import Claims
from gradwitness.claims.csv_file import read_csv
from gradwitness.claims.hdf5 import read_h5
from gradwitness.claims.json_file import read_json, read_jsonl
from gradwitness.claims.mappings import claims_of
from gradwitness.claims.markdown import read_tables
from gradwitness.claims.matlab import read_mat
from gradwitness.claims.text import read_text
from gradwitness.files.dat import FIRST_LINE, read_dat
from gradwitness.files.named import require_file, unreadable

Source: TypeAlias = Mapping[str, Any] | Callable[[], Any] | str | os.PathLike[str] | Claims

_READERS: dict[str, Callable[[Path], Claims]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".mat": read_mat,
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".keras": read_h5,
    ".safetensors": read_safetensors,
    ".pt": read_pt,
    ".pth": read_pt,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
}
# Protocols 2 and later begin so. A file of torch.save may, too, and is read without running code.
_PICKLED = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_PICKLES = (".pkl", ".pickle", ".joblib", ".p")


def read_claims(source: Source, *, is_verified: bool = True) -> Claims:
    """Read claimed gradients.

    A source is a mapping of names to arrays or tensors, a function without arguments that returns
    one, or a file, whose extension tells its format (docs/claims.md); without a known one, it is
    text. No code in a file is ever run. `Claims` are returned as they are. Checksums of large
    arrays that stay in their file are left to `Claims.verify` if it shall not be verified here.

    Raises `InputError` if the source cannot be used, or the function raises (its exception is the
    cause); `FileFormatError` where a file is malformed; `MissingExtraError` if reading it needs a
    package that is absent.
    """
    if isinstance(source, Claims):
        return source
    if isinstance(source, Mapping):
        return claims_of(source, "a dict")
    if isinstance(source, str | os.PathLike):
        claims = _read_file(Path(source))
        if is_verified:
            claims.verify()
        return claims
    if callable(source):
        return _call(source)
    raise InputError(
        f"cannot read claims from a value of type {type(source).__name__}. "
        "Pass a dict of arrays, a function that returns one, or a file name."
    )


def _call(function: Callable[[], Any]) -> Claims:
    name = getattr(function, "__qualname__", None) or type(function).__name__
    try:
        gradients = function()
    except Exception as error:
        raise InputError(
            f"{name}(), called for the claimed gradients, raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(gradients, Mapping):
        raise InputError(
            f"{name}() returned a value of type {type(gradients).__name__}; "
            "expected a dict of names to arrays or tensors"
        )
    return claims_of(gradients, f"{name}()")


def _read_file(path: Path) -> Claims:
    require_file(path)
    try:
        with path.open("rb") as file:
            first = file.read(len(FIRST_LINE) + 2)
    except OSError as error:
        raise unreadable(path, error) from error
    ending = path.suffix.lower()
    reader = _READERS.get(ending)
    if ending in _PICKLES or (first.startswith(_PICKLED) and reader is not read_pt):
        raise FileFormatError(
            f"{path}: a pickle can run any code when it is loaded, so it is not read. Where it was "
            "written, load it and save its arrays: numpy.savez('gradients.npz', **gradients), or "
            "torch.save of a dict of tensors as .pt."
        )
    try:
        if reader:
            return reader(path)
        if first.splitlines()[:1] == [FIRST_LINE.encode()]:
            recorded = read_dat(path)
            return claims_of(recorded.tensors, path.name)
        return read_tables(path) or read_text(path)
    except MemoryError:
        raise FileFormatError(f"{path}: not enough memory to read it") from None
