"""A gradient's row: what the last step that computes said, in the gradient's own coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


def copied(w: Tensor) -> Tensor:
    b = torch.zeros(32, 32)
    b.t().copy_(w)
    return b


def turned(w: Tensor) -> Tensor:
    return (w * 1.7).t_()


MOVED: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda w: w,
    "transposed": lambda w: w.t(),
    "permuted": lambda w: w.view(4, 8, 32).permute(2, 1, 0).reshape(32, 32),
    "copied": lambda w: w.t().contiguous(),
    "rows": lambda w: w[3:20],
    "steps": lambda w: w[2::3].t()[1:],
    "one row": lambda w: w[7].expand(32, 32),
    "a diagonal": lambda w: w.diagonal()[:, None],
    "a window": lambda w: torch.as_strided(w, (8, 16), (64, 2), 5),
    "written over": copied,
    "turned in place": turned,
}


def judged(moved: Callable[[Tensor], Tensor]) -> tuple[gw.Witness, Tensor]:
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(32, 32))
    with gw.watch(names={"w": w}) as witness:
        y = moved(w)
        torch.autograd.backward((y * torch.randn(y.shape)).tanh().sum())
    assert w.grad is not None
    return witness, w.grad


@pytest.mark.parametrize("name", MOVED)
def test_the_worst_number_is_the_gradients_at_its_index(name: str, tmp_path: Path) -> None:
    witness, grad = judged(MOVED[name])
    witness.save(tmp_path / "tape.npz")
    # Arrays that are read from a file share no memory.
    for report in (witness.report, gw.judge(gw.load_tape(tmp_path / "tape.npz"))):
        (row,) = report.rows
        assert row.verdict is gw.Verdict.AGREES
        index = row.comparison.index
        assert index is not None or name == "written over"
        if index is not None:
            assert grad[index].item() == row.comparison.recorded


def test_where_the_worst_number_lies_is_left_out_if_it_is_not_the_gradients() -> None:
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(32, 32, dtype=torch.complex64))
    with gw.watch(names={"w": w}) as witness:
        # Its gradient is the conjugate of what the product sends, which lies elsewhere.
        torch.autograd.backward((w.mH @ torch.randn_like(w)).abs().sum())
    assert witness.report.rows[0].comparison.index is None


@pytest.mark.parametrize("scales", [(1.0, 1e6), (1e6, 1.0)])
def test_the_part_of_which_least_is_known_speaks_for_all(scales: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    w, x = nn.Parameter(torch.randn(64, 30)), torch.randn(50, 30)
    with gw.watch(names={"w": w}) as witness:
        parts = [(x @ part.t()).tanh().sum() for part in w.chunk(2)]
        torch.autograd.backward(scales[0] * parts[0] + scales[1] * parts[1])
    comparison = witness.report.rows[0].comparison
    sent = [f for f in witness.report.findings if f.step is gw.Step.BACKWARD]
    products = [f.comparison for f in sent if f.title.startswith("MmBackward")]
    assert len(products) == 2
    assert comparison.detects == max(c.detects for c in products)
    assert w.grad is not None
    assert comparison.index is not None
    assert w.grad[comparison.index].item() == comparison.recorded
    assert comparison.size == w.grad.numel()
