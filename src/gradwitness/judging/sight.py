"""Numbers that leave autograd's sight: detached, or computed with gradients off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradwitness.engine.floats import is_inexact
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.tape import Call, Tape

# Sums of two, and the sign of the second.
SIGNS = {"aten.add": 1, "aten.sub": -1}
_BY_ELEMENT = frozenset(
    f"aten.{n}" for n in ("clamp", "clamp_max", "clamp_min", "maximum", "minimum", "where")
)
_ADDS = frozenset({"aten.mean", "aten.sum"})
_SUMS = _ADDS | {"aten.linalg_vector_norm", "aten.norm"}
_SCALES = frozenset({"aten.div", "aten.mul", "aten.neg"})
# What a loss makes of errors.
_SIZES = ("aten.abs", "aten.pow")


def leaks(tape: Tape, sources: set[int]) -> Iterator[Call]:
    """Yield the calls by which numbers made of the sources go on to a root without gradient."""
    inside = inner_calls(tape)
    carried = set(sources)
    roots = [edge for sweep in tape.sweeps for edge, _ in sweep.roots]
    wanted = needed(tape, {tape.nodes[edge.node].outputs[edge.index] for edge in roots})
    # What torch itself detaches, to save a result, is taken by backward steps alone.
    taken = {n for call in tape.calls if call.during is None for n in call.operands}
    for call in tape.calls:
        if call.during is not None or call.id in inside or creates(call):
            continue
        numbers = {n for n in made(call) if is_inexact(tape.values[n].dtype)} & wanted
        if carried.isdisjoint(call.operands) or not numbers:
            continue
        if leaves(call):
            if not taken.isdisjoint(made(call)):
                yield call
        else:
            carried |= numbers


def leaves(call: Call) -> bool:
    """Whether autograd does not see what a call makes of its operands."""
    return call.base_op == "aten.detach" or not call.grad


def creates(call: Call) -> bool:
    """Whether a call makes numbers of none of its operands': the 1 of a loss, in its shape."""
    name = call.base_op
    return name in SOURCES or name.endswith("_like") or ".new_" in name


def way(call: Call) -> str:
    """Return in words how numbers leave."""
    name = call.base_op.partition(".")[2]
    return f"{name}()" if call.grad else f"{name} under no_grad()"


def inner_calls(tape: Tape) -> set[int]:
    """Return the calls of custom functions, each of which is judged as a whole."""
    return {number for node in tape.nodes for number in node.inner}


def needed(tape: Tape, wanted: set[int | None], *, seen: bool = False) -> set[int]:
    """Return every value that some values were made of (as autograd sees), themselves included."""
    found = {value for value in wanted if value is not None}
    for call in reversed(tape.calls):
        if not (found.isdisjoint(made(call)) or (seen and leaves(call))):
            found.update(call.operands)
    return found


def made(call: Call) -> set[int]:
    """Return the values that a call made, with the base that it changed."""
    found: set[Any] = {*call.outputs, call.base}
    found.discard(None)
    return found


def takers(tape: Tape) -> dict[int, list[Call]]:
    """Return, by value, the calls that take it and that a backward pass differentiated."""
    ran = {run.node for sweep in tape.sweeps for run in sweep.node_runs}
    found: dict[int, list[Call]] = {}
    for call in tape.calls:
        if call.during is None and call.node in ran:
            for number in {*call.operands}:
                found.setdefault(number, []).append(call)
    return found


def by_element(call: Call) -> bool:
    """Whether a call computes each element of its result from one of each operand."""
    rule = find(call.base_op)
    return call.base_op in _BY_ELEMENT or (rule is not None and rule.apart == "elementwise")


def is_summed(tape: Tape, call: Call, taken: dict[int, list[Call]], shape: tuple[int, ...]) -> bool:
    """Whether steps by element, and sums over all elements, are all that follows a call.

    The sum of all may be taken axis by axis, and a number may multiply it in between.
    """
    waiting, partial = [call], set[int]()
    for one in waiting:
        following = [taker for n in made(one) for taker in taken.get(n, ())]
        for taker in following:
            shapes = [tape.values[n].shape for n in made(taker)]
            is_whole = one.id not in partial
            if taker.base_op in (_SUMS if is_whole else _ADDS) and math.prod(shapes[0]) == 1:
                continue
            if taker.base_op in _ADDS or (not is_whole and _scales(tape, taker, one)):
                partial.add(taker.id)
            elif not (is_whole and by_element(taker) and shapes == [shape]):
                return False
            waiting += [] if taker in waiting else [taker]
        if not following:
            return False
    return True


def _scales(tape: Tape, call: Call, before: Call) -> bool:
    """Whether a call multiplies what another one made by a number, or divides it."""
    others = {*call.operands} - made(before)
    first = call.operands[0] in made(before) and call.operands.count(call.operands[0]) == 1
    return call.base_op in _SCALES and first and not any(tape.values[n].shape for n in others)


def is_sized(tape: Tape, call: Call, taken: dict[int, list[Call]]) -> bool:
    """Whether a loss squares, or takes the size of, all that a difference leaves."""
    (number,) = made(call)
    following = taken.get(number, [])
    sizes = all(c.base_op in _SIZES or c.operands == [number] * 2 for c in following)
    return sizes and is_summed(tape, call, taken, tape.values[number].shape)
