"""Samples of group norms and weight norms."""

from __future__ import annotations

from rules.sampling import aten, normal, sample

_EPS = 1e-5
_GROUP = aten.native_group_norm.default
_KEPT = {"constant": "y[1] y[2]"}

GROUPED = (
    sample(_GROUP, normal(2, 4, 3), normal(4), normal(4), 2, 4, 3, 2, _EPS, **_KEPT),
    sample(
        _GROUP, normal(3, 4, 2, 2), None, None, 3, 4, 4, 1, _EPS, note="one group, plain", **_KEPT
    ),
    sample(_GROUP, normal(2, 3, 5), normal(3), None, 2, 3, 5, 3, 0.1, note="each channel", **_KEPT),
    sample(
        _GROUP, normal(7, 6), normal(6), normal(6), 7, 6, 1, 2, _EPS, note="no positions", **_KEPT
    ),
    # So it is when its own backward is differentiated.
    sample(_GROUP, normal(2, 4, 3), normal(4), normal(4), 2, 4, 3, 2, _EPS, note="by statistics"),
    sample(aten._weight_norm_interface.default, normal(3, 5), normal(3, 1), 0, constant="y[1]"),
    sample(
        aten._weight_norm_interface.default,
        normal(3, 2, 5),
        normal(3, 1, 1),
        0,
        constant="y[1]",
        note="three axes",
    ),
    sample(
        aten._weight_norm_interface.default,
        normal(5, 3),
        normal(1, 3),
        1,
        constant="y[1]",
        note="columns",
    ),
)
