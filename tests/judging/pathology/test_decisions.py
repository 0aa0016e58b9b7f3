"""Numbers that only decide what runs, and those that reach the loss as well."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness.judging.pathology.decisions import BRANCH, NUMBER
from judging.pathology.watching import at, data, kinds, leaf, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

X = data(6)


def on_a_grid(times: Any) -> Any:
    """y' = -y by Euler steps of 1/4, and y at some times: as solvers with fixed steps have it."""
    inner = 0.25 * torch.arange(1.0, 4.0)
    grid = torch.cat([times[:1], inner, times[-1:]])
    y, found, k = torch.ones(()), [torch.ones(())], 1
    for t0, t1 in pairwise(grid):
        following = y - (t1 - t0) * y
        while k < len(times) and t1 >= times[k]:
            if times[k] == t1:
                found.append(following)
            else:
                found.append(y + (following - y) * (times[k] - t0) / (t1 - t0))
            k += 1
        y = following
    return torch.stack(found).square().sum()


def test_a_time_on_the_grid_of_a_solver_gets_no_gradient(snapshot: SnapshotAssertion) -> None:
    times = leaf(0.0, 0.5, 1.0)
    with gw.watch(names={"times": times}) as witness:
        on_a_grid(times).backward()
    # The loss moves with each of them: only the branch says otherwise.
    assert times.grad[1] == 0
    assert witness.verdict is gw.Verdict.AGREES
    (note,) = witness.report.notes
    assert (note.kind, at(note, on_a_grid, "while")) == (BRANCH, True)
    assert plain(note.text) == snapshot


def test_a_time_between_the_steps_of_a_solver_has_its_gradient() -> None:
    times = leaf(0.0, 0.4, 1.0)
    with gw.watch(names={"times": times}) as witness:
        on_a_grid(times).backward()
    assert times.grad[1] != 0
    assert kinds(witness.report.notes) == []


def test_a_part_of_what_a_layer_made_is_named_by_its_call() -> None:
    model = nn.Linear(3, 4)
    with gw.watch(model) as witness:
        y = model(X)
        (y[:, :3] * (2 if y[:, 3].mean() > 0 else 3)).sum().backward()
    (note,) = witness.report.notes
    assert note.kind == BRANCH
    assert note.text.startswith("the result of aten.addmm.default (call 1): the part that is read")


def square_root(a: Any, tolerance: Any) -> Any:
    x, error = torch.ones(()), torch.full((), 9.0)
    while error > tolerance:
        x, before = (x + a / x) / 2, x
        error = (x - before).abs()
    return x


def bisection(a: Any, b: Any) -> Any:
    low, high = torch.zeros(()), torch.full((), 3.0)
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if middle * middle > b else (middle, high)
    return middle * a


def pieces(a: Any, b: Any) -> Any:
    return a**2 if a > b else 2 * a


def length(a: Any, b: Any) -> Any:
    return (a * torch.arange(5.0)[: int(b)]).sum()


def constant(a: Any, b: Any) -> Any:
    return a * b.item()


def found_in_a_table(a: Any, b: Any) -> Any:
    table = torch.arange(5.0)
    return a * table.square()[torch.searchsorted(table, b)]


@pytest.mark.parametrize(
    ("loss", "text", "kind"),
    [
        (square_root, "while error", BRANCH),
        (bisection, "if middle", BRANCH),
        (pieces, "if a > b", BRANCH),
        (length, "int(b)", NUMBER),
        (constant, "b.item()", NUMBER),
        (found_in_a_table, "searchsorted", BRANCH),
    ],
)
def test_a_leaf_that_only_decides(loss: Callable[..., Any], text: str, kind: str) -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    with gw.watch(names={"a": a, "b": b}) as witness:
        loss(a, b).backward()
    assert b.grad is None
    (note,) = witness.report.notes
    assert note.kind == kind
    assert note.text.startswith("b: no gradient. ")
    assert at(note, loss, text)


