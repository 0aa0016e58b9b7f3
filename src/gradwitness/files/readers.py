"""Combinators to read untrusted JSON.

A reader takes a piece of JSON and its location, and returns the object that it describes or raises
`SchemaError` with the location. Types are exact: True is not a number, and 1.0 not an integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Reader: TypeAlias = "Callable[[Any, str], T]"

# Torch counts in 64 bits; sizes up to here can safely be added.
LARGEST = 2**62


class SchemaError(Exception):
    """Malformed JSON; the text says where and why."""


def _short(data: Any) -> str:
    # No repr: it may be huge.
    return "null" if data is None else type(data).__name__


def exactly(kind: type[T]) -> Reader[T]:
    """Read an object of exactly this type."""

    def read(data: Any, where: str) -> T:
        if type(data) is not kind:
            raise SchemaError(f"{where}: expected {kind.__name__}, not {_short(data)}")
        return data

    return read


def text(data: Any, where: str) -> str:
    """Read a text; what is no character, half of a pair of surrogates, is written out."""
    return exactly(str)(data, where).encode(errors="backslashreplace").decode()


flag = exactly(bool)
a_list = exactly(list)
a_dict = exactly(dict)


def below(limit: int, noun: str) -> Reader[int]:
    """Read an index below ``limit``."""

    def read(data: Any, where: str) -> int:
        number = exactly(int)(data, where)
        if not 0 <= number < limit:
            raise SchemaError(f"{where}: there is no {noun} with this number, of {limit}")
        return number

    return read


def size(data: Any, where: str) -> int:
    """Read a count, offset or step: a non-negative integer."""
    number = exactly(int)(data, where)
    if not 0 <= number < LARGEST:
        raise SchemaError(f"{where}: expected an integer from 0 to 2^62")
    return number


def one_of(choices: set[str]) -> Reader[str]:
    """Read one of some texts."""

    def read(data: Any, where: str) -> str:
        if text(data, where) not in choices:
            raise SchemaError(f"{where}: expected one of {', '.join(sorted(choices))}")
        return str(data)

    return read


def optional(read: Reader[T]) -> Reader[T | None]:
    """Read None or an object."""
    return lambda data, where: None if data is None else read(data, where)


def many(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """Read a list of one kind of object, as a tuple."""
    return lambda data, where: tuple(
        read(item, f"{where}[{index}]") for index, item in enumerate(a_list(data, where))
    )


def pair(first: Reader[Any], second: Reader[Any]) -> Reader[tuple[Any, Any]]:
    """Read a list of two objects."""

    def read(data: Any, where: str) -> tuple[Any, Any]:
        if len(a_list(data, where)) != 2:
            raise SchemaError(f"{where}: expected two items, not {len(data)}")
        return first(data[0], f"{where}[0]"), second(data[1], f"{where}[1]")

    return read


def by_name(read: Reader[T]) -> Reader[dict[str, T]]:
    """Read a mapping of any names to one kind of object."""
    return lambda data, where: {
        text(name, where): read(item, f"{where}[{name[:80]!r}]")
        for name, item in a_dict(data, where).items()
    }


def record(make: Callable[..., T], **readers: Reader[Any]) -> Reader[T]:
    """Read a mapping with exactly these fields."""

    def read(data: Any, where: str) -> T:
        fields = a_dict(data, where)
        if fields.keys() != readers.keys():
            difference = ", ".join(sorted(fields.keys() ^ readers.keys()))
            raise SchemaError(f"{where}: missing or unknown fields: {difference[:200]}")
        return make(
            **{name: reader(fields[name], f"{where}.{name}") for name, reader in readers.items()}
        )

    return read


def numbered(make: Callable[..., T], **readers: Reader[Any]) -> Reader[tuple[T, ...]]:
    """Read a list of records with their index as ``id``, which is not stored."""

    def read(data: Any, where: str) -> tuple[T, ...]:
        contents: tuple[dict[str, Any], ...] = many(record(dict, **readers))(data, where)
        return tuple(make(id=index, **content) for index, content in enumerate(contents))

    return read
