"""A tape as JSON and back: everything but the arrays, for which numbers of entries stand.

Records are objects with all their fields by name; an ``id`` is left out, since it is the position.
Tuples are lists. None, bool, int, str and finite floats are themselves: Python's JSON keeps int,
bool and float apart and brings floats back bit for bit. Besides these,

    inf, nan    {"float": "7ff8000000000000"}     the bits, in hexadecimal
    Ref         {"ref": 12}

The reader trusts nothing: what it accepts is a tape whose numbers all point somewhere.
"""

from __future__ import annotations

import math
import struct
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gradwitness._errors import InputError
from gradwitness.tape import (
    Argument,
    Call,
    Edge,
    Firing,
    Kind,
    Layout,
    LeafUpdate,
    Node,
    Ref,
    Source,
    Sweep,
    Tape,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

FORMAT = "gradwitness-tape"
VERSION = 1

T = TypeVar("T")
# Takes a piece of JSON and the place where it stands.
Reader: TypeAlias = "Callable[[Any, str], T]"

_KINDS = {text for name, text in vars(Kind).items() if name.isupper()}
# Torch counts in 64 bits; sizes up to here can still be added up without care.
_LARGEST = 2**62


class SchemaError(Exception):
    """JSON that is no tape; the text says where and what is wrong there."""


def encode(tape: Tape, entries: Sequence[int | None]) -> dict[str, Any]:
    """Write a tape as what JSON can hold.

    Parameters
    ----------
    tape : Tape
    entries : sequence of (int or None)
        For each value, the number of the entry that holds its array.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If a field holds what no tape holds.
    """
    values = [
        {**_fields(value, "array"), "array": entry}
        for value, entry in zip(tape.values, entries, strict=True)
    ]
    return {"format": FORMAT, "version": VERSION, **_fields(tape, "values"), "values": values}


def _fields(record: Any, *left_out: str) -> dict[str, Any]:
    names = [field.name for field in fields(record) if field.name not in ("id", *left_out)]
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(item: Any) -> Any:
    if item is None or isinstance(item, bool | int | str):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else {"float": struct.pack(">d", item).hex()}
    if isinstance(item, Ref):
        return {"ref": item.value}
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    if isinstance(item, dict):
        return {key: _plain(part) for key, part in item.items()}
    if is_dataclass(item):
        return _fields(item)
    raise InputError(
        f"a tape cannot hold {item!r} of type {type(item).__name__}, so it was not saved. "
        "Arguments are references, numbers, text, None and tuples of these."
    )


def decode(data: Any, array: Callable[[int, tuple[int, ...], str], NDArray[Any]]) -> Tape:
    """Read a tape.

    Parameters
    ----------
    data
        What `encode` made, or anything else.
    array : callable
        Takes the number of an entry, a shape and a dtype, and returns that array. Raises
        `SchemaError` if there is none like it.

    Returns
    -------
    Tape

    Raises
    ------
    SchemaError
        If the data is not what `encode` makes, or a number points nowhere.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise SchemaError(f"the entry does not begin with the format {FORMAT!r}")
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        raise SchemaError(f"version {version!r}, where this gradwitness reads version {VERSION}")
    sizes = {name: len(_list(data.get(name), name)) for name in ("values", "calls", "nodes")}
    content = {name: part for name, part in data.items() if name not in ("format", "version")}
    return _Readers(**sizes, array=array).tape(content)


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise SchemaError(f"{where}: a list is expected, not {_short(data)}")
    return data


def _short(data: Any) -> str:
    # No repr of the whole: what stands there may be huge.
    return "nothing" if data is None else f"a {type(data).__name__}"


def _exactly(kind: type[T]) -> Reader[T]:
    def read(data: Any, where: str) -> T:
        # Not isinstance: True is an int for Python.
        if type(data) is not kind:
            raise SchemaError(f"{where}: a {kind.__name__} is expected, not {_short(data)}")
        return data

    return read


_text = _exactly(str)
_flag = _exactly(bool)


def _below(limit: int, noun: str) -> Reader[int]:
    """Read a whole number from 0 up to, but not including, a limit."""

    def read(data: Any, where: str) -> int:
        if type(data) is not int:
            raise SchemaError(f"{where}: a {noun} is expected, not {_short(data)}")
        if not 0 <= data < limit:
            raise SchemaError(f"{where}: there is no {noun} of this number (there are {limit})")
        return data

    return read


def _size(data: Any, where: str) -> int:
    if type(data) is not int or not 0 <= data < _LARGEST:
        raise SchemaError(f"{where}: a size, offset or step is expected, not {_short(data)}")
    return data


def _optional(read: Reader[T]) -> Reader[T | None]:
    return lambda data, where: None if data is None else read(data, where)


def _many(read: Reader[T]) -> Reader[tuple[T, ...]]:
    return lambda data, where: tuple(
        read(item, f"{where}[{place}]") for place, item in enumerate(_list(data, where))
    )


def _pair(first: Reader[Any], second: Reader[Any]) -> Reader[tuple[Any, Any]]:
    def read(data: Any, where: str) -> tuple[Any, Any]:
        if len(_list(data, where)) != 2:
            raise SchemaError(f"{where}: two things are expected, not {len(data)}")
        return first(data[0], f"{where}[0]"), second(data[1], f"{where}[1]")

    return read


def _by_name(read: Reader[T]) -> Reader[dict[str, T]]:
    def read_all(data: Any, where: str) -> dict[str, T]:
        return {
            name: read(item, f"{where}.{name}")
            for name, item in _exactly(dict)(data, where).items()
        }

    return read_all


def _record(make: Callable[..., T], **readers: Reader[Any]) -> Reader[T]:
    """Read an object that has these fields and no others."""

    def read(data: Any, where: str) -> T:
        given = _exactly(dict)(data, where)
        if given.keys() != readers.keys():
            wrong = ", ".join(sorted(given.keys() ^ readers.keys()))
            raise SchemaError(f"{where}: fields that are missing or do not belong: {wrong[:200]}")
        return make(**{name: reads(given[name], f"{where}.{name}") for name, reads in readers.items()})

    return read


def _numbered(read: Reader[Callable[[int], T]]) -> Reader[tuple[T, ...]]:
    """Read records that carry their own position as ``id``."""
    return lambda data, where: tuple(
        make(place) for place, make in enumerate(_many(read)(data, where))
    )
