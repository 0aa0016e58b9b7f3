"""`gradwitness laws`: gradients with weights and without data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gradwitness as gw
from experiment.invoke import cli

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = "linear:0 relu linear:2 cross_entropy"


def by_hand() -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights, and gradients of softmax cross-entropy by the textbook, for three samples."""
    rng = np.random.default_rng(3)
    x, w0, w2 = rng.normal(size=(3, 4)), rng.normal(size=(6, 4)), rng.normal(size=(5, 6))
    b0, b2 = rng.normal(size=6), rng.normal(size=5)
    z = x @ w0.T + b0
    h = np.maximum(z, 0)
    e = np.exp(h @ w2.T + b2)
    delta = (e / e.sum(1, keepdims=True) - np.eye(5)[[0, 3, 3]]) / 3
    back = delta @ w2 * (z > 0)
    weights = {"0.weight": w0, "0.bias": b0, "2.weight": w2, "2.bias": b2}
    gradients = {
        "0.weight": back.T @ x,
        "0.bias": back.sum(0),
        "2.weight": delta.T @ h,
        "2.bias": delta.sum(0),
    }
    return weights, gradients


def test_right_gradients_break_no_law() -> None:
    weights, gradients = by_hand()
    found = gw.laws(gradients, weights, LAYERS)
    assert [each.verdict for each in found] == [gw.Verdict.INCONCLUSIVE] * 2
    assert all(each.residual < 1 for each in found)


def test_a_missing_mask_breaks_one() -> None:
    weights, gradients = by_hand()
    # Without the ReLU's mask, unit by unit: the bias gradient of a unit that was sometimes silent.
    gradients["0.bias"] = gradients["0.bias"] + 0.01
    found = gw.laws(gradients, weights, LAYERS)
    assert gw.Verdict.DISAGREES in [each.verdict for each in found]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("linear:nope relu linear:2", r"no weights for linear:nope: there are some for 0 and 2$"),
        (
            "linear:0 foo",
            "for 'linear:0 foo'; foo: none of linear, conv, relu,",
        ),
        ("linear:0", "no law is known for 'linear:0'; write the layers in order"),
    ],
)
def test_layers_that_cannot_be_used_are_named(layers: str, said: str) -> None:
    weights, gradients = by_hand()
    with pytest.raises(gw.InputError, match=said):
        gw.laws(gradients, weights, layers)
    with pytest.raises(gw.InputError, match=r"cannot read nope\.npz"):
        gw.laws(gradients, "nope.npz", layers)


def test_the_command(tmp_path: Path) -> None:
    weights, gradients = by_hand()
    np.savez(tmp_path / "w.npz", allow_pickle=False, **weights)
    np.savez(tmp_path / "g.npz", **gradients)
    np.savez(tmp_path / "wrong.npz", **gradients | {"2.bias": gradients["2.bias"] + 0.1})
    words = ("--weights", tmp_path / "w.npz", "--layers", LAYERS)
    right = cli("laws", tmp_path / "g.npz", *words)
    assert right.code == 3
    assert "no law is broken, but laws can only refute" in right.out
    wrong = cli("laws", tmp_path / "wrong.npz", *words)
    assert wrong.code == 1
    assert "DISAGREES" in wrong.out
    record = json.loads(cli("laws", tmp_path / "wrong.npz", *words, "--json").out)
    assert record["schema"] == "gradwitness-laws"
    assert record["verdict"] == "DISAGREES"
    assert record["laws"][0]["layers"] == {"first": "0", "second": "2"}


def test_laws_are_saved(tmp_path: Path) -> None:
    weights, gradients = by_hand()
    np.savez(tmp_path / "w.npz", allow_pickle=False, **weights)
    np.savez(tmp_path / "wrong.npz", **gradients | {"2.bias": gradients["2.bias"] + 0.1})
    words = (tmp_path / "wrong.npz", "--weights", tmp_path / "w.npz", "--layers", LAYERS)
    files = [tmp_path / f"laws{ending}" for ending in (".html", ".txt", ".json")]
    said = cli("laws", *words, *(word for file in files for word in ("--save", file)))
    assert said.code == 1
    page, text, record = (file.read_text("utf-8") for file in files)
    assert "<title>DISAGREES - gradwitness</title>" in page
    assert "law about" in page
    assert "verdict   DISAGREES" in text
    assert record == cli("laws", *words, "--json").out
    refused = cli("laws", *words, "--save", tmp_path / "laws.svg")
    assert refused.code == 2
    assert "use .txt, .json, .sarif, .html" in refused.err
    assert not (tmp_path / "laws.svg").exists()


@pytest.mark.parametrize(
    ("layers", "said"),
    [("sigmoid:0", "no law is known"), ("", "no law is known")],
)
def test_layers_without_a_law(layers: str, said: str) -> None:
    weights, gradients = by_hand()
    with pytest.raises(gw.InputError, match=said):
        gw.laws(gradients, weights, layers)


def test_weights_of_another_network() -> None:
    _, gradients = by_hand()
    with pytest.raises(gw.InputError, match="no gradient belongs to any weight"):
        gw.laws(gradients, {"encoder.kernel": np.ones((7, 7))}, LAYERS)
