"""Sums over samples and over broadcast axes: left out, done twice, averaged, on the wrong axis."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, named, refuted
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

WRONG_AXIS = "summed over the wrong axis"
ONE_SAMPLE = "one sample only"
AVERAGED = "averaged instead of summed"
NOT_SUMMED = "broadcast not summed"
TWICE = "summed once too often"


def sums(case: Case) -> Iterator[Explanation]:
    """Compare a claim with every sum that may have been taken instead of the right one."""
    facts = Facts(case)
    found: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    tried: dict[tuple[str, str], int] = {}
    for exhibit in refuted(case):
        arriving = facts.cotangent(exhibit.name)
        others = itertools.chain(_once_more(exhibit), _unsummed(exhibit), _other(exhibit, arriving))
        for number, (cause, how, predicted) in enumerate(others, 1):
            if fits(exhibit, predicted):
                found.setdefault((cause, how), {})[exhibit.name] = predicted
                tried.setdefault((cause, how), number)
    for (cause, how), predictions in found.items():
        text = f"The gradient of {named(predictions)} {how}."
        yield Explanation(cause, text, predictions, freedom=tried[cause, how], reveals=False)


def _other(
    exhibit: Exhibit, arriving: NDArray[np.float64] | None
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield what may be made of the gradient that arrives where a bias was broadcast."""
    g, shape = exhibit.witness, exhibit.claim.shape
    if (
        arriving is None
        or arriving.ndim <= g.ndim
        or arriving.shape[arriving.ndim - g.ndim :] != (g.shape)
    ):
        return
    repeated = tuple(range(arriving.ndim - g.ndim))
    if not fits_witness(exhibit, arriving.sum(axis=repeated)):
        return
    many = np.prod([arriving.shape[k] for k in repeated])
    yield AVERAGED, f"is averaged over the {many} rows of its batch, not summed", g / many
    yield NOT_SUMMED, f"is not summed over its {many} rows", arriving
    for count in range(1, arriving.ndim):
        for axes in itertools.combinations(range(arriving.ndim), count):
            if axes != repeated:
                total = arriving.sum(axis=axes)
                if total.size == exhibit.claim.size:
                    which, right = (named(map(str, each)) for each in (axes, repeated))
                    how = f"is summed over axis {which} of what arrives instead of {right}"
                    yield WRONG_AXIS, how, total.reshape(shape)
    rows = arriving.reshape(-1, *g.shape)
    for place, which in ((0, "first"), (-1, "last")):
        yield ONE_SAMPLE, f"is that of the {which} row of the batch alone", rows[place]


def fits_witness(exhibit: Exhibit, total: NDArray[np.float64]) -> bool:
    """Whether a sum over the repeated axes is the right gradient, as it is for a bias."""
    # Both are float64: only the order of summation differs.
    return np.allclose(total, exhibit.witness, rtol=1e-9, atol=1e-9 * np.abs(total).max(initial=0))


def _once_more(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the gradient summed over its own axes, and broadcast back."""
    g, shape = exhibit.witness, exhibit.claim.shape
    for count in range(1, g.ndim + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            if all(g.shape[k] == 1 for k in axes):
                continue
            for name, total in (("summed", g.sum(axis=axes)), ("averaged", g.mean(axis=axes))):
                how = f"is {name} over its axis {named(map(str, axes))} once too often"
                kept = np.expand_dims(total, axes)
                if shape == g.shape:
                    yield TWICE, how, np.broadcast_to(kept, shape)
                elif exhibit.claim.size == total.size:
                    yield TWICE, how, total.reshape(shape)


def _unsummed(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the claim itself where its sum over leading axes is right: nothing else is known."""
    g, h = exhibit.witness, exhibit.claim
    extra = h.ndim - g.ndim
    if extra < 1 or h.shape[extra:] != g.shape or g.size < 2 or h.size == g.size:
        return
    total = h.sum(axis=tuple(range(extra)))
    rows = h.size // g.size
    if np.all(np.abs(total - g) <= np.max(exhibit.allowance) * rows):
        yield NOT_SUMMED, f"is not summed over the {rows} rows that share it", h
