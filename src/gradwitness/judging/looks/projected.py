"""Products held against random combinations of their rows: Freivalds' check, for any product.

Where a result ``C`` shares an axis with one factor ``F`` alone, it is linear in F along that axis:
for any vector x over it, ``f(E, F x) = C x``. So the step is computed again on tensors that are as
thin there as a few random vectors are.

For Gaussian x, drawn after the program has computed C, the errors d of C along the axis show in
``f(E, F x) - C x`` as a normal number of deviation ``|d|``, beside what the witness rounds. With
whatever else is in it, that lies within ``a`` of 0 no more probably than alone (T. W. Anderson
1955), which is less than ``sqrt(2 / pi) a / |d|``; with s vectors, than that to the power of s.
Twice ``a`` takes account of what the witness's own rounding has to do with x.

The allowance ``a`` decides only what is judged in full instead. So it is what rounding probably
is: a sum of n terms, one after the other, is off by about u sqrt(n) times what its partial sums
are, which wander (the root of the sum of squares, here by random signs) and drift (to the result).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import unknown
from gradwitness.engine.distant import scalar, scalars
from gradwitness.engine.floats import is_float, unit_roundoff
from gradwitness.engine.forward import evaluate
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.comparison import CANCELS, PROJECTED, SHARE, VISIBLE, Comparison
from gradwitness.judging.looks.sampled import Along, drawn_places
from gradwitness.judging.looks.step import Formless
from gradwitness.rules.registry import ADDED
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.looks.step import Part, Role, Step
    from gradwitness.tape import Tape, Value

# How probable it may be that a fast look misses what it says that it detects.
MISSED = 1e-6
# The most random vectors; the axis is at least so many times as long as there are.
VECTORS, TIMES = 6, 4
# Fewer for convolutions, for which numbers are copied to every place of the kernel.
_FEW = 4
# One in so many is looked at with random signs, too.
SIGNED = 3
# An axis of this length is long enough: a longer one would cost more random numbers.
LONG = 96
# What is allowed of wandering, of drift and of a store, over what is probable.
_WANDERS, _DRIFTS, _STORES = 4.0, 2.0, 4.0
# What is allowed of all terms together, where partial sums wander further, and come back.
_STRAYS = 16.0
# How much thinner than its step a look at a convolution has to be.
_THIN = 24


def projected(
    step: Step,
    target: str,
    g: Value | None,
    recorded: Value,
    random: np.random.Generator,
    norm: float,
    *,
    whole: bool = False,
) -> Comparison | None:
    """Judge a product, or the gradient of the operand ``target``; None unless it clearly agrees.

    ``norm`` is that of what was recorded. Of a convolution's rows or channels some may stand for
    all, unless it is the ``whole``. If no axis is fit for that, it is `Formless`.
    """
    letter, axis = _shared_axis(step, target, g, recorded)
    if not letter:
        raise Formless
    length = recorded.shape[axis]
    count = min(_FEW if step.is_convolution else VECTORS, length // TIMES)
    thinner = _THIN if whole else length / count
    some, share = _some(step, target, letter, recorded, thinner, random)
    thin = _Thin(step, target, letter, some, random, recorded, (length, count))
    with np.errstate(all="ignore"):
        own = thin.numbers(target or 0, recorded)
        return held(
            Combined(recorded, own, axis, thin.combined(own, axis), thin.computed(g)),
            _terms(step, target, g),
            norm,
            lambda: thin.computed(g, without_signs=True),
            share,
        )


class Combined(NamedTuple):
    """A value, those of its numbers that are looked at, their combinations, and the witness's.

    Behind the witness's are some with random signs.
    """

    value: Value
    numbers: NDArray[Any]
    axis: int
    recorded: NDArray[Any]
    made: NDArray[Any]


def held(
    combined: Combined,
    terms: int,
    norm: float,
    without_signs: Callable[[], NDArray[Any]],
    share: float = 1.0,
) -> Comparison | None:
    """Compare combinations of numbers that are sums of so many terms; None unless it is clear.

    ``norm`` is that of the whole value. ``without_signs`` adds up the terms' sizes.
    """
    value, numbers, axis, *both = combined
    recorded, made = (_first(array, axis) for array in both)
    count, length = len(recorded), value.shape[axis]
    residual = np.abs(made[:count] - recorded).max(axis=0)
    wanders, drifts = _sizes(made[count:]), _sizes(recorded)
    unit = unit_roundoff("float64" if value.dtype == "float64" else "float32")
    roots = math.sqrt(terms) + math.sqrt(length)
    allowed = unit * roots * (_WANDERS * wanders + _DRIFTS * drifts)
    if unit_roundoff(value.dtype) > unit:
        allowed += _STORES * unit_roundoff(value.dtype) * drifts
    if not scalar((residual <= allowed).all()):
        # Partial sums may wander further, and come back.
        allowed += _STRAYS * unit * without_signs().max(axis=axis)
    farthest, ratio, most, widest, within = scalars(
        residual.max(),
        (residual / allowed).max(),
        allowed.max(),
        wanders.max(),
        (residual <= allowed).all(),
    )
    detects = 2 * math.sqrt(2 / math.pi) * most / MISSED ** (1 / count)
    size = math.prod(value.shape)
    # The largest row is no smaller than the root of the mean of their squares.
    largest = norm / math.sqrt(size / length)
    if detects > SHARE * largest:
        largest = math.sqrt(scalar(_squares(numbers, axis).max()))
    # Of terms that cancel an error in one is detected, though nothing is left of all.
    cancels = detects > SHARE * largest and detects <= VISIBLE * widest
    # NaN compares as false.
    if not (within and (cancels or 0 < detects <= SHARE * largest < math.inf)):
        return None
    return Comparison(
        Verdict.AGREES,
        CANCELS if cancels else PROJECTED,
        size,
        error=farthest,
        bound=most,
        ratio=ratio,
        detects=detects,
        detects_relative=detects / largest if largest else math.inf,
        norm=norm,
        share=share,
        missed=MISSED,
    )


def _sizes(combinations: NDArray[Any]) -> NDArray[Any]:
    """Return what random combinations tell of the size of each of the sums, along the first axis.

    A single one's may be small by chance.
    """
    squares = np.square(combinations).sum(axis=0) / len(combinations)
    sizes: NDArray[Any] = np.sqrt(np.maximum(squares, squares.sum() / (4 * squares.size)))
    return sizes


def _some(
    step: Step,
    target: str,
    letter: str,
    recorded: Value,
    thinner: float,
    random: np.random.Generator,
) -> tuple[Along | None, float]:
    """Choose places along another axis of a convolution that is not thin enough; and their share.

    Products of matrices cost as much as their numbers are read, and are looked at everywhere.
    """
    letters = step.letters(target)
    if not step.is_convolution or letters is None or thinner >= _THIN:
        return None, 1.0
    aim = letters[0][target] if target else letters[1][0]
    others = {c: axis_of(aim, c, recorded.shape) for c in aim if c not in (letter, "_")}
    for other, axis in others.items():
        if axis is not None:
            length = recorded.shape[axis]
            places = drawn_places(random, length, thinner / _THIN)
            return Along(letters, {other: places}), places.size / length
    return None, 1.0


def _shared_axis(step: Step, target: str, g: Value | None, recorded: Value) -> tuple[str, int]:
    """Return a long axis that a result shares with one factor alone, by its letter."""
    letters = step.letters(target) if is_float(recorded.dtype) else None
    if letters is None:
        return "", 0
    operands, results = letters
    read: dict[Role, tuple[str, Shape]] = {
        name: (operands[name], value.shape) for name, value in _factors(step, target)
    }
    read |= {} if g is None else {0: (results[0], g.shape)}
    aim, added = operands[target] if target else results[0], step.operands.get(ADDED)
    # The one that a convolution copies to every place of the kernel.
    spread = 0 if target == "x" else "x"
    found: list[tuple[bool, int, str, int]] = []
    for letter in aim.replace("_", ""):
        axis = axis_of(aim, letter, recorded.shape)
        carriers = [role for role, at in read.items() if axis_of(at[0], letter, at[1]) is not None]
        repeated = added is not None and axis_of(operands[ADDED], letter, added.shape) is None
        lacking = repeated and not target and not step.is_convolution
        if axis is None or len(carriers) != 1 or lacking:
            continue
        length = recorded.shape[axis]
        enough = length >= LONG and not step.is_convolution
        if length >= 2 * TIMES:
            found.append(
                (enough or carriers[0] == spread, -length if enough else length, letter, axis)
            )
    return max(found)[2:] if found else ("", 0)


class _Thin:
    """A step whose tensors are combined along the axis of a letter, in one working format.

    Behind the combinations, each tensor has some of them once more with random signs.
    """

    def __init__(
        self,
        step: Step,
        target: str,
        letter: str,
        some: Along | None,
        random: np.random.Generator,
        like: Value,
        shape: tuple[int, int],
    ) -> None:
        self._step, self._target, self._letter, self._some = step, target, letter, some
        self._operands, self._results = step.letters(target) or ({}, ())
        self._kind = np.dtype("float64" if like.dtype == "float64" else "float32")
        self._x = np.asarray(random.standard_normal(shape, self._kind), like=like.array)
        self._signed = max(2, shape[1] // SIGNED)
        self._random = random

    def numbers(self, role: Role, value: Value) -> NDArray[Any]:
        """Return those of a value's numbers that are looked at, in the format of the look."""
        array = value.array if self._some is None else self._some.part(role, value)[0]
        if array is None:
            raise Unjudgeable("not recorded")
        return array.astype(self._kind, copy=False)

    def combined(self, array: NDArray[Any], axis: int) -> NDArray[Any]:
        """Return random combinations along an axis."""
        made: NDArray[Any]
        if axis == array.ndim - 1:
            made = array @ self._x
            return made
        before, length = math.prod(array.shape[:axis]), array.shape[axis]
        made = self._x.T @ array.reshape((before, length, -1))
        return made.reshape((*array.shape[:axis], -1, *array.shape[axis + 1 :]))

    def _axis(self, role: Role, value: Value) -> int | None:
        text = self._operands[role] if isinstance(role, str) else self._results[role]
        return axis_of(text, self._letter, value.shape)

    def _thin(self, role: Role, value: Value, *, without_signs: bool) -> NDArray[Any]:
        """Return a tensor as it is without the axis; else its combinations, and with signs."""
        array, axis = self.numbers(role, value), self._axis(role, value)
        if axis is not None:
            array = self.combined(array, axis)
        if without_signs:
            array = np.abs(array)
        if without_signs or axis is None:
            return array
        some = array[(*(slice(None),) * axis, slice(self._signed))]
        signs = self._random.integers(0, 2, some.shape, np.int8) * 2 - 1
        signed = some * np.asarray(signs.astype(self._kind), like=some)
        return np.concatenate([array, signed], axis=axis)

    def computed(self, g: Value | None, *, without_signs: bool = False) -> NDArray[Any]:
        """Return the thin result, by the step's own rule; or its terms, added without signs."""
        read = {name for name, _ in _factors(self._step, self._target)}
        read |= {ADDED} if g is None else set()
        count = self._x.shape[1]
        width = count if without_signs else count + self._signed

        def part(role: Role, value: Value) -> Part:
            if role in read:
                array = self._thin(role, value, without_signs=without_signs)
                return array, array.shape
            shape = value.shape if self._some is None else self._some.part(role, value)[1]
            axis = self._axis(role, value)
            return None, shape if axis is None else (*shape[:axis], width, *shape[axis + 1 :])

        step, bias = self._step, self._step.operands.get(ADDED)
        if g is not None:
            small = step.on(part, _or_nan)
            wanted = [name == self._target for name, _, _ in step.inputs()]
            thin = self._thin(0, g, without_signs=without_signs)
            sent = vjp(small.tape, small.call, [thin], small.lookup, None, wanted)
            gradient: NDArray[Any] = sent[wanted.index(True)]
            return gradient
        repeated = bias is not None and self._axis(ADDED, bias) is None
        small = (step.without(ADDED) if repeated else step).on(part, _or_nan)
        made: NDArray[Any] = evaluate(small.tape, small.call, small.lookup, bounded=False)[0]
        if repeated and bias is not None:
            # It meets every number along the axis: the sum of x.
            sums = np.zeros_like(self._x, shape=(width,))
            sums[:count] = self._x.sum(axis=0)
            beside = (1,) * (made.ndim - 2)
            many = self.numbers(ADDED, bias).reshape((-1, *beside))
            made = made + sums.reshape((-1, 1, *beside)) * many
        return made


def _or_nan(tape: Tape) -> Lookup:
    """Return a lookup of numbers as they are, NaN for those that are not read."""

    def lookup(number: int) -> NDArray[Any]:
        value = tape.values[number]
        return unknown(value.shape) if value.array is None else value.array

    return lookup


def _factors(step: Step, target: str) -> list[tuple[str, Value]]:
    """Return the operands that a product, or the gradient of one of them, is made of."""
    others = step.operands.items() if target != ADDED else ()
    return [(name, value) for name, value in others if name not in (target, ADDED)]


def _first(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return an array with a short axis in front, where it costs least."""
    moved = array.transpose(axis, *(k for k in range(array.ndim) if k != axis))
    return moved if moved.flags.c_contiguous else np.copy(moved, order="C")


def _squares(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the sums of squares along an axis."""
    letters = "abcdefgh"[: array.ndim]
    sums: NDArray[Any] = np.einsum(
        f"{letters},{letters}->{letters.replace(letters[axis], '')}", array, array
    )
    return sums


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
