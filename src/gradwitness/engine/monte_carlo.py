"""How far a gradient computed elsewhere may lie from the float64 replay: stochastic arithmetic.

A bound of the whole computation, carried from step to step, is useless: it grows far past the
gradient itself. So the replay is run again and again with every result, forward and backward,
moved at random by as much as its own rounding could move it in the other program's format, and the
spread of what comes out is measured (Monte Carlo arithmetic, D. S. Parker, UCLA 1997; CESTAC,
J. Vignes, Math. Comput. Simulation 35, 1993). What no rounding touches (views, ReLU, copies) does
not move, and whatever depends on a moved number sees the same one.

The movement is wider than one step's probable error (`AMPLIFICATION`): a ReLU whose operand lies
within a few roundings of its kink then changes sides in some of the runs, so that the jump it makes
is seen. The spread is brought back by the same factor. In 16-bit formats kinks are crossed all the
time: there the variance grows with the width of the movement and not with its square, so that the
spread is brought back by the square root only, and the movement is less wide (`COARSE`).
"""

from __future__ import annotations

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
from gradwitness.engine.replay import Replay, Steps, replay
from gradwitness.rules import find
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Call, Node, Tape, Value

GRADE = "probable, by stochastic arithmetic"
RUNS = 16
AMPLIFICATION = 4.0
COARSE = 2.0
# Random errors add up as the square root of their number: room for twice as many roundings.
SAFETY = math.sqrt(2)
# That a right tensor is refuted, errors being normal and no larger than `SAFETY` times the model's.
RISK = 1e-6

# The unit roundoff of 16-bit formats is above this.
_SHORT = 2.0**-12

NodeInput = tuple[int, int, int]  # pass, node, input of the node


@dataclass(frozen=True)
class Spread:
    """What moving every step's result did to some gradients.

    Attributes
    ----------
    dtype : str
        The format whose roundings were imitated.
    runs : int
    widened : float
        What the spread of a program's own roundings is smaller by.
    squares : dict
        Mean square of each number's distance from the replay, by (pass, node, input).
    farthest : dict
        Largest distance of each number.
    references : dict
        The replay's gradients.
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

        A number's own spread from few runs is noisy: half of its variance is the tensor's, which
        makes a moderated t of it (G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004, with a prior
        as strong as the data). t is the two-sided quantile of Student's distribution with twice as
        many degrees of freedom as runs, for the risk `RISK` / n that one number is refuted though
        its error is normal and of that spread. The last two terms are for storing the result.
        """
        squares, reference = self.squares[input_nrs], self.references[input_nrs]
        if not reference.size:
            return np.zeros(reference.shape)
        quantile = -float(scipy.special.stdtrit(2 * self.runs, RISK / (2 * reference.size)))
        with np.errstate(all="ignore"):
            sigma = np.sqrt((squares + np.mean(squares)) / 2) / self.widened
            moved = np.maximum(SAFETY * quantile * sigma, self.farthest[input_nrs])
            stored = unit_roundoff(self.dtype) * np.abs(reference)
            underflow = float(limits(self.dtype).smallest_normal)
            made = moved + np.where(reference == 0, 0.0, stored + underflow)
        return np.asarray(np.where(np.isnan(made), np.inf, made))


def spread(
    tape: Tape,
    replayed: Replay,
    wanted: Sequence[tuple[NodeInput, ...]],
    dtype: str,
    *,
    runs: int = RUNS,
    seed: int = 0,
) -> Spread:
    """Measure how far roundings in a format move some gradients.

    Parameters
    ----------
    tape : Tape
    replayed : Replay
        Its float64 replay.
    wanted : sequence of tuple
        Which gradients: for each, the (pass, node, input) at which its parts arrive. Several parts
        are added up, as passes add to ``.grad``.
    dtype : str
        The format that the other program computed in. Where the tape itself mixes formats, each
        step has the coarser of its own and this one.
    runs : int
    seed : int
        Of the movements: the same gives the same spread.

    Returns
    -------
    Spread
        Without the gradients that nothing arrives at.
    """
    moved = _retyped(tape, dtype)
    made = {moved.values[n].dtype for c in tape.calls for n in c.outputs if n is not None}
    coarse = any(is_inexact(name) and unit_roundoff(name) > _SHORT for name in made)
    width = COARSE if coarse else AMPLIFICATION
    noise = _Noise(np.random.default_rng(seed), dtype, width)
    known = {input_nrs: _summed(replayed, input_nrs) for input_nrs in wanted}
    exact = {input_nrs: g for input_nrs, g in known.items() if g is not None}
    squares = {input_nrs: np.zeros(g.shape) for input_nrs, g in exact.items()}
    farthest = {input_nrs: np.zeros(g.shape) for input_nrs, g in exact.items()}
    for _ in range(runs):
        again = replay(moved, noise.leaves(tape, moved), noise)
        # Where a mask takes out other elements than it did, nothing was moved from there on.
        lost = len(again.trusted) > len(replayed.trusted)
        for input_nrs, reference in exact.items():
            arrived = _summed(again, input_nrs)
            with np.errstate(all="ignore"):
                distance = np.abs((0.0 if arrived is None else arrived) - reference)
                distance = np.where(np.isnan(distance) | lost, np.inf, distance)
                squares[input_nrs] += distance**2 / runs
            np.maximum(farthest[input_nrs], distance, out=farthest[input_nrs])
    widened = math.sqrt(width) if coarse else width
    return Spread(dtype, runs, widened, squares, farthest, exact)


