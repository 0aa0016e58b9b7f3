"""Claims judged number by number: right ones, wrong ones, and those that say too little."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.programs import unruled
from gradwitness.claims.claim import Claim
from gradwitness.claims.sources import read_claims
from gradwitness.judging.claimed.judge import ClaimReport, ClaimRow, Reference, judge_run
from gradwitness.judging.claimed.references import computed_in
from gradwitness.judging.comparing.compare import CANCELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

AGREES, DISAGREES, INCONCLUSIVE = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE


class Task:
    """A small network with its data and torch's own gradients."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))
        self.x, self.y = torch.randn(5, 3), torch.randn(5, 2)

    def loss(self, output: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(output, self.y)

    def gradients(self) -> dict[str, NDArray[Any]]:
        self.model.zero_grad()
        torch.autograd.backward(self.loss(self.model(self.x)))
        named = self.model.named_parameters()
        gradients = {name: p.grad.numpy().copy() for name, p in named if p.grad is not None}
        self.model.zero_grad()
        return gradients

    def check(self, claims: Any, **options: Any) -> ClaimReport:
        judged = gw.check(self.model, self.x, loss=self.loss, claims=claims, **options)
        assert judged.report is not None
        assert judged.report.verdict is AGREES
        (run,) = judged.runs
        assert judged.verdict is run.verdict
        return run


@pytest.fixture
def task() -> Task:
    return Task()


def row(report: ClaimReport, name: str) -> ClaimRow:
    return next(row for row in report.rows if row.name == name)


def verdicts(report: ClaimReport) -> dict[str, gw.Verdict]:
    return {row.name: row.verdict for row in report.rows}


def test_torch_agrees_with_the_witness(task: Task) -> None:
    claims = task.gradients()
    report = task.check(claims)
    assert report.verdict is AGREES
    assert list(verdicts(report)) == list(claims)
    assert all(r.coverage.judged == r.coverage.total == r.comparison.size for r in report.rows)
    assert all(5 < r.digits < 9 for r in report.rows)
    assert report.causes == ()


def test_nothing_of_the_model_is_changed(task: Task) -> None:
    task.model.insert(1, nn.BatchNorm1d(6))
    kept = torch.ones(6, 3)
    task.model[0].weight.grad = kept
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    random = torch.get_rng_state()
    gw.check(task.model, task.x, loss=task.loss, claims={"0.weight": np.zeros((6, 3))})
    assert task.model[0].weight.grad is kept
    assert torch.equal(kept, torch.ones(6, 3))
    assert task.model[0].bias.grad is None
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("0.weight", lambda g: g * 2),
        ("2.weight", lambda g: g.T.copy()),
        ("3.bias", lambda g: -g),
        ("2.bias", lambda g: g * (1 + 1e-4)),
        ("0.weight", lambda g: np.zeros_like(g)),
        ("2.weight", lambda g: np.where(np.arange(36).reshape(6, 6) == 7, np.nan, g)),
        ("2.weight", lambda g: np.where(np.arange(36).reshape(6, 6) == 7, np.inf, g)),
        ("2.weight", lambda g: np.where(np.arange(36).reshape(6, 6) == 35, g + 1e-3, g)),
    ],
)
def test_a_wrong_claim_is_refuted_and_no_other(
    task: Task, name: str, spoil: Callable[[Any], Any]
) -> None:
    claims = task.gradients()
    claims[name] = spoil(claims[name]).astype(np.float32)
    report = task.check(claims)
    wrong = [n for n, verdict in verdicts(report).items() if verdict is DISAGREES]
    assert wrong == [name]
    assert report.exit_code == 1
    assert report.first_wrong is not None
    assert report.first_wrong.name == name


def test_a_known_mistake_is_named(task: Task) -> None:
    claims = {name: 3 * g for name, g in task.gradients().items()}
    report = task.check(claims)
    assert set(verdicts(report).values()) == {DISAGREES}
    # The loss's own layer is where a backward pass begins.
    assert report.first_wrong is not None
    assert report.first_wrong.name == "3.bias"
    assert report.causes
    assert report.causes[0].coefficient == pytest.approx(3, rel=1e-5)
    assert set(report.causes[0].explains) == set(claims)


