"""Steps that only move numbers, held against the moved numbers bit for bit in their own format."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import address, beside
from gradwitness.engine.forms import BITS, MOST
from gradwitness.judging.looks.norms import are_equal
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.forms import Form
    from gradwitness.tape import Call, NodeRun, Value

# Operations that are no views and compute nothing.
MOVES = frozenset(
    f"aten.{name}"
    for name in (
        "_unsafe_view", "alias", "cat", "clone", "contiguous", "copy", "detach", "lift_fresh",
        "stack",
    )
)  # fmt: skip
# Of these the ones whose result is their only tensor.
COPIES = frozenset(f"aten.{name}" for name in ("alias", "clone", "contiguous", "detach"))
# And those whose backward adds up.
MOVED = MOVES | {
    f"aten.{name}" for name in ("_unsafe_index", "embedding", "gather", "index", "index_select")
}

# Those whose result, if it has as many numbers as what they are applied to, has the same ones.
_REARRANGED = COPIES | {
    f"aten.{name}"
    for name in (
        "_unsafe_view", "expand", "permute", "slice", "squeeze", "t", "transpose", "unsqueeze",
        "view",
    )
}  # fmt: skip


class Views:
    """Where views lie in the memory of what they are made of: worked out once for each kind."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}

    def are_known(self, kind: object, source: Any, view: NDArray[Any]) -> bool:
        """Whether a view lies where another of its kind was right to lie."""
        known = self._known.get((kind, source.shape, source.strides))
        return known is not None and known == _beside(source, view)

    def learn(self, kind: object, source: Any, view: NDArray[Any], moved: Any) -> None:
        """Remember where a right view lies, if the witness's own shares the memory."""
        if _place(view) == _place(moved):
            self._known[kind, source.shape, source.strides] = _beside(source, view)


def handed_on(
    values: Sequence[Value], call: Call, form: Form, node_run: NodeRun, sent: Mapping[int, Value]
) -> dict[int, bool]:
    """Return, by input, whether what a summand of the result's shape was sent is what arrived."""
    number = node_run.incoming[0] if len(node_run.incoming) == 1 else None
    passed_on = _passed_on(form, len(form.rule.gradients), len(form.rule.refused))
    if number is None or not passed_on:
        return {}
    came, found = values[number], {}
    if came.array is None:
        return {}
    for k, value in sent.items():
        text = passed_on.get(k)
        if text is None or (text != "g" and call.arguments.get("alpha", 1) != 1):
            continue
        if value is came:
            found[k] = True
        elif (came.shape, came.dtype) == (value.shape, value.dtype):
            found[k] = is_same(value.array, came.array)
    return found


@functools.lru_cache(maxsize=MOST)
def _passed_on(form: Form, vjps: int, refusals: int) -> dict[int, str]:
    """Return, by input, the formulas that pass on what arrives, some times a factor."""
    del vjps, refusals  # See `Form.edges`.
    texts = ((k, form.rule.gradients.get(name)) for k, ((name, _), _) in enumerate(form.edges()))
    return {k: g.text for k, g in texts if g is not None and g.text in ("g", "alpha * g")}


def is_rearranged(call: Call) -> bool:
    """Whether what a call, or its backward, makes of as many numbers has each of them once.

    Rows that an index lists, or windows, may be as many, and others; so may the same bits be.
    """
    return call.base_op in _REARRANGED and call.op not in BITS


def is_same(recorded: Any, moved: Any) -> bool:
    """Whether numbers are those expected: the same memory, or equal. NaN equals nothing."""
    moved = beside(moved, recorded)
    if isinstance(recorded, np.ndarray) and not isinstance(moved, np.ndarray):
        return False
    if (recorded.shape, recorded.dtype) != (moved.shape, moved.dtype):
        return False
    return _place(recorded) == _place(moved) or are_equal(recorded, moved)


def _beside(source: NDArray[Any], view: NDArray[Any]) -> object:
    at, strides = _place(view)
    return at - address(source), strides, view.shape, view.dtype == source.dtype


def _place(array: NDArray[Any]) -> tuple[int, tuple[int, ...]]:
    strides = array.strides
    if 1 in array.shape:
        # The stride of an axis of length 1 is arbitrary.
        pairs = zip(array.strides, array.shape, strict=True)
        strides = tuple(s for s, n in pairs if n != 1)
    return address(array), strides


def kind_of(call: Call) -> tuple[object, ...]:
    """Return what a call does, whatever tensors it does it to."""
    return (call.op, *(None if isinstance(a, Ref) else a for a in call.arguments.values()))
