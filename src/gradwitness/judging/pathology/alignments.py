"""CTC losses of log-probabilities that no log_softmax made.

Torch's gradient of `ctc_loss` is the slope plus exp(x) times what came in: log_softmax, which sums
a gradient and takes exp(x) times that away, does not feel it. Where something else does, the
gradient is not the slope of the loss. What each leaf feels of it is carried through the replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.engine.replay import backward_pass
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Call, Tape

# Of a gradient: rounding leaves less.
_FELT = 2.0**-20


class Alignments(Detector):
    """Looks at what the leaves feel of a term that only log_softmax takes out."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        return list(_notes(judged))


def _notes(judged: Judgement) -> Iterator[Note]:
    tape = judged.tape
    for number, sweep in enumerate(tape.sweeps):
        for node_run in sweep.node_runs:
            call = _losses_call(tape, node_run.node)
            replayed = None if call is None else judged.whole_replay
            g = None if replayed is None else replayed.gradient(number, node_run.node)
            if call is None or replayed is None or g is None:
                continue
            added = _added(call, g, replayed)
            arriving = _carried(tape, number, node_run.node, added, replayed)
            shares = {
                row.name: _share(arriving.get((row.node, row.input_nr)), slope)
                for row in judged.rows
                if row.sweep == number
                and (slope := replayed.gradient(number, row.node, row.input_nr)) is not None
            }
            off = {name: share for name, share in shares.items() if share}
            if off:
                yield Note("not from log_softmax", _said(off), call.source, call.id, call.node)


def _carried(tape: Tape, number: int, node: int, change: Any, replayed: Replay) -> Any:
    """Return what arrives at each input of a node of a change that one node sends."""
    return backward_pass(tape, number, replayed.values, {node: lambda _: (change,)})[0]


def _losses_call(tape: Tape, node: int) -> Call | None:
    number = tape.nodes[node].call
    call = None if number is None else tape.calls[number]
    return call if call is not None and call.base_op == "aten._ctc_loss" else None


def _added(call: Call, g: Any, replayed: Replay) -> Any:
    """Return what torch's gradient of a CTC loss has beyond the slope."""

    def numbers(name: str) -> Any:
        argument = call.arguments[name]
        return replayed.values[argument.value] if isinstance(argument, Ref) else argument

    x = numbers("log_probs")
    # Without a batch there is one length.
    lengths = np.reshape(numbers("input_lengths"), x.shape[1:-1])
    steps = np.reshape(np.arange(len(x)), (-1,) + (1,) * lengths.ndim)
    return np.where((steps < lengths)[..., None], np.exp(x) * np.asarray(g)[..., None], 0)


def _said(off: dict[str, float]) -> str:
    return (
        f"{listed(off)} {'is' if len(off) == 1 else 'are'} {100 * max(off.values()):.2g} % off the "
        "slope of ctc_loss. Torch's gradient holds only for what comes straight from log_softmax, "
        "which takes exp(log_probs) out of it again: hand log_softmax(logits, -1) to ctc_loss."
    )


def _share(change: Any, gradient: Any) -> float:
    """Return a change over the slope that is left without it; 0 where rounding makes it."""
    if change is None:
        return 0.0
    size, slope = (float(np.linalg.norm(a)) for a in (change, gradient - change))
    return size / slope if slope and size > _FELT * slope else 0.0
