"""The experiment over many seeds, in as many processes as there are cores."""

from __future__ import annotations

import math
import shlex
import signal
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradwitness._errors import ConfigError, InputError
from gradwitness._progress import progress
from gradwitness.engine.compiled_replay import CompiledReplay
from gradwitness.engine.replay import replay
from gradwitness.engine.traced import Untraceable
from gradwitness.experiment.outcome import run
from gradwitness.experiment.processes import processes_for, working
from gradwitness.experiment.weights import load_weights
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.experiment.config import Config
    from gradwitness.tape import Tape

    Weights = Mapping[str, NDArray[Any]]

_MOST_SEEDS = 10**7
# What is handed to each process ahead of time, so that none waits.
_AHEAD = 4


class Figures(NamedTuple):
    """What is told of one gradient: see `Comparison` and `Row`."""

    error: float
    ratio: float
    detects_relative: float
    digits: float


class OneSeed(NamedTuple):
    """What came of one seed.

    ``ratio`` is the largest error over bound of all its steps, ``step`` is that step's title;
    ``reason`` says why it does not agree.
    """

    seed: int
    verdict: Verdict
    reason: str
    ratio: float
    step: str
    elements: int
    gradients: dict[str, tuple[tuple[int, ...], Figures]]


class Extreme(NamedTuple):
    """A figure, and the seed that has it."""

    figure: float
    seed: int


@dataclass
class Worst:
    """The worst figures of one gradient: the largest, but of ``digits`` the fewest."""

    shape: tuple[int, ...]
    figures: dict[str, Extreme] = field(default_factory=dict)

    def add(self, seed: int, figures: Figures) -> None:
        """Take a seed's figures in."""
        for name, figure in figures._asdict().items():
            if not math.isnan(figure):
                new = Extreme(figure, seed)
                sign = -1 if name == "digits" else 1
                self.figures[name] = max(new, self.figures.get(name, new), key=_rank(sign))


def _rank(sign: int) -> Callable[[Extreme], tuple[float, int]]:
    """Of equal figures the lowest seed's counts: the order of their ends does not show."""
    return lambda extreme: (sign * extreme.figure, -extreme.seed)


