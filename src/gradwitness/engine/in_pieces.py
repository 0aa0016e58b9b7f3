"""Large steps of a replay, piece by piece: what they make on the way stays in the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients, vjp
from gradwitness.engine.binding import Lookup, inputs_of
from gradwitness.engine.forward import evaluate
from gradwitness.engine.tiling import cuts, is_large, small_steps
from gradwitness.rules import find
from gradwitness.tape import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradwitness.engine.tiling import Cut, Index, Shape
    from gradwitness.tape import Call, Node, Tape


def call_of(tape: Tape, node: Node) -> Call | None:
    """Return the call behind a node, unless the node is of a kind that cannot be cut."""
    special = (Kind.CUSTOM, Kind.UNKNOWN, Kind.COPY_SLICES, Kind.ACCUMULATE)
    if node.call is None or node.kind in special:
        return None
    return tape.calls[node.call]


def operand_of(tape: Tape, call: Call, input_nr: int) -> tuple[str, int | None]:
    """Return the name and the value of an edge's operand."""
    try:
        inputs = inputs_of(tape, call)
    except Unjudgeable:
        return "", None
    if input_nr >= len(inputs):
        return "", None
    name, index, argument = inputs[input_nr]
    if index is not None or not isinstance(argument, Ref):
        return name, None
    return name, argument.value


def sent_together(tape: Tape, node: Node, input_nr: int) -> frozenset[int]:
    """Return the inputs of whose gradients a node's rule makes that of one input, at once."""
    call = call_of(tape, node)
    rule = None if call is None else find(call.base_op)
    name = "" if call is None else operand_of(tape, call, input_nr)[0]
    if call is None or rule is None or name not in rule.gradients:
        return frozenset({input_nr})
    several = rule.gradients[name].together
    return frozenset(
        k
        for k in range(len(node.edges))
        if k == input_nr or operand_of(tape, call, k)[0] in several
    )


def gradient_cuts(
    tape: Tape, node: Node, arrived: Sequence[Shape | None], *, added: bool = False
) -> dict[int, tuple[str, Shape, list[Cut]]]:
    """Return how the gradients that a node sends can be cut, by input: operand, shape, pieces.

    ``arrived`` are the shapes of what came in. With ``added``, all are cut as the results are if
    that is possible: what an operand that has no such axis gets is the sum of its pieces.
    """
    call = call_of(tape, node)
    if call is None or not is_large(tape, call):
        return {}
    shapes = [None if n is None else tape.values[n].shape for n in call.outputs]
    # Trailing results that are not differentiable, such as saved statistics, get no gradient.
    if len(shapes) < len(arrived) or any(
        arrived_shape not in (None, shape)
        for arrived_shape, shape in zip(arrived, shapes, strict=False)
    ):
        return {}
    of_results = cuts(tape, call) if added else []
    found = {}
    for input_nr, edge in enumerate(node.edges):
        name, value = operand_of(tape, call, input_nr)
        if value is None or edge is None:
            continue
        pieces = of_results or cuts(tape, call, name)
        if pieces:
            found[input_nr] = name, tape.values[value].shape, pieces
    return found


def evaluated(tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
    """Return a call's results as `evaluate` does, in float64."""
    whole: list[Any] = [None] * len(call.outputs)
    for k, index, part in parts_made(tape, call, lookup, replayed=True):
        number = call.outputs[k]
        if not index or number is None:
            whole[k] = part
        elif part is not None:
            if whole[k] is None:
                whole[k] = np.empty(tape.values[number].shape, part.dtype)
            whole[k][index] = part
    return tuple(whole)


def parts_made(
    tape: Tape, call: Call, lookup: Lookup, *, replayed: bool = False
) -> Iterator[tuple[int, Index, Any]]:
    """Yield the pieces of a call's results in float64: the result, the index, the numbers.

    A step that is not cut has one piece, whose index is empty.
    """
    pieces = cuts(tape, call)
    if not pieces:
        for k, result in enumerate(evaluate(tape, call, lookup, bounded=False)):
            yield k, (), result
        return
    for cut, small in small_steps(tape, call, pieces, lookup, replayed=replayed):
        made = evaluate(small.tape, small.call, small.lookup, bounded=False)
        for k, (result, number) in enumerate(zip(made, call.outputs, strict=True)):
            shape = () if number is None else tape.values[number].shape
            yield k, cut.result(k, shape) if shape else (), result


def sent(tape: Tape, node: Node, incoming: list[Any], lookup: Lookup) -> tuple[Any, ...]:
    """Return what a node sends as `gradients` does, in float64."""
    arrived = [None if g is None else np.shape(g) for g in incoming]
    in_pieces = gradient_cuts(tape, node, arrived, added=True) if any(arrived) else {}
    if not in_pieces:
        return gradients(tape, node, incoming, lookup, None, precise=True)
    edges = tuple(None if k in in_pieces else edge for k, edge in enumerate(node.edges))
    results: list[Any] = [None] * len(edges)
    if any(edges):
        rest = replace(node, edges=edges)
        results = list(gradients(tape, rest, incoming, lookup, None, precise=True))

    def arrived_in(cut: Cut) -> list[Any]:
        return [None if g is None else g[cut.result(k, g.shape)] for k, g in enumerate(incoming)]

    for k, index, part in parts_sent(tape, node, in_pieces, arrived_in, lookup, replayed=True):
        if results[k] is None:
            results[k] = np.empty(in_pieces[k][1], part.dtype)
        results[k][index] = part
    return tuple(results)


def parts_sent(
    tape: Tape,
    node: Node,
    in_pieces: Mapping[int, tuple[str, Shape, list[Cut]]],
    arrived_in: Callable[[Cut], list[Any]],
    lookup: Lookup,
    *,
    replayed: bool = False,
) -> Iterator[tuple[int, Index, Any]]:
    """Yield the pieces of what a node sends in float64: the input, the index, the numbers.

    How it is cut is told by input, as `gradient_cuts` does; what has an empty index is whole.
    ``arrived_in`` returns what of the incoming gradients belongs to a piece. If the numbers are
    ``replayed``, formulas are taken that lose no digits.
    """
    call = call_of(tape, node)
    for pieces, inputs in _cut_alike(in_pieces):
        assert call is not None  # noqa: S101 (it is cut)
        # One call of the rule makes the gradients of all.
        wanted = [k in inputs for k in range(len(node.edges))]
        sums: dict[int, Any] = {}
        for cut, small in small_steps(tape, call, pieces, lookup, replayed=replayed):
            made = vjp(
                *(small.tape, small.call, arrived_in(cut), small.lookup, None, wanted),
                precise=replayed,
            )
            for k in inputs:
                name, shape, _ = in_pieces[k]
                index = cut.operand(name, shape)
                if index:
                    yield k, index, made[k]
                else:
                    sums[k] = made[k] + sums[k] if k in sums else made[k]
        yield from ((k, (), total) for k, total in sums.items())


def _cut_alike(
    in_pieces: Mapping[int, tuple[str, Shape, list[Cut]]],
) -> list[tuple[list[Cut], list[int]]]:
    """Return how gradients are cut, each with the inputs whose gradients are cut so."""
    found: list[tuple[list[Cut], list[int]]] = []
    for input_nr, (_, _, pieces) in in_pieces.items():
        alike = next((inputs for others, inputs in found if others == pieces), None)
        if alike is None:
            found.append((pieces, [input_nr]))
        else:
            alike.append(input_nr)
    return found
