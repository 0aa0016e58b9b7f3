"""Hooks, approximations and detached numbers that are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture import declared_program as program
from capture.functions import apply
from gradwitness._printable import several
from gradwitness.judging.conclusion import _is_meant
from gradwitness.judging.note import Note
from gradwitness.rules import declarations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syrupy.assertion import SnapshotAssertion

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741
FILE = "capture/declared_program.py"


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    kept: tuple[dict[Any, Any], ...] = (
        declarations._hooks,
        declarations._approximations,
        declarations._detached,
    )
    before = [dict(table) for table in kept]
    yield
    for table, entries in zip(kept, before, strict=True):
        table.clear()
        table.update(entries)


def watched(run: Callable[[], Any], **options: Any) -> gw.Witness:
    with gw.watch(**options) as witness:
        run()
    return witness


FULL, BEFORE = "register_full_backward_hook", "register_full_backward_pre_hook"
# How a hook is named, what runs it, and how many gradients it changes.
HOOKS: list[tuple[Any, Callable[[], Any], int]] = [
    (program.scaled_in_place, program.after_accumulation, 1),
    (program.of_module, lambda: program.in_module(FULL, program.of_module), 2),
    (f"{FILE}:before_module", lambda: program.in_module(BEFORE, program.before_module), 1),
    (program.of_module, program.behind_module, 1),
    (program.of_node, program.on_node, 1),
    (program.scaled, lambda: program.squared(program.scaled), 1),
    (f"{FILE}:scaled", lambda: program.squared(program.scaled), 1),
    (f"{FILE}:scaled", program.on_leaf, 1),
    (f"{FILE}:scaled", program.passed_on, 1),
    (f"{FILE}:Solver.run.hook", lambda: program.Solver().run(), 1),
    (f"{FILE}:Solver.run", lambda: program.Solver().run(), 1),
    (f"{FILE}:with_lambda", program.with_lambda, 1),
]


@pytest.mark.parametrize(("where", "run", "count"), HOOKS)
def test_a_hook_does_what_was_declared_or_not(
    where: Any, run: Callable[[], Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = watched(run)
    assert witness.verdict is D
    note, *_ = witness.report.notes
    # What the note says can be declared so.
    named = note.text.partition('meant_hook("')[2].partition('"')[0]
    assert f"capture/{named}".startswith(FILE)
    gw.meant_hook(f"capture/{named}", "g / 2")(lambda g: g / 2)
    assert watched(run).verdict is A
    declarations._hooks.clear()
    gw.meant_hook(where, "g / 2")(lambda g: g / 2)
    witness = watched(run)
    assert witness.verdict is A
    steps = several(count, "step was", "steps were")
    assert f"{steps} judged against declared gradients" in str(witness)
    assert [row.digits > 6 for row in witness.report.rows] == [True]
    # Not half but 0.501 of it; nothing at all; another sign.
    for factor in (0.501, 1.0, -0.5):
        monkeypatch.setattr(program, "FACTOR", factor)
        witness = watched(run)
        assert len(witness.report.wrong) == count
        for wrong in witness.report.wrong:
            relative = abs(factor - 0.5) / 0.5
            assert wrong.comparison.relative_error == pytest.approx(relative, rel=1e-4)
            assert "declared by the program: the hook" in wrong.grade
            assert not wrong.advice
        said = " ".join(str(witness).split())
        assert "What it sends is not what was declared." in said
        assert str(witness).count("DISAGREES") >= 2
        # What the replay says then is no gradient that should be.
        assert [row.digits > 6 for row in witness.report.rows if row.inherited] in ([], [False])


def test_a_hook_may_use_the_tensor_that_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # y = sin x, and the hook is meant to send g (1 - y^2): with that dx = 2 y (1 - y^2) cos x.
    x: Any = torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_()

    def run() -> None:
        y = x.sin()
        y.register_hook(lambda g: program.FACTOR * 2 * g * (1 - y.detach() ** 2))
        y.square().sum().backward()

    gw.meant_hook(run, "g (1 - y^2)")(lambda g, y: g * (1 - y * y))
    assert watched(run).verdict is A
    numbers = x.detach().numpy()
    assert x.grad is not None
    right = 2 * np.sin(numbers) * np.cos(numbers) ** 3
    np.testing.assert_allclose(x.grad.numpy(), right, rtol=1e-13)
    monkeypatch.setattr(program, "FACTOR", 0.4)
    assert watched(run).verdict is D


def test_with_a_tolerance_a_hook_may_be_computed_by_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # v = (1 + 1/4 + 1/16 + ...) g, by a few terms, is meant to be the solution of v = g + v / 4.
    def solve(g: np.ndarray[Any, Any]) -> Any:
        return np.linalg.solve(np.eye(g.size) * 0.75, g)

    def run() -> Any:
        terms: Any = range(program.TERMS)
        return program.squared(lambda g: g * sum(0.25**k for k in terms))

    gw.meant_hook(run, "v, where v = g + v / 4", tolerance=1e-4)(solve)
    # The error of n terms is 4^-n: 6e-5 for 7, 1e-3 for 5.
    for terms, verdict in ((7, A), (5, D)):
        monkeypatch.setattr(program, "TERMS", terms)
        assert watched(run).verdict is verdict


def test_without_one_it_may_not() -> None:
    gw.meant_hook(program.scaled, "g / 2")(lambda g: np.linalg.solve(2 * np.eye(6), g))
    witness = watched(lambda: program.squared(program.scaled))
    assert witness.verdict is I
    (reason,) = witness.report.reasons()
    assert "np.linalg.solve, which has no rounding bound" in reason


def test_a_hook_of_another_shape_is_in_doubt() -> None:
    gw.meant_hook(program.scaled, "sum(g)")(lambda g: np.sum(g))
    (reason,) = watched(lambda: program.squared(program.scaled)).report.reasons()
    assert "gives shape (), but g has shape (6,)" in reason


@pytest.mark.parametrize("run", [program.on_leaf, program.passed_on])
def test_numbers_that_were_freed_leave_it_open(run: Callable[[], Any]) -> None:
    gw.meant_hook(program.scaled, "g / 2")(lambda g: g / 2)
    assert watched(run, keep=0).verdict is I


class Layer:
    """z = tanh(z) / 2 + x, solved out of sight; a hook sends what the last step leaves out."""

    sign = 1.0
    cut = True

    def __init__(self) -> None:
        self.x: Any = torch.linspace(-1, 1, 9, dtype=torch.float64).requires_grad_()

    def run(self) -> None:
        with torch.set_grad_enabled(not Layer.cut):
            z = self.x
            for _ in range(60):
                z = torch.tanh(z) / 2 + self.x
        self.z = torch.tanh(z) / 2 + self.x
        slope = (1 - torch.tanh(self.z.detach()) ** 2) / 2
        self.z.register_hook(lambda g: g / (1 - Layer.sign * slope))
        self.z.square().sum().backward()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_hook_behind_a_solver_out_of_sight_is_in_doubt_until_it_is_declared(
    sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Layer, "sign", sign)
    layer = Layer()
    witness = watched(layer.run)
    # By implicit differentiation, dL/dx = 2 z / (1 - (1 - tanh(z)^2) / 2).
    z = layer.z.detach().numpy()
    expected = 2 * z / (1 - (1 - np.tanh(z) ** 2) / 2)
    is_right = np.allclose(layer.x.grad.numpy(), expected, rtol=1e-9)
    assert is_right is (sign == 1)
    assert witness.verdict is I
    (reason,) = witness.report.reasons()
    assert "a hook changed it, and may stand for what autograd does not see" in reason
    assert "test_declared_hooks.py:" in reason
    assert "gradient changed by a hook" in [note.kind for note in witness.report.notes]
    assert all(np.isnan(row.digits) for row in witness.report.rows)
    told = next(n.text for n in witness.report.notes if "hook" in n.kind)
    named = told.partition('meant_hook("')[2].partition('"')[0]
    gw.meant_hook(f"capture/{named}", "g / (1 - (1 - tanh(z)^2) / 2)")(
        lambda g, z: g / (1 - (1 - np.tanh(z) ** 2) / 2)
    )
    assert watched(Layer().run).verdict is (A if is_right else D)


def test_where_nothing_is_cut_off_a_hook_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layer, "cut", False)
    assert watched(Layer().run).verdict is D


class Square(Function):
    """x^2, off by a share that a test chooses."""

    off = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 2 * ctx.saved_tensors[0] * (1 + Square.off)


class NumpySquare(Square):
    """The same, outside torch: judged by slopes."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.square(x.detach().numpy()))


