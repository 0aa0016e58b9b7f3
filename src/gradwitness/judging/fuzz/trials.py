"""One trial of a function: its inputs are drawn, its backward is held against its slopes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.judging.custom.slopes import Claim, measure
from gradwitness.judging.fuzz.axes import Axis, changed
from gradwitness.judging.fuzz.drawn import CONTIGUOUS, Drawn, is_float, memory
from gradwitness.judging.fuzz.numbers import holding, properties
from gradwitness.judging.fuzz.short_step import over_a_short_step, usual_slope
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.fuzz.axes import Group, Inputs
    from gradwitness.judging.fuzz.drawn import Subject

COTANGENT = "the cotangent"
# Numbers of a trial's inputs and results, together.
_MOST = 2**17
# How far inputs are moved, of their size, and by how much a gradient may then change.
_ROUNDED, _TREMBLING = 2.0**-44, 1e-4
# A slope that is nothing beside that of the first trial: rounding errors where all cancels.
_NOTHING = 1e-9
# How often slopes over longer steps, which take long, may tell nothing.
_PATIENCE = 4
# Backward runs in float64: what it is off by more than so many bits is no rounding.
_DTYPE = "float32"
# Seconds by the clock for each second of the processor.
_WAITING = 3.0


class Deadline:
    """When trials have to end.

    That is by the time of the processor, since how busy the machine is must not matter; of what
    waits, for a device or another process, by the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._processor = time.process_time() + seconds
        self._clock = time.monotonic() + _WAITING * seconds

    @property
    def is_past(self) -> bool:
        """Whether it is later."""
        return time.process_time() > self._processor or time.monotonic() > self._clock


@dataclass(frozen=True)
class Trial:
    """What is other than in the case that the trials began with.

    Attributes
    ----------
    sizes : mapping of Group to int
        Lengths of axes.
    one : (Axis, int) or None
        The length of an axis along which the input is broadcast, or, if that is not 1, no longer.
    memories : mapping of int to str
        How inputs lie in memory.
    cotangent : str
        How the cotangents do; empty for as they did.
    numbers : tuple of int, str and bool, or None
        An input, and a property that its numbers shall have or lack.
    scaled : tuple of int and float, or None
        An input, and what its numbers are multiplied by.
    drawn : bool
        Whether the cotangents are drawn, and not those that were recorded.
    shuffled : bool
        Whether the inputs hold their numbers in another order.
    repeat : int
        The same with other numbers.
    """

    sizes: Mapping[Group, int] = field(default_factory=dict)
    one: tuple[Axis, int] | None = None
    memories: Mapping[int, str] = field(default_factory=dict)
    cotangent: str = ""
    numbers: tuple[int, str, bool] | None = None
    scaled: tuple[int, float] | None = None
    drawn: bool = True
    shuffled: bool = False
    repeat: int = 0


@dataclass(frozen=True)
class Result:
    """How a trial ended.

    Attributes
    ----------
    trial : Trial
    wrong : tuple of int
        The inputs whose gradients are not the slopes.
    facts : dict of tuple to (int or bool)
        Lengths of groups and other properties, by what they are properties of.
    """

    trial: Trial
    wrong: tuple[int, ...]
    facts: Mapping[tuple[Any, ...], Any]


