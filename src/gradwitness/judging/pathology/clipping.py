"""Gradients that were clipped while GradScaler's factor was still on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.engine.custom_forwards import storages
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.nonfinite import UNSCALE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
                tape, tape.calls[max(begun, after) : call.id], storages(tape, call.operands)
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


def _clip(tape: Tape, calls: Sequence[Call], grads: set[int]) -> Call | None:
    """Return the first call that clips gradients: by their norm, or each of them."""
    measured: set[int] = set()
    has_norm = False
    for call in calls:
        name = call.base_op.partition(".")[2]
        operands = {*call.operands}
        reads = not grads.isdisjoint(storages(tape, operands))
        if call.writes and not grads.isdisjoint(storages(tape, call.outputs)):
            if name.removeprefix("_foreach_") in _CLAMPS or not measured.isdisjoint(operands):
                return call
            if has_norm and any(map(_is_measured, _factors(tape, call, grads))):
                return call
        elif reads and name in _NORMS:
            has_norm = True
            measured.update(n for n in call.outputs if n is not None)
        elif not measured.isdisjoint(operands):
            measured.update(n for n in call.outputs if n is not None)
    return None


def _factors(tape: Tape, call: Call, grads: set[int]) -> Iterator[float]:
    """Yield the Python numbers that a call takes."""
    yield from (a for a in call.arguments.values() if isinstance(a, float))
    for number in call.operands:
        array = tape.values[number].array
        if array is not None and array.shape == () and grads.isdisjoint(storages(tape, [number])):
            yield float(array)


def _is_measured(number: float) -> bool:
    """Whether a number has more digits than those, or whose reciprocals, a program writes."""
    return number != 0 and all(float(f"{n:.6g}") != n for n in (number, 1 / number))
