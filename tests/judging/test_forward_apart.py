"""The forward's verdict, apart from that of the gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.programs import run_back
from experiment.invoke import cli
from gradwitness.judging.comparing.compare import mismatch
from gradwitness.report.record import report_record

if TYPE_CHECKING:
    from pathlib import Path

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741


@torch.library.custom_op("forward_apart::sine", mutates_args=())
def sine(x: torch.Tensor) -> torch.Tensor:
    """Compute what no rule knows."""
    return torch.from_numpy(np.sin(x.numpy(force=True)))


@torch.library.custom_op("forward_apart::wrong", mutates_args=())
def wrong(x: torch.Tensor) -> torch.Tensor:
    """Do the same, with a derivative that is half of what it should be."""
    return torch.from_numpy(np.sin(x.numpy(force=True)))


def save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


sine.register_autograd(lambda ctx, g: g * ctx.saved_tensors[0].cos(), setup_context=save)
wrong.register_autograd(lambda ctx, g: 0.5 * g * ctx.saved_tensors[0].cos(), setup_context=save)


def leaf() -> Any:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


def watched(operator: Any, judge: str = "all") -> gw.Witness:
    x = leaf()
    with gw.watch(names={"x": x}, judge=judge) as witness:
        operator(2 * x).square().sum().backward()
    return witness


def test_an_operator_without_a_rule_whose_backward_was_measured() -> None:
    report = watched(sine).report
    assert (report.forward, report.gradients, report.verdict) == (I, A, I)
    witness = watched(sine, "gradients")
    report = witness.report
    assert (report.forward, report.gradients, report.verdict) == (I, A, A)
    assert [row.verdict for row in report.rows] == [A]
    # The doubt is still counted.
    assert dict(report.reasons()) == {"no rule for forward_apart.sine.default": 1}
    assert "forward   INCONCLUSIVE; the verdict does not rest on it" in str(witness)
    witness.require()


def test_a_wrong_backward_is_wrong_either_way() -> None:
    for judge in ("all", "gradients"):
        report = watched(wrong, judge).report
        assert (report.forward, report.gradients, report.verdict) == (I, D, D)


def test_a_wrong_result_is_no_doubt() -> None:
    report = watched(sine).report
    findings = tuple(
        replace(f, comparison=mismatch("wrong", None)) if f.is_forward_doubt else f
        for f in report.findings
    )
    assert replace(report, findings=findings).judging("gradients").verdict is D


def test_a_backward_that_could_not_be_judged_stays_open() -> None:
    # Slopes along complex numbers are not measured.
    x = torch.tensor([[1.0, 2.0], [0.5, 4.0j]], requires_grad=True)
    with gw.watch(judge="gradients") as witness:
        run_back(sine(x).real)
    assert witness.verdict is I


def test_json_has_both() -> None:
    for judge, verdict in (("all", I), ("gradients", A)):
        witness = watched(sine, judge)
        record = report_record(witness.report, witness.tape)
        assert record["judge"] == judge
        assert [record[f"{of}verdict"] for of in ("forward_", "gradients_")] == [I, A]
        assert record["verdict"] == verdict.value
        assert record["exit_code"] == verdict.exit_code


def test_gradcheck_judges_gradients() -> None:
    assert gw.gradcheck(sine, leaf())
    with pytest.raises(gw.GradientDisagreement, match="wrong"):
        gw.gradcheck(wrong, leaf())


PROGRAM = """
import numpy as np, torch

@torch.library.custom_op("forward_apart::cosine", mutates_args=())
def cosine(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.cos(x.numpy(force=True)))

def save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)

cosine.register_autograd(lambda ctx, g: -g * ctx.saved_tensors[0].sin(), setup_context=save)

def step():
    x = torch.linspace(0.1, 1, 5).requires_grad_()
    (2 * cosine(x)).sum().backward()
"""


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(PROGRAM)
    done = cli("check", "train.py:step", "--judge", "gradients")
    assert (done.code, done.out.split()[-9:-7]) == (0, ["verdict", "AGREES"])
    done = cli("check", "train.py:step", "--judge", "forward")
    assert done.code == 2
    assert "judge='forward': give 'all' or 'gradients'" in done.err


def test_neither_word() -> None:
    with pytest.raises(gw.InputError, match="judge='forward': give 'all' or 'gradients'"):
        gw.watch(judge="forward")


def test_an_agreement_has_nothing_apart() -> None:
    with gw.watch() as witness:
        leaf().square().sum().backward()
    assert "forward   A" not in str(witness)
    assert [row.apart for row in witness.report.rows] == [None]


def test_what_a_custom_function_runs_inside_is_no_doubt_about_the_gradient() -> None:
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return sine(x)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * ctx.saved_tensors[0].cos()

    with gw.watch(judge="gradients", rerun=[Sine]) as witness:
        apply(Sine, 2 * leaf()).square().sum().backward()
    assert witness.verdict is A
