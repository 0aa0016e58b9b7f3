"""Samples of torchvision's operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import Draw, apart, normal, sample
from rules.vision_operators import operators

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Given(Draw):
    """Numbers that are given."""

    rows: tuple[tuple[float, ...], ...] = ()

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del rng, length
        return np.array(self.rows, np.float64)


@dataclass(frozen=True)
class Moved(Draw):
    """Offsets that lead well off the pixels."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        at = rng.integers(-2, 2, self.shape) + rng.uniform(0.1, 0.9, self.shape)
        return at.astype(np.float32).astype(np.float64)


def _given(*rows: tuple[float, ...]) -> Given:
    return Given((len(rows), len(rows[0])), constant=True, rows=rows)


# Image, left, upper, right and lower edge: inside, and over the edges but for the last ones.
ROIS = _given((0, 1.25, 0.5, 7.75, 6.5), (1, -2.5, 1.5, 5.25, 8.25), (0, 3.25, 3.5, 3.75, 4.5))
INSIDE = _given((0, 1.25, 0.5, 5.75, 6.5), (1, -2.5, 1.5, 5.25, 6.25), (0, 3.25, 3.5, 3.75, 4.5))
_BOXES = _given((0, 0, 4, 4), (1, 1, 5, 5), (6, 6, 9, 9))
_SCORES = Given((3,), constant=True, rows=(0.25, 0.75, 0.5))  # type: ignore[arg-type]

VISION = (
    sample(operators.roi_align.default, normal(2, 2, 5, 6), ROIS, 0.75, 2, 3, 2, False),
    sample(
        operators.roi_align.default, normal(2, 2, 5, 6), ROIS, 0.5, 2, 2, -1, True, note="aligned"
    ),
    sample(operators.ps_roi_align.default, normal(2, 8, 5, 6), ROIS, 0.75, 2, 2, 2, exact="y[1]"),
    sample(operators.roi_pool.default, apart(2, 2, 5, 6), ROIS, 0.75, 2, 3, exact="y"),
    sample(operators.ps_roi_pool.default, normal(2, 8, 5, 6), INSIDE, 0.5, 2, 2, exact="y[1]"),
    *(
        sample(
            operators.deform_conv2d.default,
            normal(2, 4, 4, 5),
            normal(4, 2, 3, 2),
            Moved((2, 24, 2, 3)),
            normal(2, 12, 2, 3),
            normal(4),
            *(2, 1, 1, 0, 1, 2, 2, 2),
            use_mask,
            note=note,
            exact="" if use_mask else "dmask",
        )
        for use_mask, note in ((True, ""), (False, "without a mask"))
    ),
    sample(operators.nms.default, _BOXES, _SCORES, 0.25, exact="y"),
)
