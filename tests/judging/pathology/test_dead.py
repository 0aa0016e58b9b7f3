"""Units that nothing switches on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "relu_": lambda x: x.relu_(),
    "nn.ReLU": nn.ReLU(),
    "clamp": lambda x: x.clamp(min=0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "relu6": F.relu6,
}


def layer(kind: str, dead: int | None) -> Any:
    torch.manual_seed(0)
    model: Any = nn.Linear(3, 4) if kind == "linear" else nn.Conv2d(3, 4, 3)
    if dead is not None:
        with torch.no_grad():
            model.bias[dead] = -100
    return model


def inputs(kind: str, samples: int) -> Any:
    return torch.randn(samples, 3) if kind == "linear" else torch.randn(samples, 3, 6, 6)


def step(
    kind: str, activation: Callable[[Any], Any], samples: int = 32, dead: int | None = 2
) -> gw.Witness:
    model = layer(kind, dead)
    with gw.watch(model) as witness:
        y = activation(model(inputs(kind, samples)))
        (y * torch.rand_like(y)).sum().backward()
    return witness


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_dead_unit_is_named(kind: str, name: str) -> None:
    (note,) = step(kind, ACTIVATIONS[name]).report.notes
    assert note.kind == "dead units"
    assert "(#2)" in note.text
    assert note.source is not None
    assert note.source.line.startswith(f"{__file__}:")
    assert note.call is not None


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_living_units_are_not(kind: str, name: str) -> None:
    assert step(kind, ACTIVATIONS[name], dead=None).report.notes == ()


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize(
    "activation", [F.leaky_relu, F.gelu, F.hardtanh, torch.tanh, lambda x: x.clamp(min=-200)]
)
def test_what_lets_gradients_through_is_no_rectifier(
    kind: str, activation: Callable[[Any], Any]
) -> None:
    # The tanh of -100 is -1, which has a note of its own.
    kinds = [note.kind for note in step(kind, activation).report.notes]
    assert kinds == (["saturated"] if activation is torch.tanh else [])


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_small_batches_say_too_little(kind: str) -> None:
    # The positions of an image are not separate samples.
    assert step(kind, F.relu, samples=15).report.notes == ()
    assert len(step(kind, F.relu, samples=16).report.notes) == 1


def test_units_of_a_convolution_stay_channels_on_the_way(snapshot: SnapshotAssertion) -> None:
    def onward(x: Any) -> Any:
        return F.relu(F.max_pool2d(x * 2 + 1, 2))

    (note,) = step("convolution", onward).report.notes
    assert note.text == snapshot


def test_small_batches_add_up_and_are_one_note(snapshot: SnapshotAssertion) -> None:
    model = layer("linear", 2)
    with gw.watch(model) as witness:
        for _ in range(4):
            torch.autograd.backward(F.relu(model(inputs("linear", 8))).sum())
    (note,) = witness.report.notes
    assert note.text == snapshot


@pytest.mark.parametrize("scales", [(1.0, 1e4), (1e4, 1.0)])
def test_a_unit_that_any_batch_switches_on_is_alive(scales: tuple[float, float]) -> None:
    model = layer("linear", 2)
    with gw.watch(model) as witness:
        for scale in scales:
            torch.autograd.backward(F.relu(model(inputs("linear", 32) * scale)).sum())
    assert witness.report.notes == ()


def test_layers_of_a_loop_are_told_apart(snapshot: SnapshotAssertion) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
    bias: Any = layers[1].bias
    with torch.no_grad():
        bias[3] = -100
    with gw.watch(layers) as witness:
        h = torch.randn(64, 4)
        for linear in layers:
            h = F.relu(linear(h) + 1)
        torch.autograd.backward(h.sum())
    (note,) = witness.report.notes
    assert note.text == snapshot


def test_what_is_not_differentiated_need_not_live() -> None:
    model = layer("linear", 2)
    with gw.watch(model) as witness:
        with torch.no_grad():
            F.relu(model(inputs("linear", 32)))
        model(inputs("linear", 32)).square().sum().backward()
    assert witness.report.notes == ()


def test_a_table_longer_than_the_first_look() -> None:
    # The unit lives in the last of 300 rows only.
    model = layer("linear", None)
    x = torch.zeros(300, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(4, 3))
        model.bias.copy_(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    x[299, 0] = 2
    for rows, count in ((300, 0), (299, 1)):
        with gw.watch(model) as witness:
            torch.autograd.backward(F.relu(model(x[:rows])).sum())
        notes = [note for note in witness.report.notes if note.kind == "dead units"]
        assert len(notes) == count
