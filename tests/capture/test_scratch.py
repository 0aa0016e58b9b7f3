"""Functions that write to memory piece by piece, and to memory that they were given."""

# Torch prescribes the parameters.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class Written(Function):
    """Scratch memory with one row replaced, unseen by torch: sends back more than its part."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, scratch: Any, row: Any, index: int) -> Any:
        ctx.index = index
        scratch.data[index] = row
        return scratch

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        # The part of the row belongs to no earlier memory: but nobody asks for that.
        return grads[0], Written.factor * grads[0][ctx.index], None


def solved(w: Any, y: Any) -> Any:
    """Solve y' = tanh(W y), by steps that are written into one memory."""
    rows = torch.empty(5, len(y), dtype=y.dtype)
    for index in range(5):
        y = y + 0.1 * torch.tanh(w @ y)
        rows = apply(Written, rows, y, index)
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_solver_with_scratch_memory_agrees_with_a_note(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w, y = leaf(3, 3, dtype=dtype), leaf(3, dtype=dtype)
    with gw.watch(names={"w": w, "y": y}) as witness:
        solved(w, y).square().sum().backward()
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()
    (note,) = witness.report.notes
    assert note.kind == "wrong step without effect"
    assert note.source is not None
    assert note.source.line.startswith(__file__)
    # What the user receives is right, by torch's own derivative of the same steps.
    again = [x.detach().requires_grad_() for x in (w, y)]
    rows, z = [], again[1]
    for _ in range(5):
        z = z + 0.1 * torch.tanh(again[0] @ z)
        rows.append(z)
    torch.autograd.backward(torch.stack(rows).square().sum())
    torch.testing.assert_close([w.grad, y.grad], [x.grad for x in again])


def test_a_fault_that_the_leaves_feel_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Written, "factor", 1.02)
    torch.manual_seed(0)
    with gw.watch() as witness:
        solved(leaf(3, 3), leaf(3)).square().sum().backward()
    assert witness.verdict is Verdict.DISAGREES
    assert {f.tensor_nr for f in witness.report.wrong} == {1}


