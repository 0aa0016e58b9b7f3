"""Gradients that became 0 in float16, whose smallest number is 6e-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement

if TYPE_CHECKING:
    from collections.abc import Iterator


# A note is worth so much of a gradient, in the 2-norm.
_LOST = 0.1
# Half of the smallest number above 0.
_LEAST = 2.0**-25


class Underflow(Detector):
    """Compares the zeros that a step sends in float16 with the same in float64."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        number, node, share = next(underflows(judged), (0, None, 0.0))
        if node is None:
            return []
        call = tape.nodes[node].call
        source = None if call is None else tape.calls[call].source
        text = (
            f"{100 * share:.0f} % of the gradient that {tape.nodes[node].name} #{node} sends "
            "underflowed: float16 has nothing between 0 and 6e-8. Scale the loss "
            "(torch.amp.GradScaler), or use bfloat16."
        )
        return [Note("underflow", text, source, call, node, number)]


def underflows(judged: Judgement) -> Iterator[tuple[int, int, float]]:
    """Yield pass, node and share of each gradient that lost much of itself in float16."""
    tape = judged.tape
    for number, sweep in enumerate(tape.sweeps):
        for run in sweep.node_runs:
            for edge, sent in zip(tape.nodes[run.node].edges, run.outgoing, strict=False):
                if edge is None or sent is None or tape.values[sent].dtype != "float16":
                    continue
                array = tape.values[sent].array
                whole = judged.whole_replay
                exact = None if whole is None else whole.gradient(number, edge.node, edge.index)
                if array is None or exact is None or array.shape != exact.shape:
                    continue
                lost = (array == 0) & (np.abs(exact) <= _LEAST)
                size = float(np.linalg.norm(exact))
                share = float(np.linalg.norm(exact[lost])) / size if size else 0.0
                if share > _LOST:
                    yield number, run.node, share
