"""Every program is recorded whole, judged in full, and runs as it would have run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from capture.functions import FUNCTIONS, FirstToZero, NumpySine, apply
from capture.functions_forms import FORMS
from capture.programs import PROGRAMS, leaf, run_back, weighted
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = PROGRAMS | FUNCTIONS | FORMS
SEED = 3


def watched(run: Callable[[], Any], keep: int | None = None) -> tuple[gw.Witness, Any]:
    torch.manual_seed(SEED)
    with gw.watch(keep=keep) as witness:
        left = run()
    return witness, left


def bits(tensors: list[Any]) -> list[Any]:
    return [None if t is None else (t.dtype, t.detach().view(-1).tolist()) for t in tensors]


@pytest.mark.parametrize("keep", [None, 0], ids=["kept", "released"])
@pytest.mark.parametrize("name", EVERY)
def test_every_step_is_judged_and_agrees(name: str, keep: int | None) -> None:
    witness, _ = watched(EVERY[name], keep)
    report = witness.report
    assert report.rows
    assert [f.title for f in report.wrong] == []
    assert report.reasons() == {}
    shares = report.coverage()
    assert {sort: share.judged for sort, share in shares.items()} == {
        sort: share.total for sort, share in shares.items()
    }
    assert report.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("name", EVERY)
def test_every_node_is_joined_to_what_made_it(name: str) -> None:
    tape = watched(EVERY[name])[0].tape
    assert [node.name for node in tape.nodes if node.kind == Kind.UNKNOWN] == []
    for node in tape.nodes:
        if node.kind in (Kind.OPERATION, Kind.COPY_SLICES):
            assert node.call is not None
        if node.kind == Kind.OPERATION and node.call is not None:
            assert node.outputs == tape.calls[node.call].outputs


@pytest.mark.parametrize("name", EVERY)
def test_the_program_runs_as_it_would_alone(name: str) -> None:
    torch.manual_seed(SEED)
    alone = bits(EVERY[name]())
    state = torch.get_rng_state()
    _, left = watched(EVERY[name])
    assert bits(left) == alone
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", EVERY)
def test_the_replay_confirms_the_gradients(name: str) -> None:
    # Float64 from the leaves, by rules alone. A float32 has 7 digits, a bfloat16 has 2.
    least = 1.5 if name in ("bfloat16_model", "casts_between_formats") else 5
    for row in watched(EVERY[name])[0].report.rows:
        # A gradient that is rightly absent has no digits.
        assert row.value is None or row.digits > least, row.name


def numpy_sine() -> list[Any]:
    a, w = leaf(4), leaf(4)
    return run_back(apply(NumpySine, a, w), a, w)


def first_to_zero() -> list[Any]:
    x = leaf(4)
    return run_back(apply(FirstToZero, x), x)


def test_what_is_changed_in_pieces_is_judged_by_the_rules() -> None:
    witness, _ = watched(first_to_zero)
    assert witness.report.verdict is gw.Verdict.AGREES
    assert gw.judge(witness.tape).verdict is gw.Verdict.AGREES


def test_what_no_rule_follows_is_measured_while_the_function_is_there() -> None:
    reason = "its forward leaves torch (outside.numpy)"
    witness, _ = watched(numpy_sine)
    (finding,) = (f for f in witness.report.findings if f.grade.startswith("numerical"))
    assert finding.tensor_nr == 0
    assert finding.grade.endswith(f"4 directions, since {reason}")
    assert witness.report.verdict is gw.Verdict.AGREES
    # From the tape alone, it is left open, with the reason.
    later = gw.judge(witness.tape)
    assert later.verdict is gw.Verdict.INCONCLUSIVE
    assert later.wrong == ()
    assert [why.partition(";")[0] for why in later.reasons()] == [reason]


def complex_numbers() -> list[Any]:
    x = torch.randn(3, dtype=torch.complex64).requires_grad_()
    return run_back((x * torch.nan_to_num(x.detach())).real, x)


def function_transforms() -> list[Any]:
    x = leaf(3)
    inner = torch.func.vmap(torch.func.grad(lambda z: z * z))(x.detach())
    return run_back(x * inner, x)


def no_elements() -> list[Any]:
    x = leaf(0, 3)
    return run_back(x * x, x)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (complex_numbers, "no rule for complex numbers: aten.nan_to_num.default"),
        (no_elements, "no elements: nothing was compared"),
    ],
)
def test_what_the_witness_cannot_judge_it_leaves_open(
    run: Callable[[], list[Any]], reason: str
) -> None:
    report = watched(run)[0].report
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert report.wrong == ()
    assert reason in report.reasons()


def test_function_transforms_do_not_disturb() -> None:
    witness, left = watched(function_transforms)
    assert witness.report.wrong == ()
    torch.manual_seed(SEED)
    assert bits(function_transforms()) == bits(left)


class ReturnsTooMuch(torch.autograd.Function):
    """x + b for a b that is broadcast, whose gradient is left for autograd to sum."""

    @staticmethod
    def forward(ctx: Any, x: Any, b: Any) -> Any:  # noqa: ARG004
        return x + b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0], grads[0]


class ChangesWhatComesIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0].mul_(2)


def test_a_gradient_that_autograd_had_to_sum_is_noted() -> None:
    x, b = leaf(4, 3), leaf(3)
    with gw.watch() as witness:
        weighted(apply(ReturnsTooMuch, x, b) * x.sum(0)).backward()
    summed = [witness.tape.nodes[f.node].name for f in witness.tape.sweeps[0].node_runs if f.summed]
    assert summed == ["ReturnsTooMuchBackward"]


def test_a_gradient_that_a_node_writes_to_is_noted() -> None:
    x = leaf(3)
    with gw.watch() as witness:
        weighted(apply(ChangesWhatComesIn, x).sin()).backward()
    changed = {witness.tape.nodes[f.node].name: f.changed for f in witness.tape.sweeps[0].node_runs}
    assert changed.pop("ChangesWhatComesInBackward") == (0,)
    assert set(changed.values()) == {()}
    # What came in before the change is what is judged.
    assert witness.verdict is gw.Verdict.AGREES


def test_hooks_on_gradients_are_noted() -> None:
    def halved(g: Any) -> Any:
        return g / 2

    def seen(_: Any) -> None:
        pass

    x = leaf(3)
    x.register_post_accumulate_grad_hook(seen)
    with gw.watch() as witness:
        y = x.sin()
        y.register_hook(halved)
        weighted(y).backward()
    tape = witness.tape
    found = {tape.nodes[edge.node].name: text for edge, text in tape.sweeps[0].hooks}
    assert found.keys() == {"SinBackward0", "AccumulateGrad"}
    assert f"halved at {__file__}:" in found["SinBackward0"]
    assert f"seen at {__file__}:" in found["AccumulateGrad"]


def test_a_pass_knows_which_calls_came_before_it() -> None:
    x = leaf(3)
    with gw.watch() as witness:
        weighted(x.sin()).backward()
        weighted(x.cos()).backward()
    first, second = witness.tape.sweeps
    names = [call.op for call in witness.tape.calls]
    assert first.after > names.index("aten.sin.default")
    assert first.after <= names.index("aten.cos.default") < second.after


def test_parameters_are_on_the_tape_used_or_not() -> None:
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "other": torch.nn.Linear(2, 1)})
    model["other"].weight.requires_grad_(False)
    with gw.watch(model) as witness:
        weighted(model["used"](torch.ones(1, 2))).backward()
    found = [witness.tape.values[number] for number in witness.tape.parameters]
    assert {v.name: v.requires_grad for v in found} == {
        "used.weight": True,
        "used.bias": True,
        "other.weight": False,
        "other.bias": True,
    }
