"""Clipping before unscale_, after it, and what else may happen to scaled gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, loss_of, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "clipped before unscale_"


def by_norm(model: Any) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def one_by_one(model: Any) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)


def by_largest(model: Any) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0, norm_type=float("inf"))


def by_value(model: Any) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 0.5)


def grads(model: Any) -> list[Any]:
    return [parameter.grad for parameter in model.parameters()]


def by_hand(model: Any) -> None:
    total = torch.stack([g.norm() for g in grads(model)]).norm()
    for g in grads(model):
        g.mul_(1 / (total + 1e-6))


def through_python(model: Any) -> None:
    total = sum(g.norm().item() ** 2 for g in grads(model)) ** 0.5
    for g in grads(model):
        g.mul_(1 / (total + 1e-6))


def clamped(model: Any) -> None:
    for g in grads(model):
        g.data.clamp_(-0.1, 0.1)


CLIPS = [by_norm, one_by_one, by_largest, by_value, by_hand, through_python, clamped]


def train(
    clip: Callable[[Any], None], *, first: bool, keep: int | None = None, **options: Any
) -> gw.Witness:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with gw.watch(model, keep=keep) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, data())).backward()
            if first:
                scaler.unscale_(optimizer)
            clip(model)  # here
            scaler.step(optimizer)
            scaler.update()
    return witness


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clip", CLIPS)
def test_the_order_of_clipping_and_unscaling(clip: Callable[[Any], None], *, fused: bool) -> None:
    assert kinds(train(clip, first=False, fused=fused).report.notes) == [KIND]
    assert train(clip, first=True, fused=fused).report.notes == ()


def test_it_says_where(snapshot: SnapshotAssertion) -> None:
    (note,) = train(by_norm, first=False).report.notes
    assert at(note, by_norm, "clip_grad_norm_")
    assert note.text == snapshot


def test_the_factor_is_followed_without_its_number() -> None:
    assert kinds(train(by_norm, first=False, keep=0).report.notes) == [KIND]
    assert train(by_norm, first=True, keep=0).report.notes == ()


def a_log(model: Any) -> None:
    for g in grads(model):
        g.norm()


def an_average(model: Any) -> None:
    a_log(model)
    for g in grads(model):
        g.div_(3).mul_(1 / 3)


@pytest.mark.parametrize("between", [lambda _: None, a_log, an_average])
def test_what_goes_with_any_scale(between: Callable[[Any], None]) -> None:
    assert train(between, first=False).report.notes == ()


def test_without_a_scaler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
        by_norm(model)
        optimizer.step()
    assert witness.report.notes == ()
