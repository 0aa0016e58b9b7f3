"""Products held against random combinations of their rows: Freivalds' check, for any product.

Where a result ``C`` shares an axis with one factor ``F`` alone, it is linear in F along that axis:
for any vector x over it, ``f(E, F x) = C x``. So the step is computed again on tensors that are as
thin there as a few random vectors are.

For Gaussian x, drawn after the program has computed C, the errors d of C along the axis show in
``f(E, F x) - C x`` as a normal number of deviation ``|d|``, beside what the witness rounds. Whatever
else is in it, that lies within ``a`` of 0 no more probably than alone (T. W. Anderson 1955), which is
less than ``sqrt(2 / pi) a / |d|``; with s vectors, than that to the power of s. Twice ``a`` takes
account of what the witness's own rounding has to do with x.

The allowance ``a`` decides only what is judged in full instead. So it is what rounding is likely to
be: a sum of n terms, one after the other, is off by about u sqrt(n) times what its partial sums are,
which wander (the root of the sum of squares, here by random signs) and drift (to the result).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import unknown
from gradwitness.engine.floats import is_float, unit_roundoff
from gradwitness.engine.forward import evaluate
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.comparison import CANCELS, PROJECTED, SHARE, VISIBLE, Comparison
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.judging.fast.step import Part, Role, Step
    from gradwitness.tape import Tape, Value

# How probable it may be that a fast look misses what it says that it detects.
MISSED = 1e-6
# The most random vectors; the axis is at least so many times as long as there are.
_VECTORS, _TIMES = 8, 4
# As many of them are looked at with random signs.
_SIGNED = 4
# What is allowed of wandering, of drift and of a store, over what is likely.
_WANDERS, _DRIFTS, _STORES = 4.0, 2.0, 4.0
# The rules use this name for an added term, never for a factor.
_ADDED = "b"


def projected(
    step: Step, target: str, g: Value | None, recorded: Value, random: np.random.Generator
) -> Comparison | None:
    """Judge a product, or the gradient of the operand ``target``; None unless it clearly agrees."""
    letter, axis = _shared_axis(step, target, g, recorded)
    if not letter:
        return None
    length = recorded.shape[axis]
    count = min(_VECTORS, length // _TIMES)
    thin = _Thin(step, target, letter, recorded, random, count)
    with np.errstate(all="ignore"):
        made = np.moveaxis(thin.computed(g), axis, -1)
        wide = thin.numbers(recorded)
        residual = np.abs(made[..., :count] - np.moveaxis(thin.combined(wide, axis), axis, -1))
        norms = np.sqrt(_squares(wide, axis))
        wanders = np.sqrt(np.mean(np.square(made[..., count:]), axis=-1))
        unit = unit_roundoff("float64" if recorded.dtype == "float64" else "float32")
        roots = math.sqrt(_terms(step, target, g)) + math.sqrt(length)
        allowed = unit * roots * (_WANDERS * wanders + _DRIFTS * norms)
        if unit_roundoff(recorded.dtype) > unit:
            allowed += _STORES * unit_roundoff(recorded.dtype) * norms
        allowance, largest = float(allowed.max()), float(norms.max())
        detects = 2 * math.sqrt(2 / math.pi) * allowance / MISSED ** (1 / count)
        within = bool((residual <= allowed[..., None]).all())
        # Of terms that cancel an error in one is detected, though nothing is left of all.
        cancels = detects > SHARE * largest and detects <= VISIBLE * float(wanders.max())
    # NaN compares as false.
    if not (within and (cancels or 0 < detects <= SHARE * largest < math.inf)):
        return None
    return Comparison(
        Verdict.AGREES,
        CANCELS if cancels else PROJECTED,
        math.prod(recorded.shape),
        error=float(residual.max()),
        bound=allowance,
        ratio=float((residual.max(axis=-1) / allowed).max()),
        detects=detects,
        detects_relative=detects / largest if largest else math.inf,
        norm=float(np.linalg.norm(norms)),
        missed=MISSED,
    )


def _shared_axis(step: Step, target: str, g: Value | None, recorded: Value) -> tuple[str, int]:
    """Return the longest axis that a result shares with one factor alone, by its letter."""
    found = step.letters(target) if is_float(recorded.dtype) else None
    if found is None:
        return "", 0
    operands, results = found
    read = [(operands[name], value.shape) for name, value in _factors(step, target)]
    read += [(results[0], g.shape)] if g is not None else []
    added = step.operands.get(_ADDED)
    best = ("", 0)
    for letter in operands[target] if target else results[0]:
        axis = axis_of(operands[target] if target else results[0], letter, recorded.shape)
        carriers = sum(axis_of(of, letter, shape) is not None for of, shape in read)
        if letter == "_" or axis is None or carriers != 1:
            continue
        if not (target or added is None or step.is_convolution):
            if axis_of(operands[_ADDED], letter, added.shape) is None:
                continue
        if recorded.shape[axis] >= max(2 * _TIMES, recorded.shape[best[1]] if best[0] else 0):
            best = (letter, axis)
    return best


class _Thin:
    """A step whose tensors are combined along the axis of a letter, in one working format.

    Behind the combinations, each tensor has them once more with random signs.
    """

    def __init__(
        self,
        step: Step,
        target: str,
        letter: str,
        recorded: Value,
        random: np.random.Generator,
        count: int,
    ) -> None:
        self._step, self._target, self._letter = step, target, letter
        self._operands, self._results = step.letters(target) or ({}, ())
        self._kind = np.dtype("float64" if recorded.dtype == "float64" else "float32")
        axis = axis_of(
            self._operands[target] if target else self._results[0], letter, recorded.shape
        )
        self._x = random.standard_normal((recorded.shape[axis or 0], count), self._kind)
        self._random = random

    def numbers(self, value: Value) -> NDArray[Any]:
        """Return a value's numbers in the format that the look computes in."""
        if value.array is None:
            return np.broadcast_to(np.array(np.nan, self._kind), value.shape)
        return value.array.astype(self._kind, copy=False)

    def combined(self, array: NDArray[Any], axis: int) -> NDArray[Any]:
        """Return random combinations along an axis."""
        before, length = math.prod(array.shape[:axis]), array.shape[axis]
        if axis == array.ndim - 1:
            return array @ self._x
        made = self._x.T @ array.reshape((before, length, -1))
        return made.reshape((*array.shape[:axis], -1, *array.shape[axis + 1 :]))

    def _axis(self, text: str, value: Value) -> int | None:
        return axis_of(text, self._letter, value.shape)

    def _thin(self, text: str, value: Value) -> NDArray[Any]:
        """Return a tensor as it is without the axis; else its combinations, also with signs."""
        array, axis = self.numbers(value), self._axis(text, value)
        if axis is None:
            return array
        made = self.combined(array, axis)
        some = made[(*(slice(None),) * axis, slice(_SIGNED))]
        signs = self._random.integers(0, 2, some.shape, np.int8) * 2 - 1
        return np.concatenate([made, some * signs.astype(self._kind)], axis=axis)

    def computed(self, g: Value | None) -> NDArray[Any]:
        """Return the thin result, by the step's own rule."""

        read = {name for name, _ in _factors(self._step, self._target)}
        read |= {_ADDED} if g is None else set()

        def part(role: Role, value: Value) -> Part:
            text = self._operands[role] if isinstance(role, str) else self._results[role]
            if role in read:
                array = self._thin(text, value)
                return array, array.shape
            axis = self._axis(text, value)
            width = () if axis is None else (self._x.shape[1] + min(self._x.shape[1], _SIGNED),)
            at = len(value.shape) if axis is None else axis
            return None, (*value.shape[:at], *width, *value.shape[at + 1 :])

        step, bias = self._step, self._step.operands.get(_ADDED)
        repeated = bias is not None and self._axis(self._operands[_ADDED], bias) is None
        if g is not None:
            small = step.on(part, _or_nan)
            wanted = [name == self._target for name, _, _ in step.inputs()]
            thin = self._thin(self._results[0], g)
            return np.asarray(
                vjp(small.tape, small.call, [thin], small.lookup, None, wanted)[wanted.index(True)]
            )
        small = (step.without(_ADDED) if repeated else step).on(part, _or_nan)
        made = np.asarray(evaluate(small.tape, small.call, small.lookup, bounded=False)[0])
        if repeated and bias is not None:
            # It meets every number along the axis: the sum of x.
            sums = np.concatenate([self._x.sum(axis=0), np.zeros(min(self._x.shape[1], _SIGNED), self._kind)])
            beside = (1,) * (made.ndim - 2)
            made = made + sums.reshape((-1, 1, *beside)) * self.numbers(bias).reshape((-1, *beside))
        return made


