"""Losses of logits that get probabilities, and those that get logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "softmax twice"
X = data(12)
CLASSES = torch.arange(12) % 4
YES = (torch.arange(12) % 2).float()


def watched(loss: Callable[[Any], Any]) -> gw.Witness:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    with gw.watch(model) as witness:
        loss(model(X)).backward()
    return witness


def softmax_in_the_model(y: Any) -> Any:
    p = torch.softmax(y, -1)
    return F.cross_entropy(p, CLASSES)


def sigmoid_in_the_model(y: Any) -> Any:
    p = torch.sigmoid(y[:, 0])
    return F.binary_cross_entropy_with_logits(p, YES)


def autocast(y: Any) -> Any:
    with torch.autocast("cpu"):
        return F.cross_entropy(F.softmax(y, -1), CLASSES)


def softmax_by_hand(y: Any) -> Any:
    e = torch.exp(y - y.max(1, keepdim=True).values)
    p = e / e.sum(1, keepdim=True)
    return F.cross_entropy(p, CLASSES)


WRONG: list[Callable[[Any], Any]] = [
    softmax_in_the_model,
    sigmoid_in_the_model,
    autocast,
    softmax_by_hand,
    lambda y: F.cross_entropy(y.exp() / (y.exp().sum(1) + 1e-9).unsqueeze(1), CLASSES),
    lambda y: F.cross_entropy(F.softmax(y, 1), CLASSES, label_smoothing=0.1),
    lambda y: F.cross_entropy(F.softmax(y, 1), torch.softmax(X @ torch.ones(3, 4), 1)),
    lambda y: F.cross_entropy(F.log_softmax(y, 1).exp(), CLASSES),
    lambda y: F.cross_entropy(torch.sigmoid(y), CLASSES),
    lambda y: F.cross_entropy(
        y.view(3, 4, 4).softmax(-1).permute(0, 2, 1), CLASSES.view(3, 4), reduction="sum"
    ),
    lambda y: nn.BCEWithLogitsLoss()(nn.Sigmoid()(y)[:, 1:2], YES[:, None]),
]


@pytest.mark.parametrize("loss", WRONG)
def test_probabilities_for_logits(loss: Callable[[Any], Any]) -> None:
    assert kinds(watched(loss).report.notes) == [KIND]


@pytest.mark.parametrize("loss", [softmax_in_the_model, sigmoid_in_the_model, softmax_by_hand])
def test_it_says_what_made_them(loss: Callable[[Any], Any], snapshot: SnapshotAssertion) -> None:
    (note,) = watched(loss).report.notes
    assert at(note, loss, "(p, ")
    assert plain(note.text) == snapshot


def attention_then_layer(y: Any) -> Any:
    return F.cross_entropy(torch.softmax(y, -1) @ torch.eye(4, 5), CLASSES)


def focal(y: Any) -> Any:
    each = F.binary_cross_entropy_with_logits(y[:, 0], YES, reduction="none")
    return (each * (1 - torch.sigmoid(y[:, 0])) ** 2).mean()


RIGHT: list[Callable[[Any], Any]] = [
    attention_then_layer,
    focal,
    # Divided by another sum, these are no probabilities.
    lambda y: F.cross_entropy(y.exp() / X.exp().sum(1, keepdim=True), CLASSES),
    lambda y: F.cross_entropy(y, CLASSES, label_smoothing=0.1),
    lambda y: F.kl_div(F.log_softmax(y, -1), F.softmax(y.detach() + X[:, :1], -1)),
    lambda y: (F.softmax(y, -1) * F.log_softmax(y, -1)).sum(),
    lambda y: F.nll_loss(torch.log(F.softmax(y, -1)), CLASSES),
    # The same numbers again.
    lambda y: F.cross_entropy(F.log_softmax(y, -1), CLASSES),
    lambda y: F.binary_cross_entropy(torch.sigmoid(y[:, 0]), YES),
    lambda y: F.cross_entropy(y * torch.sigmoid(y), CLASSES),
]


@pytest.mark.parametrize("loss", RIGHT)
@pytest.mark.filterwarnings("ignore:reduction")
def test_logits_where_logits_are_wanted(loss: Callable[[Any], Any]) -> None:
    assert KIND not in kinds(watched(loss).report.notes)
