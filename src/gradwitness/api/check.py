"""One run of a model, to judge gradients that something else computed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import MissingExtraError
from gradwitness.api.claims import ClaimCheck, judge_claims
from gradwitness.api.watch import Witness
from gradwitness.judging.depth import FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def check(
    model: torch.nn.Module,
    *inputs: Any,
    loss: Callable[[Any], torch.Tensor] | None = None,
    claims: Any,
    dtype: str | None = None,
    depth: str = FULL,
) -> ClaimCheck:
    """Judge gradients that something else computed for a model.

    Runs the model forward and backward once, watched, and leaves its parameters, buffers,
    ``.grad``, modes and the random number generators as they were.

    Parameters
    ----------
    model : torch.nn.Module
    *inputs
        The arguments that the model is called with.
    loss : callable, optional
        Maps the model's output to a scalar. Not needed if the output is a scalar already.
    claims : mapping, path, callable or Claims
        The gradients: arrays or tensors by parameter name, a file that holds them, a function that
        returns them, or the result of `jax_claims` or `pytree_claims`.
    dtype : str, optional
        The dtype that the claims were computed in. By default that of the claims themselves.
    depth : str, optional
        How thoroughly to judge the model's own run, as for `watch`. The claims are judged in full.

    Returns
    -------
    ClaimCheck
        The verdict on each claim, and the causes of what is wrong.

    Raises
    ------
    InputError
        If the claims cannot be read, there is no scalar to run backward from, or no such ``depth``.
    MissingExtraError
        If PyTorch is not installed.

    Examples
    --------
    The loss is y squared, so its derivative is 2 y. Here the factor 2 was forgotten:

    >>> import numpy as np
    >>> import torch
    >>> import gradwitness
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> x = torch.tensor([[1.0, 2.0, 3.0]])
    >>> y = 1.0 + 2.0 + 3.0
    >>> claims = {"weight": y * np.array([[1.0, 2.0, 3.0]])}
    >>> result = gradwitness.check(model, x, loss=lambda y: y.square().sum(), claims=claims)
    >>> result.verdict
    <Verdict.DISAGREES: 'DISAGREES'>
    >>> result.runs[0].causes[0].cause
    'missing factor 2'
    """
    try:
        from gradwitness.capture.again.once import left_alone, run_once
    except ImportError as error:
        raise MissingExtraError(
            f"running a model needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    with left_alone(model, inputs):
        with Witness(model, keep=None, depth=depth) as witness:
            run_once(model, inputs, loss)
        return judge_claims(witness.tape, witness.report, claims, dtype=dtype)
