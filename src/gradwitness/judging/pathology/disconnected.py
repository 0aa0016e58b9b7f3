"""Parameters that get no gradient: frozen, unused, or cut off, and where they were cut off.

A cut is found where numbers pass from call to call: ``detach``, ``.data``, operations with
gradients off, whole numbers. What goes through Python numbers or NumPy (``item()``, ``tolist()``,
``numpy()``) leaves no call behind, so that it cannot be followed, and the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.engine.floats import is_inexact
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, listed
from gradwitness.tape import Kind, references

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.tape import Call, Tape

_WHY = {
    "frozen": "requires_grad is False, so no gradient is computed.",
    "unused": "nothing in the block uses them, so they get no gradient.",
    "without effect": (
        "they are used, but no recorded operation leads from them to what was differentiated. "
        "Their results are not used there, or only by way of Python numbers or NumPy (item(), "
        "tolist(), numpy()), which no gradient passes and which cannot be followed."
    ),
    "without a gradient": (
        "recorded operations lead from them to what was differentiated, but torch has no gradient "
        "for them. Look for detach_() and custom functions on the way."
    ),
}


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
        if not tape.sweeps or any(sweep.limited_to is not None for sweep in tape.sweeps):
            return []
        # A pass that was interrupted gave no gradient to leaves that hang on it all the same.
        leaves = (node.leaf for node in tape.nodes if node.kind == Kind.ACCUMULATE)
        reached = {row.name for row in rows}
        reached |= {tape.values[leaf].name for leaf in leaves if leaf is not None}
        sorts: dict[str, list[_Path]] = {sort: [] for sort in _WHY}
        cuts: dict[tuple[str, str], list[_Path]] = {}
        flow = _Flow(tape)
        for number in tape.parameters:
            value = tape.values[number]
            if value.name in reached:
                continue
            path = flow.follow(number)
            if path.cut is not None and value.requires_grad:
                cuts.setdefault((path.cut.source.line, _reason(tape, path.cut)), []).append(path)
            else:
                sorts[path.sort if value.requires_grad else "frozen"].append(path)
        made = [_cut_note(reason, paths) for (_, reason), paths in cuts.items()]
        made += [
            Note(f"parameters {sort}", f"{_names(paths)}: {_WHY[sort]}")
            for sort, paths in sorts.items()
            if paths
        ]
        return made


@dataclass(frozen=True)
class _Path:
    """What became of a parameter: the call that used it first, and the one that cut it off."""

    name: str
    first: int
    sort: str
    cut: Call | None = None


def _names(paths: list[_Path]) -> str:
    """Return the parameters' names in the order in which the program used them."""
    return listed([path.name for path in sorted(paths, key=lambda path: path.first)])


def _reason(tape: Tape, call: Call) -> str:
    if call.base_op == "aten.detach":
        return "(.detach(), .data or nn.Parameter(...)) cuts the graph: use the tensor itself"
    if not call.grad:
        return "ran with gradients off (torch.no_grad or inference_mode): take it out of there"
    if any(tape.values[n].requires_grad for n in call.outputs if n is not None):
        return (
            "made what became a leaf then (nn.Parameter(...), requires_grad_() or detach_()), "
            "where the graph ends: use the tensor itself"
        )
    return "makes whole numbers or booleans, through which no gradient passes: replace it"


def _cut_note(reason: str, paths: list[_Path]) -> Note:
    call = min((path.cut for path in paths if path.cut), key=lambda cut: cut.id)
    text = (
        f"{_names(paths)}: no gradient, though what was differentiated depends on them. {call.op} "
        f"(call {call.id}) {reason}, if they shall learn."
    )
    return Note("parameters cut off", text, call.source, call.id)


class _Flow:
    """Follows numbers through a tape, and where their graph ends."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._steps = [
            (call, {n for argument in call.arguments.values() for n in references(argument)})
            for call in tape.calls
            if call.during is None
        ]
        self._roots = set(self._differentiated())

    def _differentiated(self) -> Iterator[int]:
        """Yield the values that backward passes started from."""
        tape = self._tape
        for sweep in tape.sweeps:
            found = [tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.roots]
            if not sweep.roots and sweep.after:
                # Torch refused a root without a graph. As a rule it is what was computed last.
                found = list(tape.calls[sweep.after - 1].outputs)
            yield from (number for number in found if number is not None)

    def follow(self, number: int) -> _Path:
        """Return what became of a value on its way to the roots."""
        tape = self._tape
        own = tape.values[number].layout
        # Whatever holds some of its numbers, with the call that cut these off.
        cuts: dict[int, Call | None] = {number: None}
        written: dict[int, Call | None] = {}
        first = -1
        for call, operands in self._steps:
            met = [self._state(n, cuts, written) for n in operands]
            states = [state[0] for state in met if state is not None]
            if not states:
                continue
            first = call.id if first < 0 else first
            whole = None in states
            earlier = None if whole else min((c for c in states if c), key=lambda c: c.id)
            for output in (*call.outputs, call.base):
                if output is None:
                    continue
                value = tape.values[output]
                ends = not call.grad or call.base_op == "aten.detach" or not is_inexact(value.dtype)
                # A result that collects a gradient of its own begins a graph of its own.
                ends = ends or value.requires_grad
                cut = call if whole and ends else earlier
                if call.writes and own is not None and value.layout is not None:
                    # A parameter that is written to is still the parameter.
                    if value.layout == own:
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
        """Return by which call a value is cut off; None if it has nothing to do with the one."""
        if number in cuts:
            return (cuts[number],)
        layout = self._tape.values[number].layout
        if layout is not None and layout.storage in written:
            return (written[layout.storage],)
        return None
