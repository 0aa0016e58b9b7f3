"""Tensors of ragged shape: they are no arrays, and leave doubts, but break nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import gradwitness as gw


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_ragged_tensors_leave_a_doubt(layout: torch.layout) -> None:
    model = nn.Linear(4, 3)
    rows = [torch.randn(3, 4), torch.randn(5, 4)]
    with gw.watch(model) as witness:
        nested: Any = torch.nested.nested_tensor(rows, layout=layout)
        parts = model(nested).unbind()
        torch.autograd.backward(sum(part.square().sum() for part in parts))
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert witness.report.wrong == ()
    assert {row.verdict for row in witness.report.rows} == {gw.Verdict.INCONCLUSIVE}
