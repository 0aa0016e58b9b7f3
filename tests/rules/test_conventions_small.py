"""Tensors without elements, without axes, and losses of one sample without a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from judging.looks.test_fast import changed
from rules.harness import make
from rules.sampling import aten, normal, sample


@pytest.mark.parametrize(
    ("op", "args", "shape"),
    [
        (aten._softmax.default, (normal(3, 0), 1, False), (3, 0)),
        (aten._softmax.default, (normal(0, 3), 1, False), (0, 3)),
        (aten._log_softmax.default, (normal(3, 0), -1, False), (3, 0)),
        (aten._safe_softmax.default, (normal(0, 3), 0), (0, 3)),
        (aten.unfold.default, (normal(), 0, 0, 1), (0,)),
        (aten.logcumsumexp.default, (normal(2, 0), 1), (2, 0)),
    ],
)
def test_nothing_comes_of_nothing(op: Any, args: Any, shape: tuple[int, ...]) -> None:
    case = make(sample(op, *args))
    assert np.shape(case.value()) == case.result.shape == shape
    assert np.shape(case.gradient("x")) == case.torch_gradient("x").shape


def test_the_logarithm_of_an_empty_sum_is_that_of_0() -> None:
    case = make(sample(aten.logsumexp.default, normal(2, 0), [1]))
    np.testing.assert_array_equal(case.value().value, [-np.inf, -np.inf])
    np.testing.assert_array_equal(case.result, [-np.inf, -np.inf])


CLASSES = torch.tensor([0.3, -0.2, 0.9, 1.5])
LABELS = torch.tensor([2, 0, -1, 1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("loss", "scores", "target", "expected"),
    [
        # Margins 1 - 0.9 + (0.3, -0.2, 1.5) = 0.4, -0.1, 1.6, over four classes.
        ("multi_margin_loss", CLASSES, torch.tensor(2), [0.25, 0, -0.5, 0.25]),
        ("multi_margin_loss", CLASSES, torch.tensor([2]), [0.25, 0, -0.5, 0.25]),
        ("multi_margin_loss", CLASSES[0], torch.tensor(0), 0),
        # Labels 2 and 0: 1 - 0.9 + (-0.2, 1.5), 1 - 0.3 + (-0.2, 1.5).
        ("multilabel_margin_loss", CLASSES, LABELS, [-0.5, 0.25, -0.25, 0.5]),
        ("multilabel_margin_loss", CLASSES[0], torch.tensor(0), 0),
    ],
)
def test_a_loss_of_one_sample_without_a_batch(
    loss: str, scores: torch.Tensor, target: torch.Tensor, expected: Any, reduction: str
) -> None:
    x = scores.clone().requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        made = getattr(torch.nn.functional, loss)(x, target, reduction=reduction)
        (made.sum() * 1).backward()
    assert not witness.report.wrong, str(witness)
    unjudged = {reason for reason in witness.report.reasons() if "signal" not in reason}
    assert not unjudged, str(witness)
    assert x.grad is not None
    assert x.grad.tolist() == expected


def test_axes_of_a_tensor_without_axes() -> None:
    x = torch.tensor(1.5, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        (x.transpose(0, -1) * 2 + x.unfold(0, 1, 1).sum() * 3).backward()  # type: ignore[no-untyped-call]
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert x.grad is not None
    assert x.grad.item() == 5


def test_a_histogram_of_no_number_has_no_density() -> None:
    # 0 numbers, divided by 0: NaN in every bin, and 0 in each without the division.
    x, edges = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0, 7.0])
    with gw.watch() as witness:
        share = torch.histogram(x, edges, density=True).hist
        counts = torch.histogram(x, edges).hist
    assert torch.isnan(share).all()
    assert counts.tolist() == [0, 0]
    assert {finding.verdict for finding in witness.report.findings} == {gw.Verdict.AGREES}


def test_a_number_on_an_edge_that_rounds_is_not_counted() -> None:
    # Edges at thirds, which torch does not return: is 1/3 below its own?
    x = torch.tensor([[0.0], [1 / 3], [1.0]])
    with gw.watch() as witness:
        torch.ops.aten._histogramdd_from_bin_cts(x, [3])
        torch.ops.aten._histogramdd_from_bin_cts(x, [2])
    thirds, halves = witness.report.findings
    assert "depends on rounding" in thirds.comparison.reason
    assert halves.verdict is gw.Verdict.AGREES


def test_a_convolution_of_no_channels_makes_none_and_its_bias_gets_0() -> None:
    """Torch's convention: by the definition, a sum of no products, there would be the bias."""
    leaves = {
        "x": torch.randn(2, 0, 8, 8, requires_grad=True),
        "w": torch.randn(4, 0, 3, 3, requires_grad=True),
        "b": torch.randn(4, requires_grad=True),
    }
    with gw.watch(names=leaves, keep=None) as witness:
        y = F.conv2d(leaves["x"], leaves["w"], leaves["b"])
        torch.autograd.backward(y.sum())
    assert y.shape == (2, 0, 6, 6)
    assert witness.verdict is gw.Verdict.AGREES, witness.report.reasons()
    # Where nothing comes in, 0 is the only right gradient.
    (row,) = (row for row in witness.report.rows if row.name == "b")
    wrong = np.array([0, 0, 0, 1e-30], np.float32)
    report = gw.judge(changed(witness.tape, row.value or 0, wrong))
    assert report.verdict is gw.Verdict.DISAGREES


