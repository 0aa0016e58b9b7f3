"""What slopes, hooks and declared gradients leave open, followed to the gradients behind them.

Each is judged relative to the largest number that it sends. Where a parameter lies behind a number
that is much smaller, what is let pass there may be all that arrives. What a declared formula gives
is known, so that the error itself is followed. Of what slopes support, errors of random signs are,
each as large as a single one that they would not have shown: such errors leave about as much of
any number behind them as the worst of the same size.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import unit_roundoff
from gradwitness.engine.replay import backward_pass
from gradwitness.engine.replay_steps import Steps
from gradwitness.judging.comparing.compare import SHARE, unjudged
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.accused import Along
from gradwitness.judging.custom.declarations import DECLARED
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.gradients.meant_hooks import HOOK, far_off, hook_errors
from gradwitness.judging.gradients.reached import in_doubt
from gradwitness.judging.graph_queries import ancestors
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Instead
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.normwise import Judged
    from gradwitness.judging.finding import Row
    from gradwitness.tape import Tape

_HIDDEN = (
    "an error that the slopes of {names} would not show, beside the largest number that it sends, "
    "may be {off:.2g} of what arrives here: run it in a wider format (float64)"
)
_OFF = (
    "what {names} sends is near to what was declared, beside its largest number, but {off:.2g} of "
    "what arrives here is off: run it in a wider format (float64)"
)
# How often random errors are followed.
_DRAWS = 2
# So many roundings of its terms are what is left of a gradient that is zero.
_ROUNDINGS = 64


class _Source(NamedTuple):
    """A step that leaves something open, and an error of it, which may be drawn anew.

    What is no larger ``share`` of what arrives has not been amplified.
    """

    finding: Finding
    error: Callable[[], NDArray[Any]]
    share: float


def with_left_open(
    tape: Tape,
    findings: Sequence[Finding],
    rows: Sequence[Row],
    records: Records,
    off: Mapping[tuple[int, int, int], NDArray[Any]],
) -> tuple[list[Row], list[Finding]]:
    """Return rows in doubt of an error that a step may hide under its largest number; the doubts.

    Nothing is known where values were freed.

    Parameters
    ----------
    tape : Tape
    findings : sequence of Finding
    rows : sequence of Row
    records : Records
    off : mapping of (pass, node, edge) to ndarray
        Errors beside declared gradients, from `hidden`.
    """
    result = list(rows)
    doubts: list[Finding] = []
    agreed = [f for f in findings if f.verdict is Verdict.AGREES and f.sweep is not None]
    for sweep in {f.sweep or 0 for f in agreed if _is_open(f)} if tape.replayable else ():
        of_pass = _Pass(tape, sweep, records)
        own = [f for f in agreed if f.sweep == sweep]
        # Numbers that were not recorded are not followed.
        with suppress(Unjudgeable):
            doubts += _doubts(of_pass, of_pass.declared(own, off), result, _OFF)
            doubts += _doubts(of_pass, of_pass.measured(own), result, _HIDDEN)
    return result, doubts


def _doubts(
    of_pass: _Pass, sources: Sequence[_Source], rows: list[Row], text: str
) -> Iterator[Finding]:
    """Yield the doubts about rows, and replace these."""
    for k, share in of_pass.shares(sources, rows).items() if sources else ():
        before = ancestors(of_pass.tape, {rows[k].node})
        on_its_way = [s for s in sources if s.finding.node in before]
        if share > max([SHARE, *(s.share for s in on_its_way)]):
            reason = text.format(names=_names(of_pass.tape, on_its_way), off=share)
            title = f"the gradient of {rows[k].name}"
            yield Finding(Step.ACCUMULATE, title, unjudged(reason), sweep=rows[k].sweep)
            rows[k] = in_doubt(rows[k], reason)


def hidden(judged: Judged, sent: int | None, expected: Any, records: Records) -> Any:
    """Return how far what was sent is off a declared gradient, see `far_off`; None for nothing."""
    is_near = judged.comparison.verdict is Verdict.AGREES and judged.grade.startswith(DECLARED)
    if not is_near or sent is None or expected is None:
        return None
    return far_off(records(sent), expected.value)


def _is_open(finding: Finding) -> bool:
    is_declared = finding.grade.startswith((DECLARED, HOOK))
    return is_declared or (finding.comparison.hides > 0 and not isinstance(finding, Along))


def _names(tape: Tape, sources: Sequence[_Source]) -> str:
    def name(finding: Finding) -> str:
        if finding.grade.startswith(HOOK):
            return finding.grade.removeprefix("declared by the program: ").partition(" sends ")[0]
        return tape.nodes[finding.node or 0].name.removesuffix("Backward")

    return listed(list(dict.fromkeys(name(source.finding) for source in sources)))


class _Pass:
    """A backward pass, through which errors are followed as the rules pass gradients on."""

    def __init__(self, tape: Tape, number: int, records: Records) -> None:
        self.tape = tape
        self._number = number
        self._records = records
        self._runs = {run.node: run for run in tape.sweeps[number].node_runs}
        self._generator = np.random.default_rng(0)

    def declared(
        self, findings: Sequence[Finding], off: Mapping[tuple[int, int, int], NDArray[Any]]
    ) -> list[_Source]:
        """Return the steps that are near to what was declared, with how far off they are."""
        hooks = hook_errors(self.tape, self._records, self.tape.sweeps[self._number])
        sources = []
        for f in findings:
            node, error = f.node or 0, None
            if f.grade.startswith(HOOK):
                error = hooks.get((node, f.step, f.tensor_nr))
            elif f.grade.startswith(DECLARED):
                error = off.get((self._number, node, f.tensor_nr))
            if error is not None:
                share = f.comparison.detects_relative
                sources.append(_Source(f, partial(np.asarray, error), share))
        return sources

    def measured(self, findings: Sequence[Finding]) -> list[_Source]:
        """Return the steps that slopes support, with errors that these would not have shown."""
        sources = []
        for f in findings:
            if not f.comparison.hides or isinstance(f, Along):
                continue
            number = self._runs[f.node or 0].outgoing[f.tensor_nr]
            if number is None:
                continue
            sent = self._records(number)
            size = float(np.linalg.norm(sent.ravel()) / np.sqrt(max(sent.size, 1)))
            # What stays below ten times the same share of what it sends was not amplified.
            share = f.comparison.hides / (SHARE * size) if size else np.inf
            sources.append(_Source(f, self._hidden(f.comparison.hides, sent.shape), share))
        return sources

    def _hidden(self, size: float, shape: tuple[int, ...]) -> Callable[[], NDArray[Any]]:
        return lambda: size * self._signs(shape)

    def shares(self, sources: Sequence[_Source], rows: Sequence[Row]) -> dict[int, float]:
        """Return which share of a gradient's largest number may arrive of errors, by row."""
        arriving = [self.follow(sources) for _ in range(_DRAWS)]
        found: dict[int, float] = {}
        terms: dict[tuple[int, int], Any] | None = None
        for k, row in enumerate(rows):
            at, number = (row.node, row.input_nr), row.value
            change = max(largest(changes.get(at, 0.0)) for changes in arriving)
            counts = row.sweep == self._number and row.verdict is Verdict.AGREES
            if not counts or number is None or not change:
                continue
            size = largest(self._records(number))
            if change > SHARE * size and terms is None:
                terms = self.follow([s._replace(error=self._mixed(s)) for s in sources])
            beside = largest((terms or {}).get(at, 0.0))
            # Where its terms cancel, an error counts beside them.
            if size <= _ROUNDINGS * unit_roundoff(row.dtype) * beside:
                size = beside
            found[k] = change / size if size else np.inf
        return found

    def _mixed(self, source: _Source) -> Callable[[], NDArray[Any]]:
        """Return what a step sent, with random signs."""
        f = source.finding
        run = self._runs[f.node or 0]
        number = (run.incoming if f.step is Step.FAN_IN else run.outgoing)[f.tensor_nr]
        assert number is not None  # noqa: S101 (there is an error of it)
        sent = self._records(number)
        return lambda: sent * self._signs(sent.shape)

    def _signs(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return self._generator.choice([-1.0, 1.0], shape)

    def follow(self, sources: Sequence[_Source]) -> dict[tuple[int, int], Any]:
        """Return what arrives anywhere of the errors of some steps."""
        arriving: dict[int, dict[int, Any]] = defaultdict(dict)
        leaving: dict[int, dict[int, Any]] = defaultdict(dict)
        for source in sources:
            f = source.finding
            changes = arriving if f.step is Step.FAN_IN else leaving
            changes[f.node or 0][f.tensor_nr] = source.error()
        declared = {s.finding.node for s in sources if s.finding.grade.startswith(DECLARED)}
        instead = {
            n: self._sending(n, arriving[n], leaving[n], passes=n not in declared)
            for n in {*arriving, *leaving}
        }
        # Beyond a step that the rules cannot follow, nothing is known to arrive.
        return backward_pass(self.tape, self._number, {}, instead)[0]

    def _sending(
        self, number: int, arriving: dict[int, Any], leaving: dict[int, Any], *, passes: bool
    ) -> Instead:
        node = self.tape.nodes[number]

        def sent(incoming: list[Any]) -> list[Any]:
            changes = [_added(g, arriving.get(k)) for k, g in enumerate(incoming)]
            passed: Sequence[Any] = [None] * len(node.edges)
            if passes and any(change is not None for change in changes):
                with suppress(Unjudgeable):
                    passed = Steps().backward(self.tape, node, changes, recorded(self.tape))
            return [_added(g, leaving.get(k)) for k, g in enumerate(passed)]

        return sent


def _added(g: Any, more: Any) -> Any:
    return more if g is None else g if more is None else g + more
