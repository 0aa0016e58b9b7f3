"""Shared by the tests of the detectors: a small network, and the notes of a watched step."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.note import Note


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def data(samples: int = 8) -> Any:
    return torch.randn(samples, 3, generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module, x: Any) -> Any:
    return model(x).square().mean()


def leaf(*numbers: float) -> Any:
    return torch.tensor(numbers, dtype=torch.float32).requires_grad_()


def notes_of(function: Callable[[Any], Any], x: Any) -> tuple[Note, ...]:
    """Return the notes on a function's backward pass."""
    with gw.watch(names={"x": x}) as witness:
        function(x).backward()
    return witness.report.notes


def kinds(notes: tuple[Note, ...]) -> list[str]:
    return [note.kind for note in notes]


def plain(text: str) -> str:
    """Return a note's text without the line in a test file, and without measured digits."""
    text = re.sub(r"\S*/(test_\w+\.py):\d+|(test_\w+\.py):\d+", r"\1\2:LINE", text)
    return re.sub(r"\d+\.\d of (\d\.\d decimal)", r"N of \1", text)


def at(note: Note, function: Callable[..., Any], text: str) -> bool:
    """Whether a note points at the line of a function that holds a text."""
    lines, first = inspect.getsourcelines(function)
    (offset,) = [n for n, line in enumerate(lines) if text in line]
    assert note.source is not None
    return note.source.line == f"{inspect.getsourcefile(function)}:{first + offset}"
