"""Samples of largest and smallest, sorting, limits and running sums."""

from __future__ import annotations

from rules.sampling import apart, aten, normal, sample

low, high = apart(3, 4, shift=0.125), apart(3, 4, shift=0.25)

ORDERING = (
    # Without an axis, and in amax, the gradient is divided by the number of ties, here 1.
    sample(aten.max.default, apart(3, 4), exact="y", unused="dx"),
    sample(aten.max.dim, apart(3, 4), 1, exact="y dx"),
    sample(aten.max.dim, apart(3, 4), -2, True, exact="y dx", note="kept"),
    sample(aten.min.default, apart(3, 4), exact="y", unused="dx"),
    sample(aten.min.dim, apart(2, 3, 2), 1, exact="y dx"),
    sample(aten.amax.default, apart(3, 4), [1], exact="y", unused="dx"),
    sample(aten.amax.default, apart(2, 3, 2), [0, -1], True, exact="y", unused="dx", note="kept"),
    sample(aten.amax.default, apart(3, 4), exact="y", unused="dx", note="all"),
    sample(aten.amin.default, apart(3, 4), [0], exact="y", unused="dx"),
    sample(aten.maximum.default, apart(3, 4), apart(3, 1, shift=0.125), exact="y da"),
    sample(aten.minimum.default, apart(3, 4), apart(4, shift=0.125), exact="y da"),
    sample(aten.clamp.default, apart(3, 4), -1, 1.5, exact="y dx"),
    sample(aten.clamp.default, apart(3, 4), None, 0.3, exact="dx", unused="y", note="above only"),
    sample(aten.clamp_.default, apart(3, 4), -1.5, exact="y dx", note="in place"),
    sample(aten.clamp.Tensor, apart(3, 4), low, high, exact="y dx dlow dhigh"),
    sample(
        aten.clamp.Tensor, apart(3, 4), None, apart(4, shift=0.25), exact="y dx", note="above only"
    ),
    sample(aten.clamp_min.default, apart(3, 4), -0.5, exact="y dx"),
    sample(aten.clamp_min.Tensor, apart(3, 4), low, exact="y dx dlow"),
    sample(aten.clamp_max.default, apart(3, 4), 0, exact="y dx"),
    sample(aten.clamp_max.Tensor, apart(3, 4), apart(3, 1, shift=0.25), exact="y dx"),
    sample(aten.sort.default, apart(3, 4), exact="y dx"),
    sample(aten.sort.stable, apart(3, 4), stable=True, dim=0, descending=True, exact="y dx"),
    sample(aten.topk.default, apart(3, 5), 2, exact="y dx"),
    sample(aten.topk.default, apart(5, 2), 3, 0, False, exact="y dx", note="smallest"),
    sample(aten.cumsum.default, normal(2, 21), 1),
    sample(aten.cumsum.default, normal(4, 2), -2, note="first axis"),
)
