"""Convolutions held against random combinations of their images and of their channels.

As in `projected`, but along two axes at once where a result shares one with each factor: that of
images with what the kernel walks over, that of channels with the kernel. For Gaussian a and b, the
errors D along both show in ``f(a E, b F) - a C b`` as ``a D b``, beside what the witness rounds.

For a given a that is normal, of deviation ``|a D|``: within t of 0 with a probability of at most
``min(1, k / |a D|)`` with ``k = sqrt(2 / pi) t``, whatever else is in it (T. W. Anderson 1955). Let
``|D| = 1`` and s be its singular values: ``|a D|^2`` is a mean of normal numbers' squares, weighed
by s^2. As a function of it, that probability lies below a convex one, which is ``3/2 - v / 2 k^2``
up to ``v = k^2``; so (Jensen) it is at most what a D of rank 1 has, for whose one normal number
the integral is below ``(2 / pi) t (log(1 / t) + 1.63)``, if k is below 0.2.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import unknown
from gradwitness.engine.distant import is_distant, scalars
from gradwitness.engine.floats import is_float, unit_roundoff
from gradwitness.engine.tiling import axis_of
from gradwitness.judging.looks.projected import (
    DRIFTS,
    MISSED,
    STORES,
    WANDERS,
    Figures,
    told,
)
from gradwitness.judging.looks.step import Formless
from gradwitness.rules.registry import ADDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.looks.step import Role, Step
    from gradwitness.judging.looks.sums import Sums
    from gradwitness.tape import Value

# How many random vectors there are for an axis, which is at least twice as long.
_VECTORS = 4
# Of n terms that round alike, as equal ones do, errors add up with n, not with sqrt(n): a part of
# that is allowed where what is probable does not suffice.
_ALIKE = 1 / 8


class Convolutions:
    """Random vectors by which convolutions are looked at, and the gradients of their operands.

    One set serves each axis: a probability is over the vectors, which no program knows.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._drawn: dict[tuple[object, ...], NDArray[Any]] = {}

    def look(
        self,
        step: Step,
        target: str,
        g: Value | None,
        recorded: Value,
        sums: Sums,
        norm: float,
    ) -> Comparison | None:
        """Judge a result, or the gradient of the operand ``target``; None unless it clearly agrees.

        ``norm`` is that of what is recorded, and ``sums`` what its numbers are. If no axis is fit,
        the step is `Formless`.
        """
        thin = _Thin(step, target, g, recorded, self._vectors)
        lengths = thin.lengths
        across, root = math.sqrt(math.prod(lengths)), math.sqrt(_terms(step, target, g))
        roots = root + sum(map(math.sqrt, lengths))
        unit = unit_roundoff("float64" if recorded.dtype == "float64" else "float32")
        stored = unit_roundoff(recorded.dtype)
        with np.errstate(all="ignore"):
            own = thin.combined(target or 0, recorded)
            residual = np.abs(thin.computed() - own)
            sizes = np.square(own).mean(axis=thin.axes, keepdims=True)
            # Of few a place's own may be small by chance.
            sizes = np.sqrt(np.maximum(sizes, sizes.mean() / 4))
            allowed = unit * roots * (WANDERS * across * sums.size + DRIFTS * sizes)
            if stored > unit:
                allowed += STORES * stored * sizes
            farthest, ratio, allowance = scalars(
                residual.max(), (residual / allowed).max(), allowed.max()
            )
        if 1 < ratio <= _ALIKE * root:
            ratio, allowance = ratio / (_ALIKE * root), allowance * _ALIKE * root
        largest = across * norm / math.sqrt(math.prod(recorded.shape))
        detects = 2 * allowance / _seen(len(lengths))
        if not ratio <= 1:
            return None
        figures = Figures(farthest, allowance, ratio, norm)
        return told(recorded, figures, detects, largest, across * sums.size)

    def _vectors(self, letter: str, length: int, like: NDArray[Any]) -> NDArray[Any]:
        """Return the random vectors of an axis, one in each column."""
        key = letter, length, like.dtype.char, is_distant(like)
        if key not in self._drawn:
            drawn = self._random.standard_normal((length, _VECTORS), like.dtype)
            self._drawn[key] = np.asarray(drawn, like=like)
        return self._drawn[key]


@functools.lru_cache
def _seen(axes: int) -> float:
    """Return below what share of an error's norm all combinations are as rarely as `MISSED` says.

    Of those along two axes only the independent ones count: each with a and b of its own.
    """
    chance: float = MISSED ** (1 / _VECTORS)
    if axes == 1:
        return chance / math.sqrt(2 / math.pi)
    share = chance
    for _ in range(50):
        share = chance * math.pi / 2 / (math.log(1 / share) + 1.63)
    return share


