"""Steps that fall into independent parts, looked at in some of them: first, last and random ones.

Each part is judged as the whole would be, under the same rigorous bounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import is_inexact, limits, wide
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.allowance import allowed, last_rounding, ratio_of
from gradwitness.judging.comparison import SAMPLED, SHARE, Comparison
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.fast.step import Part, Role, Step
    from gradwitness.tape import Value

# A sample has one number in so many of the whole, but at least and at most ...
_ONE_IN, _LEAST, _MOST = 256, 256, 2**14
# Numbers that lie side by side in a sample, so that memory is read in lines.
_RUN = 16


def sample_size(size: int) -> int:
    """Return how many of so many numbers to look at; all of few."""
    return size if size <= 2 * _LEAST else min(max(size // _ONE_IN, _LEAST), _MOST)


class Scattered:
    """Numbers of an elementwise step's result, and of each operand those that they are made of."""

    def __init__(self, shape: Shape, flat: NDArray[np.intp]) -> None:
        self._shape = shape
        self._flat = flat
        self._at: tuple[NDArray[np.intp], ...] = ()

    @classmethod
    def drawn(cls, random: np.random.Generator, shape: Shape) -> Scattered:
        """Draw places: the first, the last and random runs, or all of few."""
        size = math.prod(shape)
        count = sample_size(size)
        if count == size:
            return cls(shape, np.arange(size))
        starts = random.integers(0, size - _RUN + 1, count // _RUN)
        starts[:2] = 0, size - _RUN
        return cls(shape, (starts[:, None] + np.arange(_RUN)).ravel())

    def beside(self, _value: Value, flat: int) -> Scattered:
        """Return the places around one."""
        size = math.prod(self._shape)
        first = max(0, min(flat - _RUN // 2, size - _RUN))
        return Scattered(self._shape, np.arange(first, min(first + _RUN, size)))

    def part(self, _role: Role, value: Value) -> Part:
        """Return a tensor's numbers at the places."""
        array, shape = value.array, value.shape
        single = math.prod(shape) == 1
        count = 1 if single else self._flat.size
        if array is None or shape == ():
            return array, (count,) if shape else ()
        if single:
            return array.reshape(1), (1,)
        if shape == self._shape and array.flags.c_contiguous:
            return array.reshape(-1)[self._flat], (count,)
        if not self._at:
            self._at = np.unravel_index(self._flat, self._shape)
        own = self._at[len(self._at) - len(shape) :]
        index = tuple(0 if n == 1 else places for n, places in zip(shape, own, strict=True))
        return array[index], (count,)


class Along:
    """Some places on the axis of a letter, with all that belongs to them."""

    def __init__(
        self,
        letters: tuple[dict[str, str], tuple[str, ...]],
        letter: str,
        places: NDArray[np.intp],
    ) -> None:
        self._operands, self._results = letters
        self._letter = letter
        self._places = places

    def beside(self, value: Value, flat: int) -> Along | None:
        """Return the place of a number of a value; None where it lacks the letter."""
        texts = (*self._operands.values(), *self._results)
        axes = {axis_of(text, self._letter, value.shape) for text in texts} - {None}
        if len(axes) != 1:
            return None
        place = np.unravel_index(flat, value.shape)[axes.pop() or 0]
        return Along((self._operands, self._results), self._letter, np.array([place]))

    def part(self, role: Role, value: Value) -> Part:
        """Return a tensor's numbers at the places; all of them if it lacks the letter."""
        text = self._operands[role] if isinstance(role, str) else self._results[role]
        axis = axis_of(text, self._letter, value.shape)
        if axis is None:
            return value.array, value.shape
        shape = (*value.shape[:axis], self._places.size, *value.shape[axis + 1 :])
        index = (*(slice(None),) * axis, self._places)
        return None if value.array is None else value.array[index], shape


def along(step: Step, target: str, random: np.random.Generator) -> tuple[Along, float] | None:
    """Draw places on the best axis for a result (an empty target) or an operand's gradient.

    Returns them with the share that they are of all, or None if there is no such axis.
    """
    letters = step.letters(target)
    if letters is None:
        return None
    operands, results = letters
    tensors = [(operands[name], value.shape) for name, value in step.operands.items()]
    tensors += [(of, v.shape) for of, v in zip(results, step.outputs, strict=True) if v is not None]
    if target:
        aim, shape = operands[target], step.operands[target].shape
    else:
        aim, shape = results[0], step.outputs[0].shape if step.outputs[0] else ()
        aim = "".join(a if all(a in other for other in results) else "_" for a in aim)
    best: tuple[int, str, int, int] | None = None
    for letter in aim.replace("_", ""):
        axis = axis_of(aim, letter, shape)
        if axis is not None:
            cut = [math.prod(s) for of, s in tensors if axis_of(of, letter, s) is not None]
            found = (sum(cut), letter, shape[axis], max(cut))
            best = max(best, found) if best else found
    if best is None:
        return None
    _, letter, length, touched = best
    count = min(length, max(3, -(-sample_size(touched) * length // touched)))
    places = np.arange(length)
    if count < length:
        inner = random.integers(1, length - 1, count - 2)
        places = np.concatenate([[0], np.sort(inner), [length - 1]])
    return Along(letters, letter, places), count / length


def agreement(recorded: NDArray[Any], expected: Any, value: Value, share: float) -> Comparison | None:
    """Compare some of a value's numbers with the witness's; None unless they clearly agree.

    ``share`` is that of the numbers that were looked at.
    """
    numbers = np.asarray(expected.value if isinstance(expected, Bounded) else expected)
    if numbers.shape != recorded.shape or numbers.size == 0 or numbers.dtype.kind == "c":
        return None
    if not is_inexact(value.dtype):
        same = np.array_equal(recorded, numbers)
        return _agrees(value, share) if same and recorded.dtype.kind in "iub" else None
    own = wide(recorded)
    with np.errstate(all="ignore"):
        error = np.abs(own - numbers)
        if isinstance(expected, Bounded):
            final = last_rounding(expected.arithmetic, value.dtype)
            bound = allowed(numbers, expected.errors[0], value.dtype, final)
        else:
            bound = allowed(numbers, None, value.dtype, 0.0)
        worst, widest = float(error.max()), float(bound.max())
        # NaN compares as false.
        if not (bool((error <= bound).all()) and math.isfinite(worst) and math.isfinite(widest)):
            return None
        largest = float(np.abs(numbers).max())
        if 2 * widest > SHARE * largest and 2 * widest > 4 * float(
            limits(value.dtype).smallest_normal
        ):
            return None
        at = int(np.argmax(ratio_of(error, bound)))
    return _agrees(
        value,
        share,
        error=float(error.flat[at]),
        bound=float(bound.flat[at]),
        ratio=float(error.flat[at] / bound.flat[at]) if error.flat[at] else 0.0,
        detects=2 * widest,
        detects_relative=2 * widest / largest if largest else 0.0,
        expected=float(numbers.flat[at]),
        recorded=float(own.flat[at]),
    )


def _agrees(value: Value, share: float, **figures: Any) -> Comparison:
    reason = SAMPLED if share < 1 else ""
    exact: dict[str, Any] = {"error": 0.0, "bound": 0.0, "ratio": 0.0, "detects": 0.0}
    exact |= {"detects_relative": 0.0}
    size = math.prod(value.shape)
    return Comparison(Verdict.AGREES, reason, size, share=share, **(exact | figures))
