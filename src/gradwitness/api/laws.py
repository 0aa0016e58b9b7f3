"""Claims that come with weights but without data: the laws that right gradients obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError
from gradwitness.claims.align import align
from gradwitness.claims.sources import read_claims
from gradwitness.judging.claimed.laws import ROUNDINGS, symmetries
from gradwitness.judging.claimed.laws import laws as held_against

if TYPE_CHECKING:
    from gradwitness.judging.claimed.laws import LawFinding

_EXAMPLE = "linear:0 relu linear:2 cross_entropy"


def laws(
    gradients: Any, weights: Any, layers: str, *, roundings: int = ROUNDINGS
) -> tuple[LawFinding, ...]:
    """Hold gradients against the laws of their network, for which no data is needed.

    A law refutes or says nothing: a wrong gradient may obey them all.

    Parameters
    ----------
    gradients, weights
        Files, dicts of arrays or tensors by name, or functions that return such a dict: the claims
        (their last run), and the parameters as they were in that backward pass.
    layers : str
        The network as a plain sequence: kinds, and after a colon the prefix of the parameters'
        names: ``linear:0 relu linear:2 cross_entropy``. Kinds: see
        `judging.claimed.laws.symmetries`.
    roundings : int
        The gradients are taken to be exact to gamma_n of their tensor's largest number, n roundings
        of their format.

    Returns
    -------
    tuple of LawFinding
        One for each law: DISAGREES, or INCONCLUSIVE.

    Raises
    ------
    InputError
        If the layers have no law, or weights and gradients do not belong together.
    """
    pairs = [word.partition(":") for word in layers.split()]
    architecture = symmetries([(kind, name) for kind, _, name in pairs])
    if not architecture:
        raise InputError(
            f"no law is known for {layers!r}; write the layers in order, like {_EXAMPLE!r}"
        )
    held = {name: claim.array for name, claim in read_claims(weights).runs[-1].items()}
    run = read_claims(gradients).runs[-1]
    found = align(run, {name: array.shape for name, array in held.items()}).pairs
    if not found:
        raise InputError(
            f"no gradient belongs to any weight: the weights are {', '.join(held) or 'none'}, "
            f"the gradients {', '.join(run) or 'none'}"
        )
    return held_against(found, held, architecture, roundings)
