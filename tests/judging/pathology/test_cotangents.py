"""Backwards that autograd tolerates: they overwrite their cotangent, or return another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from judging.pathology.watching import at, kinds, leaf, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


class InPlace(torch.autograd.Function):
    """2 x, whose backward doubles the gradient in place."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 2  # here

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0].mul_(2)


class Wide(torch.autograd.Function):
    """x + b over rows, whose backward leaves it to autograd to sum the rows for b."""

    @staticmethod
    def forward(ctx: Any, x: Any, b: Any) -> Any:  # noqa: ARG004
        return x + b  # here

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0], grads[0]


def in_place(x: Any) -> Any:
    apply: Any = InPlace.apply
    return (apply(x) * WEIGHTS).sum()


def wide(x: Any) -> Any:
    apply: Any = Wide.apply
    return (apply(torch.ones(4, 3), x) * WEIGHTS).sum()


@pytest.mark.parametrize(
    ("function", "kind", "where"),
    [
        (in_place, "gradient changed in place", InPlace),
        (wide, "gradient of another shape", Wide),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_noted_once_though_the_numbers_are_right(
    function: Callable[[Any], Any], kind: str, where: Any, steps: int, snapshot: SnapshotAssertion
) -> None:
    x = leaf(1, 2, 3)
    with gw.watch(names={"x": x}) as witness:
        for _ in range(steps):
            x.grad = None
            function(x).backward()
    (note,) = witness.report.notes
    assert note.kind == kind
    assert note.text == snapshot
    assert at(note, where.forward, "# here")


def test_a_backward_as_it_should_be() -> None:
    class Right(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, b: Any) -> Any:  # noqa: ARG004
            return x * 2 + b

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return grads[0] * 2, grads[0].sum(0)

    x, b = torch.ones(4, 3).requires_grad_(), leaf(1, 2, 3)
    with gw.watch() as witness:
        apply: Any = Right.apply
        (apply(x, b) * WEIGHTS).sum().backward()
    assert kinds(witness.report.notes) == []


def test_broadcasting_of_torchs_own_operations_is_no_fault() -> None:
    x = leaf(1, 2, 3)
    with gw.watch() as witness:
        ((torch.ones(4, 3) + x) * WEIGHTS).sum().backward()
        x.grad.mul_(0.5)
    assert witness.report.notes == ()


class ThroughNumpy(torch.autograd.Function):
    """3 x, whose backward works in the memory of its cotangent, or in new memory."""

    beside = False

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return 3 * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        numbers = grads[0].numpy()
        out = np.empty_like(numbers) if ThroughNumpy.beside else numbers
        return torch.from_numpy(np.multiply(numbers, 3, out))


@pytest.mark.parametrize("shape", [(4, 3), ()])
@pytest.mark.parametrize("beside", [False, True])
def test_a_write_through_numpy_is_told(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], *, beside: bool
) -> None:
    monkeypatch.setattr(ThroughNumpy, "beside", beside)
    x = torch.randn(shape).requires_grad_()
    function: Any = ThroughNumpy.apply
    notes = notes_of(lambda x: (function(x.sin()) * 2).sum(), x)
    assert kinds(notes) == ([] if beside else ["gradient changed in place"])