def test_shapes_missing_and_unknown(task: Task, snapshot: SnapshotAssertion) -> None:
    claims = task.gradients()
    claims["0.weight"] = claims["0.weight"].T.copy()
    del claims["2.bias"]
    claims["loss_scale_that_nobody_asked_for"] = np.ones((7, 7), np.float32)
    report = task.check(claims)
    assert row(report, "0.weight").verdict is DISAGREES
    assert row(report, "0.weight").reason == snapshot
    assert report.unclaimed == ("2.bias",)
    assert report.unknown == ("loss_scale_that_nobody_asked_for",)


def test_what_is_not_claimed_is_not_passed(task: Task) -> None:
    claims = task.gradients()
    del claims["2.bias"]
    report = task.check(claims)
    assert set(verdicts(report).values()) == {AGREES}
    assert report.verdict is INCONCLUSIVE
    assert report.exit_code == 3


@pytest.mark.low_precision
@pytest.mark.parametrize("seed", range(2))
def test_right_claims_in_other_formats(seed: int, snapshot: SnapshotAssertion) -> None:
    task = Task(seed)
    coarse = task.gradients()
    model, x, y = task.model, task.x, task.y
    task.model, task.x, task.y = model.double(), x.double(), y.double()
    fine = task.gradients()
    task.model, task.x, task.y = model.float(), task.x.float(), task.y.float()
    assert task.check(fine).verdict is AGREES
    assert task.check({n: g.astype(np.float64) for n, g in coarse.items()}).dtype == "float32"
    task.model, task.x, task.y = model.bfloat16(), task.x.bfloat16(), task.y.bfloat16()
    task.model.zero_grad()
    task.loss(task.model(task.x)).backward()  # type: ignore[no-untyped-call]
    low = {n: p.grad.float().numpy() for n, p in model.named_parameters() if p.grad is not None}
    task.model, task.x, task.y = model.float(), task.x.float(), task.y.float()
    report = task.check(low)
    assert report.dtype == "bfloat16"
    assert DISAGREES not in verdicts(report).values()
    assert report.notes == snapshot
    # In float32 they would be wrong.
    assert task.check(low, dtype="float32").verdict is DISAGREES


def test_numbers_that_were_printed_too_short(task: Task, snapshot: SnapshotAssertion) -> None:
    claims = task.gradients()
    small = {n: g * 1e-6 for n, g in claims.items()}
    decimals = {n: np.round(g.astype(np.float64), 5) for n, g in small.items()}
    read = {n: Claim(n, g, 5e-6) for n, g in decimals.items()}
    references = {n: Reference(g.astype(np.float64), 1e-9 * np.abs(g)) for n, g in small.items()}
    report = judge_run(read, references, "float32", source="", against="", grade="")
    assert set(verdicts(report).values()) == {INCONCLUSIVE}
    assert row(report, "0.weight").reason == snapshot
    assert row(report, "0.weight").coverage.judged == 0


def one(claim: Claim, value: Any, allowance: Any, **doubts: Any) -> ClaimRow:
    reference = Reference(np.asarray(value, float), np.asarray(allowance, float), **doubts)
    report = judge_run({"w": claim}, {"w": reference}, "float32", source="", against="", grade="")
    (only,) = report.rows
    return only


def claim_of(*numbers: float, **options: Any) -> Claim:
    return Claim("w", np.array(numbers, dtype=np.float64), **options)


def test_zeros_count_where_they_are_known() -> None:
    judged = one(claim_of(0, 0, 0, 1), [0, 0, 0, 1], [1e-7] * 4)
    assert judged.verdict is AGREES
    assert judged.coverage.judged == 4
    judged = one(claim_of(0, 0, 0, 1), [0, 0, 0, 1], [0.1] * 4)
    assert judged.coverage.judged == 1


def test_half_of_the_numbers_must_confirm(snapshot: SnapshotAssertion) -> None:
    value, allowance = [1.0, 1, 1, 1e-9], [1e-7] * 4
    assert one(claim_of(1, 1, 1, 0), value, allowance).verdict is AGREES
    value = [1.0, 1e-9, 1e-9, 1e-9]
    judged = one(claim_of(1, 0, 0, 0), value, allowance)
    assert judged.verdict is INCONCLUSIVE
    assert judged.reason == snapshot


