"""Central differences with Richardson's extrapolation, and how far they can be off.

``D(h) = (F(x + h) - F(x - h)) / 2h`` is F' plus a series in h^2. Lagrange's polynomial in h^2
through D at four steps, each half of the one before, evaluated at h = 0, removes the terms to h^6;
through the three smallest steps, those to h^4.

Two things keep the result from F':

* What is left of the series. The difference of the two extrapolations is the error of the
  lower one, which exceeds that of the higher: it is the allowance.
* Rounding. The operands have 24 bits and the steps are powers of two, so ``x +- h`` is exact. Each
  number f_j of the value is within its own bound e_j, which the engine derives from the formula,
  of the exact one; ``c_j f_j`` rounds once more; the sum is exact (fsum). So D(h) is off by at most
  ``sum_j |c_j| (e_j + u |f_j|) / h``, doubled because e_j is taken at x, not at ``x +- h``. The
  polynomial's weights amplify this.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.floats import unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Plain = NDArray[np.float64]

# The nearest kink or pole of a sample lies 1/2 away: 16 of the largest step.
STEPS = tuple(2.0**-k for k in (5, 6, 7, 8))


def _weights(steps: tuple[float, ...]) -> list[float]:
    """Weights at h = 0 of Lagrange's polynomial in h^2."""
    return [
        math.prod(other**2 / (other**2 - step**2) for other in steps if other != step)
        for step in steps
    ]


def differences(
    value: Callable[[Plain], Plain], x: Plain, cotangent: Plain, error: Plain
) -> tuple[Plain, Plain]:
    """Return the gradient of ``sum(cotangent * value(x))``, and a bound of its error.

    ``error`` bounds the rounding error of ``value(x)``, element by element.
    """
    u = unit_roundoff("float64")
    off = 2 * math.fsum(np.ravel(np.abs(cotangent) * (error + u * np.abs(value(x)))))
    weights, lower = _weights(STEPS), [0.0, *_weights(STEPS[1:])]
    noise = off * sum(abs(w) / h for w, h in zip(weights, STEPS, strict=True))
    gradient, allowance = np.zeros(x.shape), np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        quotients = [_quotient(value, x, at, cotangent, step) for step in STEPS]
        gradient[at] = math.fsum(w * q for w, q in zip(weights, quotients, strict=True))
        less = math.fsum(w * q for w, q in zip(lower, quotients, strict=True))
        allowance[at] = abs(gradient[at] - less) + noise
    return gradient, allowance


def _quotient(
    value: Callable[[Plain], Plain], x: Plain, at: tuple[int, ...], cotangent: Plain, step: float
) -> float:
    ends = []
    for end in (step, -step):
        moved = x.copy()
        moved[at] += end
        ends.append(np.ravel(cotangent * value(moved)))
    return math.fsum([*ends[0], *-ends[1]]) / (2 * step)
