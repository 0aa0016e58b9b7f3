"""Samples of products, running extremes, statistics of several results, and ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rules.sampling import Draw, apart, aten, away, normal, sample

if TYPE_CHECKING:
    import numpy as np


class Vanishing(Draw):
    """Numbers of which along the last axis the fourth is 0, in every second row the next too."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        numbers = super().make(rng, length)
        numbers[..., 3] = 0
        numbers[::2, ..., 4] = 0
        return numbers


PRODUCTS = (
    sample(aten.prod.default, away(3, 2)),
    sample(aten.prod.default, normal(), exact="y dx", note="0-d"),
    sample(aten.prod.dim_int, away(3, 4), 1, note="one axis"),
    sample(aten.prod.dim_int, away(3, 4, 2), -2, True, note="kept"),
    sample(aten.cumprod.default, away(3, 4), 1),
    sample(aten.cumprod.default, away(4, 2, 3), -3, note="first axis"),
    sample(aten.cumprod.default, Vanishing((3, 6), gap=0.5), 1, note="zeros"),
    sample(aten.cummax.default, apart(3, 5), 1, exact="y"),
    sample(aten.cummin.default, apart(5, 2), -2, exact="y"),
    sample(aten.linalg_cross.default, normal(4, 3), normal(4, 3)),
    sample(aten.linalg_cross.default, normal(3, 5), normal(3, 1), dim=0, note="broadcast"),
)

SEVERAL = (
    sample(aten.var_mean.correction, normal(3, 5), [1]),
    sample(
        aten.var_mean.correction, normal(2, 4, 3), [0, -1], correction=0, keepdim=True, note="kept"
    ),
    sample(aten.std_mean.correction, normal(3, 5), [1]),
    sample(aten.std_mean.correction, normal(3, 2), note="of everything"),
    sample(aten.nansum.default, normal(3, 5), [1], exact="dx"),
    sample(aten.nansum.default, normal(3, 4), exact="dx", note="of everything"),
    sample(aten.trace.default, normal(4, 4), exact="dx"),
    sample(aten.trace.default, normal(3, 5), exact="dx", note="oblong"),
    sample(aten.aminmax.default, apart(3, 4), exact="y", unused="dx"),
    sample(
        aten.aminmax.default, apart(3, 4), dim=1, keepdim=True, exact="y", unused="dx", note="kept"
    ),
    sample(aten.median.default, apart(3, 4), exact="y dx"),
    sample(aten.median.dim, apart(3, 4), 1, exact="y dx", note="axis"),
    sample(aten.median.dim, apart(5, 3), -2, True, exact="y dx", note="kept"),
    sample(aten.nanmedian.default, apart(3, 4), exact="y dx"),
    sample(aten.nanmedian.dim, apart(4, 3), 0, exact="y dx", note="axis"),
    sample(aten.kthvalue.default, apart(3, 4), 3, exact="y dx"),
    sample(aten.kthvalue.default, apart(5, 3), 1, 0, True, exact="y dx", note="kept"),
    sample(aten.mode.default, apart(3, 5), exact="y dx"),
    sample(aten.mode.default, apart(4, 3), 0, True, exact="y dx", note="kept"),
)
