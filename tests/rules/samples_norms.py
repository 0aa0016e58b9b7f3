"""Samples of lengths and distances."""

from __future__ import annotations

import math

from rules.sampling import N, apart, aten, away, normal, sample

_LENGTH = aten.linalg_vector_norm.default
_CDIST = aten._cdist_forward.default
_INF = math.inf

NORMS = (
    sample(_LENGTH, away(3, N), 2, [1]),
    sample(_LENGTH, away(2, N, 3), 2, [0, -1], True, note="two axes kept"),
    sample(_LENGTH, away(4, 5), note="of everything"),
    sample(_LENGTH, away(2, N, 3), 1, [1], exact="dx", note="1"),
    sample(_LENGTH, away(3, 5), 0, [1], exact="dx", unused="y", note="0"),
    sample(_LENGTH, away(3, 5), 3, [1], note="3"),
    sample(_LENGTH, away(3, 5), 1.5, [1], True, note="1.5"),
    sample(_LENGTH, away(3, 5), 0.5, [1], note="0.5"),
    sample(_LENGTH, away(3, 5), -1, [1], note="-1"),
    sample(_LENGTH, apart(3, 5), _INF, [1], exact="y", unused="dx", note="inf"),
    sample(_LENGTH, apart(3, 5), -_INF, [1], True, exact="y", unused="dx", note="-inf"),
    sample(aten.norm.Scalar, away(4, 5)),
    sample(aten.norm.Scalar, away(4, 5), 3, note="3"),
    sample(aten.norm.ScalarOpt_dim, away(3, N), None, [1], note="None"),
    sample(aten.norm.ScalarOpt_dim, away(3, 5), 1.5, [0], True, note="1.5 kept"),
    sample(aten.dist.default, normal(4, 5), normal(4, 5)),
    sample(aten.dist.default, normal(4, 5), normal(5), 2, note="broadcast"),
    sample(
        aten.dist.default, normal(4, 5), apart(5, shift=10.0), 1, exact="da", unused="db", note="1"
    ),
    sample(
        aten.dist.default, apart(4, 5), apart(4, 5, shift=0.25), _INF, unused="y da db", note="inf"
    ),
    sample(aten.renorm.default, away(3, 5), 2, 0, 1.7),
    sample(aten.renorm.default, away(3, 5, 2), 3, -1, 2.1, note="3, last axis"),
    sample(
        aten.renorm.default, away(3, 5), 2, 1, 100.0, exact="dx", unused="y", note="short enough"
    ),
)

DISTANCES = (
    sample(_CDIST, normal(2, 3, 5), normal(2, 4, 5), 2.0, None),
    sample(_CDIST, normal(3, 5), apart(4, 5, shift=10.0), 1.0, None, note="1"),
    sample(_CDIST, normal(3, 5), normal(4, 5), 3.0, None, note="3"),
    sample(_CDIST, normal(3, 5), apart(4, 5, shift=10.0), 1.5, None, note="1.5"),
    sample(_CDIST, normal(5, 2), normal(6, 2), _INF, None, note="inf"),
    sample(_CDIST, normal(3, 5), normal(4, 5), 0.0, None, exact="da db", unused="y", note="0"),
    *(
        sample(aten._pdist_forward.default, draw(5, 3), p, note=str(p))
        for draw, p in ((normal, 2.0), (normal, 1.0), (apart, 1.5), (normal, 3.0))
    ),
    sample(aten._pdist_forward.default, normal(3, 2), _INF, note="inf"),
    sample(aten._pdist_forward.default, normal(5, 3), 0.0, exact="da", unused="y", note="0"),
    sample(aten._euclidean_dist.default, normal(3, 5), normal(4, 5)),
    sample(aten._euclidean_dist.default, normal(2, 3, 5), normal(2, 4, 5), note="batch"),
)
