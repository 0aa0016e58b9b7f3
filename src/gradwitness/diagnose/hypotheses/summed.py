"""Mistake: a sum over samples or broadcast axes is missing, repeated, averaged or misplaced."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, refuted
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
    """Suppose that a different sum was taken, or none."""
    facts = Facts(case)
    by_cause: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    tried: dict[tuple[str, str], int] = {}
    for exhibit in refuted(case):
        g = facts.cotangent(exhibit.name)
        others = itertools.chain(_once_more(exhibit), _unsummed(exhibit), _other(exhibit, g))
        for count, (cause, description, predicted) in enumerate(others, 1):
            if fits(exhibit, predicted):
                by_cause.setdefault((cause, description), {})[exhibit.name] = predicted
                tried.setdefault((cause, description), count)
    for (cause, description), predictions in by_cause.items():
        text = f"The gradient of {listed(predictions)} {description}."
        yield Explanation(
            cause, text, predictions, freedom=tried[cause, description], reveals=False
        )


def _other(
    exhibit: Exhibit, cotangent: NDArray[np.float64] | None
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield wrong sums of the cotangent where a bias was broadcast."""
    g, shape = exhibit.witness, exhibit.claim.shape
    if (
        cotangent is None
        or cotangent.ndim <= g.ndim
        or cotangent.shape[cotangent.ndim - g.ndim :] != (g.shape)
    ):
        return
    repeated = tuple(range(cotangent.ndim - g.ndim))
    if not fits_witness(exhibit, cotangent.sum(axis=repeated)):
        return
    n = np.prod([cotangent.shape[k] for k in repeated])
    yield AVERAGED, f"is averaged over the {n} rows of the batch instead of summed", g / n
    yield NOT_SUMMED, f"is not summed over its {n} rows", cotangent
    for count in range(1, cotangent.ndim):
        for axes in itertools.combinations(range(cotangent.ndim), count):
            if axes != repeated:
                total = cotangent.sum(axis=axes)
                if total.size == exhibit.claim.size:
                    which, right = (listed(map(str, axis_set)) for axis_set in (axes, repeated))
                    description = f"is the cotangent summed over axis {which} instead of {right}"
                    yield WRONG_AXIS, description, total.reshape(shape)
    rows = cotangent.reshape(-1, *g.shape)
    for row, which in ((0, "first"), (-1, "last")):
        yield ONE_SAMPLE, f"is only that of the {which} row of the batch", rows[row]


def fits_witness(exhibit: Exhibit, total: NDArray[np.float64]) -> bool:
    """Whether the sum over the repeated axes is the right gradient, as for a bias."""
    # Both are float64: only the order of summation differs.
    return np.allclose(total, exhibit.witness, rtol=1e-9, atol=1e-9 * np.abs(total).max(initial=0))


def _once_more(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the gradient summed over some of its axes, and broadcast back."""
    g, shape = exhibit.witness, exhibit.claim.shape
    for count in range(1, g.ndim + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            if all(g.shape[k] == 1 for k in axes):
                continue
            for name, total in (("summed", g.sum(axis=axes)), ("averaged", g.mean(axis=axes))):
                description = f"is {name} over its axis {listed(map(str, axes))} once too often"
                expanded = np.expand_dims(total, axes)
                if shape == g.shape:
                    yield TWICE, description, np.broadcast_to(expanded, shape)
                elif exhibit.claim.size == total.size:
                    yield TWICE, description, total.reshape(shape)


def _unsummed(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the claim itself if its sum over leading axes is right."""
    g, h = exhibit.witness, exhibit.claim
    extra = h.ndim - g.ndim
    if extra < 1 or h.shape[extra:] != g.shape or g.size < 2 or h.size == g.size:
        return
    total = h.sum(axis=tuple(range(extra)))
    rows = h.size // g.size
    if np.all(np.abs(total - g) <= np.max(exhibit.allowance) * rows):
        yield NOT_SUMMED, f"is not summed over the {rows} rows that share it", h
