"""Recorded values as the check needs them: to compare with, and to start from."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.binding import recorded, unrecorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, is_inexact, wide
from gradwitness.judging.compare import Comparison, compare, unjudged
from gradwitness.judging.piecewise import Pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.tape import Tape, Value

# One step's result is the next one's operand: so much is kept in float64, and no more.
_KEPT_BYTES = 2**26


class Records:
    """Looks a tape's numbers up, in float64, and compares with them.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._lookup = recorded(tape)
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        # Memory that something else than torch may write to: it is looked at anew each time.
        self._exposed: set[int] = set()

    def __call__(self, number: int) -> NDArray[Any]:
        """Return a value's numbers, read-only.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        known = self._kept.get(number)
        if known is not None:
            self._kept.move_to_end(number)
            return known
        array = np.asarray(self._lookup(number))
        value = self._tape.values[number]
        if array is value.array:
            return array
        array.flags.writeable = False
        if value.layout is not None and value.layout.storage in self._exposed:
            return array
        self._kept[number] = array
        self._bytes += array.nbytes
        while self._bytes > _KEPT_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return array

    def part(self, number: int, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return some of the numbers of a value that rounds; all of them if the index is empty.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        array = self._tape.values[number].array
        if not index or array is None or number in self._kept:
            return self(number)[index] if index else self(number)
        with np.errstate(invalid="ignore"):
            return wide(array[index])

    def as_recorded(self, number: int) -> NDArray[Any]:
        """Return a value's numbers in a format that holds them, to compare with.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        value = self._tape.values[number]
        return self(number) if value.array is None or not is_inexact(value.dtype) else value.array

    def changed(self, number: int) -> bool:
        """Return whether a value's numbers are still remembered, and are others by now."""
        known, value = self._kept.get(number), self._tape.values[number]
        if known is None or value.array is None:
            return False
        with np.errstate(invalid="ignore"):
            now = value.array.astype(known.dtype)
        return not np.array_equal(known, now, equal_nan=True)

    def expose(self, number: int) -> None:
        """Take note that a value's memory is in the hands of something that is not torch."""
        layout = self._tape.values[number].layout
        if layout is None:
            return
        self._exposed.add(layout.storage)
        for known in list(self._kept):
            other = self._tape.values[known].layout
            if other is not None and other.storage == layout.storage:
                self._bytes -= self._kept.pop(known).nbytes

    def size(self, number: int) -> NDArray[Any]:
        """Return the magnitudes of a value's numbers."""
        array = self(number)
        return np.abs(array) if array.dtype.kind in "fc" else array

    def exact(self, number: int, arithmetic: Arithmetic | None = None) -> Bounded:
        """Return a value as the witness's exact operand."""
        dtype = self._tape.values[number].dtype
        chosen = arithmetic or Arithmetic.stepwise(dtype if is_inexact(dtype) else "float32")
        return Bounded(self(number), chosen)

    def against(self, number: int, expected: Any, allowance: float = 0.0) -> Comparison:
        """Compare a recorded value with what the witness expects."""
        return self.compared(self._tape.values[number], expected, allowance)

    def compared(self, value: Value, expected: Any, allowance: float = 0.0) -> Comparison:
        """Compare a value, which need not be on the tape, with what the witness expects."""
        if value.array is None:
            return unjudged(unrecorded(value))
        if isinstance(expected, Pieces):
            return expected.against(value.array, value.dtype, allowance)
        return compare(value.array, expected, value.dtype, allowance=allowance)


def largest(array: Any) -> float:
    """Return the largest magnitude of an array; 0 if it is not finite, or has no numbers."""
    found = float(np.max(np.abs(array), initial=0.0))
    return found if np.isfinite(found) else 0.0
