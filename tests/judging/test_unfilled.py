"""Memory that is written to piece by piece: unwritten parts are not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def fresh_memory_holds_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_circular_padding_is_judged_in_full() -> None:
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, requires_grad=True)
    with gw.watch() as witness:
        y = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w)
        torch.autograd.backward(y, torch.randn_like(y))
    assert witness.verdict is gw.Verdict.AGREES


def test_arithmetic_with_what_was_never_written_is_found() -> None:
    x = torch.randn(3, requires_grad=True)
    with gw.watch() as witness:
        room = torch.empty(4)
        room[1:] = x
        y = room * 2
        torch.autograd.backward(y, torch.ones(4))
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert [f.title for f in witness.report.findings if f.comparison.reason] == [
        "aten.mul.Tensor (call 3)"
    ]
