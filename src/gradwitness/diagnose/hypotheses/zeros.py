"""Mistake: whole gradients, or some of their slices, are zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, refuted
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

DETACHED = "detached"
DEAD = "dead slices"
LAST = "last {what} missing"


def detached(case: Case) -> Iterator[Explanation]:
    """Suppose that whole tensors are zero, as behind a detach."""
    zero = [e for e in refuted(case) if e.claim.shape == e.witness.shape and not e.claim.any()]
    if not zero:
        return
    order = Facts(case).order
    names = [n for n in order if n in {e.name for e in zero}]
    # Behind the cut there may be gradients that are rightly zero.
    behind = [n for n in order[order.index(names[0]) :] if case.exhibits[n].witness.any()]
    predicted = {e.name: np.zeros_like(e.witness) for e in zero}
    if len(names) > 1 and names == behind:
        text = (
            f"Everything from {names[0]} on towards the input is zero: the gradient was cut off "
            "there, as by detach, no_grad, .item() or .data."
        )
        yield Explanation(DETACHED, text, predicted, place=names[0], reveals=False)
        return
    text = (
        f"The gradient of {listed(names)} is zero: it was never filled in, was detached from the "
        "loss, or was cleared too late."
    )
    yield Explanation(DETACHED, text, predicted, freedom=1, reveals=False)


def dead_slices(case: Case) -> Iterator[Explanation]:
    """Suppose that some rows or columns are zero, and the rest is right."""
    predicted: dict[str, NDArray[np.float64]] = {}
    parts = []
    dead_of: dict[str, tuple[int, NDArray[np.bool_]]] = {}
    freedom = 1
    for exhibit in refuted(case):
        for axis in range(exhibit.witness.ndim):
            if exhibit.claim.shape != exhibit.witness.shape:
                break
            dead = _dead(exhibit, axis)
            masked = np.where(_along(dead, axis, exhibit.witness.ndim), 0.0, exhibit.witness)
            if not dead.any() or dead.all() or not fits(exhibit, masked):
                continue
            predicted[exhibit.name] = masked
            indices = np.flatnonzero(dead)
            parts.append(f"{exhibit.name} at {listed(map(str, indices))} of axis {axis}")
            freedom *= 2 ** len(dead)
            dead_of[exhibit.name] = (axis, dead)
            break
    whole = _last(predicted, dead_of) if case.alone else ""
    if whole:
        cause = LAST.format(what="rows" if "axis 0" in whole else "numbers of an axis")
        yield Explanation(cause, whole, predicted, freedom=4, reveals=False)
    if predicted:
        yield Explanation(
            DEAD,
            f"Wrongly zero: {listed(parts)}. The rest is right. These units were treated as dead, "
            "masked or dropped out.",
            predicted,
            freedom=freedom,
            reveals=False,
        )


def _last(names: Iterable[str], dead_of: Mapping[str, tuple[int, NDArray[np.bool_]]]) -> str:
    """Say that what is dead comes last, as if it were no whole block; empty if it does not."""
    told = []
    for name in names:
        axis, dead = dead_of[name]
        first = int(np.argmax(dead))
        if not dead[first:].all() or not first:
            return ""
        block = first & -first
        of = f": {first} is a multiple of {block}, and {len(dead)} is not" * (len(dead) % block > 0)
        told.append(f"those of {name} along axis {axis} end at {first} of {len(dead)}{of}")
    return f"The gradients are right as far as they go, and zero from there on; {listed(told)}."


def _dead(exhibit: Exhibit, axis: int) -> NDArray[np.bool_]:
    """Return the slices along an axis that are zero in the claim, but not in the witness."""
    others = tuple(k for k in range(exhibit.claim.ndim) if k != axis)
    dead = ~exhibit.claim.any(axis=others) & exhibit.witness.any(axis=others)
    return np.asarray(dead, np.bool_)


def _along(mask: NDArray[np.bool_], axis: int, ndim: int) -> NDArray[np.bool_]:
    return mask.reshape([-1 if k == axis else 1 for k in range(ndim)])
