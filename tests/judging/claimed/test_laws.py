"""Laws of right gradients: torch's own obey them, planted faults break them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.claims.claim import Claim
from gradwitness.judging.claimed.laws import (
    Adjoining,
    Homogeneous,
    Law,
    Scaled,
    Simplex,
    Unshifted,
    laws,
    symmetries,
)
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = dict[str, Claim]

    from syrupy.assertion import SnapshotAssertion

RELU = (
    ("linear", "0"),
    ("relu", "1"),
    ("linear", "2"),
    ("linear", "3"),
    ("cross_entropy", ""),
)
IMAGES = (
    ("conv", "0"),
    ("batch_norm", "1"),
    ("relu", "2"),
    ("conv", "3"),
    ("leaky_relu", "4"),
    ("max_pool", "5"),
    ("conv", "6"),
)


def claims(model: torch.nn.Module, x: torch.Tensor) -> tuple[Run, dict[str, Any]]:
    out = model(x).flatten(1)
    loss = torch.nn.functional.cross_entropy(out, torch.arange(len(x)) % out.shape[1])
    torch.autograd.backward(loss)
    run, weights = {}, {}
    for name, p in model.named_parameters():
        assert p.grad is not None
        run[name] = Claim(name, p.grad.numpy(), dtype=str(p.dtype)[6:])
        weights[name] = p.detach().numpy()
    return run, weights


def dense(seed: int) -> tuple[Run, dict[str, Any]]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 9),
        torch.nn.ReLU(),
        torch.nn.Linear(9, 7),
        torch.nn.Linear(7, 4),
    )
    return claims(model, torch.randn(6, 5))


def images(seed: int) -> tuple[Run, dict[str, Any]]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.LeakyReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 2, 2),
    )
    return claims(model, torch.randn(5, 2, 8, 8))


def changed(run: Run, name: str, change: Callable[[Any], Any]) -> Run:
    return {**run, name: Claim(name, np.asarray(change(run[name].array)), dtype="float32")}


def test_a_sequence_has_these_symmetries() -> None:
    assert symmetries(RELU) == (Homogeneous("0", "2"), Adjoining("2", "3"), Simplex("3"))
    assert symmetries(IMAGES) == (Unshifted("0"), Homogeneous("3", "6"))
    # A sigmoid is not homogeneous, and an unknown layer ends the chain.
    assert symmetries((("linear", "a"), ("sigmoid", "b"), ("linear", "c"))) == ()
    assert symmetries((("linear", "a"), ("relu", ""), ("cross_entropy", ""))) == ()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("which", ["dense", "images"])
def test_right_gradients_are_never_refuted(which: str, seed: int) -> None:
    run, weights = dense(seed) if which == "dense" else images(seed)
    findings = laws(run, weights, symmetries(RELU if which == "dense" else IMAGES))
    assert findings
    for finding in findings:
        assert finding.verdict is Verdict.INCONCLUSIVE
        assert finding.residual < 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "change", "refuting"),
    [
        ("0.weight", lambda g: 1.01 * g, {0}),
        ("0.bias", np.zeros_like, {0}),
        ("2.weight", lambda g: -g, {0, 1}),
        ("2.bias", lambda g: 2 * g, {1}),
        ("3.weight", lambda g: g[:, ::-1], {1}),
        ("3.weight", lambda g: g + 0.01, {1, 2}),
        ("3.bias", np.abs, {2}),
    ],
)
def test_a_fault_breaks_the_laws_that_it_should(
    name: str, change: Any, refuting: set[int], seed: int
) -> None:
    run, weights = dense(seed)
    findings = laws(changed(run, name, change), weights, symmetries(RELU))
    assert {n for n, f in enumerate(findings) if f.verdict is Verdict.DISAGREES} == refuting
    for n in refuting:
        assert name in findings[n].tensors


@pytest.mark.parametrize(
    ("name", "law"), [("0.bias", 0), ("3.weight", 1), ("3.bias", 1), ("6.weight", 1)]
)
def test_a_fault_in_a_convolution_is_found(name: str, law: int) -> None:
    run, weights = images(0)
    wrong = changed(run, name, lambda g: 1.5 * g + 0.01)
    findings = laws(wrong, weights, symmetries(IMAGES))
    assert [f.verdict for f in findings].index(Verdict.DISAGREES) == law


def test_a_normalised_weight_is_orthogonal_to_its_gradient(snapshot: SnapshotAssertion) -> None:
    # f = sum(c * v / |v|): the gradient is (c - (c.u) u) / |v| with u = v / |v|.
    v, c = np.random.default_rng(0).standard_normal((2, 4, 6))
    length = np.linalg.norm(v, axis=1, keepdims=True)
    u = v / length
    right = (c - np.sum(c * u, axis=1, keepdims=True) * u) / length
    for g, verdict in ((right, Verdict.INCONCLUSIVE), (c / length, Verdict.DISAGREES)):
        run = {"v.weight": Claim("v.weight", g)}
        (finding,) = laws(run, {"v.weight": v}, [Scaled("v")])
        assert finding.verdict is verdict
        assert finding.text == snapshot


def test_keys_of_an_attention_have_no_use_for_their_bias() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.nn.Linear(4, 4) for _ in range(3))
    x = torch.randn(2, 5, 4)
    out = torch.nn.functional.scaled_dot_product_attention(q(x), k(x), v(x))
    torch.autograd.backward((out * torch.randn(2, 5, 4)).sum())
    run = {}
    for name, layer in {"q": q, "k": k, "v": v}.items():
        for part, p in layer.named_parameters():
            assert p.grad is not None
            run[f"{name}.{part}"] = Claim(f"{name}.{part}", p.grad.numpy(), dtype="float32")
    right, wrong = (laws(run, {}, [Unshifted(name)])[0] for name in "kq")
    assert right.verdict is Verdict.INCONCLUSIVE
    assert wrong.verdict is Verdict.DISAGREES


def test_printed_digits_widen_the_allowance() -> None:
    run, weights = dense(0)
    law: list[Law] = [Simplex("3")]
    printed = {n: Claim(n, np.round(c.array.astype(float), 2), 0.005) for n, c in run.items()}
    assert laws(printed, weights, law)[0].verdict is Verdict.INCONCLUSIVE
    exact = {n: Claim(n, c.array) for n, c in printed.items()}
    assert laws(exact, weights, law)[0].verdict is Verdict.DISAGREES


def test_what_is_missing_is_said(snapshot: SnapshotAssertion) -> None:
    run, weights = dense(0)
    law: list[Law] = [Homogeneous("0", "2")]
    (finding,) = laws({n: c for n, c in run.items() if n != "0.bias"}, weights, law)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.text == snapshot
    assert math.isnan(finding.residual)
    (finding,) = laws(run, {}, law)
    assert finding.text == snapshot
    cut = {**run, "0.weight": Claim("0.weight", run["0.weight"].array, gaps=(3, None))}
    assert laws(cut, weights, law)[0].text == snapshot
    (finding,) = laws(run, weights, [Homogeneous("0", "3")])
    assert finding.text == snapshot


def test_weights_of_another_network_are_an_error(snapshot: SnapshotAssertion) -> None:
    run, weights = dense(0)
    weights = {**weights, "0.weight": weights["0.weight"].T}
    with pytest.raises(gw.InputError) as error:
        laws(run, weights, [Homogeneous("0", "2")])
    assert str(error.value) == snapshot
