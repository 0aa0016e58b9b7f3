"""Recorded values as the check needs them: to compare with, and to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.check.compare import Comparison, compare, unjudged
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, is_float

if TYPE_CHECKING:
    from gradwitness.tape import Tape


def against(tape: Tape, number: int, expected: Any, allowance: float = 0.0) -> Comparison:
    """Compare a recorded value with what the witness expects."""
    value = tape.values[number]
    if value.array is None:
        return unjudged(f"the numbers of a {value.dtype} tensor were not recorded")
    return compare(value.array, expected, value.dtype, allowance=allowance)


def exact(tape: Tape, number: int, arithmetic: Arithmetic | None = None) -> Bounded:
    """Return a recorded value as the witness's exact operand."""
    dtype = tape.values[number].dtype
    chosen = arithmetic or Arithmetic.stepwise(dtype if is_float(dtype) else "float32")
    return Bounded(recorded(tape)(number), chosen)
