"""Convolutions held against random combinations of their images and of their channels.

As in `projected`, but along two axes at once where a result shares one with each factor: that of
images with what the kernel walks over, that of channels with the kernel. For Gaussian a and b, the
errors D along both show in ``f(a E, b F) - a C b`` as ``a D b``, beside what the witness rounds.
Each a has a b of its own: the pairs are the groups of one convolution.

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
from dataclasses import dataclass
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
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Shape
    from gradwitness.judging.comparing.comparison import Comparison
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
        self._plans: dict[tuple[object, ...], _Plan | None] = {}

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
        plan = self._plan(step, target, g)
        thin, lengths = _Thin(step, plan, self._vectors), (*plan.lengths.values(),)
        across, root = math.sqrt(math.prod(lengths)), math.sqrt(_terms(step, target, g))
        roots = root + sum(map(math.sqrt, lengths))
        unit = unit_roundoff("float64" if recorded.dtype == "float64" else "float32")
        stored = unit_roundoff(recorded.dtype)
        own = thin.combined(target or 0, recorded)
        residual = np.abs(thin.computed(g) - own)
        sizes = np.square(own).mean(axis=plan.combinations, keepdims=True)
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
        return told(recorded, figures, detects, largest)

    def _plan(self, step: Step, target: str, g: Value | None) -> _Plan:
        arguments = step.call.arguments
        key = step.form, target, g is None, arguments["groups"], arguments["transposed"]
        if key not in self._plans:
            self._plans[key] = _planned(step, target, g)
        plan = self._plans[key]
        if plan is None:
            raise Formless
        return plan

    def _vectors(self, letter: str, length: int, like: NDArray[Any]) -> NDArray[Any]:
        """Return the random vectors of an axis, one in each row."""
        key = letter, length, like.dtype.char, is_distant(like)
        if key not in self._drawn:
            drawn = self._random.standard_normal((_VECTORS, length), like.dtype)
            self._drawn[key] = np.asarray(drawn, like=like)
        return self._drawn[key]


@functools.lru_cache
def _seen(axes: int) -> float:
    """Return below what share of an error's norm all combinations are as rarely as `MISSED` says.

    Those along two axes are independent of each other, too: each has an a and a b of its own.
    """
    chance: float = MISSED ** (1 / _VECTORS)
    if axes == 1:
        return chance / math.sqrt(2 / math.pi)
    share = chance
    for _ in range(50):
        share = chance * math.pi / 2 / (math.log(1 / share) + 1.63)
    return share


@dataclass(frozen=True)
class _Plan:
    """Along which axes, shared with one factor alone, a convolution or a gradient is looked at.

    Attributes
    ----------
    target : str
    lengths : dict of str to int
        Of these axes, by letter: of one, or of two.
    along : dict of (str or int) to list of (str, int)
        The letters and the axes of them that each tensor has: the longest one first.
    read : tuple of str
        The operands that the result is made of; a gradient is made of what arrived, too.
    """

    target: str
    lengths: Mapping[str, int]
    along: Mapping[Role, list[tuple[str, int]]]
    read: tuple[str, ...]

    @property
    def in_pairs(self) -> bool:
        """Whether each vector of one axis has one of the other."""
        return len(self.lengths) > 1

    @property
    def combinations(self) -> int:
        """The axis that has the combinations of what is looked at."""
        return 0 if self.in_pairs else self.along[self.target or 0][0][1]


def _planned(step: Step, target: str, g: Value | None) -> _Plan | None:
    """Return along which axes to look; None if no axis is fit."""
    aim, letters = step.operands[target] if target else step.outputs[0], step.letters()
    if aim is None or letters is None or not is_float(aim.dtype):
        return None
    texts: dict[Role, str] = {0: letters[1][0]}
    texts.update(letters[0].items())
    shapes: dict[Role, Shape] = {name: value.shape for name, value in step.operands.items()}
    read = () if target == ADDED else tuple(n for n in step.operands if n not in (target, ADDED))
    factors: tuple[Role, ...] = read if g is None else (0, *read)
    shapes[0] = aim.shape if g is None else g.shape
    axes: dict[str, dict[Role, int | None]] = {}
    for letter in texts[target or 0].replace("_", ""):
        of = {role: axis_of(texts[role], letter, shape) for role, shape in shapes.items()}
        carriers = [role for role in factors if of[role] is not None]
        if len(carriers) > 1:
            # Channels that are convolved apart: some of them cost less than combinations.
            return None
        axis = of[target or 0]
        if axis is not None and carriers and aim.shape[axis] >= 2 * _VECTORS:
            axes[letter] = of
    lengths = {letter: aim.shape[of[target or 0] or 0] for letter, of in axes.items()}
    along = {
        role: sorted(
            ((letter, axis) for letter, of in axes.items() if (axis := of[role]) is not None),
            key=lambda at: -lengths[at[0]],
        )
        for role in shapes
    }
    return _Plan(target, lengths, along, read) if lengths else None


class _Thin:
    """A convolution whose tensors are combined along the axes of a plan."""

    def __init__(
        self,
        step: Step,
        plan: _Plan,
        vectors: Callable[[str, int, NDArray[Any]], NDArray[Any]],
    ) -> None:
        self._step, self._plan = step, plan
        self._drawn = vectors

    def _vectors(self, letter: str, like: NDArray[Any]) -> NDArray[Any]:
        return self._drawn(letter, self._plan.lengths[letter], like)

    def combined(self, role: Role, value: Value) -> NDArray[Any]:
        """Return the combinations of a tensor, in the format of the look; of pairs in front."""
        if value.array is None:
            raise Unjudgeable("not recorded")
        at = self._plan.along[role]
        # What arrives is combined along the same axis for two of the gradients.
        known, key = self._step.combined, (value.id, *at)
        if key not in known:
            kind = np.float64 if value.dtype == "float64" else np.float32
            array = value.array.astype(kind, copy=False)
            if at:
                array = _along(array, at[0][1], self._vectors(at[0][0], array))
            if len(at) > 1:
                array = _paired(array, at[0][1], at[1][1], self._vectors(at[1][0], array))
            known[key] = array
        made: NDArray[Any] = known[key]
        return made

    def computed(self, g: Value | None) -> NDArray[Any]:
        """Return the combinations of the result, by the step's own rule."""
        step, plan = self._step, self._plan
        numbers = {
            name: self._factor(name, value) if name in plan.read else self._shaped(name, value)
            for name, value in step.operands.items()
            if name != ADDED
        }
        operands = [numbers.get(name) for name in step.rule.operands]
        parameters = {name: step.call.arguments[name] for name in step.form.parameters}
        if plan.in_pairs:
            parameters["groups"] = _VECTORS
        made: NDArray[Any]
        if g is None:
            made = step.rule.function(*operands, **parameters)
            if ADDED in step.operands:
                made += self._added(step.operands[ADDED], made)
        else:
            gradient = step.rule.gradients[plan.target]
            made = gradient(self._factor(0, g), None, operands, parameters)
        return np.reshape(made, (_VECTORS, *made.shape[2:])) if plan.in_pairs else made

    def _factor(self, role: Role, value: Value) -> NDArray[Any]:
        """Return a factor's combinations: if they are in pairs, as groups."""
        array = self.combined(role, value)
        if not self._plan.in_pairs:
            return array
        ((_, axis),) = self._plan.along[role]
        if axis == (0 if role == "w" else 1):
            return array
        groups = (-1, 1) if role == "w" else (1, -1)
        array = np.swapaxes(array, 0, 1) if axis else array
        return np.reshape(array, (*groups, *array.shape[2:]))

    def _shaped(self, name: str, value: Value) -> NDArray[Any]:
        """Return what stands for a tensor of which only the shape is read."""
        shape = [*value.shape]
        for _, axis in self._plan.along[name]:
            shape[axis] = _VECTORS
        if self._plan.in_pairs:
            shape[:2] = (_VECTORS, 1) if name == "w" else (1, _VECTORS)
        return unknown(tuple(shape))

    def _added(self, bias: Value, made: NDArray[Any]) -> NDArray[Any]:
        """Return what a bias adds to the combinations."""
        beside = (1,) * (made.ndim - 2)
        added = self.combined(ADDED, bias).reshape((-1, *beside))
        for letter, axis in self._plan.along[0]:
            if axis == 0:
                # It meets every image: in a combination, as often as the factors come to.
                factors = self._vectors(letter, made).sum(axis=1)
                each = beside if self._plan.in_pairs else (1, *beside)
                added = factors.reshape((-1, *each)) * added
        return added


def _paired(array: NDArray[Any], first: int, axis: int, vectors: NDArray[Any]) -> NDArray[Any]:
    """Combine each combination along a first axis along another one, with a vector of its own."""
    moved = array if first < axis else np.swapaxes(array, 0, 1)
    made: NDArray[Any] = vectors[:, None] @ moved.reshape((*moved.shape[:2], -1))
    return made.reshape((-1, *moved.shape[2:]))


def _along(array: NDArray[Any], axis: int, vectors: NDArray[Any]) -> NDArray[Any]:
    """Return the combinations of an array along an axis."""
    shape = array.shape
    made: NDArray[Any] = vectors @ array.reshape((math.prod(shape[:axis]), shape[axis], -1))
    return made.reshape((*shape[:axis], -1, *shape[axis + 1 :]))


def _terms(step: Step, target: str, g: Value | None) -> int:
    """Return how many terms each number of a convolution, or of a gradient, is a sum of."""
    kernel = step.operands["w"].shape
    if g is None or target == "x":
        return math.prod(kernel[2:]) * (kernel[0] if target else kernel[1])
    return math.prod(g.shape) // g.shape[1]
