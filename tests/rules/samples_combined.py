"""Samples of several elementary operations in one call."""

from __future__ import annotations

from rules.sampling import N, aten, away, normal, sample

COMBINED = (
    sample(aten.addcmul.default, normal(4, N), normal(4, N), normal(4, N), exact="dx"),
    sample(
        aten.addcmul.default, normal(3, 1, N), normal(4, 1), normal(N), value=-0.3, note="broadcast"
    ),
    sample(aten.addcdiv.default, normal(4, N), normal(4, N), away(4, N), exact="dx"),
    sample(aten.addcdiv_.default, normal(4, N), normal(4, N), away(4, N), value=-0.001, exact="dx"),
    sample(aten.lerp.Scalar, normal(4, N), normal(4, N), 0.1, note="near"),
    sample(aten.lerp_.Scalar, normal(4, N), normal(4, N), 0.9, note="far"),
    sample(aten.lerp.Tensor, normal(4, N), normal(4, N), normal(N)),
)
