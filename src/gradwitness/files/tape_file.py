"""A tape in one .npz file: its arrays as they are in memory, and everything else as JSON.

The file is an ordinary .npz that ``np.load`` opens too: ``tape.npy`` holds the JSON as UTF-8 bytes,
``array_0.npy`` and so on hold each array once. bfloat16, which .npy has no name for, is stored as
uint16; the value's dtype says so.

Nothing is compressed. Weights and gradients would shrink by a fifth at 35 times the time (deflate
28 MB/s, stored 1070 MB/s). And without compression, the size of an untrusted file bounds the memory
that reading it takes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError
from gradwitness._given import require_tape
from gradwitness.engine.floats import is_float, numpy_dtype
from gradwitness.files.atomic import writing_atomically
from gradwitness.files.named import require_file, unreadable
from gradwitness.files.readers import SchemaError
from gradwitness.files.tape_schema import decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.tape import Tape, Value

_JSON_ENTRY = "tape.npy"
_EXACT_DTYPES = {"bool", "complex32", "complex64", "complex128"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def save_tape(tape: Tape, path: str | os.PathLike[str]) -> None:
    """Save a recording to a file that `load_tape` reads back bit for bit.

    Values that share memory are written once.

    Parameters
    ----------
    tape : Tape
    path : str or path-like
        Usually ends in ``.npz``; nothing is appended to it.

    Raises
    ------
    InputError
        If ``tape`` is none, inconsistent or incomplete, or the file cannot be written. A file that
        was there before is then left as it was.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import gradwitness
    >>> w = torch.ones(3, requires_grad=True)
    >>> with gradwitness.watch(names={"w": w}) as witness:
    ...     w.square().sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gradwitness.save_tape(witness.tape, f"{folder}/tape.npz")
    ...     tape = gradwitness.load_tape(f"{folder}/tape.npz")
    >>> len(tape.calls) == len(witness.tape.calls)
    True
    """
    require_tape(tape, "save_tape")
    if not tape.complete:
        raise InputError(
            "the recording was not saved, because values were freed while recording: "
            "record it with watch(..., keep=None)."
        )
    if tape.failures:
        raise InputError(f"the recording was not saved, since it breaks off: {tape.failures[0]}")
    distinct: list[Value] = []
    entries: list[int | None] = []
    entry_numbers: dict[Any, int] = {}
    for value in tape.values:
        if value.array is None:
            entries.append(None)
            continue
        key = (value.dtype, *_memory(value.array))
        if key not in entry_numbers:
            entry_numbers[key] = len(distinct)
            distinct.append(value)
        entries.append(entry_numbers[key])
    text = _json(tape, entries)
    with (
        writing_atomically(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        _write_entry(archive, _JSON_ENTRY, np.frombuffer(text, np.uint8))
        for number, value in enumerate(distinct):
            _write_entry(archive, _entry(number), _as_stored(value))


def load_tape(path: str | os.PathLike[str]) -> Tape:
    """Load a recording that `save_tape` wrote.

    The file is not trusted: nothing in it is executed, memory use is bounded by the size of the
    file and not by the sizes that it declares, and every reference is checked.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Tape
        Its arrays are read-only.

    Raises
    ------
    FileFormatError
        If the file is damaged, or not a recording.
    InputError
        If the file does not exist or cannot be read.

    Examples
    --------
    >>> import gradwitness
    >>> gradwitness.load_tape("no-such-file.npz")
    Traceback (most recent call last):
        ...
    gradwitness.InputError: cannot read no-such-file.npz: No such file or directory
    """
    file_path = Path(path)
    require_file(file_path)
    try:
        with file_path.open("rb") as file:
            return _load(file)
    except SchemaError as error:
        raise FileFormatError(
            f"{file_path} is not a readable recording: {error}. "
            "Record and save it again with this version of gradwitness."
        ) from error
    except OSError as error:
        raise unreadable(file_path, error) from error


def _as_stored(value: Value) -> NDArray[Any]:
    """Return a value's array in a form that .npy supports, after checking dtype and shape."""
    array = value.array
    assert array is not None  # noqa: S101 (checked by the caller)
    dtype = _dtype(value.dtype)
    if dtype is None or array.dtype != dtype or array.shape != value.shape:
        raise InputError(
            f"the recording was not saved: value {value.id} should be "
            f"{value.dtype}{list(value.shape)}, but its array is {array.dtype}{list(array.shape)}."
        )
    # Not ascontiguousarray, which adds an axis to a 0-d array.
    stored = _stored_dtype(dtype)
    contiguous = np.asarray(array, order="C").view(stored.newbyteorder("="))
    return contiguous.astype(stored, copy=False)


