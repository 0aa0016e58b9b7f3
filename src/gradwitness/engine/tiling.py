"""Large steps, computed piece by piece, so that memory stays small whatever the tensors.

A rule gives each axis a letter (`Rule.apart`), as in ``"ik,kj->ij"``, to say along which axes it
splits: index i of the result needs only index i of A. The same letters hold for every vjp, with
the operand in the result's place. The rule itself just gets smaller arrays.
"""

from __future__ import annotations

import itertools
import math
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness import rules
from gradwitness.engine.binding import Lookup, operand_names, recorded, unknown
from gradwitness.engine.distant import lives_elsewhere
from gradwitness.rules.registry import ELEMENTWISE, UNMADE
from gradwitness.tape import Ref, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.tape import Call

Shape: TypeAlias = tuple[int, ...]
Index: TypeAlias = tuple[slice, ...]

# Steps with a tensor of more than _LARGE elements are cut into pieces of _PIECE.
_LARGE = 2**18
_PIECE = 2**17
# A processor's cache is filled by so many; a device by many times as many.
_ON_DEVICE = 2**7
# Where it is emptied in many steps, fewer pieces cost less.
_IN_STEPS = 2**4
# Uncut tensors are read again for each piece, so a small result is cut into at most this many.
_FEW = 2
# A recording may declare a shape of any size for a tensor that it does not hold.
_MOST_PIECES = 2**16


@dataclass(frozen=True)
class Cut:
    """One piece of a step: a range on the axis of one of the letters of operands and results."""

    operands: Mapping[str, str]
    results: tuple[str, ...]
    letter: str
    start: int
    stop: int

    def operand(self, name: str, shape: Shape) -> Index:
        """Return the index of an operand's part in the piece; empty for all of it."""
        return self._index(self.operands[name], shape)

    def result(self, index: int, shape: Shape) -> Index:
        """Return the index of the part of a result, or of its gradient, in the piece."""
        return self._index(self.results[index], shape)

    def _index(self, letters: str, shape: Shape) -> Index:
        axis = axis_of(letters, self.letter, shape)
        if axis is None:
            return ()
        return (*(slice(None),) * axis, slice(self.start, self.stop))


@dataclass(frozen=True)
class SmallStep:
    """A piece of a large step, as a step on a separate tape."""

    tape: Tape
    call: Call
    lookup: Lookup


def axis_of(letters: str, letter: str, shape: Shape) -> int | None:
    """Return the axis that a letter stands for, if the tensor has it and does not broadcast it.

    Letters align with the last axes: a tensor with fewer axes lacks the first letters.
    """
    if letter not in letters:
        return None
    axis = letters.index(letter) - max(0, len(letters) - len(shape))
    return axis if axis >= 0 and shape[axis] != 1 else None


def is_large(tape: Tape, call: Call) -> bool:
    """Whether a call has a tensor too large to convert at once."""
    values, largest = tape.values, 0
    for number in call.outputs:
        if number is not None:
            largest = max(largest, math.prod(values[number].shape))
    for argument in call.arguments.values():
        if isinstance(argument, Ref):
            largest = max(largest, math.prod(values[argument.value].shape))
    return largest > _LARGE and largest > _LARGE * _times(tape, call)


def shared(results: tuple[str, ...]) -> str:
    """Return the letters of a first result, but those that another lacks, which the rule makes."""
    made = [letters for letters in results if letters != UNMADE]
    return "".join(a if all(a in other for other in made) else "_" for a in results[0])


def _times(tape: Tape, call: Call) -> int:
    """Return how many times as many numbers as usual a call may take at once.

    They fill a device, or there are many steps to go through them.
    """
    rule = rules.find(call.base_op)
    if any(lives_elsewhere(tape.values[n]) for n in call.operands):
        return _ON_DEVICE
    return _IN_STEPS if rule is not None and rule.sequential else 1


