"""Memory that is written to piece by piece: unwritten parts are not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def grown(*sizes: int) -> torch.Tensor:
    """Return a tensor that shows more than it did."""
    room = torch.ones(2)
    for size in sizes:
        room.resize_(size)
    return room


@pytest.mark.parametrize("options", [{}, {"keep": 0}, {"depth": "fast"}], ids=str)
@pytest.mark.parametrize(
    "fill",
    [
        lambda room: room.fill_(2.0),
        lambda room: room.zero_().add_(3),
        lambda room: room.copy_(torch.ones(4)),
        lambda room: room.uniform_(),
        lambda room: torch.exp(torch.ones(4), out=room),
        lambda room: torch.cat([torch.ones(2), torch.ones(2)], out=room.resize_(0)),
        lambda room: room.resize_(4).fill_(1.0),
    ],
)
@pytest.mark.parametrize("sizes", [(4,), (0, 4)], ids=str)
def test_what_is_written_over_at_once_need_not_be_known(
    fill: Any, sizes: tuple[int, ...], options: Any
) -> None:
    x = torch.ones(4, requires_grad=True)
    with gw.watch(**options) as witness:
        room = grown(*sizes)
        fill(room)
        torch.autograd.backward((room * x).sum())
    witness.require()


@pytest.mark.parametrize(
    "read",
    [
        lambda room: room * 2,
        lambda room: room.add_(1),
        lambda room: room.view(2, 2),
        lambda room: room[:2].fill_(1.0),
        lambda room: room.resize_(3),
        lambda room: room.clone(),
        lambda room: room.item() if room.numel() == 1 else room.tolist(),
    ],
)
def test_what_is_read_must_be_known(read: Any) -> None:
    x = torch.ones((), requires_grad=True)
    with gw.watch() as witness:
        room = grown(0, 4)
        read(room)
        room.sum().item()
        torch.autograd.backward(2 * x)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    unshown = "memory not shown by the tensor, or never written"
    assert any(unshown in reason for reason in witness.report.reasons())


def test_what_nobody_reads_need_not_be_known() -> None:
    x = torch.ones((), requires_grad=True)
    with gw.watch() as witness:
        grown(4)
        torch.autograd.backward(2 * x)
    witness.require()
