"""Gradients that are added up as they are sent, as autograd does, and need not be kept.

A weight that a loop uses in each turn is sent a gradient as large as itself by each. All of them
until the last has come would be many times what the program itself needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.distant import is_distant
from gradwitness.judging.comparing.fan_in import adding
from gradwitness.judging.looks.moved import is_same
from gradwitness.judging.looks.norms import norm_of, peak_of
from gradwitness.judging.looks.once import UNIT, add_in_turn, is_exactly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Value

# So many gradients are added at a time, and kept until then: what they are added to is then read
# and written as rarely.
AT_ONCE = 4
# Smaller ones cost little to keep.
_BYTES = 2**18


class RunningSum:
    """A sum of gradients in float32 that are added one after the other.

    Attributes
    ----------
    count : int
        How many are in it.
    """

    def __init__(self) -> None:
        self.count = 0
        self._total: Any = None
        # What the sums on the way come to at most, added up.
        self._peaks = 0.0
        self._goes_on = True

    def add(self, terms: Sequence[Value]) -> bool:
        """Add gradients; return whether that was possible, as then it is for all before them."""
        arrays = [term.array for term in terms if term.dtype == "float32" and term.sparse <= 1]
        fits = len(arrays) == len(terms) and all(map(_fits, arrays))
        numbers: list[Any] = arrays
        before = numbers[:1] if self._total is None else [self._total]
        self._goes_on &= fits and {a.shape for a in numbers} == {a.shape for a in before}
        if not self._goes_on:
            return False
        if self._total is None:
            self._total, numbers = numbers[0].copy(order="K"), numbers[1:]
        with np.errstate(all="ignore"):
            self._peaks += peak_of(self._total)
            self._peaks += add_in_turn(self._total, numbers)
        self.count += len(terms)
        return True

    def compared(self, value: Value, rest: Sequence[Value]) -> Comparison | None:
        """Compare with what arrived after the ``rest`` had been sent, too; None of other bits."""
        if rest and not self.add(rest):
            return None
        return is_exactly(value, self._total, _norm, before=self._peaks)

    def bounded(self, value: Value) -> tuple[Bounded, float]:
        """Return the sum with the bound of what is to equal it, and how large its terms may be.

        A sum of n numbers g in float32 is off by at most ``(n - 1) u sum |g|``, in any order (N. J.
        Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2), to first order;
        in this one by u times the sums on the way. A term is no larger than the sums before and
        after it together: so ``sum |g|`` is at most twice what these come to.
        """
        total = self._total
        sums = self._peaks + peak_of(total)
        in_order = value.array is not None and is_same(value.array, total)
        error = np.full(total.shape, UNIT * sums * (1 if in_order else 3 * self.count))
        return Bounded(total.astype(np.float64), adding("float32"), error, error), 2 * sums


def _fits(array: Any) -> bool:
    return array is not None and not is_distant(array) and array.nbytes >= _BYTES


def _norm(value: Value) -> float:
    return 0.0 if value.array is None else norm_of(value.array)
