"""`gradwitness run`: what it prints and writes, and the exit code that it ends with."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from experiment.invoke import cli
from gradwitness.files.dat import read_dat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

SMALL = ["run", "--inputs", "2", "--hidden", "1", "--width", "3"]
FILES = {
    "torch_autograd.dat",
    "my_autograd.dat",
    "comparison.json",
    "report.txt",
    "report.html",
    "graph.svg",
    "graph.dot",
    "graph.pdf",
    "graph.png",
    "weights.npz",
}
NAMES = [
    f"{layer}.{part}" for layer in ("input", "hidden1", "output") for part in ("weight", "bias")
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_writes_every_file_and_prints_the_table(tmp_path: Path) -> None:
    result = cli(*SMALL, "--seed", "5", "--out", "made/here")
    assert result.code == 0
    folder = tmp_path / "made" / "here"
    assert {path.name for path in folder.iterdir()} == FILES
    assert all(path.stat().st_size > 0 for path in folder.iterdir())
    assert (folder / "graph.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (folder / "graph.pdf").read_bytes()[:5] == b"%PDF-"
    assert (folder / "graph.svg").read_text().startswith(("<svg", "<?xml"))
    assert (folder / "graph.dot").read_text().startswith("digraph")
    assert result.out.splitlines()[0] == "gradwitness run"
    assert "repeat      gradwitness run --inputs 2 --hidden 1 --width 3 --seed 5" in result.out
    assert re.findall(r"^(\S+) .*AGREES", result.out, re.MULTILINE) == [*NAMES, "verdict"]
    assert set(result.out.splitlines()[-1].split("here: ")[1].split()) == FILES
    assert "\x1b" not in result.out
    # The report in the folder is what was printed, but for the last line.
    printed = "\n".join(line.rstrip() for line in result.out.splitlines()[:-2])
    assert (folder / "report.txt").read_text().rstrip() == printed.rstrip()


def test_both_sides_have_the_same_names_in_the_same_order(tmp_path: Path) -> None:
    cli(*SMALL)
    sides = [read_dat(tmp_path / "out" / f"{s}_autograd.dat") for s in ("torch", "my")]
    assert [list(side.tensors) for side in sides] == [["loss", "prediction", *NAMES]] * 2
    assert [side.header["side"] for side in sides] == [
        "torch autograd",
        "gradwitness, from scratch in float64",
    ]
    for name in NAMES:
        torch_side, witness_side = (side.tensors[name] for side in sides)
        assert torch_side.dtype == np.float32
        assert witness_side.dtype == np.float64
        assert np.max(np.abs(torch_side - witness_side)) <= 1e-5 * np.max(np.abs(witness_side))


def test_the_printed_command_makes_the_same_files(tmp_path: Path) -> None:
    words = ["--preset", "sigmoid", "--batch", "3", "--loss", "mse", "--seed", "8"]
    first = cli("run", *words, "--out", "a")
    again = re.search(r"^repeat +gradwitness (.*)$", first.out, re.MULTILINE)
    assert again is not None
    cli(*again[1].split(), "--out", "b")
    for name in ("torch_autograd.dat", "my_autograd.dat", "graph.dot"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_says_all_that_the_table_says(tmp_path: Path) -> None:
    result = cli(*SMALL, "--json")
    record = json.loads(result.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (tmp_path / "out" / "comparison.json").exists()
    assert record["schema"] == "gradwitness-comparison"
    assert record["version"] == 1
    assert (record["verdict"], record["exit_code"], result.code) == ("AGREES", 0, 0)
    assert record["first_wrong"] is None
    assert [row["name"] for row in record["gradients"]] == NAMES
    assert record["config"]["width"] == 3
    assert record["again"] == "gradwitness run --inputs 2 --hidden 1 --width 3 --seed 0"
    assert set(record["coverage"]) == {"forward calls", "backward nodes", "gradients", "elements"}
    assert set(record["forward"]) == {"loss", "prediction"}
    assert len(record["data"]["x"]) == 2
    assert 0 <= record["recording"]["share"] <= 1
    figures = {"error", "bound", "ratio", "ulps", "detects", "detects_relative", "norm", "index"}
    for entry in (*record["gradients"], *record["steps"]):
        assert figures <= set(entry)
        assert entry["verdict"] == "AGREES"
    assert {step["step"] for step in record["steps"]} == {
        "forward",
        "fan-in",
        "backward",
        "accumulate",
    }


def test_explain_alone_writes_the_derivation() -> None:
    result = cli(*SMALL, "--explain")
    assert result.code == 0
    derivation = result.out
    assert derivation.index("FORWARD") < derivation.index("[input]") < derivation.index("[output]")
    assert (
        derivation.index("[output]")
        < derivation.index("BACKWARD (pass 1)")
        < derivation.index("b1.grad += g")
    )
    assert "--explain" not in derivation


def test_explain_before_another_option() -> None:
    assert "BACKWARD (pass 1)" in cli("run", "--explain", *SMALL[1:]).out


def test_explain_one_entry() -> None:
    result = cli(*SMALL, "--explain", "hidden1.weight[2,1]")
    assert result.code == 0
    assert "hidden1.weight[2,1]: torch has " in result.out
    assert "L is the result: its gradient is 1. The chain ends here." in result.out


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("hidden9.weight[0,0]", r"no gradient named 'hidden9.weight'; there are: input.weight"),
        ("hidden1.weight[3,0]", r"hidden1.weight has shape \(3, 3\) and no entry .* \(example: "),
        ("hidden1.weight[0]", r"\(example: hidden1.weight\[0,0\]"),
        ("hidden1.weight", r"\(example: hidden1.weight\[0,0\]"),
    ],
)
def test_explain_a_wrong_entry(tmp_path: Path, entry: str, message: str) -> None:
    result = cli(*SMALL, "--explain", entry)
    assert result.code == 2
    assert re.search(message, result.err)
    assert result.err.startswith("gradwitness: ")
    assert list(tmp_path.iterdir()) == []


def save_weights(path: Path, **changes: NDArray[Any] | None) -> Path:
    arrays: dict[str, Any] = {
        "input.weight": np.ones((3, 2)),
        "input.bias": np.zeros(3),
        "hidden1.weight": np.eye(3),
        "hidden1.bias": np.zeros(3),
        "output.weight": np.ones((1, 3)),
        "output.bias": np.zeros(1),
    }
    arrays |= {name.replace("_", "."): array for name, array in changes.items()}
    present = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, allow_pickle=False, **present)
    return path


def test_given_weights_are_used(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "w.npz")
    result = cli(*SMALL, "--weights", path, "--json")
    record = json.loads(result.out)
    x = record["data"]["x"]
    # Each hidden unit is x1 + x2 > 0, the output their sum over three units.
    assert record["forward"]["prediction"]["torch"] == pytest.approx([3 * sum(x)], rel=1e-6)


NAN = np.array([[1.0, 0.0, 0.0], [0.0, np.nan, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden1_weight": NAN},
        {"hidden1_weight": np.ones((3, 2))},
        {"hidden1_weight": None},
        {"extra": np.ones(1)},
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], snapshot: SnapshotAssertion
) -> None:
    path = save_weights(tmp_path / "w.npz", **changes)
    result = cli(*SMALL, "--weights", path)
    assert result.code == 2
    assert result.err == snapshot
    assert names_in(tmp_path) == ["w.npz"]


@pytest.mark.parametrize(
    "words",
    [
        ["--width", "0"],
        ["--dtype", "float8"],
        ["--preset", "huge"],
        ["--weights", "absent.npz"],
        ["--out", "occupied"],
        ["--out", "occupied/below"],
    ],
)
def test_bad_input_writes_nothing(
    tmp_path: Path, words: list[str], snapshot: SnapshotAssertion
) -> None:
    (tmp_path / "occupied").write_text("a file")
    result = cli(*SMALL, *words)
    assert result.code == 2
    assert result.err == snapshot
    assert result.out == ""
    assert names_in(tmp_path) == ["occupied"]
    assert (tmp_path / "occupied").read_text() == "a file"


@pytest.mark.parametrize("words", [["--width", "wide"], ["--unknown"]])
def test_bad_options_are_named(tmp_path: Path, words: list[str]) -> None:
    result = cli(*SMALL, *words)
    assert result.code == 2
    assert words[0] in result.err
    assert names_in(tmp_path) == []


def test_old_files_survive_a_failing_run(tmp_path: Path) -> None:
    cli(*SMALL, "--seed", "1")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for words in (["--width", "0"], ["--explain", "nothing[0]"]):
        assert cli(*SMALL, "--seed", "2", *words).code == 2
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after == before
