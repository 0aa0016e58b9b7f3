"""Samples of linear systems, inverses and determinants."""

from __future__ import annotations

from rules.sampling import Matrices, aten, normal, sample

_THREE = Matrices((2, 3, 3))
_KEPT = "y[1] y[2] y[3]"

SOLVING = (
    sample(aten._linalg_solve_ex.default, _THREE, normal(2, 3, 2), constant=_KEPT),
    sample(aten._linalg_solve_ex.default, _THREE, normal(2, 3), constant=_KEPT, note="vector"),
    sample(
        aten._linalg_solve_ex.default, _THREE, normal(2, 2, 3),
        left=False, constant=_KEPT, note="from the right",
    ),
    sample(aten.linalg_inv_ex.default, _THREE, constant="y[1]"),
    sample(aten._linalg_slogdet.default, _THREE, exact="y[0]", constant="y[0] y[2] y[3]"),
    sample(aten._linalg_det.default, _THREE, constant="y[1] y[2]"),
    *(
        sample(
            aten.linalg_solve_triangular.default, _THREE, normal(2, 3, 3),
            upper=upper, left=left, unitriangular=unit, note=f"{upper:d}{left:d}{unit:d}",
        )
        for upper, left, unit in (
            (True, True, False), (False, True, True), (True, False, True), (False, False, False),
        )
    ),
)  # fmt: skip
