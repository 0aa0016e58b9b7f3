"""The command ``gradwitness run``: the experiment, with one seed or many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gradwitness._ending import Ended
from gradwitness._errors import InputError
from gradwitness._printable import one_line
from gradwitness.commands.shared import Json, derivation_of, show_all
from gradwitness.files.atomic import require_folder

if TYPE_CHECKING:
    from gradwitness.experiment import Config


def run(
    preset: Annotated[str, typer.Option(help="default, sigmoid or conv")] = "default",
    inputs: Annotated[int | None, typer.Option(help="number of inputs, d")] = None,
    hidden: Annotated[int | None, typer.Option(help="number of hidden layers, K")] = None,
    width: Annotated[
        int | None, typer.Option(help="units of a hidden layer [default: 2d+1]")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="relu, sigmoid, tanh, identity, gelu, silu")
    ] = None,
    activate_input: Annotated[
        bool | None, typer.Option(help="also put an activation after the first layer")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="square, product, mse, l1")] = None,
    batch: Annotated[int | None, typer.Option(help="number of samples")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64, bfloat16")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the weights and the data")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="run N seeds, from --seed on, on all cores; show the worst figures"
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="an .npz of all weights [default: random]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="output folder [default: out; with --seeds: none]")
    ] = None,
    json: Json = False,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="[ENTRY]",
            help="print the derivation, or only that of ENTRY: hidden3.weight[2,5]",
        ),
    ] = None,
) -> None:
    """Run the experiment: gradients by autograd and from scratch, compared and drawn."""
    from gradwitness import experiment

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
    if seeds is not None:
        if explain is not None:
            raise InputError("--explain is about one seed: give --seed N instead of --seeds")
        _run_seeds(config, seeds, weights, out, json=json)
    _run_one(config, weights, out or Path("out"), explain, json=json)


def _run_one(
    config: Config, weights: Path | None, out: Path, explain: str | None, *, json: bool
) -> NoReturn:
    from gradwitness import experiment
    from gradwitness.report.console import console
    from gradwitness.report.record import outcome_record
    from gradwitness.report.tables.experiment import full, write_folder

    outcome = experiment.run(config, None if weights is None else experiment.load_weights(weights))
    derivation = None if explain is None else derivation_of(outcome.tape, outcome.report, explain)
    written = write_folder(out, outcome)
    if not json:
        show_all(derivation, full(outcome))
        files = " ".join(path.name for path in written)
        console().print(f"\nwritten to {one_line(str(out))}: {files}", soft_wrap=True)
    raise Ended(outcome.verdict.exit_code, outcome_record(outcome) if json else None)


def _run_seeds(
    config: Config, seeds: int, weights: Path | None, out: Path | None, *, json: bool
) -> NoReturn:
    from gradwitness import experiment
    from gradwitness.report.console import console
    from gradwitness.report.tables.seeds import seeds_record, seeds_table, write_seeds

    if out is not None:
        # First: nobody should wait for what cannot be written.
        require_folder(out)
    found = experiment.run_seeds(config, seeds, weights)
    written = [] if out is None else write_seeds(out, found)
    if not json:
        console().print(seeds_table(found))
        if written:
            files = " ".join(path.name for path in written)
            console().print(f"\nwritten to {one_line(str(out))}: {files}", soft_wrap=True)
    failed = KeyboardInterrupt() if found.is_interrupted else None
    raise Ended(found.exit_code, seeds_record(found) if json else None, failed)