class Court:
    """Tries a function.

    Parameters
    ----------
    subject : Subject
    inputs : dict of int to Drawn
        What the trials begin with.
    groups : list of Group
    cotangents : sequence of (Drawn or None), optional
        Those that were recorded, if the inputs are.
    unseen : float
        How far from the slopes a gradient may be, of its size.
    until : Deadline
    most : int
        How many trials there may be.
    """

    def __init__(
        self,
        subject: Subject,
        inputs: Inputs,
        groups: Sequence[Group],
        cotangents: Sequence[Drawn | None] = (),
        *,
        unseen: float,
        until: Deadline,
        most: int = 400,
    ) -> None:
        self.subject = subject
        self.inputs = inputs
        self.groups = groups
        # Axes of length 1 that cannot change alone: broadcast to another's length.
        free = {axis for group in groups for axis in group}
        shapes = {number: drawn.array.shape for number, drawn in inputs.items()}
        axes = (
            Axis(n, k) for n, shape in shapes.items() for k, size in enumerate(shape) if size == 1
        )
        self.stuck = [axis for axis in axes if axis not in free]
        self.keeps_numbers = False
        self.tried = 0
        self._cotangents = cotangents
        self._unseen = unseen
        self._patience = _PATIENCE
        self._usual: dict[int, float] = {}
        self._until = until
        self._most = most
        self._known: dict[str, Result | None] = {}

    @property
    def results(self) -> list[Result]:
        """The trials that told something."""
        return [result for result in self._known.values() if result is not None]

    @property
    def is_over(self) -> bool:
        """Whether there is no time for another trial."""
        return self._until.is_past or self.tried >= self._most

    def keep_numbers(self, results: Sequence[Result]) -> None:
        """Try no other numbers from now on, nor shapes, which need some; dismiss some trials."""
        self.keeps_numbers = True
        self.groups, self.stuck = [], []
        self._known |= {repr(result.trial): None for result in results}

    def size(self, group: Group) -> int:
        """Return the length of a group's axes before anything was changed."""
        number, axis = group[0]
        return int(self.inputs[number].array.shape[axis])

    def tries(self, *trials: Trial) -> list[Result]:
        """Return what comes of some trials, as far as there is time; what tells nothing, is none.

        Each is made once.
        """
        found = []
        for trial in trials:
            key = repr(trial)
            if key not in self._known and not self.is_over:
                self.tried += 1
                try:
                    self._known[key] = self._ran(trial)
                except Unjudgeable:
                    self._known[key] = None
            result = self._known.get(key)
            found += [] if result is None else [result]
        return found

    def _ran(self, trial: Trial) -> Result | None:
        rng = np.random.default_rng(trial.repeat)
        inputs = self._inputs(trial, rng)
        if sum(drawn.array.size for drawn in inputs.values()) > _MOST:
            return None
        results = self.subject.forward(inputs)
        if sum(0 if y is None else y.size for y in results) > _MOST:
            return None
        arrived = self._arriving(trial, results, rng)
        sent = self.subject.backward(inputs, arrived)
        verdicts = {n: self._verdict(inputs, n, sent[n], arrived) for n in self.subject.graded}
        wrong = tuple(n for n, verdict in verdicts.items() if verdict is Verdict.DISAGREES)
        if not wrong and Verdict.AGREES not in verdicts.values():
            return None
        return Result(trial, wrong, self._facts(trial, inputs, results, arrived))

    def _inputs(self, trial: Trial, rng: np.random.Generator) -> Inputs:
        sizes = {axis: size for group, size in trial.sizes.items() for axis in group}
        sizes |= dict([trial.one] if trial.one else [])
        inputs = changed(self.inputs, sizes, rng)
        if trial.shuffled:
            inputs = {
                n: Drawn(rng.permutation(d.array.ravel()).reshape(d.array.shape), d.memory)
                for n, d in inputs.items()
            }
        for number, kind in trial.memories.items():
            array = inputs[number].array
            inputs[number] = Drawn(array, memory(kind, array.ndim))
        if trial.scaled is not None:
            number, factor = trial.scaled
            inputs[number] = Drawn(factor * inputs[number].array, inputs[number].memory)
        if trial.numbers is not None:
            number, name, wanted = trial.numbers
            array = holding(inputs[number].array, name, wanted=wanted, rng=rng)
            inputs[number] = Drawn(array, inputs[number].memory)
        return inputs

    def _arriving(
        self, trial: Trial, results: Sequence[NDArray[Any] | None], rng: np.random.Generator
    ) -> list[Drawn | None]:
        """Return the cotangents: those that were recorded, or others, as they lay in memory."""
        arrived: list[Drawn | None] = []
        for k, y in enumerate(results):
            before = self._cotangents[k] if k < len(self._cotangents) else None
            unused = self._cotangents and before is None
            if y is None or unused or not is_float(y):
                arrived.append(None)
                continue
            same = before is not None and before.array.shape == y.shape
            if same and not trial.drawn:
                arrived.append(before)
                continue
            lying = CONTIGUOUS if before is None or before.array.ndim != y.ndim else before.memory
            lying = memory(trial.cotangent, y.ndim) if trial.cotangent else lying
            arrived.append(Drawn(rng.standard_normal(y.shape), lying))
        return arrived

    def _verdict(
        self,
        inputs: Inputs,
        number: int,
        sent: NDArray[Any],
        arrived: Sequence[Drawn | None],
    ) -> Verdict:
        at = inputs[number].array
        finite = np.isfinite(sent)
        given = [None if g is None else g.array for g in arrived]
        claim = Claim(
            0, number, at, np.where(finite, sent, 0.0), _DTYPE, given, (), unseen=self._unseen
        )
        again = _Again(self.subject, inputs, self._until)
        first = self._usual.setdefault(number, usual_slope(claim))
        verdict = over_a_short_step(again, claim, nothing=_NOTHING * first)
        if verdict is Verdict.DISAGREES and self._trembles(inputs, arrived, claim):
            return Verdict.INCONCLUSIVE
        if verdict is Verdict.INCONCLUSIVE and finite.all() and self._patience:
            # A function that rounds on its way may be seen to be right over longer steps.
            found = measure(again, claim).verdict
            self._patience -= found is not Verdict.AGREES
            return found if found is Verdict.AGREES else verdict
        if verdict is Verdict.AGREES and not finite.all():
            # It is no number where the function has a slope.
            return Verdict.DISAGREES
        return verdict

    def _trembles(self, inputs: Inputs, arrived: Sequence[Drawn | None], claim: Claim) -> bool:
        """Whether rounding the inputs would change a gradient, as that of a singular matrix.

        Equal numbers stay equal, and a 0 stays 0.
        """
        moved = {
            n: Drawn(d.array * (1 + _ROUNDED * np.sin(1e4 * d.array)), d.memory)
            if is_float(d.array)
            else d
            for n, d in inputs.items()
        }
        again = self.subject.backward(moved, arrived)[claim.value]
        change = np.nan_to_num(again, posinf=0.0, neginf=0.0) - claim.sent
        return bool(np.linalg.norm(change) > _TREMBLING * np.linalg.norm(claim.sent))

    def _facts(
        self,
        trial: Trial,
        inputs: Inputs,
        results: Sequence[NDArray[Any] | None],
        arrived: Sequence[Drawn | None],
    ) -> dict[tuple[Any, ...], Any]:
        facts: dict[tuple[Any, ...], Any] = {}
        for group in self.groups:
            facts["length", group] = trial.sizes.get(group, self.size(group))
        for number, drawn in inputs.items():
            facts |= _lying(number, [drawn])
            facts["broadcast", number] = any(
                size == 1 and along > 1
                for y in results
                if y is not None
                for size, along in zip(drawn.array.shape[::-1], y.shape[::-1], strict=False)
            )
            for name, holds in properties(drawn.array).items():
                facts[name, number] = holds
            if is_float(drawn.array):
                facts["largest", number] = float(np.max(np.abs(drawn.array), initial=0.0))
        return facts | _lying(COTANGENT, [g for g in arrived if g is not None])


class _Again:
    """A function at the inputs of a trial, of which one moves."""

    def __init__(self, subject: Subject, inputs: Inputs, until: Deadline) -> None:
        self._subject = subject
        self._inputs = inputs
        self._until = until

    def run(self, moved: Mapping[int, NDArray[np.float64]]) -> Sequence[Any]:
        if self._until.is_past:
            raise Unjudgeable("it takes too long")
        # Along an axis of stride 0 no number could move alone.
        drawn = {n: Drawn(array, self._inputs[n].memory.dense) for n, array in moved.items()}
        return self._subject.forward({**self._inputs, **drawn})


def _lying(what: Any, tensors: Sequence[Drawn]) -> dict[tuple[Any, ...], Any]:
    return {
        ("strided", what): not all(drawn.is_contiguous for drawn in tensors),
        ("expanded", what): any(drawn.memory.repeats(drawn.array.shape) for drawn in tensors),
    }
