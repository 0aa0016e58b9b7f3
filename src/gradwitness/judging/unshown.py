"""Numbers that ``resize_`` shows, and no record has: they matter where something reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.rules.graph_terms import SOURCES
from gradwitness.rules.shape.shape import UNSHOWN
from gradwitness.tape import references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, Tape

_RESIZES = ("aten.resize", "aten.resize_as")
# What these write to in place, they do not read.
_OVERWRITES = SOURCES.union(("aten.copy", "aten.fill", "aten.zero"))


class Unshown:
    """Keeps the doubts about resized tensors until something reads their numbers.

    If all are written over at once first, as in a buffer that is used again, nothing is in doubt.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        # By the value whose numbers are not known.
        self._doubts: dict[int, list[Finding]] = {}

    def told(self, call: Call, findings: Sequence[Finding]) -> Sequence[Finding]:
        """Return what is found of a call, with the doubts about what it reads."""
        resizes = call.base_op in _RESIZES
        if not (resizes or self._doubts):
            return findings
        doubts = [f for number in self._read(call) for f in self._doubts.pop(number, ())]
        if not resizes:
            return [*doubts, *findings]
        open_ = [f for f in findings if f.verdict is Verdict.INCONCLUSIVE]
        doubts += [f for f in open_ if doubts or UNSHOWN in f.comparison.reason]
        (output,) = call.outputs
        if doubts and output is not None and 0 not in self._tape.values[output].shape:
            self._doubts[output] = doubts
        return [f for f in findings if f not in doubts]

    def _read(self, call: Call) -> list[int]:
        """Return the values of which a call reads numbers."""
        in_place = call.op.split(".")[1].endswith("_")
        overwritten = call.writes if call.base_op in _OVERWRITES or not in_place else ()
        given = (a for name, a in call.arguments.items() if name not in overwritten)
        return [n for argument in given for n in references(argument)]
