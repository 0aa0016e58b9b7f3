"""Tables of rows: frequencies in bags, rows that are kept short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw

INDICES = torch.tensor([1, 2, 1, 1, 3])
OFFSETS = torch.tensor([0, 2])
# Each bag's gradient is 1; three rows are met 3, 1 and 1 times, and get 1/3 of it for each time.
SUMS = [0.0, 1.0, 1.0, 1.0, 0.0]
MEANS = [0.0, (1 / 2 + 2 / 3) / 3, 1 / 2, 1 / 3, 0.0]


@pytest.mark.parametrize(("mode", "right"), [("sum", SUMS), ("mean", MEANS)])
def test_torch_divides_by_the_frequency_of_another_row(mode: str, right: list[float]) -> None:
    # A fault of torch 2.13 (and of its forerunners): its kernel looks up how often the k-th index
    # of the sorted ones is met, where it should ask for the index of the k-th different one. Rows
    # 2 and 3, which are met once, are divided by 3.
    bag = nn.EmbeddingBag(5, 1, mode=mode, scale_grad_by_freq=True)
    with gw.watch(bag) as witness:
        torch.autograd.backward(bag(INDICES, OFFSETS).sum())
    assert bag.weight.grad is not None
    found = bag.weight.grad.flatten()
    assert found.tolist() == pytest.approx([n / 3 if k > 1 else n for k, n in enumerate(right)])
    (wrong,) = witness.report.wrong
    assert wrong.title.startswith("EmbeddingBagBackward0")
    assert (wrong.comparison.size, wrong.comparison.refuted) == (5, 2)
    assert wrong.comparison.expected == pytest.approx(right[wrong.comparison.index[0]])  # type: ignore[index]


def test_bags_that_meet_each_row_as_often_agree() -> None:
    bag = nn.EmbeddingBag(5, 1, mode="sum", scale_grad_by_freq=True)
    with gw.watch(bag) as witness:
        torch.autograd.backward(bag(INDICES[:2].repeat(3), OFFSETS).sum())
    assert witness.verdict is gw.Verdict.AGREES


def test_row_that_is_as_long_as_allowed_may_be_shortened_or_not() -> None:
    # A row that has been shortened is as long as allowed, to within rounding, at the next step.
    torch.manual_seed(0)
    model = nn.Embedding(60, 7, max_norm=1.0)
    words = torch.arange(60)
    with gw.watch(model) as witness:
        for _ in range(4):
            torch.autograd.backward(model(words).square().sum())
    assert witness.verdict is gw.Verdict.AGREES
    assert any("embedding_renorm_" in f.title for f in witness.report.findings)


def test_row_that_is_left_too_long_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Embedding(6, 4, max_norm=1.0)
    before = model.weight.detach().clone().numpy()
    with gw.watch(model) as witness:
        torch.autograd.backward(model(torch.tensor([1, 4])).sum())
    tape = witness.tape
    assert gw.judge(tape).verdict is gw.Verdict.AGREES
    (call,) = (call for call in tape.calls if "renorm" in call.op)
    values = list(tape.values)
    number = call.outputs[0]
    assert number is not None
    array = values[number].array
    assert array is not None
    left = np.where(np.arange(6)[:, None] == 4, before, array)
    values[number] = replace(values[number], array=left)
    report = gw.judge(replace(tape, values=tuple(values)))
    assert any("renorm" in f.title and f.comparison.refuted == 4 for f in report.wrong)
