"""The public face: a context manager around training code, and what it says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gradwitness._errors import (
    GradientDisagreement,
    GradwitnessError,
    InputError,
    MissingExtraError,
)
from gradwitness.api.claims import ClaimCheck, judge_claims
from gradwitness.judging.local import Judge
from gradwitness.report.faults import faults_of
from gradwitness.report.save import save_report
from gradwitness.report.tables.terminal import as_text, summary
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike
    from types import TracebackType

    import torch

    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape
    from gradwitness.verdict import Fault

KEEP = 2**30  # bytes


class Witness:
    """Records a block of training code and judges every gradient in it.

    ``with gradwitness.watch(model) as witness: ...`` makes one. Nothing can be asked of it before
    the block ends; what ran before an exception is judged all the same.

    Parameters
    ----------
    *models : torch.nn.Module
        Models that give parameters and modules their names. A module that is called inside the
        block names itself, so there may be none.
    names : mapping of str to Tensor, optional
        Names for other tensors.
    saved : bool
        Record saved tensors too, for the drawing.
    keep : int or None
        Each step is judged as it happens. Numbers that no step needs any more are kept up to so
        many bytes, for the float64 replay (the column ``digits``), the drawing and the tape file;
        past them they are let go as soon as their step is judged. None keeps all.

    Attributes
    ----------
    ended : bool
        Whether the block has ended, so that there is a verdict.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    InputError
        If ``keep`` is negative, a model is no module, or a name is given to what is no tensor.
    """

    def __init__(
        self,
        *models: torch.nn.Module,
        names: Mapping[str, torch.Tensor] | None = None,
        saved: bool = False,
        keep: int | None = KEEP,
    ) -> None:
        if keep is not None and keep < 0:
            raise InputError(f"keep={keep} bytes: give 0 or more, or None to keep all")
        for model in models:
            if not hasattr(model, "named_modules"):
                raise InputError(f"watch takes models (torch.nn.Module), not {_kind(model)}")
        for name, tensor in (names or {}).items():
            if not hasattr(tensor, "untyped_storage"):
                raise InputError(f"names: {name!r} is to name a tensor, not {_kind(tensor)}")
        try:
            from gradwitness.capture import Recorder
        except ImportError as error:
            raise MissingExtraError(
                f"recording needs PyTorch ({error}): pip install 'gradwitness[torch]'"
            ) from None
        self._recorder = Recorder(*models, names=names, saved=saved, room=keep)
        self._judge = Judge(self._recorder.growing(), self._recorder.functions())
        self.ended = False

    def __enter__(self) -> Self:
        if self.ended:
            raise InputError("this block was watched already: make another by gradwitness.watch")
        self._recorder.start(self._judge)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._recorder.stop()
        self.ended = True
        self._report = self._judge.report(self.tape)
        del self._judge

    @property
    def tape(self) -> Tape:
        """What happened."""
        return self._recorder.tape

    @property
    def report(self) -> Report:
        """Every finding.

        Raises
        ------
        GradwitnessError
            Before the block has ended.
        """
        if not self.ended:
            raise GradwitnessError("there is no verdict before the watched block has ended")
        return self._report

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all."""
        return self.report.verdict

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The root causes: the steps at fault or, if there is none, those that leave a doubt."""
        return faults_of(self.report, self.tape)

    @property
    def overhead(self) -> float:
        """Share of the block's wall time that went into recording, 0 to 1."""
        return self._recorder.overhead

    @property
    def seconds(self) -> float:
        """Wall time of the watched block."""
        return self._recorder.seconds

    def __str__(self) -> str:
        return as_text(summary(self.report, self.tape))

    def require(self) -> None:
        """Raise unless every step and every gradient agrees.

        Raises
        ------
        GradientDisagreement
            If something disagrees, or could not be judged; the message is the report.
        """
        __tracebackhide__ = True  # pytest then shows the line that asked
        if self.verdict is not Verdict.AGREES:
            raise GradientDisagreement(f"{self.verdict.value}\n{self}", self.faults)

    def check_claims(
        self, claims: Any, *, sweep: int | None = None, dtype: str | None = None
    ) -> ClaimCheck:
        """Judge gradients that somebody else computed for this program.

        Parameters
        ----------
        claims
            A dict of arrays or tensors by the parameters' names, a file, or a function that returns
            such a dict.
        sweep : int, optional
            Which backward pass they are about, from 1. By default the one that fits best, or the
            sum of the passes so far if that fits better; the result says which.
        dtype : str, optional
            The format that they were computed in; by default as the claims tell.

        Raises
        ------
        InputError
            If the claims cannot be read, or there is nothing to judge them against.
        """
        return judge_claims(self.tape, self.report, claims, sweep=sweep, dtype=dtype)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report; the ending chooses the form.

        Parameters
        ----------
        path : path
            ``.txt`` the table, ``.json`` every figure, ``.svg`` ``.dot`` ``.pdf`` ``.png`` the
            labelled graph, ``.npz`` the tape.

        Raises
        ------
        InputError
            If the ending is another, or the file cannot be written.
        """
        save_report(Path(path), self.tape, self.report)


def _kind(item: object) -> str:
    return f"{type(item).__name__} {item!r:.60}"


def watch(
    *models: torch.nn.Module,
    names: Mapping[str, Any] | None = None,
    saved: bool = False,
    keep: int | None = KEEP,
) -> Witness:
    """Watch a block of training code: ``with watch(model) as witness: ...``.

    See `Witness` for the parameters.
    """
    return Witness(*models, names=names, saved=saved, keep=keep)


def check(
    model: torch.nn.Module,
    *inputs: Any,
    loss: Callable[[Any], torch.Tensor] | None = None,
    claims: Any,
    dtype: str | None = None,
) -> ClaimCheck:
    """Judge gradients that somebody else computed for a model.

    The model is run forward and backward once, watched; its parameters, buffers, ``.grad``, modes
    and random numbers are left as they were.

    Parameters
    ----------
    model : torch.nn.Module
    *inputs
        What it is called with.
    loss : callable, optional
        Makes one number of the model's output; needless if that is one.
    claims
        A dict of arrays or tensors by the parameters' names, a file, or a function that returns
        such a dict.
    dtype : str, optional
        The format that they were computed in; by default as the claims tell.

    Returns
    -------
    ClaimCheck

    Raises
    ------
    InputError
        If the claims cannot be read, or there is no number to run backward from.
    MissingExtraError
        If torch is not installed.
    """
    try:
        from gradwitness.capture.once import left_alone, run_once
    except ImportError as error:
        raise MissingExtraError(
            f"running a model needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    with left_alone(model, inputs):
        with Witness(model, keep=None) as witness:
            run_once(model, inputs, loss)
        return judge_claims(witness.tape, witness.report, claims, dtype=dtype)
