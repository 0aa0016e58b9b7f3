"""Detached terms that cost a sum no gradient: those added with both signs, and largest numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradwitness.judging.sight import SIGNS
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from gradwitness.tape import Call

    Maker = Callable[[int | None], Call | None]

# How many sums a detached number is followed through, to find it added with both signs.
_DEPTH = 8
# Taken from each number, or added again: what is made of them does not depend on it.
_LARGEST = frozenset({"aten.amax", "aten.max"})
# These take the largest of each group if they are told so.
_GROUPED = frozenset({"aten.index_reduce", "aten.scatter_reduce", "aten.segment_reduce"})
_CHOOSES = frozenset(
    f"aten.{name}"
    for name in (
        "_to_copy",
        "clamp",
        "clamp_min",
        "clone",
        "detach",
        "gather",
        "index",
        "index_select",
        "masked_fill",
        "nan_to_num",
    )
)
_OF_SEVERAL = frozenset({"aten.maximum", "aten.where"})


def sum_terms(
    maker: Maker, number: int | None, *, detached: bool = False, depth: int = _DEPTH
) -> Counter[tuple[int | None, bool]]:
    """Return the terms of a sum, which of them are detached, and how often they are added."""
    call = maker(number)
    if call is not None and depth:
        arguments = [a.value for a in call.arguments.values() if isinstance(a, Ref)]
        if call.base_op == "aten.detach":
            return sum_terms(maker, arguments[0], detached=True, depth=depth - 1)
        if call.base_op in SIGNS and len(arguments) == 2 and call.arguments.get("alpha") == 1:
            terms, more = (
                sum_terms(maker, n, detached=detached or not call.grad, depth=depth - 1)
                for n in arguments
            )
            for term, count in more.items():
                terms[term] += SIGNS[call.base_op] * count
            return terms
    return Counter({(number, detached): 1})


def shifts(maker: Maker, number: int | None, learned: Container[int | None]) -> bool:
    """Whether a detached term is one that a softmax takes away, or with which its sums begin.

    Parameters
    ----------
    maker : callable
        Returns the call that made a value.
    number : int or None
        The term.
    learned : container of int
        The values that are made of leaves: others are constants.
    """
    call = maker(number)
    if call is not None and call.base_op == "aten.mul" and number in learned:
        return all(n not in learned or rescales(maker, n, learned) for n in call.operands)
    return _is_largest(maker, number, learned)


def _is_largest(maker: Maker, number: int | None, learned: Container[int | None]) -> bool:
    """Whether a value is the largest of some numbers, of each group or so far, moved since."""
    waiting, found = [number], False
    known = set(waiting)
    for one in waiting:
        call = maker(one)
        if one not in learned:
            continue
        if call is None:
            return False
        grouped = call.base_op in _GROUPED and call.arguments.get("reduce") in ("amax", "max")
        if grouped or call.base_op in _LARGEST:
            found = True
            continue
        if call.is_view or call.base_op in _CHOOSES:
            following = call.operands[:1]
        elif call.base_op in _OF_SEVERAL:
            following = call.operands
        else:
            return False
        waiting += [n for n in following if n not in known]
        known.update(following)
    return found


def rescales(maker: Maker, number: int | None, learned: Container[int | None]) -> bool:
    """Whether a value is ``exp(m - n)`` of two largest numbers, of which one may be a constant.

    A softmax that goes block by block multiplies its sums by it; their quotient depends on neither.
    """
    call = maker(number)
    while call is not None and call.is_view:
        call = maker(call.operands[0])
    if call is None or call.base_op not in ("aten.exp", "aten.exp2"):
        return False
    difference = maker(call.operands[0])
    if difference is None or difference.base_op != "aten.sub":
        return False
    return all(n not in learned or _is_largest(maker, n, learned) for n in difference.operands)
