"""A run of the experiment: what it holds, that it can be repeated, and that all of it agrees."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch

from gradwitness import FileFormatError, InputError, Verdict, experiment
from gradwitness.experiment.config import ACTIVATIONS, DTYPES, LOSSES
from gradwitness.files.dat import format_dat
from gradwitness.report.console import as_text
from gradwitness.report.tables.terminal import summary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

LAYERS = ["input", *(f"hidden{k}" for k in range(1, 11)), "output"]


def test_the_default_run_has_24_gradients_with_these_names() -> None:
    outcome = experiment.run(experiment.preset("default"))
    names = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    assert len(names) == 24
    assert list(outcome.torch_side) == ["loss", "prediction", *names]
    assert list(outcome.witness_side) == list(outcome.torch_side)
    assert [row.name for row in outcome.report.rows] == names
    assert outcome.torch_side["input.weight"].shape == (21, 10)
    assert outcome.torch_side["hidden5.weight"].shape == (21, 21)
    assert outcome.torch_side["output.weight"].shape == (1, 21)
    assert outcome.verdict is Verdict.AGREES
    assert all(share.judged == share.total for share in outcome.report.coverage().values())
    # No activation after the input layer: ten ReLUs, one for each hidden layer.
    assert [c.op for c in outcome.tape.calls].count("aten.relu.default") == 10


def test_the_data_are_as_described() -> None:
    outcome = experiment.run(experiment.preset("default", dtype="float64"))
    x, y = outcome.data["x"], outcome.data["y"]
    assert x.shape == (10,)
    assert np.all((x > 0) & (x < 1))
    assert y == pytest.approx([sum(v * v for v in x) / 10], rel=1e-14)
    batch = experiment.run(experiment.preset("default", dtype="float64", batch=3))
    assert batch.data["x"].shape == (3, 10)
    assert batch.data["y"] == pytest.approx(
        np.sum(batch.data["x"] ** 2, axis=1, keepdims=True) / 10, rel=1e-14
    )


def test_the_conv_run_gives_x_a_gradient_too() -> None:
    outcome = experiment.run(experiment.preset("conv"))
    parameters = [f"{n}.{p}" for n in ("conv", "hidden", "output") for p in ("weight", "bias")]
    assert list(outcome.torch_side) == ["loss", "prediction", *parameters, "x"]
    assert {row.name for row in outcome.report.rows} == {*parameters, "x"}
    assert outcome.verdict is Verdict.AGREES
    names = {node.name for node in outcome.tape.nodes}
    assert {"ConvolutionBackward0", "ViewBackward0", "AddmmBackward0", "AccumulateGrad"} <= names


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    def text(seed: int) -> str:
        outcome = experiment.run(experiment.preset("default", seed=seed))
        sides = (outcome.torch_side, outcome.witness_side)
        return "".join(format_dat(outcome.header(), side) for side in sides)

    first = text(4)
    # Numbers that others draw in between change nothing.
    torch.rand(7)
    assert text(4) == first
    assert text(5) != first


def test_torch_s_own_random_numbers_are_left_alone() -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    experiment.run(experiment.preset("sigmoid"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("activation", "loss"), list(product(ACTIVATIONS, LOSSES)))
def test_every_activation_loss_format_and_batch_agrees(activation: str, loss: str) -> None:
    for dtype, batch in product(DTYPES, (1, 4)):
        config = experiment.Config(
            inputs=3, hidden=1, width=5, activation=activation, loss=loss, dtype=dtype, batch=batch
        )
        outcome = experiment.run(config)
        assert outcome.verdict is Verdict.AGREES, (
            config,
            as_text(summary(outcome.report, outcome.tape)),
        )
        assert len(outcome.report.rows) == 6
        assert all(row.dtype == dtype for row in outcome.report.rows)


def weights(**changes: Any) -> dict[str, NDArray[Any]]:
    """Return weights of a 1-2-1 network without hidden layer."""
    arrays: dict[str, NDArray[Any] | None] = {
        "input.weight": np.array([[2.0], [-1.0]]),
        "input.bias": np.array([0.5, 0.25]),
        "output.weight": np.array([[3.0, 4.0]]),
        "output.bias": np.array([-1.0]),
    }
    arrays |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in arrays.items() if value is not None}


TINY = experiment.Config(inputs=1, hidden=0, width=2, dtype="float64")


def test_given_weights_by_hand() -> None:
    outcome = experiment.run(TINY, weights())
    (x,) = outcome.data["x"]
    # p = 3 (2 x + 0.5) + 4 (-x + 0.25) - 1 = 2 x + 1.5, y = x^2, g = 2 (p - y).
    p = 2 * x + 1.5
    g = 2 * (p - x * x)
    side = outcome.torch_side
    assert side["prediction"] == pytest.approx([p], rel=1e-14)
    assert side["loss"] == pytest.approx([(p - x * x) ** 2], rel=1e-14)
    assert side["output.weight"] == pytest.approx(
        np.array([[g * (2 * x + 0.5), g * (-x + 0.25)]]), rel=1e-14
    )
    assert side["output.bias"] == pytest.approx([g], rel=1e-14)
    assert side["input.weight"] == pytest.approx(np.array([[3 * g * x], [4 * g * x]]), rel=1e-14)
    assert side["input.bias"] == pytest.approx([3 * g, 4 * g], rel=1e-14)
    for name, array in weights().items():
        assert np.array_equal(outcome.weights[name], array)


@pytest.mark.parametrize(
    "changes",
    [
        {"input__bias": None},
        {"hidden1__bias": np.ones(2)},
        {"input__weight": np.ones((1, 2))},
        {"input__bias": np.array([0.0, np.nan])},
        {"output__bias": np.array([np.inf])},
        {"output__bias": np.array(["one"])},
        {"output__bias": np.array([1j])},
    ],
)
def test_weights_that_do_not_fit(changes: dict[str, Any], snapshot: SnapshotAssertion) -> None:
    with pytest.raises(InputError) as error:
        experiment.run(TINY, weights(**changes))
    assert str(error.value) == snapshot


def test_a_weight_that_the_format_cannot_hold(snapshot: SnapshotAssertion) -> None:
    config = experiment.Config(inputs=1, hidden=0, width=2)
    with pytest.raises(InputError) as error:
        experiment.run(config, weights(output__bias=np.array([1e39])))
    assert str(error.value) == snapshot


def test_weights_of_a_run_can_be_given_to_another(tmp_path: Path) -> None:
    first = experiment.run(experiment.preset("sigmoid", seed=3))
    path = tmp_path / "w.npz"
    np.savez(path, allow_pickle=False, **first.weights)
    # The seed of the data stays; that of the weights is overruled.
    second = experiment.run(experiment.preset("sigmoid", seed=3), experiment.load_weights(path))
    for name, array in first.torch_side.items():
        assert second.torch_side[name].tobytes() == array.tobytes()


def test_files_of_weights_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    for content in (b"", b"not a zip", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"w\.npz: not a \.npz file"):
            experiment.load_weights(path)
    np.savez(path, w=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError, match="Python objects, which can run code"):
        experiment.load_weights(path)
    np.save(tmp_path / "w.npy", np.ones(2))
    with pytest.raises(FileFormatError, match=r"w\.npy: not a \.npz file"):
        experiment.load_weights(tmp_path / "w.npy")


@pytest.mark.low_precision
def test_bfloat16_stays_bfloat16() -> None:
    outcome = experiment.run(experiment.preset("sigmoid", dtype="bfloat16"))
    assert {array.dtype for array in outcome.torch_side.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert {array.dtype for array in outcome.witness_side.values()} == {np.dtype(np.float64)}
    assert outcome.header()["dtype"] == "bfloat16"


def test_the_conv_network_s_target_is_the_sum_of_x() -> None:
    data = experiment.run(experiment.preset("conv", dtype="float64")).data
    assert data["y"] == pytest.approx(np.sum(data["x"]), rel=1e-15)
