"""Gradients of custom functions that are judged without their program, from a saved recording.

Slopes, which decide where the rules refute one or cannot judge it, need the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.judging.comparing.compare import unjudged
from gradwitness.judging.custom.accused import ITERATES, NORMWISE, along_only
from gradwitness.judging.custom.normwise import Judged
from gradwitness.judging.custom.tangents import explaining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records

LIVE = "not measured: slopes need the program, so judge it live, with watch"


@dataclass(frozen=True)
class Unmeasured:
    """A claim whose slopes cannot be measured.

    Attributes
    ----------
    operand : int or None
    sent : sequence of int
    array : ndarray or None
        The first gradient that was sent.
    reason : str
        Why the rules cannot say, or empty.
    iterates : bool
    tried : str
        Along what else the rules refute it.
    """

    operand: int | None
    sent: Sequence[int]
    array: NDArray[Any] | None
    reason: str
    iterates: bool
    tried: str

    def judged(
        self, records: Records, input_nr: int, expected: Any, by_rules: Comparison | None
    ) -> Judged:
        """Judge it by the rules: they refute, unless something speaks against their question."""
        reason = self.reason
        if self.iterates and not reason:
            reason = f"not the derivative of the recorded forward, but {ITERATES}"
        if reason or by_rules is None:
            return Judged(input_nr, unjudged(f"{reason}; {LIVE}", self.array), by_rules=False)
        right = expected[input_nr]
        if self.operand is not None and self.sent and right is not None:
            at, sent = records(self.operand), np.sum([records(n) for n in self.sent], axis=0)
            dtype = records.coarsest([self.operand, *self.sent])
            name = explaining(by_rules, at, sent, np.asarray(right.value), dtype)
            if name:
                along = along_only(name, by_rules)
                return Judged(input_nr, along.comparison, along.grade, False, along)
        return Judged(input_nr, by_rules, f"{NORMWISE}; {LIVE}{self.tried}")
