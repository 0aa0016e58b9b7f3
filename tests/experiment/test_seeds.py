"""`gradwitness run --seeds`: the worst figures of many runs, and which runs do not agree."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from torch import nn

from experiment.invoke import cli
from gradwitness import InputError, Verdict, experiment
from gradwitness.experiment import processes, program, seeds
from gradwitness.experiment.seeds import Figures, OneSeed, Runner, Seeds, run_seeds
from gradwitness.report.tables.seeds import histogram

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

SMALL = experiment.Config(inputs=3, hidden=2, width=4)
WORDS = ["run", "--inputs", "3", "--hidden", "2", "--width", "4"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


class Half(torch.autograd.Function):
    """A function whose backward is half of what it should be."""

    @staticmethod
    def forward(_: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return gradients[0]


class Outside(torch.autograd.Function):
    """A function that computes outside of torch: nobody can say what its gradient should be."""

    @staticmethod
    def forward(_: Any, x: Any) -> Any:
        return torch.from_numpy(np.sin(x.numpy()))

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return gradients[0]


class Applied(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function.apply(x)


@pytest.fixture
def _faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 5 disagrees, seeds 3 and 4 cannot be judged."""
    plain = program.build

    def build(config: Any, weights: Any) -> Any:
        built = plain(config, weights)
        function = {3: Outside, 4: Outside, 5: Half}.get(config.seed)
        if function is not None:
            assert isinstance(built.model, nn.Sequential)
            built.model.append(Applied(function))
        return built

    monkeypatch.setattr(program, "build", build)


def test_the_figures_are_the_worst_of_single_runs() -> None:
    found = run_seeds(dataclasses.replace(SMALL, seed=2), 4)
    outcomes = {seed: experiment.run(dataclasses.replace(SMALL, seed=seed)) for seed in range(2, 6)}
    assert (found.done, found.processes, found.verdict) == (4, 1, Verdict.AGREES)
    assert found.elements == sum(o.report.coverage()["elements"].judged for o in outcomes.values())
    assert list(found.gradients) == [row.name for row in outcomes[2].report.rows]
    for place, (name, gradient) in enumerate(found.gradients.items()):
        rows = {seed: outcome.report.rows[place] for seed, outcome in outcomes.items()}
        assert {row.name for row in rows.values()} == {name}
        assert gradient.shape == rows[2].shape
        for figure in ("error", "ratio", "detects_relative"):
            of = {seed: getattr(row.comparison, figure) for seed, row in rows.items()}
            worst = max(of.values())
            assert gradient.figures[figure] == (worst, min(s for s in of if of[s] == worst))
        # By a compiled replay here, by a plain one there.
        digits = {seed: row.digits for seed, row in rows.items()}
        least = min(digits.values())
        assert gradient.figures["digits"].figure == pytest.approx(least, abs=1e-6)
    ratios = {
        seed: max(f.comparison.ratio for f in outcome.report.findings)
        for seed, outcome in outcomes.items()
    }
    assert sorted(found.ratios) == sorted(ratios.values())
    assert found.worst is not None
    assert (found.worst.ratio, ratios[found.worst.seed]) == (max(ratios.values()),) * 2


