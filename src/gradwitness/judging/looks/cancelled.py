"""Sums of what arrived of which next to nothing is left, each held against its own terms.

A bias before a normalisation gets a gradient that is zero by mathematics: what is left of its terms
is what rounding leaves, and float64 is no nearer to it than to zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.backward import gradients, sending
from gradwitness.judging.comparing.comparison import CANCELS, SHARE, VISIBLE, Comparison
from gradwitness.judging.looks.step import raw
from gradwitness.rules.registry import ADDED
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.looks.close import Closeness
    from gradwitness.tape import Node, NodeRun, Tape


def left_of_sums(
    tape: Tape, node: Node, node_run: NodeRun, input_nr: int, name: str, close: Closeness
) -> Comparison | None:
    """Return the comparison of a sum's gradient; None if it is no such sum, or is not near.

    Each number is within a twentieth of itself; or it and its error are no more than is allowed of
    what its own terms come to with random signs.
    """
    call, sent = tape.calls[node.call or 0], close.value
    came = [None if n is None else tape.values[n] for n in node_run.incoming]
    if name != ADDED or len(came) != 1 or came[0] is None or call.arguments.get("beta", 1) != 1:
        return None
    recorded, expected = sent.array, close.expected
    if 2 * close.roundings > VISIBLE or recorded is None or expected is None:
        return None
    if {sent.dtype, came[0].dtype} != {"float32"}:
        return None
    g = raw(tape)(came[0].id)
    # As the sum is linear, that of squares is made by the same rule.
    squares: Any = gradients(tape, sending(node, {input_nr}), [g * g], raw(tape), None)
    sizes = np.sqrt(squares[input_nr])
    allowed = close.roundings * sizes
    error, magnitude = np.abs(expected - recorded), np.abs(recorded)
    is_zero = (magnitude <= allowed) & (error <= allowed)
    is_near = error <= SHARE / 2 * magnitude
    if not (np.isfinite(sizes).all() and magnitude.any() and (is_zero | is_near).all()):
        return None
    seen = np.where(is_zero, 2 * allowed, SHARE * magnitude)
    at = np.unravel_index(int(seen.argmax()), sent.shape)
    largest = float(magnitude.max())
    return Comparison(
        Verdict.AGREES,
        CANCELS,
        recorded.size,
        index=tuple(map(int, at)),
        recorded=float(recorded[at]),
        expected=float(expected[at]),
        error=float(error[at]),
        bound=float(seen[at]) / 2,
        ratio=2 * float(error[at] / seen[at]),
        detects=float(seen.max()),
        detects_relative=float(seen.max()) / largest if largest else math.inf,
        norm=float(np.linalg.norm(recorded)),
    )