class Net(nn.Module):
    """A layer, a gate and a threshold, and what makes a loss of them."""

    def __init__(self, forward: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.layer, self.gate = nn.Linear(3, 3), nn.Linear(3, 1)
        self.threshold = nn.Parameter(torch.tensor(0.1))
        self.made = forward

    def forward(self, x: Any) -> Any:
        return self.made(self, x)


def threshold(net: Any, x: Any) -> Any:
    h = net.layer(x) + net.gate(x)
    return h * 2 if x.mean() > net.threshold else h


def early_exit(net: Any, x: Any) -> Any:
    h = net.layer(x) * net.threshold
    if torch.sigmoid(net.gate(h)).mean() > 0.9:
        return h
    return h.tanh()


@pytest.mark.parametrize(
    ("forward", "names"), [(threshold, "threshold"), (early_exit, "gate.weight and gate.bias")]
)
def test_a_parameter_that_only_decides(forward: Callable[..., Any], names: str) -> None:
    model = Net(forward)
    with gw.watch(model) as witness:
        model(X).square().mean().backward()
    (note,) = witness.report.notes
    assert note.kind == BRANCH
    assert note.text.startswith(f"{names}: no gradient. ")
    assert at(note, forward, "if ")


def checked(net: Any, x: Any) -> Any:
    h = net.layer(x) * net.threshold + net.gate(x)
    if torch.isnan(h).any() or not torch.isfinite(net.layer.weight).all():
        raise ValueError
    return h / h.abs().max().item() if h.abs().max() > 0.1 else h


def mixed(net: Any, x: Any) -> Any:
    scores, places = net.gate(x).squeeze(1).topk(3)
    h = net.layer(x)[places] * scores.sigmoid()[:, None]
    return h[h > 0] * net.threshold if (h > 0).any() else h


def without_effect_yet(net: Any, x: Any) -> Any:
    """Its second factor is 0, as at the beginning of a low-rank adaptation."""
    h = net.layer(x) + torch.zeros(3, requires_grad=True) * net.gate(x) * net.threshold
    return h if h.mean() < 9 else h.tanh()


@pytest.mark.parametrize("forward", [checked, mixed, without_effect_yet])
def test_what_reaches_the_loss_as_well_is_not_noted(forward: Callable[..., Any]) -> None:
    model = Net(forward)
    optimizer = torch.optim.Adam(model.parameters())
    best = 9.0
    with gw.watch(model) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(X).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1, error_if_nonfinite=True)
            best = min(best, loss.item())
            if not torch.isnan(loss):
                optimizer.step()
    assert {BRANCH, NUMBER}.isdisjoint(kinds(witness.report.notes))


def test_a_line_search_is_not_noted() -> None:
    model = nn.Linear(3, 1)
    optimizer: Any = torch.optim.LBFGS(
        model.parameters(), max_iter=3, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimizer.zero_grad()
        loss: Any = F.mse_loss(model(X), X[:, :1])
        loss.backward()
        return loss

    with gw.watch(model) as witness:
        optimizer.step(closure)
    assert {BRANCH, NUMBER}.isdisjoint(kinds(witness.report.notes))


def test_what_is_detached_is_meant() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    with gw.watch(names={"a": a, "b": b}) as witness:
        pieces(a, b.detach()).backward()
    assert kinds(witness.report.notes) == []


def kept_by_a_loop(scores: Any) -> Any:
    return sum(s for s in scores if s > 0)


def largest_by_python(scores: Any) -> Any:
    return max(*scores)


def trimmed(scores: Any) -> Any:
    return sum(sorted(scores, key=lambda s: s.item())[1:-1])


def most_votes(scores: Any) -> Any:
    votes = [((scores - s).abs() < 1).sum().item() for s in scores]
    return scores[votes.index(max(votes))]


def shown(scores: Any) -> Any:
    assert scores[0].item() != scores[1:3].mean().item()
    return scores[3:].sum()


@pytest.mark.parametrize(
    "loss",
    [kept_by_a_loop, largest_by_python, trimmed, most_votes, shown],
    ids=lambda f: f.__name__,
)
def test_parts_that_are_left_out_of_a_function_in_pieces_are_not_noted(
    loss: Callable[[Any], Any],
) -> None:
    model = nn.Linear(3, 1)
    with gw.watch(model) as witness:
        loss(model(data(6))[:, 0]).backward()
    assert witness.verdict is gw.Verdict.AGREES
    assert {BRANCH, NUMBER}.isdisjoint(kinds(witness.report.notes))


def test_a_part_of_a_leaf_that_becomes_a_number_is_noted() -> None:
    scales = leaf(1.5, 2.5)
    with gw.watch(names={"scales": scales}) as witness:
        (scales[0] * scales[1].item()).backward()
    # The loss is the product, the derivative by the second the first.
    assert scales.grad[1] == 0
    assert NUMBER in kinds(witness.report.notes)


def test_looking_for_other_ways_takes_no_longer_for_each_number_that_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared, plain_compared = [], np.shares_memory

    def counted(*given: Any) -> bool:
        compared.append(given)
        return plain_compared(*given)

    monkeypatch.setattr(np, "shares_memory", counted)
    x = torch.linspace(1.0, 2.0, 40, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        sum(x[i] for i in range(40) if x[i] > 0).backward()  # type: ignore[union-attr]
    assert witness.report.verdict is gw.Verdict.AGREES
    # Two detectors ask once for each element that is read; forty others are not looked at.
    assert 0 < len(compared) <= 4 * 40
