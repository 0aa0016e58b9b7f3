"""Formulas that cancel: the note names the step, and honest formulas get none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness._room import Room
from gradwitness.api import arguments
from gradwitness.capture.memory import retention
from judging.pathology.watching import data, leaf, loss_of, network, notes_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syrupy.assertion import SnapshotAssertion

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 5.0])
SMALL = (1e-3, 2e-4, 3e-3, 5e-4)
FAR = (10000.0, 10000.1, 10000.2, 9999.9)
SURE = (20.0, 1.0, 2.0, 3.0)


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Free all numbers, however few, but those that the replay starts from."""
    with monkeypatch.context() as patch:
        patch.setattr(arguments, "KEEP", Room(all=0, lasting=2**30))
        patch.setattr(retention, "_SHOWN", 0)
        yield


def weighted(y: Any) -> Any:
    return (y * WEIGHTS).sum()


def spread(x: Any) -> Any:
    return x.square().mean() - x.mean().square()


# A formula that cancels, at which numbers, and in which step.
CANCELLING: list[tuple[Callable[[Any], Any], tuple[float, ...], str]] = [
    (lambda x: weighted((1 - x.cos()) / x.square()), SMALL, "aten.rsub.Scalar (call 1)"),
    # d/dx_i = 2 x_i / n - 2 mean / n.
    (spread, FAR, "the sum of the gradients of x"),
    # p (g / p - sum(g)), where p is nearly 1.
    (lambda x: -torch.log(torch.softmax(x, 0))[0], SURE, "SoftmaxBackward0 #"),
    (
        lambda x: torch.log(torch.exp(x).sum()) - x[0],
        (15.0, 1.0, 1.5, -3.0),
        "the sum of the gradients of x",
    ),
    (
        lambda x: weighted((x.exp() - 1).log()),
        (1e-5, 2e-6, 3e-6, 1e-6),
        "aten.sub.Tensor (call 1)",
    ),
]


@pytest.mark.parametrize(("function", "numbers", "where"), CANCELLING)
def test_the_step_that_cancels_is_named(
    function: Callable[[Any], Any],
    numbers: tuple[float, ...],
    where: str,
    snapshot: SnapshotAssertion,
) -> None:
    (note,) = notes_of(function, leaf(*numbers))
    assert note.kind == "digits lost"
    assert f" {where}" in note.text
    assert plain(note.text) == snapshot


@pytest.mark.usefixtures("freed")
@pytest.mark.parametrize(("function", "numbers", "where"), CANCELLING)
def test_so_it_is_where_recorded_numbers_were_freed(
    function: Callable[[Any], Any], numbers: tuple[float, ...], where: str
) -> None:
    (note,) = notes_of(function, leaf(*numbers))
    assert note.kind == "digits lost"
    assert f" {where}" in note.text


@pytest.mark.parametrize(
    ("function", "number", "slope"),
    [
        # e^-x / (1 + e^-x)^2, where y is 1 and 1 - y is 0.
        (torch.sigmoid, 40.0, math.exp(-40) / (1 + math.exp(-40)) ** 2),
        (torch.tanh, 20.0, 1 / math.cosh(20) ** 2),
        (torch.tanh, -20.0, 1 / math.cosh(20) ** 2),
    ],
    ids=["sigmoid", "tanh", "tanh below 0"],
)
def test_tails_lose_their_digits_in_float64_too(
    function: Callable[[Any], Any], number: float, slope: float, snapshot: SnapshotAssertion
) -> None:
    x = torch.tensor([number], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        function(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 0
    (row,) = witness.report.rows
    found = gw.replay(witness.tape).gradient(row.sweep, row.node)
    assert found is not None
    assert found[0] == pytest.approx(slope, rel=1e-14)
    (note,) = witness.report.notes
    assert note.kind == "digits lost"
    assert plain(note.text) == snapshot


@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        (lambda x: weighted(x.tanh()), SMALL),
        (lambda x: x.var(correction=0), (1000.0, 1000.1, 1000.2, 999.9)),
        (lambda x: -F.log_softmax(x, 0)[0], SURE),
        (lambda x: F.cross_entropy(x[None], torch.tensor([0])), SURE),
        (lambda x: weighted(x.expm1().log()), (1e-5, 2e-6, 3e-6, 1e-6)),
        (lambda x: torch.logsumexp(x, 0), SURE),
    ],
)
def test_the_honest_formula_loses_nothing(
    function: Callable[[Any], Any], numbers: tuple[float, ...]
) -> None:
    assert notes_of(function, leaf(*numbers)) == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_network_loses_no_more_than_it_must(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(16, 16), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(16, 1)).to(dtype)
    with gw.watch(model) as witness:
        loss_of(model, torch.randn(32, 16).to(dtype)).backward()
    assert witness.report.notes == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [0, 4, 8])
