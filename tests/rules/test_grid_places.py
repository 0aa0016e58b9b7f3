"""Images read off in 16-bit formats: kernels round the places, by up to half a pixel and more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.finding import Step
from gradwitness.rules.kernel_ops import is_uncertain, stored

FORWARD = "aten.grid_sampler_2d.default (call 0)"


def tape(dtype: torch.dtype, size: int, **how: Any) -> Any:
    torch.manual_seed(0)
    image = torch.randn(1, 2, size, size).to(dtype)
    places = (torch.rand(1, 5, 5, 2) * 2.2 - 1.1).to(dtype)
    with record() as recorder:
        F.grid_sample(image.requires_grad_(), places, **how)
    return recorder.tape


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("size", [5, 100])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rounded_place_is_read(
    dtype: torch.dtype, size: int, align: bool, padding: str
) -> None:
    recorded = tape(dtype, size, padding_mode=padding, align_corners=align)
    (finding,) = gw.judge(recorded).findings
    assert (finding.step, finding.title) == (Step.FORWARD, FORWARD)
    assert finding.verdict is gw.Verdict.AGREES
    # A pixel read at the wrong place is off by far more: in the largest number it is seen.
    (output,) = recorded.calls[0].outputs
    array = np.array(recorded.values[output].array)
    array.flat[np.argmax(np.abs(array.astype(np.float64)))] *= 1 + 2 * finding.comparison.detects
    values = [
        replace(value, array=array) if value.id == output else value for value in recorded.values
    ]
    assert gw.judge(replace(recorded, values=values)).verdict is gw.Verdict.DISAGREES


def test_the_place_is_that_of_the_kernel_by_hand() -> None:
    # Two pixels, 0 and 1: the result is the place itself. 0.2 is 0.200195 in bfloat16; plus 1 it
    # is 1.203125 (1.200195 rounded to 2^-7), half of which is the place. Unrounded: 0.600098.
    image = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.bfloat16)
    places = torch.tensor([[[[0.2, 0.0]]]], dtype=torch.bfloat16)
    with record() as recorder:
        result = F.grid_sample(image.requires_grad_(), places, align_corners=True)
    assert result.item() == 0.6015625
    (finding,) = gw.judge(recorder.tape).findings
    assert finding.comparison.expected == 0.6015625


def test_plain_numbers_are_certain_and_stay() -> None:
    x = np.array([0.1, 1.0])
    assert stored(x, x) is x
    assert not is_uncertain(x).any()


def test_a_pixel_beside_a_place_that_rounding_moves_past_it_is_counted() -> None:
    # Coordinates whose exact places lie on one side of a pixel, and the rounded ones on the other.
    size, found = 41, []
    one: Any = np.float32(1)
    for pixel in range(1, size - 1):
        c: Any = np.float32((2 * pixel + 1) / size - 1 - 2e-6)
        for _ in range(100):
            c = np.nextafter(c, np.float32(2))
            exact = ((float(c) + 1) * size - 1) / 2
            rounded = ((c + one) * np.float32(size) - one) / np.float32(2)
            if (exact - pixel) * (float(rounded) - pixel) < 0:
                found.append((pixel, float(c)))
    assert found
    # On the pixel 0; before it, or else behind it, a million.
    for before in (-1, 1):
        for pixel, c in found:
            image = torch.zeros(1, 1, 2, size)
            image[..., pixel + before] = 1e6
            with gw.watch() as witness:
                F.grid_sample(image, torch.tensor([[[[c, -0.5]]]]), align_corners=False)
            (finding,) = (f for f in witness.report.findings if "grid_sampler" in f.title)
            assert finding.verdict is not gw.Verdict.DISAGREES
