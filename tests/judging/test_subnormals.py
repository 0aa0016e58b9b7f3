"""Programs that have subnormal numbers flushed to zero: the witness's own are, too, meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="no processor that flushes"
)


@pytest.fixture(autouse=True)
def flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("depth", ["fast", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_program_that_flushes_is_judged(dtype: torch.dtype, depth: str) -> None:
    x = torch.linspace(-1, 1, 20, dtype=dtype, requires_grad=True)
    with gw.watch(depth=depth) as witness:
        kept = x.detach() < 0
        torch.autograd.backward((kept * x * torch.zeros_like(x)).sum())
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