@dataclass
class Seeds:
    """What came of many seeds.

    Attributes
    ----------
    config : Config
        Of the first seed.
    asked, processes : int
    weights : str
        The file of the weights, or an empty string.
    verdicts : Counter of Verdict
    ratios : list of float
        The largest error over bound of each seed.
    worst : OneSeed or None
        The seed with the largest of them.
    apart : list of OneSeed
        The seeds that do not agree.
    gradients : dict of str to Worst
    elements : int
        How many numbers were judged.
    is_interrupted : bool
    """

    config: Config
    asked: int
    processes: int
    weights: str = ""
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    ratios: list[float] = field(default_factory=list)
    worst: OneSeed | None = None
    apart: list[OneSeed] = field(default_factory=list)
    gradients: dict[str, Worst] = field(default_factory=dict)
    elements: int = 0
    is_interrupted: bool = False

    @property
    def done(self) -> int:
        """How many seeds are done."""
        return self.verdicts.total()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all seeds; INCONCLUSIVE at best if some did not run."""
        return worst([*self.verdicts, *[Verdict.INCONCLUSIVE] * self.is_interrupted])

    @property
    def exit_code(self) -> int:
        """The exit code of a command with this result."""
        return 128 + signal.SIGINT if self.is_interrupted else self.verdict.exit_code

    def command(self, seed: int | None = None) -> str:
        """Return the command that runs one seed again, or all of them."""
        words = [replace(self.config, seed=self.config.seed if seed is None else seed).command()]
        words += [] if seed is not None else [f"--seeds {self.asked}"]
        words += [f"--weights {shlex.quote(self.weights)}"] if self.weights else []
        return " ".join(words)

    def add(self, one: OneSeed) -> None:
        """Take one seed in."""
        self.verdicts[one.verdict] += 1
        self.elements += one.elements
        if not math.isnan(one.ratio):
            self.ratios.append(one.ratio)
            if self.worst is None or (one.ratio, -one.seed) > (self.worst.ratio, -self.worst.seed):
                self.worst = one
        if one.verdict is not Verdict.AGREES:
            self.apart.append(one)
        for name, (shape, figures) in one.gradients.items():
            self.gradients.setdefault(name, Worst(shape)).add(one.seed, figures)


class Runner:
    """Runs one seed after the other, and compiles the replay of the first.

    Parameters
    ----------
    config : Config
    weights : mapping of str to ndarray or None
    """

    def __init__(self, config: Config, weights: Weights | None) -> None:
        self._config = config
        self._weights = weights
        self._compiled: CompiledReplay | None = None

    def __call__(self, seed: int) -> OneSeed:
        """Run one seed."""
        config = replace(self._config, seed=seed)
        report = run(config, self._weights, self._replayed).report
        ratios = [
            (f.comparison.ratio, f.title)
            for f in report.findings
            if not math.isnan(f.comparison.ratio)
        ]
        ratio, step = max(ratios, default=(math.nan, ""), key=lambda pair: pair[0])
        first = report.first_wrong
        reasons = report.reasons().most_common(1)
        gradients = {
            row.name: (
                row.shape,
                Figures(
                    row.comparison.error,
                    row.comparison.ratio,
                    row.comparison.detects_relative,
                    row.digits,
                ),
            )
            for row in report.rows
        }
        return OneSeed(
            seed,
            report.verdict,
            first.title if first is not None else reasons[0][0] if reasons else "",
            ratio,
            step,
            report.coverage()["elements"].judged,
            gradients,
        )

    def _replayed(self, tape: Tape) -> Replay:
        if self._compiled is None:
            try:
                self._compiled = CompiledReplay(tape)
            except Untraceable:
                return replay(tape)
        return self._compiled.of(tape) or replay(tape)


def run_seeds(config: Config, count: int, weights: Path | None = None) -> Seeds:
    """Run a configuration with so many seeds, from its own on; Ctrl-C ends it early.

    ``weights`` is a file of weights to use with every seed.

    Raises
    ------
    ConfigError
        If the number of seeds is invalid.
    InputError
        If the weights do not fit or are not finite, or a process was ended from outside.
    MissingExtraError
        If torch is not installed.
    """
    if not 1 <= count <= _MOST_SEEDS:
        raise ConfigError(f"seeds is {count}; it must be from 1 to {_MOST_SEEDS:,}")
    replace(config, seed=config.seed + count - 1)  # which is checked
    seeds = range(config.seed, config.seed + count)
    found = Seeds(config, count, processes_for(count), str(weights or ""))
    runner = Runner(config, None if weights is None else load_weights(weights))
    try:
        with progress("running", count, "seeds") as advance:
            for one in _each(runner, seeds, found.processes):
                found.add(one)
                advance()
    except KeyboardInterrupt:
        if not found.done:
            raise
        found.is_interrupted = True
    found.apart.sort(key=lambda one: (-one.verdict.severity, one.seed))
    return found


def _each(runner: Callable[[int], OneSeed], seeds: range, processes: int) -> Iterator[OneSeed]:
    """Yield what comes of each seed, in the order in which they are done."""
    if processes == 1:
        yield from map(runner, seeds)
        return
    left = iter(seeds)
    with working(runner, processes) as submit:
        pending = set(map(submit, islice(left, _AHEAD * processes)))
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield future.result()
                except BrokenProcessPool:
                    raise InputError(
                        "a process that ran seeds was ended from outside, perhaps for want of "
                        "memory: run fewer numbers, or on fewer cores (taskset)"
                    ) from None
            pending |= set(map(submit, islice(left, len(done))))
