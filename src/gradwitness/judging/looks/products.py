"""Matrix products held against random combinations of their rows or columns, see `projected`.

One set of vectors serves each length: a probability is over the vectors, which no program knows.
So what a step makes of a tensor's combinations, as both factors' gradients and the bias's of what
arrived, is made of the same ones.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import unbroadcast
from gradwitness.engine.distant import is_distant, scalar
from gradwitness.engine.floats import is_float
from gradwitness.engine.forms import MOST, is_tensor
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.looks.norms import norm_of
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
    from collections.abc import Container, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.forms import Form
    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.looks.step import Role, Step
    from gradwitness.tape import Value

# A product of so many terms at most goes through BLAS as it lies (OpenBLAS's small kernels), and
# not through a copy, which takes as long as a thin product itself.
_SMALL = 10**6
# So many of the vectors are looked at with random signs, too.
_SIGNED = max(2, VECTORS // SIGNED)


class Products:
    """Random vectors by which products are looked at, and the gradients of their operands.

    Of storages that are ``exposed`` to others than torch, nothing is kept beyond a step.
    """

    def __init__(self, random: np.random.Generator, exposed: Container[int] = ()) -> None:
        self._random = random
        self._exposed = exposed
        self._drawn: dict[tuple[int, str, bool], Any] = {}
        # By value, of transposed weights that are used again and again: their combinations by axis.
        self._lasting: dict[int, dict[Any, Any]] = {}
        self._of_weights: dict[int, dict[Any, Any]] = {}

    def transposed(self, weight: int, number: int) -> None:
        """Note that a value is a weight, transposed: combinations of it last from the second on.

        As in the turns of a loop, which all multiply by the same numbers.
        """
        if weight in self._of_weights:
            self._lasting[number] = self._of_weights[weight]
        else:
            self._of_weights[weight] = {}

    def look(
        self, step: Step, target: str, g: Value | None, recorded: Value, norm: float | None = None
    ) -> Comparison | None:
        """Judge a product, or the gradient of an operand; None unless it clearly agrees.

        ``norm`` is that of what was recorded, if it is known. If no axis is fit, the step is
        `Formless`.
        """
        plan = _plan(step.form, target, backward=g is not None)
        if plan is None or not is_float(recorded.dtype):
            raise Formless
        axis, own = plan.axis, _numbers(recorded)
        x = self._vectors(own, own.shape[axis])
        made = self._made(step, plan, g, x)
        if made.shape != _with(own.shape, axis, x.shape[1]):
            return None
        combined, squares = _combined(own, axis, x[:, :-_SIGNED])
        return held(
            Combined(recorded, own, axis, combined, made),
            plan.terms,
            _norm(own, squares) if norm is None else norm,
            lambda: self._made(step, plan, g, x, without_signs=True),
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
        self,
        step: Step,
        plan: _Plan,
        g: Value | None,
        x: NDArray[Any],
        *,
        without_signs: bool = False,
    ) -> NDArray[Any]:
        """Return combinations of what is made, by its rule; or of its terms, without signs."""
        numbers: dict[Role, Any] = {}
        for role, axis in plan.read.items():
            value = g if g is not None and role == 0 else step.operands[str(role)]
            if axis is not None:
                numbers[role] = self._thin(step, value, axis, x)
            elif role == ADDED:
                # It meets every number along the axis: the sum of x.
                sums = x.sum(axis=0)
                sums[-_SIGNED:] = 0
                rows = plan.axis == len(plan.shape) - 2
                numbers[role] = _numbers(value) * (sums[:, None] if rows else sums)
            else:
                numbers[role] = _numbers(value)
            if without_signs:
                numbers[role] = np.abs(numbers[role])
        rule, arguments = step.rule, step.call.arguments
        operands = [numbers.get(name) for name in rule.operands]
        parameters = {name: arguments[name] for name in step.form.parameters}
        made: NDArray[Any]
        if g is None:
            made = rule.function(*operands, **parameters)
            return made
        shape, gradient = _with(plan.shape, plan.axis, x.shape[1]), rule.gradients[plan.target]
        if not plan.summed:
            made = unbroadcast(gradient(numbers[0], None, operands, parameters), shape)
            return made
        length = numbers[0].shape[plan.summed[0]]
        blocks = [
            {role: array[_at(block, plan.summed[role])] for role, array in numbers.items()}
            for block in _blocks(x, length, math.prod(shape))
        ]
        parts = (
            gradient(block[0], None, [block.get(name) for name in rule.operands], parameters)
            for block in blocks
        )
        return functools.reduce(operator.iadd, parts)

    def _thin(self, step: Step, value: Value, axis: int, x: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor's combinations along an axis, behind them some with random signs."""
        known: dict[Any, Any] = step.combined
        key: object = (value.id, axis)
        kept, layout = self._lasting.get(value.id), value.layout
        if kept is not None and layout is not None and layout.storage not in self._exposed:
            known, key = kept, axis
        if key not in known or known[key][0] is not x:
            made, _ = _combined(_numbers(value), axis, x)
            signed = made.swapaxes(axis, -1)[..., -_SIGNED:]
            signs = self._signs(made, signed.shape[-2] if made.ndim > 1 else 1)
            signed *= signs if made.ndim > 1 else signs[0]
            known[key] = x, made
        thin: NDArray[Any] = known[key][1]
        return thin


