"""Which of overlapping boxes are kept."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.registry import Array, rule

# A share of two boxes that lies this close to the threshold is decided by rounding.
_CLOSE = 2.0**-16


@rule("torchvision.nms", "y = kept_boxes(boxes, scores, iou_threshold)")
def nms(boxes: Array, scores: Array, *, iou_threshold: float) -> Array:
    corners, threshold = ignore_error(boxes), float(getattr(iou_threshold, "value", iou_threshold))
    low, high = corners[:, :2], corners[:, 2:]
    areas = np.prod(high - low, axis=1)
    left = np.argsort(-ignore_error(scores), kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        common = np.prod(np.maximum(sides, 0), axis=1)
        with np.errstate(invalid="ignore"):
            share = common / (areas[best] + areas[left] - common)
        if np.any(np.abs(share - threshold) <= _CLOSE):
            raise NotImplementedError("boxes whose overlap rounding holds against the threshold")
        left = left[~(share > threshold)]
    return np.array(kept, dtype=np.int64)
