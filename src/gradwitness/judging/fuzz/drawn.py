"""Tensors as trials give them to a function: numbers, and how they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from gradwitness.tape import Value

# Numbers drawn for a longer axis repeat those that are there, moved by at most so much.
_MOVED = 2.0**-6


@dataclass(frozen=True)
class Memory:
    """How a tensor lies in memory, whatever its sizes are.

    Attributes
    ----------
    kind : str
        What it is called.
    order : tuple of int
        Its axes from the outermost to the innermost; empty for their own order.
    repeated : tuple of int
        The axes along which it repeats itself, with stride 0.
    gapped : bool
        Whether every second place in memory is left out.
    """

    kind: str = "contiguous"
    order: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()
    gapped: bool = False

    def repeats(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape has an axis of stride 0."""
        return any(shape[axis] > 1 for axis in self.repeated)

    def is_contiguous(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape is contiguous; the strides of axes of length 1 are any."""
        order = [axis for axis in self.order if shape[axis] > 1]
        gaps = self.gapped and any(size > 1 for size in shape)
        return order == sorted(order) and not gaps and not self.repeats(shape)

    @property
    def dense(self) -> Memory:
        """The same with every number in a place of its own."""
        return replace(self, repeated=())


CONTIGUOUS = Memory()
TRANSPOSED, EVERY_SECOND = "transposed", "every second element"
ALONG_FIRST, ALONG_LAST = "expanded along the first axis", "expanded along the last axis"
ONE_NUMBER = "expanded from one number"
KINDS = TRANSPOSED, EVERY_SECOND, ALONG_FIRST, ALONG_LAST, ONE_NUMBER


def memory(kind: str, rank: int) -> Memory:
    """Return how a tensor of this rank lies if it lies so, or contiguous if it cannot."""
    backwards = tuple(reversed(range(rank)))
    kinds = {EVERY_SECOND: Memory(EVERY_SECOND, gapped=True)}
    kinds |= {ONE_NUMBER: Memory(ONE_NUMBER, repeated=backwards)}
    if rank > 1:
        kinds[TRANSPOSED] = Memory(TRANSPOSED, order=backwards)
        kinds[ALONG_FIRST] = Memory(ALONG_FIRST, repeated=(0,))
        kinds[ALONG_LAST] = Memory(ALONG_LAST, repeated=(rank - 1,))
    return kinds.get(kind, CONTIGUOUS) if rank else CONTIGUOUS


def memory_of(value: Value) -> Memory:
    """Return how a recorded value lay."""
    if value.layout is None or len(value.layout.strides) != len(value.shape):
        return CONTIGUOUS
    return lying(value.shape, value.layout.strides)


def lying(shape: Sequence[int], strides: Sequence[int]) -> Memory:
    """Return how a tensor of these strides lies."""
    axes = range(len(shape))
    repeated = tuple(a for a in axes if strides[a] == 0 and shape[a] > 1)
    order = tuple(sorted(axes, key=lambda a: -strides[a]))
    moving = [strides[a] for a in axes if strides[a] and shape[a] > 1]
    memory = Memory("as it was", order, repeated, bool(moving) and min(moving) > 1)
    return CONTIGUOUS if memory.is_contiguous(shape) else memory


@dataclass(frozen=True)
class Drawn:
    """A tensor of a trial."""

    array: NDArray[Any]
    memory: Memory = CONTIGUOUS

    def __post_init__(self) -> None:
        for axis in self.memory.repeated:
            first = np.take(self.array, range(min(1, self.array.shape[axis])), axis)
            object.__setattr__(self, "array", np.broadcast_to(first, self.array.shape))

    @property
    def is_contiguous(self) -> bool:
        """Whether it lies in memory in the order of its axes, without gaps."""
        return self.memory.is_contiguous(self.array.shape)


class Subject(Protocol):
    """A function that may run on other inputs than its own, forward and backward.

    Attributes
    ----------
    given : mapping of int to Drawn
        The tensors that it was applied to, by number.
    names : mapping of int to str
        What they are called: ``x (input 0)``.
    graded : tuple of int
        Those whose gradients are in question.
    """

    given: Mapping[int, Drawn]
    names: Mapping[int, str]
    graded: tuple[int, ...]

    def aside(self) -> AbstractContextManager[None]:
        """Run nothing but between its beginning and its end, which leave no trace."""

    def forward(self, inputs: Mapping[int, Drawn]) -> list[NDArray[Any] | None]:
        """Return its results; raise Unjudgeable if it fails."""

    def backward(
        self, inputs: Mapping[int, Drawn], cotangents: Sequence[Drawn | None]
    ) -> dict[int, NDArray[Any]]:
        """Return the gradients in question; raise Unjudgeable if it fails."""


def is_float(array: NDArray[Any]) -> bool:
    """Whether it is of numbers that a slope can be taken along."""
    return bool(array.dtype.kind == "f")


def resized(
    array: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator, below: int
) -> NDArray[Any]:
    """Draw an array of another shape from the numbers of one.

    Integers stay in the range seen and, since they may be places on an axis that became shorter,
    ``below`` the length of that.
    """
    if not is_float(array) and array.dtype.kind in "iu" and below:
        array = np.where(array >= below, array % below, array)
    if shape == array.shape:
        return array
    flat, count = array.ravel(), int(np.prod(shape))
    if not flat.size:
        return np.zeros(shape, array.dtype)
    picks = rng.permutation(flat)
    if count > flat.size:
        more = rng.choice(flat, count - flat.size)
        if is_float(array):
            more = more * (1 + _MOVED * rng.uniform(-1, 1, more.shape))
        picks = np.concatenate([picks, more])
    return np.asarray(picks[:count], dtype=array.dtype).reshape(shape)
