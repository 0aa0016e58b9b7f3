"""Each vjp against central differences of the rule's own value, with a random cotangent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.kernel_ops import is_complex
from rules.differences import differences
from rules.harness import Case, make, name, pairs, parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rules.samples import Sample

    Plain = NDArray[np.float64]
    Pair = tuple[Sample, str]

PAIRS = pairs()

# A gradient that is wrong by more than this part of its largest entry is seen.
SEEN = 1e-9


def own_error(bounded: Any) -> NDArray[Any]:
    """The rounding error of what a rule computes in float64: none where nothing rounds."""
    error = bounded.rigorous if isinstance(bounded, Bounded) else None
    error = np.zeros(np.shape(bounded)) if error is None else np.asarray(error)
    # The modulus is at least as large as each part.
    return error * (1 + 1j) if is_complex(bounded) else error


def witness(pair: Pair) -> tuple[Plain, Plain, Plain]:
    """The rule's gradient, central differences, and how far the two may lie apart."""
    sample, operand = pair
    case: Case = make(sample, seed=1)
    bounded = case.gradient(operand, Arithmetic.stepwise("float64"))
    found, allowance = differences(
        lambda x: case.values_of(operand, x),
        parts(case.operand(operand)),
        case.weighed(case.cotangents),
        case.weighed(map(own_error, case.values())),
    )
    gradient = parts(case.within(operand, case.gradient(operand)))
    return gradient, found, allowance + parts(own_error(bounded))


# Torch holds 1 / 6 and 1 / alpha in float32, for float64 too, and keeps p (1 - p) off 0 by adding
# 1e-12 to p and to 1 - p: what that moves at most, relatively.
OF_CONSTANTS = {
    "hardsigmoid": 2.0**-24,
    "celu 1.3": 2.0**-23,
    "celu_ in place": 2.0**-23,
    "binary_cross_entropy_backward mean": 1e-11,
    "binary_cross_entropy_backward weighted, none": 1e-11,
}


def held(pair: Pair, found: Plain) -> Plain:
    """How far a constant of torch's, that the rule takes over, moves a gradient."""
    return OF_CONSTANTS.get(name(pair[0]), 0.0) * np.abs(found)


def is_refuted(gradient: Plain, found: Plain, allowance: Plain) -> bool:
    """Whether a gradient is not what central differences say."""
    return gradient.shape != found.shape or bool(np.any(np.abs(gradient - found) > allowance))


def _one_element(gradient: Plain) -> Plain:
    changed = np.array(gradient)
    changed.flat[-1] += 1e-3 * max(np.max(np.abs(gradient)), 1e-3)
    return changed


BREAKS: dict[str, Callable[[Plain], Plain]] = {
    "sign": lambda dx: -dx,
    "factor 2": lambda dx: 2 * dx,
    "factor 1.001": lambda dx: 1.001 * dx,
    "one element": _one_element,
    "one axis more": lambda dx: dx[None],
}


def spoilt(gradient: Plain, *, planar: bool) -> dict[str, Plain]:
    """Return a gradient with each fault, and that of complex numbers without its conjugate."""
    # No factor shows in a gradient that is 0 by rule: there a gradient that is not 0 must.
    shown = gradient if gradient.any() else gradient + 1
    wrong = {fault: change(shown) for fault, change in BREAKS.items()}
    if planar and gradient.any():
        wrong["no conjugate"] = gradient * [1, -1]
    return wrong


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_gradient_is_what_central_differences_say_and_no_other_is(pair: Pair) -> None:
    gradient, found, allowance = witness(pair)
    largest = np.max(np.abs(found)) if gradient.any() else 1.0
    assert np.all(allowance <= SEEN * largest), "the differences are too coarse to tell"
    wider = allowance + held(pair, found)
    assert not is_refuted(gradient, found, wider), np.max(np.abs(gradient - found) / wider)
    planar = make(pair[0]).leaves[pair[1]].is_complex()
    wrong = spoilt(gradient, planar=planar)
    assert [fault for fault, dx in wrong.items() if not is_refuted(dx, found, allowance)] == []
