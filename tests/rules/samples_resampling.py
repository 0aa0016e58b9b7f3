"""Samples of resampling, of dropout by a mask and of channels in another order."""

from __future__ import annotations

from rules.sampling import aten, mask, normal, sample

smooth, smooth_cubic = aten._upsample_bilinear2d_aa.default, aten._upsample_bicubic2d_aa.default
smooth_sinc = aten._upsample_lanczos2d_aa.default
nearest, exact = aten.upsample_nearest2d.default, aten._upsample_nearest_exact2d.default
linear, bilinear = aten.upsample_linear1d.default, aten.upsample_bilinear2d.default
cubic, trilinear = aten.upsample_bicubic2d.default, aten.upsample_trilinear3d.default

RESAMPLING = (
    sample(nearest, normal(1, 2, 3, 4), [6, 8], 2.0, 2.0, exact="y"),
    sample(nearest, normal(1, 2, 3, 5), [7, 8], exact="y", note="to a size"),
    sample(nearest, normal(1, 2, 5, 6), [3, 4], exact="y dx", note="downwards"),
    sample(nearest, normal(1, 2, 3, 5), [4, 7], 1.4, 1.5, exact="y", note="by a scale"),
    sample(aten.upsample_nearest2d.vec, normal(1, 2, 3, 5), None, [1.5, 2.5], exact="y"),
    sample(aten.upsample_nearest1d.default, normal(2, 3, 5), [12], 2.5, exact="y"),
    sample(aten.upsample_nearest3d.default, normal(1, 2, 2, 3, 2), [4, 7, 5], exact="y"),
    sample(aten._upsample_nearest_exact1d.default, normal(2, 3, 5), [12], 2.5, exact="y"),
    sample(exact, normal(1, 2, 3, 5), [6, 7], exact="y"),
    sample(exact, normal(1, 2, 5, 6), [3, 4], 0.6, 0.7, exact="y dx", note="downwards"),
    sample(aten._upsample_nearest_exact3d.default, normal(1, 2, 2, 3, 2), [4, 7, 5], exact="y"),
    sample(linear, normal(2, 3, 5), [8], False),
    sample(linear, normal(2, 3, 5), [8], True, note="corners"),
    sample(linear, normal(2, 3, 5), [8], False, 1.7, note="by a scale"),
    sample(linear, normal(2, 2, 4), [1], True, unused="y dx", note="corners of one"),
    sample(bilinear, normal(2, 2, 3, 4), [6, 8], False),
    sample(bilinear, normal(2, 2, 5, 4), [3, 7], True, note="corners"),
    sample(bilinear, normal(1, 2, 3, 4), [5, 7], False, 1.7, 1.8, note="by a scale"),
    sample(aten.upsample_bilinear2d.vec, normal(1, 2, 5, 4), None, False, [0.7, 1.5]),
    sample(trilinear, normal(1, 2, 2, 3, 3), [3, 5, 4], False),
    sample(trilinear, normal(1, 1, 3, 2, 2), [5, 3, 2], True, note="corners"),
    sample(cubic, normal(1, 1, 3, 3), [4, 5], False),
    sample(cubic, normal(1, 2, 5, 4), [8, 3], True, note="corners"),
    sample(cubic, normal(1, 1, 3, 4), [5, 5], False, 1.8, 1.3, note="by a scale"),
    sample(smooth, normal(1, 2, 7, 5), [3, 4], False),
    sample(smooth, normal(1, 2, 7, 4), [3, 6], True, note="corners"),
    sample(smooth, normal(1, 1, 3, 6), [2, 3], False, 0.6, 0.7, note="by a scale"),
    sample(smooth_cubic, normal(1, 1, 7, 5), [3, 4], False),
    sample(smooth_cubic, normal(1, 1, 7, 4), [3, 6], True, note="corners"),
    sample(smooth_cubic, normal(1, 2, 3, 2), [2, 3], False, note="channels"),
    sample(smooth_sinc, normal(1, 1, 4, 3), [2, 4], False),
    sample(smooth_sinc, normal(1, 2, 3, 2), [2, 3], False, note="channels"),
)

DROPOUT = (
    sample(aten.native_dropout.default, normal(6, 7), 0.3, True, exact="y[1]"),
    sample(aten.native_dropout_backward.default, normal(6, 7), mask(6, 7), 1.3),
    sample(aten.native_dropout.default, normal(3, 4), 1.0, True, exact="y dx", note="all"),
    sample(aten.native_dropout.default, normal(3, 4), 0.2, False, exact="y dx", note="none"),
)

SHUFFLING = (
    sample(aten.pixel_shuffle.default, normal(2, 8, 2, 3), 2, exact="y dx"),
    sample(aten.pixel_unshuffle.default, normal(2, 2, 4, 6), 2, exact="y dx"),
    sample(aten.channel_shuffle.default, normal(2, 6, 3), 2, exact="y dx"),
)
