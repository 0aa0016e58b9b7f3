"""Claims from wherever they come: arrays in memory, a function, or a file of some format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gradwitness._errors import FileFormatError, InputError
from gradwitness.claims.binary import read_npz, read_pt, read_safetensors
from gradwitness.claims.claim import Claims
from gradwitness.claims.json_stream import read_json
from gradwitness.claims.mappings import claims_of
from gradwitness.claims.text import read_text
from gradwitness.files.dat import FIRST_LINE, read_dat

Source: TypeAlias = Mapping[str, Any] | Callable[[], Any] | str | os.PathLike[str] | Claims

_READERS: dict[str, Callable[[Path], Claims]] = {
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".pt": read_pt,
    ".pth": read_pt,
    ".json": read_json,
}


def read_claims(source: Source) -> Claims:
    """Read claimed gradients.

    Parameters
    ----------
    source : mapping, callable, path or Claims
        Names with arrays or tensors; a function without arguments that returns such a mapping; or a
        file: ``.npz``, ``.safetensors``, ``.pt``, ``.pth`` and ``.json`` by their endings, all else
        as text. No code in a file is ever run. What was read already is returned as it is.

    Returns
    -------
    Claims

    Raises
    ------
    InputError
        If the source cannot be used, or the function raises, which is then the cause.
    FileFormatError
        If a file does not hold what it should; the message says where.
    MissingExtraError
        If reading the file needs a package that is not installed.
    """
    if isinstance(source, Claims):
        return source
    if isinstance(source, Mapping):
        return claims_of(source, "a dict")
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
    if callable(source):
        return _call(source)
    raise InputError(
        f"claims cannot be read from a {type(source).__name__}. "
        "Give a dict of arrays, a function that returns one, or the name of a file."
    )


def _call(function: Callable[[], Any]) -> Claims:
    name = getattr(function, "__qualname__", None) or type(function).__name__
    try:
        made = function()
    except Exception as error:
        raise InputError(
            f"{name}(), which should return the claimed gradients, raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Mapping):
        raise InputError(
            f"{name}() returned a {type(made).__name__}. It should return a dict: "
            "names with arrays or tensors."
        )
    return claims_of(made, f"{name}()")


def _read_file(path: Path) -> Claims:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder. Give the name of a file.")
        with path.open("rb") as file:
            first = file.read(len(FIRST_LINE) + 2)
    except (OSError, ValueError) as error:
        # ValueError: a null byte in the name.
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {why}. Is the name right?") from error
    reader = _READERS.get(path.suffix.lower())
    try:
        if reader:
            return reader(path)
        if first.splitlines()[:1] == [FIRST_LINE.encode()]:
            made = read_dat(path)
            return claims_of(made.tensors, path.name)
        return read_text(path)
    except MemoryError:
        raise FileFormatError(f"{path}: it holds more than there is memory for") from None
