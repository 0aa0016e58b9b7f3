"""Digits that torch's own formula loses though every step of it is right: cancellation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradwitness.check.compare import CANCELS
from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector, listed
from gradwitness.check.verdict import Verdict
from gradwitness.engine.floats import is_float, limits
from gradwitness.engine.replay import confirmed_digits
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.check.finding import Finding, Row
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Source, Tape

# A gradient is noted if it keeps less than this share of its format's digits, and one step is
# named if it alone loses this share.
_KEPT, _LOST = 0.4, 0.3


class LostDigits(Detector):
    """Follows, with the float64 replay as reference, where correct digits disappear."""

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        poor = [
            row
            for row in rows
            # Zero has no digits to lose.
            if is_float(row.dtype)
            and row.comparison.reason != CANCELS
            and row.digits < _KEPT * _format_digits(row.dtype)
        ]
        if replayed is None or not poor or any(f.verdict is Verdict.DISAGREES for f in findings):
            return []
        lost, title, source, call, node = max(
            (*_forward(tape, replayed), *_backward(tape, replayed)),
            key=lambda step: step[0],
            default=(0.0, "", None, None, None),
        )
        if lost < _LOST:
            return []
        digits = min(row.digits for row in poor)
        text = (
            f"{listed([row.name for row in poor])}: {max(0.0, digits):.1f} of "
            f"{_format_digits(poor[0].dtype):.1f} digits are right. Most are lost in {title}: each "
            "step rounds as it may, the formula cancels."
        )
        return [Note("digits lost", text, source, call, node)]


def _format_digits(dtype: str) -> float:
    return -math.log10(float(limits(dtype).eps))


_Loss = tuple[float, str, "Source | None", int | None, int | None]


def _forward(tape: Tape, replayed: Replay) -> Iterable[_Loss]:
    """Yield the share of digits that each call loses."""
    for call in tape.calls:
        operands = [n for argument in call.arguments.values() for n in references(argument)]
        before = min((_kept(tape, n, replayed) for n in operands), default=1.0)
        after = min((_kept(tape, n, replayed) for n in call.outputs if n is not None), default=1.0)
        yield before - after, f"{call.op} (call {call.id})", call.source, call.id, call.node


def _backward(tape: Tape, replayed: Replay) -> Iterable[_Loss]:
    """Yield the share of digits that each node's turn loses."""
    for number, sweep in enumerate(tape.sweeps):
        for firing in sweep.firings:
            node = tape.nodes[firing.node]

            def kept(value: int | None, at: tuple[int, int], sweep: int = number) -> float:
                if value is None:
                    return 1.0
                reference = replayed.gradient(sweep, *at)
                return _share(tape, value, reference)

            before = min(
                (kept(value, (node.id, place)) for place, value in enumerate(firing.incoming)),
                default=1.0,
            )
            after = min(
                (
                    kept(value, (edge.node, edge.index))
                    for value, edge in zip(firing.outgoing, node.edges, strict=False)
                    if edge is not None
                ),
                default=1.0,
            )
            source = None if node.call is None else tape.calls[node.call].source
            yield before - after, f"{node.name} #{node.id}", source, node.call, node.id


def _kept(tape: Tape, number: int, replayed: Replay) -> float:
    return _share(tape, number, replayed.values.get(number))


def _share(tape: Tape, number: int, reference: NDArray[Any] | None) -> float:
    """Return the share of its format's digits that a recorded value has right, 0 to 1."""
    value = tape.values[number]
    array = value.array
    if array is None or reference is None or array.size == 0:
        return 1.0
    if not is_float(value.dtype) or reference.shape != array.shape:
        return 1.0
    digits = confirmed_digits(array, reference)
    if math.isnan(digits):
        return 1.0
    return min(1.0, max(0.0, digits / _format_digits(value.dtype)))
