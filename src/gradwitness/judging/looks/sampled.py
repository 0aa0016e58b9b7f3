"""Steps that fall into independent parts, looked at in some of them: first, last and random ones.

Each part is judged as the whole would be, under the same rigorous bounds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.distant import on_host, scalars
from gradwitness.engine.floats import is_inexact, limits, wide
from gradwitness.engine.tiling import axis_of, shared
from gradwitness.judging.comparing.allowance import allowed, last_rounding, ratio_of
from gradwitness.judging.comparing.comparison import CLOSE, SAMPLED, SHARE
from gradwitness.judging.looks.close import Closeness, exact, is_clear
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.step import Formless
from gradwitness.tape import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.looks.step import Part, Role, Step
    from gradwitness.judging.looks.sums import Sums

# A sample has one number in so many of the whole, but at least and at most ...
_ONE_IN, _LEAST, _MOST = 256, 256, 2**14
# Both ends of an axis, and one place between them.
_ENDS = 3
# Numbers that lie side by side in a sample, so that memory is read in lines.
_RUN = 16


def is_few(size: int) -> bool:
    """Whether so few numbers are all looked at."""
    return size <= 2 * _LEAST


def sample_size(size: int) -> int:
    """Return how many of so many numbers to look at; all of few."""
    return size if is_few(size) else min(max(size // _ONE_IN, _LEAST), _MOST)


class Places(Protocol):
    """Which numbers of a step's tensors are looked at: such as make a step of their own."""

    def beside(self, role: Role, value: Value, flat: int) -> Places:
        """Return the places around a number of a tensor."""

    def part(self, role: Role, value: Value) -> Part:
        """Return a tensor's numbers at the places."""


def brought(places: Places) -> Callable[[Role, Value], Part]:
    """Return what gives a tensor's numbers at places on the host: bounds are NumPy's alone."""

    def part(role: Role, value: Value) -> Part:
        array, shape = places.part(role, value)
        return None if array is None else on_host(array), shape

    return part


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

    def beside(self, _role: Role, _value: Value, flat: int) -> Scattered:
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
        index: Any = tuple(0 if n == 1 else at for n, at in zip(shape, own, strict=True))
        return array[index], (count,)


class Along:
    """Some places on the axes of letters, with all that belongs to them."""

    def __init__(
        self,
        letters: tuple[dict[str, str], tuple[str, ...]],
        places: Mapping[str, NDArray[np.intp]],
    ) -> None:
        self._operands, self._results = letters
        self._places = places

    def _text(self, role: Role) -> str:
        return self._operands[role] if isinstance(role, str) else self._results[role]

    def beside(self, role: Role, value: Value, flat: int) -> Along:
        """Return the places where a number of a tensor is."""
        at = np.unravel_index(flat, value.shape)
        axes = {c: axis_of(self._text(role), c, value.shape) for c in self._places}
        places = {
            c: self._places[c] if axis is None else np.array([at[axis]]) for c, axis in axes.items()
        }
        return Along((self._operands, self._results), places)

    def part(self, role: Role, value: Value) -> Part:
        """Return a tensor's numbers at the places; all of them if it lacks the letters."""
        array, shape = value.array, value.shape
        index: tuple[Any, ...]
        for letter, places in self._places.items():
            axis = axis_of(self._text(role), letter, shape)
            # (All places of an axis are those that it has.)
            if axis is not None and places.size < shape[axis]:
                shape = (*shape[:axis], places.size, *shape[axis + 1 :])
                index = (*(slice(None),) * axis, places)
                array = None if array is None else array[index]
        return array, shape


def along(step: Step, target: str, random: np.random.Generator) -> tuple[Along, float]:
    """Draw places on the axes of a result (an empty target), or of an operand's gradient.

    The first and the last on each axis are taken, and as many more as a sample may have: of the
    longest axis first. Returns the places and the share that they are of all; without such an axis
    the step is `Formless`.
    """
    letters = step.letters(target)
    if letters is None:
        raise Formless
    operands, results = letters
    tensors = [(operands[name], value.shape) for name, value in step.operands.items()]
    tensors += [(of, v.shape) for of, v in zip(results, step.outputs, strict=True) if v is not None]
    if target:
        aim, shape = operands[target], step.operands[target].shape
    else:
        aim, shape = shared(results), step.outputs[0].shape if step.outputs[0] else ()
    axes = {c: axis_of(aim, c, shape) for c in aim.replace("_", "")}
    lengths = {c: shape[axis] for c, axis in axes.items() if axis is not None}
    places: dict[str, NDArray[np.intp]] = {}
    share = 1.0
    for letter in sorted(lengths, key=lambda c: lengths[c], reverse=True):
        cut = [math.prod(s) for of, s in tensors if axis_of(of, letter, s) is not None]
        wanted = sample_size(max(cut)) / max(cut) / share
        places[letter] = drawn_places(random, lengths[letter], wanted)
        share *= places[letter].size / lengths[letter]
    if not places:
        raise Formless
    return Along(letters, places), share


