"""The judgement of one gradient of a custom function: its bound as a whole, what it is of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, gamma, unit_roundoff
from gradwitness.judging.comparing.compare import mismatch
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.accused import NORMWISE, Case

if TYPE_CHECKING:
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.outcome import Outcome
    from gradwitness.tape import Node, Tape


@dataclass(frozen=True)
class Judged:
    """The judgement of one outgoing gradient.

    Attributes
    ----------
    input_nr : int
    comparison : Comparison
    grade : str
        How strong the evidence is.
    by_rules : bool
        Whether the rules' own gradient was the reference.
    case : Case, Outcome or None
        What the function's slopes must settle after the block; until then the comparison stands.
        An outcome if the rules settled it along a Lie group.
    advice : str
        The declaration to paste if this looks like a surrogate.
    reference : Bounded or None
        The rules' gradient if it is not that of the coarsest format.
    """

    input_nr: int
    comparison: Comparison
    grade: str = NORMWISE
    by_rules: bool = True
    case: Case | Outcome | None = None
    advice: str = ""
    reference: Any = None

    @property
    def is_open(self) -> bool:
        """Whether slopes alone will judge it."""
        return isinstance(self.case, Case) and self.case.expected is None


def normwise(node: Node, expected: Any) -> Any:
    """Allow every element the largest bound, and 4 roundings of the largest entry for each call."""
    largest_entry = float(np.max(np.abs(expected.value), initial=0.0))
    derived = 0.0 if expected.rigorous is None else float(np.max(expected.rigorous, initial=0.0))
    allowance = derived + gamma(4 + 4 * len(node.inner), expected.arithmetic.unit) * largest_entry
    errors = [allowance if e is None else e + allowance for e in expected.errors]
    bounds = [np.broadcast_to(np.asarray(e, dtype=float), expected.shape) for e in errors]
    return Bounded(expected.value, expected.arithmetic, *bounds)


def added_against(
    tape: Tape,
    records: Records,
    numbers: list[int],
    expected: Any,
    beside: float = 0.0,
    dtype: str = "",
) -> Comparison:
    """Compare the sum of the gradients that one tensor gets, with an allowance beside.

    ``dtype`` is the format to which they were rounded, if not their own.
    """
    first = tape.values[numbers[0]]
    if len(numbers) == 1:
        return records.compared(replace(first, dtype=dtype or first.dtype), expected, beside)
    unit = unit_roundoff(dtype or records.coarsest(numbers))
    arrays = [records(number) for number in numbers]
    if any(array.shape != first.shape for array in arrays):
        return mismatch("the gradients of one tensor have different shapes", first.array)
    terms = sum(map(largest, arrays))
    total = Bounded(np.sum(arrays, axis=0), Arithmetic.stepwise("float64"))
    # Added up in float64; each term was rounded separately.
    recorded = replace(first, array=total.value, dtype=total.dtype.name)
    return records.compared(recorded, expected, allowance=gamma(8, unit) * terms + beside)
