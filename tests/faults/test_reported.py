"""Wrong gradients of public projects: judged rightly in the version reported and in the mended one.

Which version is right is told by finite differences in float64 (``torch.autograd.gradcheck``).
"""

from __future__ import annotations

import pytest
import torch

import gradwitness
from faults import reported_more as reported_more
from faults.reported import REPORTS, Made
from gradwitness import Verdict
from gradwitness.judging.gradients.second_derivatives import KIND

# Each step that was recorded is right, but a second pass lacks a part.
CUT_OFF = {"pytorch/pytorch 58509"}


def made(source: str, dtype: torch.dtype, *, wrong: bool) -> Made:
    torch.manual_seed(0)
    return REPORTS[source](wrong, dtype)


@pytest.mark.parametrize("wrong", [True, False], ids=["reported", "mended"])
@pytest.mark.parametrize("source", REPORTS)
def test_finite_differences_tell_which_version_is_right(source: str, wrong: bool) -> None:
    program = made(source, torch.float64, wrong=wrong)
    right = torch.autograd.gradcheck(
        lambda *_: program.loss(), program.leaves, raise_exception=False
    )
    assert right is not wrong


def judged(source: str, *, wrong: bool) -> gradwitness.Report:
    program = made(source, torch.float32, wrong=wrong)
    with gradwitness.watch(names={f"x{n}": x for n, x in enumerate(program.leaves)}) as witness:
        program.loss().backward()  # type: ignore[no-untyped-call]
    return witness.report


@pytest.mark.parametrize("source", sorted(REPORTS.keys() - CUT_OFF))
def test_the_reported_version_is_refuted(source: str) -> None:
    assert judged(source, wrong=True).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("source", CUT_OFF)
def test_what_is_cut_off_is_in_doubt(source: str) -> None:
    report = judged(source, wrong=True)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert [note.kind for note in report.notes] == [KIND]


@pytest.mark.parametrize("source", REPORTS)
def test_the_mended_version_agrees(source: str) -> None:
    report = judged(source, wrong=False)
    assert report.verdict is Verdict.AGREES
    assert report.notes == ()
