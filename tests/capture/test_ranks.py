"""Steps that are spread over ranks: not refuted for it, and in doubt where ranks exchange."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = Path(__file__).with_name("two_ranks.py")
REDUCED = "reduced across ranks outside the record"
SEEDED = "the pass began from a gradient that another rank sent"
TALKS = "it talks to other processes (c10d."

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch was built without torch.distributed"
)


def run(store: Path, ranks: int, names: Iterable[str] = ()) -> Any:
    """Run programs on some ranks at once; return what rank 0 says."""
    process = subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, str(PROGRAM), str(ranks), str(store), *names],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        start_new_session=True,
    )
    try:
        errors = process.communicate(timeout=150)[1].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a rank may wait for one that has failed
    assert process.returncode == 0, errors
    return json.loads(Path(f"{store}.json").read_text())


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("ranks") / "store", 2)


# Right and wrong ones: what they reduce is not judged.
@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("replicated", "DistributedDataParallel"),
        ("replicated_views", "DistributedDataParallel"),
        ("hook_that_forgets_to_divide", "DistributedDataParallel"),
        ("hook_that_does_nothing", "DistributedDataParallel"),
        ("wrapper_unknown", "collectives"),
        ("sharded_flat", "FullyShardedDataParallel"),
        ("sharded", "FSDPModule, DTensor"),
        ("hybrid_sharded", "FSDPModule, DTensor"),
        ("reduced_by_hand", "collectives"),
        ("reduced_in_one_buffer", "collectives"),
    ],
)
def test_reduced_gradients_are_in_doubt(said: Any, name: str, by: str) -> None:
    outcome = said[name]
    assert set(outcome["rows"].values()) == {"INCONCLUSIVE"}
    assert outcome["verdict"] == "INCONCLUSIVE"
    assert REDUCED in outcome["reasons"]
    assert not any("changed outside" in reason for reason in outcome["reasons"])
    (text,) = [text for kind, text in outcome["notes"] if kind == "several ranks"]
    assert text.startswith(f"{by} spread this step over ranks.")


def test_a_look_says_no_more_than_a_full_judgement(said: Any) -> None:
    by_looks = {name: outcome for name, outcome in said.items() if ", " in name}
    assert len(by_looks) == 12
    for name, outcome in by_looks.items():
        assert outcome["verdict"] == "INCONCLUSIVE", name
        assert set(outcome["rows"].values()) == {"INCONCLUSIVE"}, name


@pytest.mark.parametrize(
    "name",
    ["all_reduce", "all_gather", "all_to_all", "broadcast", "reduce_function", "copy_function"],
)
def test_collectives_in_autograd_are_in_doubt(said: Any, name: str) -> None:
    outcome = said[name]
    assert outcome["verdict"] == "INCONCLUSIVE"
    assert any(reason.startswith(TALKS) for reason in outcome["reasons"])
    assert REDUCED not in outcome["reasons"]
    assert outcome["notes"] == []


@pytest.mark.parametrize("name", ["reduce_function", "copy_function"])
def test_what_lies_behind_a_collective_agrees(said: Any, name: str) -> None:
    rows = said[name]["rows"]
    # Backward, the head comes first.
    behind = {row: verdict for row, verdict in rows.items() if row.startswith("1.")}
    before = {row: verdict for row, verdict in rows.items() if row.startswith("0.")}
    assert set(before.values()) == {"INCONCLUSIVE"}
    assert set(behind.values()) == ({"AGREES"} if name == "copy_function" else {"INCONCLUSIVE"})


def test_tensor_parallel_steps_are_in_doubt(said: Any) -> None:
    outcome = said["tensor_parallel"]
    assert set(outcome["rows"].values()) == {"INCONCLUSIVE"}
    ((kind, text),) = outcome["notes"]
    assert kind == "several ranks"
    assert text.startswith("DTensor spread this step over ranks.")


@pytest.mark.parametrize(
    ("name", "passes"), [("pipeline", 1), ("pipeline_gpipe", 3), ("pipeline_1f1b", 3)]
)
def test_a_pipeline_stage_says_where_its_gradient_came_from(
    said: Any, name: str, passes: int
) -> None:
    assert said[name]["verdict"] == "INCONCLUSIVE"
    # One for each micro-batch.
    assert said[name]["reasons"] == {SEEDED: passes}


def test_what_is_sharded_and_replicated_over_a_mesh_is_in_doubt(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path / "store", 4, ["hybrid_sharded"]).values()
    assert set(outcome["rows"].values()) == {"INCONCLUSIVE"}
    assert REDUCED in outcome["reasons"]
    assert outcome["wrong"] == outcome["failures"] == []


def test_a_fault_in_a_replica_is_found(said: Any) -> None:
    outcome = said["fault_in_a_replica"]
    assert outcome["verdict"] == "DISAGREES"
    assert outcome["wrong"] == ["HalfBackward #3, gradient of x (input 0)"]


@pytest.mark.parametrize(
    "name",
    ["without_sync", "other_model", "group_unused", "logged", "broadcast_first", "zero_redundancy"],
)
def test_what_ranks_do_besides_spoils_nothing(said: Any, name: str) -> None:
    outcome = said[name]
    assert outcome["verdict"] == "AGREES"
    assert set(outcome["rows"].values()) == {"AGREES"}
    # The other model of one of them is not used.
    assert {kind for kind, _ in outcome["notes"]} <= {"parameters unused"}


def test_nothing_is_refuted_and_nothing_fails(said: Any) -> None:
    assert [name for name, outcome in said.items() if outcome["wrong"]] == ["fault_in_a_replica"]
    assert [name for name, outcome in said.items() if outcome["failures"]] == []


def test_a_world_of_one_rank_spoils_nothing(tmp_path: Path) -> None:
    names = ("replicated", "replicated_views", "reduced_by_hand", "logged", "group_unused")
    alone = run(tmp_path / "store", 1, names)
    assert {name: outcome["verdict"] for name, outcome in alone.items()} == dict.fromkeys(
        names, "AGREES"
    )
    assert [outcome["notes"] for outcome in alone.values()] == [[]] * len(names)
