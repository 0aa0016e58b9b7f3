"""Parameters that cannot learn: their gradient is zero, but for what rounding leaves of it.

A router that normalises the weight of its one choice to 1 is such a case. Biases that a
normalisation or a softmax takes out again are so common that they are not noted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.judging.comparing.compare import CANCELS
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Ref
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Row
    from gradwitness.tape import Call, Tape

# Of the largest gradient of the pass: what is left there is rounding of float64.
_NOTHING = 2.0**-40
_KEEPS = ("aten._to_copy", "aten.add", "aten.clone", "aten.sub")
_BIASED = ("aten.addmm", "aten.addmv", "aten.baddbmm")


class Cancelled(Detector):
    """Looks for gradients of which nothing is left in float64."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        rows: dict[str, list[Row]] = {}
        # Of a program without modules, all leaves are parameters.
        parameters = {tape.values[n].name for n in tape.parameters}
        for row in judged.rows:
            if row.name in parameters or not parameters:
                rows.setdefault(row.name, []).append(row)
        names = {
            name: call
            for name, same in rows.items()
            if all(is_rounding(judged, row) for row in same)
            and (call := _user(tape, same[0])) is not None
        }
        if not names:
            return []
        call = next(iter(names.values()))
        text = (
            f"{listed(list(names))} cannot learn: the gradient is zero, and what torch has is "
            "rounding. The loss does not change with them, as where a weight is divided by "
            "itself (one choice normalised to 1), or shifted and scaled out again."
        )
        return [Note("cannot learn", text, call.source, call.id, call.node)]


def is_rounding(judged: Judgement, row: Row) -> bool:
    """Whether a gradient is zero, and what torch has of it is rounding."""
    if row.value is None or row.verdict is Verdict.DISAGREES:
        return False
    if row.digits >= 1 and row.comparison.reason != CANCELS:
        # It is small, but has digits.
        return False
    array, exact = judged.tape.values[row.value].array, _exact(judged, row)
    # Zeros in both are no rounding: of what is switched off, or begins at 0.
    has = 0 < max(_size(array), exact) < math.inf
    others = (_exact(judged, r) for r in judged.rows if r.sweep == row.sweep)
    return has and exact <= _NOTHING * max(filter(math.isfinite, others))


def _exact(judged: Judgement, row: Row) -> float:
    """Return how large a gradient is in float64; infinity where that is not known."""
    replayed = judged.replayed
    return _size(None if replayed is None else replayed.gradient(row.sweep, row.node, row.input_nr))


def _size(array: Any) -> float:
    """Return the largest magnitude of an array; infinity if there is none, or it is not finite."""
    return largest(array) if array is not None and np.isfinite(array).all() else math.inf


def _user(tape: Tape, row: Row) -> Call | None:
    """Return the first call that uses a parameter, unless it is a bias."""
    leaf = tape.nodes[row.node].outputs[row.input_nr]
    # The parameter, what it is cast to and seen as, and what an update makes of it.
    family = {leaf}
    for call in tape.calls:
        if call.node is None or family.isdisjoint(call.operands):
            continue
        sizes = [math.prod(tape.values[n].shape) for n in (leaf, call.outputs[0]) if n is not None]
        kept = call.is_view or call.base_op in _KEEPS
        if kept and sizes[0] == sizes[-1]:
            family.update(call.outputs)
        elif not _adds(call, family):
            return call
    return None


def _adds(call: Call, family: set[int | None]) -> bool:
    """Whether a call takes a parameter as a bias."""
    name = "bias" if "bias" in call.arguments else "self" if call.base_op in _BIASED else ""
    bias = call.arguments.get(name)
    return call.base_op == "aten.add" or (isinstance(bias, Ref) and bias.value in family)
