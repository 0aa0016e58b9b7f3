"""Wrong gradients through complex numbers and Fourier transforms, as people write them by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LENGTH = 8


class _Function(torch.autograd.Function):
    """A function with a weight: ``wrong`` makes its gradients, all but one of them right."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(ctx.wrong(grads[0], *ctx.saved_tensors))


class Product(_Function):
    """A product of a spectrum with complex weights."""

    @staticmethod
    def forward(ctx: Any, wrong: Any, x: Tensor, w: Tensor) -> Any:
        ctx.save_for_backward(x, w)
        ctx.wrong = lambda g, x, w: (None, *wrong(g, x, w))
        return torch.fft.irfft(torch.fft.rfft(x) * w, n=LENGTH)


class Forward(_Function):
    """The magnitudes of a transform of weighted numbers."""

    @staticmethod
    def forward(ctx: Any, wrong: Any, x: Tensor, w: Tensor) -> Any:
        ctx.save_for_backward(x, w)
        ctx.wrong = lambda g, x, w: (None, *wrong(g, x, w))
        return torch.fft.fft(x * w)


def _through(g: Tensor) -> Any:
    """The adjoint of irfft."""
    spectrum = torch.fft.rfft(g) / LENGTH
    spectrum[..., 1 : LENGTH // 2] *= 2
    return spectrum


def _back(g: Tensor) -> Any:
    """The adjoint of rfft."""
    missing = LENGTH - g.shape[-1]
    return torch.fft.fft(nn.functional.pad(g.conj(), (0, missing))).real


def right(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    arriving = _through(g)
    return _back(arriving * w.conj()), (arriving * torch.fft.rfft(x).conj()).sum(0)


def no_conjugate_of_the_weight(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return _back(_through(g) * w), right(g, x, w)[1]


def no_conjugate_of_the_spectrum(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return right(g, x, w)[0], (_through(g) * torch.fft.rfft(x)).sum(0)


def no_scale(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return right(g, x, w)[0], LENGTH * right(g, x, w)[1]


def frequencies_not_doubled(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    half = torch.fft.rfft(g) / LENGTH
    return right(g, x, w)[0], (half * torch.fft.rfft(x).conj()).sum(0)


def inverse_instead_of_adjoint(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return torch.fft.irfft(_through(g) * w.conj(), n=LENGTH), right(g, x, w)[1]


def right_forward(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    back = torch.fft.ifft(g, norm="forward")
    return (back * w).real, (back * x).real.sum(0)


def wrong_norm(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    back = torch.fft.ifft(g, norm="ortho")
    return (back * w).real, (back * x).real.sum(0)


def wrong_direction(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    back = torch.fft.fft(g)
    return (back * w).real, (back * x).real.sum(0)


class Filter(nn.Module):
    def __init__(self, function: Any, wrong: Callable[..., Any]) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(LENGTH, LENGTH), nn.Linear(LENGTH, 1)
        weight = torch.randn(LENGTH)
        if function is Product:
            weight = torch.randn(LENGTH // 2 + 1, dtype=torch.cfloat)
        self.weight = nn.Parameter(weight)
        self.function, self.wrong = function, wrong

    def forward(self, x: Tensor) -> Any:
        y = self.function.apply(self.wrong, self.before(x), self.weight)
        y = y if y.is_floating_point() else y.abs()
        return self.after(torch.tanh(y))


def report(function: Any, wrong: Callable[..., Any], seed: int = 0) -> gradwitness.Report:
    torch.manual_seed(seed)
    model, x = Filter(function, wrong), torch.randn(3, LENGTH)
    with gradwitness.watch(model) as witness:
        torch.autograd.backward(model(x).square().mean())
    return witness.report


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("function", "wrong", "guilty"),
    [
        (Product, no_conjugate_of_the_weight, set()),
        (Product, no_conjugate_of_the_spectrum, {"weight"}),
        (Product, no_scale, {"weight"}),
        (Product, frequencies_not_doubled, {"weight"}),
        (Product, inverse_instead_of_adjoint, set()),
        (Forward, wrong_norm, {"weight"}),
        (Forward, wrong_direction, {"weight"}),
    ],
)
def test_is_found_at_its_node_and_nowhere_else(
    function: Any, wrong: Any, guilty: set[str], seed: int
) -> None:
    judged = report(function, wrong, seed)
    assert judged.verdict is Verdict.DISAGREES
    assert {f.title.split("Backward")[0] for f in judged.wrong} == {function.__name__}
    rows = {row.name: row for row in judged.rows if row.verdict is Verdict.DISAGREES}
    assert {name for name, row in rows.items() if not row.inherited} == guilty
    behind = {"before.weight", "before.bias"}
    assert rows.keys() <= behind | {"weight"}
    if not guilty:
        assert rows.keys() == behind


@pytest.mark.parametrize(("function", "backward"), [(Product, right), (Forward, right_forward)])
def test_the_same_function_without_the_fault_agrees(function: Any, backward: Any) -> None:
    judged = report(function, backward)
    assert dict(judged.reasons()) == {}
    assert judged.verdict is Verdict.AGREES
