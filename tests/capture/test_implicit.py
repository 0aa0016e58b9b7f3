"""Right gradients that are not the derivative of what was recorded: slopes decide, afterwards."""

# Torch prescribes the parameters.

# Torch prescribes the parameters.
# ruff: noqa: ARG004

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.implicit import (
    FAULTS,
    IMPLICIT,
    Bisected,
    Cubic,
    LogDeterminant,
    Root,
    Sparsemax,
    leaves,
    loss,
    spoilt,
)
from capture.programs import leaf
from experiment.invoke import cli
from gradwitness import Verdict
from gradwitness.judging.finding import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = [torch.float32, torch.float64]
# Transposed, a gradient among symmetric matrices is the same.
SAME = [(LogDeterminant, "transposed"), (Cubic, "transposed")]
SPOILT = [(f, fault) for f in IMPLICIT for fault in FAULTS if (f, fault) not in SAME]
# In the format that sees more, those that move least or one number alone: the others are larger.
LEAST = [(f, fault) for f, fault in SPOILT if fault in ("2 %", "one element")]
FOUND = [(*s, torch.float32) for s in SPOILT] + [(*s, torch.float64) for s in LEAST]


def watched(function: Any, dtype: torch.dtype, original: Any = None, **options: Any) -> gw.Witness:
    given = leaves(original or function, dtype)
    with gw.watch(**options) as witness:
        loss(function, given, original).backward()
    return witness


@pytest.mark.parametrize("function", IMPLICIT)
def test_the_right_gradients_are_right(function: Any) -> None:
    # By central differences along random directions; the solvers stop 1e-6 from their limit.
    given = leaves(function, torch.float64)
    loss(function, given).backward()
    for x in given:
        for seed in range(3):
            v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
            ahead, behind = (
                loss(function, [(p + h * v if p is x else p).detach() for p in given])
                for h in (1e-3, -1e-3)
            )
            slope = (x.grad * v).sum()
            assert abs((ahead - behind) / 2e-3 - slope) < 3e-4 * max(1.0, float(x.grad.norm()))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("function", IMPLICIT)
def test_a_right_gradient_agrees(function: Any, dtype: torch.dtype) -> None:
    report = watched(function, dtype).report
    assert report.verdict is Verdict.AGREES, report.reasons()


@pytest.mark.parametrize(("function", "fault", "dtype"), FOUND)
def test_a_fault_is_found(function: Any, fault: str, dtype: torch.dtype) -> None:
    report = watched(spoilt(function, fault), dtype, function).report
    assert report.verdict is Verdict.DISAGREES
    assert {f.tensor_nr for f in report.wrong} == {0}


