"""NaN in the recorded program's own gradients that somebody else's do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.evidence import named
from gradwitness.engine.binding import recorded
from gradwitness.engine.masked_elements import CURE, THROUGH_WHERE, told, unselected_by
from gradwitness.engine.replay import Steps, backward_pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Exhibit
    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Node, Tape

# Where the program has NaN there is no derived allowance: half of the digits of float32.
_NEAR = 2.0**-12


class _Cleaned(Steps):
    """Sends 0 where NaN would be made of zeros, and remembers where it did."""

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
            born = np.isnan(s) & (g == 0)
            if born.any():
                self.places.setdefault(node.id, born)
            cleaned.append(np.where(born, 0.0, s))
        return tuple(cleaned)


def unsafe_program(
    exhibits: Mapping[str, Exhibit], tape: Tape, replay: Replay, sweep: int
) -> tuple[str, ...]:
    """Say where the program itself has NaN through where, and what of it the claims have right.

    Parameters
    ----------
    exhibits : mapping of str to Exhibit
    tape, replay, sweep
        The program, and the backward pass that the claims are about.
    """
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
    known = recorded(tape)

    def lookup(number: int) -> Any:
        return replay.values[number] if number in replay.values else known(number)

    guards = []
    for node, born in steps.places.items():
        call = unselected_by(tape, (node, 0), born, lambda n, k: arriving.get((n, k)), lookup)
        if call is not None:
            guards.append(told(call))
    if not guards:
        return ()
    leaves = {leaf.name: arriving.get((node.id, 0)) for node, leaf in tape.leaves()}
    said = [_said(e, g) for name, e in spoiled.items() if (g := leaves.get(name)) is not None]
    where = " and ".join(dict.fromkeys(guards))
    text = (
        f"{THROUGH_WHERE}, in the program and not in the claims: {where} leaves elements out after "
        f"they were used; {named(said)}. {CURE}"
    )
    return (text,)


def _said(exhibit: Exhibit, cleaned: NDArray[np.float64]) -> str:
    nan = np.isnan(exhibit.witness)
    size = np.max(np.abs(cleaned), initial=0.0, where=np.isfinite(cleaned))
    right = nan & (np.abs(exhibit.claim - cleaned) <= _NEAR * size)
    return (
        f"{exhibit.name} gets NaN in {nan.sum()} of {nan.size} elements ({right.sum()} claimed as "
        "they are without it)"
    )
