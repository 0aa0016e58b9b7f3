"""Which of two sources comes first must not matter to how their layouts are understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness import Verdict, diff

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Gradients = dict[str, NDArray[np.float32]]

# No two numbers are the same, and no layer is square.
SHAPES = {"fc1.weight": (5, 4), "fc1.bias": (5,), "fc2.weight": (2, 5), "fc2.bias": (2,)}
RIGHT: Gradients = {
    name: np.random.default_rng(len(name) + shape[0]).normal(size=shape).astype(np.float32)
    for name, shape in SHAPES.items()
}


def _kernels(gradients: Gradients) -> Gradients:
    return {name.replace("weight", "kernel"): array.T for name, array in gradients.items()}


OTHERS = {
    "flattened": {name: array.reshape(-1) for name, array in RIGHT.items()},
    "column by column": {name: array.ravel(order="F") for name, array in RIGHT.items()},
    "axes of length 1": {name: array[None, :, None] for name, array in RIGHT.items()},
    "Flax": _kernels(RIGHT),
}


@pytest.mark.parametrize("layout", OTHERS)
def test_right_gradients_agree_whichever_comes_first(layout: str) -> None:
    other = OTHERS[layout]
    assert diff(RIGHT, other).verdict is Verdict.AGREES
    assert diff(other, RIGHT).verdict is Verdict.AGREES


@pytest.mark.parametrize("layout", OTHERS)
def test_one_wrong_number_is_found_whichever_comes_first(layout: str) -> None:
    wrong = {name: array.copy() for name, array in OTHERS[layout].items()}
    next(iter(wrong.values())).flat[3] += 0.25
    assert diff(RIGHT, wrong).verdict is Verdict.DISAGREES
    assert diff(wrong, RIGHT).verdict is Verdict.DISAGREES


def test_a_transposed_weight_is_wrong_whichever_comes_first() -> None:
    wrong = {**RIGHT, "fc1.weight": RIGHT["fc1.weight"].T}
    assert diff(RIGHT, wrong).verdict is Verdict.DISAGREES
    assert diff(wrong, RIGHT).verdict is Verdict.DISAGREES


def test_names_of_one_source_keep_their_tensors() -> None:
    flat = {f"numerical.{name}": array.reshape(-1) for name, array in RIGHT.items()}
    both = flat | {f"analytical.{name}": array for name, array in RIGHT.items()}
    (run,) = diff(both, names=("numerical", "analytical")).runs
    assert run.verdict is Verdict.AGREES
    assert [row.name for row in run.rows] == list(SHAPES)


def test_entries_that_the_first_source_lacks_are_not_wrong(tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    kept = {**RIGHT, "fc1.weight": RIGHT["fc1.weight"][:3]}
    path.write_text(
        "\n".join(
            f"{n}[{','.join(map(str, i))}] {v!s}"
            for n, a in kept.items()
            for i, v in np.ndenumerate(a)
        )
    )
    (run,) = diff(path, RIGHT).runs
    assert [row.verdict for row in run.rows] == [Verdict.INCONCLUSIVE, *[Verdict.AGREES] * 3]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_in_one_source_is_wrong_whichever_comes_first(odd: float) -> None:
    wrong = {name: array.copy() for name, array in RIGHT.items()}
    wrong["fc2.weight"][1, 2] = odd
    for pair in ((RIGHT, wrong), (wrong, RIGHT)):
        (run,) = diff(*pair).runs
        assert [row.name for row in run.wrong] == ["fc2.weight"]
        assert (run.wrong[0].comparison.index, run.wrong[0].comparison.refuted) == ((1, 2), 1)
    assert diff(wrong, wrong).verdict is Verdict.INCONCLUSIVE


def test_a_tensor_of_one_source_leaves_a_doubt_whichever_comes_first() -> None:
    more = RIGHT | {"fc3.weight": np.ones((3, 2), np.float32)}
    for a, b in ((RIGHT, more), (more, RIGHT)):
        found = diff(a, b)
        assert (found.verdict, found.exit_code) == (Verdict.INCONCLUSIVE, 3)
        (run,) = found.runs
        assert [name for name, _ in run.missing] == ["fc3.weight"]
        assert "missing   fc3.weight: not in" in f"{found}"
        assert "4 agree; 1 in one source only" in f"{found}"


def test_zeros_that_were_printed_confirm_nothing_whichever_comes_first(tmp_path: Path) -> None:
    # Of eight decimals the zeros may stand for 4e-9, a third of the number beside them.
    path = tmp_path / "printed.txt"
    path.write_text("w: tensor([-0.00000001,  0.00000000,  0.00000000])\nb: 0.99291717\n")
    exact = {"w": np.array([-1.16425e-08, 0, 0], np.float32), "b": np.float32(0.99291717)}
    for first, second in ((path, exact), (exact, path)):
        rows = {row.name: row for row in diff(first, second).runs[0].rows}
        assert rows["w"].verdict is Verdict.INCONCLUSIVE
        assert "carry no digits at 8 decimals" in rows["w"].reason
        assert rows["b"].verdict is Verdict.AGREES


def test_true_zeros_agree_whichever_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "printed.txt"
    path.write_text("w = [0., 0., 0.00028157907700644214]\n")
    exact = {"w": np.array([0, 0, 0.00028157907700644214])}
    assert diff(path, exact).verdict is Verdict.AGREES
    assert diff(exact, path).verdict is Verdict.AGREES
