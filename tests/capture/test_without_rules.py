"""Built-in operators without a rule: their gradients are measured, after the block."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradwitness as gw
from gradwitness.rules import find, registry


@pytest.fixture(autouse=True)
def without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {op: r for op, r in registry._RULES.items() if r is not find("aten.xlogy")}
    monkeypatch.setattr(registry, "_RULES", left)


def backward(factor: float = 1.0) -> gw.Report:
    """Report of x log y, whose node may send its gradients times a factor."""
    drawn = torch.manual_seed(0)
    x, y = (
        torch.rand(3, 4, generator=drawn, dtype=torch.float64).add(0.5).requires_grad_()
        for _ in range(2)
    )
    weights = torch.randn(3, 4, generator=drawn, dtype=torch.float64)

    def scaled(sent: Any, _: Any) -> Any:
        return tuple(None if g is None else factor * g for g in sent)

    with gw.watch(names={"x": x, "y": y}, judge="gradients") as witness:
        z = torch.xlogy(x, y)
        if factor != 1:
            assert z.grad_fn is not None
            z.grad_fn.register_hook(scaled)
        torch.autograd.backward((z * weights).sum())
    return witness.report


def of_the_node(report: gw.Report) -> list[Any]:
    return [f for f in report.findings if "Xlogy" in f.title and ", gradient of" in f.title]


def test_slopes_confirm_what_is_right_and_say_that_they_did() -> None:
    report = backward()
    found = of_the_node(report)
    assert [f.verdict for f in found] == [gw.Verdict.AGREES] * 2
    assert all(f.grade.startswith("numerical: directional derivatives") for f in found)
    assert all(f.grade.endswith("since no rule for aten.xlogy.Tensor") for f in found)
    # The result itself cannot be compared with anything.
    assert report.verdict is gw.Verdict.AGREES
    assert [f.comparison.reason for f in report.findings if "call 0" in f.title] == [
        "no rule for aten.xlogy.Tensor"
    ]


def test_slopes_refute_what_is_a_thousandth_off() -> None:
    report = backward(1.001)
    assert report.verdict is gw.Verdict.DISAGREES
    assert {f.verdict for f in of_the_node(report)} == {gw.Verdict.DISAGREES}


def test_a_tensor_that_is_both_operands_is_measured_once_as_the_sum() -> None:
    x = torch.tensor([1.5, 2.5], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"x": x}, judge="gradients") as witness:
        torch.autograd.backward(torch.xlogy(x, x).sum())
    assert {f.verdict for f in of_the_node(witness.report)} == {gw.Verdict.AGREES}
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 1 + x.detach().log())  # (x log x)' = 1 + log x


def test_nothing_runs_again_where_the_program_forbids_it() -> None:
    x = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"x": x}, judge="gradients", rerun=False) as witness:
        torch.autograd.backward(torch.xlogy(x, 2.0 * x.detach()).sum())
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert "with rerun=False nothing runs again" in str(witness)
