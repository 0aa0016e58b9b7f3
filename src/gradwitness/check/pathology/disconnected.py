"""Parameters that get no gradient: frozen, unused, or cut off, and where they were cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector, listed
from gradwitness.engine.floats import is_float
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Call, Tape


class Disconnected(Detector):
    """Says of each of the models' parameters without a gradient why it has none."""

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del findings, replayed
        # Who asks for some gradients only wants no others.
        if not rows or any(sweep.limited_to is not None for sweep in tape.sweeps):
            return []
        reached = {row.name for row in rows}
        sorts: dict[str, list[str]] = {"frozen": [], "unused": [], "without effect": []}
        cuts: dict[int, list[str]] = {}
        flow = _Flow(tape)
        for number in tape.parameters:
            value = tape.values[number]
            if value.name in reached:
                continue
            if not value.requires_grad:
                sorts["frozen"].append(value.name)
                continue
            used, cut = flow.follow(number)
            if cut is not None:
                cuts.setdefault(cut.id, []).append(value.name)
            else:
                sorts["without effect" if used else "unused"].append(value.name)
        made = [_cut_note(tape.calls[call], names) for call, names in cuts.items()]
        made += [
            Note(f"parameters {sort}", f"{listed(names)}: {_WHY[sort]}")
            for sort, names in sorts.items()
            if names
        ]
        return made


_WHY = {
    "frozen": "requires_grad is False, so no gradient is computed.",
    "unused": "nothing in the block uses them, so they get no gradient.",
    "without effect": "they are used, but nothing that was differentiated depends on them.",
}


def _cut_note(call: Call, names: list[str]) -> Note:
    why = "detaches it" if call.base_op == "aten.detach" else "ran without a graph (no_grad?)"
    text = (
        f"{listed(names)}: no gradient, though the loss depends on it. {call.op} (call {call.id}) "
        f"{why}."
    )
    return Note("parameters cut off", text, call.source, call.id)


class _Flow:
    """Follows numbers through a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._operands = [
            {n for argument in call.arguments.values() for n in references(argument)}
            for call in tape.calls
        ]
        self._roots = {
            tape.nodes[edge.node].outputs[edge.index]
            for sweep in tape.sweeps
            for edge, _ in sweep.roots
        }

    def follow(self, number: int) -> tuple[bool, Call | None]:
        """Return whether a value is used, and the call behind which its graph begins to be missing.

        That is the last call without a node whose result a call with a node goes on to use.
        """
        tape = self._tape
        reached = {number}
        maker: dict[int, Call] = {}
        used, cut = False, None
        for call, operands in zip(tape.calls, self._operands, strict=True):
            touched = operands & reached
            if not touched or call.during is not None:
                continue
            used = True
            if call.node is not None and cut is None:
                made = [maker[n] for n in touched if n in maker and maker[n].node is None]
                cut = max(made, key=lambda c: c.id, default=None)
            for output in call.outputs:
                if output is not None and is_float(tape.values[output].dtype):
                    reached.add(output)
                    maker[output] = call
        if cut is None:
            ends = [maker[n] for n in self._roots & reached if n in maker]
            cut = next((call for call in ends if call.node is None), None)
        return used, cut
