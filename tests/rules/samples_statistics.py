"""Samples of variances, and of losses over classes."""

from __future__ import annotations

from rules.sampling import Draw, N, aten, index, normal, sample

_WEIGHT = Draw((5,), gap=0.5, positive=True, constant=True)
_NLL = aten.nll_loss_forward.default

STATISTICS = (
    sample(aten.var.correction, normal(3, 5), [1]),
    sample(aten.var.correction, normal(2, 4, 3), [0, -1], correction=0, keepdim=True, note="kept"),
    sample(aten.var.correction, normal(4, 3), note="of everything"),
    sample(aten.std.correction, normal(3, 5), [1]),
    sample(aten.std.correction, normal(2, 4, 3), [0, -1], correction=0, keepdim=True, note="kept"),
    sample(_NLL, normal(7, 5), index(7, high=5), None, 1, -100, exact="y[1]", constant="y[1]"),
    sample(
        _NLL,
        normal(5),
        index(high=5),
        Draw((5,), gap=0.5, positive=True, constant=True),
        0,
        -100,
        note="none, of one",
        exact="y[1]",
        constant="y[1]",
    ),
    sample(_NLL, normal(7, 5), index(7, high=5), _WEIGHT, 1, 2, constant="y[1]", note="weighted"),
    sample(
        _NLL,
        normal(7, 5),
        index(7, high=5),
        _WEIGHT,
        2,
        -100,
        constant="y[1]",
        note="weighted sum",
    ),
    sample(
        _NLL,
        normal(7, 5),
        index(7, high=5),
        None,
        0,
        1,
        exact="y dx",
        constant="y[1]",
        note="none",
    ),
    sample(aten.baddbmm.default, normal(2, 3, 4), normal(2, 3, N), normal(2, N, 4), exact="db"),
    sample(
        aten.baddbmm.default,
        normal(4),
        normal(2, 3, N),
        normal(2, N, 4),
        beta=0.3,
        alpha=-1.7,
        note="scaled",
    ),
)
