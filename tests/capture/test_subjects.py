"""The command knows the modules and leaf tensors that a step uses, as `watch` is told them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradwitness.capture.again.target import load_function, subjects

if TYPE_CHECKING:
    from pathlib import Path

PARTS = """
import torch
from torch import nn

enc, dec, unused = nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(4, 4)
scale = torch.ones(3, requires_grad=True)
elsewhere = torch.ones(3, requires_grad=True)

def loss_fn():
    return (dec(enc(torch.ones(1, 3))) * scale).sum()

def step():
    loss_fn().backward()
"""
WHOLE = "\nnet = nn.ModuleDict({'encoder': enc, 'decoder': dec})\n"
MORE = "\nnet = nn.ModuleDict({'encoder': enc, 'decoder': dec, 'more': unused})\n"


def named(step: Any) -> tuple[set[str], set[str]]:
    models, leaves = subjects(step)
    return {name for model in models for name, _ in model.named_parameters()}, set(leaves)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("", {"enc.weight", "enc.bias", "dec.weight", "dec.bias"}),
        (WHOLE, {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}),
        # A module that holds more than the step uses would be noted as cut off in part.
        (MORE, {"enc.weight", "enc.bias", "dec.weight", "dec.bias"}),
    ],
)
def test_globals_of_the_file(tmp_path: Path, more: str, names: set[str]) -> None:
    path = tmp_path / "trained.py"
    path.write_text(PARTS + more)
    assert named(load_function(path, "step")) == (names, {"scale"})


def test_a_closure() -> None:
    layer, scales = nn.Linear(2, 2), [torch.ones(2, requires_grad=True)]

    def step() -> None:
        (layer(torch.ones(1, 2)) * scales[0]).sum().backward()

    models, leaves = subjects(step)
    assert models == (layer,)
    assert leaves == {"scales[0]": scales[0]}


def test_a_step_that_uses_nothing() -> None:
    assert subjects(lambda: None) == ((), {})
