"""Gradients computed in other ways, or in other threads: judged, or in doubt with a reason."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import gradwitness as gw
from capture.functions import apply

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.linspace(-1, 1, 32).reshape(4, 8)
INSIDE = "a float32 tensor without its own memory (sparse, or inside torch.func)"
ELSEWHERE = "its forward ran elsewhere"
CHANGED = "its .grad was changed outside of what was recorded"


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def called_with_own_parameters(model: Any) -> None:
    functional_call(model, dict(model.named_parameters()), (X,)).sum().backward()


def mapped(model: Any) -> None:
    vmap(model)(X).sum().backward()


def mapped_aside(model: Any) -> None:
    vmap(torch.sin)(X)
    model(X).sum().backward()


def checkpointed(model: Any) -> None:
    begin: Any = checkpoint(lambda x: model[1](model[0](x)), X, use_reentrant=False)
    model[2](begin).sum().backward()


def checkpointed_reentrantly(model: Any) -> None:
    x = X.clone().requires_grad_()
    model[2](checkpoint(lambda x: model[1](model[0](x)), x, use_reentrant=True)).sum().backward()


def penalised(model: Any) -> None:
    x = X.clone().requires_grad_()
    slope: Any = torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]
    slope.square().sum().backward()


def loaded(model: Any) -> None:
    for (batch,) in DataLoader(TensorDataset(X), batch_size=2):
        model(batch).sum().backward()


def offloaded(model: Any) -> None:
    with torch.autograd.graph.save_on_cpu():
        model(X).sum().backward()


def jacobian_first(model: Any) -> None:
    jacobian: Any = torch.autograd.functional.jacobian
    jacobian(lambda x: model(x).sum(), X)
    model(X).sum().backward()


OTHER = network()


class Deeper(torch.autograd.Function):
    """The sine. Its backward is a pass within the pass, and so on; torch sums in the last."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, levels: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        if not ctx.levels:
            return (g * x.cos() / 2).expand(2, *x.shape), None
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = apply(Deeper, x.exp().log(), ctx.levels - 1).exp().log()
        return torch.autograd.grad(y, x, g)[0], None


def other_thread_trains_another(model: Any) -> None:
    in_thread(lambda: OTHER(X).sum().backward())
    model(X).sum().backward()


@pytest.mark.parametrize(
    "run",
    [
        called_with_own_parameters,
        mapped,
        mapped_aside,
        checkpointed,
        checkpointed_reentrantly,
        penalised,
        loaded,
        offloaded,
        jacobian_first,
        other_thread_trains_another,
    ],
)
def test_what_is_seen_is_judged(run: Any) -> None:
    model = network()
    with gw.watch(model) as witness:
        run(model)
    assert witness.verdict is gw.Verdict.AGREES
    received = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {row.name for row in witness.report.rows} >= received
    assert witness.report.notes == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("script", [True, False])
def test_scripted_models_are_judged(script: bool) -> None:
    model = network()
    jit: Any = torch.jit
    fast = jit.script(model) if script else jit.trace(model, X)
    with gw.watch(model) as witness:
        fast(X).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES


def assigned_from_a_transform(model: Any) -> None:
    parameters = dict(model.named_parameters())
    gradients = grad(lambda p: functional_call(model, p, (X,)).sum())(parameters)
    for name, p in parameters.items():
        p.grad = gradients[name].detach()


def adapted(model: Any) -> None:
    """Take one step by a transform, and differentiate through it."""
    parameters = dict(model.named_parameters())
    gradients = grad(lambda p: functional_call(model, p, (X,)).sum())(parameters)
    stepped = {name: p - 0.1 * gradients[name] for name, p in parameters.items()}
    functional_call(model, stepped, (X,)).sum().backward()


def pulled_back(model: Any) -> None:
    vjp(lambda x: model(x).sum(), X)[1](torch.ones(()))


def transform_in_the_loss(model: Any) -> None:
    jacrev(lambda x: model(x).sum())(X).square().sum().backward()


def forward_mode_in_the_loss(model: Any) -> None:
    jvp(lambda x: model(x).sum(), (X,), (torch.ones_like(X),))[1].backward()


def backward_in_a_thread(model: Any) -> None:
    loss = model(X).sum()
    in_thread(loss.backward)


def all_in_a_thread(model: Any) -> None:
    in_thread(lambda: model(X).sum().backward())


def forward_in_a_thread(model: Any) -> None:
    results: list[Any] = []
    in_thread(lambda: results.append(model(X).sum()))
    results[0].backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (assigned_from_a_transform, INSIDE),
        (adapted, INSIDE),
        (pulled_back, ELSEWHERE),
        (transform_in_the_loss, INSIDE),
        (forward_mode_in_the_loss, ELSEWHERE),
        (backward_in_a_thread, CHANGED),
        (all_in_a_thread, CHANGED),
        (forward_in_a_thread, ELSEWHERE),
    ],
)
def test_what_is_not_seen_is_in_doubt_with_a_reason(run: Any, reason: str) -> None:
    model = network()
    with gw.watch(model) as witness:
        run(model)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert not witness.report.wrong
    assert any(reason in said for said in witness.report.reasons())


def watched(names: Any, run: Callable[[], object]) -> Any:
    """Watch a program in a new thread, which numbers its nodes from 0."""
    witnesses = []

    def watch() -> None:
        with gw.watch(names=names) as witness:
            run()
        witnesses.append(witness)

    in_thread(watch)
    return witnesses[0]


def test_passes_that_torch_runs_on_another_thread_are_judged() -> None:
    # It does so from the 60th on; the nodes that are made there are numbered from 0, too.
    x = torch.tensor([0.3, 0.7, 1.1], requires_grad=True)
    scale = torch.tensor([1.0, 2.0, 3.0])
    witness = watched({"x": x}, lambda: apply(Deeper, x, 64).backward(scale))
    # The sine's derivative, times what arrives.
    torch.testing.assert_close(x.grad, torch.tensor([0.955336, 1.529684, 1.360788]))
    assert witness.verdict is gw.Verdict.AGREES
    assert [note.kind for note in witness.report.notes] == ["gradient of another shape"]


def test_a_forward_in_a_thread_is_not_taken_for_one_that_was_recorded() -> None:
    x = torch.tensor([0.3, 0.7, 1.1], requires_grad=True)
    results: list[Any] = []

    def scaled_sine(factor: float) -> None:
        results.append((x * factor).sin())

    def both() -> None:
        scaled_sine(2.0)
        (results[0].sum() + results[1].sum()).backward()

    in_thread(lambda: scaled_sine(3.0))
    witness = watched({"x": x}, both)
    # 3 cos(3 x) + 2 cos(2 x)
    torch.testing.assert_close(x.grad, torch.tensor([3.515501, -1.174604, -4.139442]))
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert any(ELSEWHERE in said for said in witness.report.reasons())
