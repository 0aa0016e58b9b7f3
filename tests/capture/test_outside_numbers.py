"""Tensors without numbers of their own, or with numbers that no call made: nothing may break."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def batched_backward(model: nn.Module) -> Any:
    return torch.autograd.functional.jacobian(model, X[:1], vectorize=True)  # type: ignore[no-untyped-call]


def transformed(model: nn.Module) -> Any:
    return torch.func.grad(lambda x: model(x).sum())(X)


def forward_mode(model: nn.Module) -> Any:
    return torch.func.jvp(model, (X,), (X,))[1]


def dual_numbers(model: nn.Module) -> Any:
    with forward_ad.dual_level():
        x: Any = forward_ad.make_dual(X, X)  # type: ignore[no-untyped-call]
        return forward_ad.unpack_dual(model(x)).tangent  # type: ignore[no-untyped-call]


def exported(model: nn.Module) -> Any:
    return torch.export.export(model, (X,)).module()(X)


@pytest.mark.parametrize(
    "run", [batched_backward, transformed, forward_mode, dual_numbers, exported]
)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_what_has_no_numbers_does_not_stop_the_program(
    run: Callable[[Any], Any], named: bool
) -> None:
    model = network()
    alone = run(model)
    with gw.watch(*[model] * named) as witness:
        watched = run(model)
    assert torch.equal(alone, watched)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert witness.report.wrong == ()


def test_batches_of_worker_processes_are_data() -> None:
    model = network()
    batches = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(X, Y), batch_size=4, num_workers=1
    )
    with gw.watch(model) as witness:
        for x, y in batches:
            (model(x) - y).square().mean().backward()
    assert witness.verdict is gw.Verdict.AGREES


def test_a_tensor_that_took_over_a_storage_is_another_value() -> None:
    x: Any = torch.tensor([])
    w: Any = torch.ones(3).requires_grad_()
    with gw.watch() as witness:
        (w * 2).sum().backward()
        x.set_(torch.arange(3.0).untyped_storage(), 0, (3,))
        (w * x).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES
    (call,) = (c for c in witness.tape.calls if c.op == "aten.mul.Tensor" and c.id > 2)
    read = witness.tape.values[call.arguments["other"].value].array  # type: ignore[union-attr]
    np.testing.assert_array_equal(read, [0, 1, 2])


def test_statistics_that_training_left_are_replayed_in_evaluation() -> None:
    # Batch norm writes its running statistics though its schema does not say so.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    with gw.watch(model) as witness:
        for training in (True, False):
            model.train(training)
            model.zero_grad()
            (model(X) - Y).square().mean().backward()
    assert min(row.digits for row in witness.report.rows if row.sweep == 1) > 5
    assert [note.kind for note in witness.report.notes] == []


def test_the_right_numbers_of_an_earlier_value_stay() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6)
    with gw.watch(norm) as witness:
        for _ in range(3):
            norm(X).square().mean().backward()
    replayed = gw.replay(witness.tape)
    kept = [c.arguments["running_mean"].value for c in witness.tape.calls if "batch" in c.op]  # type: ignore[union-attr]
    for before, after in itertools.pairwise(kept):
        assert not np.array_equal(replayed.values[before], replayed.values[after])
        np.testing.assert_array_equal(replayed.values[before], witness.tape.values[before].array)
