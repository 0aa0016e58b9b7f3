"""Architectures that are trained in double precision, for the sake of their factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from architectures.zoo import build

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", ["gaussian_process", "whitening", "full_covariance"])
def test_every_step_is_judged_and_agrees(name: str) -> None:
    workload = build(name)
    assert {p.dtype for p in workload.model.parameters()} == {torch.float64}
    with gw.watch(workload.model) as witness:
        workload.step()
    report = witness.report
    assert [finding.title for finding in report.wrong] == []
    assert dict(report.reasons()) == {}
    assert {share.judged == share.total for share in report.coverage().values()} == {True}
    assert report.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("name", ["gaussian_process", "whitening", "full_covariance"])
def test_a_gradient_that_a_hook_doubles_is_seen(name: str) -> None:
    workload = build(name)
    parameter: Any
    parameter, *_ = workload.model.parameters()
    parameter.register_hook(lambda g: 2 * g)
    with gw.watch(workload.model) as witness:
        workload.step()
    assert witness.verdict is gw.Verdict.DISAGREES
