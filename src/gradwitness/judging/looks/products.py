"""Matrix products held against random combinations of their rows or columns, see `projected`.

One set of vectors serves each length: a probability is over the vectors, which no program knows.
So what a step makes of a tensor's combinations, as both factors' gradients and the bias's of what
arrived, is made of the same ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import unbroadcast
from gradwitness.engine.distant import is_distant
from gradwitness.engine.floats import is_float
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.looks.projected import (
    LONG,
    SIGNED,
    TIMES,
    VECTORS,
    Combined,
    held,
)
from gradwitness.judging.looks.step import Formless
from gradwitness.rules.registry import ADDED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.looks.step import Role, Step
    from gradwitness.tape import Value

# So many of the vectors are looked at with random signs, too.
_SIGNED = max(2, VECTORS // SIGNED)


class Products:
    """Random vectors by which products are looked at, and the gradients of their operands."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._drawn: dict[tuple[int, str, bool], Any] = {}

    def look(
        self, step: Step, target: str, g: Value | None, recorded: Value, norm: float
    ) -> Comparison | None:
        """Judge a product, or the gradient of an operand; None unless it clearly agrees.

        ``norm`` is that of what was recorded. If no axis is fit, the step is `Formless`.
        """
        product = _Product(step, target, g, recorded)
        axis, own = product.axis, _numbers(recorded)
        with np.errstate(all="ignore"):
            x = self._vectors(own, own.shape[axis])
            made = self._made(product, x)
            if made.shape != _with(own.shape, axis, x.shape[1]):
                return None
            return held(
                Combined(recorded, own, axis, _combined(own, axis, x[:, :-_SIGNED]), made),
                product.terms(),
                norm,
                lambda: self._made(product, x, without_signs=True),
            )

    def _vectors(self, like: NDArray[Any], length: int) -> NDArray[Any]:
        """Return the random vectors of a length, one in each column; some stand there twice."""
        key = length, like.dtype.char, is_distant(like)
        if key not in self._drawn:
            shape = length, min(VECTORS, length // TIMES)
            drawn = self._random.standard_normal(shape, like.dtype)
            twice = np.concatenate([drawn, drawn[:, :_SIGNED]], axis=1)
            self._drawn[key] = np.asarray(twice, like=like)
        x: NDArray[Any] = self._drawn[key]
        return x

    def _signs(self, like: NDArray[Any], length: int) -> NDArray[Any]:
        """Return random signs for the second time: they tell of sizes alone."""
        key = -length, like.dtype.char, is_distant(like)
        if key not in self._drawn:
            drawn = self._random.integers(0, 2, (length, _SIGNED)) * 2 - 1
            self._drawn[key] = np.asarray(drawn.astype(like.dtype), like=like)
        signs: NDArray[Any] = self._drawn[key]
        return signs

    def _made(
        self, product: _Product, x: NDArray[Any], *, without_signs: bool = False
    ) -> NDArray[Any]:
        """Return combinations of what is made, by its rule; or of its terms, without signs."""
        numbers: dict[Role, Any] = {}
        for role, value in product.read.items():
            axis = product.axis_of(role, value)
            numbers[role] = _numbers(value) if axis is None else self._thin(product, value, axis, x)
        bias = product.step.operands.get(ADDED) if product.g is None else None
        if bias is not None:
            axis = product.axis_of(ADDED, bias)
            if axis is None:
                # It meets every number along the axis: the sum of x.
                sums = x.sum(axis=0)
                sums[-_SIGNED:] = 0
                rows = product.axis == len(product.shape) - 2
                numbers[ADDED] = _numbers(bias) * (sums[:, None] if rows else sums)
            else:
                numbers[ADDED] = self._thin(product, bias, axis, x)
        if without_signs:
            numbers = {role: np.abs(array) for role, array in numbers.items()}
        return product.computed(numbers, x.shape[1])

    def _thin(self, product: _Product, value: Value, axis: int, x: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor's combinations along an axis, behind them some with random signs."""
        known, key = product.step.combined, (value.id, axis)
        if key not in known or known[key][0] is not x:
            made = _combined(_numbers(value), axis, x)
            signed = np.swapaxes(made, axis, -1)[..., -_SIGNED:]
            signed *= self._signs(made, signed.shape[-2] if made.ndim > 1 else 1)
            known[key] = x, made
        return known[key][1]


class _Product:
    """A product, or the gradient of an operand, with the letter along which it is looked at.

    Attributes
    ----------
    axis : int
        That of the letter, the last or the last but one.
    shape : tuple of int
    read : dict of (str or int) to Value
        What it is a product of.
    """

    def __init__(self, step: Step, target: str, g: Value | None, recorded: Value) -> None:
        self.step, self.target, self.g, self.shape = step, target, g, recorded.shape
        letters = step.letters(target) if is_float(recorded.dtype) else None
        if letters is None:
            raise Formless
        self._operands, self._results = letters
        self._aim = self._operands[target] if target else self._results[0]
        self.read: dict[Role, Value] = {} if g is None else {0: g}
        if target != ADDED:
            others = (target, ADDED)
            self.read |= {n: value for n, value in step.operands.items() if n not in others}
        self._letter, self.axis = self._shared()

    def _shared(self) -> tuple[str, int]:
        """Return a long axis that is shared with one factor alone, by its letter.

        It is one of what arrived, whose combinations others share, or else the longest.
        """
        found = []
        for letter in self._aim:
            axis = axis_of(self._aim, letter, self.shape)
            if axis is None or axis < len(self.shape) - 2 or self.shape[axis] < 2 * TIMES:
                continue
            carriers = [
                role
                for role, value in self.read.items()
                if axis_of(self._text(role), letter, value.shape) is not None
            ]
            if len(carriers) == 1:
                length = self.shape[axis]
                found.append((carriers[0] == 0 and length >= LONG, length, letter, axis))
        if not found:
            raise Formless
        return max(found)[2:]

    def _text(self, role: Role) -> str:
        return self._operands[role] if isinstance(role, str) else self._results[role]

    def axis_of(self, role: Role, value: Value) -> int | None:
        """Return the axis of the letter in a tensor."""
        return axis_of(self._text(role), self._letter, value.shape)

    def terms(self) -> int:
        """Return how many terms each number is a sum of."""
        sizes = {
            c: n
            for role, value in self.read.items()
            for c, n in zip(self._text(role)[-len(value.shape) :], value.shape, strict=True)
        }
        return math.prod(n for c, n in sizes.items() if c not in self._aim)

    def computed(self, numbers: dict[Role, Any], width: int) -> NDArray[Any]:
        """Return what the rule makes of other numbers, with another length of the axis."""
        rule, form = self.step.rule, self.step.form
        operands = [numbers.get(name) for name in rule.operands]
        parameters = {name: self.step.call.arguments[name] for name in form.parameters}
        made: NDArray[Any]
        if self.g is None:
            made = rule.function(*operands, **parameters)
        else:
            sent = rule.gradients[self.target](numbers[0], None, operands, parameters)
            made = unbroadcast(sent, _with(self.shape, self.axis, width))
        return made


def _combined(array: NDArray[Any], axis: int, x: NDArray[Any]) -> NDArray[Any]:
    """Return combinations along the last axis but one, or the last, as BLAS is fast at them."""
    made: NDArray[Any]
    if axis == array.ndim - 1:
        made = array @ x
    elif array.flags.c_contiguous:
        made = x.T @ array
    else:
        made = np.swapaxes(np.swapaxes(array, -1, -2) @ x, -1, -2)
    return made


def _numbers(value: Value) -> NDArray[Any]:
    """Return a value's numbers in the format in which they are combined."""
    if value.array is None:
        raise Unjudgeable("not recorded")
    return value.array if value.dtype == "float64" else value.array.astype(np.float32, copy=False)


def _with(shape: Shape, axis: int, length: int) -> Shape:
    """Return a shape with another length of an axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])
