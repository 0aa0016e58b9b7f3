"""Parameters that two optimizers update from one gradient, and optimizers that write twice."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from judging.pathology.watching import at, data, loss_of, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "updated twice"


def steps(first: Any, second: Any, part: slice = slice(2, None)) -> gw.Witness:
    model = network()
    one, two = first(model.parameters()), second(model[part].parameters())
    with gw.watch(model) as witness:
        for _ in range(2):
            model.zero_grad()
            loss_of(model, data()).backward()
            one.step()
            two.step()  # second
    return witness


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, 0.1, momentum=0.9)


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, foreach=True)


def fused(parameters: Any) -> Any:
    return torch.optim.AdamW(parameters, fused=True)


@pytest.mark.parametrize(
    ("first", "second"), [(sgd, adam), (adam, sgd), (fused, sgd), (sgd, fused), (adam, adam)]
)
def test_two_optimizers_over_one_parameter(
    first: Any, second: Any, snapshot: SnapshotAssertion
) -> None:
    (note,) = steps(first, second).report.notes
    assert note.kind == KIND
    assert note.text.startswith("2.weight and 2.bias: ")
    assert at(note, steps, "# second")
    places = note.text[note.text.index("gradient, at") : note.text.index(". Two")]
    assert note.text.replace(places, "") == snapshot


def test_optimizers_on_one_line() -> None:
    model = network()
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
        for optimizer in (sgd(model.parameters()), adam(model.parameters())):
            optimizer.step()
    (note,) = witness.report.notes
    assert note.kind == KIND


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "name", ["SGD", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop"]
)
def test_one_optimizer_may_write_several_times(name: str, *, foreach: bool) -> None:
    model = network()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-3, foreach=foreach)
    with gw.watch(model) as witness:
        for _ in range(2):
            model.zero_grad()
            loss_of(model, data()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    assert witness.report.notes == ()


def disjoint(model: Any) -> None:
    average = copy.deepcopy(model)
    for optimizer in (sgd(model[0].parameters()), adam(model[2].parameters())):
        optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.mul_(0.9).add_(fast, alpha=0.1)
            fast.clamp_(-1, 1)


def by_hand(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.99)
            parameter -= 0.1 * parameter.grad


def sharpness_aware(model: Any) -> None:
    moves = []
    with torch.no_grad():
        for parameter in model.parameters():
            moves.append(0.05 * parameter.grad)
            parameter.add_(moves[-1])
    model.zero_grad()
    loss_of(model, data()).backward()
    with torch.no_grad():
        for parameter, move in zip(model.parameters(), moves, strict=True):
            parameter.sub_(move)
    sgd(model.parameters()).step()


def line_search(model: Any) -> None:
    optimizer: Any = torch.optim.LBFGS(
        model.parameters(), max_iter=3, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model, data())
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize("update", [disjoint, by_hand, sharpness_aware, line_search])
def test_updates_that_are_right(update: Callable[[Any], None]) -> None:
    model = network()
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
        update(model)
    assert KIND not in [note.kind for note in witness.report.notes]
