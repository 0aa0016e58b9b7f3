"""NaN in the program's own gradients, but not in the claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from diagnose.broken import Guarded
from diagnose.cases import loss_for
from diagnose.trials import without_figures

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion
    from torch import nn


def gradients(model: nn.Module) -> dict[str, Any]:
    loss_for(model, 0)(model).backward()  # type: ignore[no-untyped-call]
    claims = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return claims


def checked(program: nn.Module, claims: dict[str, Any]) -> Any:
    with gw.watch(program, keep=None) as witness:
        loss_for(program, 0)(program).backward()  # type: ignore[no-untyped-call]
    (run,) = witness.check_claims(claims).runs
    return run


def pair(at: str) -> tuple[Guarded, Guarded]:
    torch.manual_seed(0)
    unsafe, safe = Guarded("single", at=at), Guarded(at=at)
    safe.load_state_dict(unsafe.state_dict())
    return unsafe, safe


@pytest.mark.parametrize("at", ["scale", "hidden", "distances"])
def test_claims_of_a_safe_program_are_doubted_with_the_reason(
    at: str, snapshot: SnapshotAssertion
) -> None:
    unsafe, safe = pair(at)
    claims = gradients(safe)
    bad = {n: int(np.isnan(g).sum()) for n, g in gradients(unsafe).items()}
    run = checked(unsafe, claims)
    assert run.verdict is gw.Verdict.INCONCLUSIVE
    assert run.causes == ()
    (note,) = [note for note in run.notes if note.startswith("NaN through where")]
    assert without_figures(note) == snapshot
    for name, count in bad.items():
        if count:
            size = claims[name].size
            assert f"{name} gets NaN in {count} of {size} elements ({count} of" in note


def test_wrong_numbers_are_not_counted_as_right() -> None:
    unsafe, safe = pair("scale")
    claims = gradients(safe)
    lost = np.isnan(gradients(unsafe)["scale"])
    claims["scale"] = np.where(lost, 0.3, claims["scale"])
    (note,) = [n for n in checked(unsafe, claims).notes if n.startswith("NaN through where")]
    assert "(0 of the claims" in note


def test_the_same_nan_on_both_sides_is_told_by_no_note() -> None:
    unsafe, _ = pair("scale")
    assert not any("NaN" in n for n in checked(unsafe, gradients(unsafe)).notes)


def test_a_safe_program_is_told_by_no_note() -> None:
    unsafe, safe = pair("scale")
    assert not any("NaN" in n for n in checked(safe, gradients(unsafe)).notes)
