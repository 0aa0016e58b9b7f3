"""Questions to the graph of a recording: ancestors, sources and operand names of nodes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness._printable import one_line
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.engine.forms import MOST, form_of
from gradwitness.rules.elementwise.complex_numbers import gradient_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.engine.forms import Form
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.tape import Edge, Node, Source, Tape


def ancestors(tape: Tape, targets: set[int]) -> set[int]:
    """Return the nodes from which the targets can be reached, and the targets."""
    senders: dict[int, set[int]] = {}
    for node in tape.nodes:
        for edge in node.edges:
            if edge is not None:
                senders.setdefault(edge.node, set()).add(node.id)
    ancestors = set(targets)
    stack = list(targets)
    while stack:
        new = senders.get(stack.pop(), set()) - ancestors
        ancestors |= new
        stack += new
    return ancestors


def behind(tape: Tape, nodes: Iterable[int], without: Iterable[Edge] = ()) -> set[int]:
    """Return some nodes and all that they send gradients to, but not along some edges.

    These are told by identity: equal ones of other inputs are followed.
    """
    cut = {id(edge) for edge in without}
    waiting = list(dict.fromkeys(nodes))
    found = set(waiting)
    for number in waiting:
        onward = [e for e in tape.nodes[number].edges if e is not None and id(e) not in cut]
        new = dict.fromkeys(e.node for e in onward if e.node not in found)
        found |= new.keys()
        waiting += new
    return found


def leaves_behind(tape: Tape, nodes: Iterable[int], without: Iterable[Edge] = ()) -> set[int]:
    """Return the leaves among the nodes that are `behind` some."""
    found = behind(tape, nodes, without)
    return {leaf for n in found if (leaf := tape.nodes[n].leaf) is not None}


def source_of(tape: Tape, node: Node) -> Source | None:
    """Return the source of a node without a call: that of its function's first call."""
    return tape.calls[node.inner[0]].source if node.inner else None


def operand_names(
    tape: Tape, node: Node, functions: Functions | None = None
) -> list[tuple[str, str]]:
    """Return name and formula of each edge's operand."""
    if node.call is None:
        names = functions.input_names(node.id) if functions and node.inner else ()
        known = {n: f"{one_line(name)} (input {n})" for n, name in enumerate(names)}
        return [(known.get(n, f"input {n}"), "") for n in range(len(node.edges))]
    try:
        form = form_of(tape.values, tape.calls[node.call])
    except Unjudgeable:
        return [(f"input {n}", "") for n in range(len(node.edges))]
    return _named(form, len(form.rule.gradients), len(form.rule.refused))


@functools.lru_cache(maxsize=MOST)
def _named(form: Form, vjps: int, refusals: int) -> list[tuple[str, str]]:
    del vjps, refusals  # See `Form.edges`.
    return [
        (
            name if index is None else f"{name}[{index}]",
            f"d{name} = {gradient_text(form.rule, name, form.over_complex)}",
        )
        for (name, index), _ in form.edges()
    ]


def declared_as(tape: Tape, node: Node, functions: Functions | None) -> type | str:
    """Return what a program declares of a node: its class, or its operator: ``mylib::solve``."""
    function = None if functions is None else functions.function(node.id)
    if function is not None and not function.__module__.startswith("torch."):
        return function
    ops = [tape.calls[number].base_op for number in node.inner]
    return ops[0].replace(".", "::") if len(ops) == 1 else node.name


def same_operand(tape: Tape, node: Node, input_nr: int) -> list[int]:
    """Return the inputs of a node that take the same tensor as a given one, itself included."""
    try:
        values = [edge_value(tape, edge) for edge in node.edges]
    except Unjudgeable:
        return [input_nr]
    if values[input_nr] is None:
        return [input_nr]
    return [k for k, value in enumerate(values) if value == values[input_nr]]
