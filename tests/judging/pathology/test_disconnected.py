"""Parameters without a gradient: why they have none, and the line that cut them off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness.judging.pathology.decisions import NUMBER
from judging.pathology.watching import at, data, kinds, loss_of, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


class Cut(nn.Module):
    """Two layers with a test's own function between them."""

    def __init__(self, between: Callable[[Any], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)
        self.between = between

    def forward(self, x: Any) -> Any:
        return self.b(self.between(torch.tanh(self.a(x))))


def detached(h: Any) -> Any:
    return h.detach()  # here


def data_of(h: Any) -> Any:
    return h.data  # here


def detached_and_more(h: Any) -> Any:
    bare = h.detach()  # here
    return (bare.clone() * 2).reshape(h.shape)


def without_gradients(h: Any) -> Any:
    with torch.no_grad():
        first = h * 2  # here
        return first + 1


def in_inference_mode(h: Any) -> Any:
    with torch.inference_mode():
        double = h * 2  # here
    return double.clone()


def a_parameter_again(h: Any) -> Any:
    return nn.Parameter(h.data)  # here


def a_tensor_of_it(h: Any) -> Any:
    return torch.tensor(h.detach().clone().numpy() * 1) + h.detach() * 2  # here


def in_place(h: Any) -> Any:
    return h.clone().detach_()  # here


def compared(h: Any) -> Any:
    return (h > 0).float()  # here


def largest_of(h: Any) -> Any:
    return F.one_hot(h.argmax(1), 4).float()  # here


def whole(h: Any) -> Any:
    return h.long().float()  # here


@pytest.mark.parametrize(
    ("between", "op"),
    [
        (detached, "aten.detach.default"),
        (data_of, "aten.detach.default"),
        (in_place, "aten.detach.default"),
        (detached_and_more, "aten.detach.default"),
        (a_parameter_again, "aten.detach.default"),
        (a_tensor_of_it, "aten.detach.default"),
        (without_gradients, "aten.mul.Tensor"),
        (in_inference_mode, "aten.mul.Tensor"),
        (compared, "aten.gt.Scalar"),
        (largest_of, "aten.argmax.default"),
        (whole, "aten._to_copy.default"),
    ],
)
def test_the_first_operation_that_cuts_is_named(
    between: Callable[[Any], Any], op: str, snapshot: SnapshotAssertion
) -> None:
    model = Cut(between)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert note.kind == "parameters cut off"
    # Parameters in the order of the forward pass.
    assert note.text == snapshot
    assert at(note, between, "# here")
    assert note.call is not None
    assert witness.tape.calls[note.call].op == op


@pytest.mark.parametrize(
    "between",
    [
        lambda h: torch.round(h * 4) / 4,
        torch.sign,
        lambda h: h.clone(),
        lambda h: torch.where(h > 0, h, h * 0.1),
        lambda h: h + (torch.round(h) - h).detach(),
        lambda h: h.sort(1).values,
    ],
)
def test_what_keeps_the_graph_is_no_cut(between: Callable[[Any], Any]) -> None:
    model = Cut(between)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    assert witness.report.notes == ()


def test_what_leaves_torch_cannot_be_followed_and_that_is_said(snapshot: SnapshotAssertion) -> None:
    model = Cut(lambda h: torch.from_numpy(h.detach().numpy() * 1))
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert note.kind == "parameters without effect"
    assert note.text == snapshot


def each_by_itself(h: Any) -> Any:
    return torch.tensor([[v.item() for v in row] for row in h])


def as_a_list(h: Any) -> Any:
    return torch.tensor(h.tolist())


@pytest.mark.parametrize(("between", "way"), [(each_by_itself, "item"), (as_a_list, "tolist")])
def test_numbers_that_python_reads_are_followed_up_to_there(
    between: Callable[[Any], Any], way: str
) -> None:
    model = Cut(between)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert note.kind == NUMBER
    assert note.text.startswith("a.weight and a.bias: no gradient. Here (item(), tolist(),")
    assert at(note, between, f".{way}()")


def out_of_sight(h: Any) -> Any:
    with torch._C.DisableTorchFunction():
        return h.clone().detach_()


def test_detach_in_place_that_is_not_seen_is_not_guessed(snapshot: SnapshotAssertion) -> None:
    model = Cut(out_of_sight)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert note.kind == "parameters without a gradient"
    assert note.text == snapshot


def test_a_model_made_inside_the_block_is_told_of_as_one_made_before() -> None:
    with gw.watch() as witness:
        model = Cut(torch.relu)
        model.spare = nn.Linear(2, 2)
        model.fixed = nn.Linear(2, 2).requires_grad_(requires_grad=False)
        loss_of(model, data()).backward()
    assert [(note.kind, note.text.partition(":")[0]) for note in witness.report.notes] == [
        ("parameters frozen", "fixed.weight and fixed.bias"),
        ("parameters unused", "spare.weight and spare.bias"),
    ]


def refused(model: nn.Module) -> None:
    loss_of(model, data()).detach().backward()  # here


def test_a_loss_without_a_graph_names_the_cut_though_torch_refuses() -> None:
    model = network()
    with (
        pytest.raises(RuntimeError, match="does not require grad"),
        gw.watch(model) as witness,
    ):
        refused(model)
    (note,) = witness.report.notes
    assert note.kind == "parameters cut off"
    assert note.text.startswith("0.weight, 0.bias, 2.weight and 2.bias: ")
    assert at(note, refused, "# here")


def test_frozen_unused_and_without_effect() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.never, self.aux, self.out = nn.Linear(2, 2), nn.Linear(4, 1), nn.Linear(4, 1)
            self.inner = nn.Linear(3, 4).requires_grad_(False)

        def forward(self, x: Any) -> Any:
            h = self.inner(x)
            return self.out(h), self.aux(h)

    model = Model()
    with gw.watch(model) as witness:
        model(data())[0].square().mean().backward()
    assert [(note.kind, note.text.partition(":")[0]) for note in witness.report.notes] == [
        ("parameters frozen", "inner.weight and inner.bias"),
        ("parameters unused", "never.weight and never.bias"),
        ("parameters without effect", "aux.weight and aux.bias"),
    ]


def test_a_weight_that_is_wrapped_anew(snapshot: SnapshotAssertion) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 1)

        def forward(self, x: Any) -> Any:
            weight = nn.Parameter(self.a.weight.data)  # here
            return F.linear(x, weight, self.a.bias)

    model = Model()
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert note.text == snapshot
    assert at(note, Model, "# here")