def _summed(replayed: Replay, input_nrs: tuple[NodeInput, ...]) -> NDArray[np.float64] | None:
    """Return what arrives at some places together, or None if nothing does."""
    parts = [g for input_nr in input_nrs if (g := replayed.gradient(*input_nr)) is not None]
    return np.asarray(sum(parts[1:], parts[0])) if parts else None


def _retyped(tape: Tape, dtype: str) -> Tape:
    """Return a tape as another program would have it that computes in one format.

    Data, which depend on no parameter, may come to it as they are, in the format that they have.
    """
    made = [tape.values[n] for call in tape.calls for n in call.outputs if n is not None]
    formats = {value.dtype for value in made if is_inexact(value.dtype)}
    trained = _trained(tape)

    def other(value: Value) -> str:
        kept = len(set(map(part, formats))) > 1 or value.id not in trained
        coarser = unit_roundoff(value.dtype) > unit_roundoff(dtype)
        if is_complex(value.dtype) and not (kept and coarser):
            # There are no complex numbers of 16 bits a part.
            return "complex128" if dtype == "float64" else "complex64"
        return value.dtype if kept and coarser else dtype

    values = [
        replace(value, dtype=other(value)) if value.dtype in formats else value
        for value in tape.values
    ]
    return replace(tape, values=values)


def _trained(tape: Tape) -> set[int]:
    """Return the values that depend on a leaf with a gradient, those included."""
    found = {value.id for value in tape.values if value.requires_grad}
    for call in tape.calls:
        if any(n in found for a in call.arguments.values() for n in references(a)):
            found |= {n for n in call.outputs if n is not None}
    return found


class _Noise(Steps):
    """Takes each step as a replay does, and moves its result by what rounding could."""

    def __init__(self, random: np.random.Generator, dtype: str, width: float) -> None:
        self._random = random
        self._width = width
        self._unit = unit_roundoff(dtype)

    def leaves(self, tape: Tape, moved: Tape) -> Mapping[int, NDArray[np.float64]]:
        """Return what comes from outside as another program may hold it.

        A coarser format rounds all of it. In a finer one, data may be as they were before they were
        rounded for the recording; the parameters are the same.
        """
        made = {n for call in tape.calls for n in call.outputs}
        read = {n for call in tape.calls for a in call.arguments.values() for n in references(a)}
        lookup = recorded(tape)
        found = {}
        for number in sorted(read - made):
            value = tape.values[number]
            if not is_inexact(value.dtype):
                continue
            own, other = (unit_roundoff(t.values[number].dtype) for t in (tape, moved))
            finer = own > self._unit and not value.requires_grad
            if other > own or finer:
                array = lookup(number)
                found[number] = self._move(array, max(own, other) * np.abs(array))
        return found

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute what a call makes, and move it."""
        rule = find(call.base_op)
        made: dict[int | None, Any] = {}
        if rule is not None and "made" in rule.parameters:
            # It goes on from what the call itself made before, which is not written yet.
            made = dict(zip(call.outputs, super().forward(tape, call, lookup), strict=True))

        def known(number: int) -> NDArray[Any]:
            return np.asarray(made[number]) if number in made else lookup(number)

        bounded = evaluate(tape, call, known, bounded=True, confidence=1.0)
        operands = [n for a in call.arguments.values() for n in references(a)]
        source = min((_unit(tape, n) for n in operands), default=1.0)
        units = [max(_unit(tape, n), source) if n is not None else 0.0 for n in call.outputs]
        return tuple(
            self._moved(result, unit if unit > source else 0.0)
            for result, unit in zip(bounded, units, strict=True)
        )

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute what a node sends, and move it."""
        arithmetic = replace(Arithmetic.stepwise(_format(tape, node.id)), confidence=1.0)
        given = [None if g is None else Bounded(g, arithmetic) for g in incoming]
        sent = gradients(tape, node, given, lookup, arithmetic)
        source = unit_roundoff(_format(tape, node.id))
        onward = [0.0 if e is None else unit_roundoff(_format(tape, e.node)) for e in node.edges]
        return tuple(
            self._moved(g, unit if unit > source else 0.0)
            for g, unit in zip(sent, onward, strict=True)
        )

    def total(self, tape: Tape, node: int, before: Any, g: Any) -> Any:
        """Add up what arrives, and round the sum."""
        both = before + g
        return self._move(both, unit_roundoff(_format(tape, node)) * np.abs(both))

    def _moved(self, result: Any, cast: float) -> Any:
        """Move a result by its probable error; one that rounds nothing by what a cast does."""
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
        """Return random numbers; complex ones with both parts at random, and of the same size."""

        def one() -> NDArray[Any]:
            return np.asarray(self._random.uniform(-self._width, self._width, value.shape))

        return (one() + 1j * one()) / math.sqrt(2) if value.dtype.kind == "c" else one()

    def _move(self, value: NDArray[Any], error: NDArray[Any]) -> NDArray[Any]:
        # What has no finite bound may be off by all of itself.
        error = np.where(np.isfinite(error), error, np.abs(value))
        with np.errstate(all="ignore"):
            moved = value + self._shift(value) * error
        return np.asarray(np.where(np.isfinite(value) & np.isfinite(moved), moved, value))


def _unit(tape: Tape, number: int) -> float:
    """Return a value's unit roundoff; 1 for what is no floating-point tensor."""
    value = tape.values[number]
    return unit_roundoff(value.dtype) if is_inexact(value.dtype) and value.shape else 1.0


def _format(tape: Tape, node: int) -> str:
    """Return the format of what arrives at a node."""
    known = [tape.values[n].dtype for n in tape.nodes[node].outputs if n is not None]
    return next((dtype for dtype in known if is_inexact(dtype)), "float32")
