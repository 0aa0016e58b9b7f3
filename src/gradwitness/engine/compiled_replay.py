"""A replay that is made many times: compiled once, to a flat list of NumPy calls."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import is_inexact
from gradwitness.engine.replay import Replay, replay, replayed
from gradwitness.engine.replay_memory import Memory
from gradwitness.engine.replay_steps import Steps
from gradwitness.engine.traced import Noted, Traced, Untraceable, plain, store, without_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape, Value

    Leaves = Mapping[int, NDArray[np.float64]]


class CompiledReplay:
    """A recording's replay for other leaves: what `replay` gives, in a fraction of the time.

    The rules run once, on arrays that note each NumPy call; from then on only these calls are made,
    on the same arrays. A step whose rule depends on numbers otherwise is computed as `replay` does.

    Parameters
    ----------
    tape : Tape

    Attributes
    ----------
    leaves : tuple of int
        The values that come from outside, by their number on the tape.

    Raises
    ------
    Untraceable
        If something is not a number.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._given: dict[int, NDArray[np.float64]] = {}
        calls: list[Noted] = []
        steps = _Steps(calls)
        self._memory = _Memory(tape, self._given, steps, calls=calls)
        traced = replayed(self._memory)
        if self._memory.has_nan:
            raise Untraceable("NaN")
        seeds = [seed for sweep in tape.sweeps for _, seed in sweep.roots if seed is not None]
        self._reads_record = (
            self._memory.reads_record or steps.reads_record or bool(traced.trusted or seeds)
        )
        self._replay = Replay(plain(traced.values), plain(traced.arriving), traced.trusted)
        self._unwritten = np.isnan(self._memory.all)
        kept = [*self._replay.values.values(), *self._replay.arriving.values(), self._memory.all]
        self._calls = [c for call in without_copies(calls, kept) for c in call.again()]
        begun = [number for number, _, _ in self._memory.begun]
        self.leaves = (*begun, *self._memory.completed)

    def __call__(self, leaves: Leaves) -> Replay:
        """Return the replay with these leaves; its arrays hold until the next one is made."""
        return self._made(leaves) or replay(self._tape, leaves)

    def of(self, tape: Tape) -> Replay | None:
        """Return the replay of another recording; None if it is not one of the same steps.

        Its arrays hold until the next one is made.
        """
        if self._reads_record or not _are_alike(self._tape, tape):
            return None
        return self._made({number: recorded(tape)(number) for number in self.leaves})

    def _made(self, leaves: Leaves) -> Replay | None:
        self._given.clear()
        self._given.update(leaves)
        try:
            for number, window, source in self._memory.begun:
                numbers = leaves.get(number, source)
                if numbers.shape != window.shape:
                    return None
                window[...] = numbers
            with np.errstate(all="ignore"):
                for call in self._calls:
                    call()
        except Unjudgeable:
            return None
        # What is not a number counts as not written: it would come from the record.
        same = np.array_equal(np.isnan(self._memory.all), self._unwritten)
        return self._replay if same else None


def _are_alike(one: Tape, other: Tape) -> bool:
    """Whether two recordings differ in nothing but inexact numbers."""
    return all(
        len(ours) == len(theirs) and all(map(operator.eq, ours, theirs))
        for ours, theirs in (
            (one.calls, other.calls),
            (one.nodes, other.nodes),
            (one.sweeps, other.sweeps),
            tuple([*map(_apart_from_numbers, tape.values)] for tape in (one, other)),
        )
    )


def _apart_from_numbers(value: Value) -> tuple[object, ...]:
    integers = None if value.array is None or is_inexact(value.dtype) else value.array.tobytes()
    return value.shape, value.dtype, value.layout, value.array is None, integers


@dataclass
class _Memory(Memory):
    """The memory of a tape, all in one array, whose windows are traced."""

    calls: list[Noted] = field(kw_only=True)
    begun: list[tuple[int, NDArray[Any], NDArray[Any]]] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)
    has_nan: bool = False
    reads_record: bool = False  # of more than leaves

    def __post_init__(self) -> None:
        super().__post_init__()
        self.all = np.full(self.size(), np.nan)
        self._used = 0

    def buffer(self, size: int) -> NDArray[np.float64]:
        self._used += size
        return self.all[self._used - size : self._used]

    def _window(self, number: int) -> Any:
        window = self.values[number] = Traced(self.calls, super()._window(number))  # type: ignore[assignment]
        return window

    def adopts(self, number: int, result: Any) -> bool:
        """All memory is one array."""
        del number, result
        return False

    def write(self, number: int, result: Any, *, in_place: bool) -> None:
        if isinstance(result, Traced):
            self.has_nan |= bool(np.isnan(result.value).any())
        else:
            self.reads_record = True
        super().write(number, result, in_place=in_place)

    def complete(self, number: int, window: Any) -> None:
        missing = np.isnan(window.value)
        if not missing.any():
            return
        source, given = self.source(number), self.leaves
        self.has_nan |= bool(np.isnan(source[missing]).any())
        if missing.all() and not self.reads_record:
            # Nothing has been written here: it may as well be filled before all calls.
            window.value[...] = source
            self.begun.append((number, window.value, source))
            return

        def fill(window: NDArray[Any]) -> None:
            window[missing] = given.get(number, source)[missing]

        fill(window.value)
        self.completed.append(number)
        self.calls.append(Noted(fill, (window.value,), {}))


class _Known(dict[int, Any]):
    """The operands that a step looked up."""

    def __missing__(self, number: int) -> Any:
        raise Untraceable("an operand depends on a number")


@dataclass
class _Steps(Steps):
    """Steps by the rules on traced arrays; where a rule cannot have these, on plain ones."""

    calls: list[Noted]
    reads_record: bool = False  # of inexact numbers

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        step = super().forward
        return self._taken(lambda known, _: step(tape, call, known), lookup, [])

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        step = super().backward
        return self._taken(lambda known, g: step(tape, node, g, known), lookup, incoming)

    def _taken(
        self,
        step: Callable[[Lookup, list[Any]], tuple[Any, ...]],
        lookup: Lookup,
        incoming: list[Any],
    ) -> tuple[Any, ...]:
        begun = len(self.calls)
        try:
            return step(lambda number: self._read(lookup(number)), [*map(_shared, incoming)])
        except Exception:  # noqa: BLE001 (whatever a rule cannot do with them, it may do with plain ones)
            del self.calls[begun:]
        known, arrived = _Known(), plain(incoming)
        results = step(lambda number: known.setdefault(number, plain(lookup(number))), arrived)
        filled = [None if result is None else np.array(result) for result in results]

        def again(known: _Known, arrived: list[Any], filled: list[Any]) -> None:
            for array, result in zip(filled, step(known.__getitem__, arrived), strict=True):
                if array is not None:
                    store(array, result)

        self.calls.append(Noted(again, (known, arrived, filled), {}))
        return tuple(None if array is None else Traced(self.calls, array) for array in filled)

    def _read(self, array: Any) -> Any:
        self.reads_record |= isinstance(array, np.ndarray) and array.dtype.kind in "fc"
        return _shared(array)


def _shared(array: Any) -> Any:
    """Return an array that a rule may read."""
    return Traced(array.calls, array.value, is_shared=True) if isinstance(array, Traced) else array