@pytest.mark.parametrize("pool", [F.fractional_max_pool2d, F.fractional_max_pool3d])
def test_of_no_images_nothing_is_pooled(pool: Any) -> None:
    axes = 2 if pool is F.fractional_max_pool2d else 3
    x, w = torch.zeros(0, 3, *[9] * axes, requires_grad=True), torch.ones(2, requires_grad=True)
    with gw.watch(names={"x": x, "w": w}) as witness:
        y = pool(x, 3, output_size=2)
        torch.autograd.backward(y.sum() + w.sum())
    assert y.shape == (0, 3, *[2] * axes)
    assert witness.verdict is gw.Verdict.AGREES, witness.report.reasons()


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4)])
def test_a_sum_of_no_products_is_what_they_are_added_to(shape: tuple[int, ...]) -> None:
    b = torch.randn(shape, requires_grad=True)
    with gw.watch(names={"b": b}) as witness:
        y = torch.addbmm(b, torch.ones(0, 3, 5), torch.ones(0, 5, 4), beta=0.5)
        torch.autograd.backward(y.sum())
    assert witness.verdict is gw.Verdict.AGREES, witness.report.reasons()
    # 12 times 0.5, shared by the numbers of b.
    np.testing.assert_array_equal(b.grad, np.full(shape, 6 / max(1, b.numel())))


NO_CLASSES = torch.zeros(0, dtype=torch.long)
MEANS: dict[str, Any] = {
    "mean": torch.mean,
    "var": torch.var,
    "nll_loss": lambda x: F.nll_loss(x, NO_CLASSES),
    "weighted nll_loss": lambda x: F.nll_loss(x, NO_CLASSES, torch.ones(3)),
    "nll_loss2d": lambda x: F.nll_loss(x[..., None], NO_CLASSES[:, None]),
}


@pytest.mark.filterwarnings("ignore:var:UserWarning")
@pytest.mark.parametrize("name", MEANS)
def test_the_mean_of_nothing_is_nan_on_both_sides(name: str) -> None:
    x, w = torch.zeros(0, 3, requires_grad=True), torch.ones(2, requires_grad=True)
    with gw.watch(names={"x": x, "w": w}) as witness:
        y = MEANS[name](x)
        torch.autograd.backward(y + w.sum())
    assert y.isnan()
    (reason,) = witness.report.reasons()
    assert reason == "NaN in 1 of 1 elements"
