"""Other threads that run backward through the parameters of a watched pass, while it runs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.functions import apply
from gradwitness.capture.passes.engine_run import EngineRun

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.linspace(-1, 1, 32).reshape(4, 8)
SHARED = "another backward pass that was not recorded, such as another thread's, reached it"
# Long enough for any machine; no test waits for it to pass.
LONG = 20


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(LONG)


def loss(model: Any) -> Any:
    # Each parameter of the first layer gets a sum of two gradients.
    return model(model[0](X)).sum()


def gradients(model: Any) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters()]


def between_two_leaves(model: Any, work: Callable[[], object]) -> None:
    """Run a pass, and some work when the gradient of the hidden layer arrives."""
    hidden = model[0](model[0](X))
    hidden.register_hook(lambda _: in_thread(work))
    model[2](model[1](hidden)).sum().backward()


def within_a_leaf(model: Any, work: Callable[[], object]) -> None:
    """Run a pass, and some work just after it has added to a leaf."""
    node = torch.autograd.graph.get_gradient_edge(model[0].weight).node
    here = threading.get_ident()

    def hook(*_: Any) -> None:
        if threading.get_ident() == here:
            in_thread(work)

    handle = node.register_hook(hook)
    loss(model).backward()
    handle.remove()


def unwatched(model: Any) -> None:
    loss(model).backward()


def watched(model: Any) -> None:
    with gw.watch(model) as witness:
        loss(model).backward()
    assert witness.verdict is not gw.Verdict.DISAGREES
    assert not witness.tape.failures


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("other", [unwatched, watched])
@pytest.mark.parametrize("run", [between_two_leaves, within_a_leaf])
def test_a_pass_of_another_thread_leaves_shared_leaves_in_doubt(
    run: Any, other: Any, depth: Any
) -> None:
    model, plain = network(), network()
    with gw.watch(model, depth=depth) as witness:
        run(model, lambda: other(model))
    run(plain, lambda: unwatched(plain))
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert not witness.report.wrong
    assert not witness.tape.failures
    assert any(SHARED in said for said in witness.report.reasons())
    # The passes are the same, and neither adds in another order.
    assert all(map(torch.equal, gradients(model), gradients(plain)))


def test_a_recording_that_shared_its_leaves_is_no_more_sure_when_judged_again() -> None:
    model = network()
    with gw.watch(model, keep=None) as witness:
        within_a_leaf(model, lambda: unwatched(model))
    again = gw.judge(witness.tape)
    assert again.verdict is gw.Verdict.INCONCLUSIVE
    assert not again.wrong


def test_a_pass_of_another_thread_may_end_after_the_block() -> None:
    # It has fetched the hooks on the leaf; they run when the pass that put them there is over.
    model = network()
    node = torch.autograd.graph.get_gradient_edge(model[0].weight).node
    here, parked, go_on = threading.get_ident(), threading.Event(), threading.Event()

    def park(_: Any) -> None:
        if threading.get_ident() != here:
            parked.set()
            assert go_on.wait(LONG)

    node.register_prehook(park)
    with ThreadPoolExecutor(1) as pool:
        others: list[Any] = []

        def start(_: Any) -> None:
            others.append(pool.submit(lambda: model[0](X).sum().backward()))
            assert parked.wait(LONG)

        with gw.watch(model) as witness:
            hidden = model[0](X)
            out = model[2](model[1](hidden))
            hidden.register_hook(start)
            out.sum().backward()
        go_on.set()
        assert others[0].result(LONG) is None
    assert not witness.report.wrong
    assert not witness.tape.failures


def test_a_pass_of_another_thread_may_have_reached_the_leaf_before() -> None:
    # It fetched the hooks on the leaf before the watched pass put its own there.
    model = network()
    loss(model).backward()
    node = torch.autograd.graph.get_gradient_edge(model[2].weight).node
    here = threading.get_ident()
    parked, go_on, added, judged = (threading.Event() for _ in range(4))

    def park(_: Any) -> None:
        if threading.get_ident() != here:
            parked.set()
            assert go_on.wait(LONG)

    def between(*_: Any) -> None:
        if threading.get_ident() == here:
            go_on.set()
            assert added.wait(LONG)
        else:
            added.set()
            assert judged.wait(LONG)

    node.register_prehook(park)
    node.register_hook(between)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(model[2].weight.sum().backward)
        assert parked.wait(LONG)

        def finish(_: Any) -> None:
            judged.set()
            other.result(LONG)

        with gw.watch(model) as witness:
            hidden = model[0](X)
            hidden.register_hook(finish)
            model[2](model[1](hidden)).sum().backward()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert not witness.report.wrong


def test_another_pass_waits_while_gradients_are_read() -> None:
    run = EngineRun()
    other = threading.Thread(target=run.shares, args=(3,))
    with run.reading:
        other.start()
        other.join(0.05)
        assert not run.shared
    other.join(LONG)
    assert run.shared == {3}


class Deeper(torch.autograd.Function):
    """The sine. Its backward is a pass within the pass, and so on."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, levels: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        if not ctx.levels:
            return g * x.cos(), None
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = apply(Deeper, x, ctx.levels - 1)
        torch.autograd.backward(y, g)
        return x.grad, None


def test_a_pass_that_torch_itself_runs_on_another_thread_is_no_other() -> None:
    # It does so from the 60th within each other on.
    x = torch.tensor([0.3, 0.7, 1.1], requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        apply(Deeper, x, 64).sum().backward()
    # The cosines of 0.3, 0.7 and 1.1, as the derivative of the sine.
    torch.testing.assert_close(x.grad, torch.tensor([0.9553365, 0.7648422, 0.4535961]))
    assert witness.verdict is gw.Verdict.AGREES


def test_an_engine_called_within_a_pass_is_told_from_it() -> None:
    model = network()
    engine: Any = torch.autograd.Variable._execution_engine.run_backward
    other = loss(model)
    with gw.watch(model) as witness:
        hidden = model[0](X)
        hidden.register_hook(
            lambda _: engine((other,), (torch.ones(()),), False, False, (), True, True)
        )
        model[2](model[1](hidden)).sum().backward()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert not witness.report.wrong
