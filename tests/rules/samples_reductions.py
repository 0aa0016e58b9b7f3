"""Samples of sums, means and losses."""

from __future__ import annotations

from rules.sampling import N, aten, normal, sample

REDUCTIONS = (
    sample(aten.sum.default, normal(4, N), exact="dx"),
    sample(aten.sum.default, normal(), exact="y dx", note="0-d"),
    sample(aten.sum.dim_IntList, normal(2, N, 3), [1], exact="dx", note="one axis"),
    sample(aten.sum.dim_IntList, normal(2, N, 3), [-1, 0], exact="dx", note="two axes"),
    sample(aten.sum.dim_IntList, normal(2, N, 3), [1], True, exact="dx", note="kept"),
    sample(aten.sum.dim_IntList, normal(4, 1), [-1], exact="y dx", note="axis of size 1"),
    sample(aten.sum.dim_IntList, normal(2, N), [], exact="dx", note="no axes named"),
    sample(aten.sum.dim_IntList, normal(2, N), None, exact="dx", note="None"),
    sample(aten.mean.default, normal(3, N)),
    sample(aten.mean.dim, normal(2, N, 3), [1], note="one axis"),
    sample(aten.mean.dim, normal(2, N, 3), [-3, 2], True, note="two axes kept"),
    sample(aten.mean.dim, normal(2, 4), [1], exact="dx", note="power of two"),
    sample(aten.mean.default, normal(), exact="y dx", note="0-d"),
)

LOSSES = (
    sample(aten.mse_loss.default, normal(4, N), normal(4, N), note="mean"),
    sample(aten.mse_loss.default, normal(4, N), normal(4, N), 2, note="sum"),
    sample(aten.mse_loss.default, normal(4, N), normal(4, N), 0, note="none"),
    sample(aten.mse_loss.default, normal(), normal(), note="0-d"),
    sample(aten.mse_loss.default, normal(4, 1), normal(3, 1, N), note="broadcast"),
)
