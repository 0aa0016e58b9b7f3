"""Parameters that get no gradient: frozen, unused, or cut off, and where they were cut off.

A cut is found between calls: ``detach``, ``.data``, operations with gradients off, integers.
Numbers that Python reads (``item()``, ``if``) are followed up to there. Those that go through NumPy
leave no call behind and cannot be followed; the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.engine.floats import is_inexact
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.decisions import decisions, note_of
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.pathology.decisions import Decision
    from gradwitness.tape import Call, Tape

_WHY = {
    "frozen": "requires_grad is False, so no gradient is computed.",
    "unused": "nothing in the block uses them, so they get no gradient.",
    "without effect": (
        "they are used, but no recorded operation leads from them to the loss. Their results are "
        "unused, or reach it only through NumPy, which stops gradients and cannot be followed."
    ),
    "without a gradient": (
        "recorded operations lead from them to the loss, but torch computed no gradient for them. "
        "Look for detach_() and custom functions on the way."
    ),
}


class Disconnected(Detector):
    """Explains why parameters of the models have no gradient."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        # A program that asks for some gradients only does not want the others.
        if not tape.sweeps or any(sweep.limited_to is not None for sweep in tape.sweeps):
            return []
        # Leaves of an interrupted pass are connected, though they got no gradient.
        leaves = (node.leaf for node in tape.nodes if node.kind == Kind.ACCUMULATE)
        reached = {row.name for row in judged.rows}
        reached |= {tape.values[leaf].name for leaf in leaves if leaf is not None}
        by_kind: dict[str, list[_Path]] = {kind: [] for kind in _WHY}
        cuts: dict[tuple[str, str], list[_Path]] = {}
        flow = _Flow(tape)
        decided = decisions(tape)
        deciding: dict[str, list[tuple[_Path, list[Decision]]]] = {}
        for number in tape.parameters:
            value = tape.values[number]
            if value.name in reached:
                continue
            path = flow.follow(number)
            if path.cut is not None and value.requires_grad:
                cuts.setdefault((path.cut.source.line, _reason(tape, path.cut)), []).append(path)
            elif number in decided and not path.kind.endswith("gradient"):
                line = decided[number][0].call.source.line
                deciding.setdefault(line, []).append((path, decided[number]))
            else:
                by_kind[path.kind if value.requires_grad else "frozen"].append(path)
        notes = [_cut_note(reason, paths) for (_, reason), paths in cuts.items()]
        for together in deciding.values():
            found = [decision for _, of_path in together for decision in of_path]
            notes.append(note_of(tape, found, _names([path for path, _ in together])))
        notes += [
            Note(f"parameters {kind}", f"{_names(paths)}: {_WHY[kind]}")
            for kind, paths in by_kind.items()
            if paths
        ]
        return notes


@dataclass(frozen=True)
class _Path:
    """The way of a parameter: the call that used it first, and the one that cut it off."""

    name: str
    first: int
    kind: str
    cut: Call | None = None


def _names(paths: list[_Path]) -> str:
    """Return the parameters' names in the order in which the program used them."""
    return listed([path.name for path in sorted(paths, key=lambda path: path.first)])


def _reason(tape: Tape, call: Call) -> str:
    if call.base_op == "aten.detach":
        return "cuts the graph (.detach(), .data or nn.Parameter(...)). Use the tensor itself"
    if not call.grad:
        return "ran with gradients off (torch.no_grad or inference_mode). Move it out of there"
    if any(tape.values[n].requires_grad for n in call.outputs if n is not None):
        return (
            "returned a tensor that then became a leaf (nn.Parameter(...), requires_grad_() or "
            "detach_()), where the graph ends. Use the tensor itself"
        )
    return "returns integers or booleans, which stop gradients. Replace it"


def _cut_note(reason: str, paths: list[_Path]) -> Note:
    call = min((path.cut for path in paths if path.cut), key=lambda cut: cut.id)
    text = (
        f"{_names(paths)}: no gradient, though the loss depends on them. {call.op} "
        f"(call {call.id}) {reason} if they should be trained."
    )
    return Note("parameters cut off", text, call.source, call.id)


class _Flow:
    """Follows values through a tape to where their graph ends."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._steps = [(call, {*call.operands}) for call in tape.calls if call.during is None]
        self._roots = set(self._differentiated())

    def _differentiated(self) -> Iterator[int]:
        """Yield the values that backward passes started from."""
        tape = self._tape
        for sweep in tape.sweeps:
            outputs = [tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.roots]
            if not sweep.roots and sweep.after:
                # Torch refused a root without a graph: usually the last value computed.
                outputs = list(tape.calls[sweep.after - 1].outputs)
            yield from (number for number in outputs if number is not None)

    def follow(self, number: int) -> _Path:
        """Follow a value on its way to the roots."""
        tape = self._tape
        layout = tape.values[number].layout
        # Values that depend on it, with the call that cut them off (None: still connected).
        cuts: dict[int, Call | None] = {number: None}
        written: dict[int, Call | None] = {}
        first = -1
        for call, operands in self._steps:
            operand_states = [self._state(n, cuts, written) for n in operands]
            states = [state[0] for state in operand_states if state is not None]
            if not states:
                continue
            first = call.id if first < 0 else first
            intact = None in states
            earlier = None if intact else min((c for c in states if c), key=lambda c: c.id)
            for output in (*call.outputs, call.base):
                if output is None:
                    continue
                value = tape.values[output]
                ends = not call.grad or call.base_op == "aten.detach" or not is_inexact(value.dtype)
                # A result that requires a gradient itself is a leaf, where a new graph begins.
                ends = ends or value.requires_grad
                cut = call if intact and ends else earlier
                if call.writes and layout is not None and value.layout is not None:
                    # Writing to a parameter does not cut it off.
                    if value.layout == layout:
                        cut = None
                    written[value.layout.storage] = cut
                cuts[output] = cut
        ends_at = [state[0] for n in self._roots if (state := self._state(n, cuts, written))]
        name = tape.values[number].name
        if not ends_at:
            return _Path(name, first, "unused" if first < 0 else "without effect")
        if None in ends_at:
            return _Path(name, first, "without a gradient")
        return _Path(name, first, "", min((c for c in ends_at if c), key=lambda c: c.id))

    def _state(
        self, number: int, cuts: dict[int, Call | None], written: dict[int, Call | None]
    ) -> tuple[Call | None] | None:
        """Return the call that cut a value off, in a tuple; None if the value is unrelated."""
        if number in cuts:
            return (cuts[number],)
        layout = self._tape.values[number].layout
        if layout is not None and layout.storage in written:
            return (written[layout.storage],)
        return None