class Similarity(Function):
    """Sums and a small number in one line are no iteration; its backward forgets the divisor."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        return (2 * x * y + 0.01) / (x * x + y * y + 0.01)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved_tensors
        divided = 2 * g / (x * x + y * y + 0.01)
        return divided * y, divided * x


def test_a_line_with_a_small_number_is_no_iteration() -> None:
    torch.manual_seed(0)
    with gw.watch() as witness:
        apply(Similarity, leaf(8), leaf(8)).sum().backward()
    assert witness.verdict is Verdict.DISAGREES, witness.report.reasons()


def test_what_agrees_by_slopes_says_so() -> None:
    (grade,) = [
        f.grade
        for f in watched(Sparsemax, torch.float32).report.findings
        if f.step is Step.BACKWARD
        if f.grade
    ]
    assert grade.startswith("by slopes (4 directions, float64)")


def test_along_symmetric_directions_only_is_said_and_no_leaf_agrees() -> None:
    grades = {f.grade for f in watched(Cubic, torch.float32).report.findings}
    assert "right along symmetric directions only" in grades
    a = torch.eye(3).requires_grad_()
    with gw.watch() as witness:
        apply(Cubic, a, torch.arange(9.0).view(3, 3)).backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert reason.startswith("right along symmetric directions only, and nothing keeps")


def test_a_recording_holds_no_functions(tmp_path: Any) -> None:
    witness = watched(Sparsemax, torch.float32)
    witness.save(tmp_path / "tape.npz")
    report = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons() == {
        "not the derivative of the recorded forward, but its forward is an iteration; not "
        "measured: slopes need the program, so judge it live, with watch": 1
    }


def test_a_recording_shows_what_is_right_along_some_directions(tmp_path: Any) -> None:
    a = torch.eye(3).requires_grad_()
    with gw.watch() as witness:
        apply(Cubic, a, torch.arange(9.0).view(3, 3)).backward()
    witness.save(tmp_path / "tape.npz")
    report = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons() == witness.report.reasons()


def test_a_recording_says_that_what_it_refutes_was_not_measured(tmp_path: Any) -> None:
    with gw.watch() as witness:
        given = leaves(LogDeterminant, torch.float64)
        loss(spoilt(LogDeterminant, "2 %"), given, LogDeterminant).backward()
    witness.save(tmp_path / "tape.npz")
    report = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert report.verdict is Verdict.DISAGREES
    assert any("slopes need the program" in f.grade for f in report.wrong)


def calls_made(bisections: int) -> int:
    """Count the function calls while a program of several bisections is watched and judged."""
    count = 0

    def heard(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    torch.manual_seed(0)
    a = (1 + torch.rand(3, dtype=torch.float64)).requires_grad_()
    sys.setprofile(heard)
    try:
        with gw.watch(names={"a": a}) as witness:
            y: Any = a
            for _ in range(bisections):
                y = apply(Bisected, y + 1)
            y.sum().backward()
        assert witness.verdict is Verdict.AGREES
    finally:
        sys.setprofile(None)
    return count


def test_a_program_twice_as_long_costs_twice_as_much() -> None:
    calls_made(1)
    assert calls_made(4) < 2.3 * calls_made(2)


RUNS: list[str] = []
STATE = {"runs": 0}
BUFFER = torch.zeros(1)


def appends() -> None:
    RUNS.append("again")


def prints() -> None:
    print("again")  # noqa: T201


def counts() -> None:
    STATE["runs"] += 1


def writes() -> None:
    BUFFER.add_(1)


def writes_globally() -> None:
    global BUFFER
    BUFFER = BUFFER + 1


EFFECTS = [appends, prints, counts, writes, writes_globally]


def state() -> Any:
    return len(RUNS), dict(STATE), BUFFER.clone()


def noisy(effect: Callable[[], None]) -> Any:
    """Return a solver with a side effect, which the backward does not repeat."""

    class Noisy(Sparsemax):
        calls = 0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            effect()
            return Sparsemax.forward(ctx, x)

    return Noisy


def changed(before: Any, after: Any) -> Any:
    return after[0] - before[0], after[1]["runs"] - before[1]["runs"], float(after[2] - before[2])


@pytest.mark.parametrize("fault", [None, "sign"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_side_effect_happens_as_often_as_without_watching(
    effect: Callable[[], None], fault: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    function = noisy(effect) if fault is None else spoilt(noisy(effect), fault)
    before = state()
    loss(function, leaves(Sparsemax, torch.float32), Sparsemax).backward()
    alone, said = changed(before, state()), capsys.readouterr().out
    before = state()
    witness = watched(function, torch.float32, Sparsemax)
    assert changed(before, state()) == alone
    assert capsys.readouterr().out == said
    # Nothing is known but that it is not the derivative of what was recorded.
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any("watch(..., rerun=['" in reason for reason in witness.report.reasons())


def test_what_the_program_allows_runs_again() -> None:
    function = noisy(counts)
    runs = STATE["runs"]
    assert watched(function, torch.float32, Sparsemax, rerun=["Noisy"]).verdict is Verdict.AGREES
    assert STATE["runs"] > runs + 1
    assert watched(function, torch.float32, Sparsemax, rerun=[function]).verdict is Verdict.AGREES
    assert watched(function, torch.float32, Sparsemax, rerun=True).verdict is Verdict.AGREES
    assert watched(Sparsemax, torch.float32, rerun=False).verdict is Verdict.INCONCLUSIVE


def test_a_name_of_no_function_is_told() -> None:
    for names, there in (
        (["Nope"], "Nope: it has Sparsemax"),
        ([Sparsemax, "gone::op", float], "gone::op and float: it has Sparsemax"),
        (["Sparsemax", "aten::mul"], ""),
    ):
        witness = watched(Sparsemax, torch.float32, rerun=names)
        told = [note.text for note in witness.report.notes if note.kind == "nothing to rerun"]
        assert told == ([f"no custom function of the graph is named {there}."] if there else [])


def test_nothing_runs_again_before_the_block_has_ended() -> None:
    class Counted(Sparsemax):
        runs = 0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            Counted.runs += 1
            return Sparsemax.forward(ctx, x)

    given = leaves(Sparsemax, torch.float32)
    with gw.watch(rerun=True) as witness:
        loss(Counted, given, Sparsemax).backward()
        runs = Counted.runs
        # What the program writes afterwards is not what the function was given.
        given[0].data.zero_()
    assert runs == 1
    assert Counted.runs > 1
    assert witness.verdict is Verdict.AGREES


class Cell(torch.nn.Module):
    """One step of an equilibrium layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = torch.nn.Linear(4, 4)
        self.last = torch.nn.Tanh()

    def forward(self, z: Any, x: Any) -> Any:
        return self.last(self.inside(z) / 2 + x)


