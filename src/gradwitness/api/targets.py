"""What the command line is pointed at: ``train.py:step``, run under watch, or a saved recording."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness._errors import (
    GradwitnessError,
    InputError,
    JudgingInterrupted,
    MissingExtraError,
    RuleError,
)
from gradwitness._printable import listed, printable
from gradwitness.api.arguments import AUTO
from gradwitness.api.at_leaves import with_slopes
from gradwitness.api.declared_files import line_of, load_declarations
from gradwitness.api.probe import probe as run_probes
from gradwitness.api.watch import Witness
from gradwitness.files.tape_file import load_tape
from gradwitness.judging.depth import FULL
from gradwitness.judging.numbers import seconds_shown
from gradwitness.judging.recorded import judge
from gradwitness.report.console import console
from gradwitness.report.tables.terminal import relative, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.judging.finding import Report
    from gradwitness.judging.probe_results import Probe
    from gradwitness.tape import Tape


@dataclass(frozen=True)
class Judged:
    """What a target did, the judgement, and what recording cost.

    Attributes
    ----------
    tape : Tape
    report : Report
    cost : str
        Empty for a recording.
    failed : BaseException or None
        What the command must end with, if the program did not come to its own end.
    """

    tape: Tape
    report: Report
    cost: str = ""
    failed: BaseException | None = None


def judged(target: str, keep: int | str | None = AUTO) -> tuple[Tape, Report]:
    """Return what a target did, and the judgement; raise if its program failed."""
    run = run_target(target, keep)
    if run.failed is not None:
        console().print(summary(run.report, run.tape))
        raise run.failed
    return run.tape, run.report


def run_target(
    target: str,
    keep: int | str | None = AUTO,
    rerun: Sequence[str] = (),
    depth: str = FULL,
) -> Judged:
    """Judge a recording or, watched, a program; one that fails, up to there."""
    if target.endswith(".npz"):
        tape = load_tape(Path(target))
        try:
            return Judged(tape, judge(tape, depth=depth))
        except JudgingInterrupted as interrupt:
            return Judged(tape, interrupt.report, failed=interrupt)
    path, function = _program(target)
    if function in rerun:
        if depth != FULL:
            raise InputError(f"--rerun {function} judges in full: leave out --depth {depth}")
        return probes_of(target, rerun, passes=())[0]
    witness = None
    try:
        step, models, names = _loaded(path, function)
        witness = Witness(*models, names=names, saved=True, keep=keep, rerun=rerun, depth=depth)
        with witness:
            step()
    except GradwitnessError as error:
        raise _placed(error) from None
    except BaseException as error:  # noqa: BLE001 (whatever it is, it ends the command)
        if witness is None or not witness.ended:
            raise _failed(target, error, "nothing was judged") from None
        failed = _failed(target, error, "what ran before that was judged")
        return Judged(witness.tape, witness.report, failed=failed)
    took = seconds_shown(witness.seconds)
    cost = f"step      took {took} ({witness.overhead:.0%} recording overhead)"
    try:
        return Judged(witness.tape, witness.report, cost)
    except JudgingInterrupted as interrupt:
        return Judged(witness.tape, interrupt.report, failed=interrupt)


def probes_of(
    target: str, rerun: Sequence[str] = (), passes: Sequence[str] | None = None
) -> tuple[Judged, Probe]:
    """Return what a program's function did, and did under probes.

    If the function itself may run again, its slopes decide what is in question.
    """
    path, function = _program(target)
    try:
        step, models, names = _loaded(path, function)
        again = [name for name in rerun if name != function]
        found = run_probes(step, *models, names=names, passes=passes, saved=True, rerun=again)
        if function in rerun:
            found = replace(found, report=with_slopes(found, step))
    except GradwitnessError as error:
        raise _placed(error) from None
    except BaseException as error:  # noqa: BLE001 (whatever it is, it ends the command)
        option = "--probe" if passes is None else f"--rerun {function}"
        until = f"without {option}, what ran before that is judged"
        raise _failed(target, error, until) from None
    return Judged(found.tape, found.report), found


def _loaded(path: Path, function: str) -> tuple[Callable[[], Any], tuple[Any, ...], dict[str, Any]]:
    """Return a program's function, with its modules and leaf tensors, once all is declared."""
    try:
        from gradwitness.capture.again.target import load_function, subjects
    except ImportError as error:
        raise MissingExtraError(
            f"probing needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    step = load_function(path, function)
    # Afterwards: the declarations may import the program.
    load_declarations(path.resolve().parent)
    return step, *subjects(step)


def _placed(error: GradwitnessError) -> GradwitnessError:
    """Return an error of ours with the line of the program that led to it, if one did."""
    line = line_of(error.__traceback__)
    if isinstance(error, RuleError) and line:
        return RuleError(f"{relative(line)}: {error}")
    return error


def _failed(target: str, error: BaseException, until: str) -> BaseException:
    """Return what the command ends with when the program did not come to its own end.

    Its exit code must be no verdict's: neither that of an error that nobody caught, nor one that
    the program chose.
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, SystemExit):
        return InputError(f"{target} called sys.exit({error.code!r}); {until}")
    # An error of the user's own is theirs to read, whole, but for the line of ours that called it.
    # No text of it may act: not on a terminal, and not on GitHub, where a line starts with "::".
    begun = error.__traceback__.tb_next if error.__traceback__ else None
    shown = "".join(traceback.format_exception(error.with_traceback(begun)))
    shown = re.sub(r"^(\s*)::", r"\1\\::", printable(shown), flags=re.MULTILINE)
    print(shown, end="", file=sys.stderr)  # noqa: T201
    return InputError(f"{target} raised an exception; {until}")


def _program(target: str) -> tuple[Path, str]:
    """Return file and function of a target that is a program."""
    path, colon, function = target.rpartition(":")
    if not colon or not path.endswith(".py"):
        probed = "a recording cannot be probed: probing runs the program" * target.endswith(".npz")
        raise InputError(
            probed
            or f"{target!r} is neither FILE.py:FUNCTION nor a recording (.npz){_functions(target)}"
        )
    return Path(path), function


def _functions(target: str) -> str:
    """Return what functions there are to choose from, if a target is a program without one."""
    try:
        tree = ast.parse(Path(target).read_bytes()) if target.endswith(".py") else None
    except (OSError, SyntaxError, ValueError):
        tree = None
    names = [] if tree is None else [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    return f"; its functions: {listed(names, 8)}" if names else ""
