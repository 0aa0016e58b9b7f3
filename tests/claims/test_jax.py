"""Gradients from JAX: names, formats and layouts of pytrees; and JAX itself, where it is there."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.layout import arranged
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion


class Layer(NamedTuple):
    w: Any
    b: Any


@dataclass(frozen=True)
class Block:
    scale: Any
    layers: Any


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


TREE = {
    "params": OrderedDict(
        Dense_0={"kernel": numbers(3, 4), "bias": numbers(4, dtype=np.float64)},
        more=[Layer(numbers(2, dtype=ml_dtypes.bfloat16), None), (numbers(1), 2.5)],
    ),
    "block": Block(numbers(2, 2), {0: numbers(3)}),
}
NAMES = {
    "params.Dense_0.kernel": "float32",
    "params.Dense_0.bias": "float64",
    "params.more.0.w": "bfloat16",
    "params.more.1.0": "float32",
    "params.more.1.1": "float64",
    "block.scale": "float32",
    "block.layers.0": "float32",
}


@pytest.mark.parametrize("loaded", [False, True])
def test_a_tree_s_leaves_have_dotted_names(monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    if loaded:
        pytest.importorskip("jax", reason=ABSENT)
    else:
        monkeypatch.delitem(sys.modules, "jax", raising=False)
    claims = gw.pytree_claims(TREE)
    assert {name: claim.dtype for name, claim in claims.runs[0].items()} == NAMES
    assert np.array_equal(claims.runs[0]["block.layers.0"].array, TREE["block"].layers[0])  # type: ignore[attr-defined]


def test_one_array_is_the_gradient() -> None:
    assert list(gw.pytree_claims(numbers(3)).runs[0]) == ["gradient"]


def test_names_and_layouts_are_those_that_were_given(snapshot: SnapshotAssertion) -> None:
    claims = gw.pytree_claims(
        TREE,
        names={"params.Dense_0.kernel": "0.weight"},
        transpose={"*.kernel": (1, 0), "params.*.kernel": (0, 1)},
    )
    kernel = TREE["params"]["Dense_0"]["kernel"]  # type: ignore[index]
    assert np.array_equal(claims.runs[0]["0.weight"].array, kernel.T)
    assert claims.runs[0]["0.weight"].array.flags.c_contiguous
    assert claims.notes == snapshot
    # Nothing is transposed unasked.
    assert np.array_equal(gw.pytree_claims(TREE).runs[0]["params.Dense_0.kernel"].array, kernel)


def test_rounding_and_gaps_turn_with_the_numbers() -> None:
    claim = Claim("w", numbers(2, 3), rounding=np.abs(numbers(2, 3)), gaps=(None, 1))
    turned = arranged(Claims("s", ({"w": claim},)), transpose={"w": (1, 0)}).runs[0]["w"]
    assert turned.array.shape == (3, 2)
    assert np.array_equal(turned.rounding, np.asarray(claim.rounding).T)
    assert turned.gaps == (1, None)


@pytest.mark.parametrize(
    ("tree", "options"),
    [
        (TREE, {"names": {"x": "y"}}),
        (TREE, {"transpose": {"*.kernle": (1, 0)}}),
        (TREE, {"transpose": {"*.kernel": (0,)}}),
        (TREE, {"names": {"block.scale": "block.layers.0"}}),
        ({"a": {"b": 1.0}, "a.b": 2.0}, {}),
        ({"a": None}, {}),
        ([], {}),
        ({"a": "text"}, {}),
    ],
)
def test_bad_input(tree: Any, options: dict[str, Any], snapshot: SnapshotAssertion) -> None:
    with pytest.raises(gw.InputError) as error:
        gw.pytree_claims(tree, **options)
    assert str(error.value) == snapshot


def test_without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(gw.MissingExtraError, match=r"pip install 'gradwitness\[jax\]'"):
        gw.jax_claims(lambda: None)


def networks() -> tuple[nn.Module, Any, NDArray[Any], dict[str, str]]:
    """Return a network in torch, its weights as JAX has them, data, and names."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    layers: list[Any] = [model[0], model[2]]
    params = {
        f"Dense_{n}": {
            "kernel": layer.weight.detach().numpy().T.copy(),
            "bias": layer.bias.detach().numpy().copy(),
        }
        for n, layer in enumerate(layers)
    }
    names = {
        f"Dense_{n}.{theirs}": f"{2 * n}.{ours}"
        for n in range(2)
        for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
    }
    return model, params, numbers(5, 4), names


