"""Parameters with a gradient that no update reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, loss_of, network

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> gw.Witness:
    with gw.watch(model) as witness:
        for _ in range(2):
            model.zero_grad()
            loss_of(model, data()).backward()
            optimizer.step()  # here
    return witness


def test_a_parameter_that_was_replaced_after_the_optimizer_was_made(
    snapshot: SnapshotAssertion,
) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model[0].weight = nn.Parameter(torch.randn(4, 3))
    (note,) = steps(model, optimizer).report.notes
    assert note.kind == "parameters not updated"
    assert note.text == snapshot
    assert at(note, steps, "# here")


def test_a_part_that_no_optimizer_has(snapshot: SnapshotAssertion) -> None:
    model = network()
    (note,) = steps(model, torch.optim.Adam(model[2].parameters())).report.notes
    assert note.text == snapshot


def test_two_optimizers_may_share_the_work() -> None:
    model = network()
    both = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters())]
    with gw.watch(model) as witness:
        model.zero_grad()
        loss_of(model, data()).backward()
        for optimizer in both:
            optimizer.step()
    assert witness.report.notes == ()


def test_without_any_update_nothing_is_idle() -> None:
    model = network()
    with gw.watch(model) as witness:
        loss_of(model, data()).backward()
    assert witness.report.notes == ()
