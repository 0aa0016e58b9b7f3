"""Names, shapes and runs: what is clear is matched and said, what is not is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness import InputError
from gradwitness.claims.align import align, align_runs
from gradwitness.claims.claim import Claim, Claims, Run

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

DEEP = {
    f"{layer}.{role}": shape
    for layer, shapes in (
        ("input", {"weight": (5, 3), "bias": (5,)}),
        ("hidden.0", {"weight": (5, 5), "bias": (5,)}),
        ("hidden.1", {"weight": (5, 5), "bias": (5,)}),
        ("output", {"weight": (1, 5), "bias": (1,)}),
    )
    for role, shape in shapes.items()
}
PLAIN = {
    "0.weight": (5, 3),
    "0.bias": (5,),
    "2.weight": (5, 5),
    "2.bias": (5,),
    "4.weight": (1, 5),
    "4.bias": (1,),
}


def a_run(shapes: dict[str, tuple[int, ...]]) -> Run:
    return {name: Claim(name, np.zeros(shape)) for name, shape in shapes.items()}


def matched(names: list[str], shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Match claims of these names, which have the reference's shapes in order."""
    run = a_run(dict(zip(names, shapes.values(), strict=True)))
    return {name: claim.name for name, claim in align(run, shapes).pairs.items()}


NAMES = {
    "letters from 1": ["W1", "b1", "W2", "b2", "W3", "b3"],
    "gradient letters": ["dW1", "db1", "dW2", "db2", "dW3", "db3"],
    "derivatives": ["dL/dW1", "dL/db1", "dL/dW2", "dL/db2", "dL/dW3", "dL/db3"],
    "layers": [f"layers.{i}.{role}.grad" for i in (1, 2, 3) for role in ("weight", "bias")],
    "keras": [f"dense_{i}/{role}:0" for i in (1, 2, 3) for role in ("kernel", "bias")],
    "words": [
        f"Hidden_layer {i} {role} gradient" for i in (1, 2, 3) for role in ("weight", "bias")
    ],
    "output": [
        f"{layer} {role} gradient"
        for layer in ("Hidden_layer 1", "Hidden_layer 2", "Output_layer")
        for role in ("weight", "bias")
    ],
    "flax": [f"params.Dense_{i}.{role}" for i in (0, 1, 2) for role in ("kernel", "bias")],
    "nameless": [f"tensor{i}" for i in range(1, 7)],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_other_names(names: list[str]) -> None:
    assert matched(names, PLAIN) == dict(zip(PLAIN, names, strict=True))


@pytest.mark.parametrize("names", [n for k, n in NAMES.items() if k != "nameless"])
def test_the_order_does_not_matter(names: list[str]) -> None:
    run = a_run(dict(zip(names, PLAIN.values(), strict=True)))
    run = {name: run[name] for name in sorted(run, key=lambda name: name[::-1])}
    alignment = align(run, PLAIN)
    assert {n: c.name for n, c in alignment.pairs.items()} == dict(zip(PLAIN, names, strict=True))
    assert len(alignment.notes) == 6
    assert not alignment.unclaimed
    assert not alignment.unknown


def test_exact_names_need_no_note_and_words_do(snapshot: SnapshotAssertion) -> None:
    alignment = align(a_run(DEEP), DEEP)
    assert list(alignment.pairs) == list(DEEP)
    assert alignment.notes == ()
    renamed = {f"grad of module.{name}": shape for name, shape in DEEP.items()}
    alignment = align(a_run(renamed), DEEP)
    assert [claim.name for claim in alignment.pairs.values()] == list(renamed)
    assert alignment.notes == snapshot


def test_only_axes_of_size_one_are_reshaped() -> None:
    run = {
        "0.bias": Claim("0.bias", np.arange(5.0)[None], np.ones((1, 5))),
        "0.weight": Claim("0.weight", np.zeros((3, 5))),
    }
    pairs = align(run, PLAIN).pairs
    assert pairs["0.bias"].array.tolist() == [0, 1, 2, 3, 4]
    assert np.shape(pairs["0.bias"].rounding) == (5,)
    assert pairs["0.weight"].array.shape == (3, 5)


def test_transposed_claims_are_matched_and_stay_so() -> None:
    names = NAMES["letters from 1"]
    transposed = {name: shape[::-1] for name, shape in zip(names, PLAIN.values(), strict=True)}
    pairs = align(a_run(transposed), PLAIN).pairs
    assert [claim.name for claim in pairs.values()] == names
    assert pairs["0.weight"].array.shape == (3, 5)


def test_what_was_left_out_fits_what_is_longer() -> None:
    shapes = {"a.weight": (60, 60), "b.weight": (5,)}
    claim = Claim("tensor1", np.zeros((6, 6)), gaps=(3, 3))
    run = {"tensor1": claim, "tensor2": Claim("tensor2", np.zeros((1, 5)))}
    pairs = align(run, shapes).pairs
    assert pairs["a.weight"] is claim
    assert pairs["b.weight"].array.shape == (5,)


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (["tensor1", "tensor2"], {"a.weight": (4, 4), "b.weight": (4, 4)}),  # either order
        (["W1", "W1 again"], {"a.weight": (4, 4), "b.weight": (4, 4)}),
        (["x", "y"], {"a.weight": (4, 3), "b.weight": (4, 4), "c.weight": (3, 4)}),
        (["W1"], {"0.weight": (4, 4), "1.weight": (4, 4)}),
    ],
)
def test_what_is_ambiguous_is_not_guessed(
    names: list[str], shapes: dict[str, tuple[int, ...]], snapshot: SnapshotAssertion
) -> None:
    run = a_run(dict(zip(names, shapes.values(), strict=False)))
    alignment = align(run, shapes)
    assert alignment.pairs == {}
    assert alignment.unclaimed == tuple(shapes)
    assert len(alignment.unknown) == len(names)
    assert alignment.notes == snapshot


