"""A replay that is made many times: compiled once, to a flat list of NumPy calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.replay import Replay, replay, replayed
from gradwitness.engine.replay_memory import Memory
from gradwitness.engine.replay_steps import Steps
from gradwitness.engine.traced import Noted, Traced, Untraceable, plain, store, without_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape

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
        self._memory = _Memory(tape, self._given, _Steps(calls), calls=calls)
        traced = replayed(self._memory)
        if self._memory.has_nan:
            raise Untraceable("NaN")
        self._replay = Replay(plain(traced.values), plain(traced.arriving), traced.trusted)
        self._unwritten = np.isnan(self._memory.all)
        kept = [*self._replay.values.values(), *self._replay.arriving.values(), self._memory.all]
        self._calls = [c for call in without_copies(calls, kept) for c in call.again()]
        self.leaves = tuple(self._memory.filled)

    def __call__(self, leaves: Leaves) -> Replay:
        """Return the replay with these leaves; its arrays hold until the next one is made."""
        self._given.clear()
        self._given.update(leaves)
        try:
            with np.errstate(all="ignore"):
                for call in self._calls:
                    call()
        except Unjudgeable:
            return replay(self._tape, leaves)
        if not np.array_equal(np.isnan(self._memory.all), self._unwritten):
            # What is not a number counts as not written: it comes from the record.
            return replay(self._tape, leaves)
        return self._replay


@dataclass
class _Memory(Memory):
    """The memory of a tape, all in one array, whose windows are traced."""

    calls: list[Noted] = field(kw_only=True)
    filled: list[int] = field(default_factory=list)
    has_nan: bool = False

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

    def write(self, number: int, result: Any, *, in_place: bool) -> None:
        self.has_nan |= isinstance(result, Traced) and bool(np.isnan(result.value).any())
        super().write(number, result, in_place=in_place)

    def complete(self, number: int, window: Any) -> None:
        missing = np.isnan(window.value)
        if not missing.any():
            return
        source, whole, given = self.source(number), missing.all(), self.leaves

        def fill(window: NDArray[Any]) -> None:
            numbers = given.get(number, source)
            if whole:
                store(window, numbers)
            else:
                window[missing] = numbers[missing]

        fill(window.value)
        self.has_nan |= bool(np.isnan(window.value).any())
        self.filled.append(number)
        self.calls.append(Noted(fill, (window.value,), {}))


class _Known(dict[int, Any]):
    """The operands that a step looked up."""

    def __missing__(self, number: int) -> Any:
        raise Untraceable("an operand depends on a number")


@dataclass
class _Steps(Steps):
    """Steps by the rules on traced arrays; where a rule cannot have these, on plain ones."""

    calls: list[Noted]

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
            return step(lambda number: _shared(lookup(number)), [_shared(g) for g in incoming])
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


def _shared(array: Any) -> Any:
    return Traced(array.calls, array.value, is_shared=True) if isinstance(array, Traced) else array
