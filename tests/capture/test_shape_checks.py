"""Tensors that stand for shapes alone, in a block that computes numbers as well."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gradwitness as gw

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def by_a_mode(model: Any) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return model(torch.empty(6, 5)).shape


def by_fake_tensors(_: Any) -> Any:
    with FakeTensorMode() as mode:
        x = mode.from_tensor(X)
    return (*(x @ x.T).exp().shape[:1], 3)


def on_no_device(model: Any) -> Any:
    return copy.deepcopy(model).to("meta")(torch.empty(6, 5, device="meta")).shape


@pytest.mark.parametrize("checked", [by_a_mode, by_fake_tensors, on_no_device])
def test_a_check_of_shapes_leaves_a_block_as_it_is(checked: Any) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        checked(model)
        before = len(told)
        with gw.watch(model) as witness:
            assert checked(model) == (6, 3)
            model(X).square().mean().backward()
    assert len(told) == 2 * before
    assert witness.verdict.value == "AGREES", str(witness)
