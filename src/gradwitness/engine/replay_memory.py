"""The memory of a replay: one float64 buffer for each piece of a storage.

A value is a strided window into it: a view costs nothing, and an in-place write shows in every view
of the same memory.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import as_array, is_complex, is_inexact
from gradwitness.engine.storage_spans import Piece, pieces
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.replay_steps import Steps
    from gradwitness.tape import Call, Tape


# A recording says how far apart the numbers of a view lay: to lay them out like that takes at most
# so many numbers for each that it holds, or so many in all.
_MOST_GROWTH = 100
_ALWAYS_ALLOWED = 1 << 25


@dataclass
class Memory:
    """The memory of a tape as float64 buffers, NaN where nothing has been written yet."""

    tape: Tape
    leaves: Mapping[int, NDArray[np.float64]]
    steps: Steps
    buffers: dict[Piece, NDArray[np.float64]] = field(default_factory=dict)
    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    windows: dict[Piece, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pieces = pieces(v for v in self.tape.values if is_inexact(v.dtype))
        held = sum(v.array.size for v in self.tape.values if v.array is not None)
        self._most = max(_MOST_GROWTH * held, _ALWAYS_ALLOWED)
        # Backward passes write to `.grad` between the calls.
        self._unseen = {
            leaf.after for sweep in self.tape.sweeps for leaf in sweep.leaves if leaf.after
        }
        # So do hooks within a pass: an optimizer that steps there.
        self._unseen.update(_rewritten_unseen(self.tape))

    def run(self, call: Call) -> str:
        """Run one call; return why its result was taken from the record, or an empty string."""
        operands = call.operands
        viewed = [n for n in call.outputs if n is not None] if call.is_view else []
        # The memory of a lazy view holds other numbers: it is computed.
        lazy = any(self._is_lazy(n) for n in viewed)
        try:
            for number in operands + (viewed if not lazy else []):
                self.read(number)
        except Unjudgeable as reason:
            return str(reason)
        if call.is_view and not lazy:
            return ""
        trusted = ""
        if call.base_op in SOURCES:
            results: tuple[Any, ...] = tuple(map(self._from_record, call.outputs))
        else:
            try:
                results = self.steps.forward(self.tape, call, self.read)
            except Unjudgeable as reason:
                trusted = str(reason)
                results = tuple(map(self._from_record, call.outputs))
        held = [self.values[number] for number in operands]
        for output, result in zip(call.outputs, results, strict=True):
            if output is not None and result is not None:
                fresh = all(result is not array for array in held)
                held.append(result)
                if not (fresh and self.adopts(output, result)):
                    self.write(output, result, in_place=bool(call.writes))
        for number in _undeclared_writes(call):
            self.forget(number)
        return trusted

    def _is_lazy(self, number: int) -> bool:
        value = self.tape.values[number]
        return is_inexact(value.dtype) and value.layout is None and value.array is not None

    def _from_record(self, number: int | None) -> Any:
        return None if number is None else recorded_or_none(self.tape, number)

    def read(self, number: int) -> NDArray[Any]:
        """Return a value as it is now; elements not written yet come from the record."""
        if number in self.values:
            return self.values[number]
        if number not in self._pieces:
            self.values[number] = recorded(self.tape)(number)
            return self.values[number]
        if number in self._unseen:
            self.write(number, recorded(self.tape)(number), in_place=True)
            return self.values[number]
        window = self._window(number)
        self.complete(number, window)
        return window

    def complete(self, number: int, window: NDArray[Any]) -> None:
        """Take what has not been written yet from the leaves, or the record."""
        missing = np.isnan(window)
        if missing.any():
            window[missing] = self.source(number)[missing]

    def source(self, number: int) -> NDArray[Any]:
        """Return a value's numbers from outside."""
        given = self.leaves.get(number)
        return recorded(self.tape)(number) if given is None else given

    def write(self, number: int, result: NDArray[Any], *, in_place: bool) -> None:
        """Store a call's result."""
        if number not in self._pieces:
            self.values[number] = as_array(result)
            return
        if in_place:
            # Older values of this memory keep their numbers.
            for older in self.windows.pop(self._pieces[number], ()):
                self.values[older] = self.values[older].copy()
        self._window(number)[...] = result

    def adopts(self, number: int, result: NDArray[Any]) -> bool:
        """Take what a call has made as new memory, if it is all of it, in order; say whether."""
        value, piece = self.tape.values[number], self._pieces.get(number)
        layout = value.layout
        if piece is None or piece in self.buffers or layout is None:
            return False
        flags = result.flags
        owned = flags.owndata and flags.c_contiguous and flags.writeable
        fills = (layout.offset, layout.offset + result.size) == (piece.start, piece.end)
        in_order = tuple(8 * s for s in layout.strides) == result.strides
        if not (owned and fills and in_order and result.dtype == np.float64):
            return False
        if result.shape != value.shape or is_complex(value.dtype):
            return False
        self.buffers[piece] = result.reshape(-1)
        self._window(number)
        return True

    def forget(self, number: int) -> None:
        """Read a value's memory from the record from now on; the value itself stays."""
        if number in self._pieces:
            numbers = self.values[number].copy()
            self.write(number, np.full(numbers.shape, np.nan), in_place=True)
            self.values[number] = numbers

    def begins(self, step: int) -> None:
        """Note that a step begins: they count on from the calls to the node runs."""

    def size(self) -> int:
        """Return how many numbers all buffers together may hold."""
        sizes = (piece.end - piece.start for piece in {*self._pieces.values()})
        return sum(size for size in sizes if size <= self._most)

    def buffer(self, size: int) -> NDArray[np.float64]:
        """Return memory to which nothing has been written."""
        return np.full(size, np.nan)

    def _window(self, number: int) -> NDArray[np.float64]:
        value, piece = self.tape.values[number], self._pieces[number]
        layout = value.layout
        assert layout is not None  # noqa: S101 (it lies in a piece)
        buffer = self.buffers.get(piece)
        if buffer is None:
            if piece.end - piece.start > self._most:
                raise Unjudgeable("few of the numbers of a large tensor are recorded")
            buffer = self.buffers[piece] = self.buffer(piece.end - piece.start)
        reals = 2 if is_complex(value.dtype) else 1
        strides = tuple(8 * reals * s for s in layout.strides)
        begin = buffer[reals * layout.offset - piece.start :]
        kind = np.complex128 if reals == 2 else np.float64
        window = self.values[number] = np.ndarray(value.shape, kind, begin, 0, strides)
        self.windows.setdefault(piece, []).append(number)
        return window


