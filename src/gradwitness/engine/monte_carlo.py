"""Stochastic arithmetic: how far a gradient computed elsewhere may lie from the float64 replay.

A bound of the whole computation, carried from step to step, is useless: it grows far past the
gradient itself. So the replay is repeated with every result, forward and backward, perturbed at
random by as much as its own rounding in the other program's format, and the spread of the outcomes
is measured (Monte Carlo arithmetic, D. S. Parker, UCLA 1997; CESTAC, J. Vignes, Math. Comput.
Simulation 35, 1993). Exact results (of views, ReLU, copies) are not perturbed, and all steps that
use a perturbed number see the same one.

The perturbation is wider than a step's probable error (`AMPLIFICATION`): a ReLU whose operand lies
within a few roundings of its kink then changes sides in some of the runs, so that its jump is seen.
The spread is divided by the same factor. In 16-bit formats kinks are crossed all the time: there
the variance grows with the width of the perturbation, not with its square. So the spread is divided
only by the square root, and the perturbation is narrower (`COARSE`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import Lookup, recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import (
    Arithmetic,
    is_complex,
    is_inexact,
    limits,
    part,
    unit_roundoff,
)
from gradwitness.engine.forward import evaluate
from gradwitness.engine.replay import Replay, replay
from gradwitness.engine.replay_steps import Steps
from gradwitness.rules import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Call, Node, Tape, Value

GRADE = "probable, by stochastic arithmetic"
RUNS = 16
AMPLIFICATION = 4.0
COARSE = 2.0
# Random errors grow as the square root of their number: this allows for twice as many roundings.
SAFETY = math.sqrt(2)
# The risk of refuting a right tensor whose errors are normal, and at most `SAFETY` of the model's.
RISK = 1e-6

# The unit roundoff of 16-bit formats is above this.
_SHORT = 2.0**-12

NodeInput = tuple[int, int, int]  # pass, node, input of the node


@dataclass(frozen=True)
class Spread:
    """The effect on some gradients of perturbing every step's result, by the roundings of a format.

    ``squares`` and ``farthest`` are the mean square and the largest of each number's distances from
    the replay's gradients, ``references``; ``widened`` is what to divide the spread by.
    """

    dtype: str
    runs: int
    widened: float
    squares: dict[tuple[NodeInput, ...], NDArray[np.float64]]
    farthest: dict[tuple[NodeInput, ...], NDArray[np.float64]]
    references: dict[tuple[NodeInput, ...], NDArray[np.float64]]

    def allowance(self, input_nrs: tuple[NodeInput, ...]) -> NDArray[np.float64]:
        """Return how far each number of a gradient may lie from the replay's.

        For a tensor of n numbers, with m the mean square distance of each in ``runs`` runs::

            sigma = sqrt((m + mean of m over the tensor) / 2) / widened
            allowance = max(SAFETY * t * sigma, farthest) + u |g| + smallest normal number

        The spread of a number in few runs is noisy. So half of its variance is the tensor's, as in
        a moderated t (G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004, with a prior as strong as
        the data). t is the two-sided quantile of Student's distribution with twice as many degrees
        of freedom as runs, for the risk `RISK` / n that a number is refuted although its error is
        normal and of that spread. The last two terms are for storing the result.
        """
        squares, reference = self.squares[input_nrs], self.references[input_nrs]
        if not reference.size:
            return np.zeros(reference.shape)
        quantile = -float(scipy.special.stdtrit(2 * self.runs, RISK / (2 * reference.size)))
        with np.errstate(all="ignore"):
            sigma = np.sqrt((squares + np.mean(squares)) / 2) / self.widened
            by_rounding = np.maximum(SAFETY * quantile * sigma, self.farthest[input_nrs])
            stored = unit_roundoff(self.dtype) * np.abs(reference)
            underflow = float(limits(self.dtype).smallest_normal)
            allowance = by_rounding + np.where(reference == 0, 0.0, stored + underflow)
        return np.asarray(np.where(np.isnan(allowance), np.inf, allowance))


def spread(
    tape: Tape,
    replayed: Replay,
    positions: Sequence[tuple[NodeInput, ...]],
    dtype: str,
    *,
    runs: int = RUNS,
    seed: int = 0,
) -> Spread:
    """Measure how far rounding in a format moves some gradients: those where anything arrives.

    ``positions`` say for each gradient where its terms arrive; several are added up, as passes add
    to ``.grad``. The other program computed in ``dtype``; if the tape mixes formats, each step has
    the coarser of its own and this one.
    """
    retyped = _retyped(tape, dtype)
    formats = {retyped.values[n].dtype for c in tape.calls for n in c.outputs if n is not None}
    coarse = any(is_inexact(name) and unit_roundoff(name) > _SHORT for name in formats)
    width = COARSE if coarse else AMPLIFICATION
    noise = _Noise(np.random.default_rng(seed), dtype, width)
    totals = {input_nrs: _summed(replayed, input_nrs) for input_nrs in positions}
    exact = {input_nrs: g for input_nrs, g in totals.items() if g is not None}
    squares = {input_nrs: np.zeros(g.shape) for input_nrs, g in exact.items()}
    farthest = {input_nrs: np.zeros(g.shape) for input_nrs, g in exact.items()}
    for _ in range(runs):
        perturbed = replay(retyped, noise.leaves(tape, retyped), noise)
        # Where a mask selects other elements than recorded, nothing is perturbed from there on.
        lost = len(perturbed.trusted) > len(replayed.trusted)
        for input_nrs, reference in exact.items():
            g = _summed(perturbed, input_nrs)
            with np.errstate(all="ignore"):
                distance = np.abs((0.0 if g is None else g) - reference)
                distance = np.where(np.isnan(distance) | lost, np.inf, distance)
                squares[input_nrs] += distance**2 / runs
            np.maximum(farthest[input_nrs], distance, out=farthest[input_nrs])
    widened = math.sqrt(width) if coarse else width
    return Spread(dtype, runs, widened, squares, farthest, exact)


def rounded_replay(tape: Tape, seed: int = 0) -> Replay:
    """Replay a tape with every result, forward and backward, off as its own format rounds it."""
    return replay(tape, steps=_Noise(np.random.default_rng(seed), "float64", 1.0))


def _summed(replayed: Replay, input_nrs: tuple[NodeInput, ...]) -> NDArray[np.float64] | None:
    """Return the sum of the gradients at some node inputs, or None if there are none."""
    terms = [g for input_nr in input_nrs if (g := replayed.gradient(*input_nr)) is not None]
    return np.asarray(sum(terms[1:], terms[0])) if terms else None


def _retyped(tape: Tape, dtype: str) -> Tape:
    """Return the tape of another program that computes in one format.

    Data, which depend on no parameter, may keep their format.
    """
    outputs = [tape.values[n] for call in tape.calls for n in call.outputs if n is not None]
    formats = {value.dtype for value in outputs if is_inexact(value.dtype)}
    trained = _trained(tape)

    def new_dtype(value: Value) -> str:
        may_keep = len(set(map(part, formats))) > 1 or value.id not in trained
        coarser = unit_roundoff(value.dtype) > unit_roundoff(dtype)
        if is_complex(value.dtype) and not (may_keep and coarser):
            # There are no complex numbers with 16-bit parts.
            return "complex128" if dtype == "float64" else "complex64"
        return value.dtype if may_keep and coarser else dtype

    values = [
        replace(value, dtype=new_dtype(value)) if value.dtype in formats else value
        for value in tape.values
    ]
    return replace(tape, values=values)


def _trained(tape: Tape) -> set[int]:
    """Return the leaves with a gradient, and all values that depend on them."""
    trained = {value.id for value in tape.values if value.requires_grad}
    for call in tape.calls:
        if not trained.isdisjoint(call.operands):
            trained |= {n for n in call.outputs if n is not None}
    return trained


class _Noise(Steps):
    """Replays each step, and perturbs its result as rounding might."""

    def __init__(self, random: np.random.Generator, dtype: str, width: float) -> None:
        self._random = random
        self._width = width
        self._unit = unit_roundoff(dtype)

    def leaves(self, tape: Tape, retyped: Tape) -> Mapping[int, NDArray[np.float64]]:
        """Return the program's inputs as another program may hold them.

        A coarser format rounds them all. In a finer one, data may be more exact than recorded; the
        parameters are the same.
        """
        outputs = {n for call in tape.calls for n in call.outputs}
        read = {n for call in tape.calls for n in call.operands}
        lookup = recorded(tape)
        leaves = {}
        for number in sorted(read - outputs):
            value = tape.values[number]
            if not is_inexact(value.dtype):
                continue
            unit, new_unit = (unit_roundoff(t.values[number].dtype) for t in (tape, retyped))
            finer = unit > self._unit and not value.requires_grad
            if new_unit > unit or finer:
                array = lookup(number)
                leaves[number] = self._move(array, max(unit, new_unit) * np.abs(array))
        return leaves

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute the results of a call, and perturb them."""
        rule = find(call.base_op)
        own_results: dict[int | None, Any] = {}
        if rule is not None and "made" in rule.parameters:
            # It continues from the call's own results, which are not written yet.
            own_results = dict(zip(call.outputs, super().forward(tape, call, lookup), strict=True))

        def lookup_own(number: int) -> NDArray[Any]:
            return np.asarray(own_results[number]) if number in own_results else lookup(number)

        bounded = evaluate(tape, call, lookup_own, bounded=True, confidence=1.0)
        # A tensor without axes does not decide the format of a result, as no number of Python does.
        deciding = [n for n in call.operands if tape.values[n].shape]
        source = min((_unit(tape, n) for n in deciding), default=1.0)
        units = [max(_unit(tape, n), source) if n is not None else 0.0 for n in call.outputs]
        return self._all_moved(bounded, units, source)

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends, and perturb them."""
        arithmetic = replace(Arithmetic.stepwise(_format(tape, node.id)), confidence=1.0)
        bounded = [None if g is None else Bounded(g, arithmetic) for g in incoming]
        sent = gradients(tape, node, bounded, lookup, arithmetic)
        source = unit_roundoff(_format(tape, node.id))
        units = [0.0 if e is None else unit_roundoff(_format(tape, e.node)) for e in node.edges]
        return self._all_moved(sent, units, source)

    def total(self, tape: Tape, node: int, before: Any, g: Any) -> Any:
        """Add a gradient, and perturb the sum."""
        total = before + g
        return self._move(total, unit_roundoff(_format(tape, node)) * np.abs(total))

    def _all_moved(
        self, results: tuple[Any, ...], units: list[float], source: float
    ) -> tuple[Any, ...]:
        """Perturb results, which are cast where their format is coarser than the source's."""
        casts = (unit if unit > source else 0.0 for unit in units)
        return tuple(itertools.starmap(self._moved, zip(results, casts, strict=True)))

    def _moved(self, result: Any, cast: float) -> Any:
        """Perturb a result by its probable error, or an exact one by a cast's."""
        if not isinstance(result, Bounded):
            return result
        value = result.value
        if value.dtype.kind not in "fc":
            return value
        if result.probable is None:
            return self._move(value, cast * np.abs(value)) if cast else value
        final = result.arithmetic.final * (result.probable > 0)
        return self._move(value, result.probable + final * np.abs(value))

    def _shift(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return random numbers; complex ones have two random parts, but the same size."""

        def real() -> NDArray[Any]:
            return np.asarray(self._random.uniform(-self._width, self._width, value.shape))

        return (real() + 1j * real()) / math.sqrt(2) if value.dtype.kind == "c" else real()

    def _move(self, value: NDArray[Any], error: NDArray[Any]) -> NDArray[Any]:
        # Without a finite bound, the error may be as large as the value.
        error = np.where(np.isfinite(error), error, np.abs(value))
        with np.errstate(all="ignore"):
            moved = value + self._shift(value) * error
        return np.asarray(np.where(np.isfinite(value) & np.isfinite(moved), moved, value))


def _unit(tape: Tape, number: int) -> float:
    """Return a value's unit roundoff; 1 for other than floating-point tensors."""
    value = tape.values[number]
    return unit_roundoff(value.dtype) if is_inexact(value.dtype) else 1.0


def _format(tape: Tape, node: int) -> str:
    """Return the format of a node's cotangent."""
    dtypes = [tape.values[n].dtype for n in tape.nodes[node].outputs if n is not None]
    return next((dtype for dtype in dtypes if is_inexact(dtype)), "float32")
