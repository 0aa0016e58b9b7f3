"""Arrays that carry a bound on their own rounding error.

A rule is written in plain NumPy calls. Run on `Bounded` arrays, through NumPy's own dispatch
protocols (NEP 13, NEP 18), the same text yields its value and, beside it, how far a computation of
that formula in another arithmetic may lie from it. So no rule states a tolerance: the bound is
derived from the formula, operation by operation (running error analysis: Higham 2002, section 3.3).
Each elementary operation adds ``unit * |result|``; a reduction of n roundings adds
``gamma_n * sum |terms|``; the operands' errors are carried on with the largest derivative between
value - error and value + error.

Two bounds run side by side: ``rigorous`` (worst case) and ``probable`` (sqrt(n), Higham and Mary
2019). They are the same array until a long reduction makes them differ. None stands for exact.

Where a number on the way may overflow the other arithmetic's format, ``rigorous`` is infinite, and
``probable`` says what holds if it does not (see `overflow`).

Bounds assume that the other arithmetic rounds to nearest, and does not flush subnormal operands to
zero except in products and sums of bfloat16 numbers (see `array.as_read`); that comparisons come
out as the witness's do; and that the bound itself, computed in float64, is good to some units of
2^-53 of its size.
"""

from gradwitness.engine.bounded import arithmetic as arithmetic
from gradwitness.engine.bounded import bessel as bessel
from gradwitness.engine.bounded import cholesky_lu as cholesky_lu
from gradwitness.engine.bounded import complex_arithmetic as complex_arithmetic
from gradwitness.engine.bounded import complex_functions as complex_functions
from gradwitness.engine.bounded import composites as composites
from gradwitness.engine.bounded import cumulative as cumulative
from gradwitness.engine.bounded import eigenpairs as eigenpairs
from gradwitness.engine.bounded import exponential as exponential
from gradwitness.engine.bounded import fourier as fourier
from gradwitness.engine.bounded import householder as householder
from gradwitness.engine.bounded import kernel_ops as kernel_ops
from gradwitness.engine.bounded import ldl as ldl
from gradwitness.engine.bounded import movement as movement
from gradwitness.engine.bounded import ordering as ordering
from gradwitness.engine.bounded import orthogonal as orthogonal
from gradwitness.engine.bounded import piecewise_constant as piecewise_constant
from gradwitness.engine.bounded import products as products
from gradwitness.engine.bounded import solving as solving
from gradwitness.engine.bounded import special as special
from gradwitness.engine.bounded import transcendental as transcendental
from gradwitness.engine.bounded import trigonometry as trigonometry
from gradwitness.engine.bounded.array import Bounded as Bounded
from gradwitness.engine.bounded.array import Error as Error
