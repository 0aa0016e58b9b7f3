"""Sigmoids and tanhs that were rounded to 1: torch's gradient there is 0, which it is not.

Torch takes y (1 - y) and 1 - y^2, where nothing is left of 1 - y. Beside larger numbers that is a
rounding error of the gradient, but all that one of its numbers is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import scalars, where_it_lives
from gradwitness.judging.looks.norms import peak_of
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, NodeRun

# What is right there, of what arrives.
_SLOPES = {"aten.sigmoid": "e^-x", "aten.tanh": "4 e^(-2 |x|)"}
# In 16 bits 1 is near, and no gradient is meant to have such digits.
_DIGITS = {"float32": 24, "float64": 53}


def _end(op: str, dtype: str) -> float:
    """Return from where on 1 + e^-x is 1, or 1 - 2 e^-2x is nearer to 1 than to what is below."""
    digits = _DIGITS[dtype]
    return math.log(2) * (digits if op == "aten.sigmoid" else (digits + 2) / 2)


class Saturated(Detector):
    """Counts, at each sigmoid and tanh, the numbers whose gradient was lost, but for those all."""

    def __init__(self, *shown: Any) -> None:
        super().__init__(*shown)
        self._lost: dict[str, tuple[int, int, Call, int]] = {}

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del sweep, update, findings
        node = self.tape.nodes[node_run.node]
        call = None if node.call is None else self.tape.calls[node.call]
        number = node_run.incoming[0] if node_run.incoming else None
        if call is None or call.base_op not in _SLOPES or number is None:
            return
        output = call.outputs[0]
        value = None if output is None else where_it_lives(self.tape.values[output])
        if output is None or value is None or value.dtype not in _DIGITS:
            return
        if value.array is not None and value.array.size and peak_of(value.array) < 1:
            return
        y, g = value.array, where_it_lives(self.tape.values[number]).array
        if y is None or g is None:
            return
        arrives = np.isfinite(g) & (g != 0)
        lost = arrives & (np.abs(y) == 1)
        # Where nothing but these is there, no digit is right, which is told as such.
        count, others = scalars(lost.sum(), (arrives & ~lost).any())
        if count and others:
            self._add(call, node_run.node, int(count), y.size)

    def _add(self, call: Call, node: int, lost: int, size: int) -> None:
        place = f"{call.base_op} {call.source.line}"
        before = self._lost.get(place, (0, 0, call, node))
        self._lost[place] = (before[0] + lost, before[1] + size, *before[2:])

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        del judged
        return [
            Note("saturated", self._text(*found), found[2].source, found[2].id, found[3])
            for found in self._lost.values()
        ]

    def _text(self, lost: int, size: int, call: Call, _: int) -> str:
        name, dtype = call.base_op.partition(".")[2], self.tape.values[call.outputs[0] or 0].dtype
        return (
            f"{lost} of {size} numbers after {name} (call {call.id}) are rounded to 1, as from "
            f"x = {_end(call.base_op, dtype):.3g} on in {dtype}. Torch's gradient is exactly 0 "
            f"there, in place of {_SLOPES[call.base_op]} times what arrives: too little to matter "
            "beside others, and all that such a number gets. Take its logarithm in one function "
            "(logsigmoid, binary_cross_entropy_with_logits), or scale what comes in."
        )
