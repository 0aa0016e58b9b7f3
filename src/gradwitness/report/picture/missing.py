"""What gets no gradient: frozen, detached, computed without gradients, whole numbers, unused.

Every box that used such a number has a dotted arrow to what it is, with the line that cut it off.
Data of the program's own, which never had a gradient, is not missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.engine.floats import is_inexact
from gradwitness.report.picture.picture import Arrow, Box, Flow, Role
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.report.names import Names
    from gradwitness.tape import Call, Node, Tape

# Their results depend on the shape of what they are given, not on its numbers.
_SHAPE_ONLY = ("_like", "new_empty", "new_zeros", "new_ones", "new_full")
_CONNECTED = None
# Of the leaves behind a cut so many are named.
_MOST_LEAVES = 6


@dataclass(frozen=True)
class _Cut:
    """Why numbers have no gradient: by a call, or, without one, as frozen parameters."""

    reason: str
    call: int | None = None
    module: str = ""


_State = _Cut | None


def missing_gradients(tape: Tape, names: Names) -> tuple[list[Box], list[Arrow]]:
    """Return a box for each cut, and arrows to it from the boxes that use its numbers."""
    if not tape.sweeps or any(sweep.limited_to is not None for sweep in tape.sweeps):
        # A program that asks for some gradients only does not want the others.
        return [], []
    states, origins = _follow(tape)
    users: dict[_Cut, dict[str, None]] = {}
    values: dict[_Cut, dict[int, None]] = {}
    behind: set[int] = set()
    for node in tape.nodes:
        for operand in (n for call in _calls(node) for n in tape.calls[call].operands):
            cut = states.get(operand)
            if cut is not None:
                behind.add(operand)
                users.setdefault(cut, {})[f"n{node.id}"] = None
                values.setdefault(cut, {}).update(dict.fromkeys(origins[operand]))
    for cut, value in _never_reached(tape, states, behind):
        users.setdefault(cut, {})
        values.setdefault(cut, {})[value] = None
    boxes = [
        _box(f"m{n}", cut, list(values[cut]), tape, names) for n, cut in enumerate(users, start=1)
    ]
    arrows = [
        Arrow(user, box.key, Flow.MISSING, cut.reason)
        for box, (cut, keys) in zip(boxes, users.items(), strict=True)
        for user in keys
    ]
    return boxes, arrows


def _calls(node: Node) -> tuple[int, ...]:
    return node.inner if node.call is None else (node.call,)


def _follow(tape: Tape) -> tuple[dict[int, _State], dict[int, tuple[int, ...]]]:
    """Return how each number that depends on a leaf stands to its graph, and some of its leaves."""
    states: dict[int, _State] = {}
    for value in tape.values:
        if value.requires_grad:
            states[value.id] = _CONNECTED
    for number in tape.parameters:
        value = tape.values[number]
        if not value.requires_grad:
            states[number] = _Cut("frozen", module=value.name.rpartition(".")[0])
    origins: dict[int, tuple[int, ...]] = {n: (n,) for n in states}
    for call in tape.calls:
        operands = [n for n in call.operands if n in states]
        if not operands or call.during is not None or _by_shape(call):
            continue
        # One that is still connected leads furthest.
        source = next((n for n in operands if states[n] is _CONNECTED), operands[0])
        leaves = tuple(dict.fromkeys(leaf for n in operands for leaf in origins[n]))[:_MOST_LEAVES]
        for output in (*call.outputs, call.base):
            if output is None or output in states:
                continue
            reason = _cuts(tape, call, output) if states[source] is _CONNECTED else ""
            cut = _Cut(reason, call.id, call.source.module) if reason else states[source]
            states[output] = cut
            origins[output] = leaves
    return states, origins


def _by_shape(call: Call) -> bool:
    return call.base_op.endswith(_SHAPE_ONLY)


def _cuts(tape: Tape, call: Call, output: int) -> str:
    """Return why a call's result has no gradient; empty if it has one."""
    if call.base_op == "aten.detach":
        return "detached"
    if not is_inexact(tape.values[output].dtype):
        return "integers"
    return "" if call.grad else "gradients off"


def _never_reached(
    tape: Tape, states: dict[int, _State], behind: set[int]
) -> list[tuple[_Cut, int]]:
    """Return the parameters without a gradient that nothing ``behind`` the cuts depends on."""
    for call in reversed(tape.calls):
        if not behind.isdisjoint(n for n in (*call.outputs, call.base) if n is not None):
            behind.update(call.operands)
    leaves = {n.leaf for n in tape.nodes if n.kind == Kind.ACCUMULATE and n.leaf is not None}
    reached = {tape.values[n].name for n in leaves | behind}
    used = {tape.values[n].name for call in tape.calls for n in call.operands}
    found = []
    for number in tape.parameters:
        name = tape.values[number].name
        if name not in reached:
            cut = states.get(number)
            reason = "no way to the result" if name in used else "unused"
            found.append((_Cut(cut.reason if cut else reason), number))
    return found


def place_lines(line: str, module: str) -> list[str]:
    """Return where something is in the program, as a line of a box if it is anywhere."""
    words = [f"at {PurePath(line).name}"] if line else []
    words += [f"in module {module}"] if module else []
    return [" ".join(words)] if words else []


_WHY = {
    "frozen": "requires_grad is False",
    "detached": "detach() or .data: the gradient ends here",
    "integers": "integers and booleans carry no gradient",
    "gradients off": "computed under no_grad or inference_mode",
    "unused": "no operation used it",
    "no way to the result": "used, but nothing leads from it to the result",
}


def _box(key: str, cut: _Cut, values: list[int], tape: Tape, names: Names) -> Box:
    shown = listed([tape.values[n].name or names.of(n) for n in values], most=_MOST_LEAVES)
    lines = [shown, _WHY[cut.reason]]
    line = ""
    if cut.call is not None:
        call = tape.calls[cut.call]
        lines = [f"{names.equation(call)}", _WHY[cut.reason], f"from {shown}"]
        line = call.source.line
        lines += place_lines(line, cut.module)
    return Box(
        key,
        Role.MISSING,
        f"no gradient: {cut.reason}",
        tuple(lines),
        note=f"{shown}: {_WHY[cut.reason]}.",
        short=f"{cut.reason}: {shown}",
        path=tuple(cut.module.split(".")) if cut.module else (),
        line=line,
    )
