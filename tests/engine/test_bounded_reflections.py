"""Vectors and factors of reflections: right ones are taken, and faults that show are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import linalg

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.linalg.factor_dispatch import reflectors

ARITHMETIC = Arithmetic.fused("float32")


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("kind", ["single", "complex"])
@pytest.mark.parametrize("seed", range(3))
def test_reflections_are_taken_and_a_fault_that_shows_is_not(
    shape: tuple[int, int], kind: str, seed: int
) -> None:
    drawn, is_complex = np.random.default_rng(seed), kind == "complex"
    A: Any = drawn.standard_normal(shape) + (1j * drawn.standard_normal(shape) if is_complex else 0)
    A = A.astype(np.complex64 if is_complex else np.float32)
    packed, tau, *_ = (linalg.lapack.cgeqrf if is_complex else linalg.lapack.sgeqrf)(A)
    wide = np.complex128 if is_complex else np.float64
    A, packed, tau = (x.astype(wide) for x in (A, packed, tau))

    def judged(packed: Any, tau: Any) -> Any:
        return reflectors(Bounded(A, ARITHMETIC), packed=packed, tau=tau)

    found = judged(packed, tau)
    np.testing.assert_array_equal(found[0].value, packed)
    np.testing.assert_array_equal(found[1].value, tau)
    for at in np.ndindex(shape):
        wrong = packed.copy()
        wrong[at] += max(2 * found[0].rigorous[at], 1e-6)
        again = judged(wrong, tau)[0]
        assert np.abs(again.value - wrong)[at] > again.rigorous[at]
    for at in np.ndindex(tau.shape):
        wrong = tau.copy()
        wrong[at] += 2 * found[1].rigorous[at]
        again = judged(packed, wrong)[1]
        assert np.abs(again.value - wrong)[at] > again.rigorous[at]
