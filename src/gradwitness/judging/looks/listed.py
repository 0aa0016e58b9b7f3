"""Rows that an index lists, looked at in some: with all that it adds to each of them.

Whatever such a step adds to a row comes from the rows that are listed for it alone. So some rows
are a smaller step of the same kind, whose index names the places among them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import beside, on_host
from gradwitness.judging.looks.sampled import drawn_places, sample_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.looks.step import Part, Role, Step
    from gradwitness.tape import Value

# By rule and target (an empty one is the result): the index, and who has a row for each of its
# numbers; all others have the rows that these are added to. For all this is along the first axis.
_LISTED: dict[tuple[str, str], tuple[str, str | int]] = {
    ("aten.index", "x"): ("indices", 0),
    ("aten.index_add", ""): ("index", "source"),
    ("aten.index_add", "source"): ("index", "source"),
}


class Listed:
    """Some rows, and what an index lists for them.

    Parameters
    ----------
    index : str
        The operand that lists rows.
    source : str or int
        Who has a row for each of its numbers.
    places : ndarray of int
        Those numbers.
    rows : ndarray of int
        The rows that are looked at.
    shape : tuple of int
        Of all rows.
    """

    def __init__(
        self,
        index: str,
        source: Role,
        places: NDArray[Any],
        rows: NDArray[np.intp],
        shape: tuple[int, ...],
    ) -> None:
        self._index, self._source, self._rows = index, source, rows
        self._places, self._shape = places, shape
        at = np.full(shape[0], -1)
        at[rows] = np.arange(rows.size)
        named = at[places]
        self._taken = np.flatnonzero(named >= 0)
        self._named = named[self._taken]

    def beside(self, role: Role, value: Value, flat: int) -> Listed:
        """Return the row in which a number is, or to which it is added."""
        row = np.array([np.unravel_index(flat, value.shape)[0]])
        row = self._places[row] if role == self._source else row
        return Listed(self._index, self._source, self._places, row, self._shape)

    def share_of(self, target: Role) -> float:
        """Return which share of a tensor's rows are looked at."""
        if target == self._source:
            return self._taken.size / self._places.size
        return self._rows.size / self._shape[0]

    def part(self, role: Role, value: Value) -> Part:
        """Return a tensor's rows that belong to those that are looked at."""
        if role == self._index:
            return self._named, self._named.shape
        array, rows = value.array, self._rows
        if role == self._source:
            rows = self._taken
            if array is not None:
                array = array.reshape((self._places.size, *self._shape[1:]))
        shape = (rows.size, *self._shape[1:])
        return None if array is None else array[beside(rows, array)], shape


def listed(step: Step, target: str, random: np.random.Generator) -> tuple[Listed, float] | None:
    """Draw rows of a result, or of an operand's gradient, and their share of all.

    The first and the last are taken, and one between; the others are listed ones, with the first
    and the last of the list: many rows may not be. None if the step is not of this kind.
    """
    index, source = _LISTED.get((step.rule.name, target), ("", 0))
    rows, given = step.operands.get("x"), step.listing(index)
    if rows is None or not rows.shape or given is None or given.array is None:
        return None
    if given.array.dtype.kind != "i" or step.call.arguments.get("dim", 0) != 0:
        return None
    count, places = rows.shape[0], on_host(given.array).ravel() % rows.shape[0]
    largest = step.form.largest
    wanted = math.ceil(count * sample_size(largest) / largest)
    drawn = places[[0, -1, *random.integers(0, places.size, wanted)]]
    some = np.unique(np.concatenate([drawn_places(random, count, 0.0), drawn]))
    found = Listed(index, source, places, some, rows.shape)
    return found, found.share_of(target)
