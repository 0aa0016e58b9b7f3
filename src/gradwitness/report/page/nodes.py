"""What a page says about each autograd node: formulas, tensors, and one plain sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import several
from gradwitness.report.page.columns import Columns
from gradwitness.report.page.steps import Parameters, shaped
from gradwitness.report.tables.terminal import relative
from gradwitness.report.words import explained
from gradwitness.rules import find_node
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.report.names import Names
    from gradwitness.tape import Call, Node, Tape

# Further operations of a custom function than this are counted, not listed.
_LISTED = 12


def node_columns(tape: Tape, names: Names) -> Columns:
    """Return one line for each node; what is a list in it stands on lines of its own."""
    nodes = tape.nodes
    origins = _origins(tape)
    columns = Columns()
    columns.texts("name", (node.name for node in nodes))
    columns.texts("kind", (node.kind for node in nodes))
    columns.texts("says", (_definition(node) for node in nodes))
    columns.texts("module", (module_of(tape, node) for node in nodes))
    parameters = Parameters(tape)
    columns.texts("parameter", map(parameters.of, nodes))
    columns.texts("line", (relative(_line(tape, node)) for node in nodes))
    forward = [_forward(tape, names, node) for node in nodes]
    sent = [names.sent(node) for node in nodes]
    columns.texts("forward", map("\n".join, forward))
    columns.texts("sends", map("\n".join, sent))
    words = (explained([*made, *given]) for made, given in zip(forward, sent, strict=True))
    columns.texts("words", map("\n".join, words))
    columns.texts("tensors", ("\n".join(_tensors(tape, names, origins, node)) for node in nodes))
    return columns


def calls_of(tape: Tape, node: Node) -> list[Call]:
    """Return the calls that a node stands for: of a custom function, all of its forward."""
    numbers = node.inner if node.call is None else (node.call,)
    return [tape.calls[number] for number in numbers]


def module_of(tape: Tape, node: Node) -> str:
    """Return the module that a node's forward ran in; that of a parameter is its owner."""
    if node.leaf is not None:
        return tape.values[node.leaf].name.rpartition(".")[0]
    return next((c.source.module for c in calls_of(tape, node) if c.source.module), "")


def _definition(node: Node) -> str:
    entry = find_node("CustomFunction" if node.kind == Kind.CUSTOM else node.name)
    return "" if entry is None else entry.definition(node.name)


def _line(tape: Tape, node: Node) -> str:
    return next((c.source.line for c in calls_of(tape, node) if c.source.line), "")


def _forward(tape: Tape, names: Names, node: Node) -> list[str]:
    calls = calls_of(tape, node)
    written = [names.equation(call) for call in calls[:_LISTED]]
    more = len(calls) - len(written)
    said = several(more, "more operation", "more operations")
    return [*written, f"... {said}"] if more else written


def _origins(tape: Tape) -> dict[int, str]:
    """Return the user's name of each value that has one, and for its views, whose they are."""
    origins = {value.id: value.name for value in tape.values if value.name}
    for call in tape.calls:
        viewed = next(iter(call.operands), None) if call.is_view else None
        if viewed in origins:
            name = origins[viewed].removeprefix("view of ")
            for output in call.outputs:
                if output is not None:
                    origins.setdefault(output, f"view of {name}")
    return origins


def _tensors(tape: Tape, names: Names, origins: dict[int, str], node: Node) -> list[str]:
    """Return symbol, shape and dtype, the user's name, and what it is to the node, of each."""
    uses: dict[int, list[str]] = {}
    made: set[int | None] = set()
    for call in calls_of(tape, node):
        for operand in call.operands:
            if operand not in made:
                uses.setdefault(operand, ["operand"])
        made.update(call.outputs)
    for result in node.outputs if node.call is None else tape.calls[node.call].outputs:
        if result is not None:
            uses.setdefault(result, []).append("result")
    lost = []
    for name, saved in node.saved:
        if saved is None:
            lost.append(f"\t\t\t\tsaved as {name}: changed since, or not recorded")
        else:
            uses.setdefault(saved, []).append(f"saved as {name}")
    if node.leaf is not None:
        uses[node.leaf] = ["leaf"]
    lines = []
    for number, said in uses.items():
        value = tape.values[number]
        name = origins.get(number, "")
        fields = (names.of(number), shaped(value.shape), value.dtype, name, ", ".join(said))
        lines.append("\t".join(fields))
    return lines + lost
