"""Checkpoints that run their forward again, and a backward pass through it, within their backward.

To the rules a function is what its forward computes, where ``detach`` and ``no_grad`` cut nothing.
A checkpoint sends the gradient that its function would have without it, where they do. It is judged
in the pass that the checkpoint runs: so what it sent is right if that pass is, if the forward came
out the same again, and if it is what that pass left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.custom_forwards import edge_value, reaching
from gradwitness.judging.comparing.comparison import nothing, unjudged
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.custom.accused import opened
from gradwitness.judging.custom.outcome import Settled
from gradwitness.judging.finding import Step
from gradwitness.judging.graph_queries import same_operand
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Node, Tape

_NAME = "CheckpointFunctionBackward"
_MODULE = "torch.utils.checkpoint"
_LEFT = "it is what its own pass left, in which part is detached"
_FREED = (
    f"{_LEFT}, but whether the forward came out the same again is not known: its numbers were not "
    "kept (watch(..., keep=None) keeps all)"
)
_UNKNOWN = f"{_LEFT}; whether it is torch's own checkpoint, only watch can tell"


class OwnPasses:
    """Knows torch's own checkpoints among the custom functions that the rules doubt.

    Parameters
    ----------
    functions : Functions or None
        Knows the program's functions, until the block ends.
    """

    def __init__(self, functions: Functions | None) -> None:
        self._functions = functions
        self._checkpoints: set[int | None] = set()

    def note(self, node: Node, findings: Sequence[Finding]) -> None:
        """Note whether a custom function's node that is in doubt is, or may be, a checkpoint."""
        if any(_is_in_doubt(f) for f in findings):
            function = self._functions and self._functions.function(node.id)
            if getattr(function, "__module__", "") == _MODULE or (
                self._functions is None and node.name == _NAME
            ):
                self._checkpoints.add(node.id)

    def judged(self, tape: Tape, settled: Settled) -> Settled:
        """Return what is settled, with what checkpoints sent judged by the passes that they ran."""
        findings, trusted, told = [*settled.findings], {*settled.trusted}, {**settled.told}
        asked = [k for k, f in enumerate(findings) if _is_in_doubt(f)]
        # A checkpoint within one runs in a later pass.
        for k in sorted(asked, key=lambda k: findings[k].sweep or 0, reverse=True):
            finding = findings[k]
            own = _own(tape, finding) if finding.node in self._checkpoints else None
            comparison = None if own is None else own.judged(findings)
            if own is None or comparison is None:
                continue
            grade = f"what its own pass (pass {own.number + 1}) left, judged there step by step"
            if self._functions is None and comparison.verdict is Verdict.AGREES:
                comparison = opened(comparison, _UNKNOWN)
            findings[k] = replace(finding, comparison=comparison, grade=grade, advice="")
            trusted.add(finding.node)
            for sent in own.sent:
                told[finding.sweep, finding.node, finding.tensor_nr, sent] = comparison
        return Settled(findings, trusted, told)


def _is_in_doubt(finding: Finding) -> bool:
    return finding.step is Step.BACKWARD and finding.verdict is not Verdict.AGREES


def _own(tape: Tape, finding: Finding) -> _Own | None:
    """Return the pass that a checkpoint ran, if it left what was sent."""
    later = range((finding.sweep or 0) + 1, len(tape.sweeps))
    every = (_Own(tape, finding, number) for number in later)
    return next((own for own in every if own.left()), None)


class _Own:
    """A finding about a checkpoint, and a pass that may be the one that it ran.

    Attributes
    ----------
    number : int
        The pass.
    sent : list of int
        What was sent to the operand that the finding is about.
    """

    def __init__(self, tape: Tape, finding: Finding, number: int) -> None:
        self._tape, self.number, self._pass = tape, number, tape.sweeps[number]
        self._node = tape.nodes[finding.node or 0]
        self._operand = self._node.edges[finding.tensor_nr]
        runs = tape.sweeps[finding.sweep or 0].node_runs
        self._run = next(run for run in runs if run.node == self._node.id)
        inputs = same_operand(tape, self._node, finding.tensor_nr)
        self.sent = [n for k in inputs if (n := self._run.outgoing[k]) is not None]
        before = max((run.after for run in runs[: runs.index(self._run)]), default=0)
        ran = tape.calls[before : self._pass.after]
        self._again = [call for call in ran if call.during == self._node.id]

    def left(self) -> bool:
        """Whether the pass begins with what arrived, and left at the operand what was sent."""
        tape, seeds = self._tape, {seed for _, seed in self._pass.roots}
        if seeds.isdisjoint({*self._run.incoming} - {None}) or self._pass.after > self._run.after:
            return False
        try:
            number = edge_value(tape, self._operand, self._node)
        except Unjudgeable:
            return False
        left = {u.after for u in self._pass.leaves if self._is_one(tape.nodes[u.node].leaf, number)}
        return left >= {*self.sent} if self.sent else not left

    def _is_one(self, leaf: int | None, operand: int | None) -> bool:
        """Whether a leaf is an operand, detached."""
        if leaf is None or operand is None:
            return False
        one, other = self._tape.values[leaf], self._tape.values[operand]
        lies = (one.layout, one.shape, one.dtype) == (other.layout, other.shape, other.dtype)
        return leaf == operand or (one.layout is not None and lies)

    def judged(self, findings: Sequence[Finding]) -> Comparison | None:
        """Judge what was sent; return None to leave it as the rules have it."""
        came_out = self._came_out()
        if came_out is False:
            return None
        within = {call.id for call in self._again}
        own = [f for f in findings if f.sweep == self.number or f.call in within]
        verdict = worst([f.verdict for f in own])
        array = self._tape.values[self.sent[0]].array if self.sent else None
        if verdict is Verdict.DISAGREES:
            return None
        if verdict is Verdict.INCONCLUSIVE:
            why = next(f.comparison.reason for f in own if f.verdict is verdict)
            return unjudged(f"{_LEFT}, and that pass could not be judged: {why}", array)
        if came_out is None:
            return unjudged(_FREED, array) if self._is_cut() else None
        if not self.sent:
            return nothing("no gradient: its result does not depend on it, as autograd sees it")
        return Records(self._tape).against(self.sent[0], array)

    def _came_out(self) -> bool | None:
        """Whether the forward had the same results again; None if they were not kept."""
        results = [*zip(self._run.incoming, self._node.outputs, strict=False)]
        known: bool | None = True
        for edge, seed in self._pass.roots:
            # Several results may get one gradient, as those that are summed; one that got none
            # gets zeros here.
            before = [self._array(number) for arrived, number in results if arrived == seed]
            again = self._array(self._tape.nodes[edge.node].outputs[edge.index])
            kept = [array for array in before if array is not None]
            if again is None or len(kept) < len(before):
                known = None
            elif kept and not any(np.array_equal(array, again, equal_nan=True) for array in kept):
                return False
        return known

    def _array(self, number: int | None) -> NDArray[Any] | None:
        return None if number is None else self._tape.values[number].array

    def _is_cut(self) -> bool:
        """Whether part of what ran again is out of autograd's sight."""
        if len(self._again) < len(self._node.inner):
            # What runs without grad mode in a backward pass is not recorded.
            return True
        leaves = {self._tape.nodes[u.node].leaf for u in self._pass.leaves}
        reached = reaching(self._again, {leaf for leaf in leaves if leaf is not None})
        detached = [c for c in self._again if c.node is None and c.base_op not in SOURCES]
        hidden = {n for c in detached if not reached.isdisjoint(c.operands) for n in c.outputs}
        return any(not hidden.isdisjoint(c.operands) for c in self._again if c.node is not None)