ABSENT = "JAX is not installed: pip install 'gradwitness[jax]' to test with it"


def loss(params: Any, x: Any) -> Any:
    import jax.numpy as jnp

    hidden = jnp.tanh(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    return ((hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]) ** 2).mean()


def test_jax_agrees_with_the_witness() -> None:
    pytest.importorskip("jax", reason=ABSENT)
    model, params, x, names = networks()

    def step() -> None:
        model(torch.from_numpy(x)).square().mean().backward()

    claims = gw.jax_claims(loss, params, x, names=names, transpose={"*.kernel": (1, 0)})
    assert claims.source == "jax.grad(loss)"
    gw.assert_gradients(claims, step, model)
    # In a square layer the other layout fits too, but is wrong: no guessing.
    unturned = gw.jax_claims(loss, params, x, names=names, transpose={"Dense_1.kernel": (1, 0)})
    with pytest.raises(gw.GradientDisagreement, match=r"(?s)0\.weight +4x4 +DISAGREES"):
        gw.assert_gradients(unturned, step, model)


def test_what_jax_makes_of_formats_and_whole_numbers() -> None:
    jax = pytest.importorskip("jax", reason=ABSENT)
    params = {"w": jax.numpy.ones(3, dtype="bfloat16"), "n": jax.numpy.arange(2)}

    def total(tree: Any) -> Any:
        return (tree["w"] * 2).sum(), "beside"

    gradients = jax.grad(total, has_aux=True, allow_int=True)(params)[0]
    (run,) = gw.pytree_claims(gradients).runs
    assert {name: claim.dtype for name, claim in run.items()} == {"w": "bfloat16"}
    assert np.array_equal(run["w"].array.astype(float), [2, 2, 2])
    (run,) = gw.jax_claims(total, {"w": params["w"]}, has_aux=True).runs
    assert list(run) == ["w"]
    (run,) = gw.jax_claims(lambda a, b: a * b, 2.0, 3.0, argnums=(0, 1)).runs
    assert {name: float(claim.array) for name, claim in run.items()} == {"0": 3, "1": 2}


def test_numbers_that_are_not_there_yet() -> None:
    jax = pytest.importorskip("jax", reason=ABSENT)

    def inside(x: Any) -> Any:
        gw.pytree_claims({"x": x})
        return x

    with pytest.raises(gw.InputError, match=r"a pytree, x: a .*Tracer"):
        jax.jit(inside)(1.0)


class Frozen(Mapping[str, Any]):
    """What flax.core.FrozenDict is: a mapping, and no dict."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = {k: Frozen(v) if isinstance(v, dict) else v for k, v in parts.items()}

    def __getitem__(self, key: str) -> Any:
        return self._parts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def convolutional(hidden: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, (2, 3)),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, hidden),
        nn.Linear(hidden, 4),
    )


def as_flax(model: nn.Module, order: dict[int, tuple[int, ...]]) -> dict[str, Any]:
    """Return gradients in a tree as Flax has it: keys sorted, as jax.grad leaves them."""
    tree: dict[str, Any] = {}
    counts = {"Conv": 0, "Dense": 0}
    for layer in model.children():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        weight, bias = (np.asarray(p.grad) for p in layer.parameters())
        kind = "Dense" if weight.ndim == 2 else "Conv"
        kernel = weight.transpose(order[weight.ndim])
        tree[f"{kind}_{counts[kind]}"] = {"bias": bias, "kernel": kernel}
        counts[kind] += 1
    return {"params": dict(sorted(tree.items()))}


FLAX = {2: (1, 0), 4: (2, 3, 1, 0)}  # (in, out) and HWIO
TORCH = {2: (0, 1), 4: (0, 1, 2, 3)}


def judged(model: nn.Module, order: dict[int, tuple[int, ...]], kind: Any = dict) -> Any:
    """Judge the model's own gradients, brought into a tree of that layout."""
    x = torch.from_numpy(numbers(3, 2, 6, 7))
    model(x).square().mean().backward()
    tree = kind(as_flax(model, order))
    model.zero_grad()
    return gw.check(model, x, loss=lambda y: y.square().mean(), claims=tree).runs[0]


