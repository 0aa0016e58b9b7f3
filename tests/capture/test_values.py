"""What is recorded are the numbers that torch held at the time, and they stay so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.programs import leaf, run_back, weighted
from gradwitness.capture import record
from gradwitness.capture.calls.schemas import operation
from gradwitness.capture.memory.values import ValueStore
from gradwitness.tape import Call, Kind, Ref, Tape


def calls_of(tape: Tape, op: str) -> list[Call]:
    return [call for call in tape.calls if call.op.startswith(f"aten.{op}.")]


def numbers(tape: Tape, value: int | None) -> Any:
    assert value is not None
    array = tape.values[value].array
    assert array is not None
    return array


def argument(tape: Tape, call: Call, name: str) -> Any:
    ref = call.arguments[name]
    assert isinstance(ref, Ref)
    return numbers(tape, ref.value)


def test_forward_and_backward_numbers_are_torch_s_own() -> None:
    torch.manual_seed(0)
    a, b = leaf(4), leaf(4)
    with record(names={"a": a, "b": b}) as recorder:
        h = a * b
        h.retain_grad()
        y = h.sin()
        y.backward(torch.randn(4))
    tape = recorder.tape
    (product,) = calls_of(tape, "mul")
    (sine,) = calls_of(tape, "sin")
    assert np.array_equal(argument(tape, product, "self"), a.detach().numpy())
    assert np.array_equal(argument(tape, product, "other"), b.detach().numpy())
    assert np.array_equal(numbers(tape, product.outputs[0]), h.detach().numpy())
    assert np.array_equal(numbers(tape, sine.outputs[0]), y.detach().numpy())
    (sweep,) = tape.sweeps
    node_runs = {node_run.node: node_run for node_run in sweep.node_runs}
    assert product.node is not None
    node_ran = node_runs[product.node]
    assert np.array_equal(numbers(tape, node_ran.incoming[0]), h.grad.numpy())
    # d(a b)/da is b: what goes out is what torch put into a.grad, and the other way round.
    assert np.array_equal(numbers(tape, node_ran.outgoing[0]), (h.grad * b).detach().numpy())
    assert np.array_equal(numbers(tape, node_ran.outgoing[1]), (h.grad * a).detach().numpy())
    after = {tape.nodes[u.node].leaf: numbers(tape, u.after) for u in sweep.leaves}
    named = {tape.values[n].name: array for n, array in after.items() if n is not None}
    assert np.array_equal(named["a"], a.grad.numpy())
    assert np.array_equal(named["b"], b.grad.numpy())


def test_a_given_gradient_is_recorded_at_its_root() -> None:
    a, g = leaf(3), torch.tensor([1.5, -2.0, 0.25])
    with record() as recorder:
        (a * 2).backward(g)
    ((_, seed),) = recorder.tape.sweeps[0].roots
    assert numbers(recorder.tape, seed).tolist() == [1.5, -2.0, 0.25]


def test_grad_before_and_after_accumulation() -> None:
    a = leaf(3)
    a.grad = torch.tensor([1.0, 2.0, 4.0])
    with record() as recorder:
        (a * torch.tensor([10.0, 20.0, 30.0])).sum().backward()
    (update,) = recorder.tape.sweeps[0].leaves
    assert numbers(recorder.tape, update.before).tolist() == [1.0, 2.0, 4.0]
    assert numbers(recorder.tape, update.after).tolist() == [11.0, 22.0, 34.0]


def test_each_pass_keeps_the_grad_that_it_left() -> None:
    a = leaf(2)
    with record() as recorder:
        y = (a * torch.tensor([3.0, 5.0])).sum()
        y.backward(retain_graph=True)
        y.backward()
    after = [numbers(recorder.tape, sweep.leaves[0].after) for sweep in recorder.tape.sweeps]
    assert [array.tolist() for array in after] == [[3.0, 5.0], [6.0, 10.0]]


def test_an_in_place_write_leaves_the_old_numbers_alone() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    with record() as recorder:
        y = x * 2
        y.add_(10)
        y[1] = -1
    tape = recorder.tape
    assert numbers(tape, calls_of(tape, "mul")[0].outputs[0]).tolist() == [2.0, 4.0, 6.0]
    (added,) = calls_of(tape, "add_")
    assert argument(tape, added, "self").tolist() == [2.0, 4.0, 6.0]
    assert numbers(tape, added.outputs[0]).tolist() == [12.0, 14.0, 16.0]
    last = next(call for call in tape.calls if call.base is not None)
    assert numbers(tape, last.base).tolist() == [12.0, -1.0, 16.0]


def test_one_number_stands_for_all_axes() -> None:
    x, w = leaf(1, 2, 4, 4, 4), leaf(2, 2, 2, 2, 2)
    with gw.watch() as witness:
        y = torch.nn.functional.conv3d(x, w, stride=[1], padding=[1])
        y = torch.nn.functional.max_pool3d(y, [2]) + torch.nn.functional.avg_pool3d(y, [2], [2])
        torch.autograd.backward(y, torch.rand(y.shape))
    assert dict(witness.report.reasons()) == {}
    assert witness.verdict is gw.Verdict.AGREES


def test_a_view_is_known_between_two_writes_to_its_base() -> None:
    # Each write gives the view another history; the product hangs on the first of them.
    model = torch.nn.ParameterList([torch.rand(4, 3)])
    with gw.watch(model) as witness:
        base = model[0] * 1
        view = base[:, 1:]
        base[0] = 0
        product = view[1:] * 2
        base[2] = 0
        (product.sum() + view.sum()).backward()
    assert dict(witness.report.reasons()) == {}
    assert witness.verdict is gw.Verdict.AGREES


def test_a_write_shows_in_every_view_of_the_memory() -> None:
    x = torch.zeros(4)
    with record() as recorder:
        half = x[:2]
        x.add_(5)
        _ = half * 1
    tape = recorder.tape
    (product,) = calls_of(tape, "mul")
    (taken,) = calls_of(tape, "slice")
    assert numbers(tape, taken.outputs[0]).tolist() == [0.0, 0.0]
    assert argument(tape, product, "self").tolist() == [5.0, 5.0]


def test_a_write_copies_what_it_touches_and_no_more() -> None:
    store = ValueStore()
    whole = torch.arange(12.0).reshape(3, 4)
    first = np.arange(12.0).reshape(3, 4)
    left, middle, right = whole[:, :2], whole[:, 1:3], whole[:, 2:]
    of = [store.of(tensor) for tensor in (whole, left, middle, right)]

    def lie_there() -> list[bool]:
        return [np.shares_memory(numbers_of(n), whole.numpy()) for n in of]

    def numbers_of(number: int) -> Any:
        return store.value(number).array

    store.before_write(left, in_place=True)
    left.add_(100.0)
    # The columns of the last part lie between those written to, in every row.
    assert lie_there() == [False, False, False, True]
    store.before_write(right, in_place=True)
    right.mul_(-1.0)
    assert lie_there() == [False] * 4
    columns = (slice(0, 4), slice(0, 2), slice(1, 3), slice(2, 4))
    for number, part in zip(of, columns, strict=True):
        assert np.array_equal(numbers_of(number), first[:, part])


def test_a_write_that_may_resize_copies_all() -> None:
    store = ValueStore()
    whole = torch.arange(6.0)
    last = store.of(whole[3:])
    store.of(whole[:3])
    store.before_write(whole[:3])
    assert not np.shares_memory(store.value(last).array, whole.numpy())


@pytest.mark.parametrize(
    ("name", "is_in_place"),
    [
        ("add_.Tensor", True),
        ("copy_.default", True),
        ("add.Tensor", False),
        ("add.out", False),
        ("resize_.default", False),
        ("set_.source_Tensor", False),
        ("_foreach_add_.Scalar", False),
    ],
)
def test_what_writes_to_its_first_argument_alone(name: str, is_in_place: bool) -> None:
    base, overload = name.split(".")
    known = operation(getattr(getattr(torch.ops.aten, base), overload))
    assert known.is_in_place is is_in_place


def test_the_tape_does_not_follow_the_program_after_the_block() -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    with gw.watch(layer, names={"x": x}) as witness:
        run_back(layer(x).tanh(), *layer.parameters())
    outside = {v.name: np.array(v.array) for v in witness.tape.values if v.name}
    grads = [np.array(numbers(witness.tape, row.value)) for row in witness.report.rows]
    with torch.no_grad():
        for tensor in (*layer.parameters(), *(p.grad for p in layer.parameters()), x):
            assert tensor is not None
            tensor.fill_(7.0)
    assert set(outside) == {"weight", "bias", "x"}
    for value in witness.tape.values:
        if value.name:
            assert np.array_equal(np.array(value.array), outside[value.name])
    for row, before in zip(witness.report.rows, grads, strict=True):
        assert np.array_equal(numbers(witness.tape, row.value), before)
    for update in witness.tape.sweeps[0].leaves:
        assert not np.any(numbers(witness.tape, update.after) == 7.0)
    assert gw.judge(witness.tape).verdict is gw.Verdict.AGREES


def test_recorded_arrays_are_read_only_and_match_their_description() -> None:
    torch.manual_seed(2)
    with record() as recorder:
        run_back(nn.Linear(3, 2)(torch.randn(4, 3)))
    for value in recorder.tape.values:
        assert value.array is not None
        assert not value.array.flags.writeable
        assert value.array.shape == value.shape
        assert value.array.dtype.name == value.dtype


def test_bfloat16_is_kept_bit_for_bit() -> None:
    x = torch.tensor([1.0, 1.0078125, 3.0e38, -0.0], dtype=torch.bfloat16)
    with record(names={"x": x}) as recorder:
        _ = x + x
    (value,) = [v for v in recorder.tape.values if v.name == "x"]
    assert value.array is not None
    # 3e38 lies between two bfloat16: 0x7f61 is 2.990841e38, 0x7f62 is 3.004133e38, the nearer.
    bits = value.array.view(np.uint16).tolist()
    assert bits == [0x3F80, 0x3F81, 0x7F62, 0x8000]


def test_parameters_have_their_dotted_names_and_leaves_are_marked() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with record(model) as recorder:
        weighted(model[0](torch.randn(3, 2))).backward()
    named = {value.name for value in recorder.tape.values if value.name}
    # Of the second layer, which is not used, the parameters are known all the same.
    assert named == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert {v.name for _, v in recorder.tape.leaves()} == {"0.weight", "0.bias"}
    assert all(value.requires_grad for _, value in recorder.tape.leaves())


def test_a_model_built_in_the_block_names_its_parameters() -> None:
    with record() as recorder:
        model = nn.Sequential(nn.Linear(2, 1))
        weighted(model(torch.randn(3, 2))).backward()
    assert {v.name for _, v in recorder.tape.leaves()} == {"0.weight", "0.bias"}


def test_saved_tensors_are_recorded_when_asked_for() -> None:
    a, b = leaf(3), leaf(3)
    for wanted in (True, False):
        with record(names={"a": a, "b": b}, saved=wanted) as recorder:
            (a * b).sum().backward()
        tape = recorder.tape
        (node,) = [n for n in tape.nodes if n.name == "MulBackward0"]
        saved = {name: tape.values[v].name for name, v in node.saved if v is not None}
        assert saved == ({"self": "a", "other": "b"} if wanted else {})


def test_the_graph_has_torch_s_edges() -> None:
    a = leaf(3)
    with record() as recorder:
        y = a * a + a
        y.backward(torch.ones(3))
    nodes = recorder.tape.nodes
    kinds = [(node.name, node.kind) for node in nodes]
    assert kinds == [
        ("AddBackward0", Kind.OPERATION),
        ("MulBackward0", Kind.OPERATION),
        ("AccumulateGrad", Kind.ACCUMULATE),
    ]
    targets = [[edge.node if edge else None for edge in node.edges] for node in nodes]
    assert targets == [[1, 2], [2, 2], []]


def test_a_tensor_whose_data_became_another_is_another_value() -> None:
    a, other = leaf(4), torch.ones(4)
    with record(names={"a": a}) as recorder, torch.no_grad():
        # Each memory is written to once: the count of writes does not tell them apart.
        a.mul_(2)
        first = a * 5
        _ = other + 1
        other.mul_(3)
        a.data = other
        second = a * 5
    products = [c for c in calls_of(recorder.tape, "mul") if c.op == "aten.mul.Tensor"]
    assert np.array_equal(argument(recorder.tape, products[-1], "self"), np.full(4, 3))
    assert np.array_equal(second.numpy(), np.full(4, 15))
    assert not torch.equal(first, second)
