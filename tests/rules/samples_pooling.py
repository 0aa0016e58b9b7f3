"""Samples of pooling, nearest neighbours and pixel shuffling."""

from __future__ import annotations

from rules.sampling import apart, aten, normal, sample

pool, mean = aten.max_pool2d_with_indices.default, aten.avg_pool2d.default
parts, nearest = aten._adaptive_avg_pool2d.default, aten.upsample_nearest2d.default

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
    sample(nearest, normal(1, 2, 3, 4), [6, 8], 2.0, 2.0, exact="y"),
    sample(nearest, normal(1, 2, 3, 5), [7, 8], exact="y", note="to a size"),
    sample(nearest, normal(1, 2, 5, 6), [3, 4], exact="y dx", note="downwards"),
    sample(nearest, normal(1, 2, 3, 5), [4, 7], 1.5, 1.5, exact="y", note="by a scale"),
    sample(aten.upsample_nearest2d.vec, normal(1, 2, 3, 5), None, [1.5, 2.5], exact="y"),
    sample(aten.upsample_nearest1d.default, normal(2, 3, 5), [12], 2.5, exact="y"),
    sample(aten.pixel_shuffle.default, normal(2, 8, 2, 3), 2, exact="y dx"),
    sample(aten.pixel_unshuffle.default, normal(2, 2, 4, 6), 2, exact="y dx"),
)
