"""Gradients that were clipped while GradScaler's factor was still on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.nonfinite import UNSCALE

if TYPE_CHECKING:
    from gradwitness.tape import Call, Tape

_NORMS = ("norm", "_foreach_norm", "linalg_vector_norm", "max", "amax", "_foreach_max")
_CLAMPS = ("clamp", "clamp_min", "clamp_max", "minimum", "maximum")


class Clipping(Detector):
    """Looks for a limit on gradients between a backward pass and what takes the factor off."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        notes: dict[str, Note] = {}
        begun = 0
        for call in tape.calls:
            if call.base_op != UNSCALE:
                continue
            after = max((s.after for s in tape.sweeps if s.after <= call.id), default=0)
            clip = _clip(
                tape, tape.calls[max(begun, after) : call.id], _memory(tape, call.operands)
            )
            begun = call.id
            if clip is not None:
                text = (
                    f"{clip.op} (call {clip.id}) limits gradients that GradScaler has not unscaled "
                    "yet: they are larger by its factor, so the limit cuts far too much. Call "
                    "scaler.unscale_(optimizer) before it."
                )
                note = Note("clipped before unscale_", text, clip.source, clip.id)
                notes.setdefault(clip.source.line, note)
        return list(notes.values())


def _clip(tape: Tape, calls: list[Call] | tuple[Call, ...], grads: set[int]) -> Call | None:
    """Return the first call that clips gradients: by their norm, or each of them."""
    measured: set[int] = set()
    has_norm = False
    for call in calls:
        name = call.base_op.partition(".")[2]
        operands = {*call.operands}
        reads = not grads.isdisjoint(_memory(tape, operands))
        if call.writes and not grads.isdisjoint(_memory(tape, call.outputs)):
            numbers = [a for a in call.arguments.values() if isinstance(a, float)]
            arrays = [tape.values[n].array for n in operands if tape.values[n].shape == ()]
            numbers += [float(array) for array in arrays if array is not None]
            if name.removeprefix("_foreach_") in _CLAMPS or not measured.isdisjoint(operands):
                return call
            # A factor that went through Python: no number that a program writes.
            if has_norm and any(float(f"{n:.6g}") != n for n in numbers):
                return call
        elif reads and name in _NORMS:
            has_norm = True
            measured.update(n for n in call.outputs if n is not None)
        elif not measured.isdisjoint(operands):
            measured.update(n for n in call.outputs if n is not None)
    return None


def _memory(tape: Tape, numbers: object) -> set[int]:
    layouts = [tape.values[n].layout for n in numbers if n is not None]  # type: ignore[attr-defined]
    return {layout.storage for layout in layouts if layout is not None}