def _memory(array: NDArray[Any]) -> tuple[Any, ...]:
    """Return a key that is equal for equal views of the same memory."""
    return array.__array_interface__["data"][0], array.shape, array.strides


def _dtype(name: str) -> np.dtype[Any] | None:
    """Return the dtype for a torch name, or None if NumPy has none."""
    return numpy_dtype(name) if is_float(name) or name in _EXACT_DTYPES else None


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # NumPy writes an unknown dtype as raw bytes ("V2") and cannot read it back.
    storable = np.dtype(np.uint16) if dtype == numpy_dtype("bfloat16") else dtype
    return storable.newbyteorder("<")


def _json(tape: Tape, entries: list[int | None]) -> bytes:
    try:
        text = json.dumps(encode(tape, entries), allow_nan=False, separators=(",", ":"))
        decode(json.loads(text), lambda *_: np.empty(0))
    except (SchemaError, ValueError, TypeError, RecursionError) as error:
        # Better no file than an unreadable one.
        raise InputError(
            f"the recording was not saved, because it is inconsistent: {error}"
        ) from error
    return text.encode()


def _entry(number: int) -> str:
    return f"array_{number}.npy"


def _write_entry(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(name, "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _load(file: io.BufferedReader) -> Tape:
    size = os.fstat(file.fileno()).st_size
    archive = _Archive(file, size)
    raw = archive.content(_JSON_ENTRY)
    header_end, shape, dtype = _header(raw, _JSON_ENTRY)
    if dtype != np.uint8 or shape != (len(raw) - header_end,):
        raise SchemaError(f"{_JSON_ENTRY} is not text")
    try:
        data = json.loads(raw[header_end:].decode(), parse_constant=_no_constant)
        return decode(data, archive.array)
    except (ValueError, RecursionError) as error:
        # JSONDecodeError, UnicodeDecodeError and overlong numbers are ValueErrors.
        raise SchemaError(f"{_JSON_ENTRY} is not JSON: {error}") from error


def _no_constant(name: str) -> float:
    raise SchemaError(f"{_JSON_ENTRY} contains {name}, which is not JSON")


class _Archive:
    """The entries of an untrusted zip file."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:
            raise SchemaError(f"not a zip file, or damaged ({error})") from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        # Overlapping entries would make a small file large when read.
        if sum(entry.file_size for entry in self._zip.infolist()) > size:
            raise SchemaError("its entries declare more bytes than the file has")
        self._read: dict[tuple[int, tuple[int, ...], str], NDArray[Any]] = {}

    def content(self, name: str) -> bytes:
        """Return the bytes of an entry, after verifying their checksum."""
        entry = self._entries.get(name)
        if entry is None:
            raise SchemaError(f"the entry {name} is missing")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise SchemaError(f"the entry {name} is compressed; entries of a recording never are")
        try:
            return self._zip.read(entry)
        except Exception as error:
            raise SchemaError(f"the entry {name} is damaged ({error})") from error

    def array(self, number: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array of this shape and dtype."""
        key = (number, shape, dtype)
        if key not in self._read:
            self._read[key] = self._array(_entry(number), shape, dtype)
        return self._read[key]

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        target = _dtype(dtype)
        if target is None:
            raise SchemaError(f"unknown dtype {dtype[:80]!r}")
        stored = _stored_dtype(target)
        content = self.content(name)
        start, declared_shape, declared_dtype = _header(content, name)
        if declared_shape != shape or declared_dtype != stored:
            raise SchemaError(
                f"the entry {name} is {declared_dtype}{list(declared_shape)}; "
                f"expected {stored}{list(shape)}"
            )
        try:
            array = np.ndarray(shape, stored, content, start)
        except (ValueError, TypeError, OverflowError) as error:
            raise SchemaError(f"the entry {name} is damaged ({error})") from error
        if len(content) != start + array.nbytes:
            raise SchemaError(f"the entry {name} has surplus bytes")
        return array.astype(stored.newbyteorder("="), copy=False).view(target)


def _header(content: bytes, name: str) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return the offset of an .npy file's numbers, their shape and their dtype."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:
        # The header is Python text, on which NumPy's parser can fail in many ways.
        # Of a long one NumPy advises to trust it.
        raise SchemaError(f"the entry {name} is not an .npy file") from error
    if version != (1, 0) or fortran_order:
        raise SchemaError(f"the entry {name} is an .npy file of a kind that tapes do not use")
    return stream.tell(), shape, dtype
