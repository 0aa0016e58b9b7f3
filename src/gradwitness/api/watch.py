"""The public face: a context manager around training code, and what it says afterwards."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gradwitness._errors import GradientDisagreement, GradwitnessError, InputError
from gradwitness.api.arguments import AUTO, recorder_class, require_usable, room_for, share
from gradwitness.api.awaited import Awaited
from gradwitness.api.claims import ClaimCheck, at_least_one, judge_claims
from gradwitness.api.sampling import BUDGET, NOT_ENDED, NOT_WATCHED, sampling_of, watched_block
from gradwitness.judging.depth import FAST, FULL, SAMPLE, known_depth
from gradwitness.judging.finding import ALL, Report, rests_on
from gradwitness.judging.left_out import found
from gradwitness.judging.local import Judge
from gradwitness.report.console import as_text
from gradwitness.report.faults import faults_of
from gradwitness.report.save import save_report
from gradwitness.report.tables.terminal import summary
from gradwitness.tape import Tape
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from os import PathLike
    from types import TracebackType

    import torch

    from gradwitness.capture import Recorder
    from gradwitness.report.page.subject import Sections
    from gradwitness.verdict import Fault


class Witness:
    """A block of training code, recorded and judged step by step.

    Use it through `watch`. The verdict exists once the block has ended; if the block raises,
    whatever ran before the exception is judged.

    Parameters
    ----------
    *models, names, saved, keep, judge, rerun, depth, budget
        As for `watch`.

    Attributes
    ----------
    ended : bool
        Whether the block has ended, and a verdict exists.
    watched : bool
        Whether the block is watched: always, but with ``depth="sample"``.
    share : float
        The probability that a step of it is looked at: 1, but with ``depth="sample"``.
    sampling : Sampling or None
        With ``depth="sample"``: of how many ``blocks`` how many were ``watched``, and the ``cost``.

    Raises
    ------
    MissingExtraError, InputError
        As for `watch`.

    Examples
    --------
    A backward that forgets its factor is the first wrong step:

    >>> import torch
    >>> import gradwitness
    >>> class Double(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g
    >>> w = torch.ones(3, requires_grad=True)
    >>> with gradwitness.watch(names={"w": w}) as witness:
    ...     Double.apply(w).sum().backward()
    >>> witness.verdict
    <Verdict.DISAGREES: 'DISAGREES'>
    >>> wrong = witness.report.first_wrong
    >>> wrong.title
    'DoubleBackward #1, gradient of x (input 0)'
    >>> wrong.comparison.recorded, wrong.comparison.expected
    (1.0, 2.0)
    >>> witness.require()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gradwitness.GradientDisagreement: DISAGREES
    ...
    """

    def __init__(
        self,
        *models: torch.nn.Module,
        names: Mapping[str, torch.Tensor] | None = None,
        saved: bool = False,
        keep: int | str | None = AUTO,
        judge: str = ALL,
        rerun: bool | Collection[Any] = (),
        depth: str = FULL,
        budget: float | None = None,
    ) -> None:
        begun = time.perf_counter()
        self._judging = rests_on(judge)
        room = room_for(keep, known_depth(depth, SAMPLE))
        budget = BUDGET if budget is None else share(budget, depth)
        require_usable(models, names or {}, rerun)
        self.ended = False
        self.sampling = sampling_of(models, budget) if depth == SAMPLE else None
        self.share = 1.0 if self.sampling is None else self.sampling.share()
        self.watched = self.share > 0
        self._recorder: Recorder | None = None
        if self.watched:
            depth = FAST if depth == SAMPLE else depth
            record = recorder_class()
            self._recorder = record(*models, names=names, saved=saved, room=room, rerun=rerun)
            functions = self._recorder.functions()
            self._judge = Judge(self._recorder.growing(), functions, depth, self.share)
        self._spent = time.perf_counter() - begun

    def __enter__(self) -> Self:
        if self.ended:
            raise InputError(
                "this witness has watched a block already: make another with gradwitness.watch"
            )
        begun = time.perf_counter()
        if self._recorder is not None:
            self._recorder.start(self._judge)
        self._begun = time.perf_counter()
        self._spent += self._begun - begun
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        over = time.perf_counter()
        if self._recorder is None:
            self._end(Awaited(Report((), (), depth=SAMPLE), judge=self._judging), over)
            return
        with self._recorder.concluding():
            self._recorder.stop(error)
            try:
                report = Awaited(*self._judge.conclude(self.tape), self._judging)
            except KeyboardInterrupt:
                # A second interrupt leaves no verdict.
                self._end(Awaited(self._judge.report_so_far(self.tape), judge=self._judging), over)
                raise
            self._end(report, over)
            del self._judge

    def _end(self, report: Awaited, over: float) -> None:
        """Take a report; ``over`` is when the block itself ended."""
        self._report, self.ended = report, True
        if self.sampling is not None:
            now, of, watched = time.perf_counter(), self._recorder, None
            seconds, spent = self._spent + now - self._begun, self._spent + now - over
            if of is not None:
                watched = watched_block(report.first, self._judge, self._spent + of.recording)
                spent += of.spent
            self.sampling.ended(seconds, spent, watched)

    @property
    def tape(self) -> Tape:
        """The recording: every call, node and gradient of the block."""
        return Tape((), (), (), ()) if self._recorder is None else self._recorder.tape

    @property
    def report(self) -> Report:
        """The judgement of every step and every gradient.

        If all agree, the float64 replay, which tells how many digits are right, is made at the
        first access.

        Raises
        ------
        GradwitnessError
            If the block has not ended yet.
        """
        return self._judged.whole

    @property
    def _judged(self) -> Awaited:
        if not self.ended:
            raise GradwitnessError(NOT_ENDED)
        return self._report

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all steps and gradients."""
        return self._judged.first.verdict

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The root causes: the wrong steps or, failing that, those that could not be judged."""
        return faults_of(self.report, self.tape)

    @property
    def overhead(self) -> float:
        """The share of the block's wall time spent on recording, from 0 to 1."""
        return 0.0 if self._recorder is None else self._recorder.overhead

    @property
    def seconds(self) -> float:
        """The wall time of the block; 0 if it was not watched."""
        return 0.0 if self._recorder is None else self._recorder.seconds

    def __str__(self) -> str:
        if not self.ended:
            return f"{NOT_ENDED}."
        said = as_text(summary(self.report, self.tape)) if self.watched else NOT_WATCHED
        return said if self.sampling is None else f"{said}\n{self.sampling}"

    def _repr_html_(self) -> str | None:
        from gradwitness.report.page.inline import write_inline

        if not self.watched:
            return f"<pre>{self}</pre>"
        if not self.ended:
            return None
        sampled = "" if self.sampling is None else f"<pre>{self.sampling}</pre>"
        return write_inline(self.tape, self.report) + sampled

    def show(self) -> None:
        """Open the report as a page in the browser; a printed line says where it is."""
        from gradwitness.api.pages import show
        from gradwitness.report.page.subject import Subject

        page = Subject(self.tape, self.report, self.verdict, sections=self._sections())
        print(show(page, ()))  # noqa: T201 (asked for)

    def _sections(self) -> Sections:
        """Return what a page says besides, of a block that was watched."""
        if not self.watched:
            raise InputError(f"{NOT_WATCHED}; ask `witness.watched` first")
        return () if self.sampling is None else (("One block of many", str(self.sampling)),)

    def require(self, *, digits: float | None = None) -> None:
        """Raise unless every step and every gradient agrees.

        A block that was not watched passes, and so does one of which nothing that was looked at is
        wrong or in doubt: ``watched`` and ``share`` tell, and so does the text.

        Parameters
        ----------
        digits : float, optional
            Let a disagreement pass that has at least so many right digits. They are counted
            against the largest number of the gradient: an error of 2e-11 of it leaves 10.7. What
            is absent, not finite or of another shape has none, and an integer is right or wrong. A
            gradient that inherits an error passes if the float64 replay confirms as many of its
            own digits. What could not be judged passes with no number of digits.

        Raises
        ------
        GradientDisagreement
            If something disagrees or could not be judged. The message is the report.
        InputError
            If ``digits`` is less than 1.
        """
        __tracebackhide__ = True  # pytest then shows the line that asked
        report = replace(self._judged.first, digits=at_least_one(digits))
        if self.watched and (verdict := found(report)) is not Verdict.AGREES:
            said = as_text(summary(report, self.tape))
            raise GradientDisagreement(f"{verdict.value}\n{said}", faults_of(report, self.tape))

    def check_claims(
        self, claims: Any, *, sweep: int | None = None, dtype: str | None = None
    ) -> ClaimCheck:
        """Judge gradients that something else computed for this program.

        Parameters
        ----------
        claims : mapping, path, callable or Claims
            As for `check`.
        sweep : int, optional
            The backward pass that the claims belong to, counted from 1. By default the one they fit
            best, or the sum of all passes up to it if they fit that better; the result says which.
        dtype : str, optional
            The dtype that the claims were computed in. By default that of the claims themselves.

        Returns
        -------
        ClaimCheck

        Raises
        ------
        InputError
            If the claims cannot be read, or there is nothing to judge them against.
        """
        return judge_claims(self.tape, self.report, claims, sweep=sweep, dtype=dtype)

    def save(self, path: str | PathLike[str], *, redact: bool = False) -> None:
        """Write the report, the graph or the recording; the extension decides which.

        Parameters
        ----------
        path : str or path-like
            ``.txt`` for the table, ``.json`` for every figure, ``.html`` for a page of all of it,
            ``.svg``, ``.dot``, ``.pdf`` or ``.png`` for the labelled graph, ``.npz`` for the
            recording.
        redact : bool, optional
            Leave source lines and values out of the page.

        Raises
        ------
        InputError
            If the extension is not supported, the file cannot be written, or the block was not
            watched.
        """
        save_report(Path(path), self.tape, self.report, redact=redact, sections=self._sections())


def watch(
    *models: torch.nn.Module,
    names: Mapping[str, torch.Tensor] | None = None,
    saved: bool = False,
    keep: int | str | None = AUTO,
    judge: str = ALL,
    rerun: bool | Collection[Any] = (),
    depth: str = FULL,
    budget: float | None = None,
) -> Witness:
    """Record a block of training code and judge every gradient in it.

    Several losses, backward passes, accumulation, AMP and optimizer steps may all happen in the
    block. Watching changes nothing in the program.

    Parameters
    ----------
    *models : torch.nn.Module
        Models whose parameters and modules give the report its names. Optional: a module that is
        called inside the block is found by itself.
    names : mapping of str to Tensor, optional
        Names for tensors that belong to no model.
    saved : bool, optional
        Also record the tensors that each node saved for backward, to show them in the graph.
    keep : int, None or "auto", optional
        How many bytes of recorded values to keep after the steps that need them have been judged.
        Kept values serve the float64 replay (the ``digits`` column), the graph and the saved
        recording. 0 frees every value as soon as possible; None keeps them all. By default all are
        kept up to 16 MiB, and what the replay starts from and steps in doubt need up to 1 GiB:
        then the recording cannot be saved. With ``depth="fast"``, none are. What it takes to
        measure slopes after the block is kept besides, up to 256 MiB or as many bytes.
    judge : str, optional
        What the verdict rests on: ``all``, or the ``gradients``. Then doubts about the results of
        the forward pass (an operator without a rule) are counted apart.
    rerun : bool or collection, optional
        Custom functions that may run again after the block: classes, or names such as ``"Solver"``
        and ``"mylib::solve"``. A gradient that is not the derivative of a function's recorded
        forward is compared with the function's slopes, for which it runs some 50 times, outside of
        autograd and with copies of its operands; if it is wrong, forward and backward run some 30
        times more, with other strides. By default only functions do that are known to be pure;
        True allows all, False none. Those that talk to other processes never run again.
    depth : str, optional
        How thoroughly to judge: ``full``, every number against float64; or ``fast``, at a
        fraction of that cost: products by random projections, other steps by some of their
        numbers, and whatever looks odd in full. What that may miss is in the report. The float64
        replay is left out. ``sample``, for a training loop that makes a witness for each of its
        steps: the first two blocks are watched, then a random share, ``fast``; no others are. Of
        dear blocks, a random share of the steps is looked at.
    budget : float, optional
        With ``depth="sample"``: what watching may cost, as a share of the time that the blocks take
        without it; 0.01 by default. The account is kept by the first model, or for the process.

    Returns
    -------
    Witness
        A context manager. Ask it for the verdict after the block.

    Raises
    ------
    MissingExtraError
        If PyTorch is not installed.
    InputError
        If ``keep`` is negative, ``judge`` or ``depth`` is none of its words, a model is not a
        ``torch.nn.Module``, a named object is not a tensor, or ``budget`` is no share.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> with gradwitness.watch(model) as witness:
    ...     model(torch.ones(2, 3)).square().mean().backward()
    >>> witness.verdict
    <Verdict.AGREES: 'AGREES'>
    >>> [row.name for row in witness.report.rows]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> witness.report.coverage()["gradients"]
    Coverage(judged=4, total=4)
    """
    further: Any = {"keep": keep, "judge": judge, "rerun": rerun, "depth": depth, "budget": budget}
    return Witness(*models, names=names, saved=saved, **further)
