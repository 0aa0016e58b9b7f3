"""Printed trees: what Python, JAX, Flax and Keras print of nested gradients is read by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Run

KERNEL = "Array([[ 0.5 , -1.25],\n       [ 2.  ,  3.75]], dtype=float32)"
BIAS = "Array([0.125, 0.25 ], dtype=float32)"
# As JAX 0.10, Flax 0.12 and Keras 3.15 printed them.
TREES = {
    "dict": (f"{{'Dense_0': {{'kernel': {KERNEL}, 'bias': {BIAS}}}}}", "Dense_0.kernel"),
    "dict, named": (f"grads = {{'d': {{'kernel': {KERNEL}, 'bias': {BIAS}}}}}", "d.kernel"),
    "dict, on many lines": (
        f"{{'params': {{'Dense_0': {{'bias': {BIAS},\n            'kernel': {KERNEL}}}}}}}\n",
        "params.Dense_0.kernel",
    ),
    "FrozenDict": (
        (
            f"FrozenDict({{\n    params: {{\n        Dense_0: {{\n            kernel: {KERNEL},\n"
            f"            bias: {BIAS},\n        }},\n    }},\n}})\n"
        ),
        "params.Dense_0.kernel",
    ),
    "nnx": (
        (
            f"State({{\n  'l1': {{\n    'bias': Param( # 2 (8 B)\n      value={BIAS}\n    ),\n"
            f"    'kernel': Param( # 4 (16 B)\n      value={KERNEL}\n    )\n  }}\n}})\n"
        ),
        "l1.kernel",
    ),
    "tuples": (f"[({KERNEL}, {BIAS})]", "0.0"),
    "named tuple": (f"Params(w={KERNEL}, b={BIAS})", "w"),
    "named tuples in a list": (f"{{'layers': [P(w={KERNEL}, b={BIAS})]}}", "layers.0.w"),
    "OrderedDict": (
        (
            "OrderedDict([('0.weight', tensor([[ 0.5000, -1.2500],\n        [ 2.0000,  3.7500]], "
            "grad_fn=<MulBackward0>)), ('0.bias', tensor([0.1250, 0.2500]))])"
        ),
        "0.weight",
    ),
    "Keras": (
        (
            "[<Variable path=sequential/dense/kernel, shape=(2, 2), dtype=float32, value=[[ 0.5  "
            "-1.25]\n [ 2.    3.75]]>, <Variable path=sequential/dense/bias, shape=(2,), "
            "dtype=float32, value=[0.125 0.25 ]>]"
        ),
        "sequential/dense/kernel",
    ),
    "paths": (
        "['d']['kernel'] [[ 0.5  -1.25]\n [ 2.    3.75]]\n['d']['bias'] [0.125 0.25 ]",
        "d.kernel",
    ),
}


def read(folder: Path, content: str) -> tuple[Run, ...]:
    (folder / "a.txt").write_text(content, encoding="utf-8")
    return read_claims(folder / "a.txt").runs


@pytest.mark.parametrize("name", TREES)
def test_a_printed_tree_is_read_by_name(tmp_path: Path, name: str) -> None:
    content, kernel = TREES[name]
    (run,) = read(tmp_path, content)
    assert len(run) == 2
    assert run.pop(kernel).array.tolist() == [[0.5, -1.25], [2, 3.75]]
    (bias,) = run.values()
    assert bias.array.tolist() == [0.125, 0.25]
    assert bias.dtype == ("float32" if "Array" in content else "")


def test_digits_in_a_tree_are_what_they_are(tmp_path: Path) -> None:
    tree = "{'a': {'w': array([0.1, 0.25]), 'c': 0.50, 'n': -2.5e-3, 's': tensor(1e-05 *\n [2.])}}"
    (run,) = read(tmp_path, tree)
    assert {name: float(np.max(claim.rounding)) for name, claim in run.items()} == pytest.approx(
        {"a.w": 5e-3, "a.c": 5e-3, "a.n": 5e-5, "a.s": 5e-10}
    )
    assert run["a.n"].array == -2.5e-3
    assert run["a.s"].array == pytest.approx([2e-5])


def test_repeated_trees_are_runs(tmp_path: Path) -> None:
    tree = TREES["dict"][0]
    first, second = read(tmp_path, f"step 1\n{tree}\nstep 2\n{tree.replace('0.5', '1.5')}\n")
    assert first["Dense_0.kernel"].array[0, 0] == 0.5
    assert second["Dense_0.kernel"].array[0, 0] == 1.5


def test_a_tree_is_parsed_and_never_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    call = f"__import__('pathlib').Path({str(made)!r}).touch()"
    (run,) = read(tmp_path, f"{{'a': {call}, 'w': array([0.5, 1.5])}}")
    assert list(run) == ["w"]
    assert not made.exists()


@pytest.mark.parametrize(
    "content", ["{'w': array([[1, 2], [3]])}", "{'w': array([1, 2", "{" * 10_000, "[({" * 10_000]
)
def test_a_malformed_tree_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FileFormatError, match=r"a\.txt"):
        read(tmp_path, content)
