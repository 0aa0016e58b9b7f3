"""Slopes of a function that no rule can differentiate, compared with its claimed gradient.

Along a direction v, the slope at 0 of phi(h) = <g, f(x + h v)> is <J^T g, v>, whatever f is.
Central differences for decreasing h, each pair extrapolated (Richardson), give it with an estimate
of the error; they are computed in float64 at the recorded operands. This is weaker evidence than
a rule's: an estimate along a few directions, not a bound for every element.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import is_float, ulps, unit_roundoff
from gradwitness.judging.comparing.compare import SHARE, Comparison, mismatch, unjudged
from gradwitness.judging.custom.richardson import AtRest, extrapolated
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Value

    Floats = NDArray[np.float64]

RANDOM = 3
GRADE = "numerical: directional derivatives in float64 at the recorded operands, {count} directions"
HIDDEN = "a tenth of its largest number, wrong in one element, would pass: let its iteration run on"
# Roundings that a backward may take, each relative to an element and to the elements' mean size.
ROUNDINGS = 8
# Roundings with random signs add up to more with a chance of at most exp(-18) (Hoeffding).
_DEVIATIONS = 6
# A claim is refuted beyond this multiple of what is allowed; in between it stays open.
_FAR = 3


class Runs(Protocol):
    """A function of the program that can be run again, in float64."""

    def run(self, moved: Mapping[int, Floats]) -> Sequence[Any]:
        """Run it with some operands (by value) replaced; return its results.

        Raises
        ------
        Unjudgeable
            If that fails in float64, or the results are in another format.
        """


@dataclass(frozen=True)
class Claim:
    """The gradient that a node sent for one operand, and what it was computed from.

    Attributes
    ----------
    node : int
    value : int
        The operand on the tape.
    at : ndarray
        Its numbers.
    sent : ndarray
        The gradient: the sum of all that was sent to this operand; zeros for none.
    dtype : str
        The coarsest format among gradients and operand.
    incoming : sequence of (ndarray or None)
        The cotangents of the node's outputs.
    outputs : sequence of (Value or None)
        The node's outputs as recorded.
    tremor : float
        How far an iteration's last step still moved its result, relative to it.
    unsettled : float
        How far the derivative of an iteration may lie from that of its limit, relative to it.
    unseen : float
        The same of an iteration that may run where nothing is recorded.
    move : callable
        Moves the operand by a step.
    roundings : int
        By how many roundings of the format the gradient may be off.
    """

    node: int
    value: int
    at: Floats
    sent: Floats
    dtype: str
    incoming: Sequence[Floats | None]
    outputs: Sequence[Value | None]
    tremor: float = 0.0
    unsettled: float = 0.0
    unseen: float = 0.0
    move: Callable[[Floats, Floats], Floats] = np.add
    roundings: int = ROUNDINGS


@dataclass(frozen=True)
class _Slope:
    claimed: float
    measured: float
    error: float
    # The part of the error that showed: without what an iteration may add where it stops.
    seen: float
    rounding: float
    # How large it is for a gradient of this size in no particular direction.
    size: float
    # How far it moves each element, if all alike.
    reach: float

    @property
    def gap(self) -> float:
        return abs(self.claimed - self.measured)

    @property
    def allowed(self) -> float:
        return 4 * self.error + self.rounding

    @property
    def near(self) -> float:
        """What is allowed if it counts that an iteration stops elsewhere only where that shows."""
        return 4 * self.seen + self.rounding


def measure(
    functions: Runs, claim: Claim, allowed: Callable[[Floats], Floats] = lambda v: v
) -> Comparison:
    """Judge a claimed gradient by the slopes of its function.

    Parameters
    ----------
    functions : Runs
    claim : Claim
    allowed : callable, optional
        Projects a direction to those along which the operand may move.

    Returns
    -------
    Comparison
        Its numbers are slopes, one for each direction, not elements. DISAGREES only if claim and
        slope differ by more than 3 times the estimated error plus the format's rounding.
    """
    if claim.sent.shape != claim.at.shape:
        return mismatch(f"shape {claim.sent.shape}, expected {claim.at.shape}", claim.sent)
    if claim.at.size == 0:
        return unjudged("no elements: nothing was compared", claim.sent)
    if not (np.isfinite(claim.sent).all() and np.isfinite(claim.at).all()):
        return unjudged("not finite: no slope can be measured", claim.sent)
    try:
        phi = _Phi(functions, claim)
        slopes = [_slope(phi, claim, allowed(v)) for v in _directions(claim)]
    except Unjudgeable as reason:
        return unjudged(str(reason), claim.sent)
    return _judged(slopes, claim, phi.size)


def require_repeatable(functions: Runs, claim: Claim) -> None:
    """Raise Unjudgeable unless a function gives in float64, each time, what was recorded."""
    _Phi(functions, claim)


def between(functions: Runs, claim: Claim, other: Floats) -> Verdict:
    """Say which of two gradients the slope supports, along the direction in which they differ most.

    Returns
    -------
    Verdict
        DISAGREES if the slope excludes the claim, AGREES if it supports the claim and excludes the
        other one; INCONCLUSIVE if it cannot tell. Of an iteration, whose slope is that of its limit
        only to some extent, it need not exclude the other one.

    Raises
    ------
    Unjudgeable
        If no slope can be measured.
    """
    apart = claim.sent - other
    largest = float(np.max(np.abs(apart), initial=0.0))
    if not (largest and math.isfinite(largest) and np.isfinite(claim.at).all()):
        raise Unjudgeable("not finite: no slope can be measured")
    # A single element may move by a few times the operand's size, not by its whole norm.
    reach = max(_mean_size(apart), largest / 4)
    v = apart * ((_mean_size(claim.at) or 1.0) / reach)
    slope = _slope(_Phi(functions, claim), claim, v)
    ruled = float((other * v).sum())
    if slope.measured == 0 and abs(ruled) > _FAR * slope.allowed:
        raise Unjudgeable("run again, its result does not depend on this argument")
    if not math.isfinite(slope.error):
        raise Unjudgeable("results near the operands are not finite")
    if slope.gap > _FAR * slope.allowed:
        return Verdict.DISAGREES
    told = bool(claim.unsettled) or abs(ruled - slope.measured) > _FAR * slope.allowed
    return Verdict.AGREES if told and slope.gap <= slope.allowed else Verdict.INCONCLUSIVE


class _Phi:
    """h -> <g, f(x + h v)>.

    Attributes
    ----------
    size : float
        Sum of the magnitudes of the terms at h = 0.
    unit : float
        The relative size of a rounding error of the recorded run, estimated from its results.
    at_rest : AtRest
    """

    def __init__(self, functions: Runs, claim: Claim) -> None:
        self._functions = functions
        self._claim = claim
        first = self._results(np.zeros(claim.at.shape))
        with np.errstate(all="ignore"):
            terms = [_weighed(g, y) for g, y in first]
            self.size = float(sum(np.abs(term).sum() for term in terms))
            value = float(sum(term.sum() for term in terms))
        if not np.array_equal(self(np.zeros(claim.at.shape)), value, equal_nan=True):
            raise Unjudgeable("it returns a different result each time it runs")
        self.unit = max(
            claim.roundings * unit_roundoff(claim.dtype), 4 * self._distance(first), claim.unsettled
        )
        self.at_rest = AtRest(value, 2.0**-50 * self.size, claim.tremor * self.size)

    def __call__(self, step: Floats) -> float:
        with np.errstate(all="ignore"):
            return float(sum(_weighed(g, y).sum() for g, y in self._results(step)))

    def _results(self, step: Floats) -> list[tuple[Floats, Floats]]:
        claim = self._claim
        results = self._functions.run({claim.value: claim.move(claim.at, step)})
        pairs = []
        for output_nr, g in enumerate(claim.incoming):
            if g is None:
                continue
            y = results[output_nr] if output_nr < len(results) else None
            if y is None or y.shape != g.shape:
                raise Unjudgeable("rerun, it returns results of a different number or shape")
            pairs.append((g, y))
        return pairs

    def _distance(self, pairs: list[tuple[Floats, Floats]]) -> float:
        """Return how far the recorded results lie from those in float64, relative to their size."""
        recorded = [
            value
            for g, value in zip(self._claim.incoming, self._claim.outputs, strict=False)
            if g is not None
        ]
        worst = 0.0
        for value, (_, y) in zip(recorded, pairs, strict=False):
            if value is None or value.array is None or not is_float(value.dtype):
                continue
            size = _mean_size(y)
            gap = _mean_size(value.array.astype(np.float64) - y)
            worst = max(worst, gap / size if size else 0.0)
        if not worst < 1 / 16:
            raise Unjudgeable("rerun in float64, it returns a different result")
        return worst


def _weighed(g: NDArray[Any], y: NDArray[Any]) -> Floats:
    """Multiply results by their gradients; of complex ones, part by part."""
    return np.asarray((g.conj() * y).real if g.dtype.kind == "c" else g * y)


def _directions(claim: Claim) -> list[Floats]:
    """Return the claimed gradient, and random signs, which weigh every element alike."""
    generator = np.random.default_rng([claim.node, claim.value])
    size = _mean_size(claim.at) or 1.0
    signs = [
        size * generator.choice([-1.0, 1.0], claim.at.shape).reshape(claim.at.shape)
        for _ in range(RANDOM)
    ]
    steep = _mean_size(claim.sent)
    return [claim.sent * (size / steep), *signs] if steep else signs


def _slope(phi: _Phi, claim: Claim, v: Floats) -> _Slope:
    claimed = float((claim.sent * v).sum())
    size = np.abs(claim.sent) + _mean_size(claim.sent)
    reach = float(np.abs(v).flat[0])
    if np.all(np.abs(v) == reach):
        rounding = _DEVIATIONS * float(np.sqrt(((size * v) ** 2).sum()))
        usual = reach * float(np.linalg.norm(claim.sent.ravel()))
    else:
        reach = 0.0
        rounding = float((size * np.abs(v)).sum())
        usual = float(np.linalg.norm(v.ravel()) * np.linalg.norm(claim.sent.ravel()))
    rounding *= phi.unit
    measured, error, seen = extrapolated(lambda h: phi(h * v), phi.at_rest, rounding)
    return _Slope(claimed, measured, error, seen, rounding, usual, reach)


def _judged(slopes: list[_Slope], claim: Claim, size: float) -> Comparison:
    worst = max(slopes, key=lambda s: s.gap / s.allowed if s.allowed else (s.gap and math.inf))
    index = slopes.index(worst)
    allowed = worst.allowed
    ratio = worst.gap / allowed if allowed else (math.inf if worst.gap else 0.0)
    far = [s for s in slopes if s.gap > _FAR * s.allowed]
    refuted = len(far)
    signal = max(*(abs(s.measured) for s in slopes), size / 64)
    unsteady = max(slopes, key=lambda s: s.error)
    hidden = _hidden(slopes, claim)
    verdict, reason = Verdict.INCONCLUSIVE, ""
    if any(not math.isfinite(s.error) for s in slopes):
        reason = "its slope cannot be measured: results near the operands are not finite"
    elif refuted and all(s.gap <= claim.unseen * s.size for s in far):
        refuted, reason = (
            0,
            "off by no more than a solver that stops early may be: too close to call",
        )
    elif refuted:
        verdict = Verdict.DISAGREES
    elif 4 * unsteady.error > signal / 16:
        reason = f"not smooth there: its slope is only known to {unsteady.error:.1g}"
    elif ratio > 1:
        reason = f"{ratio:.2g} times the error of the measurement: too close to call"
    elif max(s.allowed for s in slopes) > signal / 2:
        reason = "too little signal: all zeros would pass too"
    elif claim.unsettled and hidden > SHARE * float(np.max(np.abs(claim.sent))):
        reason = HIDDEN
    else:
        verdict = Verdict.AGREES
    detects = 2 * max(s.allowed for s in slopes)
    farthest = max((s.gap for s in slopes if s.gap > _FAR * s.allowed), default=math.nan)
    return Comparison(
        verdict=verdict,
        reason=reason,
        size=len(slopes),
        refuted=refuted,
        index=(index,),
        recorded=worst.claimed,
        expected=worst.measured,
        error=worst.gap,
        bound=allowed,
        ratio=ratio,
        probable_ratio=ratio,
        ulps=ulps(worst.gap, worst.measured, claim.dtype),
        detects=detects,
        detects_relative=detects / signal if signal else math.inf,
        norm=float(np.linalg.norm(claim.sent.ravel())),
        relative_error=farthest / signal if signal else math.inf,
        hides=hidden,
    )


def _hidden(slopes: list[_Slope], claim: Claim) -> float:
    """Return the largest error in one element that would pass.

    Where an iteration stops moves a slope by something that has nothing to do with a mistake in the
    claim. Slopes along random directions that all come closer to it than that show that it did not
    move them, and what would pass is what their own steps leave open. To refute, it counts in full.
    """
    hidden = min((s.allowed / s.reach for s in slopes if s.reach), default=0.0)
    largest = float(np.max(np.abs(claim.sent)))
    if hidden > SHARE * largest > 0 and all(s.gap <= s.near for s in slopes):
        return min((s.near / s.reach for s in slopes if s.reach), default=0.0)
    return hidden


def _mean_size(array: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
