"""Samples of factors of matrices, and of what is made of factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import (
    Draw,
    Exchanged,
    Factors,
    Matrices,
    Pivots,
    Stretched,
    Symmetric,
    aten,
    normal,
    sample,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEFINITE = Symmetric((2, 3, 3))

_EXCHANGED = Exchanged((2, 3, 3))
# Which row each row in turn is exchanged with, counted from 1.
_PIVOTS = Pivots((2, 3), high=4)

# Eigenvalues at least 1/2 apart, even where a number is moved a bit.
_SPREAD = Symmetric((2, 3, 3), centres=(-1.0, 1.0, 3.0))


@dataclass(frozen=True)
class Turns(Draw):
    """Factors of reflections, so large that each of these may be undone."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        return rng.uniform(1.5, 2.0, self.shape).astype(np.float32).astype(np.float64)


DECOMPOSITIONS = (
    *(
        sample(
            op.default, _DEFINITE, upper=upper, note=note,
            constant="y[1]" if op is aten.linalg_cholesky_ex else "",
        )
        for op in (aten.linalg_cholesky_ex, aten.cholesky)
        for upper, note in ((False, ""), (True, "upper"))
    ),
    sample(aten._linalg_eigh.default, _SPREAD, unused="y[1]"),
    sample(aten._linalg_eigh.default, _SPREAD, UPLO="U", unused="y[1]", note="upper"),
    sample(aten.linalg_eig.default, Stretched((2, 3, 3)), constant="y[1]", unused="y"),
    sample(aten._linalg_eigvals.default, Stretched((2, 3, 3), constant=True), unused="y"),
    *(
        sample(aten._linalg_svd.default, draw, unused="y[0] y[2]", note=note)
        for draw, note in (
            (Stretched((2, 3, 3)), ""), (Stretched((4, 3)), "tall"), (Stretched((2, 4)), "wide"),
        )
    ),
    sample(
        aten._linalg_svd.default, Stretched((3, 2), constant=True), full_matrices=True,
        unused="y[0] y[2]", note="all columns",
    ),
    sample(
        aten._linalg_svd.default, Stretched((2, 3, 2), constant=True), compute_uv=False,
        note="values alone",
    ),
    *(
        sample(aten.linalg_qr.default, draw, unused="y", note=note)
        for draw, note in (
            (Matrices((2, 3, 3)), ""), (Stretched((4, 3)), "tall"), (Stretched((2, 4)), "wide"),
        )
    ),
    *(
        sample(
            aten.linalg_qr.default, Stretched((4, 3), constant=True), mode, unused="y", note=mode
        )
        for mode in ("complete", "r")
    ),
    sample(
        aten._linalg_eigh.default, Symmetric((2, 3, 3), constant=True), compute_v=False,
        note="values alone",
    ),
    sample(aten.linalg_matrix_exp.default, Matrices((2, 3, 3), size=0.125)),
    sample(aten.linalg_matrix_exp.default, Matrices((2, 2)), note="squared"),
    *(
        sample(aten.linalg_pinv.atol_rtol_tensor, Matrices(shape, size=0.625), note=note)
        for shape, note in (((2, 3, 3), ""), ((4, 3), "tall"), ((2, 4), "wide"))
    ),
    sample(aten.linalg_pinv.atol_rtol_tensor, _SPREAD, hermitian=True, note="symmetric"),
    *(
        sample(aten.linalg_lstsq.default, Matrices(shape, size=0.625), normal(*shape[:-1], 2),
               driver=driver, constant="y[2] y[3]", note=note)
        for shape, driver, note in (
            ((3, 2), "gelsd", "tall"), ((4, 2), None, "no residuals"), ((2, 3), "gels", "wide")
        )
    ),
    sample(aten.linalg_lu_factor_ex.default, _EXCHANGED, exact="y[1]", constant="y[1] y[2]"),
    sample(aten.linalg_lu.default, _EXCHANGED, exact="y[0]", constant="y[0]"),
    *(
        sample(op.default, Exchanged(shape), exact=moved, constant=moved, note=note)
        for op, moved in ((aten.linalg_lu_factor_ex, "y[1]"), (aten.linalg_lu, "y[0]"))
        for shape, note in (((4, 2), "tall"), ((2, 3, 4), "wide"))
    ),
    *(
        sample(aten.lu_unpack.default, Matrices(shape), Pivots((2,), high=3), exact="y dLU",
               constant="y[0]", note=note)
        for shape, note in (((4, 2), "tall"), ((2, 4), "wide"))
    ),
    sample(
        aten.lu_unpack.default, Matrices((2, 3, 3)), _PIVOTS, exact="y dLU", constant="y[0]"
    ),
    sample(
        aten.lu_unpack.default, Matrices((2, 3, 3), constant=True), _PIVOTS, unpack_data=False,
        exact="y",
        constant="y[0] y[1] y[2]", note="order alone",
    ),
    *(
        sample(
            aten.linalg_lu_solve.default, Matrices((2, 3, 3)), _PIVOTS, right,
            left=left, adjoint=adjoint, note=f"{left:d}{adjoint:d}",
        )
        for left, right in ((True, normal(2, 3, 2)), (False, normal(2, 2, 3)))
        for adjoint in (False, True)
    ),
    *(
        sample(
            aten.triangular_solve.default, normal(2, 3, 2), Matrices((2, 3, 3)), exact="y[1]",
            upper=upper, transpose=turned, unitriangular=unit, note=f"{upper:d}{turned:d}{unit:d}",
        )
        for upper, turned, unit in (
            (True, False, False), (False, True, True), (True, True, False), (False, False, True),
        )
    ),
    sample(aten.cholesky_solve.default, normal(2, 3, 2), Factors((2, 3, 3))),
    sample(
        aten.cholesky_solve.default, normal(2, 3, 2), Factors((2, 3, 3), upper=True),
        upper=True, note="upper",
    ),
    sample(aten.cholesky_inverse.default, Factors((2, 3, 3))),
    sample(
        aten.cholesky_inverse.default, Factors((2, 3, 3), upper=True), upper=True, note="upper"
    ),
    sample(aten.linalg_householder_product.default, normal(4, 3), Turns((3,))),
    sample(aten.linalg_householder_product.default, normal(2, 3, 3), Turns((2, 2)), note="fewer"),
    *(
        sample(aten.geqrf.default, Stretched(shape, constant=True), unused="y", note=note)
        for shape, note in (((2, 3, 3), ""), ((4, 3), "tall"), ((2, 4), "wide"))
    ),
    sample(
        aten.linalg_ldl_factor_ex.default, Symmetric((2, 3, 3), constant=True), exact="y[1]",
        unused="y[0]",
    ),
    sample(
        aten.linalg_ldl_solve.default, Factors((2, 3, 3), constant=True), _PIVOTS,
        Draw((2, 3, 2), constant=True),
    ),
    *(
        sample(
            aten.ormqr.default, normal(2, 4, 3), Turns((2, 3)), other, left, transpose,
            note=f"{left:d}{transpose:d}",
        )
        for left, other in ((True, normal(2, 4, 2)), (False, normal(2, 2, 4)))
        for transpose in (False, True)
    ),
)  # fmt: skip