def _rewritten_unseen(tape: Tape) -> Iterator[int]:
    """Yield values in the place of an earlier one where no recorded call has written since."""
    outputs = {n for call in tape.calls for n in call.outputs}
    written: dict[int, list[int]] = {}
    for call in tape.calls:
        for number in call.outputs if call.writes else ():
            layout = None if number is None else tape.values[number].layout
            if number is not None and layout is not None:
                written.setdefault(layout.storage, []).append(number)
    before: dict[tuple[object, ...], int] = {}
    for value in tape.values:
        if value.layout is None:
            continue
        location = (value.layout, value.shape, value.dtype)
        last, before[location] = before.get(location), value.id
        if last is None or value.id in outputs:
            continue
        later = written.get(value.layout.storage, [])
        after = bisect_right(later, last)
        if after == len(later) or later[after] > value.id:
            yield value.id


def _undeclared_writes(call: Call) -> list[int]:
    """Return the values that a call writes, unsaid in its schema: running statistics."""
    if call.base_op != "aten.native_batch_norm" or not call.arguments["training"]:
        return []
    statistics = (call.arguments["running_mean"], call.arguments["running_var"])
    return [number for argument in statistics for number in references(argument)]


def recorded_or_none(tape: Tape, number: int) -> NDArray[Any] | None:
    """Return a value's recorded numbers, or None where there are none."""
    try:
        return recorded(tape)(number)
    except Unjudgeable:
        return None
