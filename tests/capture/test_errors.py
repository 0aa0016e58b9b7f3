"""What torch raises in the block reads as it does without a witness."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable

import gradwitness as gw
from capture.functions import apply

if TYPE_CHECKING:
    from collections.abc import Callable


def ones(*shape: int) -> Any:
    return torch.ones(*shape, requires_grad=True)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * g


def changed_in_place() -> None:
    y = ones(3).exp()
    y.add_(1)
    y.sum().backward()


def changed_in_part() -> None:
    y = ones(2, 4) * 1
    y[0].exp_()
    y.add_(1)
    y.sum().backward()


def changed_behind_a_view() -> None:
    y = ones(2, 4) * 1
    view = y.view(-1)
    view.exp_()
    y.detach().add_(1)
    (y.sum() + view.sum()).backward()


def freed() -> None:
    y = apply(Square, ones(3)).sin().sum()
    y.backward()
    y.backward()


def of_wrong_shape() -> None:
    (ones(3, 4) @ ones(3, 4)).sum().backward()


def seeded_with_another_shape() -> None:
    (ones(3) * 2).backward(torch.ones(4))


def not_a_scalar() -> None:
    (ones(3) * 2).backward()


def without_a_gradient() -> None:
    ones(3).detach().sum().backward()


def unused() -> None:
    x = ones(3)
    torch.autograd.grad(x.sum(), [x, ones(2)])


def view_made_without_grad() -> None:
    y = ones(3) * 2
    with torch.no_grad():
        view = y[:2]
    view.mul_(2)


def one_of_several_views() -> None:
    (ones(4) * 2).split(2)[0].mul_(2)


def leaf_in_place() -> None:
    ones(3).add_(1)


def part_of_a_leaf_in_place() -> None:
    ones(3)[0] = 1


def differentiated_twice() -> None:
    x = ones(3)
    torch.autograd.grad(apply(Square, x).sum(), x, create_graph=True)[0].sum().backward()


def of_another_dtype() -> None:
    nn.Linear(3, 2)(torch.ones(2, 3, dtype=torch.float64))


def anomalous() -> None:
    with pytest.warns(UserWarning, match="Error detected"), torch.autograd.detect_anomaly():
        ((ones(3) - 1).sqrt() * 0).sum().backward()


def hook_changes_the_shape() -> None:
    y = ones(3) * 2
    y.register_hook(lambda g: g[:2])
    y.sum().backward()


def said(run: Callable[[], None], around: Any) -> str:
    with pytest.raises(Exception, match=r".") as raised, around:
        run()
    return f"{raised.type.__name__}: {raised.value}"


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("keep", [None, 0])
@pytest.mark.parametrize(
    "run",
    [
        changed_in_place,
        changed_in_part,
        changed_behind_a_view,
        freed,
        of_wrong_shape,
        seeded_with_another_shape,
        not_a_scalar,
        without_a_gradient,
        unused,
        view_made_without_grad,
        one_of_several_views,
        leaf_in_place,
        part_of_a_leaf_in_place,
        differentiated_twice,
        of_another_dtype,
        anomalous,
        hook_changes_the_shape,
    ],
)
def test_errors_read_as_without_a_witness(run: Any, keep: int | None) -> None:
    assert said(run, gw.watch(keep=keep)) == said(run, contextlib.nullcontext())


def test_hooks_on_a_changed_view_are_seen_after_the_program_has_dropped_it() -> None:
    x = ones(4)
    with gw.watch(names={"x": x}) as witness:
        y = x * 2
        part = y[:2]
        part.exp_()
        part.register_hook(lambda g: 3 * g)
        result = (part * 5).sum()
        del part
        result.backward()
    assert [note.kind for note in witness.report.notes] == ["gradient changed by a hook"]
    assert x.grad is not None
    # 3 times what is right: 5 exp(2) 2.
    torch.testing.assert_close(x.grad[0].item(), 3 * 73.890561)
