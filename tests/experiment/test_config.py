"""The experiment as data: presets, what is refused, and the command that runs it again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from gradwitness import ConfigError, InputError
from gradwitness.experiment import PRESETS, Config, preset

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


def test_the_default_is_the_main_job() -> None:
    assert dataclasses.asdict(preset("default")) == {
        "inputs": 10,
        "hidden": 10,
        "width": None,
        "activation": "relu",
        "activate_input": False,
        "loss": "square",
        "batch": 1,
        "dtype": "float32",
        "seed": 0,
        "network": "dense",
    }
    assert preset("default").units == 21
    assert preset("default", inputs=4).units == 9
    assert preset("default", width=5).units == 5


def test_the_other_presets() -> None:
    assert set(PRESETS) == {"default", "sigmoid", "conv"}
    sigmoid, conv = preset("sigmoid"), preset("conv")
    assert (sigmoid.inputs, sigmoid.hidden, sigmoid.units) == (2, 1, 10)
    assert (sigmoid.activation, sigmoid.activate_input) == ("sigmoid", True)
    assert (conv.network, conv.inputs, conv.loss) == ("conv", 10, "product")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", 0),
        ("inputs", 2.5),
        ("inputs", True),
        ("hidden", -1),
        ("hidden", None),
        ("width", 0),
        ("batch", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("activation", "softplus"),
        ("loss", "huber"),
        ("dtype", "int8"),
        ("network", "rnn"),
    ],
)
def test_a_field_without_meaning_is_refused_by_name(
    field: str, value: Any, snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**{field: value})
    assert str(error.value) == snapshot


def test_what_does_not_go_together_is_refused(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ConfigError) as error:
        preset("conv", batch=4)
    assert str(error.value) == snapshot
    for name, value in {
        "hidden": 3,
        "width": 4,
        "activation": "tanh",
        "activate_input": True,
    }.items():
        with pytest.raises(ConfigError, match=f"the conv network takes no {name}: leave it out"):
            preset("conv", **{name: value})
    with pytest.raises(ConfigError) as error:
        preset("big")
    assert str(error.value) == snapshot
    assert issubclass(ConfigError, InputError)


def test_no_hidden_layer_and_the_largest_seed_are_allowed() -> None:
    config = Config(hidden=0, seed=2**63 - 1)
    assert config.describe() == "Linear(10,21) -> 0 x [Linear(21,21) relu] -> Linear(21,1)"


def test_the_network_in_one_line() -> None:
    assert preset("sigmoid").describe() == (
        "Linear(2,10) sigmoid -> 1 x [Linear(10,10) sigmoid] -> Linear(10,1)"
    )
    assert preset("conv", inputs=3).describe() == (
        "Linear(3,1)(Linear(3,3)(flatten(x) + flatten(Conv1d(1,1,3,padding=1)(x))))"
    )


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (preset("default"), "gradwitness run --seed 0"),
        (preset("default", seed=7, dtype="bfloat16"), "gradwitness run --dtype bfloat16 --seed 7"),
        (preset("conv", loss="mse"), "gradwitness run --preset conv --loss mse --seed 0"),
        (
            preset("sigmoid"),
            (
                "gradwitness run --inputs 2 --hidden 1 --width 10 --activation sigmoid "
                "--activate-input --seed 0"
            ),
        ),
    ],
)
def test_the_command_that_runs_it_again(config: Config, command: str) -> None:
    assert config.command() == command
