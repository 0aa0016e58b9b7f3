"""References for claims about a recorded program: pass, format and allowances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._errors import InputError
from gradwitness.claims.align import align
from gradwitness.claims.decimals import finite_numbers
from gradwitness.engine.floats import is_float, part, round_to, unit_roundoff
from gradwitness.engine.monte_carlo import GRADE, NodeInput, Spread, spread
from gradwitness.engine.replay import replay
from gradwitness.judging.claimed.judge import ClaimReport, Program, Reference, judge_run
from gradwitness.judging.comparing.compare import CANCELS
from gradwitness.judging.gradients.unseen import cut_short
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Claims, Run
    from gradwitness.judging.finding import Report, Row
    from gradwitness.tape import Tape

# This many different numbers do not all fit a coarser format by chance.
_TELLING = 32
# From the coarsest on.
_FORMATS = ("bfloat16", "float16", "float32")

Parts: TypeAlias = "dict[str, tuple[NodeInput, ...]]"


@dataclass(frozen=True)
class _Choice:
    """Gradients that claims may be about, with a description."""

    text: str
    sweep: int
    parts: Parts


class Judged:
    """Judges claims about one recorded program.

    Parameters
    ----------
    tape : Tape
    report : Report
        Its judgement.

    Raises
    ------
    InputError
        If the program computed no gradient, or its numbers were freed.
    """

    def __init__(self, tape: Tape, report: Report) -> None:
        broken = cut_short(tape, report.rows)
        reasons = (*tape.failures, *(finding.comparison.reason for finding in broken))
        if not report.rows:
            why = next(iter(reasons), "the program computed no gradient")
            raise InputError(f"nothing to compare claims with: {why}")
        if not tape.replayable:
            raise InputError(
                "the recording freed the numbers that claims are compared with; "
                "watch(..., keep=None) keeps them all"
            )
        self._tape = tape
        self._rows = report.rows
        # With half a recording, right claims would be refuted.
        self._broken = next(iter(reasons), "")
        self._replay = replay(tape)
        self._spreads: dict[tuple[str, str], Spread] = {}

    def runs(
        self, claims: Claims, *, sweep: int | None = None, dtype: str | None = None
    ) -> tuple[ClaimReport, ...]:
        """Judge every run of a source.

        Parameters
        ----------
        claims : Claims
        sweep : int, optional
            The backward pass they are about, from 1; default: the one that fits best.
        dtype : str, optional
            The format they were computed in; default: read from the source.
        """
        require_format(dtype)
        choices = self._choices(sweep)
        several = len(claims.runs) > 1
        return tuple(
            self._run(run, choices, dtype, claims.source + f", run {n}" * several, claims.notes)
            for n, run in enumerate(claims.runs, 1)
        )

    def answers(self) -> dict[str, NDArray[np.float64]]:
        """Return the right gradients, all passes added up."""
        parts = self._choices(None)[-1].parts
        gradients = {name: self._value(input_nrs) for name, input_nrs in parts.items()}
        return {name: value for name, value in gradients.items() if value is not None}

    def _run(
        self,
        run: Run,
        choices: list[_Choice],
        dtype: str | None,
        source: str,
        notes: tuple[str, ...],
    ) -> ClaimReport:
        choice = choices[0]
        if len(choices) > 1:
            choice = min(choices, key=lambda c: self._misfit(run, c))
            notes = (*notes, f"compared with {choice.text}, which fits best")
        if dtype is None:
            dtype, why = computed_in(run, self._recorded_format())
            notes = (*notes, why) if why else notes
        return judge_run(
            run,
            self._references(choice, dtype),
            dtype,
            source=source,
            against=f"the witness's float64 replay of {choice.text}",
            grade=GRADE,
            notes=notes,
            program=Program(self._tape, self._replay, choice.sweep),
        )

    def _choices(self, sweep: int | None) -> list[_Choice]:
        count = len(self._tape.sweeps)
        if sweep is not None and not 1 <= sweep <= count:
            raise InputError(f"no backward pass {sweep}: the program ran {count}")
        single = [_parts(self._rows, [k]) for k in range(count)]
        choices = [
            _Choice(f"pass {k + 1} of {count}" if count > 1 else "the backward pass", k, parts)
            for k, parts in enumerate(single)
            if parts and sweep in (None, k + 1)
        ]
        if sweep is None:
            # A `.grad` that is not cleared between passes holds their sum.
            for k in range(1, count):
                if single[k].keys() & {name for parts in single[:k] for name in parts}:
                    summed = _parts(self._rows, range(k + 1))
                    choices.append(_Choice(f"passes 1 to {k + 1} added up", k, summed))
        if not choices:
            raise InputError(f"backward pass {sweep} computed no gradient to compare with")
        return choices

    def _misfit(self, run: Run, choice: _Choice) -> tuple[int, float]:
        """Return how badly a run fits: by unmatched tensors, then by distances."""
        values = {name: self._value(input_nrs) for name, input_nrs in choice.parts.items()}
        present = {name: value for name, value in values.items() if value is not None}
        pairs = align(run, {name: value.shape for name, value in present.items()}).pairs
        return -len(pairs), sum(_apart(c.array, present[name]) for name, c in pairs.items())

    def _value(self, input_nrs: tuple[NodeInput, ...]) -> NDArray[np.float64] | None:
        parts = [g for input_nr in input_nrs if (g := self._replay.gradient(*input_nr)) is not None]
        return np.asarray(sum(parts[1:], parts[0])) if parts else None

    def _references(self, choice: _Choice, dtype: str) -> dict[str, Reference]:
        key = choice.text, dtype
        if key not in self._spreads:
            inputs = list(choice.parts.values())
            self._spreads[key] = spread(self._tape, self._replay, inputs, dtype)
        estimate = self._spreads[key]
        references = {}
        for name, input_nrs in choice.parts.items():
            if input_nrs in estimate.references:
                rows = [r for r in self._rows if (r.sweep, r.node, r.input_nr) in input_nrs]
                cancels = all(row.comparison.reason == CANCELS for row in rows)
                allowance = estimate.allowance(input_nrs)
                value = estimate.references[input_nrs]
                references[name] = Reference(
                    value,
                    allowance,
                    self._doubt(rows),
                    cancels=cancels,
                    doubtful_to=math.inf if self._broken else 0.0,
                )
        return references

    def _doubt(self, rows: list[Row]) -> str:
        """Return why the witness cannot vouch for a gradient's replay, or an empty string."""
        if self._broken:
            return f"the recording breaks off: {self._broken}"
        if not self._replay.trusted:
            return ""
        doubtful = (row.reason for row in rows if row.verdict is Verdict.INCONCLUSIVE)
        return next((f"the witness took numbers on trust: {reason}" for reason in doubtful), "")

    def _recorded_format(self) -> str:
        formats = {part(row.dtype) for row in self._rows if is_float(part(row.dtype))}
        return max(formats, key=unit_roundoff, default="float32")


