"""Numbers that live on a device, in the arrays of another library than NumPy: CuPy.

NumPy's functions dispatch to such arrays (NEP 13, 18 and 35), so that what is written in NumPy runs
where they live. Whole arrays come to the host here alone, when somebody asks for a value's array.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gradwitness.tape import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.tape import Tape


def is_distant(array: Any) -> bool:
    """Whether an array lives on a device."""
    return not (array is None or isinstance(array, (np.ndarray, np.generic)))


def on_host(array: Any) -> NDArray[Any]:
    """Return an array's numbers as NumPy's, read-only if they were copied for that."""
    if isinstance(array, np.ndarray):
        return array
    copy: NDArray[Any] = array.get()
    copy.flags.writeable = False
    return copy


def checksum(array: Any) -> int:
    """Return a number that is another if any bit of the array is; worked out where it lives."""
    numbers = np.ravel(array)
    if not is_distant(array):
        return zlib.crc32(np.ascontiguousarray(numbers).view(np.uint8).data)
    size = array.dtype.itemsize
    words = numbers.view(f"u{min(size, 8)}").astype(np.uint64)
    # Odd weights: no single change is lost where the sum wraps around.
    return int(np.sum(words * np.arange(1, 2 * words.size, 2, dtype=np.uint64, like=words)))


def scalars(*numbers: Any) -> tuple[Any, ...]:
    """Return single numbers of arrays as Python's, all at once: a device is waited for each time.

    From a device they come as floats, or complex.
    """
    if not is_distant(numbers[0]):
        return tuple([number.item() for number in numbers])
    flat = [np.reshape(number, 1).astype(np.result_type(number, np.float64)) for number in numbers]
    return tuple(on_host(np.concatenate(flat)).tolist())


def address(array: Any) -> int:
    """Return where an array's numbers begin, in the memory where they live."""
    interface = "__cuda_array_interface__" if is_distant(array) else "__array_interface__"
    at: int = getattr(array, interface)["data"][0]
    return at


@dataclass(frozen=True)
class Distant(Value):
    """A value on a device: its numbers are copied to the host when first asked for.

    Attributes
    ----------
    there : Value
        The same with the array that lives on the device.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        fields = vars(self)
        there = Value(**fields)
        # What is not set is computed.
        del fields["array"]
        fields["there"] = there

    @cached_property
    def array(self) -> NDArray[Any] | None:  # type: ignore[override]
        """The numbers on the host."""
        there: Value = vars(self)["there"]
        return None if there.array is None else on_host(there.array)


def at_hand(value: Value) -> Value:
    """Return a value whose array is NumPy's, if need be once somebody asks for it."""
    return Distant(**vars(value)) if is_distant(value.array) else value


def where_it_lives(value: Value) -> Value:
    """Return a value with the array as it was recorded."""
    there: Value = vars(value).get("there", value)
    return there


def lives_elsewhere(value: Value) -> bool:
    """Whether a value's array is one on a device; not if it is brought from there."""
    return is_distant(vars(value).get("array"))


def as_it_lives(tape: Tape) -> Tape:
    """Return a tape, which may still be growing, with arrays as they were recorded."""
    return replace(tape, values=_AsTheyLive(tape.values))


def has_met(tape: Tape) -> bool:
    """Whether such a tape has given out an array that lives on a device."""
    return isinstance(tape.values, _AsTheyLive) and tape.values.met


class _AsTheyLive(Sequence[Value]):
    def __init__(self, values: Sequence[Value]) -> None:
        self._values = values
        self.met = False

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if isinstance(index, slice):
            return [where_it_lives(value) for value in self._values[index]]
        value = self._values[index]
        there = where_it_lives(value)
        self.met = self.met or there is not value
        return there
