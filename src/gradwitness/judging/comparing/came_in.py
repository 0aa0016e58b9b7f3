"""NaN and infinities: what a step makes of given ones differs between kernels.

NaN that it makes of finite numbers, where its function has no value, does not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.judging.comparing.compare import unjudged
from gradwitness.judging.comparing.piecewise import Pieces
from gradwitness.judging.sight import made
from gradwitness.rules import find
from gradwitness.rules.registry import ELEMENTWISE
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, NodeRun

REASON = "NaN or infinity came in, and both sides differ only in what they made of it"
UNDEFINED = "NaN where the function has no value"


def forgiven(
    comparison: Comparison,
    records: Records,
    number: int,
    expected: Any,
    given: Iterable[int],
    call: Call,
) -> Comparison:
    """Leave open what two right computations make of NaN and infinities in different ways.

    That is: where NaN came in, anything; where an infinity came in, NaN or infinities on one side.
    What is born from finite numbers is judged. Of steps that are not elementwise, it is only known
    whether the witness has a number: NaN in place of one is left open if NaN came in anywhere.

    Parameters
    ----------
    comparison : Comparison
        Of a value with the witness's.
    records : Records
    number : int
        The value.
    expected : Bounded, Pieces or ndarray
    given : iterable of int
        The values that the step worked on.
    call : Call
        The step, or that whose backward it is.
    """
    rule = find(call.base_op)
    if comparison.verdict is not Verdict.DISAGREES or rule is None or rule.moves:
        return comparison
    arrays = list(_nonfinite(records, given))
    whole = expected.whole() if arrays and isinstance(expected, Pieces) else expected
    if not arrays or whole is None:
        return comparison
    value = np.asarray(whole.value if isinstance(whole, Bounded) else whole)
    recorded = records(number)
    if value.shape != recorded.shape or value.dtype.kind not in "fc":
        return comparison
    with_nan = any(np.isnan(array).any() for array in arrays)
    nan, infinite = np.zeros(value.shape, bool), np.zeros(value.shape, bool)
    for array in arrays:
        if _fits(array.shape, value.shape):
            nan |= np.isnan(array)
            infinite |= np.isinf(array)
    settled = nan | (infinite & ~(np.isfinite(value) & np.isfinite(recorded)))
    if rule.apart != ELEMENTWISE:
        settled |= ~np.isfinite(value) | (~np.isfinite(recorded) & with_nan)
    rest: Any = np.where(settled, recorded, value)
    if isinstance(whole, Bounded):
        rest = Bounded(rest, whole.arithmetic, *whole.errors)
    again = records.against(number, rest)
    return again if again.verdict is Verdict.DISAGREES else unjudged(REASON, recorded)


def agreed(
    comparison: Comparison, records: Records, number: int, expected: Any, given: Iterable[int]
) -> Comparison:
    """Count NaN as right where a function of finite numbers has no value: its bound is 0 there.

    The comparison's norm stays NaN. Parameters are those of `forgiven`.
    """
    is_open = comparison.reason.startswith("NaN") and isinstance(expected, Bounded)
    if not is_open or not finite(records, given):
        return comparison
    certain = True if expected.is_exact else expected.rigorous == 0
    nowhere = np.isnan(expected.value) & np.isnan(records(number)) & certain
    if not nowhere.any():
        return comparison
    recorded = records.as_recorded(number).copy()
    recorded[nowhere] = 0
    value = np.where(nowhere, 0.0, expected.value)
    rest = Bounded(value, expected.arithmetic, *expected.errors)
    again = records.compared(replace(records.value(number), array=recorded), rest)
    reason = again.reason or (UNDEFINED if again.verdict is Verdict.AGREES else "")
    return replace(again, reason=reason, norm=math.nan)


def finite(records: Records, given: Iterable[int]) -> bool:
    """Whether all numbers of some values are finite."""
    return next(_nonfinite(records, given), None) is None


def given_to(call: Call, node_run: NodeRun) -> set[int]:
    """Return the values that the backward of a call worked on."""
    incoming = {number for number in node_run.incoming if number is not None}
    return incoming | {*call.operands} | made(call)


def _nonfinite(records: Records, numbers: Iterable[int]) -> Iterator[NDArray[Any]]:
    for number in numbers:
        try:
            array = records(number)
        except Unjudgeable:
            continue
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            yield array


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    return len(shape) <= len(into) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(into), strict=False)
    )