def test_numbers_from_one_do_not_shift_the_layers(snapshot: SnapshotAssertion) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        f"{i}.{r}": (4, 4) if r == "weight" else (4,) for i in range(3) for r in ("weight", "bias")
    }
    names = [f"{letter}{i}" for i in (1, 2, 3) for letter in "Wb"]
    assert matched(names, shapes) == dict(zip(shapes, names, strict=True))
    # Two of three: W1 may be the first layer or the one numbered 1.
    alignment = align(a_run(dict.fromkeys(["W1", "W2"], (4, 4))), shapes)
    assert alignment.pairs == {}
    assert alignment.notes == snapshot


def test_a_loss_beside_the_gradients_is_unknown() -> None:
    shapes = {"a": (2, 3), "b": (3, 2)}
    alignment = align(a_run({"loss": (), "tensor1": (2, 3), "tensor2": (3, 2)}), shapes)
    assert [claim.name for claim in alignment.pairs.values()] == ["tensor1", "tensor2"]
    assert [claim.name for claim in alignment.unknown] == ["loss"]


def test_runs_go_together(snapshot: SnapshotAssertion) -> None:
    def claims(*sizes: int) -> Claims:
        return Claims("f", tuple(a_run({"a": (size,)}) for size in sizes))

    assert align_runs(claims(1, 2), claims(1, 2)) == ((0, 0), (1, 1))
    assert align_runs(claims(1), claims(1, 1, 1)) == ((0, 0), (0, 1), (0, 2))
    assert align_runs(claims(2, 3), claims(1, 2, 3)) == ((0, 1), (1, 2))
    with pytest.raises(InputError) as error:
        align_runs(claims(1, 1), claims(1, 1, 1))
    assert str(error.value) == snapshot


def test_layers_that_a_list_counts_are_not_the_parameters_of_the_same_number() -> None:
    counted = [f"{n}.{role}" for n in range(3) for role in ("weight", "bias")]
    square: dict[str, tuple[int, ...]] = {
        name: (5, 5) if "weight" in name else (5,) for name in PLAIN
    }
    for shapes in (PLAIN, square):
        assert matched(counted, shapes) == dict(zip(shapes, counted, strict=True))
    # Where a layer is missing, the same name means the same layer.
    some = {name: PLAIN[name] for name in ("0.weight", "2.weight")}
    pairs = align(a_run(some), PLAIN).pairs
    assert {name: claim.name for name, claim in pairs.items()} == {name: name for name in some}
