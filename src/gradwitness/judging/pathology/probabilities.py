"""A loss of logits that gets probabilities: softmax, then cross_entropy, takes softmax twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.note import Note, place
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import made

if TYPE_CHECKING:
    from gradwitness.tape import Call

_LOSSES = {
    "aten._log_softmax": ("log_softmax (cross_entropy)", "nll_loss of their logarithms"),
    "aten.binary_cross_entropy_with_logits": (
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
    ),
}
_MAKERS = ("aten._softmax", "aten.sigmoid")
# What leaves probabilities what they are.
_KEEPS = frozenset(f"aten.{n}" for n in ("_to_copy", "clamp", "clamp_min", "clone"))
# A small number beside a sum keeps it from 0.
_NEARLY = frozenset({"aten.add"})


class Probabilities(Detector):
    """Looks at what made the operand of a loss that takes logits."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        ran = {run.node for sweep in tape.sweeps for run in sweep.node_runs}
        makers = {n: call for call in tape.calls for n in made(call)}
        notes: dict[str, Note] = {}
        for call in tape.calls:
            if call.base_op in _LOSSES and call.node in ran:
                maker = _maker(call, makers)
                if maker is not None:
                    note = Note(
                        "softmax twice", _said(call, maker), call.source, call.id, call.node
                    )
                    notes.setdefault(call.source.line, note)
        return list(notes.values())


def _maker(call: Call, makers: dict[int, Call]) -> Call | None:
    """Return the softmax or sigmoid whose result a loss gets, if one made it."""
    maker = makers.get(call.operands[0])
    while maker is not None and (maker.is_view or maker.base_op in _KEEPS):
        maker = makers.get(maker.operands[0])
    if maker is not None and maker.base_op == "aten.exp":
        inner = makers.get(maker.operands[0])
        return maker if inner is not None and inner.base_op == "aten._log_softmax" else None
    if maker is not None and maker.base_op == "aten.div" and len(maker.operands) == 2:
        return maker if _is_by_hand(makers, *maker.operands) else None
    return maker if maker is not None and maker.base_op in _MAKERS else None


def _is_by_hand(makers: dict[int, Call], part: int, whole: int) -> bool:
    """Whether a value is a sum of exponentials, and the other one these."""
    total = makers.get(whole)
    while total is not None and (total.is_view or total.base_op in _KEEPS | _NEARLY):
        total = makers.get(total.operands[0])
    if total is None or total.base_op != "aten.sum":
        return False
    one, other = makers.get(part), makers.get(total.operands[0])
    both = one is not None and other is not None and one.operands == other.operands
    return both and all(call and call.base_op == "aten.exp" for call in (one, other))


def _said(call: Call, maker: Call) -> str:
    loss, instead = _LOSSES[call.base_op]
    return (
        f"{loss} takes logits, but gets probabilities, which {maker.op} (call {maker.id}) at "
        f"{place(maker.source)} made: numbers between 0 and 1 are nearly equal logits, so that the "
        f"gradients are small and the loss never gets to 0. Hand over the logits themselves, or "
        f"take {instead}."
    )