@dataclass(frozen=True)
class _Plan:
    """Along which axis a product, or the gradient of an operand, is looked at.

    Attributes
    ----------
    target : str
    shape : tuple of int
    axis : int
        The last or the last but one.
    read : dict of (str or int) to (int or None)
        What it is made of, with the same axis there if it has that.
    terms : int
        Of how many each number is a sum.
    summed : dict of (str or int) to int
        Of matrices that are multiplied the axis along which that is done.
    """

    target: str
    shape: Shape
    axis: int
    read: Mapping[Role, int | None]
    terms: int
    summed: Mapping[Role, int]


@functools.lru_cache(maxsize=MOST)
def _plan(form: Form, target: str, *, backward: bool) -> _Plan | None:
    """Return a plan for steps of a form; None without a long axis that one factor alone shares.

    It is one of what arrived, whose combinations others share, or else the longest.
    """
    left, _, result = str(form.rule.apart).partition("->")
    letters: dict[Role, str] = dict(zip(form.rule.operands, left.split(","), strict=True))
    kinds: dict[str, Any] = {n: kind for n, kind in form.operands.items() if is_tensor(kind)}
    shapes: dict[Role, Shape] = {name: shape for name, (shape, _) in kinds.items()}
    if form.outputs[0] is not None:
        letters[0], (shapes[0], _) = result, form.outputs[0]
    role = target or 0
    aim, shape = letters[role], shapes[role]
    factors = {r for r in shapes if r not in (role, ADDED) and (r != 0 or backward)}
    factors = {0} if target == ADDED else factors
    sizes = {
        c: n for r in factors for c, n in zip(letters[r][-len(shapes[r]) :], shapes[r], strict=True)
    }
    found = []
    for letter in aim:
        axis = axis_of(aim, letter, shape)
        if axis is None or axis < len(shape) - 2 or shape[axis] < 2 * TIMES:
            continue
        carriers = [r for r in factors if axis_of(letters[r], letter, shapes[r]) is not None]
        if len(carriers) == 1:
            found.append((carriers == [0] and shape[axis] >= LONG, shape[axis], letter, axis))
    if not found:
        return None
    _, _, letter, axis = max(found)
    read = factors if backward or ADDED not in shapes else {*factors, ADDED}
    axes = {r: axis_of(letters[r], letter, shapes[r]) for r in read}
    summed = [c for c in sizes if c not in aim]
    along = {r: axis_of(letters[r], c, shapes[r]) for r in read for c in summed}
    whole = {r: at for r, at in along.items() if at is not None and len(shapes[r]) == 2}
    terms = math.prod(sizes[c] for c in summed)
    return _Plan(target, shape, axis, axes, terms, whole if len(whole) == 2 == len(read) else {})


def _combined(
    array: NDArray[Any], axis: int, x: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any] | float]:
    """Return combinations along the last axis but one, or the last; and the sum of all squares.

    That is not a number where it is not known. Each block is read from end to end for it first,
    which brings it into the cache.
    """
    if array.ndim != 2 or not (array.flags.c_contiguous or array.flags.f_contiguous):
        return array @ x if axis == array.ndim - 1 else x.T @ array, math.nan
    if not array.flags.c_contiguous:
        # Rows of a transposed matrix lie apart.
        made, squares = _combined(array.T, 1 - axis, x)
        return made.T, squares
    parts, squares = [], 0.0
    for block in _blocks(array, len(array), array.shape[1] * x.shape[1]):
        rows = array[block]
        flat = rows.ravel()
        squares = squares + flat.dot(flat)
        parts.append(x[block].T @ rows if axis == 0 else rows @ x)
    if len(parts) == 1:
        return parts[0], squares
    return functools.reduce(operator.iadd, parts) if axis == 0 else np.concatenate(parts), squares


def _norm(array: NDArray[Any], squares: Any) -> float:
    """Return an array's norm, from the sum of its squares if that tells."""
    total = scalar(squares)
    # Nothing is said of an underflow, or of an overflow.
    return math.sqrt(total) if 0 < total < math.inf else norm_of(array)


def _blocks(like: NDArray[Any], length: int, others: int) -> list[slice]:
    """Return ranges of an axis so short that a product with so many others for each is small."""
    step = length if is_distant(like) else max(1, _SMALL // others)
    return [slice(start, start + step) for start in range(0, length, step)]


def _at(block: slice, axis: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, block)


def _numbers(value: Value) -> NDArray[Any]:
    """Return a value's numbers in the format in which they are combined."""
    if value.array is None:
        raise Unjudgeable("not recorded")
    as_it_is = value.dtype in ("float32", "float64")
    return value.array if as_it_is else value.array.astype(np.float32)


def _with(shape: Shape, axis: int, length: int) -> Shape:
    """Return a shape with another length of an axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])