def cuts(tape: Tape, call: Call, target: str = "") -> list[Cut]:
    """Return the pieces of a large step, if its rule says how to split it; else none.

    The gradient of a ``target`` is computed, or, if that is empty, the call's first result.
    """
    rule = rules.find(call.base_op)
    if rule is None or not is_large(tape, call):
        return []
    outputs = [tape.values[n] for n in call.outputs if n is not None]
    named = {n: call.arguments[schema_name] for n, schema_name in operand_names(rule, call).items()}
    shapes = {n: tape.values[a.value].shape for n, a in named.items() if isinstance(a, Ref)}
    if len(outputs) != len(call.outputs):
        return []
    found = letters(rule, call, shapes, outputs[0].shape, target)
    if found is None:
        return []
    of_operands, of_results = found
    # Each tensor with its letters: operands, and results, of which a vjp gets the gradients too.
    tensors = [(of_operands[name], shape) for name, shape in shapes.items()]
    tensors += [(of, value.shape) for of, value in zip(of_results, outputs, strict=True)]
    aim, shape = (of_operands[target], shapes[target]) if target else tensors[len(shapes)]
    if not target:
        aim = shared(of_results)
    best = _longest_cut(aim, shape, tensors)
    if best is None:
        return []
    letter, length, touched = best
    piece = _PIECE * _times(tape, call)
    count = min(-(-touched // piece), max(_FEW, -(-math.prod(shape) // piece)), _MOST_PIECES)
    ranges = list(_ranges(length, count))
    return [Cut(of_operands, of_results, letter, *ends) for ends in ranges if len(ranges) > 1]


def slabs(shape: Shape, *, on_device: bool = False) -> list[Index]:
    """Return the indices of pieces of a tensor, along one axis; of a small one, of all of it."""
    size, times = math.prod(shape), _ON_DEVICE if on_device else 1
    if size <= _LARGE * times:
        return [()]
    count = -(-size // (_PIECE * times))
    # The first axis that is long enough: what lies together stays together.
    axis = next((k for k, n in enumerate(shape) if n >= count), shape.index(max(shape)))
    return [(*(slice(None),) * axis, slice(*ends)) for ends in _ranges(shape[axis], count)]


def _ranges(length: int, count: int) -> Iterable[tuple[int, int]]:
    """Cut a length into so many ranges at most."""
    count = min(length, count)
    return itertools.pairwise([length * k // count for k in range(count + 1)])


def _longest_cut(
    aim: str, shape: Shape, tensors: list[tuple[str, Shape]]
) -> tuple[str, int, int] | None:
    """Return the letter that cuts most numbers, its length and the largest tensor that it cuts."""
    best = None
    most = 0
    for letter in aim.replace("_", ""):
        axis = axis_of(aim, letter, shape)
        if axis is None:
            continue
        cut = [math.prod(size) for of, size in tensors if axis_of(of, letter, size) is not None]
        if sum(cut) > most:
            most, best = sum(cut), (letter, shape[axis], max(cut))
    return best


def small_steps(
    tape: Tape, call: Call, pieces: Iterable[Cut], lookup: Lookup, *, replayed: bool = False
) -> Iterator[tuple[Cut, SmallStep]]:
    """Yield the pieces of a call, all cut along one letter, each as a step of its own.

    Only uncut values are looked up on the whole tape, unless its numbers are a replay's.
    """
    rule = rules.find(call.base_op)
    assert rule is not None  # noqa: S101 (it made the cuts)
    whole: list[int] = []
    place: list[str | int] = []

    def add(number: int, role: str | int) -> int:
        whole.append(number)
        place.append(role)
        return len(whole) - 1

    arguments = dict(call.arguments)
    for name, schema_name in operand_names(rule, call).items():
        argument = arguments[schema_name]
        if isinstance(argument, Ref):
            arguments[schema_name] = Ref(add(argument.value, name))
    outputs = tuple(None if n is None else add(n, k) for k, n in enumerate(call.outputs))
    small = replace(call, arguments=arguments, outputs=outputs)
    values = [tape.values[number] for number in whole]
    for cut in pieces:
        indices = [
            cut.operand(role, value.shape)
            if isinstance(role, str)
            else cut.result(role, value.shape)
            for role, value in zip(place, values, strict=True)
        ]
        parts = list(map(_part, values, indices))
        yield cut, _small_step(small, parts, indices, whole, lookup, replayed)


def _part(value: Value, index: Index) -> Value:
    """Return the part of a value at an index; all of it if that is empty."""
    if not index:
        return value
    # Values that no vjp uses may be freed already; only their shape is needed.
    array = None if value.array is None else value.array[index]
    shape = unknown(value.shape)[index].shape if array is None else array.shape
    return Value(
        value.id,
        shape,
        value.dtype,
        array,
        value.layout,
        freed=value.freed,
        sparse=value.sparse,
    )


def _small_step(
    call: Call,
    values: list[Value],
    indices: list[Index],
    whole: list[int],
    lookup: Lookup,
    replayed: bool,
) -> SmallStep:
    """Return a call on some values, which are parts of others where they have an index."""
    tape = Tape(values=values, calls=(), nodes=(), sweeps=())
    of_part = recorded(tape)

    def numbers(position: int) -> NDArray[Any]:
        index = indices[position]
        if index and not replayed:
            return of_part(position)
        return lookup(whole[position])[index] if index else lookup(whole[position])

    return SmallStep(tape, call, numbers)


def letters(
    rule: rules.Rule,
    call: Call,
    shapes: Mapping[str, Shape],
    result: Shape,
    target: str = "",
) -> tuple[dict[str, str], tuple[str, ...]] | None:
    """Return the letters of each operand and result, or None if nothing can be cut.

    They may be others where the gradient of a ``target`` is computed.
    """
    text = rule.apart_for.get(target, rule.apart)
    if not isinstance(text, str):
        parameters = {n: call.arguments.get(n, rule.defaults.get(n)) for n in rule.parameters}
        text = text(shapes, parameters)
    if text == ELEMENTWISE:
        every = string.ascii_letters[: len(result)]
        return dict.fromkeys(rule.operands, every), (every,) * len(call.outputs)
    if not text:
        return None
    left, right = text.split("->")
    operands = dict(zip(rule.operands, left.split(","), strict=True))
    return operands, tuple(right.split(","))