def _or_nan(tape: Tape) -> Lookup:
    """Return a lookup of numbers as they are, NaN for those that are not read."""

    def lookup(number: int) -> NDArray[Any]:
        value = tape.values[number]
        return unknown(value.shape) if value.array is None else value.array

    return lookup


def _factors(step: Step, target: str) -> list[tuple[str, Value]]:
    """Return the operands that a product, or the gradient of one of them, is made of."""
    others = step.operands.items() if target != _ADDED else ()
    return [(name, value) for name, value in others if name not in (target, _ADDED)]


def _squares(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the sums of squares along an axis."""
    letters = "abcdefgh"[: array.ndim]
    return np.einsum(f"{letters},{letters}->{letters.replace(letters[axis], '')}", array, array)


def _terms(step: Step, target: str, g: Value | None) -> int:
    """Return how many terms each number of a product, or of a gradient, is a sum of."""
    if step.is_convolution:
        kernel = step.operands["w"].shape
        into = kernel[0] if target else kernel[1]
        of_kernel = math.prod(kernel[2:]) * into
        return of_kernel if g is None or target == "x" else math.prod(g.shape) // g.shape[1]
    operands, results = step.letters(target) or ({}, ())
    aim = operands[target] if target else results[0]
    read = [(operands[name], value.shape) for name, value in _factors(step, target)]
    read += [(results[0], g.shape)] if g is not None else []
    sizes = {c: n for of, shape in read for c, n in zip(of[-len(shape) :], shape, strict=True)}
    return math.prod(n for c, n in sizes.items() if c not in aim)
