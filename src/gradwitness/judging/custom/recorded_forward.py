"""What the recorded forward of a custom function shows about its derivative.

The derivative of what was recorded is that of the function, except where the function is meant to
be more than its record: an iteration stands for its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.custom_forwards import edge_value, reaching
from gradwitness.engine.floats import SHORT, is_float, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, Node, Tape

# An iteration has converged so far that its last step is this much shorter than its longest.
_CONVERGED = 2.0**-6
_LEAST = 3
_TOGETHER = (1, 2, 3, 4)
_CASTS = ("aten._to_copy", "aten.copy")
# Their vectors may be any basis of a space, and have any sign.
_FACTORS = ("aten._linalg_svd", "aten._linalg_eigh", "aten.linalg_eig")
_STEPS = tuple(f"aten.{name}" for name in ("round", "floor", "ceil", "trunc", "sign", "sgn"))


@dataclass(frozen=True)
class Iteration:
    """A loop whose results converge.

    Attributes
    ----------
    count : int
        How often it ran.
    change : float
        By how much its last step changed the result, relative to it.
    rate : float
        By what factor the last steps grew shorter.
    """

    count: int
    change: float
    rate: float

    @property
    def unsettled(self) -> float:
        """How far the derivative may lie from that of the limit: d(rate^n) = n rate^(n-1)."""
        return self.count * self.change / max(1 - self.rate, 1 / 16)


def rounds(tape: Tape, node: Node, input_nr: int) -> bool:
    """Whether an output depends on an input only through a step function or other operations.

    The slope of a step function is 0, or that of its staircase: no judge of what it stands for.
    """
    inner = _inner(tape, node)
    source = edge_value(tape, node.edges[input_nr], node)
    reached = reaching(inner, set() if source is None else {source})
    stepped = [c for c in inner if c.base_op in _STEPS and not reached.isdisjoint(c.operands)]
    outputs = {n for c in stepped for n in c.outputs if n is not None}
    return not reaching(inner, outputs).isdisjoint(node.outputs)


def _inner(tape: Tape, node: Node) -> list[Call]:
    return [tape.calls[number] for number in node.inner]


def iteration(tape: Tape, node: Node, records: Records) -> Iteration | None:
    """Return the iteration that converges best: the same operation of one line, again and again."""
    inner = _inner(tape, node)
    groups: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for call in inner:
        for output in call.outputs[:1]:
            if output is not None and is_float(tape.values[output].dtype) and not call.is_view:
                key = (call.source.line, call.op, tape.values[output].shape)
                groups.setdefault(key, []).append(output)
    # A line may hold the operation several times.
    chains = (group[::-1][::n][::-1] for group in groups.values() for n in _TOGETHER)
    found = [
        loop
        for results in chains
        if len(results) >= _LEAST
        # Each comes of the one before: a small number added in a line that adds others is no loop.
        and all(b in reaching(inner, {a}) for a, b in pairwise(results[-_LEAST:]))
        for loop in _converging(results, records)
    ]
    return min(found, key=lambda one: one.change, default=None)


def _converging(results: Sequence[int], records: Records) -> Iterator[Iteration]:
    try:
        arrays = [records(number) for number in results]
    except Unjudgeable:
        return
    steps = [float(np.linalg.norm((b - a).ravel())) for a, b in pairwise(arrays)]
    size = float(np.linalg.norm(arrays[-1].ravel()))
    if not max(steps) or not np.isfinite(max(steps)) or steps[-1] > _CONVERGED * max(steps):
        return
    rate = min(steps[-1] / steps[-2], 1.0) if steps[-2] else 0.0
    yield Iteration(len(results), steps[-1] / (size or 1.0), rate)


def computes_wide(tape: Tape, node: Node) -> bool:
    """Whether a function's forward stores no number of its own in 16 bits, but what it returns.

    Calls that only move or convert numbers do not count.
    """
    calls = [tape.calls[number] for number in node.inner]
    own = [call for call in calls if not call.is_view and call.base_op not in _CASTS]
    formats = {tape.values[n].dtype for call in own for n in call.outputs if n is not None}
    return bool(own) and formats.isdisjoint(SHORT.values())


def basis_rounded(tape: Tape, node: Node) -> str:
    """Return in which format what arrives at vectors of a basis was rounded, at most.

    Where nothing depends on the choice of the basis, the part of a gradient that would turn it is
    zero, but for rounding. Slopes are those of one choice, and feel that part. Empty where results
    are no such vectors, or are not converted to a coarser format.
    """
    inner = _inner(tape, node)
    if not any(call.base_op in _FACTORS for call in inner):
        return ""
    shown = set(node.outputs)
    formats = {tape.values[n].dtype for n in shown if n is not None}
    for call in map(tape.calls.__getitem__, range(inner[-1].id + 1, len(tape.calls))):
        if shown.isdisjoint(call.operands) or call.during is not None:
            continue
        if call.is_view:
            shown.update(call.outputs)
        elif call.base_op in _CASTS:
            formats.update(tape.values[n].dtype for n in call.outputs if n is not None)
    return max(filter(is_float, formats), key=unit_roundoff, default="")