def require_format(dtype: str | None) -> None:
    """Raise `InputError` if claims cannot be judged in a format."""
    if dtype is not None and not is_float(dtype):
        raise InputError(
            f"claims cannot be judged in {dtype!r}; use float64, float32, float16 or bfloat16"
        )


def computed_in(run: Run, recorded: str) -> tuple[str, str]:
    """Return the format that claims were computed in, and a note about how it is known.

    A binary source names its format, but numbers get widened on their way (NumPy has no bfloat16,
    JSON no float32); then all of them fit the original format.
    """
    formats = {claim.dtype for claim in run.values() if is_float(claim.dtype)}
    dtype = max(formats, key=unit_roundoff, default=recorded)
    coarser = [f for f in _FORMATS if unit_roundoff(f) > unit_roundoff(dtype)]
    if all(map(_is_precise, run.values())):
        for fitting in _that_fit(run, coarser):
            stored = f"stored as {dtype}" if formats else "no dtype given"
            return fitting, f"{stored}, but all are {fitting} numbers: judged as {fitting}"
    return dtype, "" if formats else f"no dtype given; assuming {recorded}"


def _that_fit(run: Run, formats: list[str]) -> list[str]:
    """Return the formats that hold all finite numbers of a run, if these are enough to tell."""
    arrays = [claim.array for claim in run.values()] if formats else []
    if not _are_telling(arrays):
        return []
    for array in arrays:
        for numbers in finite_numbers(array):
            formats = [f for f in formats if np.array_equal(round_to(numbers, f), numbers)]
            if not formats:
                return []
    return formats


def _are_telling(arrays: list[NDArray[Any]]) -> bool:
    """Whether there are many different magnitudes among finite numbers."""
    known = np.zeros(0)
    for array in arrays:
        for numbers in finite_numbers(array):
            size = np.abs(numbers)
            known = np.union1d(known, size[~np.isin(size, known)])
            if known.size >= _TELLING:
                return True
    return False


def _is_precise(claim: Claim) -> bool:
    """Whether a claim is written down as precisely as float32, or more so."""
    if not np.any(claim.rounding):
        return True
    size = np.abs(claim.array.astype(np.float64))
    return bool(np.all((claim.rounding <= unit_roundoff("float32") * size) | ~(size > 0)))


def _parts(rows: tuple[Row, ...], sweeps: Iterable[int]) -> Parts:
    """Return by name where the gradients of some passes arrive."""
    parts: Parts = {}
    for sweep in sweeps:
        in_pass: Parts = {}
        for row in rows:
            if row.sweep == sweep:
                in_pass.setdefault(row.name, ((row.sweep, row.node, row.input_nr),))
        for name, input_nrs in in_pass.items():
            parts[name] = (*parts.get(name, ()), *input_nrs)
    return parts


def _apart(claimed: NDArray[Any], value: NDArray[np.float64]) -> float:
    """Return the distance of two tensors relative to the larger one, at most 1."""
    if claimed.shape != value.shape:
        return 1.0
    numbers = claimed.astype(np.float64)
    size = max(float(np.max(np.abs(array), initial=0.0)) for array in (numbers, value))
    distance = float(np.max(np.abs(numbers - value), initial=0.0))
    return 0.0 if distance == 0 else min(1.0, distance / size) if np.isfinite(size) else 1.0