def test_many_processes_find_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_seeds(SMALL, 12)
    monkeypatch.setattr(seeds, "processes_for", lambda _: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    found = run_seeds(SMALL, 12)
    assert os.environ == before
    assert (alone.processes, found.processes) == (1, 2)
    assert sorted(found.ratios) == sorted(alone.ratios)
    assert dataclasses.replace(found, processes=1, ratios=alone.ratios) == alone


def test_the_order_in_which_seeds_end_does_not_show() -> None:
    def one(seed: int) -> OneSeed:
        figures = Figures(float(seed % 3), math.nan, 1.0, float(seed % 2))
        return OneSeed(seed, Verdict.AGREES, "", 0.5, "step", 1, {"w": ((1,), figures)})

    for order in (range(6), reversed(range(6))):
        found = Seeds(SMALL, 6, 1)
        for seed in order:
            found.add(one(seed))
        assert found.gradients["w"].figures == {
            "error": (2.0, 2),
            "detects_relative": (1.0, 0),
            "digits": (0.0, 0),
        }
        assert found.worst == one(0)


@pytest.mark.usefixtures("_faults")
def test_seeds_that_do_not_agree_are_named(snapshot: SnapshotAssertion) -> None:
    result = cli(*WORDS, "--seed", "1", "--seeds", "5")
    assert result.code == 1
    begin = result.out.index("DISAGREES")
    assert re.sub(r"nearest .*", "nearest ...", result.out[begin:]) == snapshot
    # The command that is named finds the same.
    again = re.search(r"gradwitness (run .*--seed 5)$", result.out, re.MULTILINE)
    assert again is not None
    single = cli(*again[1].split())
    assert single.code == 1
    assert "HalfBackward" in single.out


@pytest.mark.usefixtures("_faults")
def test_the_exit_code_is_that_of_the_worst_seed() -> None:
    for first, count, code in ((1, 2, 0), (1, 3, 3), (3, 3, 1)):
        result = cli(*WORDS, "--seed", first, "--seeds", count, "--json")
        record = json.loads(result.out)
        assert (result.code, record["exit_code"], record["done"]) == (code, code, count)
    apart = [(entry["seed"], entry["verdict"]) for entry in record["apart"]]
    assert apart == [(5, "DISAGREES"), (3, "INCONCLUSIVE"), (4, "INCONCLUSIVE")]
    assert [finding["kind"] for finding in record["findings"]] == [
        "wrong seed",
        *["unjudged seed"] * 2,
    ]
    assert record["apart"][0]["again"] == record["findings"][0]["remedy"]
    assert record["verdicts"] == {"AGREES": 0, "DISAGREES": 1, "INCONCLUSIVE": 2}
    assert record["histogram"]["beyond"] == 1


@pytest.mark.usefixtures("_faults")
def test_ctrl_c_shows_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Runner.__call__

    def interrupted(self: Runner, seed: int) -> OneSeed:
        if seed == 6:
            raise KeyboardInterrupt
        return plain(self, seed)

    monkeypatch.setattr(Runner, "__call__", interrupted)
    result = cli(*WORDS, "--seed", "4", "--seeds", "9", "--out", "made")
    assert result.code == 130
    assert "interrupted after 2 of 9" in result.out
    assert "1 inconclusive, 1 DISAGREE" in result.out
    assert result.err == "gradwitness: interrupted\n"
    record = json.loads(Path("made/seeds.json").read_text("utf-8"))
    assert (record["done"], record["interrupted"]) == (2, True)
    assert (record["verdict"], record["exit_code"]) == ("DISAGREES", 130)
    printed = json.loads(cli(*WORDS, "--seed", "4", "--seeds", "9", "--json").out)
    assert (printed["done"], printed["exit_code"]) == (2, 130)
    nothing = cli(*WORDS, "--seed", "6", "--seeds", "9", "--out", "other")
    assert (nothing.code, nothing.out) == (130, "")
    assert not Path("other").exists()


def test_what_ctrl_c_left_undone_does_not_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Runner.__call__

    def interrupted(self: Runner, seed: int) -> OneSeed:
        if seed == 2:
            raise KeyboardInterrupt
        return plain(self, seed)

    monkeypatch.setattr(Runner, "__call__", interrupted)
    result = cli(*WORDS, "--seeds", "9", "--out", "made")
    assert result.code == 130
    assert "2 agree; interrupted after 2 of 9" in result.out
    assert "verdict   INCONCLUSIVE" in result.out
    record = json.loads(Path("made/seeds.json").read_text("utf-8"))
    assert (record["verdict"], record["exit_code"]) == ("INCONCLUSIVE", 130)
    assert record["verdicts"] == {"AGREES": 2, "DISAGREES": 0, "INCONCLUSIVE": 0}
    (finding,) = record["findings"]
    assert (finding["kind"], finding["severity"]) == ("unjudged seeds", "warning")
    assert finding["text"] == "interrupted after 2 of 9 seeds: the others are not judged"
    assert finding["remedy"].endswith("--seeds 9")


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    result = cli(*WORDS, "--seeds", "3")
    assert result.code == 0
    assert list(tmp_path.iterdir()) == []
    result = cli(*WORDS, "--seeds", "3", "--out", "made/here")
    written = tmp_path / "made" / "here"
    assert {path.name for path in written.iterdir()} == {"seeds.txt", "seeds.json", "seeds.svg"}
    assert (written / "seeds.txt").read_text("utf-8").rstrip() in "\n".join(
        line.rstrip() for line in result.out.splitlines()
    )
    record = json.loads((written / "seeds.json").read_text("utf-8"))
    root = ET.fromstring((written / "seeds.svg").read_text("utf-8"))  # noqa: S314 (our own)
    bars = [e.text for e in root.iter() if e.tag.endswith("title")][1:]
    assert [bar and bar.rpartition(" ")[2] for bar in bars] == [
        str(count) for count in record["histogram"]["counts"]
    ]
    assert sum(record["histogram"]["counts"]) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "0"],
        ["--seeds", "-3"],
        ["--seeds", "100000000"],
        ["--seeds", "2", "--seed", str(2**63 - 1)],
        ["--seeds", "2", "--explain"],
        ["--seeds", "2", "--out", "occupied"],
        ["--seeds", "2", "--out", "occupied/below"],
        ["--seeds", "2", "--weights", "absent.npz", "--out", "new"],
        ["--seeds", "2", "--width", "0"],
    ],
)
def test_bad_input_writes_nothing(
    tmp_path: Path, words: list[str], snapshot: SnapshotAssertion
) -> None:
    (tmp_path / "occupied").write_text("a file")
    result = cli(*WORDS, *words)
    assert (result.code, result.out) == (2, "")
    assert result.err == snapshot
    assert [path.name for path in tmp_path.iterdir()] == ["occupied"]


