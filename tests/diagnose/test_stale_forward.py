"""Gradients computed from values that another forward pass saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from diagnose.trials import without_figures

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

STEPS = 3


def trained(*, rate: float = 0.1) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a witness of some steps of training, their gradients, and what backward used."""
    torch.manual_seed(0)
    first, last = nn.Linear(5, 6), nn.Linear(6, 3)
    relu = nn.ReLU()
    model = nn.Sequential(first, relu, last)
    gradients, used = [], []
    with gw.watch(model, keep=None) as witness:
        for _ in range(STEPS):
            model.zero_grad()
            x, y = torch.randn(7, 5), torch.randn(7, 3)
            z = first(x)
            h = relu(z)
            out = last(h)
            torch.autograd.backward(nn.functional.mse_loss(out, y))
            gradients.append(
                {
                    n: p.grad.numpy().copy()
                    for n, p in model.named_parameters()
                    if p.grad is not None
                }
            )
            delta = 2 * (out - y).detach().numpy() / y.numel()
            weight = last.weight.detach().numpy().copy()
            used.append(
                {"x": x.numpy(), "z": z.detach().numpy(), "h": h.detach().numpy()}
                | {"delta": delta, "w": weight}
            )
            with torch.no_grad():
                for p in model.parameters():
                    assert p.grad is not None
                    p.sub_(rate * p.grad)
    return witness, gradients, used


def first_cause(witness: Any, claims: dict[str, Any]) -> Any:
    (run,) = witness.check_claims(claims, sweep=STEPS).runs
    return run.causes[0] if run.causes else None


@pytest.mark.parametrize("kept", [0, 1])
def test_the_input_of_an_earlier_batch_is_told(kept: int, snapshot: SnapshotAssertion) -> None:
    witness, gradients, used = trained()
    claims = {**gradients[-1], "2.weight": used[-1]["delta"].T @ used[kept]["h"]}
    cause = first_cause(witness, claims)
    assert (cause.cause, cause.explains) == ("stale forward", ("2.weight",))
    assert cause.place.startswith("2 ")
    assert without_figures(cause.text) == snapshot


def test_an_earlier_mask_spoils_everything_behind_it() -> None:
    witness, gradients, used = trained()
    now, before = used[-1], used[-2]
    dz = (now["delta"] @ now["w"]) * (before["z"] > 0)
    claims = {**gradients[-1], "0.weight": dz.T @ now["x"], "0.bias": dz.sum(0)}
    cause = first_cause(witness, claims)
    assert (cause.cause, set(cause.explains)) == ("stale forward", {"0.weight", "0.bias"})
    assert cause.place.startswith("1 ")


def test_the_whole_gradient_of_another_pass_is_another_cause() -> None:
    witness, gradients, _ = trained(rate=0.0)
    assert first_cause(witness, gradients[-2]).cause == "gradient of another backward pass"


def test_noise_and_right_claims_are_not_called_so() -> None:
    witness, gradients, _ = trained()
    assert first_cause(witness, gradients[-1]) is None
    noise = np.random.default_rng(0).standard_normal(gradients[-1]["2.weight"].shape)
    claims = {**gradients[-1], "2.weight": gradients[-1]["2.weight"] + noise.astype("f")}
    assert first_cause(witness, claims) is None
