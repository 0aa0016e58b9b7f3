"""Samples of the backward kernels of linear operations, as operations."""

from __future__ import annotations

from rules.sampling import Draw, aten, index, normal, sample

pool, pool3 = aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward
parts2, parts3 = aten._adaptive_avg_pool2d_backward, aten._adaptive_avg_pool3d_backward
largest2, largest3 = aten.adaptive_max_pool2d_backward, aten.adaptive_max_pool3d_backward
mean2, mean3 = aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default
bilinear, exact = aten.upsample_bilinear2d_backward.default, aten._upsample_nearest_exact2d_backward
rows = aten.embedding_dense_backward.default

# What an operand is asked for its shape only.
flat, mirror = Draw((2, 5)), aten.reflection_pad2d_backward.default

TWICE_LINEAR = (
    sample(aten.select_backward.default, normal(3), [3, 4], 1, -2, exact="y ddy"),
    sample(aten.slice_backward.default, normal(3, 2), [7, 2], 0, 1, 6, 2, exact="y ddy"),
    sample(aten.slice_backward.default, normal(2, 2), [2, 5], -1, -2, 9, 1, exact="y ddy",
           note="from the end"),
    sample(aten.diagonal_backward.default, normal(3), [3, 4], 1, 0, 1, exact="y ddy"),
    sample(aten.unfold_backward.default, normal(2, 3, 3), [2, 7], 1, 3, 2, exact="ddy"),
    sample(aten.reflection_pad1d_backward.default, normal(2, 10), flat, [2, 3], exact="ddy dx"),
    sample(mirror, normal(2, 5, 7), normal(2, 3, 4), [1, 2, 2, 0], exact="ddy dx"),
    sample(mirror, normal(2, 3, 4), normal(2, 3, 4), [-1, 1, 0, 0], exact="ddy dx", note="cut"),
    sample(aten.reflection_pad3d_backward.default, normal(1, 4, 3, 6), normal(1, 2, 2, 3),
           [1, 2, 0, 1, 1, 1], exact="ddy dx"),
    sample(aten.replication_pad1d_backward.default, normal(2, 10), flat, [4, 1], exact="ddy dx"),
    sample(aten.replication_pad2d_backward.default, normal(1, 2, 6, 7), normal(1, 2, 3, 4),
           [1, 2, 0, 3], exact="ddy dx"),
    sample(aten.replication_pad3d_backward.default, normal(1, 4, 3, 6), normal(1, 2, 2, 3),
           [1, 2, 0, 1, 1, 1], exact="ddy dx"),
    sample(mean2, normal(2, 2, 2, 2), normal(2, 2, 6, 7), [3, 3], [], [0, 0], False, True,
           None, exact="dx"),
    sample(mean2, normal(1, 2, 4, 7), normal(1, 2, 6, 6), [3, 2], [2, 1], [1, 1], True, False,
           None, exact="dx", note="none counts"),
    sample(mean2, normal(1, 2, 3, 2), normal(1, 2, 5, 6), [3, 3], [2, 2], [1, 0], False, True, 7,
           exact="dx", note="override"),
    sample(mean3, normal(1, 2, 2, 1, 1), normal(1, 2, 4, 3, 5), [2, 3, 3], [], [0, 0, 0],
           False, True, None, exact="dx"),
    sample(aten.upsample_nearest1d_backward.default, normal(2, 3, 12), [12], [2, 3, 5], 2.5,
           exact="ddy"),
    sample(aten.upsample_nearest2d_backward.default, normal(1, 2, 6, 8), [6, 8], [1, 2, 3, 4],
           2.0, 2.0, exact="ddy"),
    sample(aten.upsample_nearest3d_backward.default, normal(1, 2, 4, 7, 5), [4, 7, 5],
           [1, 2, 2, 3, 2], exact="ddy"),
    sample(aten._upsample_nearest_exact1d_backward.default, normal(2, 3, 12), [12], [2, 3, 5],
           2.5, exact="ddy"),
    sample(exact.default, normal(1, 2, 6, 7), [6, 7], [1, 2, 3, 5], exact="ddy"),
    sample(aten._upsample_nearest_exact3d_backward.default, normal(1, 2, 4, 7, 5), [4, 7, 5],
           [1, 2, 2, 3, 2], exact="ddy"),
    sample(aten.upsample_linear1d_backward.default, normal(2, 3, 8), [8], [2, 3, 5], False, 1.7,
           note="by a scale"),
    sample(bilinear, normal(1, 2, 6, 8), [6, 8], [1, 2, 3, 4], False),
    sample(bilinear, normal(2, 2, 3, 7), [3, 7], [2, 2, 5, 4], True, note="corners"),
    sample(aten.upsample_trilinear3d_backward.default, normal(1, 2, 2, 3, 4), [2, 3, 4],
           [1, 2, 3, 2, 3], False),
    *(
        sample(op.default, normal(1, 1, 3, 4), [3, 4], [1, 1, 5, 3], False)
        for op in (
            aten._upsample_bilinear2d_aa_backward,
            aten._upsample_bicubic2d_aa_backward,
            aten._upsample_lanczos2d_aa_backward,
        )
    ),
    sample(aten.upsample_bicubic2d_backward.default, normal(1, 1, 4, 5), [4, 5], [1, 1, 3, 3],
           False),
    sample(pool, normal(2, 1, 2), normal(2, 2, 5), [2, 2], [], [0, 0], [1, 1], False,
           index(2, 1, 2, high=10, distinct=True), exact="y ddy dx"),
    sample(pool, normal(1, 2, 3, 4), normal(1, 2, 4, 5), [2, 2], [1, 1], [0, 0], [1, 1],
           False, index(1, 2, 3, 4, high=20), exact="ddy dx", note="overlapping"),
    sample(pool3.default, normal(1, 2, 2, 1, 2), normal(1, 2, 4, 3, 5), [2, 2, 2], [], [0] * 3,
           [1] * 3, False, index(1, 2, 2, 1, 2, high=2), exact="ddy dx"),
    sample(largest2.default, normal(2, 2, 3, 4), normal(2, 2, 7, 5),
           index(2, 2, 3, 4, high=35), exact="ddy dx"),
    sample(largest3.default, normal(1, 2, 3, 2, 2), normal(1, 2, 5, 4, 3),
           index(1, 2, 3, 2, 2, high=60), exact="ddy dx"),
    sample(parts2.default, normal(2, 2, 3, 4), normal(2, 2, 7, 5), exact="dx"),
    sample(parts3.default, normal(1, 2, 3, 2, 3), normal(1, 2, 5, 4, 3), exact="dx"),
    sample(rows, normal(2, 5, 3), index(2, 5, high=4), 4, 1, False, exact="ddy"),
    sample(rows, normal(7, 3), index(7, high=4), 5, -1, False, exact="ddy", note="no padding"),
    sample(rows, normal(7, 3), index(7, high=4), 5, -1, True, note="by frequency"),
)  # fmt: skip
