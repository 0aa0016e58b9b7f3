"""Where the worst entry of each gradient comes from, step by step, as `--explain` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.numbers import subscript
from gradwitness.report.page.columns import Columns
from gradwitness.report.trace import Trace
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

# Gradients that are traced, wrong ones first; how many numbers may be read for all, and for one.
_MOST_TRACED, _ROOM, _ROOM_OF_ONE = 100, 6e8, 5e7


def derivation_columns(tape: Tape, report: Report) -> Columns:
    """Return a text for each gradient whose worst entry is known and can be traced soon."""
    trace = Trace(tape, report)
    left = _ROOM
    traced: list[tuple[int, str, str]] = []
    rows = sorted(enumerate(report.rows), key=lambda pair: pair[1].verdict is not Verdict.DISAGREES)
    for number, row in rows[:_MOST_TRACED]:
        index = row.comparison.index
        if row.value is None or index is None or left <= 0:
            continue
        trace.room = given = min(left, _ROOM_OF_ONE)
        try:
            text = trace.text(row, index)
        except Unjudgeable:  # its numbers were not kept
            continue
        left -= given - trace.room
        traced.append((number, f"{row.name}{subscript(index)}", text))
    columns = Columns()
    columns.numbers("gradient", [number for number, *_ in traced], np.int32)
    columns.texts("entry", (entry for _, entry, _ in traced))
    columns.texts("text", (text for *_, text in traced))
    return columns
