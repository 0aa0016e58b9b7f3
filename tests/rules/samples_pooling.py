"""Samples of pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rules.sampling import Draw, apart, aten, index, normal, sample

if TYPE_CHECKING:
    import numpy as np


class Share(Draw):
    """Numbers from 0 to 1, of 16 bits."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return rng.integers(0, 2**8, self.sizes(length)) / 2.0**8


parts = aten._adaptive_avg_pool2d.default
pool3 = aten.max_pool3d_with_indices.default
pool, mean = aten.max_pool2d_with_indices.default, aten.avg_pool2d.default

POOLING = (
    # Where windows overlap, an element adds the gradients of all that it is the largest of.
    sample(pool, apart(2, 2, 4, 5), [2, 2], exact="y dx"),
    sample(pool, apart(2, 5, 6), [3, 2], [1, 2], exact="y", note="overlapping, no batch"),
    sample(pool, apart(1, 2, 6, 5), [3, 2], [2, 1], [1, 1], [1, 2], True, exact="y", note="full"),
    sample(
        pool, apart(1, 1, 5, 5), [2, 2], [2, 2], [0, 0], [1, 1], True, exact="y dx", note="ceil"
    ),
    sample(mean, normal(2, 2, 6, 7), [3, 3]),
    sample(mean, normal(2, 5, 6), [3, 2], [1, 2], note="overlapping, no batch"),
    sample(mean, normal(1, 2, 6, 6), [3, 2], [2, 1], [1, 1], True, True, note="padding counts"),
    sample(mean, normal(1, 2, 6, 6), [3, 2], [2, 1], [1, 1], True, False, note="none counts"),
    sample(mean, normal(1, 2, 5, 6), [3, 3], [2, 2], [1, 0], False, True, 7, note="override"),
    sample(parts, normal(2, 2, 7, 5), [3, 4]),
    sample(parts, normal(2, 6, 5), [2, 1], note="no batch"),
    sample(aten.adaptive_max_pool2d.default, apart(2, 2, 7, 5), [3, 4], exact="y"),
    sample(aten.adaptive_max_pool2d.default, apart(2, 6, 6), [2, 3], exact="y dx", note="no batch"),
    sample(pool3, apart(1, 2, 4, 3, 5), [2, 2, 2], exact="y dx"),
    sample(
        pool3, apart(2, 4, 5, 3), [2, 3, 1], [1, 2, 2], [1, 1, 0], [2, 1, 1], True, exact="y",
        note="overlapping",
    ),
    sample(aten.avg_pool3d.default, normal(1, 2, 4, 3, 5), [2, 3, 3]),
    sample(
        aten.avg_pool3d.default, normal(2, 4, 5, 3), [2, 3, 1], [1, 2, 2], [1, 1, 0], True, False,
        note="none counts",
    ),
    sample(aten._adaptive_avg_pool3d.default, normal(1, 2, 5, 4, 3), [3, 2, 3]),
    sample(aten.adaptive_max_pool3d.default, apart(1, 2, 5, 4, 3), [3, 2, 2], exact="y"),
    sample(aten.fractional_max_pool2d.default, apart(1, 2, 9, 11), [2, 2], [4, 5],
           Share((1, 2, 2), constant=True), exact="y dx"),
    sample(aten.fractional_max_pool3d.default, apart(1, 1, 4, 3, 5), [2, 2, 3], [2, 1, 2],
           Share((1, 1, 3), constant=True), exact="y dx"),
    sample(aten.max_unpool2d.default, normal(2, 1, 3), index(2, 1, 3, high=20, distinct=True),
           [4, 5], exact="y dx"),
    sample(aten.max_unpool3d.default, normal(1, 2, 1, 1, 3),
           index(1, 2, 1, 1, 3, high=24, distinct=True), [2, 3, 4], [1, 1, 1], [0, 0, 0],
           exact="y dx"),
)  # fmt: skip
