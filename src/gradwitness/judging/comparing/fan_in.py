"""Gradients that arrive together, added up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, is_inexact
from gradwitness.engine.tiling import slabs
from gradwitness.judging.comparing.piecewise import Pieces
from gradwitness.rules.kernel_ops import added_in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.engine.tiling import Index
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Tape, Value


def total(tape: Tape, records: Records, terms: Sequence[int], ones: int, arrived: int) -> Any:
    """Add up recorded gradients; a root without a seed starts from ones.

    Raises
    ------
    Unjudgeable
        If the tape does not hold their numbers.
    """
    if len(terms) == 1 and not ones:
        return records.as_recorded(terms[0])
    return _added_at(records, terms, ones, tape.values[terms[0] if terms else arrived], ())


def arriving(tape: Tape, records: Records, terms: Sequence[int], ones: int, arrived: int) -> Any:
    """Do so in pieces, if they are large: there may be many of them."""
    like = tape.values[terms[0] if terms else arrived]
    pieces = slabs(like.shape)
    if len(pieces) == 1 or len(terms) + ones == 1:
        return total(tape, records, terms, ones, arrived)
    return Pieces(
        like.shape,
        lambda: ((index, _added_at(records, terms, ones, like, index)) for index in pieces),
    )


def _added_at(
    records: Records, terms: Sequence[int], ones: int, like: Value, index: Index
) -> Bounded:
    arithmetic = adding(like.dtype)
    parts = [Bounded(records.part(term, index), arithmetic) for term in terms]
    summed: Bounded = added([*parts, *[Bounded(np.ones(like.shape)[index], arithmetic)] * ones])
    return summed


def arrived_in_turn(
    tape: Tape, records: Records, terms: Sequence[int], number: int, threads: int
) -> tuple[Comparison, Any]:
    """Compare with recorded gradients that are added in the order in which they arrived."""
    like = tape.values[terms[0]]
    arithmetic = replace(Arithmetic.stepwise(like.dtype), stretches=threads)

    def compute() -> Iterator[tuple[Index, Bounded]]:
        for index in slabs(like.shape):
            stacked: Any = [Bounded(records.part(term, index), arithmetic) for term in terms]
            yield index, added_in_turn(np.stack(stacked))

    expected = Pieces(like.shape, compute)
    return records.against(number, expected), expected


def added(parts: list[Bounded]) -> Any:
    """Return the sum of gradients, in any order."""
    stacked: Any = parts
    return parts[0] if len(parts) == 1 else np.sum(np.stack(stacked), axis=(0,))


def adding(dtype: str) -> Arithmetic:
    """Return the arithmetic in which gradients are added one by one."""
    return Arithmetic.sequential(dtype if is_inexact(dtype) else "float32")
