"""The float64 replay against networks that are written out here by hand, matrix by matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.programs import leaf, unruled
from gradwitness import experiment
from gradwitness.capture import record
from gradwitness.engine.replay import Replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.float64]]


def close(actual: Any, expected: Any) -> None:
    """Demand 12 digits of the largest entry."""
    scale = float(np.max(np.abs(expected)))
    assert scale > 0
    assert np.shape(actual) == np.shape(expected)
    assert np.max(np.abs(actual - expected)) <= 1e-12 * scale


def double(arrays: Any) -> Arrays:
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def default_by_hand(w: Arrays, data: Arrays, hidden: int) -> Arrays:
    """L = (p - y)^2: a Linear, then Linears with a ReLU, then a Linear."""
    h = [w["input.weight"] @ data["x"] + w["input.bias"]]
    z: list[Any] = [None]
    for k in range(1, hidden + 1):
        z.append(w[f"hidden{k}.weight"] @ h[-1] + w[f"hidden{k}.bias"])
        h.append(z[-1] * (z[-1] > 0))
    p = w["output.weight"] @ h[-1] + w["output.bias"]
    g = 2 * (p - data["y"])
    results = {"loss": (p - data["y"]) ** 2, "prediction": p}
    results |= {"output.weight": np.outer(g, h[-1]), "output.bias": g}
    g = w["output.weight"].T @ g
    for k in range(hidden, 0, -1):
        g = g * (z[k] > 0)
        results |= {f"hidden{k}.weight": np.outer(g, h[k - 1]), f"hidden{k}.bias": g}
        g = w[f"hidden{k}.weight"].T @ g
    return results | {"input.weight": np.outer(g, data["x"]), "input.bias": g}


def sigmoid_by_hand(w: Arrays, data: Arrays) -> Arrays:
    """2-10-10-1, a sigmoid after the first two Linears."""

    def s(v: Any) -> Any:
        return 1 / (1 + np.exp(-v))

    a = s(w["input.weight"] @ data["x"] + w["input.bias"])
    b = s(w["hidden1.weight"] @ a + w["hidden1.bias"])
    p = w["output.weight"] @ b + w["output.bias"]
    g = 2 * (p - data["y"])
    gb = w["output.weight"].T @ g * b * (1 - b)
    ga = w["hidden1.weight"].T @ gb * a * (1 - a)
    return {
        "loss": (p - data["y"]) ** 2,
        "prediction": p,
        "input.weight": np.outer(ga, data["x"]),
        "input.bias": ga,
        "hidden1.weight": np.outer(gb, a),
        "hidden1.bias": gb,
        "output.weight": np.outer(g, b),
        "output.bias": g,
    }


def conv_by_hand(w: Arrays, data: Arrays) -> Arrays:
    """L = (p - s)^2, p = O(H(x + conv x)), s = sum x; three taps k over a padded x."""
    x = data["x"].reshape(-1)
    k, b = w["conv.weight"].reshape(3), w["conv.bias"]
    n = x.size
    padded = np.concatenate([[0.0], x, [0.0]])
    h = x + k[0] * padded[:n] + k[1] * padded[1 : n + 1] + k[2] * padded[2:] + b
    m = w["hidden.weight"] @ h + w["hidden.bias"]
    p = w["output.weight"] @ m + w["output.bias"]
    e = p - x.sum()
    gm = w["output.weight"].T @ (2 * e)
    gh = w["hidden.weight"].T @ gm
    taps = np.array([gh @ padded[:n], gh @ padded[1 : n + 1], gh @ padded[2:]])
    # x[i] enters h[i] by itself, h[i + 1] by k[0], h[i] by k[1], h[i - 1] by k[2]; and s.
    around = np.concatenate([[0.0], gh, [0.0]])
    gx = gh + k[0] * around[2:] + k[1] * gh + k[2] * around[:n] - 2 * e.sum()
    return {
        "loss": (e * e).sum(),
        "prediction": p,
        "x": gx.reshape(1, 1, -1),
        "conv.weight": taps.reshape(1, 1, 3),
        "conv.bias": np.array([gh.sum()]),
        "hidden.weight": np.outer(gm, h),
        "hidden.bias": gm,
        "output.weight": np.outer(2 * e, m),
        "output.bias": 2 * e,
    }


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["default", "sigmoid", "conv"])
def test_the_witness_s_side_is_the_network_written_out(name: str, seed: int) -> None:
    outcome = experiment.run(experiment.preset(name, seed=seed))
    weights, data = double(outcome.weights), double(outcome.data)
    expected = {
        "default": lambda: default_by_hand(weights, data, 10),
        "sigmoid": lambda: sigmoid_by_hand(weights, data),
        "conv": lambda: conv_by_hand(weights, data),
    }[name]()
    assert set(outcome.witness_side) == set(expected)
    for tensor, array in expected.items():
        close(outcome.witness_side[tensor], array)
        # And torch's side is the same to the digits that a float32 has.
        scale = np.max(np.abs(array))
        assert np.max(np.abs(outcome.torch_side[tensor] - array)) <= 1e-4 * scale


def replayed(tape: gw.Tape) -> dict[str, Any]:
    """Return the gradients of the first pass by name."""
    replay = gw.replay(tape)
    assert replay.trusted == ()
    return {value.name: replay.gradient(0, node.id) for node, value in tape.leaves()}


def numbers(tensor: Any) -> NDArray[np.float64]:
    return np.array(tensor.detach().double().numpy())


def test_writes_to_views_of_views() -> None:
    torch.manual_seed(0)
    x, y, c = leaf(4, 6), leaf(2), torch.randn(4, 6)
    with record(names={"x": x, "y": y}) as recorder:
        z = x * 2
        rows = z[1:3]
        rows[:, ::3].mul_(y)
        rows.add_(1.5)
        (z * z * c).sum().backward()
    X, Y, weights = numbers(x), numbers(y), numbers(c)
    factor = np.full((4, 6), 2.0)
    factor[1:3, ::3] *= Y
    z_by_hand = factor * X
    z_by_hand[1:3] += 1.5
    gz = 2 * z_by_hand * weights
    gradients = replayed(recorder.tape)
    close(gradients["x"], gz * factor)
    close(gradients["y"], np.sum(gz[1:3, ::3] * 2 * X[1:3, ::3], axis=0))


def test_a_view_sees_what_is_written_to_its_base_and_the_other_way_round() -> None:
    torch.manual_seed(1)
    x, w, c = leaf(3, 4), leaf(4), torch.randn(3, 4)
    with record(names={"x": x, "w": w}) as recorder:
        z = x * 2
        row = z[1]
        z.mul_(3)
        row.mul_(w)
        last = z.t()[3]
        z.sub_(1)
        torch.autograd.backward((z * c).sum(), retain_graph=True)
        (last * row[:3]).sum().backward()
    X, Wn, weights = numbers(x), numbers(w), numbers(c)
    factor = np.full((3, 4), 6.0)
    factor[1] *= Wn
    tape = recorder.tape
    gradients = replayed(tape)
    close(gradients["x"], weights * factor)
    close(gradients["w"], weights[1] * 6 * X[1])
    # Second pass: z[i, 3] z[1, i] over i < 3, z = factor x - 1.
    z = factor * X - 1
    gz = np.zeros((3, 4))
    gz[:, 3] += z[1, :3]
    gz[1, :3] += z[:, 3]
    second = gw.replay(tape)
    by_name = {value.name: second.gradient(1, node.id) for node, value in tape.leaves()}
    close(by_name["x"], gz * factor)
    close(by_name["w"], gz[1] * 6 * X[1])


def test_an_in_place_activation_and_an_old_value_used_later() -> None:
    torch.manual_seed(2)
    x, c = leaf(6), torch.randn(6)
    with record(names={"x": x}) as recorder:
        y = x * 2
        kept = y.detach().clone()
        y.relu_()
        (y * kept * c).sum().backward()
    X, weights = numbers(x), numbers(c)
    # kept is data: d/dx of relu(2 x) kept c.
    close(replayed(recorder.tape)["x"], 2 * (X > 0) * (2 * X) * weights)


def test_other_numbers_for_the_leaves() -> None:
    torch.manual_seed(3)
    x, c = leaf(3), torch.randn(3)
    with record(names={"x": x}) as recorder:
        (x.sin() * c).sum().backward()
    tape = recorder.tape
    ((node, value),) = tape.leaves()
    other = np.array([0.1, 0.2, -0.3])
    gradient = gw.replay(tape, {value.id: other}).gradient(0, node.id)
    close(gradient, np.cos(other) * numbers(c))


def test_what_has_no_rule_is_taken_on_trust_and_named() -> None:
    torch.manual_seed(4)
    x, c = leaf(3), torch.randn(3)
    with record(names={"x": x}) as recorder:
        torch.autograd.backward((unruled(x.exp()) * c).sum())
    replay = gw.replay(recorder.tape)
    assert set(replay.trusted) == {"no rule for aten.conv_tbc.default"}
    # 2 e^x, so that dx = 2 c e^x; to float32.
    expected = 2 * numbers(c) * np.exp(numbers(x))
    ((node, _),) = recorder.tape.leaves()
    gradient = replay.gradient(0, node.id)
    assert gradient is not None
    assert np.max(np.abs(gradient - expected)) <= 1e-6 * np.max(np.abs(expected))


@pytest.mark.parametrize(
    ("reference", "recorded", "digits"),
    [
        # 0.002 of 2: three digits.
        ([1.0, -2.0], [1.0, -2.002], 3.0),
        ([1.0, -2.0], [1.5, -2.0], -math.log10(0.25)),
        ([1.0, -2.0], [-19.0, -2.0], -1.0),
        ([1.0, -2.0], [1.0, -2.0], math.inf),
        ([0.0, 0.0], [0.0, 0.0], math.inf),
        ([0.0, 0.0], [0.0, 1e-30], math.nan),
        ([1.0, -2.0], [math.inf, -2.0], math.nan),
        ([1.0, -2.0], [math.nan, -2.0], math.nan),
        ([1.0, -2.0], None, math.nan),
        ([], [], math.nan),
    ],
)
def test_digits_by_hand(
    reference: list[float], recorded: list[float] | None, digits: float
) -> None:
    replay = Replay({}, {(0, 7, 1): np.array(reference)}, ())
    recorded_array = None if recorded is None else np.array(recorded)
    assert replay.digits(0, (7, 1), recorded_array) == pytest.approx(digits, abs=1e-9, nan_ok=True)
    assert math.isnan(replay.digits(0, (7, 0), recorded_array))