def drawn_places(random: np.random.Generator, length: int, share: float) -> NDArray[np.intp]:
    """Draw a share of the places on an axis, both ends and one between them at least."""
    count = min(length, max(_ENDS, math.ceil(length * share)))
    if count == length:
        return np.arange(length)
    places = random.integers(1, length - 1, count)
    places[:2] = 0, length - 1
    places.sort()
    return places


def near(
    recorded: NDArray[Any], expected: Any, value: Value, share: float, sums: Sums, norm: float
) -> tuple[Comparison, float] | None:
    """Hold some of a value's numbers against float64's; None unless they are near.

    See `Closeness`; ``norm`` is the whole value's. Returns their largest magnitude, too.
    """
    if recorded.size == 0 or not is_clear(value):
        return None
    part = Value(value.id, recorded.shape, value.dtype, recorded)
    close = Closeness(part, norm_of(recorded), sums)
    if not close.take(expected):
        return None
    of_whole = {"index": None, "size": math.prod(value.shape), "share": share, "norm": norm}
    looked = close.result(**of_whole, reason=SAMPLED if share < 1 else CLOSE)
    return None if looked is None else (looked, close.largest)


def agreement(
    recorded: NDArray[Any], expected: Any, value: Value, share: float, norm: float = math.nan
) -> tuple[Comparison, float] | None:
    """Compare some of a value's numbers with the witness's; None unless they clearly agree.

    ``share`` is that of the numbers that were looked at, ``norm`` the whole value's. Returns their
    largest magnitude, too.
    """
    numbers = np.asarray(expected.value if isinstance(expected, Bounded) else expected)
    if numbers.shape != recorded.shape or numbers.size == 0 or numbers.dtype.kind == "c":
        return None
    if not is_inexact(value.dtype):
        same = np.array_equal(recorded, numbers)
        largest = float(np.abs(recorded.astype(np.float64)).max()) if same else 0.0
        return (_agrees(value, share, norm), largest) if same else None
    own = wide(recorded)
    error = np.abs(own - numbers)
    if isinstance(expected, Bounded):
        final = last_rounding(expected.arithmetic, value.dtype)
        bound = allowed(numbers, expected.errors[0], value.dtype, final)
    else:
        bound = allowed(numbers, None, value.dtype, 0.0)
    largest = float(np.abs(numbers).max())
    small = 4 * float(limits(value.dtype).smallest_normal)
    if 2 * float(bound.max()) > max(SHARE * largest, small) and value.array is not None:
        # As in full, then: the largest of all, and the probable bound.
        largest = max(largest, *scalars(np.abs(value.array).max()))
        if isinstance(expected, Bounded):
            bound = allowed(numbers, expected.errors[1], value.dtype, final)
    worst, widest = float(error.max()), float(bound.max())
    # NaN compares as false.
    if not (bool((error <= bound).all()) and math.isfinite(worst) and math.isfinite(widest)):
        return None
    if 2 * widest > max(SHARE * largest, small):
        return None
    at = int(np.argmax(ratio_of(error, bound)))
    looked = _agrees(
        value,
        share,
        norm,
        error=float(error.flat[at]),
        bound=float(bound.flat[at]),
        ratio=float(error.flat[at] / bound.flat[at]) if error.flat[at] else 0.0,
        detects=2 * widest,
        detects_relative=2 * widest / largest if largest else 0.0,
        expected=float(numbers.flat[at]),
        recorded=float(own.flat[at]),
    )
    return looked, largest


def _agrees(value: Value, share: float, norm: float, **figures: Any) -> Comparison:
    reason = SAMPLED if share < 1 else ""
    return replace(exact(math.prod(value.shape), norm), reason=reason, share=share, **figures)
