"""Right gradients as people write them agree, and wrong ones disagree for the right reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gradwitness as gw
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.diagnose.hypotheses.clipped import clipped_by_value
from gradwitness.diagnose.hypotheses.factor import constant_factor
from gradwitness.diagnose.remainder import unexplained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Run = dict[str, NDArray[Any]]

AGREES, DISAGREES, INCONCLUSIVE = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE
RNG = np.random.default_rng(3)
# A network without a program: `diff` judges it, as `check` does by the same rows.
SHAPES = {"fc1.weight": (10, 2), "fc1.bias": (10,), "fc2.weight": (9, 10), "fc2.bias": (9,)}
RIGHT = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def changed(function: Callable[[NDArray[Any]], NDArray[Any]], *names: str) -> Run:
    return RIGHT | {name: function(RIGHT[name]) for name in names or RIGHT}


def verdicts(a: Any, b: Any) -> set[gw.Verdict]:
    return {row.verdict for row in gw.diff(a, b).runs[0].rows}


def causes(a: Any, b: Any) -> list[str]:
    return [cause.cause for cause in gw.diff(a, b).runs[0].causes]


def notes(a: Any, b: Any) -> str:
    return " ".join(gw.diff(a, b).runs[0].notes)


@pytest.mark.parametrize("k", [3, 4, 5])
@pytest.mark.parametrize("is_first", [False, True])
def test_rounded_numbers_agree_as_far_as_they_go(k: int, is_first: bool) -> None:
    rounded = changed(lambda g: np.round(g, k))
    sources = (rounded, RIGHT) if is_first else (RIGHT, rounded)
    assert verdicts(*sources) == {AGREES}
    assert f"rounded to {k} decimals, which is no fault" in notes(*sources)
    # As they go, and no further: one unit of the last decimal is wrong.
    off = changed(lambda g: np.round(g + 2 * 10.0**-k * np.sign(g), k))
    assert AGREES not in verdicts(RIGHT, off)
    # Numbers cut off lie up to a whole unit away, and are not called rounded.
    cut = changed(lambda g: (np.floor(g.astype(np.float64) * 10.0**k) / 10.0**k).astype(np.float32))
    assert AGREES not in verdicts(RIGHT, cut)
    assert "no fault" not in notes(RIGHT, cut)


def test_a_rounded_wrong_gradient_has_its_own_cause() -> None:
    wrong = {name: np.round(-g, 4) for name, g in RIGHT.items()}
    assert verdicts(RIGHT, wrong) == {DISAGREES}
    assert causes(RIGHT, wrong) == ["wrong sign"]


def test_a_factor_may_be_any_that_the_digits_allow() -> None:
    # Nine numbers pull the least squares' factor away from -1, so far that the tenth does not fit.
    g = np.ones(10)
    claim = np.array([-1.00004] * 9 + [-0.99996])
    case = Case({"w": Exhibit("w", g, claim, 5e-5, refuted=True)})
    assert [e.cause for e in constant_factor(case)] == ["wrong sign"]


def printed(path: Path, run: Run) -> Path:
    with np.printoptions(threshold=10**6):
        path.write_text("".join(f"{name}:\n{g}\n" for name, g in run.items()), encoding="utf-8")
    return path


def test_zeros_printed_with_exponents_confirm_nothing(tmp_path: Path) -> None:
    small = {
        "w": np.round(RNG.normal(size=(21, 21)) * 4e-6, 5),
        "b": np.round(RNG.normal(size=9), 5),
    }
    flipped = {name: np.where(g == 0, -g, g) for name, g in small.items()}
    files = [printed(tmp_path / n, r) for n, r in (("a.txt", small), ("b.txt", flipped))]
    assert "0.e+00" in files[0].read_text(encoding="utf-8")
    for sources in (files, (small, flipped)):
        rows = {row.name: row for row in gw.diff(*sources).runs[0].rows}
        zeros = np.count_nonzero(small["w"] == 0)
        assert rows["w"].verdict is INCONCLUSIVE
        assert "they confirm nothing" in rows["w"].reason
        assert f"and {zeros - 3} more carry no digits at 5 decimals" in rows["w"].reason
        assert rows["w"].coverage.judged <= 441 - zeros
        assert rows["b"].verdict is AGREES


def test_true_zeros_confirm() -> None:
    # Behind a dead unit, beside numbers that are known to their last bit.
    dead = changed(lambda g: np.where(np.arange(len(g)).reshape(-1, *[1] * (g.ndim - 1)) < 6, 0, g))
    rows = gw.diff(dead, dead).runs[0].rows
    assert all(row.verdict is AGREES and row.coverage.judged == row.coverage.total for row in rows)


@pytest.mark.parametrize(
    ("write", "note"),
    [
        (np.ravel, "flattened, and read row by row"),
        (lambda g: np.ravel(g, "F"), "flattened, and read column by column"),
        (lambda g: g[None], "axes of length 1"),
        (lambda g: g[..., None], "axes of length 1"),
    ],
)
def test_flattened_and_squeezed_numbers_agree_with_a_note(write: Any, note: str) -> None:
    assert verdicts(RIGHT, changed(write)) == {AGREES}
    assert note in notes(RIGHT, changed(write))
    wrong = {name: write(2 * g) for name, g in RIGHT.items()}
    assert verdicts(RIGHT, wrong) == {DISAGREES}
    assert causes(RIGHT, wrong)[0] == "gradient accumulated"


def test_merged_axes_agree_and_transposed_ones_do_not() -> None:
    kernel = RNG.normal(size=(4, 3, 2, 2))
    assert verdicts({"w": kernel}, {"w": kernel.reshape(4, 12)}) == {AGREES}
    assert verdicts({"w": kernel}, {"w": kernel.transpose(1, 0, 2, 3)}) == {DISAGREES}
    assert verdicts({"w": kernel}, {"w": kernel.reshape(4, 12).T}) == {DISAGREES}
    flat = changed(np.transpose, "fc1.weight")
    assert verdicts(RIGHT, flat) == {AGREES, DISAGREES}
    (cause,) = gw.diff(RIGHT, flat).runs[0].causes
    assert cause.cause == "transposed"
    assert "nn.Linear.weight.grad is (out, in): take .T" in cause.text


def test_tensors_and_entries_in_another_order_agree() -> None:
    backwards = dict(reversed(RIGHT.items()))
    assert verdicts(RIGHT, backwards) == {AGREES}
    renamed = {f"d{'W' if g.ndim > 1 else 'b'}{name[2]}": g for name, g in backwards.items()}
    assert verdicts(RIGHT, renamed) == {AGREES}


def test_clipping_takes_a_number_that_was_clipped() -> None:
    largest = max(float(np.abs(g).max()) for g in RIGHT.values())
    clipped = changed(lambda g: np.clip(g, -largest / 2, largest / 2))
    assert causes(RIGHT, clipped)[0] == "clipped by value"
    # Nothing lies beyond the largest number: only the shape is wrong.
    g = RIGHT["fc1.weight"].astype(np.float64)
    assert not list(clipped_by_value(Case({"w": Exhibit("w", g, g, 1e-9, refuted=True)})))


def test_a_nearly_constant_factor_is_said_and_so_is_what_is_left() -> None:
    def noisy(g: NDArray[Any]) -> NDArray[Any]:
        return -g * (1 + 1e-3 * np.sin(np.arange(g.size)).reshape(g.shape)).astype(np.float32)

    wrong = changed(noisy)
    assert causes(RIGHT, wrong) == []
    assert "fc2.bias: -1.000 times what it should be, to 0.09 %" in notes(RIGHT, wrong)
    wrong = changed(noisy, "fc1.weight") | {"fc2.bias": 3 * RIGHT["fc2.bias"]}
    assert len(causes(RIGHT, wrong)) == 1
    assert "unexplained: fc1.weight: -1.000 times" in notes(RIGHT, wrong)
    odd = RNG.normal(size=(9, 10))
    both = {"fc2.weight": odd, "fc2.bias": 3 * RIGHT["fc2.bias"]}
    assert "unexplained: fc2.weight: no known mistake fits" in notes(RIGHT, RIGHT | both)


@pytest.mark.parametrize(
    ("factor", "noise", "said"),
    [
        (1.0, 3e-3, "w: right to 0.4 %"),
        (0.5, 2e-2, "w: 0.50 times what it should be, to 2 %"),
        (-3e-8, 1e-3, "w: -3e-08 times what it should be, to 0.1 %"),
    ],
)
def test_a_factor_has_as_many_digits_as_are_known(factor: float, noise: float, said: str) -> None:
    g = np.array([1.0, -0.5, 0.25, 1.0])
    claim = factor * (g + noise * np.array([1, 0.5, -1, -1]))
    case = Case({"w": Exhibit("w", g, claim, 1e-12, refuted=True)})
    assert said in unexplained(case, ())


def test_layer_numbers_tell_which_gradient_comes_first() -> None:
    names = [f"d{role}{layer}" for layer in (3, 2, 1) for role in "wb"]
    right = {name: RNG.normal(size=4) for name in names}
    wrong = right | {name: 2 * right[name] for name in ("dw2", "db1")}
    run = gw.diff(right, wrong).runs[0]
    assert [row.name for row in run.rows] == ["dw1", "db1", "dw2", "db2", "dw3", "db3"]
    assert run.first_wrong is not None
    assert run.first_wrong.name == "dw2"
    # Each kind of layer counts for itself: the source's order stays.
    kinds = {f"{name}.weight": RNG.normal(size=4) for name in ("conv1", "conv2", "fc1", "fc2")}
    assert [row.name for row in gw.diff(kinds, kinds).runs[0].rows] == list(kinds)


def test_one_fault_of_several_runs_is_told_once(tmp_path: Path) -> None:
    square = {"fc.weight": RNG.normal(size=(21, 21)), "fc.bias": RNG.normal(size=21)}
    text = "".join(
        f"run {n}\nfc.weight:\n{(g + n).tolist()}\nfc.bias:\n{square['fc.bias'].tolist()}\n"
        for n, g in enumerate([square["fc.weight"]] * 6)
    )
    (tmp_path / "right.txt").write_text(text, encoding="utf-8")
    text = text.replace("fc.weight", "fc.T")
    lines = text.splitlines()
    for at in range(2, len(lines), 5):
        lines[at] = str(np.transpose(eval(lines[at])).tolist())  # noqa: S307 (our own numbers)
    wrong = "\n".join(lines).replace("fc.T", "fc.weight")
    (tmp_path / "wrong.txt").write_text(wrong, encoding="utf-8")
    told = " ".join(str(gw.diff(tmp_path / "right.txt", tmp_path / "wrong.txt")).split())
    assert told.count("nn.Linear.weight.grad is (out, in): take .T.") == 1
    # The 21 numbers of the diagonal are right in each of them.
    assert "6 runs: 2,520 of 2,646 numbers are wrong" in told
    assert told.count("CAUSE transposed: as in other runs, told below") == 6
