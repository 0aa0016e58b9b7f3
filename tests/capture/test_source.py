"""Where a call comes from: the module that ran, and the line of the user's program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.programs import leaf, unruled, weighted
from gradwitness.capture import record

if TYPE_CHECKING:
    from gradwitness.tape import Source


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        y = self.inner(x)  # mark: inner
        return torch.tanh(y)  # mark: tanh


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3  # mark: wrong

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return 2 * grads[0]  # mark: sent


def marked(word: str) -> str:
    """Return file:line of the line of this file that ends with a mark."""
    lines = Path(__file__).read_text().splitlines()
    (at,) = [n for n, line in enumerate(lines, start=1) if line.endswith(f"# mark: {word}")]
    return f"{__file__}:{at}"


def test_lines_and_modules_of_forward_calls() -> None:
    model = nn.Sequential(Block(), Block())
    with record(model) as recorder:
        y = model(torch.randn(3, 2))
        z = y * 5  # mark: outside
        weighted(z).backward()
    found: dict[str, list[Source]] = {}
    for call in recorder.tape.calls:
        found.setdefault(call.op.split(".")[1], []).append(call.source)
    assert [s.module for s in found["addmm"]] == ["0.inner", "1.inner"]
    assert [s.module for s in found["tanh"]] == ["0", "1"]
    assert {s.line for s in found["addmm"]} == {marked("inner")}
    assert {s.line for s in found["tanh"]} == {marked("tanh")}
    assert found["mul"][0].module == ""
    assert found["mul"][0].line == marked("outside")


def test_the_root_is_called_by_its_class() -> None:
    with record() as recorder:
        Block()(torch.randn(3, 2))
    modules = {c.op: c.source.module for c in recorder.tape.calls}
    assert modules["aten.tanh.default"] == "Block"
    assert modules["aten.addmm.default"] == "inner"


def test_a_fault_is_reported_at_its_line() -> None:
    x = leaf(3)
    with gw.watch() as witness:
        apply: Any = Wrong.apply
        weighted(apply(x)).backward()  # mark: called
    (wrong,) = witness.report.wrong
    assert wrong.title == "WrongBackward #2, gradient of x (input 0)"
    assert wrong.source is not None
    assert wrong.source.line == marked("wrong")
    assert (f"{wrong.file}:{wrong.line}", wrong.called) == (marked("sent"), marked("called"))
    name = Path(__file__).name
    assert f"{name}:{marked('sent').rpartition(':')[2]} (called from " in str(witness)


@pytest.mark.parametrize(
    "run",
    [
        unruled,
        # A sum, by an operation that is there for torch's own tests.
        lambda x: torch.ops.aten._test_functorch_fallback(x.detach(), x.detach()) * x,
    ],
    ids=["conv_tbc", "without a gradient"],
)
def test_an_operation_without_a_rule_is_named_and_taints_what_is_behind_it(run: Any) -> None:
    torch.manual_seed(4)
    behind, beside = leaf(3), leaf(3)
    with gw.watch(names={"behind": behind, "beside": beside}, rerun=False) as witness:
        weighted(run(behind.exp())).backward()
        weighted(beside.exp()).backward()
    report = witness.report
    rows = {row.name: row for row in report.rows}
    assert rows["beside"].verdict is gw.Verdict.AGREES
    assert rows["behind"].verdict is gw.Verdict.INCONCLUSIVE
    assert rows["behind"].inherited
    assert "no rule for aten." in rows["behind"].reason
    assert report.wrong == ()
    (calls, nodes, gradients) = (
        report.coverage()[sort] for sort in ("forward calls", "backward nodes", "gradients")
    )
    assert calls.total - calls.judged == 1
    assert nodes.total - nodes.judged == (1 if "conv_tbc" in rows["behind"].reason else 0)
    assert (gradients.judged, gradients.total) == (1, 2)
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert report.verdict.exit_code == 3
    with pytest.raises(gw.GradientDisagreement, match=r"(?s)^INCONCLUSIVE.*no rule for aten\."):
        witness.require()