def test_entries_that_were_left_out(snapshot: SnapshotAssertion) -> None:
    value = np.arange(100.0).reshape(10, 10) + 1
    visible = value[np.ix_([0, 1, 2, 7, 8, 9], [0, 1, 8, 9])]
    gaps = (3, 2)
    right = one(Claim("w", visible, gaps=gaps), value, value * 1e-6)
    assert right.verdict is INCONCLUSIVE
    assert right.reason == snapshot
    assert right.comparison.refuted == 0
    wrong = visible.copy()
    wrong[5, 3] = 0
    assert one(Claim("w", wrong, gaps=gaps), value, value * 1e-6).verdict is DISAGREES
    assert one(Claim("w", visible, gaps=(3, None)), value, value).verdict is DISAGREES


def test_nan_on_both_sides_is_no_agreement() -> None:
    assert one(claim_of(np.nan, 1), [np.nan, 1], [1e-7, 1e-7]).verdict is INCONCLUSIVE
    assert one(claim_of(np.nan, 1), [1, 1], [1e-7, 1e-7]).verdict is DISAGREES


def test_a_doubt_about_the_reference_is_one_about_the_claim() -> None:
    judged = one(claim_of(1), [1], [1e-7], doubt="no rule for aten.x")
    assert (judged.verdict, judged.reason) == (INCONCLUSIVE, "no rule for aten.x")
    assert one(claim_of(2), [1], [1e-7], doubt="no rule for aten.x").verdict is DISAGREES


def test_a_gradient_that_cancels_may_be_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    # Of so many that their own rounding hides what that of the layers behind leaves.
    x = torch.randn(128, 3)
    torch.autograd.backward(model(x).square().sum())
    claims = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    (run,) = gw.check(model, x, loss=lambda o: o.square().sum(), claims=claims).runs
    assert run.verdict is AGREES
    assert row(run, "0.bias").reason == CANCELS


def test_the_format_of_widened_numbers(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=100)
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        wide = numbers.astype(dtype).astype(np.float64)
        run = {"w": Claim("w", wide, dtype="float64")}
        assert computed_in(run, "float64")[0] == np.dtype(dtype).name
    assert computed_in({"w": Claim("w", numbers, dtype="float64")}, "float32") == ("float64", "")
    # JSON has no formats, and Python writes as many digits as tell a float64 from its neighbours.
    for dtype, told in ((np.float16, "float16"), (np.float32, "float32")):
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"w": [*numbers.astype(dtype).tolist(), 0.0]}))
        (run,) = read_claims(path).runs
        assert computed_in(run, "float64")[0] == told
    # So many whole numbers and halves do not tell: each may have been cut off.
    (tmp_path / "a.txt").write_text("w: " + " ".join(f"{n / 2:.1f}" for n in range(1, 100)))
    (run,) = read_claims(tmp_path / "a.txt").runs
    assert computed_in(run, "float32")[0] == "float32"
    # Few numbers say nothing, and neither do printed ones.
    few = {"w": Claim("w", np.array([1.0, 2.0]), dtype="float32")}
    assert computed_in(few, "float32") == ("float32", "")
    assert computed_in({"w": Claim("w", numbers, 1e-3)}, "float32")[0] == "float32"


def test_float16_numbers_in_json_are_judged_as_such(task: Task, tmp_path: Path) -> None:
    half = {name: g.astype(np.float16).astype(float) for name, g in task.gradients().items()}
    path = tmp_path / "half.json"
    path.write_text(json.dumps({name: g.tolist() for name, g in half.items()}))
    report = task.check(path)
    assert (report.verdict, report.dtype) == (AGREES, "float16")
    half["0.weight"][0, 0] *= 1.25
    path.write_text(json.dumps({name: g.tolist() for name, g in half.items()}))
    assert task.check(path).verdict is DISAGREES


def passes(count: int) -> tuple[gw.Witness, list[NDArray[Any]]]:
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    alone = []
    with gw.watch(names={"w": w}) as witness:
        for k in range(count):
            before = 0 if w.grad is None else w.grad.numpy().copy()
            torch.autograd.backward((w * w.sin() * (k + 1.5) ** 2).sum())
            assert w.grad is not None
            alone.append(w.grad.numpy() - before)
    return witness, alone


def test_claims_find_their_backward_pass(snapshot: SnapshotAssertion) -> None:
    witness, alone = passes(3)
    (second,) = witness.check_claims({"w": alone[1]}).runs
    assert second.verdict is AGREES
    assert second.notes == snapshot
    (summed,) = witness.check_claims({"w": alone[0] + alone[1]}).runs
    assert summed.verdict is AGREES
    assert summed.notes == snapshot
    (chosen,) = witness.check_claims({"w": alone[1]}, sweep=1).runs
    assert chosen.verdict is DISAGREES
    with pytest.raises(gw.InputError) as error:
        witness.check_claims({"w": alone[1]}, sweep=4)
    assert str(error.value) == snapshot