class Shifted(Function):
    """x b, with an error in the gradient of b that is the same for all its elements."""

    @staticmethod
    def forward(ctx: Any, x: Any, b: Any) -> Any:
        ctx.save_for_backward(x, b)
        return x * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, b = ctx.saved_tensors
        return grads[0] * b, grads[0] * x + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        (lambda p: p - p.mean(), Verdict.AGREES),
        (lambda p: p * torch.zeros(4, dtype=p.dtype), Verdict.AGREES),
        (lambda p: p.detach(), Verdict.AGREES),
        (lambda p: p - 0.5 * p.mean(), Verdict.DISAGREES),
        (lambda p: p * torch.tensor([0, 0, 0, 1e-3], dtype=p.dtype), Verdict.DISAGREES),
        (lambda p: p, Verdict.DISAGREES),
    ],
    ids=["cancels", "zeros", "cut", "half", "one", "leaf"],
)
def test_an_error_counts_where_a_gradient_feels_it(
    b: Callable[[Any], Any], verdict: Verdict, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x, p = leaf(4, dtype=dtype), leaf(4, dtype=dtype)
    with gw.watch() as witness:
        (apply(Shifted, x, b(p)).square().sum() + p.sum()).backward()
    assert witness.verdict is verdict
    assert not any(row.inherited and row.digits > 15 for row in witness.report.rows)


class OneWrong(Shifted):
    """x b, with the first element of the gradient of b wrong by half."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, b = ctx.saved_tensors
        half = torch.ones_like(b)
        half[..., 0] = 0.5
        return grads[0] * b, grads[0] * x * half


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_element_that_is_small_beside_the_others_counts_by_itself(dtype: torch.dtype) -> None:
    # p reaches b by factors of 16 roundings and of 1: half of the first gradient is missing.
    x, p = leaf(4, dtype=dtype), leaf(4, dtype=dtype)
    scale = torch.ones(4, dtype=dtype)
    scale[0] = 8 * torch.finfo(dtype).eps
    with gw.watch() as witness:
        apply(OneWrong, x.detach() + 3, p * scale).sum().backward()
    assert witness.verdict is Verdict.DISAGREES
    assert p.grad is not None
    # In exact arithmetic (3 + x) s.
    expected = (x.detach() + 3) * scale
    assert float(p.grad[0]) == pytest.approx(float(expected[0]) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_that_cancel_in_one_element_do_not_excuse_another(dtype: torch.dtype) -> None:
    # The error of b is (1, 1, 1, 1): it cancels in p, but not in the small q.
    torch.manual_seed(0)
    x, p, q = (leaf(4, dtype=dtype) for _ in range(3))
    small = 8 * torch.finfo(dtype).eps
    with gw.watch() as witness:
        b = torch.cat([(p - p.mean())[:3], (p - p.mean())[3:] + small * q[:1]])
        (apply(Shifted, x, b) + p + q).sum().backward()
    assert witness.verdict is Verdict.DISAGREES


class Multiplied(Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.factor * grads[0], None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("second", "verdict"),
    [(0.5, Verdict.AGREES), (0.4, Verdict.DISAGREES), (0.5001, Verdict.DISAGREES)],
)
def test_errors_that_cancel_are_told_in_a_note(
    second: float, verdict: Verdict, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x, w = leaf(4, dtype=dtype), leaf(4, 4, dtype=dtype)
    with gw.watch(names={"x": x, "w": w}) as witness:
        h = apply(Multiplied, x.sin(), 2.0)
        (w.detach() @ apply(Multiplied, h, second)).square().sum().backward()
    assert witness.verdict is verdict
    kinds = [note.kind for note in witness.report.notes]
    assert kinds == ["wrong step without effect"] * (verdict is Verdict.AGREES)


def halves(x: Any) -> Any:
    y = torch.empty_like(x)
    y[:2] = x[:2].sin()
    y[2:] = x[2:] * x[:2]
    return y


def halves_back(x: Any, g: Any) -> Any:
    return torch.cat([g[:2] * x[:2].cos() + g[2:] * x[2:], g[2:] * x[:2]])


def overwritten(x: Any) -> Any:
    y = x * 2
    y[1] = y[0] * y[1]
    y[1:3].mul_(y[2:].clone())
    return y


def overwritten_back(x: Any, g: Any) -> Any:
    # y = (2 x0, 8 x0 x1 x2, 4 x2 x3, 2 x3)
    a, b, c, d = x
    return torch.stack(
        [
            2 * g[0] + 8 * b * c * g[1],
            8 * a * c * g[1],
            8 * a * b * g[1] + 4 * d * g[2],
            4 * c * g[2] + 2 * g[3],
        ]
    )


def cumulated(x: Any) -> Any:
    y = torch.zeros(5, *x.shape[1:], dtype=x.dtype)
    for k in range(4):
        y[k + 1] = y[k] + x[k]
        y[k] *= 3
    return y


def cumulated_back(x: Any, g: Any) -> Any:
    # Row k is 3 times the sum of the first k; the last one is not multiplied.
    g = torch.cat([3 * g[:4], g[4:]])
    return g.flip(0).cumsum(0).flip(0)[1:]


def spread(x: Any) -> Any:
    y = torch.zeros(4, 3, dtype=x.dtype)
    y.copy_(x[:, None].expand(4, 3))
    y.t()[1] = x.exp()
    return y


def spread_back(x: Any, g: Any) -> Any:
    return g[:, 0] + g[:, 2] + g[:, 1] * x.exp()


PIECES: dict[Any, Any] = {
    halves: halves_back,
    overwritten: overwritten_back,
    cumulated: cumulated_back,
    spread: spread_back,
}


def in_pieces(forward: Callable[[Any], Any], factor: float) -> Any:
    class InPieces(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            g = PIECES[forward](*ctx.saved_tensors, grads[0])
            return torch.cat([g[:2], factor * g[2:]])

    return InPieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.AGREES), (1.001, Verdict.DISAGREES)])
@pytest.mark.parametrize("forward", PIECES)
def test_what_is_written_in_pieces_is_judged_by_the_rules(
    forward: Any, factor: float, verdict: Verdict, dtype: torch.dtype
) -> None:
    torch.manual_seed(4)
    x = leaf(4, dtype=dtype)
    with gw.watch(rerun=False) as witness:
        y = apply(in_pieces(forward, factor), x)
        y.backward(torch.randn(y.shape, dtype=dtype))
    assert witness.verdict is verdict, witness.report.reasons()
    grades = {f.grade for f in witness.report.findings if f.grade}
    assert all(grade.startswith("normwise") for grade in grades)


class Windows(Function):
    """Sums of x^2 over windows that overlap, read from memory that was written in two pieces."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        y = torch.zeros_like(x)
        y[:3], y[3:] = x[:3].square(), x[3:].square()
        return y.unfold(0, 3, 1).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        counted = torch.zeros_like(x)
        for k in range(3):
            counted[k : k + len(grads[0])] += grads[0]
        return Windows.factor * 2 * x * counted


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.AGREES), (1.02, Verdict.DISAGREES)])
def test_windows_that_overlap_are_measured(
    factor: float, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Windows, "factor", factor)
    torch.manual_seed(0)
    with gw.watch() as witness:
        apply(Windows, leaf(6)).square().sum().backward()
    assert witness.verdict is verdict
    (step,) = (f for f in witness.report.findings if f.title.endswith("(input 0)"))
    assert "whose elements overlap" in step.grade


@pytest.mark.parametrize("factor", [1.0, 1.02])
def test_a_long_solver_with_scratch_memory_is_judged_as_a_short_one(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Written, "factor", factor)
    torch.manual_seed(0)
    x = leaf(3, dtype=torch.float64)
    rows = torch.zeros(100, 3, dtype=x.dtype)
    with gw.watch(names={"x": x}) as witness:
        for index in range(100):
            rows = apply(Written, rows, x * index, index)
        loss: Any = rows.square().sum()
        loss.backward()
    # d/dx sum_i (i x)^2 = 2 x sum_i i^2, and sum_i i^2 = 99 * 100 * 199 / 6.
    right = 2 * x.detach() * (99 * 100 * 199 / 6)
    torch.testing.assert_close(x.grad, factor * right)
    assert witness.verdict is (Verdict.AGREES if factor == 1 else Verdict.DISAGREES)