class Deep(Function):
    """The fixed point of a module that is an argument, like its parameters."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, cell: Any, x: Any, *parameters: Any) -> Any:
        z = torch.zeros_like(x)
        for _ in range(15):
            z = cell(z, x)
        ctx.cell = cell
        ctx.save_for_backward(z, x, *parameters)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        z, x, *parameters = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        given = dict(zip([n for n, _ in ctx.cell.named_parameters()], parameters, strict=True))
        with torch.enable_grad():
            out = torch.func.functional_call(ctx.cell, given, (z, x))
        v = grads[0]
        for _ in range(80):
            v = grads[0] + torch.autograd.grad(out, z, v, retain_graph=True)[0]
        of_x, *others = torch.autograd.grad(out, [x, *parameters], v)
        return None, of_x, Deep.factor * others[0], *others[1:]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("factor", "wrong"), [(1.0, set()), (1.02, {1}), (-1.0, {1})])
def test_a_module_among_the_arguments_moves_with_its_parameters(
    factor: float, wrong: set[int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deep, "factor", factor)
    torch.manual_seed(0)
    cell, x = Cell().to(dtype), leaf(3, 4, dtype=dtype)
    before = [p.detach().clone() for p in cell.parameters()]
    with gw.watch(cell) as witness:
        apply(Deep, cell, x, *cell.parameters()).backward(torch.randn(3, 4, dtype=dtype))
    assert all(map(torch.equal, before, cell.parameters()))
    assert {f.tensor_nr for f in witness.report.wrong} == wrong
    deep = [f for f in witness.report.findings if f.title.startswith("DeepBackward")]
    others = [f.verdict for f in deep if f.step is Step.BACKWARD and f.tensor_nr not in wrong]
    assert others == [Verdict.AGREES] * (3 - len(wrong))


class OutsideRoot(Function):
    """z with z^3 + z = x, by half Newton steps in NumPy, stopped early: no rule sees them."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        given = x.numpy()
        z, moved = 0 * given, 1.0
        while moved > 1e-6:
            step = 0.5 * (z**3 + z - given) / (3 * z * z + 1)
            z, moved = z - step, float(abs(step).max())
        result = torch.from_numpy(z)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (z,) = ctx.saved_tensors
        return OutsideRoot.factor * grads[0] / (3 * z * z + 1)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [1.0, 1.02, -1.0])
def test_a_solver_that_no_record_shows(
    factor: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutsideRoot, "factor", factor)
    torch.manual_seed(0)
    with gw.watch() as witness:
        apply(OutsideRoot, leaf(6, dtype=dtype)).backward(torch.randn(6, dtype=dtype))
    if factor == 1:
        assert witness.report.wrong == ()
    else:
        assert witness.verdict is Verdict.DISAGREES


class Stepped(Function):
    """Rounds to 1/32, and passes the gradient straight through."""

    runs = 0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Stepped.runs += 1
        return (32 * x).round() / 32

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


def test_the_slope_of_a_staircase_supports_nobody() -> None:
    torch.manual_seed(0)
    Stepped.runs = 0
    # With so many elements, the slope over a long step is that of the identity.
    with gw.watch(rerun=True) as witness:
        apply(Stepped, leaf(4000)).backward(torch.randn(4000))
    assert witness.verdict is Verdict.DISAGREES
    assert Stepped.runs == 1


class OutsideSum(Function):
    """The sum of C A, out of sight, with one of three gradients of a symmetric A."""

    gradient: Any = None

    @staticmethod
    def forward(ctx: Any, a: Any, c: Any) -> Any:
        ctx.save_for_backward(c)
        return torch.from_numpy((a.numpy() * c.numpy()).sum(keepdims=True))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * OutsideSum.gradient(*ctx.saved_tensors), None


@pytest.mark.parametrize(
    ("gradient", "verdict"),
    [
        (lambda c: c, Verdict.AGREES),
        (lambda c: (c + c.mT) / 2, Verdict.INCONCLUSIVE),
        (lambda c: c.mT, Verdict.DISAGREES),
        (lambda c: (c + c.mT) / 1.98, Verdict.DISAGREES),
    ],
    ids=["all", "symmetric", "transposed", "too much"],
)
def test_a_transposed_gradient_of_a_symmetric_matrix_does_not_pass(
    gradient: Callable[[Any], Any], verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutsideSum, "gradient", gradient)
    torch.manual_seed(0)
    c = torch.randn(3, 3)
    with gw.watch() as witness:
        apply(OutsideSum, torch.eye(3).requires_grad_(), c).sum().backward()
    assert witness.verdict is verdict


@pytest.mark.parametrize(("fault", "verdict"), [(None, Verdict.AGREES), ("2 %", Verdict.DISAGREES)])
def test_probes_and_gradcheck_ask_the_same_two_questions(
    fault: str | None, verdict: Verdict
) -> None:
    function = Root if fault is None else spoilt(Root, fault)
    given = leaves(Root, torch.float32)
    assert gw.probe(lambda: loss(function, given, Root)).verdict is verdict
    passes = gw.gradcheck(lambda x: apply(function, x), given[0], raise_exception=False)
    assert passes is (verdict is Verdict.AGREES)


PROGRAM = """
import torch
from capture.implicit import Root, leaves, loss

class Counted(Root):
    runs = 0

    @staticmethod
    def forward(ctx, x):
        Counted.runs += 1
        return Root.forward(ctx, x)

def step():
    loss(Counted, leaves(Root, torch.float32), Root).backward()
"""


@pytest.mark.parametrize(("options", "code"), [([], 3), (["--rerun", "Counted"], 0)])
def test_the_command_is_told_what_may_run_again(
    options: list[str], code: int, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    result = cli("check", f"{tmp_path / 'train.py'}:step", *options)
    assert result.code == code
    assert ("--rerun Counted" in result.out) is (code == 3)
