"""Torchvision's operators; where it is not there, or does not load, the same from their words.

Its wheels on PyPI load beside the build of torch for GPUs alone.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch

from rules import words_vision as words

REGIONS = "Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width"
WALK = (
    "int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, "
    "int groups, int offset_groups, bool use_mask"
)
# By name: the schema, what computes it, and what its gradients.
OPERATORS: dict[str, tuple[str, Any, Any]] = {
    "roi_align": (
        f"({REGIONS}, int sampling_ratio, bool aligned) -> Tensor",
        words.align_regions,
        words.to_aligned,
    ),
    "ps_roi_align": (
        f"({REGIONS}, int sampling_ratio) -> (Tensor, Tensor)",
        words.align_regions_by_channel,
        words.to_aligned_by_channel,
    ),
    "roi_pool": (f"({REGIONS}) -> (Tensor, Tensor)", words.max_regions, words.to_largest_pixels),
    "ps_roi_pool": (
        f"({REGIONS}) -> (Tensor, Tensor)",
        words.mean_regions_by_channel,
        words.to_mean_by_channel,
    ),
    "deform_conv2d": (
        f"(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {WALK}) -> Tensor",
        words.deformed_conv,
        words.to_deformed,
    ),
    "nms": ("(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", words.kept_boxes, None),
}


def is_torchvision_there() -> bool:
    """Whether torchvision's compiled operators load."""
    try:
        extension = importlib.import_module("torchvision.extension")
    except (ImportError, OSError, RuntimeError):
        return False
    return bool(extension._has_ops())


def _computed(word: Any, arguments: tuple[Any, ...]) -> Any:
    """Compute by a word, in the format of the first tensor, as a kernel does."""
    if arguments[0].dtype is torch.bfloat16:
        raise NotImplementedError("not implemented for 'BFloat16'")
    found = word(*(a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in arguments))
    several = [torch.from_numpy(np.ascontiguousarray(array)) for array in _listed(found)]
    return tuple(several) if isinstance(found, tuple) else several[0]


def _listed(found: Any) -> Any:
    return found if isinstance(found, tuple) else (found,)


def _define(library: Any, name: str) -> None:
    schema, word, back = OPERATORS[name]
    library.define(f"{name}{schema}")
    library.impl(name, lambda *arguments: _computed(word, arguments), "CPU")
    if back is None:
        return

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.kept, ctx.output = inputs, output

    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs = ctx.kept
        given = [ctx.output[1], *inputs[:2]] if name == "roi_pool" else list(inputs)
        if name == "deform_conv2d":
            del given[4]  # the bias
        # Looked up anew: a test may have put another one there.
        found = _listed(_computed(OPERATORS[name][2], (gradients[0], *given)))
        further = [gradients[0].sum((0, 2, 3))] if name == "deform_conv2d" else []
        made = [*found, *further]
        return (*made, *[None] * (len(inputs) - len(made)))

    torch.library.register_autograd(f"torchvision::{name}", backward, setup_context=keep)


def _operators() -> Any:
    if not is_torchvision_there():
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in OPERATORS:
            _define(library, name)
        # The operators are there for as long as the library is.
        _LIBRARIES.append(library)
    return torch.ops.torchvision


_LIBRARIES: list[Any] = []
operators = _operators()
