"""Gradients along Lie groups that are declared to be right to a tolerance."""

# Torch prescribes the parameters.

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.test_lie_groups import TURN, by_numpy, given, loss, watched, with_fault
from gradwitness import Verdict


def damped(*, opaque: bool) -> Any:
    """Return a function whose gradient along the group is off by 2 %, and declared to be."""
    function = by_numpy(TURN, 0.98) if opaque else with_fault(TURN, lambda g: 0.98 * g)
    gw.approximation(function, 0.05)
    return function


@pytest.mark.parametrize("opaque", [False, True])
def test_an_approximation_along_a_group_agrees_as_one(*, opaque: bool) -> None:
    function = damped(opaque=opaque)
    report = watched("SO(3)", lambda x, p: apply(function, x, p), torch.float64).report
    assert report.verdict is Verdict.AGREES, report.reasons()
    assert [note.kind for note in report.notes] == ["gradient along a group"]
    assert any(
        f.grade.startswith("declared by the program to be right to 0.05") for f in report.findings
    )


@pytest.mark.parametrize("opaque", [False, True])
def test_it_is_none_by_the_numbers(*, opaque: bool) -> None:
    x, p = given("SO(3)", torch.float64)
    with gw.watch() as witness:
        q = x / x.norm(dim=-1, keepdim=True)
        loss(apply(damped(opaque=opaque), q, p)).backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(r.startswith("what arrives is a gradient along") for r in witness.report.reasons())


@pytest.mark.parametrize("opaque", [False, True])
def test_beyond_the_tolerance_it_is_wrong(*, opaque: bool) -> None:
    function = by_numpy(TURN, 0.9) if opaque else with_fault(TURN, lambda g: 0.9 * g)
    gw.approximation(function, 0.05)
    report = watched("SO(3)", lambda x, p: apply(function, x, p), torch.float64).report
    assert report.verdict is not Verdict.AGREES