def test_several_steps_are_one_note() -> None:
    model = Cut(detached)
    optimizer = torch.optim.Adam(model.parameters())
    with gw.watch(model) as witness:
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, data()).backward()
            optimizer.step()
    assert kinds(witness.report.notes) == ["parameters cut off"]


def test_who_asks_for_some_gradients_wants_no_others() -> None:
    model = network()
    with gw.watch(model) as witness:
        torch.autograd.grad(loss_of(model, data()), list(model[0].parameters()))
    assert witness.report.notes == ()


def test_an_interrupted_pass_accuses_no_parameter() -> None:
    model = network()

    def stop(g: Any) -> None:
        raise KeyboardInterrupt

    def run() -> None:
        h: Any = torch.tanh(model[0](data()))
        h.register_hook(stop)
        model[2](h).square().mean().backward()

    with pytest.raises(KeyboardInterrupt), gw.watch(model) as witness:
        run()
    assert {row.name for row in witness.report.rows} <= {"2.weight", "2.bias"}
    assert witness.report.notes == ()


def test_a_custom_function_before_the_cut_is_not_blamed() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 2

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return grads[0] * 2

    def between(h: Any) -> Any:
        twice: Any = Twice.apply
        return twice(h).detach()  # here

    model = Cut(between)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert "aten.detach" in note.text
    assert at(note, between, "# here")


def test_initialising_inside_the_block_cuts_nothing_off() -> None:
    model = Cut(detached)
    with gw.watch(model) as witness:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        loss_of(model, data()).backward()
    (note,) = witness.report.notes
    assert at(note, detached, "# here")


def made_a_leaf(h: Any) -> Any:
    return nn.Parameter(h + 1)  # here


def test_a_result_that_is_made_a_leaf_is_named_with_the_line_that_made_it(
    snapshot: SnapshotAssertion,
) -> None:
    model: Any = Cut(made_a_leaf)
    with gw.watch(model) as witness:
        model(data()).square().mean().backward()
    (note,) = witness.report.notes
    assert note.kind == "parameters cut off"
    assert note.text == snapshot
    assert at(note, made_a_leaf, "# here")