def test_digits_that_a_coarser_format_never_had_are_not_lost(seed: int, dtype: torch.dtype) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))
    x, y = torch.randn(7, 6), torch.randn(7, 3)
    with gw.watch(model) as witness:
        with torch.autocast("cpu", dtype=dtype):
            out = model(x)
        (out - y).square().mean().backward()
    # The premise: few of float32's digits are right.
    assert min(row.digits for row in witness.report.rows) < 4
    assert witness.report.notes == ()


def test_a_gradient_that_is_zero_in_truth_has_no_digits_to_lose() -> None:
    # A constant added to all scores changes no softmax: the gradient of the bias is noise.
    torch.manual_seed(0)
    key, query = nn.Linear(16, 16), torch.randn(8, 16)
    x = torch.randn(8, 16)
    with gw.watch(key) as witness:
        mixed = F.softmax(query @ key(x).T / 4, 1) @ x
        torch.autograd.backward(mixed.square().sum())
    digits = {row.name: row.digits for row in witness.report.rows}
    # The premise: none of its digits are right, and most of the other gradient's are.
    assert digits["bias"] < 2
    assert digits["weight"] > 5
    assert witness.report.notes == ()


def test_a_wrong_step_is_told_instead() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return 2 * grads[0]

    wrong: Any = Wrong.apply
    assert notes_of(lambda x: spread(wrong(x)), leaf(*FAR)) == ()


def test_several_steps_are_one_note() -> None:
    x = leaf(*FAR)
    with gw.watch(names={"x": x}) as witness:
        for _ in range(3):
            x.grad = None
            spread(x).backward()
    (note,) = witness.report.notes
    assert note.text.startswith("x: ")


def test_a_plain_network() -> None:
    model = network()
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    assert witness.report.notes == ()


@pytest.mark.low_precision
def test_under_autocast_few_digits_are_all_that_there_can_be() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(64, 64).requires_grad_(), torch.randn(16, 64)
    with gw.watch(names={"w": w}) as witness:
        with torch.autocast("cpu", torch.bfloat16):
            y: Any = torch.tanh(x @ w) @ w
        y.float().square().mean().backward()
    (row,) = witness.report.rows
    # The premise: by its own format, it has few digits.
    assert row.dtype == "float32"
    assert row.digits < 0.4 * 6.9
    assert witness.report.notes == ()


def test_rounding_to_the_other_side_of_a_kink_loses_no_digits() -> None:
    # 5 times 0.1 is 0.5 in float32, and a little more in truth: relu has slope 0 here, 1 there.
    x = leaf(8.0, 5.0, 5.0, 5.0)
    with gw.watch(names={"x": x}) as witness:
        weighted(torch.relu(x * torch.tensor(0.1) - torch.tensor(0.5))).backward()
    assert x.grad[1:].tolist() == [0, 0, 0]
    (row,) = witness.report.rows
    assert row.digits < 0.4 * 6.9
    assert witness.report.notes == ()