def test_a_number_of_seeds_that_is_none_is_refused() -> None:
    result = cli(*WORDS, "--seeds", "many")
    assert result.code == 2
    assert "--seeds" in result.err


def test_given_weights_are_used_and_named(tmp_path: Path) -> None:
    cli(*WORDS, "--seed", "9", "--out", "first")
    file = tmp_path / "first" / "weights.npz"
    file = file.rename(tmp_path / "my weights.npz")
    result = cli(*WORDS, "--seeds", "2", "--weights", file, "--json")
    assert json.loads(result.out)["again"].endswith(f"--weights '{file}'")
    with_others = json.loads(cli(*WORDS, "--seeds", "2", "--json").out)
    assert json.loads(result.out)["gradients"] != with_others["gradients"]


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(InputError, match="ended from outside, perhaps for want of memory"):
        list(seeds._each(os._exit, range(3, 9), 2))


def test_a_second_ctrl_c_does_not_stop_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, ended = ProcessPoolExecutor.shutdown, []

    def shutdown(self: ProcessPoolExecutor, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        plain(self, **options)
        ended.append(True)

    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", shutdown)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), processes.working(math.sqrt, 2):
        raise KeyboardInterrupt
    assert ended
    assert signal.getsignal(signal.SIGINT) is before


def test_processes_are_started_where_they_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [processes.processes_for(n) for n in (1, 63, 64, 150, 10_000)] == [1, 1, 2, 4, 6]


def test_the_histogram_by_hand() -> None:
    # From 0.1 to 1, 20 steps at most: 0.05 each.
    counted = histogram([0.1, 0.12, 0.33, 0.95, 1.0, 1.5, math.inf])
    assert counted.edges[0] == 0.1
    assert counted.edges[-1] == 1.0
    assert np.allclose(np.diff(counted.edges), 0.05)
    assert [k for k, n in enumerate(counted.counts) if n] == [0, 4, 17]
    assert (counted.counts[0], counted.counts[4], counted.counts[17]) == (2, 1, 2)
    assert counted.beyond == 2
    assert histogram([]) == ([], [], 0)
    assert histogram([2.0]) == ([], [], 1)
    assert histogram([0.0, 0.0]).counts == [2]
    assert histogram([0.25]).counts == [1]
