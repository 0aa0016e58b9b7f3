"""Claims that come with weights but without data: the laws that right gradients obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError
from gradwitness._printable import listed
from gradwitness.claims.align import align
from gradwitness.claims.sources import read_claims
from gradwitness.judging.claimed.laws import KINDS, MAPS, ROUNDINGS, symmetries
from gradwitness.judging.claimed.laws import laws as held_against

if TYPE_CHECKING:
    from gradwitness.judging.claimed.laws import LawFinding

_EXAMPLE = "linear:0 relu linear:2 cross_entropy"


def laws(
    gradients: Any, weights: Any, layers: str, *, roundings: int = ROUNDINGS
) -> tuple[LawFinding, ...]:
    """Check gradients against invariants that need the weights but no data.

    A symmetry of the network ties its gradients to its weights. A law can only refute: wrong
    gradients may satisfy all of them, so its verdict is never AGREES.

    Parameters
    ----------
    gradients : mapping, path, callable or Claims
        The claimed gradients, in any form that `check` takes. If there are several runs, the last
        one counts.
    weights : mapping, path, callable or Claims
        The parameters as they were in that backward pass, in the same forms.
    layers : str
        The network as a sequence of layers, each a kind and, after a colon, the prefix of its
        parameters' names: ``"linear:0 relu linear:2 cross_entropy"``. For the kinds, see
        `gradwitness.judging.claimed.laws.symmetries`.
    roundings : int, optional
        How many roundings of its dtype each gradient is allowed, relative to the largest entry of
        its tensor.

    Returns
    -------
    tuple of LawFinding
        One for each law: DISAGREES or INCONCLUSIVE.

    Raises
    ------
    InputError
        If no law is known for the layers, or weights and gradients do not match.

    Examples
    --------
    A ReLU passes scales on, so for each hidden unit w . dL/dw of its incoming weights equals that
    of its outgoing ones. Here 1 x 2 + 2 x 2 = 6 going in, and 3 x 1 = 3 going out:

    >>> import numpy as np
    >>> import gradwitness
    >>> weights = {"0.weight": np.array([[1.0, 2.0]]), "2.weight": np.array([[3.0]])}
    >>> gradients = {"0.weight": np.array([[2.0, 2.0]]), "2.weight": np.array([[1.0]])}
    >>> (finding,) = gradwitness.laws(gradients, weights, "linear:0 relu linear:2")
    >>> finding.verdict
    <Verdict.DISAGREES: 'DISAGREES'>
    """
    run = read_claims(gradients).runs[-1]
    held = {name: claim.array for name, claim in read_claims(weights).runs[-1].items()}
    pairs = [word.partition(":") for word in layers.split()]
    architecture = symmetries([(kind, name) for kind, _, name in pairs])
    if not architecture:
        unknown = [kind for kind, _, _ in pairs if kind not in KINDS]
        kinds = f"; {listed(unknown)}: none of {', '.join(KINDS)}" if unknown else ""
        raise InputError(
            f"no law is known for {layers!r}{kinds}; write the layers in order, like {_EXAMPLE!r}"
        )
    found = align(run, {name: array.shape for name, array in held.items()}).pairs
    if not found:
        raise InputError(
            f"no gradient belongs to any weight: the weights are {', '.join(held) or 'none'}, "
            f"the gradients {', '.join(run) or 'none'}"
        )
    prefixes = dict.fromkeys(name.rpartition(".")[0] for name in held)
    absent = [f"{kind}:{name}" for kind, _, name in pairs if kind in MAPS and name not in prefixes]
    if absent:
        raise InputError(
            f"there are no weights for {listed(absent)}: there are some for {listed(prefixes, 20)}"
        )
    return held_against(found, held, architecture, roundings)
