"""Where NaN and infinity are born; masks get no note."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from judging.pathology.watching import data, kinds, leaf, loss_of, network, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 5.0])
INF = math.inf


def weighted(y: Any) -> Any:
    return (y * WEIGHTS.to(y.dtype)).sum()


def zero_over_zero(x: Any) -> Any:
    return weighted((x * 0) / (x * 0))


def log_of_negative(x: Any) -> Any:
    return weighted(torch.log(x - 1))


def root_at_zero(x: Any) -> Any:
    return weighted(torch.sqrt(x))


def root_of_squares_at_zero(x: Any) -> Any:
    return (x * 0).square().sum().sqrt()


def relu_of_root(x: Any) -> Any:
    return weighted(torch.relu(torch.sqrt(x) - 1))


def overflow_of_half(x: Any) -> Any:
    return weighted(x.half() * 60000)


def empty_rows(x: Any) -> Any:
    return weighted(F.softmax(x + torch.full((2, 4), -INF), 1)[0])


def overflow(x: Any) -> Any:
    return weighted((x * 100).exp())


def nothing_to_average(x: Any) -> Any:
    return x[:0].mean() + x.sum()


def nothing_to_classify(x: Any) -> Any:
    return F.cross_entropy(x.view(2, 2), torch.tensor([-100, -100]))


@pytest.mark.parametrize(
    ("function", "kind", "born"),
    [
        # All of them at 0, 1, 2 and 3.
        (zero_over_zero, "NaN born", "aten.div.Tensor"),
        (log_of_negative, "NaN born", "aten.log.default"),
        (root_at_zero, "infinity born", "SqrtBackward0 #"),
        (root_of_squares_at_zero, "infinity born", "SqrtBackward0 #"),
        (relu_of_root, "NaN born", "SqrtBackward0 #"),
        (overflow_of_half, "infinity born", "aten.mul.Tensor"),
        (empty_rows, "NaN born", "aten._softmax.default"),
        (overflow, "infinity born", "aten.exp.default"),
        (nothing_to_average, "NaN born", "aten.mean.default"),
        (nothing_to_classify, "NaN born", "aten.nll_loss_forward"),
    ],
)
def test_the_first_birth_is_named(
    function: Callable[[Any], Any], kind: str, born: str, snapshot: SnapshotAssertion
) -> None:
    notes = notes_of(function, leaf(0, 1, 2, 3))
    (note,) = [note for note in notes if note.kind == kind]
    assert born in note.text
    assert note.text == snapshot
    source, code = note.source, getattr(function, "__code__", None)
    assert source is not None
    assert code is not None
    # The first line of the function is its `def`; each body is one line.
    in_weighted = weighted.__code__.co_firstlineno + 1
    assert source.line in (
        f"{__file__}:{code.co_firstlineno + 1}",
        f"{__file__}:{in_weighted}",
    )


def test_what_follows_from_a_birth_is_not_told_again() -> None:
    assert kinds(notes_of(zero_over_zero, leaf(0, 1, 2, 3))) == ["NaN born"]
    assert kinds(notes_of(empty_rows, leaf(0, 1, 2, 3))) == ["NaN born"]
    assert kinds(notes_of(overflow, leaf(0, 1, 2, 3))) == ["infinity born"]
    assert kinds(notes_of(root_of_squares_at_zero, leaf(0, 1, 2, 3))) == ["infinity born"]


def test_of_several_births_the_first_is_told() -> None:
    (note,) = notes_of(lambda x: weighted(x.sub(9).log() + x.sub(9).sqrt()), leaf(0, 1, 2, 3))
    assert note.text.startswith("aten.log.default (call 1) ")


def test_several_steps_are_one_note() -> None:
    x = leaf(0, 1, 2, 3)
    with gw.watch(names={"x": x}) as witness:
        for _ in range(3):
            x.grad = None
            root_at_zero(x).backward()
    assert kinds(witness.report.notes) == ["infinity born"]


def attention(x: Any) -> Any:
    q = x.view(1, 1, 2, 2)
    return F.scaled_dot_product_attention(q, q, q, is_causal=True).square().sum()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: weighted(F.softmax(x.masked_fill(x > 2, -INF), 0)),
        lambda x: weighted(F.softmax(x + torch.tensor([0, 0, -INF, 0]), 0)),
        lambda x: weighted(F.softmax(torch.where(x > 0, x, -INF), 0)),
        lambda x: weighted(F.softmax(x + torch.tensor([1.0, 1, 0, 1]).log(), 0)),
        lambda x: (
            F.softmax(x + torch.triu(torch.full((4, 4), -INF), 1), 1)
            * torch.arange(16.0).view(4, 4)
        ).sum(),
        lambda x: weighted(torch.topk(x.masked_fill(x > 2, -INF), 4).values.clamp(min=-1)),
        attention,
        lambda x: (x * 0).norm() * 2,
        lambda x: weighted(x.tanh()),
    ],
)
def test_masks_and_conventions_are_left_in_peace(function: Callable[[Any], Any]) -> None:
    assert notes_of(function, leaf(0.5, 1, 2, 3)) == ()


def test_nan_in_the_data_is_told_as_such(snapshot: SnapshotAssertion) -> None:
    data = torch.tensor([1.0, math.nan, 1.0, 1.0])
    x = leaf(0, 1, 2, 3)
    with gw.watch(names={"x": x, "data": data}) as witness:
        weighted(x * data).backward()
    (note,) = witness.report.notes
    assert note.kind == "NaN came in"
    assert note.text == snapshot


def test_without_a_backward_pass_a_birth_is_told_too() -> None:
    x = leaf(-1.0)
    with gw.watch() as witness:
        torch.log(x)
    assert kinds(witness.report.notes) == ["NaN born"]
    assert "NaN born" in str(witness)


def test_a_mask_is_suspected_only_where_a_zero_arrived(snapshot: SnapshotAssertion) -> None:
    (note,) = notes_of(lambda x: torch.logsumexp(x + torch.full((4,), -INF), 0), leaf(0, 1, 2, 3))
    assert note.text == snapshot


def test_nothing_times_an_infinite_gradient_is_no_fault_of_torch(
    snapshot: SnapshotAssertion,
) -> None:
    x = leaf(0.0, 4.0)
    with gw.watch(names={"x": x}) as witness:
        x.abs().sqrt().sum().backward()
    assert witness.report.wrong == ()
    (note,) = witness.report.notes
    assert note.text == snapshot


def test_an_overflow_of_a_power_is_no_matter_of_its_sign(snapshot: SnapshotAssertion) -> None:
    (note,) = notes_of(lambda x: weighted((x - 300).half().square()), leaf(1.0, 2.0, 3.0, 4.0))[:1]
    assert note.kind == "infinity born"
    assert note.text == snapshot


def test_what_an_optimizer_meets_in_grad_did_not_come_in() -> None:
    x = leaf(1.0, 0.0, 3.0, 4.0)
    optimizer = torch.optim.SGD([x], 0.1)
    with gw.watch(names={"x": x}) as witness:
        root_of_squares_at_zero(x).backward()
        optimizer.step()
    # The premise.
    assert x.isnan().all()
    assert "NaN came in" not in kinds(witness.report.notes)
    assert "infinity born" in kinds(witness.report.notes)


def scaled_steps(scale: float, steps: int) -> gw.Witness:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with gw.watch(model) as witness:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = loss_of(model, data())
            scaled: Any = scaler.scale(loss)
            scaled.backward()
            scaler.step(optimizer)
            scaler.update()
    return witness


def test_a_step_that_the_scaler_skips_is_normal() -> None:
    # 65504 is the largest number of float16: gradients times 2^40 overflow.
    (note,) = scaled_steps(2.0**40, 1).report.notes
    assert note.kind == "step skipped"
    assert note.text.startswith("GradScaler skipped this step: normal")


def test_a_scale_that_fits_skips_nothing() -> None:
    assert "step skipped" not in [note.kind for note in scaled_steps(2.0, 2).report.notes]
