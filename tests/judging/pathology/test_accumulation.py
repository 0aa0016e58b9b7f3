"""Accumulation over as many passes as its losses are divided by, and over others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from syrupy.assertion import SnapshotAssertion

KIND = "accumulation"
X, Y = data(16), data(16)[:, :1].exp()


def train(
    windows: Sequence[int],
    divided: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any] = F.mse_loss,
    *,
    scaled: bool = False,
    updates: bool = True,
) -> gw.Witness:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6, enabled=scaled)
    with gw.watch(model) as witness:
        for passes in windows:
            optimizer.zero_grad()
            for part in range(passes):
                average = loss(model(X[part::passes]), Y[part::passes])
                scaler.scale(divided(average)).backward()
            if updates:
                scaler.step(optimizer)
                scaler.update()
    return witness


def by_four(average: Any) -> Any:
    return average / 4


def with_penalty(prediction: Any, y: Any) -> Any:
    return F.smooth_l1_loss(prediction, y) + 0.1 * prediction.abs().mean()


@pytest.mark.parametrize("windows", [[2], [3], [5], [8], [4, 3], [4, 4, 1]])
@pytest.mark.parametrize("scaled", [False, True])
def test_another_number_of_passes(windows: list[int], *, scaled: bool) -> None:
    assert kinds(train(windows, by_four, scaled=scaled).report.notes) == [KIND]


def test_other_averages() -> None:
    assert kinds(train([3], by_four, with_penalty).report.notes) == [KIND]
    assert kinds(train([3], by_four, lambda p, y: (p - y).abs().mean()).report.notes) == [KIND]


def test_it_says_by_what_and_where(snapshot: SnapshotAssertion) -> None:
    (note,) = train([2], by_four, updates=False).report.notes
    assert at(note, by_four, "/ 4")
    assert note.text == snapshot


def summed(prediction: Any, y: Any) -> Any:
    return (prediction - y).square().sum()


@pytest.mark.parametrize(
    ("windows", "divided", "loss"),
    [
        ([4], by_four, F.mse_loss),
        ([4, 4], by_four, F.mse_loss),
        # A block that ends within a window that others do not.
        ([1], by_four, F.mse_loss),
        ([1, 1, 1], by_four, F.mse_loss),
        ([4], lambda loss: loss, F.mse_loss),
        ([4], lambda loss: 0.5 * loss, F.mse_loss),
        # Sums over the samples of all passes.
        ([4], lambda loss: loss / 16, summed),
        # Weighted by the share of the samples, or the average of two terms.
        ([4], lambda loss: loss * 4 / 16, F.mse_loss),
        ([4], lambda loss: (loss + loss) / 2, F.mse_loss),
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_what_is_right(windows: Any, divided: Any, loss: Any, *, scaled: bool) -> None:
    assert train(windows, divided, loss, scaled=scaled).report.notes == ()


def test_terms_on_lines_of_their_own() -> None:
    model = network()
    with gw.watch(model) as witness:
        (F.mse_loss(model(X), Y) / 2).backward()  # type: ignore[no-untyped-call]
        (F.mse_loss(model(X + 1), Y) / 2).backward()  # type: ignore[no-untyped-call]
        (F.mse_loss(model(X - 1), Y) / 10).backward()  # type: ignore[no-untyped-call]
    assert witness.report.notes == ()


def test_two_passes_through_one_graph_are_one_step() -> None:
    model = network()
    with gw.watch(model) as witness:
        for part in range(4):
            y = model(X[part::4])
            for target in (Y, -Y):
                (F.mse_loss(y, target[part::4]) / 4).backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert witness.report.notes == ()


def test_windows_that_the_block_does_not_hold_whole() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(2):
        with gw.watch(model) as witness:
            for part in range(2):
                (F.mse_loss(model(X[part::4]), Y[part::4]) / 4).backward()  # type: ignore[no-untyped-call]
            if step:
                optimizer.step()
        assert step == 0 or witness.report.notes == ()
    optimizer.zero_grad()
    with gw.watch(model) as witness:
        for number in range(6):
            (F.mse_loss(model(X), Y) / 4).backward()  # type: ignore[no-untyped-call]
            if number == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert witness.report.notes == ()
