"""The command line. Exit codes: 0 all agree, 1 something disagrees, 2 bad input, 3 inconclusive."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import gradwitness
from gradwitness import experiment
from gradwitness._errors import GradwitnessError, InputError, MissingExtraError
from gradwitness.check.local import judge
from gradwitness.files.tape_file import load_tape
from gradwitness.probe import probe as run_probes
from gradwitness.report.experiment import full, write_folder
from gradwitness.report.explain import explain as explain_all
from gradwitness.report.graph import draw
from gradwitness.report.probes import probe_record, probes
from gradwitness.report.record import dumps, outcome_record, report_record
from gradwitness.report.rules_text import rule_text, rules_table
from gradwitness.report.save import save_picture, save_report
from gradwitness.report.terminal import console, summary
from gradwitness.report.trace import trace

if TYPE_CHECKING:
    from gradwitness.check.finding import Report
    from gradwitness.check.probed import Probe
    from gradwitness.tape import Tape

app = typer.Typer(
    help="An independent witness for gradients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Preset = Annotated[str, typer.Option(help="default, sigmoid or conv")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.command()
def run(
    preset: Preset = "default",
    inputs: Annotated[int | None, typer.Option(help="number of inputs, d")] = None,
    hidden: Annotated[int | None, typer.Option(help="number of hidden layers, K")] = None,
    width: Annotated[int | None, typer.Option(help="units of a hidden layer [2d+1]")] = None,
    activation: Annotated[
        str | None, typer.Option(help="relu, sigmoid, tanh, identity, gelu, silu")
    ] = None,
    activate_input: Annotated[
        bool | None, typer.Option(help="an activation after the first layer too")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="square, product, mse, l1")] = None,
    batch: Annotated[int | None, typer.Option(help="samples")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64, bfloat16")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of weights and data")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="an .npz with all weights, instead of random ones")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the files")] = Path("out"),
    json: Json = False,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="[ENTRY]", help="the derivation; or of one entry: hidden3.weight[2,5]"
        ),
    ] = None,
) -> None:
    """Run the experiment: gradients by autograd and from scratch, two files, compared, drawn."""
    changes = {
        "inputs": inputs,
        "hidden": hidden,
        "width": width,
        "activation": activation,
        "activate_input": activate_input,
        "loss": loss,
        "batch": batch,
        "dtype": dtype,
        "seed": seed,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    config = experiment.preset(preset, **given)
    outcome = experiment.run(config, None if weights is None else experiment.load_weights(weights))
    derivation = None
    if explain is not None:
        derivation = _derivation(outcome.tape, outcome.report, explain)
    written = write_folder(out, outcome)
    if json:
        typer.echo(dumps(outcome_record(outcome)), nl=False)
    else:
        shown = console()
        shown.print(full(outcome))
        if derivation is not None:
            shown.print()
            shown.print(derivation, markup=False, soft_wrap=True)
        names_of_files = " ".join(path.name for path in written)
        shown.print(f"\nwritten to {out}: {names_of_files}", markup=False, soft_wrap=True)
    raise typer.Exit(outcome.verdict.exit_code)


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="train.py:step, or a saved tape (.npz)")],
    save: Annotated[
        list[Path] | None,
        typer.Option(help="also write .txt, .json, .svg, .dot, .pdf, .png or .npz (the tape)"),
    ] = None,
    json: Json = False,
    explain: Annotated[
        str | None, typer.Option(metavar="[ENTRY]", help="the derivation, or that of one entry")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="also try other cotangents and moved parameters, which hide no fault"
        ),
    ] = False,
) -> None:
    """Check a training step, or a recorded tape: every forward call, every backward node."""
    probed = _probed(target) if probe else None
    if probed is None:
        tape, report, cost = _judged(target)
    else:
        tape, report, cost = probed.tape, probed.report, ""
    derivation = None if explain is None else _derivation(tape, report, explain)
    for path in save or ():
        save_report(path, tape, report)
    if json:
        added = {} if probed is None else {"probe": probe_record(probed)}
        typer.echo(dumps(report_record(report) | added), nl=False)
    else:
        shown = console()
        shown.print(summary(report, tape))
        if cost:
            shown.print(cost)
        if probed is not None:
            shown.print(probes(probed))
        if derivation is not None:
            shown.print()
            shown.print(derivation, markup=False, soft_wrap=True)
    raise typer.Exit((report if probed is None else probed).verdict.exit_code)


@app.command()
def graph(
    target: Annotated[
        str | None, typer.Argument(help="train.py:step or a tape; without it, a preset")
    ] = None,
    preset: Preset = "conv",
    out: Annotated[Path, typer.Option("--out", "-o", help=".svg, .dot, .pdf or .png")] = Path(
        "graph.svg"
    ),
) -> None:
    """Draw the labelled autograd graph."""
    if target is None:
        outcome = experiment.run(experiment.preset(preset))
        tape, report = outcome.tape, outcome.report
        title, subtitle = f"Autograd graph of the {preset} preset", outcome.config.describe()
    else:
        tape, report, _ = _judged(target)
        title, subtitle = f"Autograd graph of {Path(target).name}", ""
    save_picture(out, draw(tape, report, title=title, subtitle=subtitle))
    console().print(
        f"{len(tape.nodes)} nodes, {report.verdict.value}: {out}", markup=False, soft_wrap=True
    )
    raise typer.Exit(report.verdict.exit_code)


@app.command()
def rules(
    name: Annotated[
        str | None, typer.Argument(help="an operation or an autograd node; without it, all")
    ] = None,
) -> None:
    """Show the rules: formulas, gradients, and what each autograd node means."""
    console().print(rules_table() if name is None else rule_text(name))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gradwitness {gradwitness.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="and exit")
    ] = False,
) -> None:
    del version


def _judged(target: str) -> tuple[Tape, Report, str]:
    """Return what a target did, the judgement, and what recording cost."""
    if target.endswith(".npz"):
        tape = load_tape(Path(target))
        return tape, judge(tape), ""
    path, function = _program(target)
    witness = gradwitness.Witness(saved=True)
    from gradwitness.capture.target import load_function

    # An error of the user's own is theirs to read, whole; exit code 1 would say DISAGREES.
    try:
        step = load_function(path, function)
        with witness:
            step()
    except GradwitnessError:
        raise
    except Exception:  # noqa: BLE001 (whatever it is, it is shown, and ends the command)
        if witness.ended:
            console().print(summary(witness.report, witness.tape))
        traceback.print_exc()
        raise InputError(f"{target} failed by itself; what ran before that is judged") from None
    cost = f"recorded  in {witness.seconds:.3g} s, {witness.overhead:.0%} of it recording"
    return witness.tape, witness.report, cost


def _probed(target: str) -> Probe:
    """Return what a program's function did, and did under probes."""
    path, function = _program(target)
    try:
        from gradwitness.capture.target import load_function
    except ImportError as error:
        raise MissingExtraError(
            f"probing needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    try:
        return run_probes(load_function(path, function), saved=True)
    except GradwitnessError:
        raise
    except Exception:  # noqa: BLE001 (whatever it is, it is shown, and ends the command)
        traceback.print_exc()
        raise InputError(
            f"{target} failed by itself; without --probe, what ran before that is judged"
        ) from None


def _program(target: str) -> tuple[Path, str]:
    """Return file and function of a target that is a program."""
    path, colon, function = target.rpartition(":")
    if not colon or not path.endswith(".py"):
        probed = "a tape cannot be probed, for that runs the program" * target.endswith(".npz")
        raise InputError(
            probed or f"{target!r} is neither FILE.py:FUNCTION nor a tape ending in .npz"
        )
    return Path(path), function


def _derivation(tape: Tape, report: Report, wanted: str) -> str:
    return explain_all(tape, report) if wanted == _ALL else trace(tape, report, wanted)


_ALL = "all"


def _with_explain_value(arguments: list[str]) -> list[str]:
    """Let ``--explain`` stand alone: it then explains everything."""
    completed = []
    for place, word in enumerate(arguments):
        completed.append(word)
        following = arguments[place + 1 : place + 2]
        if word == "--explain" and (not following or following[0].startswith("-")):
            completed.append(_ALL)
    return completed


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors on purpose become one line and exit code 2."""
    words = _with_explain_value(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words, prog_name="gradwitness")
    except GradwitnessError as error:
        Console(stderr=True, highlight=False).print(
            f"gradwitness: {error}", markup=False, soft_wrap=True
        )
        raise SystemExit(2) from None