@pytest.mark.parametrize("function", [Square, NumpySquare])
def test_an_approximation_agrees_to_its_tolerance(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        x = torch.linspace(-1, 2, 6).requires_grad_()
        (3 * apply(function, 1 * x)).sum().backward()

    monkeypatch.setattr(Square, "off", 4e-3)
    assert watched(run, rerun=True).verdict is D
    gw.approximation(function, 8e-3)
    witness = watched(run, rerun=True)
    assert witness.verdict is A
    (told,) = [f for f in witness.report.findings if f.grade.startswith("declared")]
    assert "to be right to 0.008 of the largest number; it is to 0.004" in told.grade
    # A change of twice that would be seen, but none that is smaller.
    assert told.comparison.detects_relative >= 1.6e-2
    gw.approximation(function, 2e-3)
    assert watched(run, rerun=True).verdict is D
    # A missing gradient is within no tolerance.
    gw.approximation(function, 0.9)
    monkeypatch.setattr(Square, "off", -1.0)
    assert watched(run, rerun=True).verdict is D


def test_a_detach_that_is_meant_is_not_held_against_slopes() -> None:
    x = torch.rand(5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with pytest.raises(gw.GradientDisagreement, match="autograd's sight"):
        gw.gradcheck(program.target, x)
    gw.allow_detach(f"{FILE}:scaled")
    with pytest.raises(gw.GradientDisagreement, match="autograd's sight"):
        gw.gradcheck(program.target, x)
    gw.allow_detach(f"{FILE}:target")
    assert gw.gradcheck(program.target, x)


def test_notes_about_an_allowed_line_are_left_out() -> None:
    gw.allow_detach(f"{FILE}:target")
    code = program.target.__code__
    line = f"{code.co_filename}:{code.co_firstlineno + 2}"
    outside = f"{code.co_filename}:{code.co_firstlineno - 1}"
    kinds = ("values leave autograd's sight", "detached", "stale gradient")
    notes = [Note(kind, "", gw.Source("", at)) for kind in kinds for at in (line, outside)]
    assert [_is_meant(note) for note in notes] == [True, False, True, False, False, False]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: gw.meant_hook(f"{FILE}:scalde", "g"),
        lambda: gw.meant_hook(f"{FILE}:nothing", "g"),
        lambda: gw.meant_hook("absent.py:hook", "g"),
        lambda: gw.meant_hook("hook", "g"),
        lambda: gw.meant_hook(3, "g"),
        lambda: gw.meant_hook(program.scaled, "g", tolerance=-1),
        lambda: gw.meant_hook(program.scaled, "g")(lambda: 3),
        lambda: [gw.meant_hook(program.scaled, "g")(lambda g: g) for _ in range(2)],
        lambda: gw.approximation("Square", 1e-3),
        lambda: gw.approximation("aten::mul", 1e-3),
        lambda: gw.approximation("mylib::", 1e-3),
        lambda: gw.approximation(Square, 1.5),
        lambda: gw.allow_detach(f"{FILE}:targte"),
    ],
)
def test_what_cannot_be_declared_says_what_to_do(
    declare: Callable[[], Any], snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(gw.RuleError) as error:
        declare()
    assert str(error.value) == snapshot