class _Thin:
    """A convolution whose tensors are combined along axes that its result shares with one factor.

    Attributes
    ----------
    axes, lengths : tuple of int
        Those axes of the result, and how long they are.
    """

    def __init__(
        self,
        step: Step,
        target: str,
        g: Value | None,
        recorded: Value,
        vectors: Callable[[str, int, NDArray[Any]], NDArray[Any]],
    ) -> None:
        letters = step.letters() if is_float(recorded.dtype) else None
        if letters is None:
            raise Formless
        self._operands, self._results = letters
        self._step, self._target, self._vectors = step, target, vectors
        self._kind = np.dtype("float64" if recorded.dtype == "float64" else "float32")
        self._read: dict[Role, Value] = {} if g is None else {0: g}
        if target != ADDED:
            self._read |= {n: v for n, v in step.operands.items() if n not in (target, ADDED)}
        found: dict[str, int] = {}
        for letter in self._text(target or 0).replace("_", ""):
            axis = self._axis(target or 0, letter, recorded.shape)
            carriers = [
                n for n, v in self._read.items() if self._axis(n, letter, v.shape) is not None
            ]
            if len(carriers) > 1:
                # Channels that are convolved apart: some of them cost less than combinations.
                raise Formless
            if axis is not None and carriers and recorded.shape[axis] >= 2 * _VECTORS:
                found[letter] = axis
        if not found:
            raise Formless
        self._letters = tuple(found)
        self.axes = tuple(found.values())
        self.lengths = tuple(recorded.shape[axis] for axis in self.axes)

    def _text(self, role: Role) -> str:
        return self._operands[role] if isinstance(role, str) else self._results[role]

    def _axis(self, role: Role, letter: str, shape: Shape) -> int | None:
        return axis_of(self._text(role), letter, shape)

    def _at(self, role: Role, shape: Shape) -> list[tuple[str, int]]:
        """Return the axes along which a tensor is combined, by letter: the longest one first."""
        axes = [(letter, self._axis(role, letter, shape)) for letter in self._letters]
        found = [(letter, axis) for letter, axis in axes if axis is not None]
        return sorted(found, key=lambda at: -shape[at[1]])

    def combined(self, role: Role, value: Value) -> NDArray[Any]:
        """Return the combinations of a tensor, in the format of the look."""
        if value.array is None:
            raise Unjudgeable("not recorded")
        at = self._at(role, value.shape)
        # What arrives is combined along the same axis for two of the gradients.
        known, key = self._step.combined, (value.id, *at)
        if key not in known:
            array = value.array.astype(self._kind, copy=False)
            for letter, axis in at:
                array = _along(array, axis, self._vectors(letter, array.shape[axis], array))
            known[key] = array
        made: NDArray[Any] = known[key]
        return made

    def computed(self) -> NDArray[Any]:
        """Return the combinations of the result, by the step's own rule."""
        step, numbers = self._step, {n: self.combined(n, v) for n, v in self._read.items()}
        for name, value in step.operands.items():
            if name not in numbers and name != ADDED:
                shape = list(value.shape)
                for _, axis in self._at(name, value.shape):
                    shape[axis] = _VECTORS
                numbers[name] = unknown(tuple(shape))
        operands = [numbers.get(name) for name in step.rule.operands]
        parameters = {name: step.call.arguments[name] for name in step.form.parameters}
        made: NDArray[Any]
        if 0 in numbers:
            made = step.rule.gradients[self._target](numbers[0], None, operands, parameters)
            return made
        made = step.rule.function(*operands, **parameters)
        bias, images = step.operands.get(ADDED), self._results[0][0]
        if bias is None:
            return made
        beside = (1,) * (made.ndim - 2)
        added = self.combined(ADDED, bias).reshape((-1, *beside))
        if images in self._letters:
            # It meets every image: in a combination, as often as the factors come to.
            length = self.lengths[self._letters.index(images)]
            factors = self._vectors(images, length, made).sum(axis=0)
            added = factors.reshape((-1, 1, *beside)) * added
        made += added
        return made


def _along(array: NDArray[Any], axis: int, vectors: NDArray[Any]) -> NDArray[Any]:
    """Return the combinations of an array along an axis."""
    shape = array.shape
    made: NDArray[Any] = vectors.T @ array.reshape((math.prod(shape[:axis]), shape[axis], -1))
    return made.reshape((*shape[:axis], -1, *shape[axis + 1 :]))


def _terms(step: Step, target: str, g: Value | None) -> int:
    """Return how many terms each number of a convolution, or of a gradient, is a sum of."""
    kernel = step.operands["w"].shape
    if g is None or target == "x":
        return math.prod(kernel[2:]) * (kernel[0] if target else kernel[1])
    return math.prod(g.shape) // g.shape[1]
