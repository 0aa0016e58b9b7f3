"""The reverse sweep over a forward that writes to views of its memory.

Values alone do not connect a view with a write to its base: memory does. Here each storage has one
buffer of gradients, a value is a window into it, a view costs nothing, and a call takes the
gradient of what it wrote out of the buffer before it adds those of its operands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import Lookup, inputs_of
from gradwitness.engine.floats import is_complex, is_float
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.rules.made_like import full_like
from gradwitness.rules.shape.shape import positions
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.tape import Call, Tape


def swept(
    tape: Tape,
    calls: Sequence[Call],
    outputs: Sequence[tuple[int, Any]],
    sources: Sequence[int | None],
    lookup: Lookup,
    arithmetic: Arithmetic | None,
    vjp: Callable[..., tuple[Any, ...]],
) -> tuple[Any, ...]:
    """Return the gradients of some values that calls began with.

    Parameters
    ----------
    tape : Tape
    calls : sequence of Call
    outputs : sequence of (int, array)
        Results with the gradients that arrived there.
    sources : sequence of (int or None)
        The values whose gradients are wanted.
    lookup : callable
    arithmetic : Arithmetic or None
        As for `gradients`.
    vjp : callable
        Applies a call's vjps.

    Raises
    ------
    Unjudgeable
        If memory was not recorded, or holds several formats.
    """
    memory = _Gradients(tape, outputs[0][1])
    reached = memory.reached(calls, [n for n in sources if n is not None])
    for number, g in outputs:
        if memory.storage(number) not in reached:
            raise Unjudgeable("no recorded operation leads to an output")
        memory.add(number, g)
    for call in reversed(calls):
        made = [n if n is not None and memory.holds(n) else None for n in call.outputs]
        if call.is_view or all(n is None for n in made):
            continue
        into = [None if n is None else memory.take(n) for n in made]
        if call.base_op in SOURCES:
            continue
        inputs = inputs_of(tape, call)
        wanted = [
            isinstance(a, Ref)
            and is_float(tape.values[a.value].dtype)
            and memory.storage(a.value) in reached
            for _, _, a in inputs
        ]
        if not any(wanted):
            continue
        sent = vjp(tape, call, into, lookup, arithmetic, wanted)
        for (_, _, argument), g in zip(inputs, sent, strict=True):
            if g is not None and isinstance(argument, Ref):
                memory.add(argument.value, g)
    return tuple(memory.take(n) if n is not None and memory.holds(n) else None for n in sources)


@dataclass
class _Gradients:
    """The gradients of a tape's memory, by storage.

    Attributes
    ----------
    like : array
        Of the kind that the buffers are to be.
    """

    tape: Tape
    like: Any
    buffers: dict[int, Any] = field(default_factory=dict)
    dtypes: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    met: set[int] = field(default_factory=set)

    def storage(self, number: int) -> int:
        """Return where a value lies."""
        value = self.tape.values[number]
        if value.layout is None or is_complex(value.dtype):
            raise Unjudgeable(f"it changes a view in place, of memory in {value.dtype}")
        return value.layout.storage

    def reached(self, calls: Sequence[Call], sources: list[int]) -> set[int]:
        """Return the storages that depend on the sources; learn how large each is."""
        found = {self.storage(number) for number in sources}
        if len(found) < len(set(sources)):
            raise Unjudgeable("it changes a view in place, and two of its inputs share memory")
        for number in sources:
            self._meet(number)
        for call in calls:
            operands = {*call.operands}
            numbers = [n for n in (*operands, *call.outputs) if n is not None]
            floats = [n for n in numbers if is_float(self.tape.values[n].dtype)]
            for number in floats:
                self._meet(number)
            if any(self.storage(n) in found for n in floats if n in operands):
                found |= {self.storage(n) for n in floats if n in call.outputs}
        return found

    def _meet(self, number: int) -> None:
        if number in self.met:
            return
        self.met.add(number)
        storage, value = self.storage(number), self.tape.values[number]
        if self.dtypes.setdefault(storage, value.dtype) != value.dtype:
            raise Unjudgeable("it changes a view in place, in memory of two formats")
        window = self._window(number)
        if np.unique(window).size < window.size:
            raise Unjudgeable("it changes a view in place, whose elements overlap")
        end = int(window.max(initial=-1)) + 1
        self.sizes[storage] = max(self.sizes.get(storage, 0), end)

    def _window(self, number: int) -> Any:
        """Return where each element of a value lies; elements that share a place count once."""
        value = self.tape.values[number]
        assert value.layout is not None  # noqa: S101 (`storage` has looked)
        strides = value.layout.strides
        shape = tuple(1 if s == 0 else n for n, s in zip(value.shape, strides, strict=True))
        return positions(shape, strides, value.layout.offset)

    def holds(self, number: int) -> bool:
        """Whether a gradient may have arrived where a value lies."""
        layout = self.tape.values[number].layout
        return layout is not None and layout.storage in self.buffers

    def add(self, number: int, g: Any) -> None:
        """Add to the gradient of a value."""
        storage, window = self.storage(number), self._window(number)
        if storage not in self.buffers:
            self.buffers[storage] = np.zeros_like(self.like, shape=(self.sizes[storage],))
        if window.shape != g.shape:
            repeated = tuple(k for k, n in enumerate(window.shape) if n != g.shape[k])
            g = np.reshape(np.sum(g, axis=repeated), window.shape)
        self.buffers[storage][window] = self.buffers[storage][window] + g

    def take(self, number: int) -> Any:
        """Return the gradient of a value, and clear it: what was there before has none of it."""
        buffer, window = self.buffers[self.storage(number)], self._window(number)
        g = buffer[window]
        buffer[window] = full_like(self.like, window.shape, 0)
        value = self.tape.values[number]
        return g if g.shape == value.shape else np.broadcast_to(g, value.shape)
