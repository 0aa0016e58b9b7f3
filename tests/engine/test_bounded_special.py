"""Special functions against mpmath."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from engine.emulation import FORMATS, REPRODUCIBLE, bounded
from gradwitness.rules.kernel_ops import polygamma

if TYPE_CHECKING:
    from collections.abc import Callable


def _log_gamma(x: Any) -> Any:
    return mpmath.log(abs(mpmath.gamma(x)))


def _scaled_bessel(order: int) -> Callable[[Any], Any]:
    return lambda x: mpmath.besseli(order, x) * mpmath.exp(-abs(x))


# Function, truth, where x is drawn, what lies outside of its domain, or at a pole.
FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any], tuple[float, float]]] = {
    "lgamma": (special.gammaln, _log_gamma, (0.01, 40.0)),
    "lgamma below 0": (special.gammaln, _log_gamma, (-4.95, -4.05)),
    "digamma": (special.psi, mpmath.digamma, (0.01, 40.0)),
    "digamma below 0": (special.psi, mpmath.digamma, (-2.95, -2.05)),
    "trigamma": (lambda x: polygamma(x, n=1), lambda x: mpmath.polygamma(1, x), (0.01, 40.0)),
    "trigamma below 0": (
        lambda x: polygamma(x, n=1), lambda x: mpmath.polygamma(1, x), (-2.95, -2.05)
    ),
    "tetragamma": (lambda x: polygamma(x, n=2), lambda x: mpmath.polygamma(2, x), (0.01, 40.0)),
    "tetragamma below 0": (
        lambda x: polygamma(x, n=2), lambda x: mpmath.polygamma(2, x), (-1.95, -1.05)
    ),
    "i0": (special.i0, lambda x: mpmath.besseli(0, x), (-30.0, 30.0)),
    "i0e": (special.i0e, _scaled_bessel(0), (-30.0, 30.0)),
    "i1": (special.i1, lambda x: mpmath.besseli(1, x), (-30.0, 30.0)),
    "i1e": (special.i1e, _scaled_bessel(1), (-30.0, 30.0)),
    "erfinv": (special.erfinv, mpmath.erfinv, (-0.9999, 0.9999)),
    "erfcx": (special.erfcx, lambda x: mpmath.exp(x * x) * mpmath.erfc(x), (-5.0, 60.0)),
    "ndtri": (
        special.ndtri, lambda x: mpmath.sqrt(2) * mpmath.erfinv(2 * x - 1), (0.0001, 0.9999)
    ),
    "log_ndtr": (
        special.log_ndtr,
        lambda x: mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
        (-30.0, 8.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [*FORMATS, "float64"])
@REPRODUCIBLE
@given(data=st.data())
def test_the_bound_holds_for_what_the_operand_may_have_been(
    name: str, dtype: str, data: st.DataObject
) -> None:
    function, true, (low, high) = FUNCTIONS[name]
    x = data.draw(st.floats(low, high))
    e = data.draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.3])) * data.draw(st.floats(0.5, 1))
    other = x + data.draw(st.sampled_from([-1.0, 1.0, 0.37])) * e * (1 - 2.0**-50)
    result = function(bounded(dtype, [x], [e]))
    bound = float(result.rigorous[0])
    if not low <= other <= high or bound == math.inf:
        return
    with mpmath.workdps(60):
        # The witness's own number stands for the truth at x.
        assert abs(true(mpmath.mpf(other)) - mpmath.mpf(float(result.value[0]))) <= bound * (
            1 + 2.0**-48
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_spread_is_not_slack(name: str) -> None:
    function, true, (low, high) = FUNCTIONS[name]
    x, e = (low + 2 * high) / 3 if low < 0 else min(0.7, high), 1e-5
    with mpmath.workdps(30):
        reach = max(abs(true(mpmath.mpf(x + s * e)) - true(mpmath.mpf(x))) for s in (-1, 1))
    bound = function(bounded("float64", [x], [e])).rigorous[0]
    # The slope of i1e is bounded by half of i0e.
    assert float(reach) <= bound <= (40 if name == "i1e" else 1.01) * float(reach)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (special.gammaln, -1.9),
        (special.psi, 0.1),
        (lambda x: polygamma(x, n=1), -3.1),
        (lambda x: polygamma(x, n=2), 0.1),
        (special.erfinv, 0.9),
        (special.ndtri, 0.1),
    ],
)
def test_a_pole_or_an_end_within_the_error_leaves_no_bound(function: Any, x: float) -> None:
    assert function(bounded("float32", [x], [0.2])).rigorous[0] == math.inf
    assert function(bounded("float32", [x], [0.01])).rigorous[0] < math.inf


def test_the_pole_of_trigamma_is_certain_at_0_only() -> None:
    # A kernel that computes sin(pi x) finds 1e15 at -1.
    found = polygamma(bounded("float32", [0.0, -1.0]), n=1)
    assert np.isinf(found.value).all()
    assert found.rigorous.tolist() == [0.0, math.inf]


@pytest.mark.parametrize("x", [1.05, 1.5, 2.3, 6.0])
@pytest.mark.parametrize("q", [0.05, 0.4, 1.0, 3.0, 20.0])
def test_zeta_moves_with_its_first_operand(x: float, q: float) -> None:
    e = 1e-4
    moved: Any = special.zeta(bounded("float64", [x], [e]), bounded("float64", [q]))
    still: Any = special.zeta(bounded("float64", [x]), bounded("float64", [q]))
    with mpmath.workdps(40):
        at = [mpmath.zeta(mpmath.mpf(x) + s * mpmath.mpf(e), mpmath.mpf(q)) for s in (-1, 0, 1)]
        reach = float(max(abs(at[0] - at[1]), abs(at[2] - at[1])))
    spread = moved.rigorous[0] - still.rigorous[0]
    assert reach <= spread <= 30 * reach


def test_zeta_may_have_a_pole_within_the_error() -> None:
    x = bounded("float32", [1.05, 1.05], [0.06, 0.04])
    assert np.isinf(
        np.asarray(special.zeta(x, bounded("float32", [2.0, 2.0])).rigorous)
    ).tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize("a", [0.05, 0.5, 1.0, 3.5, 30.0])
@pytest.mark.parametrize("x", [1e-3, 0.2, 0.9, 1.05, 1.2, 4.0, 31.0])
def test_the_upper_incomplete_gamma_function_is_within_its_bound(a: float, x: float) -> None:
    # Both in their own way: torch in float32, SciPy in float64.
    a32, x32 = torch.tensor([a]), torch.tensor([x])
    exact = float(a32), float(x32)
    with mpmath.workdps(40):
        true = float(mpmath.gammainc(*map(mpmath.mpf, exact), regularized=True))
    for dtype, found in (
        ("float32", float(torch.special.gammaincc(a32, x32))),
        ("float64", float(special.gammaincc(exact[0], exact[1]))),
    ):
        result: Any = special.gammaincc(*(bounded(dtype, [n]) for n in exact))
        assert abs(found - true) <= float(result.rigorous[0])
