"""Readers of JSON that trust nothing, put together from small ones.

A reader takes a piece of JSON and the place where it stands, and returns what it stands for or
raises `SchemaError`, which names the place. Types are exact: True is no number, 1.0 no whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Reader: TypeAlias = "Callable[[Any, str], T]"

# Torch counts in 64 bits; sizes up to here can still be added up without care.
_LARGEST = 2**62


class SchemaError(Exception):
    """JSON that is not what it should be; the text says where and what is wrong there."""


def _short(data: Any) -> str:
    # No repr of the whole: what stands there may be huge.
    return "nothing" if data is None else f"a {type(data).__name__}"


def exactly(kind: type[T]) -> Reader[T]:
    """Read what has this type and no subtype of it."""

    def read(data: Any, where: str) -> T:
        if type(data) is not kind:
            raise SchemaError(f"{where}: a {kind.__name__} is expected, not {_short(data)}")
        return data

    return read


text = exactly(str)
flag = exactly(bool)
a_list = exactly(list)
a_dict = exactly(dict)


def below(limit: int, noun: str) -> Reader[int]:
    """Read the number of one of ``limit`` things."""

    def read(data: Any, where: str) -> int:
        number = exactly(int)(data, where)
        if not 0 <= number < limit:
            raise SchemaError(f"{where}: there is no {noun} of this number, of {limit}")
        return number

    return read


def size(data: Any, where: str) -> int:
    """Read a count, an offset or a step: a whole number that is not negative."""
    number = exactly(int)(data, where)
    if not 0 <= number < _LARGEST:
        raise SchemaError(f"{where}: a number from 0 to 2^62 is expected")
    return number


def one_of(choices: set[str]) -> Reader[str]:
    """Read one of some texts."""

    def read(data: Any, where: str) -> str:
        if text(data, where) not in choices:
            raise SchemaError(f"{where}: one of {', '.join(sorted(choices))} is expected")
        return str(data)

    return read


def optional(read: Reader[T]) -> Reader[T | None]:
    """Read something or None."""
    return lambda data, where: None if data is None else read(data, where)


def many(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """Read a list of one kind of thing, as a tuple."""
    return lambda data, where: tuple(
        read(item, f"{where}[{place}]") for place, item in enumerate(a_list(data, where))
    )


def pair(first: Reader[Any], second: Reader[Any]) -> Reader[tuple[Any, Any]]:
    """Read a list of two things."""

    def read(data: Any, where: str) -> tuple[Any, Any]:
        if len(a_list(data, where)) != 2:
            raise SchemaError(f"{where}: two things are expected, not {len(data)}")
        return first(data[0], f"{where}[0]"), second(data[1], f"{where}[1]")

    return read


def by_name(read: Reader[T]) -> Reader[dict[str, T]]:
    """Read an object with any names and one kind of thing behind them."""
    return lambda data, where: {
        name: read(item, f"{where}[{name[:80]!r}]") for name, item in a_dict(data, where).items()
    }


def record(make: Callable[..., T], **readers: Reader[Any]) -> Reader[T]:
    """Read an object with these fields and no others."""

    def read(data: Any, where: str) -> T:
        given = a_dict(data, where)
        if given.keys() != readers.keys():
            wrong = ", ".join(sorted(given.keys() ^ readers.keys()))
            raise SchemaError(f"{where}: fields missing or not known: {wrong[:200]}")
        return make(
            **{name: reader(given[name], f"{where}.{name}") for name, reader in readers.items()}
        )

    return read


def numbered(make: Callable[..., T], **readers: Reader[Any]) -> Reader[tuple[T, ...]]:
    """Read a list of records that carry their position as ``id``, which is not written."""

    def read(data: Any, where: str) -> tuple[T, ...]:
        plain: tuple[dict[str, Any], ...] = many(record(dict, **readers))(data, where)
        return tuple(make(id=place, **content) for place, content in enumerate(plain))

    return read
