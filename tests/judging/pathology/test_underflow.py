"""Gradients that are too small for float16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

KIND = "underflow"


def autocast(scale: float, dtype: torch.dtype = torch.float16) -> gw.Witness:
    model = network()
    with gw.watch(model) as witness:
        with torch.autocast("cpu", dtype=dtype):
            y = model(data(16))
        (1e-6 * scale * y.float().square().mean()).backward()  # here
    return witness


def in_half(scale: float) -> gw.Witness:
    model = network().half()
    with gw.watch(model) as witness:
        (1e-6 * scale * model(data(16).half()).float().square().mean()).backward()
    return witness


def one_layer(scale: float) -> gw.Witness:
    torch.manual_seed(0)
    layer: Any = nn.Linear(3, 4)
    with gw.watch(layer) as witness:
        hidden = layer(data(16)).half()
        ((hidden * 1e-4).float() * 1e-4 * scale).square().sum().backward()
    return witness


@pytest.mark.parametrize("program", [autocast, in_half, one_layer])
def test_what_underflows_is_noted_and_what_is_scaled_is_not(program: Any) -> None:
    assert kinds(program(1.0).report.notes) == [KIND]
    assert kinds(program(2.0**16).report.notes) == []


def test_it_says_where(snapshot: SnapshotAssertion) -> None:
    (note,) = autocast(1.0).report.notes
    assert at(note, autocast, "# here")
    assert note.text == snapshot


def test_bfloat16_has_room() -> None:
    assert KIND not in kinds(autocast(1.0, torch.bfloat16).report.notes)