@pytest.mark.parametrize("kind", [dict, Frozen, gw.pytree_claims])
def test_a_tree_of_flax_is_recognised_and_told(kind: Any, snapshot: SnapshotAssertion) -> None:
    report = judged(convolutional(5), FLAX, kind)
    assert {row.name: row.claimed_as for row in report.rows} == {
        "0.weight": "params.Conv_0.kernel",
        "0.bias": "params.Conv_0.bias",
        "2.weight": "params.Conv_1.kernel",
        "2.bias": "params.Conv_1.bias",
        "5.weight": "params.Dense_0.kernel",
        "5.bias": "params.Dense_0.bias",
        "6.weight": "params.Dense_1.kernel",
        "6.bias": "params.Dense_1.bias",
    }
    assert {row.verdict.name for row in report.rows} == {"AGREES"}
    assert [note for note in report.notes if "layout" in note] == snapshot


def test_a_square_kernel_goes_with_those_whose_shape_is_a_proof(
    snapshot: SnapshotAssertion,
) -> None:
    report = judged(convolutional(4), FLAX)
    assert {row.verdict.name for row in report.rows} == {"AGREES"}
    assert [note for note in report.notes if "layout" in note] == snapshot
    # In PyTorch's layout nothing is permuted, whatever its name, and there is no note.
    report = judged(convolutional(5), TORCH)
    assert {row.verdict.name for row in report.rows} == {"AGREES"}
    assert "layout" not in "\n".join(report.notes)


def test_where_only_square_kernels_are_no_layout_is_guessed(
    snapshot: SnapshotAssertion,
) -> None:
    grad = numbers(3, 3)
    claims = gw.pytree_claims({"Dense_0": {"kernel": grad.T, "bias": numbers(3)}})
    (report,) = gw.diff({"0.weight": grad, "0.bias": numbers(3)}, claims).runs
    assert [row.verdict.name for row in report.rows] == ["DISAGREES", "AGREES"]
    assert report.notes == snapshot


def test_a_source_with_kernels_in_both_layouts_is_not_put_right() -> None:
    first, second = numbers(2, 3), numbers(3, 4)
    claims = {"Dense_0.kernel": first, "Dense_1.kernel": second.T}
    (report,) = gw.diff({"0.weight": first, "2.weight": second}, claims).runs
    assert [row.verdict.name for row in report.rows] == ["AGREES", "DISAGREES"]
    assert "layout" not in "\n".join(report.notes)


def test_what_is_a_kernel_on_both_sides_or_on_neither_is_not_turned() -> None:
    grad = numbers(2, 3)
    for ours, theirs in (("a.kernel", "a.kernel"), ("a.weight", "a.weight")):
        (report,) = gw.diff({ours: grad}, {theirs: grad.T}).runs
        assert report.rows[0].verdict.name == "DISAGREES"
    (report,) = gw.diff({"a.weight": grad}, {"a.kernel": grad.T}).runs
    assert report.rows[0].verdict.name == "AGREES"


def test_norms_and_convolutions_of_the_same_number_are_told_apart() -> None:
    kernel, scale = numbers(3, 3, 2, 4), numbers(4)
    theirs = {
        "BatchNorm_0": {"bias": -scale, "scale": scale},
        "Conv_0": {"kernel": kernel},
        "Dense_0": {"kernel": numbers(4, 5)},
    }
    ours = {
        "conv.weight": kernel.transpose(3, 2, 0, 1),
        "norm.weight": scale,
        "norm.bias": -scale,
        "fc.weight": numbers(4, 5).T,
    }
    (report,) = gw.diff(ours, {"params": theirs}).runs
    assert {row.verdict.name for row in report.rows} == {"AGREES"}
    assert len(report.rows) == 4


def test_lists_are_layers_of_a_tree() -> None:
    w, b = numbers(2, 3), numbers(3)
    source = {"params": [(w, b), {"w": [w, w]}], "plain": [[1.0, 2.0], [3.0, 4.0]]}
    run = read_claims(source).runs[0]
    assert list(run) == ["params.0.0", "params.0.1", "params.1.w.0", "params.1.w.1", "plain"]
    assert run["plain"].array.shape == (2, 2)
