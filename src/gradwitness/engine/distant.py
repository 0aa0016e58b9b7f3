"""Numbers that live on a device, in the arrays of another library than NumPy: CuPy.

NumPy's functions dispatch to such arrays (NEP 13, 18 and 35), so that what is written in NumPy runs
where they live. They come to the host here alone: whole arrays when somebody asks for a value's,
and the single numbers on which something depends.
"""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.tape import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray


# The multipliers of SplitMix64.
_STEP, _FIRST, _SECOND = map(
    np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)

# How long the rows are of a table of words whose sums are a checksum, and how many it has at least.
_COLUMNS, _ROWS = 2**10, 2**6
# By what its words are multiplied.
_WEIGHTS = np.random.default_rng(64).integers(0, 2**64, _COLUMNS, np.uint64)


def is_distant(array: Any) -> bool:
    """Whether an array lives on a device."""
    # The interface itself costs more than to know that there is one.
    return not isinstance(array, np.ndarray) and hasattr(type(array), "__cuda_array_interface__")


def on_host(array: Any) -> NDArray[Any]:
    """Return an array's numbers as NumPy's, read-only if they were copied for that."""
    if isinstance(array, np.ndarray):
        return array
    copy: NDArray[Any] = array.get()
    copy.flags.writeable = False
    return copy


def beside(array: Any, other: Any) -> Any:
    """Return an array where another lives: what is moved between devices, or made on one."""
    if type(array) is type(other) or is_distant(array) == is_distant(other):
        return array
    return np.asarray(array, like=other) if is_distant(other) else on_host(array)


def _checked(data: NDArray[np.uint8]) -> int:
    """Return a checksum of bytes: of a large table of words that of its rows' weighted sums.

    They take half of the time. For random weights such a sum modulo 2^64 stays what it is with a
    probability below 2^-32, if a lower half of its words changes. What changes upper halves alone,
    as signs do, may cancel: so the words from the fifth byte on, whose lower halves these are, have
    a table of their own.
    """
    count = (data.size - 4) // (8 * _COLUMNS)
    if count < _ROWS:
        return zlib.crc32(data.data)
    cut, known = count * 8 * _COLUMNS, 0
    for first in (0, 4):
        table = data[first : first + cut].view(np.uint64).reshape(count, _COLUMNS)
        known = zlib.crc32(np.einsum("ij,j->i", table, _WEIGHTS).data, known)
    return zlib.crc32(data[cut:].data, known)


def checksum(array: Any) -> int:
    """Return a number by which an array is known again, bit for bit; worked out where it lives.

    On a device each number is mixed with its place (G. L. Steele, D. Lea and C. H. Flood, *Fast
    splittable pseudorandom number generators*, OOPSLA 2014): what changes all of them alike, as a
    division by two does, must not cancel in the sum.
    """
    numbers = np.ravel(array)
    if not is_distant(array):
        return _checked(np.ascontiguousarray(numbers).view(np.uint8))
    words = numbers.view(f"u{min(array.dtype.itemsize, 8)}").astype(np.uint64)
    mixed: Any = words + np.arange(words.size, dtype=np.uint64, like=words) * _STEP
    mixed = (mixed ^ (mixed >> 30)) * _FIRST
    mixed = (mixed ^ (mixed >> 27)) * _SECOND
    return int(on_host(np.sum(mixed ^ (mixed >> 31))))


def scalar(number: Any) -> Any:
    """Return a single number of an array as Python's, see `scalars`."""
    if isinstance(number, (np.generic, np.ndarray)):
        return number.item()
    return scalars(number)[0] if is_distant(number) else number


def scalars(*numbers: Any) -> tuple[Any, ...]:
    """Return single numbers of arrays as Python's, all at once: a device is waited for each time.

    From a device they come as floats, or complex.
    """
    if isinstance(numbers[0], (np.generic, np.ndarray)):
        return tuple([number.item() for number in numbers])
    flat = [np.reshape(number, 1).astype(np.result_type(number, np.float64)) for number in numbers]
    return tuple(on_host(np.concatenate(flat)).tolist())


def address(array: Any) -> int:
    """Return where an array's numbers begin, in the memory where they live."""
    # (Its `ctypes` tell the same, and take three times as long to make.)
    on_a_host = isinstance(array, np.ndarray)
    interface = array.__array_interface__ if on_a_host else array.__cuda_array_interface__
    at: int = interface["data"][0]
    return at


class Distant(Value):
    """A value on a device: its numbers are copied to the host when first asked for."""

    __slots__ = ("_brought", "_there")
    _there: Any
    _brought: NDArray[Any] | None

    @property
    def array(self) -> NDArray[Any] | None:
        """The numbers on the host."""
        if self._brought is None and self._there is not None:
            self._brought = on_host(self._there)
        return self._brought

    @array.setter
    def array(self, there: Any) -> None:
        self._there, self._brought = there, None

    def living(self) -> Value:
        """Return the same with the array that lives on the device."""
        return Value(*(self._there if name == "array" else getattr(self, name) for name in _FIELDS))


_FIELDS = tuple(field.name for field in fields(Value))


def at_hand(value: Value) -> Value:
    """Return a value whose array is NumPy's, if need be once somebody asks for it."""
    if not is_distant(value.array):
        return value
    return Distant(*(getattr(value, name) for name in _FIELDS))


def where_it_lives(value: Value) -> Value:
    """Return a value with the array as it was recorded."""
    return value.living() if isinstance(value, Distant) else value


def lives_elsewhere(value: Value) -> bool:
    """Whether a value's array is one on a device; not if it is brought from there."""
    return not isinstance(value, Distant) and is_distant(value.array)
