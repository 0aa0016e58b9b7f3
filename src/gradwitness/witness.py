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
from gradwitness.check.local import Judge
from gradwitness.check.verdict import Verdict
from gradwitness.report.save import save_report
from gradwitness.report.terminal import as_text, summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from types import TracebackType

    import torch

    from gradwitness.check.finding import Report
    from gradwitness.tape import Tape

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
        If ``keep`` is negative.
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
        """The gravest verdict of all."""
        return self.report.verdict

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
        if self.verdict is not Verdict.AGREES:
            raise GradientDisagreement(f"{self.verdict.value}\n{self}")

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
