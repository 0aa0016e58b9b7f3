"""The stretches of memory that a tape's values span, so that a replay allocates no others.

Memory is counted in real numbers, two for a complex one, since real values may be views of complex
ones and the other way round. A view in another format (``x.view(torch.bfloat16)``) counts apart.

A batch cut out of a large data set shares the data set's storage, of which only the batch's stretch
matters. Values whose stretches overlap are kept together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.engine.floats import is_complex, part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.tape import Value


@dataclass(frozen=True)
class Piece:
    """One stretch of a storage: real numbers ``start`` to ``end``, the last not included."""

    storage: tuple[int, str]
    start: int
    end: int


def pieces(values: Iterable[Value]) -> dict[int, Piece]:
    """Return the piece that each value with a layout lies in, by the value's number."""
    by_storage: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
    for value in values:
        if value.layout is None or 0 in value.shape:
            continue
        reals = 2 if is_complex(value.dtype) else 1
        steps = zip(value.shape, value.layout.strides, strict=True)
        begin = reals * value.layout.offset
        end = begin + reals * (1 + sum((n - 1) * s for n, s in steps))
        stretch = (begin, end, value.id)
        of = value.layout.storage, part(value.dtype)
        by_storage.setdefault(of, []).append(stretch)
    by_value: dict[int, Piece] = {}
    for storage, stretches in by_storage.items():
        by_value |= _merged(storage, sorted(stretches))
    return by_value


def _merged(storage: tuple[int, str], stretches: list[tuple[int, int, int]]) -> dict[int, Piece]:
    """Join overlapping stretches, which come in the order of their starts."""
    by_value: dict[int, Piece] = {}
    together: list[int] = []
    start, end = stretches[0][:2]
    for begins, ends, number in stretches:
        if begins >= end:
            by_value |= dict.fromkeys(together, Piece(storage, start, end))
            together, start, end = [], begins, ends
        together.append(number)
        end = max(end, ends)
    return by_value | dict.fromkeys(together, Piece(storage, start, end))