def test_what_cannot_be_judged_says_why(task: Task, snapshot: SnapshotAssertion) -> None:
    with gw.watch() as witness:
        pass
    with gw.watch(task.model, keep=0) as freed:
        task.gradients()
    for check in (
        lambda: witness.check_claims({"w": np.ones(1)}),
        lambda: freed.check_claims({"w": np.ones(1)}),
        lambda: task.check(task.gradients(), dtype="int8"),
        lambda: gw.check(task.model, task.x, claims=task.gradients()),
    ):
        with pytest.raises(gw.InputError) as error:
            check()
        assert str(error.value) == snapshot


def test_operations_without_a_rule_leave_a_doubt(snapshot: SnapshotAssertion) -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    with gw.watch(names={"w": w}) as witness:
        torch.autograd.backward(unruled(w).sum())
    assert w.grad is not None
    (run,) = witness.check_claims({"w": w.grad.numpy()}).runs
    assert run.verdict is INCONCLUSIVE
    assert row(run, "w").reason == snapshot


def test_what_is_said_and_written(task: Task, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    claims = task.gradients()
    claims["2.weight"] = claims["2.weight"] * np.float32(3)
    judgement = gw.check(task.model, task.x, loss=task.loss, claims=claims)
    text = str(judgement)
    assert text.index("steps     forward") < text.index("claims    a dict")
    assert text[text.index("first wrong") :] == snapshot
    with pytest.raises(gw.GradientDisagreement, match=r"2\.weight"):
        judgement.require()
    judgement.save(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == text
    judgement.save(tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["schema"], record["version"]) == ("gradwitness-claims", 1)
    assert (record["verdict"], record["exit_code"]) == ("DISAGREES", 1)
    assert record["program"]["schema"] == "gradwitness-comparison"
    (run,) = record["runs"]
    assert run["first_wrong"] == "2.weight"
    assert {g["name"]: g["verdict"] for g in run["gradients"]}["2.bias"] == "AGREES"
    assert run["causes"][0]["coefficient"] == pytest.approx(3, rel=1e-5)
    with pytest.raises(gw.InputError) as error:
        judgement.save(tmp_path / "a.svg")
    assert str(error.value).replace(str(tmp_path), "") == snapshot


def test_a_function_as_the_source(task: Task) -> None:
    assert task.check(task.gradients).verdict is AGREES


SIZES = {"a.weight": (20, 30), "a.bias": (20,)}


def side(seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=s).astype(np.float32) for name, s in SIZES.items()}


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1 + 2e-7, AGREES), (1 + 2e-5, INCONCLUSIVE), (1 + 1e-3, DISAGREES), (2, DISAGREES)],
)
def test_the_three_zones_of_a_difference(
    factor: float, verdict: gw.Verdict, snapshot: SnapshotAssertion
) -> None:
    a = side()
    b = {n: (g * factor).astype(np.float32) for n, g in a.items()}
    difference = gw.diff(a, b)
    assert difference.verdict is verdict
    assert difference.exit_code == {AGREES: 0, DISAGREES: 1, INCONCLUSIVE: 3}[verdict]
    assert difference.runs[0].grade == snapshot


def test_a_difference_names_what_it_knows() -> None:
    a = side()
    b = {"a.weight": a["a.weight"] * np.float32(2), "a.bias": a["a.bias"] * np.float32(2)}
    (run,) = gw.diff(a, b).runs
    assert run.causes[0].coefficient == pytest.approx(2)
    b = {"a.weight": a["a.weight"]}
    (run,) = gw.diff(a, b).runs
    assert (run.verdict, run.unclaimed) == (INCONCLUSIVE, ("a.bias",))


def test_different_gradients_never_agree() -> None:
    assert gw.diff(side(0), side(1)).verdict is DISAGREES
    zeros = {n: np.zeros_like(g) for n, g in side().items()}
    assert gw.diff(side(), zeros).verdict is DISAGREES
    assert gw.diff(zeros, side()).verdict is DISAGREES
    nan = side() | {"a.bias": np.full(20, np.nan, np.float32)}
    assert gw.diff(side(), nan).verdict is DISAGREES
    assert gw.diff(nan, nan).verdict is INCONCLUSIVE
