"""The local check of a recording, after the program has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._errors import JudgingInterrupted
from gradwitness._given import require_tape
from gradwitness._process_wide import ONE_BLAS_THREAD
from gradwitness._progress import progress
from gradwitness.engine.replay import steps_of
from gradwitness.judging.depth import FULL
from gradwitness.judging.local import Judge

if TYPE_CHECKING:
    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape


def judge(tape: Tape, replayed: Replay | None = None, *, depth: str = FULL) -> Report:
    """Judge every forward call, backward node and gradient of a recording.

    The KeyboardInterrupt of a Ctrl-C while it runs has the ``report`` up to there.

    Parameters
    ----------
    tape : Tape
    replayed : Replay, optional
        The float64 replay of the same recording, if the caller already has it.
    depth : str, optional
        How thoroughly to judge, as for `watch`.

    Returns
    -------
    Report
        What `watch` would have said, without PyTorch and without running the program.

    Raises
    ------
    InputError
        If ``tape`` is none, or there is no such ``depth``.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import gradwitness
    >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> with gradwitness.watch(names={"w": w}) as witness:
    ...     w.square().sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gradwitness.save_tape(witness.tape, f"{folder}/tape.npz")
    ...     tape = gradwitness.load_tape(f"{folder}/tape.npz")
    >>> report = gradwitness.judge(tape)
    >>> report.verdict
    <Verdict.AGREES: 'AGREES'>
    >>> [(row.name, row.comparison.error) for row in report.rows]
    [('w', 0.0)]
    """
    require_tape(tape, "judge")
    judging = Judge(tape, depth=depth)
    try:
        with ONE_BLAS_THREAD.held():
            _tell(tape, judging)
        return judging.report(tape, replayed)
    except KeyboardInterrupt:
        raise JudgingInterrupted(judging.report_so_far(tape)) from None


def _tell(tape: Tape, judging: Judge) -> None:
    """Tell a judge of each step of a recording, in the order in which they ran."""
    done = 0
    with progress("judging", steps_of(tape), so_far=judging.so_far) as advance:

        def call_up_to(count: int) -> None:
            nonlocal done
            for call in range(done, count):
                judging.called(call)
                advance()
            done = max(done, count)

        for number, sweep in enumerate(tape.sweeps):
            call_up_to(sweep.after)
            judging.begins(number, sweep.roots, sweep.limited_to)
            updates = {update.node: update for update in sweep.leaves}
            for node_run in sweep.node_runs:
                call_up_to(node_run.after)
                judging.node_ran(number, node_run, updates.get(node_run.node))
                advance()
            judging.ends(number, sweep.captured)
        call_up_to(len(tape.calls))
