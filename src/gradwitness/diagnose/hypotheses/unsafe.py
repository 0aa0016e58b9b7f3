"""No mistake of the claims: NaN arises in the recorded program, but not in the claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.engine.binding import recorded
from gradwitness.engine.masked_elements import CURE, THROUGH_WHERE, told, unselected_by
from gradwitness.engine.replay import backward_pass
from gradwitness.engine.replay_steps import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Exhibit
    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Node, Tape

# There is no derived allowance where the program has NaN: use half the digits of float32.
_NEAR = 2.0**-12


class _Cleaned(Steps):
    """Replaces NaN that arises from a zero cotangent by 0, and records where."""

    def __init__(self) -> None:
        self.places: dict[int, NDArray[np.bool_]] = {}

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        sent = super().backward(tape, node, incoming, lookup)
        g = incoming[0]
        cleaned = []
        for s in sent:
            if s is None or g is None or np.shape(s) != np.shape(g):
                cleaned.append(s)
                continue
            new_nan = np.isnan(s) & (g == 0)
            if new_nan.any():
                self.places.setdefault(node.id, new_nan)
            cleaned.append(np.where(new_nan, 0.0, s))
        return tuple(cleaned)


def unsafe_program(
    exhibits: Mapping[str, Exhibit], tape: Tape, replay: Replay, sweep: int
) -> tuple[str, ...]:
    """Note where the program itself has NaN through where, and how many claims are right there."""
    spoiled = {
        name: e
        for name, e in exhibits.items()
        if e.claim.shape == e.witness.shape and np.any(np.isnan(e.witness) & np.isfinite(e.claim))
    }
    if not spoiled:
        return ()
    steps = _Cleaned()
    with np.errstate(all="ignore"):
        arriving, _ = backward_pass(tape, sweep, replay.values, steps=steps)
    recorded_value = recorded(tape)

    def lookup(number: int) -> Any:
        return replay.values[number] if number in replay.values else recorded_value(number)

    guards = []
    for node, new_nan in steps.places.items():
        call = unselected_by(tape, (node, 0), new_nan, lambda n, k: arriving.get((n, k)), lookup)
        if call is not None:
            guards.append(told(call))
    if not guards:
        return ()
    leaves = {leaf.name: arriving.get((node.id, 0)) for node, leaf in tape.leaves()}
    counts = [_counts(e, g) for name, e in spoiled.items() if (g := leaves.get(name)) is not None]
    where = " and ".join(dict.fromkeys(guards))
    text = (
        f"{THROUGH_WHERE}, in the program but not in the claims: {where} leaves elements out after "
        f"they were used; {listed(counts)}. {CURE}"
    )
    return (text,)


def _counts(exhibit: Exhibit, cleaned: NDArray[np.float64]) -> str:
    nan = np.isnan(exhibit.witness)
    size = np.max(np.abs(cleaned), initial=0.0, where=np.isfinite(cleaned))
    right = nan & (np.abs(exhibit.claim - cleaned) <= _NEAR * size)
    return (
        f"{exhibit.name} gets NaN in {nan.sum()} of {nan.size} elements ({right.sum()} of the "
        "claims equal the value without it)"
    )
