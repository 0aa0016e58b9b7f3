"""Architectures under autocast on a processor that oneDNN does not help: torch's own kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradwitness as gw
from architectures.zoo import build
from gradwitness.judging.comparing.compare import COARSE
from gradwitness.judging.gradients.lost import LOST


# The switch asks for a setting of other processors.
@pytest.mark.low_precision
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("name", ["lenet", "unet", "gan", "tcn", "mobilenet", "meta_learning"])
def test_every_step_agrees_without_onednn(name: str) -> None:
    workload = build(name)
    switched: Any = torch.backends.mkldnn.flags
    with switched(enabled=False), gw.watch(workload.model, keep=0) as witness:
        workload.step(low=True)
    assert [finding.title for finding in witness.report.wrong] == []
    # An error of a tenth would not show where a kernel adds up in 16 bits; nothing else is open.
    assert all(r.startswith((COARSE, LOST)) for r in witness.report.reasons())
