"""The rules of torchvision's operators: by mathematics, and by torchvision where it is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.rules import find
from rules.vision_operators import OPERATORS, is_torchvision_there, operators

ROIS = np.array([[0, 1.2, 2.1, 7.7, 8.3], [1, -1.3, 0.4, 5.2, 12.9], [0, 3.3, 3.1, 3.9, 4.2]])
SIZES: dict[str, Any] = {"spatial_scale": 0.9, "pooled_height": 3, "pooled_width": 2}
REGIONS: list[tuple[str, dict[str, Any]]] = [
    ("roi_align", {**SIZES, "sampling_ratio": 2, "aligned": False}),
    ("roi_align", {**SIZES, "sampling_ratio": -1, "aligned": True}),
    ("ps_roi_align", {**SIZES, "sampling_ratio": 2}),
    ("ps_roi_pool", SIZES),
]


def first(results: Any) -> Any:
    return results[0] if isinstance(results, tuple) else results


@pytest.mark.parametrize(("name", "how"), REGIONS)
def test_what_regions_give_back_is_the_transpose_of_what_they_take(
    name: str, how: dict[str, Any]
) -> None:
    rule = find(f"torchvision.{name}")
    assert rule
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 12, 9, 10))
    y = rule.function(x, ROIS, **how)
    g = rng.standard_normal(first(y).shape)
    given = (g, None) if isinstance(y, tuple) else g
    back = rule.gradients["x"](given, y, (x, ROIS), how)
    assert np.count_nonzero(back)
    assert np.sum(g * first(y)) == pytest.approx(np.sum(back * x), rel=1e-12)


@pytest.mark.parametrize("ratio", [1, 3, -1])
def test_the_mean_of_a_slope_is_what_it_is_in_the_middle_of_a_bin(ratio: int) -> None:
    rule = find("torchvision.roi_align")
    assert rule
    rows, columns = np.indices((12, 10))
    x = (3.0 * rows + 2.0 * columns + 1)[None, None]
    rois = np.array([[0, 1.5, 2.5, 7.5, 10.5]])
    y = rule.function(
        x, rois, spatial_scale=1.0, pooled_height=2, pooled_width=3, sampling_ratio=ratio,
        aligned=True,
    )  # fmt: skip
    # From 2 to 10 and from 1 to 7 among the pixels, whose middles are half a pixel further on.
    middles = [[3 * (4 + 4 * i) + 2 * (2 + 2 * j) + 1 for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(y[0, 0], middles, rtol=1e-14)


def test_largest_pixels_of_whole_bins_by_hand() -> None:
    rule = find("torchvision.roi_pool")
    assert rule
    x = np.arange(20.0).reshape(1, 1, 4, 5)
    how = {"spatial_scale": 0.5, "pooled_height": 2, "pooled_width": 2}
    # Half of it is from 1 to 4 and from 0 to 3: bins of two pixels each way.
    y, index = rule.function(x, np.array([[0, 2.0, 0, 8, 6]]), **how)
    np.testing.assert_array_equal(y[0, 0], [[7, 9], [17, 19]])
    np.testing.assert_array_equal(index, y)
    back = rule.gradients["x"]((y + 1, None), (y, index), (x, np.zeros((1, 5))), how)
    np.testing.assert_array_equal(np.flatnonzero(back), [7, 9, 17, 19])
    np.testing.assert_array_equal(back[back > 0], [8, 10, 18, 20])


def test_of_overlapping_boxes_the_best_are_kept() -> None:
    rule = find("torchvision.nms")
    assert rule
    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [6, 6, 9, 9.0]])
    scores = np.array([0.3, 0.9, 0.5])
    # The first two share 9 of 23.
    for threshold, kept in ((0.3, [1, 2]), (0.4, [1, 2, 0])):
        np.testing.assert_array_equal(rule.function(boxes, scores, iou_threshold=threshold), kept)
    with pytest.raises(NotImplementedError, match="overlap rounding holds"):
        rule.function(boxes, scores, iou_threshold=9 / 23)


WALK: dict[str, Any] = {
    "stride_h": 2,
    "stride_w": 1,
    "pad_h": 1,
    "pad_w": 0,
    "dilation_h": 1,
    "dilation_w": 2,
    "groups": 2,
    "offset_groups": 2,
    "use_mask": True,
}


def deformed() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 6, 7)), rng.standard_normal((4, 2, 3, 2))
    # Well off the pixels.
    offset = rng.integers(-2, 3, (2, 24, 3, 5)) + rng.uniform(0.1, 0.9, (2, 24, 3, 5))
    return x, weight, offset, rng.uniform(0.2, 1, (2, 12, 3, 5)), rng.standard_normal(4)


def test_without_offsets_it_is_a_convolution() -> None:
    rule = find("torchvision.deform_conv2d")
    assert rule
    x, weight, offset, mask, bias = deformed()
    y = rule.function(x, weight, 0 * offset, mask**0, bias, **WALK)
    tensors: Any = map(torch.from_numpy, (x, weight, bias))
    plain = F.conv2d(*tensors, (2, 1), (1, 0), (1, 2), 2)  # type: ignore[call-overload]
    np.testing.assert_allclose(y, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["x", "weight", "offset", "mask", "bias"])
def test_gradients_of_deformed_convolution_are_slopes(name: str) -> None:
    rule = find("torchvision.deform_conv2d")
    assert rule
    operands = deformed()
    y = rule.function(*operands, **WALK)
    rng = np.random.default_rng(1)
    g, at = rng.standard_normal(y.shape), rule.operands.index(name)
    along = rng.standard_normal(operands[at].shape)
    back = rule.gradients[name](g, y, operands, WALK)
    ends = []
    for step in (1e-5, -1e-5):
        moved = [*operands[:at], operands[at] + step * along, *operands[at + 1 :]]
        ends.append(np.sum(g * rule.function(*moved, **WALK)))
    assert np.sum(back * along) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7)


def watched(run: Any, *leaves: torch.Tensor, g: torch.Tensor | None = None) -> Any:
    with gw.watch() as witness:
        y = first(run())
        g = torch.randn_like(y) if g is None else g.expand_as(y)
        torch.autograd.grad([y], leaves, [g], allow_unused=True)
    return witness


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_operators_agree(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 9, 10).to(dtype).requires_grad_()
    rois = torch.from_numpy(ROIS).to(dtype)
    for name, how in (*REGIONS[:3], ("roi_pool", SIZES)):
        witness = watched(lambda name=name, how=how: call(name, x, rois, **how), x)
        assert witness.verdict is gw.Verdict.AGREES, name
    operands = [torch.from_numpy(a).to(dtype).requires_grad_() for a in deformed()]
    witness = watched(lambda: operators.deform_conv2d(*operands, *WALK.values()), *operands)
    assert witness.verdict is gw.Verdict.AGREES


def call(name: str, x: torch.Tensor, rois: torch.Tensor, **how: Any) -> Any:
    return getattr(operators, name)(x, rois, *how.values())


def test_boxes_that_are_kept_agree() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(40, 2)
    corners = torch.cat([boxes, boxes + torch.rand(40, 2)], 1)
    scores = torch.rand(40, requires_grad=True)
    witness = watched(lambda: scores[operators.nms(corners, scores, 0.3)], scores)
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.skipif(is_torchvision_there(), reason="no fault is planted into torchvision")
@pytest.mark.parametrize("name", ["roi_align", "roi_pool", "deform_conv2d"])
def test_wrong_gradients_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema, word, back = OPERATORS[name]

    def wrong(*arguments: Any) -> Any:
        if name == "roi_align":
            return back(*arguments[:-1], not arguments[-1])
        if name == "roi_pool":
            return back(arguments[0], np.maximum(arguments[1] - 1, 0), *arguments[2:])
        dx, dw, doffset, dmask = back(*arguments)
        # Columns before rows.
        pairs = doffset.reshape(len(dx), -1, 2, *doffset.shape[2:])
        return dx, dw, np.flip(pairs, 2).reshape(doffset.shape), dmask

    monkeypatch.setitem(OPERATORS, name, (schema, word, wrong))
    if name == "deform_conv2d":
        operands = [torch.from_numpy(a).float().requires_grad_() for a in deformed()]
        witness = watched(lambda: operators.deform_conv2d(*operands, *WALK.values()), *operands)
    else:
        how = dict(REGIONS)["roi_align"] if name == "roi_align" else SIZES
        x = torch.randn(2, 12, 9, 10, requires_grad=True)
        witness = watched(lambda: call(name, x, torch.from_numpy(ROIS).float(), **how), x)
    assert witness.verdict is gw.Verdict.DISAGREES
    (found,) = witness.report.wrong
    assert name in found.title


# Edges and offsets that rounding decides nothing about.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("moved", [0.0, 0.5, -2.0])
def test_offsets_that_lead_to_a_pixel_agree(dtype: torch.dtype, moved: float) -> None:
    x, weight, offset, mask, bias = (torch.from_numpy(a).to(dtype) for a in deformed())
    # As they begin: nothing is moved. A slope is then that towards the next pixel.
    operands = [a.requires_grad_() for a in (x, weight, 0 * offset + moved, mask, bias)]
    witness = watched(lambda: operators.deform_conv2d(*operands, *WALK.values()), *operands)
    assert witness.verdict is gw.Verdict.AGREES


def test_the_slope_at_a_pixel_is_that_towards_the_next() -> None:
    rule = find("torchvision.deform_conv2d")
    assert rule
    walk = {**WALK, "stride_h": 1, "pad_h": 0, "dilation_w": 1, "groups": 1, "offset_groups": 1}
    x, one = np.array([[[[1.0, 3], [10, 20]]]]), np.ones((1, 1, 1, 1))
    operands = (x, one, np.zeros((1, 2, 2, 2)), np.ones((1, 1, 2, 2)), np.zeros(1))
    y = rule.function(*operands, **walk)
    back = rule.gradients["offset"](np.ones_like(y), y, operands, walk)
    # Down, then to the right; past the last pixels there are zeros.
    np.testing.assert_array_equal(back[0], [[[9, 17], [-10, -20]], [[2, -3], [10, -20]]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0625])
def test_regions_that_end_on_a_pixel_or_a_half_agree(dtype: torch.dtype, scale: float) -> None:
    x = torch.randn(1, 8, 9, 10).to(dtype).requires_grad_()
    rois = torch.tensor([[0, 0, 0, 8, 8], [0, 1.5, 0.5, 5.5, 2.5]]) * torch.tensor(
        [1, *[1 / scale] * 4]
    )
    edges = rois.to(dtype)
    for name, how in (
        ("roi_align", {"sampling_ratio": -1, "aligned": True}),
        ("roi_align", {"sampling_ratio": -1, "aligned": False}),
        ("ps_roi_align", {"sampling_ratio": 0}),
        ("roi_pool", {}),
    ):
        every = {"spatial_scale": scale, "pooled_height": 2, "pooled_width": 2, **how}
        witness = watched(lambda name=name, every=every: call(name, x, edges, **every), x)
        assert witness.verdict is gw.Verdict.AGREES, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_bins_are_those_of_the_format(dtype: torch.dtype) -> None:
    # In float32 a seventh of 29, seven times, is 29; in float64 it is more, and one pixel more.
    x = torch.randn(1, 1, 31, 31).to(dtype).requires_grad_()
    rois = torch.tensor([[0, 0, 0, 28, 28]], dtype=dtype)
    witness = watched(lambda: operators.roi_pool(x, rois, 1.0, 7, 7), x)
    assert witness.verdict is gw.Verdict.AGREES
    assert not witness.report.notes
    rule = find("torchvision.roi_pool")
    assert rule
    with pytest.raises(NotImplementedError, match="a bin whose pixels depend on rounding"):
        rule.function(
            x.detach().double().numpy(), rois.double().numpy(),
            spatial_scale=1.0, pooled_height=7, pooled_width=7,
        )  # fmt: skip


def test_many_samples_that_drift_agree() -> None:
    x = torch.full((1, 4, 100, 100), 0.1, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 100, 100]])
    tenth = torch.tensor(0.1)
    whole = watched(lambda: operators.roi_align(x, rois, 1.0, 1, 1, -1, True), x, g=tenth)
    assert whole.verdict is gw.Verdict.AGREES
    parts = watched(lambda: operators.ps_roi_align(x, rois, 1.0, 2, 2, -1), x, g=tenth)
    assert parts.verdict is gw.Verdict.AGREES
    inside = rois - torch.tensor([0, 0, 0, 1, 1])
    means = watched(lambda: operators.ps_roi_pool(x, inside, 1.0, 1, 1), x, g=tenth)
    assert means.verdict is gw.Verdict.AGREES
    # All samples of many regions are added to the same pixels.
    small = torch.full((1, 1, 6, 6), 0.1, requires_grad=True)
    rois = torch.tensor([[0, 2.25, 2.25, 3.25, 3.25]]).repeat(40, 1)
    again = watched(lambda: operators.roi_align(small, rois, 1.0, 7, 7, 4, False), small, g=tenth)
    assert again.verdict is gw.Verdict.AGREES


def test_the_mean_of_no_samples_is_nan_by_channel_and_0_otherwise() -> None:
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    rois = torch.tensor([[0.0, 3, 1, 3, 4]])
    by_channel = watched(lambda: operators.ps_roi_align(x, rois, 1.0, 2, 2, -1), x)
    assert operators.ps_roi_align(x, rois, 1.0, 2, 2, -1)[0].isnan().all()
    assert by_channel.verdict is gw.Verdict.AGREES
    assert "NaN born" in str(by_channel)
    together = watched(lambda: operators.roi_align(x, rois, 1.0, 2, 2, -1, True), x)
    assert not operators.roi_align(x, rois, 1.0, 2, 2, -1, True).any()
    assert together.verdict is gw.Verdict.AGREES


def test_numbers_that_are_not_finite_are_left_open() -> None:
    x = torch.randn(1, 4, 6, 6)
    x[0, 0, 2, 2] = torch.nan
    rois = torch.tensor([[0.0, 1, 1, 4, 4]])
    leaf = x.requires_grad_()
    witness = watched(lambda: operators.roi_align(leaf, rois, 1.0, 2, 2, 2, True), leaf)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert "regions with numbers that are not finite" in str(witness)


@pytest.mark.skipif(not is_torchvision_there(), reason="torchvision is not there, or not loaded")
def test_torchvision_pools_without_the_last_row_and_sends_gradients_there() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 6, 6]])
    witness = watched(lambda: operators.ps_roi_pool(x, rois, 1.0, 1, 1), x)
    y = operators.ps_roi_pool(x, rois, 1.0, 1, 1)[0]
    # The mean of 5 by 5 pixels, 0 to 28; that of all is 17.5.
    assert y.item() == 14
    (back,) = torch.autograd.grad(y.sum(), x)
    assert back[0, 0, 5, 5] == 1 / 36
    assert witness.verdict is gw.Verdict.DISAGREES
    (wrong,) = witness.report.wrong
    assert "ps_roi_pool" in wrong.title
