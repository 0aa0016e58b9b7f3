"""assert_gradients: like ``torch.testing.assert_close``, without the right numbers at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError
from gradwitness.api.claims import judge_claims
from gradwitness.api.watch import Witness, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch


def assert_gradients(
    actual: Any,
    program: Callable[[], Any] | Witness | None = None,
    *models: torch.nn.Module,
    names: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Assert that gradients are right, like ``torch.testing.assert_close`` without the answer.

    ``assert_gradients(step)`` runs a training step and judges every gradient in it;
    ``assert_gradients(claims, step)`` judges gradients that something else computed for the step.

    Parameters
    ----------
    actual : callable, Witness, or claims
        Without ``program``: a function that runs forward and backward, or a `Witness` whose block
        has ended. With ``program``: the claims, in any form that `check` takes.
    program : callable or Witness, optional
        What the claims are gradients of.
    *models : torch.nn.Module
        As for `watch`.
    names : mapping of str to Tensor, optional
        As for `watch`.

    Raises
    ------
    GradientDisagreement
        If a gradient is wrong or could not be judged. It is an ``AssertionError``, and says what is
        wrong, where, by how much, how much is allowed, why, and what to do next.
    InputError
        If there is nothing to judge.
    MissingExtraError
        If PyTorch is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import gradwitness
    >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> def step():
    ...     w.square().sum().backward()
    >>> gradwitness.assert_gradients(step, names={"w": w})
    >>> gradwitness.assert_gradients({"w": np.array([2.0, 4.0, 6.0])}, step, names={"w": w})
    >>> gradwitness.assert_gradients({"w": np.array([2.0, 4.0, 5.0])}, step, names={"w": w})
    Traceback (most recent call last):
        ...
    gradwitness.GradientDisagreement: DISAGREES
    ...
    """
    __tracebackhide__ = True  # pytest then shows the line that asked
    witness = _watched(actual if program is None else program, models, names)
    if program is None:
        witness.require()
    else:
        judge_claims(witness.tape, witness.report, actual).require()


def _watched(
    program: Any, models: tuple[torch.nn.Module, ...], names: Mapping[str, torch.Tensor] | None
) -> Witness:
    if isinstance(program, Witness):
        if models or names:
            raise InputError("a Witness already has its names: pass them to watch()")
        return program
    if not callable(program):
        raise InputError(
            f"assert_gradients needs a function that runs forward and backward, not "
            f"{type(program).__name__}: assert_gradients(step), or, for gradients from "
            "elsewhere, assert_gradients(claims, step)"
        )
    # All is kept: claims are judged against a replay of the whole.
    with watch(*models, names=names, keep=None) as witness:
        program()
    return witness
