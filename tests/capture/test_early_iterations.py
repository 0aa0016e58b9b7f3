"""Iterations that stop early: their slopes are those of the limit only to some extent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.implicit import Root
from gradwitness import Verdict

if TYPE_CHECKING:
    from pathlib import Path


class HalfSteps(Root):
    """z with z^3 + z = x by half steps until they are short: each leaves half of the error."""

    short = 0.0
    wrong: Any = (0, 0.0)

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z, moved = torch.zeros_like(x), 1.0
        while moved > HalfSteps.short:
            step = 0.5 * (z**3 + z - x) / (3 * z * z + 1)
            z, moved = z - step, float(step.abs().max())
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (z,) = ctx.saved_tensors
        element, share = HalfSteps.wrong
        return (
            grads[0] / (3 * z * z + 1) * torch.where(torch.arange(len(z)) == element, 1 + share, 1)
        )


@pytest.mark.parametrize("element", [0, 500, 999])
@pytest.mark.parametrize("short", [1e-4, 1e-5, 1e-9])
def test_one_wrong_element_in_a_thousand_does_not_pass(
    short: float, element: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HalfSteps, "short", short)
    torch.manual_seed(0)
    g = torch.randn(1000, dtype=torch.float64).sign()
    for share in (-1.0, -2.0):
        monkeypatch.setattr(HalfSteps, "wrong", (element, share))
        x = torch.linspace(-0.5, 0.5, 1000, dtype=torch.float64).requires_grad_()
        with gw.watch(rerun=True) as witness:
            apply(HalfSteps, x).backward(g)
        assert witness.verdict is not Verdict.AGREES
    if short == 1e-9:
        monkeypatch.setattr(HalfSteps, "wrong", (element, 0.0))
        with gw.watch(rerun=True) as witness:
            apply(HalfSteps, x).backward(g)
        assert witness.verdict is Verdict.AGREES


class EightSteps(HalfSteps):
    """Eight of them."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z = torch.zeros_like(x)
        for _ in range(8):
            z = z - 0.5 * (z**3 + z - x) / (3 * z * z + 1)
        ctx.save_for_backward(z)
        return z


def test_no_digits_are_lost_where_the_record_is_no_reference(tmp_path: Path) -> None:
    # Half steps leave the derivative of z a share of 2^-8 away from that of the root.
    x = torch.linspace(-0.5, 0.5, 10, dtype=torch.float64).requires_grad_()
    with gw.watch() as witness:
        apply(EightSteps, x).backward(torch.ones(10, dtype=torch.float64))
    witness.save(tmp_path / "tape.npz")
    report = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert all(row.digits < 4 for row in report.rows)
    assert not any(note.kind == "digits lost" for note in report.notes)


class Conjugate(Function):
    """The solution of A y = b for a symmetric A, by conjugate gradients."""

    factor = 1.0

    @staticmethod
    def solved(a: Any, b: Any) -> Any:
        y, r = torch.zeros_like(b), b
        p, size = r, r @ r
        for _ in range(6):
            step = size / (p @ a @ p)
            y, r = y + step * p, r - step * (a @ p)
            before, size = size, r @ r
            p = r + size / before * p
        return y

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        y = Conjugate.solved(a, b)
        ctx.save_for_backward(a, y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, y = ctx.saved_tensors
        v = Conjugate.solved(a, grads[0])
        of_a = -torch.outer(v, y)
        return Conjugate.factor * (of_a + of_a.mT) / 2, v


@pytest.mark.parametrize("factor", [1.1, 1.5])
def test_what_only_a_wide_bound_allows_is_not_called_right(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six steps in float32 bound the derivative of the record to half of its largest number.
    monkeypatch.setattr(Conjugate, "factor", factor)
    torch.manual_seed(0)
    b = torch.randn(10, 10)
    a = (b @ b.mT / 10 + 0.3 * torch.eye(10)).requires_grad_()
    with gw.watch(rerun=True) as witness:
        (apply(Conjugate, a, torch.randn(10)) * torch.arange(10.0)).sum().backward()
    assert witness.verdict is not Verdict.AGREES
    assert "right along symmetric directions" not in str(witness)


class OfTwo(Function):
    """z with z^3 + z = a + b, by bisections."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        low, step = torch.full_like(a, -2.0), 4.0
        for _ in range(60):
            step /= 2
            middle = low + step
            low = torch.where(middle**3 + middle < a + b, middle, low)
        ctx.save_for_backward(low)
        return low

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (z,) = ctx.saved_tensors
        return (grads[0] / (3 * z * z + 1),) * 2


@pytest.mark.parametrize("rerun", [(), False])
def test_one_tensor_for_two_arguments_is_one_question(rerun: Any) -> None:
    x = torch.linspace(-0.5, 0.5, 5, dtype=torch.float64).requires_grad_()
    with gw.watch(rerun=rerun) as witness:
        apply(OfTwo, x, x).backward(torch.tensor([0.3, -0.7, 0.2, 0.9, -0.4]))
    (row,) = witness.report.rows
    right = Verdict.INCONCLUSIVE if rerun is False else Verdict.AGREES
    assert (witness.verdict, row.verdict) == (right, right)
