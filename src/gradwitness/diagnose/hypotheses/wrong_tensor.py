"""Mistake: the claim is the gradient of another layer, or of another backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, jointly, refuted
from gradwitness.diagnose.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

ELSEWHERE = "another layer's gradient"
STALE = "gradient of another backward pass"


def another_layer(case: Case) -> Iterator[Explanation]:
    """Suppose that a claim is the gradient of another tensor of the same shape."""
    predicted: dict[str, NDArray[np.float64]] = {}
    source: dict[str, str] = {}
    tried = 0
    for exhibit in refuted(case):
        others = [e for e in _by_distance(case, exhibit) if e.witness.shape == exhibit.claim.shape]
        tried += len(others)
        for other in others:
            if fits(exhibit, other.witness):
                predicted[exhibit.name], source[exhibit.name] = other.witness, other.name
                break
    if predicted:
        text = _pattern(list(case.exhibits), source)
        yield Explanation(ELSEWHERE, text, predicted, freedom=tried, reveals=False)


def another_pass(case: Case) -> Iterator[Explanation]:
    """Suppose that the claims are the gradients of another backward pass on the tape."""
    for sweep, gradients in Facts(case).other_sweeps():
        predicted = jointly(refuted(case), lambda e, g=gradients: g.get(e.name))  # type: ignore[misc]
        if predicted:
            yield Explanation(
                STALE,
                f"The gradient of {listed(predicted)} is left over from backward pass {sweep + 1}, "
                f"and not that of pass {case.sweep + 1}.",
                predicted,
                freedom=sweep + 1,
                reveals=False,
            )


def _by_distance(case: Case, exhibit: Exhibit) -> list[Exhibit]:
    """Return the other exhibits, the nearest in the order of the forward pass first."""
    names = list(case.exhibits)
    index = names.index(exhibit.name)
    order = sorted(range(len(names)), key=lambda k: abs(k - index))
    return [case.exhibits[names[k]] for k in order if k != index]


def _pattern(names: list[str], source: dict[str, str]) -> str:
    """Describe how the claims were mixed up."""
    swapped = {a for a, b in source.items() if source.get(b) == a}
    pairs = "; ".join(f"{name} holds that of {other}" for name, other in list(source.items())[:4])
    more = f"; {len(source) - 4} more" if len(source) > 4 else ""
    steps = {names.index(b) - names.index(a) for a, b in source.items()}
    if swapped == set(source):
        kind = "Gradients are swapped"
    elif len(steps) == 1 and len(source) > 1:
        kind = "Gradients are shifted, each in the place of another layer's"
    elif set(source) == set(source.values()):
        kind = "Gradients are permuted among tensors of the same shape"
    else:
        kind = "A gradient is in the place of another"
    return f"{kind}: {pairs}{more}."
