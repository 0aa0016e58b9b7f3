"""Results that torch's own rounding spoilt, where no bound says so.

Of a long sum in a narrow format the worst case says "too little signal". What torch computed can be
measured all the same: the rule in float64, from the same recorded operands, is the reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.backward import gradients, sending
from gradwitness.engine.floats import is_inexact, limits, unit_roundoff
from gradwitness.judging.comparing.compare import TOO_LITTLE
from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.cancelled import is_rounding
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.binding import Lookup
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import LeafUpdate, NodeRun

# A bound is wide if an error of this share of the largest number would pass.
_WIDE = 0.1
# A note is worth a loss of so much of a result, and of so many of the format's digits.
_LOST, _DIGITS = 0.01, 0.25
# What rounds the terms, at random, leaves so many times this where all of them cancel.
_NOISE = 64
_NARROW = ("float16", "bfloat16")


class _Loss(NamedTuple):
    """What a step lost of one result, as a share of it in the 2-norm."""

    finding: Finding
    name: str
    dtype: str
    share: float
    is_sum: bool


class LostSums(Detector):
    """Measures in float64 how far off a step's results are whose bounds are wide."""

    def __init__(self, *shown: Any) -> None:
        super().__init__(*shown)
        self._losses: list[_Loss] = []

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del sweep, update
        node = self.tape.nodes[node_run.node]
        wide = [
            f
            for f in findings
            if f.step is Step.BACKWARD and (_is_wide(f) or self._is_long(f.tensor_nr, node_run))
        ]
        if not wide or node.kind == Kind.CUSTOM:
            return

        wanted = {f.tensor_nr for f in wide}

        def sent(lookup: Lookup) -> Sequence[Any]:
            incoming = [None if n is None else lookup(n) for n in node_run.incoming]
            return gradients(self.tape, sending(node, wanted), incoming, lookup, None)

        try:
            exact, sizes = sent(self.records), sent(self.records.magnitudes)
        except Unjudgeable:
            return
        terms = max(self.records(n).size for n in node_run.incoming if n is not None)
        for finding in wide:
            k = finding.tensor_nr
            number, edge = node_run.outgoing[k], node.edges[k]
            if number is None or edge is None or not is_inexact(self.tape.values[number].dtype):
                continue
            # A kernel may store its partial sums in the coarsest format that it meets.
            dtype = self.records.coarsest((number, *node_run.incoming))
            size = float(np.linalg.norm(exact[k]))
            each = math.sqrt(max(1.0, terms / max(1, exact[k].size)))
            noise = _NOISE * unit_roundoff(dtype) * float(np.linalg.norm(sizes[k])) / each
            # Subnormal numbers have few digits, and no order of adding gives them more.
            noise = max(noise, float(limits(dtype).smallest_normal) * math.sqrt(exact[k].size))
            share = float(np.linalg.norm(self.records(number) - exact[k])) / (size or math.inf)
            least = float(limits(dtype).eps) ** (1 - _DIGITS)
            if size > noise and share > max(_LOST, least):
                self._losses.append(_Loss(finding, self._leaf(edge.node), dtype, share, each > 1))

    def _is_long(self, k: int, node_run: NodeRun) -> bool:
        """Whether so many terms are added that the format cannot hold their sum's last ones.

        A rule that follows the kernel's own order agrees with what that makes of them.
        """
        number = node_run.outgoing[k]
        if number is None or self.tape.values[number].dtype not in _NARROW:
            return False
        value = self.tape.values[number]
        arrived = [self.tape.values[n].shape for n in node_run.incoming if n is not None]
        terms = max(map(math.prod, arrived), default=0) / max(1, math.prod(value.shape))
        return terms * unit_roundoff(value.dtype) >= 1

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        # A gradient of which nothing is right but its being zero has its own note.
        nothing = {row.name for row in judged.rows if is_rounding(judged, row)}
        steps: dict[str, list[_Loss]] = {}
        for loss in self._losses:
            if loss.name in nothing:
                continue
            steps.setdefault(loss.finding.title.partition(",")[0], []).append(loss)
        return [_note(title, losses) for title, losses in steps.items()]

    def _leaf(self, node: int) -> str:
        leaf = self.tape.nodes[node].leaf
        return (self.tape.values[leaf].name if leaf is not None else "") or "the gradient it sends"


def _is_wide(finding: Finding) -> bool:
    comparison = finding.comparison
    if comparison.verdict is Verdict.DISAGREES:
        return False
    return comparison.reason == TOO_LITTLE or comparison.detects_relative > _WIDE


def _note(title: str, losses: list[_Loss]) -> Note:
    worst = max(losses, key=lambda loss: loss.share)
    dtype = worst.dtype
    digits, full = (-math.log10(share) for share in (worst.share, float(limits(dtype).eps)))
    remedy = (
        "Accumulate in float32: compute this step from `.float()`, or let autocast do it."
        if dtype in _NARROW
        else "Add in float64, or in another order: in pieces, and then these."
        if worst.is_sum
        else "Compute it in float64, or by a formula that does not cancel."
    )
    names = list(dict.fromkeys(loss.name for loss in losses))
    what = "sum" if worst.is_sum else "arithmetic"
    text = (
        f"torch's {dtype} {what} lost it: {listed(names)} {'is' if len(names) == 1 else 'are'} "
        f"{100 * worst.share:.2g} % off the float64 result of the same numbers in {title}, "
        f"{max(digits, 0):.1f} of {full:.1f} decimal digits right. {remedy}"
    )
    at = worst.finding
    return Note("digits lost", text, at.source, at.call, at.node)
