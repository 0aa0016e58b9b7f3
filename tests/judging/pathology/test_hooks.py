"""Hooks of every kind that change gradients are named; those that do not are ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from judging.pathology.watching import data, kinds, network, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def step(put: Any, steps: int = 1) -> gw.Witness:
    model = network()
    put_before = put.__name__.startswith("module")
    if put_before:
        put(model, None)
    with gw.watch(model) as witness:
        for _ in range(steps):
            model.zero_grad()
            t = torch.tanh(model[0](data()))
            if not put_before:
                put(model, t)
            model[2](t).square().mean().backward()
    return witness


def doubled(g: Any) -> Any:
    return g * 2


def in_place(g: Any) -> None:
    g.mul_(2)


def halved_afterwards(parameter: Any) -> None:
    parameter.grad.mul_(0.5)


def of_node(sent: Any, arrived: Any) -> Any:
    return tuple(None if g is None else g * 2 for g in sent)


def before_node(arrived: Any) -> Any:
    return tuple(g * 2 for g in arrived)


def of_module(module: Any, sent: Any, arrived: Any) -> Any:
    return tuple(None if g is None else g * 2 for g in sent)


def before_module(module: Any, arrived: Any) -> Any:
    return tuple(g * 2 for g in arrived)


def on_a_tensor(model: Any, t: Any) -> None:
    t.register_hook(doubled)


def on_a_tensor_in_place(model: Any, t: Any) -> None:
    t.register_hook(in_place)


def on_a_parameter(model: Any, t: Any) -> None:
    model[0].weight.register_hook(doubled)


def after_accumulation(model: Any, t: Any) -> None:
    model[0].weight.register_post_accumulate_grad_hook(halved_afterwards)


def on_a_node(model: Any, t: Any) -> None:
    t.grad_fn.register_hook(of_node)


def on_a_node_before(model: Any, t: Any) -> None:
    t.grad_fn.register_prehook(before_node)


def module_full(model: Any, t: Any) -> None:
    model[2].register_full_backward_hook(of_module)


def module_before(model: Any, t: Any) -> None:
    model[2].register_full_backward_pre_hook(before_module)


@pytest.mark.parametrize(
    ("put", "hook"),
    [
        (on_a_tensor, doubled),
        (on_a_tensor_in_place, in_place),
        (on_a_parameter, doubled),
        (after_accumulation, halved_afterwards),
        (on_a_node, of_node),
        (on_a_node_before, before_node),
        (module_full, of_module),
        (module_before, before_module),
    ],
)
def test_the_hook_and_its_line_are_named(
    put: Any, hook: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    witness = step(put)
    assert witness.verdict is gw.Verdict.DISAGREES
    assert len(witness.report.wrong) == 1
    (note,) = witness.report.notes
    assert note.kind == "gradient changed by a hook"
    code = hook.__code__
    assert f"{hook.__name__} at {code.co_filename}:{code.co_firstlineno} " in note.text
    assert plain(note.text) == snapshot
    assert note.source is not None
    assert note.source.line == f"{code.co_filename}:{code.co_firstlineno}"


def nothing(*_: object) -> None:
    pass


def nothing_on_a_tensor(model: Any, t: Any) -> None:
    t.register_hook(nothing)


def the_same_on_a_tensor(model: Any, t: Any) -> None:
    t.register_hook(lambda g: g)


def nothing_on_a_node(model: Any, t: Any) -> None:
    t.grad_fn.register_hook(nothing)
    t.grad_fn.register_prehook(nothing)


def nothing_afterwards(model: Any, t: Any) -> None:
    model[0].weight.register_post_accumulate_grad_hook(nothing)


def kept(model: Any, t: Any) -> None:
    t.retain_grad()


def module_untouched(model: Any, t: Any) -> None:
    model[2].register_full_backward_hook(nothing)
    model[2].register_full_backward_pre_hook(nothing)


@pytest.mark.parametrize(
    "put",
    [
        nothing_on_a_tensor,
        the_same_on_a_tensor,
        nothing_on_a_node,
        nothing_afterwards,
        kept,
        module_untouched,
    ],
)
def test_a_hook_that_changes_nothing_is_passed_over(put: Any) -> None:
    witness = step(put)
    assert witness.verdict is gw.Verdict.AGREES
    assert witness.report.notes == ()


def test_a_wrong_backward_is_not_blamed_on_a_hook_before_it() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return 3 * grads[0]

    model = network()
    with gw.watch(model) as witness:
        wrong: Any = Wrong.apply
        y = wrong(model(data()))
        y.register_hook(nothing)
        y.square().mean().backward()
    assert witness.verdict is gw.Verdict.DISAGREES
    assert witness.report.notes == ()


@pytest.mark.parametrize("put", [on_a_tensor, module_full])
def test_several_steps_are_one_note(put: Any) -> None:
    assert kinds(step(put, steps=3).report.notes) == ["gradient changed by a hook"]


def test_the_programs_hooks_stay_and_the_recorders_go() -> None:
    seen = []
    x = torch.ones(3, requires_grad=True)
    y: Any = x.tanh()
    y.grad_fn.register_prehook(lambda *_: seen.append("before"))
    y.grad_fn.register_hook(lambda *_: seen.append("after"))
    with gw.watch():
        y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert seen == ["before", "after"] * 2
    handle: Any = y.grad_fn.register_prehook(nothing)
    assert len(handle.hooks_dict_ref()) == 2


@pytest.mark.parametrize("to_none", [True, False])
def test_an_optimizer_in_the_backward_pass_is_no_fault(*, to_none: bool) -> None:
    model = network()
    optimizers = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}

    def update(parameter: Any) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad(set_to_none=to_none)

    order: list[str] = []
    parameters: list[Any] = list(model.parameters())
    for p in parameters:
        p.register_post_accumulate_grad_hook(lambda _: order.append("first"))
        p.register_post_accumulate_grad_hook(update)
        p.register_post_accumulate_grad_hook(lambda _: order.append("last"))
    with gw.watch(model) as witness:
        for _ in range(2):
            model(data()).square().mean().backward()
    assert witness.verdict is gw.Verdict.AGREES
    assert kinds(witness.report.notes) == []
    # The replay knows the weights as the hooks left them.
    assert min(row.digits for row in witness.report.rows) > 5
    assert order == ["first", "last"] * 8
    hooks = [list(p._post_accumulate_grad_hooks.values()) for p in parameters]
    assert [[len(h), h[1] is update] for h in hooks] == [[3, True]] * 4


def test_a_gradient_that_an_optimizer_in_the_backward_pass_got_wrong_is_found() -> None:
    model = network()
    weight: Any = model[0].weight

    def spoil(parameter: Any) -> None:
        parameter.grad.mul_(2)

    def take(parameter: Any) -> None:
        parameter.grad = None

    weight.register_hook(lambda g: 2 * g)
    weight.register_post_accumulate_grad_hook(spoil)
    weight.register_post_accumulate_grad_hook(take)
    with gw.watch(model) as witness:
        model(data()).square().mean().backward()
    # The arriving gradient differs from the one sent; later changes are the hooks' own business.
    (wrong,) = witness.report.wrong
    assert wrong.step.value == "fan-in"


def test_a_hook_of_several_tensors_is_named_by_its_own_line(snapshot: SnapshotAssertion) -> None:
    model = network()
    together = list(model.parameters())

    def clip(gradients: Any) -> None:
        for g in gradients:
            g.mul_(0.5)

    torch.autograd.graph.register_multi_grad_hook(together, clip)
    with gw.watch(model) as witness:
        model(data()).square().mean().backward()
    (note,) = witness.report.notes
    assert note.kind == "gradient changed by a hook"
    assert plain(note.text) == snapshot
    assert note.source is not None
    assert note.source.line.rpartition(":")[0] == __file__
