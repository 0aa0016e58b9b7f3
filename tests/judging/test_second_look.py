"""A second look at gradients that a rule computes together computes them once."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness
from gradwitness.engine.bounded import Bounded
from gradwitness.judging.comparing import compare
from gradwitness.rules.layers import recurrent


@pytest.mark.usefixtures("by_bounds")
def test_a_recurrent_layer_goes_back_through_time_once_for_all_its_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 8)
    with torch.no_grad():
        for parameter in layer.parameters():
            # So large that the bounds over 60 steps tell nothing.
            parameter.mul_(2)
    # By the threads whose sums in turn are followed; 0 at first, -1 for the sizes of terms.
    looks: list[int] = []
    through_time = recurrent._through_time

    def noted(g: Any, *rest: Any) -> Any:
        if isinstance(g[0], Bounded):
            looks.append(g[0].arithmetic.stretches)
        elif all(np.all(part >= 0) for part in (*chain(*rest[0]), *g[:3])):
            looks.append(-1)
        return through_time(g, *rest)

    monkeypatch.setattr(recurrent, "_through_time", noted)
    # What lies near float64's result would agree by that alone.
    monkeypatch.setattr(compare, "near", lambda *_: 0.0)
    with gradwitness.watch(layer) as witness:
        torch.autograd.backward(layer(torch.randn(60, 2, 3))[0].square().mean())
    doubted = [f for f in witness.report.findings if f.comparison.reason]
    assert len(doubted) == 4
    assert Counter(looks) == {0: 1, 1: 1, -1: 1}
