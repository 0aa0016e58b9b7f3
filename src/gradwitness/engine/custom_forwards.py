"""Custom functions' recorded forwards: what reaches an output, what the record does not show."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import COLLECTIVES, HIGHER_ORDER, OUTSIDE, references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from gradwitness.tape import Call, Edge, Node, NodeRun, Tape


def connects(tape: Tape, node: Node, input_nr: int) -> bool:
    """Whether recorded operations of a custom function lead from an input to any output.

    If not, the function worked outside of torch or did not use the input.
    """
    source = edge_value(tape, node.edges[input_nr], node)
    if source is None:
        return False
    reached = reaching([tape.calls[number] for number in node.inner], {source})
    by_memory = storages(tape, reached) & storages(tape, node.outputs)
    return bool(by_memory) or not reached.isdisjoint(node.outputs)


def unseen_in(tape: Tape, node: Node, node_run: NodeRun) -> str:
    """Return why the record does not show what a custom function does, or an empty string."""
    if node.name == "CompiledFunctionBackward":
        return "computed by compiled code, which was not recorded"
    inner = [tape.calls[number].op for number in node.inner]
    whole = next((op for op in inner if op.startswith(HIGHER_ORDER)), "")
    if whole:
        return f"torch runs {whole} as one operation: what it ran was not recorded"
    # The calls of its backward are the last ones that ran.
    ran = map(tape.calls.__getitem__, reversed(range(node_run.after)))
    backward = itertools.takewhile(lambda call: call.during is not None, ran)
    calls = [tape.calls[number] for number in node.inner]
    calls += [call for call in backward if call.during == node.id]
    talks = next((call.op for call in calls if call.op.startswith(COLLECTIVES)), "")
    reason = f"it talks to other processes ({talks}), of which this record knows nothing"
    return reason if talks else ""


def handed_out(tape: Tape, node: Node) -> Call | None:
    """Return the call by which a custom function first takes numbers of its inputs out of torch."""
    inner = [tape.calls[number] for number in node.inner]
    ways = [call for call in inner if call.op.startswith(OUTSIDE)]
    if not ways:
        return None
    sources = {edge_value(tape, edge, node) for edge in node.edges if edge is not None}
    reached = reaching(inner, {source for source in sources if source is not None})
    return next((call for call in ways if reached & {*references(call.arguments["self"])}), None)


def with_detached(tape: Tape, node: Node) -> Node:
    """Return a custom function with the calls that made some of its operands of its inputs.

    They become part of its forward, though autograd does not see where they lead.
    """
    inner = [tape.calls[number] for number in node.inner]
    sources = {n for edge in node.edges if (n := edge_value(tape, edge, node)) is not None}
    wanted = {n for call in inner for n in call.operands} - sources
    before: list[Call] = []
    for call in map(tape.calls.__getitem__, reversed(range(min(node.inner, default=0)))):
        made = {n for n in (*call.outputs, call.base) if n is not None}
        if not wanted or max(made, default=min(wanted)) < min(wanted):
            # Values are numbered as they come.
            break
        if call.during is None and not wanted.isdisjoint(made):
            before.append(call)
            wanted.update({*call.operands} - sources)
    reached = reaching(before[::-1], sources)
    between = [call.id for call in reversed(before) if not reached.isdisjoint(call.operands)]
    return replace(node, inner=(*between, *node.inner))


def changes_views(tape: Tape, node: Node, inner: Sequence[Call], incoming: Sequence[Any]) -> bool:
    """Whether a forward writes to memory of which it holds a view, and that an output uses.

    Values alone do not connect a view with such a write. A forward that computes and saves
    gradients piece by piece writes to memory on which its outputs do not depend.
    """
    viewed: set[int] = set()
    changed: set[int] = set()
    for call in inner:
        memory = storages(tape, call.outputs)
        if call.writes and (call.base is not None or memory & viewed):
            changed |= memory
        if call.is_view and not _shows_whole(tape, call):
            viewed |= memory
    needed = {n for n, g in zip(node.outputs, incoming, strict=False) if g is not None}
    for call in reversed(inner):
        if needed.intersection(call.outputs):
            needed.update(call.operands)
    return not changed.isdisjoint(storages(tape, needed))


def _shows_whole(tape: Tape, call: Call) -> bool:
    """Whether a view is all of its operand in the same layout: one value, changed or not."""
    involved = {n for n in call.outputs if n is not None}
    involved.update(call.operands)
    values = [tape.values[n] for n in involved]
    return len({(value.layout, value.shape, value.dtype) for value in values}) == 1


def storages(tape: Tape, numbers: Iterable[int | None]) -> set[int]:
    """Return where some values lie in memory."""
    layouts = [tape.values[n].layout for n in numbers if n is not None]
    return {layout.storage for layout in layouts if layout is not None}


def edge_value(tape: Tape, edge: Edge | None, taker: Node | None = None) -> int | None:
    """Return the forward value whose gradient an edge carries, as a custom function took it.

    A leaf is another value after an optimizer has written to it; its edge stays the same.
    """
    if edge is None:
        return None
    outputs = tape.nodes[edge.node].outputs
    value = outputs[edge.index] if edge.index < len(outputs) else None
    if value is None:
        raise Unjudgeable(
            f"an input of a custom function, made by {tape.nodes[edge.node].name}, was not recorded"
        )
    if taker is None or not taker.inner or tape.nodes[edge.node].leaf is None:
        return value
    return _updated(tape, value, taker)


def _updated(tape: Tape, leaf: int, taker: Node) -> int:
    taken = {n for number in taker.inner for n in tape.calls[number].operands}
    layout = tape.values[leaf].layout
    for number in reversed(range(taker.inner[0] if leaf not in taken else 0)):
        call = tape.calls[number]
        if call.writes and not call.grad:
            for n in taken.intersection((*call.outputs, call.base)):
                if (
                    tape.values[n].layout == layout
                    and tape.values[n].shape == tape.values[leaf].shape
                ):
                    return n
    return leaf


def reaching(calls: list[Call], sources: set[int]) -> set[int]:
    """Return the sources and all results of the calls that depend on them."""
    reached = set(sources)
    for call in calls:
        if call.base_op in SOURCES:
            continue
        operands = {*call.operands}
        if operands & reached:
            reached |= {n for n in call.outputs if n is not None}
    return reached
