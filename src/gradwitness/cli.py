"""The command line. Exit codes: 0 all agree, 1 something disagrees, 2 bad input, 3 inconclusive.

Each command imports what it needs, so that ``--help`` and mistyped words are answered at once.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

import gradwitness
from gradwitness._ending import Ended, exit_code, failure
from gradwitness._errors import InputError
from gradwitness.commands.compare import compare
from gradwitness.commands.graph import graph
from gradwitness.commands.reference import rules, schema
from gradwitness.commands.run import run
from gradwitness.commands.shared import ALL, Json, derivation_of, show_all
from gradwitness.files.memory import bounded_memory
from gradwitness.report.save import TEXTS, endings, materials_of, require_ending
from gradwitness.report.save import save as save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from gradwitness.report.save import Materials

app = typer.Typer(
    help="An independent witness for gradients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Dtype = Annotated[
    str | None, typer.Option(help="dtype of the claims [default: read from the source]")
]
ClaimFiles = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="a file of gradients from elsewhere, to judge and explain"),
]
Sweep = Annotated[
    int | None, typer.Option("--pass", help="the backward pass that the claims are about, from 1")
]
SaveTexts = Annotated[
    list[Path] | None, typer.Option(help=f"also write a file ({endings(*TEXTS)}); repeatable")
]
Digits = Annotated[
    float | None,
    typer.Option(help="let a disagreement pass that has so many right digits [default: none]"),
]
Judged = Annotated[str, typer.Option(help="all, or gradients: doubts about results stand apart")]
Depth = Annotated[
    str, typer.Option(help="full, or fast: a fraction of the cost, says what it may miss")
]


app.command()(run)


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="train.py:step, or a saved recording (.npz)")],
    save: Annotated[
        list[Path] | None,
        typer.Option(help=f"also write a file ({endings()}; .npz is the recording); repeatable"),
    ] = None,
    json: Json = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="[ENTRY]", help="print the derivation, or only that of ENTRY"),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="also test with random cotangents and perturbed parameters, which can expose "
            "hidden faults",
        ),
    ] = False,
    rerun: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a custom function, or the step itself, that may run again to measure its slopes; "
            "repeatable",
        ),
    ] = None,
    show_page: Annotated[
        bool, typer.Option("--open", help="show the report as a page in the browser")
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="leave source lines and values out of the page")
    ] = False,
    github: Annotated[
        bool, typer.Option("--github", help="also annotate wrong steps in a GitHub workflow")
    ] = False,
    sarif: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="also write what was found as SARIF, for code hosts"),
    ] = None,
    claims: ClaimFiles = None,
    sweep: Sweep = None,
    dtype: Dtype = None,
    digits: Digits = None,
    judge: Judged = "all",
    depth: Depth = "full",
) -> None:
    """Check every forward call and backward node of a training step or a recording."""
    # First: whoever mistypes a name should not wait for the program.
    from gradwitness.api.arguments import AUTO
    from gradwitness.api.claims import at_least_one, judge_claims
    from gradwitness.api.pages import checked_record, page_of, show
    from gradwitness.api.targets import probes_of, run_target
    from gradwitness.claims.sources import read_claims
    from gradwitness.judging.depth import FULL, known_depth
    from gradwitness.judging.finding import rests_on
    from gradwitness.report.faults import faults_of, probe_faults
    from gradwitness.report.sarif import write_sarif
    from gradwitness.report.tables.claims import claims as claims_table
    from gradwitness.report.tables.github import commands
    from gradwitness.report.tables.probes import probes
    from gradwitness.report.tables.terminal import summary

    files = _pages(save, shown=show_page) if redact else _files(save)
    # The program may change its folder.
    sarif = sarif and sarif.absolute()
    if not claims and (sweep is not None or dtype is not None):
        raise InputError("--pass and --dtype need claims: give their file with --claims FILE")
    digits = at_least_one(digits)
    rests_on(judge)
    if known_depth(depth) != FULL and probe:
        raise InputError(f"--probe judges in full: leave out --depth {depth}")
    sources = [read_claims(file) for file in claims or ()]
    # A recording is whole; claims and a derivation may ask for any of its numbers.
    is_whole = bool(sources) or explain is not None or any(f.suffix == ".npz" for f in files)
    keep, again = (None if is_whole else AUTO), rerun or ()
    run, probed = (
        probes_of(target, again) if probe else (run_target(target, keep, again, depth), None)
    )
    tape, report = run.tape, replace(run.report.judging(judge), digits=digits)
    probed = None if probed is None else replace(probed, report=report)
    claimed = judge_claims(tape, report, *sources, sweep=sweep, dtype=dtype) if sources else None
    claimed = claimed and claimed.requiring(digits)
    derivation = None if explain is None else derivation_of(tape, report, explain)
    options: dict[str, object] = {"--probe": probe, "--rerun": rerun, "--claims": claims}
    options |= {"--pass": sweep, "--dtype": dtype, "--digits": digits}
    options |= {"--judge": judge, "--depth": depth}
    page = page_of(target, tape, report, probed, claimed, options, redact=redact)
    record = checked_record(target, tape, report, probed, claimed)
    if run.failed is not None:
        record |= failure(run.failed)
    materials = {**materials_of(tape, report), **(claimed.materials() if claimed else {})}
    materials |= {"page": lambda: page, "record": lambda: record}
    _save(files, materials)
    if sarif is not None:
        write_sarif(sarif, record)
    if not json:
        parts: list[RenderableType] = [summary(report, tape), *([run.cost] if run.cost else [])]
        parts += [probes(probed)] if probed else []
        parts += [] if claimed is None else [claims_table(claimed.runs)]
        show_all(derivation, *parts)
    if show_page:
        typer.echo(show(page, files), err=json)
    if github:
        # GitHub reads both streams, and JSON must stay alone in its own.
        faults = faults_of(report, tape) if probed is None else probe_faults(probed)
        for line in commands((*faults, *(claimed.claim_faults if claimed else ()))):
            typer.echo(line, err=json)
    raise Ended(record["exit_code"], record if json else None, run.failed)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="a file of gradients, in any format")],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", help="the gradients to compare with A's")
    ] = None,
    names: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="X Y", help="compare the tensors or column X of A with Y of B, or of A itself"
        ),
    ] = None,
    save: SaveTexts = None,
    dtype: Dtype = None,
    digits: Digits = None,
    json: Json = False,
) -> None:
    """Compare two sources of gradients without a program, and explain the differences."""
    files = _files(save, *TEXTS)
    found = gradwitness.diff(first, second, dtype=dtype, names=names).requiring(digits)
    _save(files, found.materials())
    _end(found.exit_code, json, found.record, found.parts)


@app.command()
def laws(
    gradients: Annotated[str, typer.Argument(help="a file of claimed gradients, in any format")],
    weights: Annotated[str, typer.Option(help="a file of the weights")],
    layers: Annotated[
        str,
        typer.Option(help="layers in order, with prefixes: 'linear:0 relu linear:2 cross_entropy'"),
    ],
    save: SaveTexts = None,
    json: Json = False,
) -> None:
    """Check gradients against invariants that need the weights but no data; can only refute."""
    from gradwitness.report.tables.laws import laws_materials, verdict_of

    files = _files(save, *TEXTS)
    found = gradwitness.laws(gradients, weights, layers)
    materials = laws_materials(found)
    _save(files, materials)
    _end(verdict_of(found).exit_code, json, materials["record"], materials["parts"])


@app.command()
def grade(
    task: Annotated[Path, typer.Argument(metavar="TASK.toml", help="the exercise")],
    submission: Annotated[
        Path, typer.Argument(help="a .py file with the exercise's function, or a file of gradients")
    ],
    answers: Annotated[
        bool, typer.Option("--answers", help="also show the right gradients, for the teacher")
    ] = False,
    save: SaveTexts = None,
    json: Json = False,
) -> None:
    """Mark the gradients of an exercise, and say what was done wrong."""
    from gradwitness.api.targets import judged
    from gradwitness.grading.marks import grade as graded
    from gradwitness.grading.task import read_task
    from gradwitness.report.tables.marks import marks_materials

    files = _files(save, *TEXTS)
    exercise = read_task(task)
    marks = graded(exercise, submission, *judged(exercise.target, keep=None))
    materials = marks_materials(marks, answers=answers)
    _save(files, materials)
    _end(marks.verdict.exit_code, json, materials["record"], materials["parts"])


for command in (graph, compare, rules, schema):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gradwitness {gradwitness.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del version


def _files(paths: list[Path] | None, *materials: str) -> list[Path]:
    return [require_ending(path, *materials) for path in paths or ()]


def _pages(paths: list[Path] | None, *, shown: bool) -> list[Path]:
    if not (paths or shown):
        raise InputError("--redact is about a page: save one with --save FILE.html, or add --open")
    return _files(paths, "page")


def _save(paths: list[Path], materials: Materials) -> None:
    for path in paths:
        save_file(path, materials)


def _end(
    code: int,
    as_json: bool,
    record: Callable[[], dict[str, Any]],
    parts: Callable[[], Iterable[RenderableType]],
) -> NoReturn:
    """End with a verdict, as a record or shown as text."""
    from gradwitness.report.console import console

    if not as_json:
        console().print(*parts())
    raise Ended(code, record() if as_json else None)


def _with_explain_value(arguments: list[str]) -> list[str]:
    """Let ``--explain`` stand alone: it then explains everything."""
    completed = []
    for place, word in enumerate(arguments):
        completed.append(word)
        following = arguments[place + 1 : place + 2]
        if word == "--explain" and (not following or following[0].startswith("-")):
            completed.append(ALL)
    return completed


def run_words(words: list[str], answers: TextIO | None = None) -> int:
    """Run the command line; return its exit code. ``answers`` is for what ``--json`` prints."""

    def command() -> None:
        root = typer.main.get_command(app)
        begun = root.make_context("gradwitness", _with_explain_value(words))
        with bounded_memory(words), begun as context:
            root.invoke(context)

    return exit_code(command, (answers or sys.stdout) if "--json" in words else None)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process."""
    raise SystemExit(run_words(sys.argv[1:] if arguments is None else arguments))
