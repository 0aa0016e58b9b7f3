"""Steps of the program's own that are wrong alone, and may be right with what is detached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness import Verdict
from gradwitness._room import Room
from gradwitness.api import arguments
from gradwitness.capture.memory import retention

if TYPE_CHECKING:
    from collections.abc import Callable

    # Takes a leaf and a factor that makes the backward wrong; returns a loss.
    Program = Callable[[Any, float], Any]

FORMATS = [torch.float32, torch.float64]


class Scaled(Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.factor * grads[0], None


class Beside(Function):
    """A result of no gradient, with the gradient ``slope`` of what it was made of."""

    @staticmethod
    def forward(ctx: Any, result: Any, x: Any, slope: Any) -> Any:  # noqa: ARG004
        ctx.save_for_backward(slope)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, grads[0] * ctx.saved_tensors[0], None


def kernel(x: Any, factor: float) -> Any:
    """Return sum_ij exp(-(x_i - x_j)^2), half of whose gradient is computed, and doubled."""
    apart = apply(Scaled, x, 2 * factor)[:, None] - x.detach()
    return (-apart.square()).exp().sum()


def kernel_slope(x: Any) -> Any:
    apart = x[:, None] - x
    return (-4 * apart * (-apart.square()).exp()).sum(1)


def following(x: Any, factor: float) -> Any:
    """Return the sum of x^3, where x^2 is moved by one rounding out of autograd's sight."""
    square = x * x
    with torch.no_grad():
        following = torch.nextafter(square, square + 1)
    return (apply(Beside, following, square, torch.full_like(x, factor)) * x).sum()


def root(x: Any, factor: float) -> Any:
    """Return the sum of sqrt(2 + x) by Newton's method and the implicit function theorem."""
    with torch.no_grad():
        y = torch.full_like(x, 1.5)
        for _ in range(8):
            y = (y + (2 + x) / y) / 2
    return apply(Beside, y, x, factor / (2 * y)).sum()


def hooked(x: Any, factor: float) -> Any:
    """Return the sum of z^2 where z = sin(z) / 2 + x, whose hook sends g / (1 - cos(z) / 2)."""
    with torch.no_grad():
        z = x
        for _ in range(60):
            z = z.sin() / 2 + x
    z = z.sin() / 2 + x
    slope = factor / (1 - z.detach().cos() / 2)
    z.register_hook(lambda g: g * slope)
    return z.square().sum()


def hooked_slope(x: Any) -> Any:
    z = x
    for _ in range(200):
        z = z.sin() / 2 + x
    return 2 * z / (1 - z.cos() / 2)


PROGRAMS: dict[str, tuple[Program, Callable[[Any], Any]]] = {
    "kernel": (kernel, kernel_slope),
    "following": (following, lambda x: 3 * x * x),
    "root": (root, lambda x: 0.5 * (2 + x) ** -0.5),
    "hooked": (hooked, hooked_slope),
}


def watched(program: Program, dtype: torch.dtype, factor: float) -> Any:
    x: Any = torch.linspace(-1, 1.2, 7, dtype=dtype).requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        program(x, factor).backward()
    return x, witness


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["following", "root"])
def test_a_function_stands_for_what_made_its_result_of_its_argument(
    name: str, dtype: torch.dtype
) -> None:
    program, slope = PROGRAMS[name]
    x, witness = watched(program, dtype, 1.0)
    torch.testing.assert_close(x.grad, slope(x.detach()))
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()
    (finding,) = (f for f in witness.report.findings if "between its inputs" in f.grade)
    assert finding.comparison.detects_relative < 1e-3
    assert not witness.report.notes


def test_a_function_need_not_stand_for_what_is_detached() -> None:
    def detached(x: Any, _: float) -> Any:
        # The gradient 0 of what was made of x is that of the function's own forward.
        y = x * x
        return (apply(Beside, y.detach().exp(), y, torch.zeros_like(x)) * x).sum()

    assert watched(detached, torch.float32, 0.0)[1].verdict is Verdict.AGREES


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_all_ways_from_an_argument_to_the_result_count(share: float) -> None:
    def program(x: Any, _: float) -> Any:
        y = x * x
        z = y.sin()
        with torch.no_grad():
            result = y * z
        slope = (z + y * y.cos()).detach() if share == 1 else z.detach()
        return apply(Beside, result, y, slope).sum() + z.sum()

    verdict = Verdict.AGREES if share == 1 else Verdict.DISAGREES
    assert watched(program, torch.float64, 1.0)[1].verdict is verdict


def test_what_bypasses_the_argument_is_noted() -> None:
    def program(x: Any, _: float) -> Any:
        y, z = x * x, x.sin()
        with torch.no_grad():
            result = y * z
        return (apply(Beside, result, y, z.detach()) * z).sum()

    witness = watched(program, torch.float64, 1.0)[1]
    assert witness.verdict is Verdict.AGREES
    assert [n.kind for n in witness.report.notes] == ["numbers leave autograd's sight"]


def fourth(y: Any) -> None:
    y[3] = 0.0


def fourth_of_data(y: Any) -> None:
    y.data[3] = 0.0


def fourth_of_a_view(y: Any) -> None:
    y.view(7)[3] = 0.0


# What is written to 2 x with gradients off, and what that multiplies its slope by.
WRITES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "all": (lambda y: y.mul_(1.5), lambda _: 1.5),
    "half": (lambda y: y[:3].mul_(2), lambda _: torch.tensor([2.0, 2, 2, 1, 1, 1, 1])),
    "one": (fourth, lambda _: torch.tensor([1.0, 1, 1, 0, 1, 1, 1])),
    "data": (fourth_of_data, lambda _: torch.tensor([1.0, 1, 1, 0, 1, 1, 1])),
    "a view": (fourth_of_a_view, lambda _: torch.tensor([1.0, 1, 1, 0, 1, 1, 1])),
    "out": (lambda y: torch.sin(y, out=y), lambda x: (2 * x).cos()),
}


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("name", WRITES)
def test_what_was_written_in_between_counts(name: str, *, right: bool) -> None:
    write, slope = WRITES[name]

    def program(x: Any, _: float) -> Any:
        with torch.no_grad():
            y = 2 * x
            write(y)
        sent = torch.full_like(x, 2.0) * (slope(x.detach()) if right else 1)
        return apply(Beside, y, x, sent).sum()

    verdict = Verdict.AGREES if right else Verdict.DISAGREES
    assert watched(program, torch.float32, 1.0)[1].verdict is verdict


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["kernel", "hooked"])
def test_what_is_right_together_is_in_doubt(name: str, dtype: torch.dtype) -> None:
    program, slope = PROGRAMS[name]
    x, witness = watched(program, dtype, 1.0)
    torch.testing.assert_close(x.grad, slope(x.detach()))
    assert witness.verdict is Verdict.INCONCLUSIVE, witness
    why = "a hook changed it" if name == "hooked" else "right if the detached numbers are meant"
    assert why in "".join(witness.report.reasons())


@pytest.mark.parametrize("name", ["kernel", "hooked"])
def test_so_is_what_a_program_too_large_to_be_kept_whole_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "KEEP", Room(all=0, lasting=2**30))
    monkeypatch.setattr(retention, "_SHOWN", 0)
    _, witness = watched(PROGRAMS[name][0], torch.float32, 1.0)
    assert not witness.tape.complete
    assert witness.verdict is Verdict.INCONCLUSIVE, witness


@pytest.mark.parametrize("beside", [True, False])
def test_where_values_were_freed_what_was_not_judged_is_said(beside: bool) -> None:
    x: Any = torch.linspace(-1, 1.2, 7).requires_grad_()
    with gw.watch(names={"x": x}, keep=0) as witness:
        (kernel(x, 1.0) if beside else apply(Scaled, x, 2.0).sum()).backward()
    (wrong,) = witness.report.wrong
    said = "with what leaves autograd's sight (detach() at test_whole_record.py:"
    assert (said in wrong.grade) is beside


def test_what_is_as_wrong_as_the_detached_is_right_does_not_agree() -> None:
    # e is a weight, so its gradient is not meant: a backward that doubles makes up for it.
    def weighted(x: Any, factor: float) -> Any:
        e = x.sin()
        return (e.detach() * apply(Scaled, e, factor)).sum()

    assert watched(weighted, torch.float32, 1.0)[1].verdict is Verdict.AGREES
    assert watched(weighted, torch.float32, 2.0)[1].verdict is Verdict.INCONCLUSIVE
    assert watched(weighted, torch.float32, 1.9)[1].verdict is Verdict.DISAGREES


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [-1.0, 0.6, 1.01])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_wrong_together_does_not(name: str, factor: float, dtype: torch.dtype) -> None:
    program, slope = PROGRAMS[name]
    x, witness = watched(program, dtype, factor)
    assert not torch.allclose(x.grad, slope(x.detach()), rtol=1e-3)
    # A solver's recorded steps are not its solution: no hook is refuted by them.
    wrong = Verdict.INCONCLUSIVE if name == "hooked" else Verdict.DISAGREES
    assert witness.verdict is wrong, witness


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, Verdict.INCONCLUSIVE), (0.6, Verdict.DISAGREES)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_it_is_in_doubt_within_a_twentieth(
    factor: float, verdict: Verdict, dtype: torch.dtype
) -> None:
    assert watched(kernel, dtype, factor)[1].verdict is verdict


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, Verdict.INCONCLUSIVE), (1.02, Verdict.DISAGREES), (-1.0, Verdict.DISAGREES)],
)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_s_step_before_changes_nothing(
    factor: float, verdict: Verdict, optimizer: Any
) -> None:
    x: Any = torch.linspace(-1, 1.2, 7).requires_grad_()
    updating = optimizer([x], lr=0.1)
    with gw.watch(names={"x": x}) as witness:
        for _ in range(3):
            updating.zero_grad()
            kernel(x, factor).backward()
            torch.testing.assert_close(x.grad, factor * kernel_slope(x.detach()))
            updating.step()
    assert witness.verdict is verdict
    assert {f.verdict for f in witness.report.findings if f.verdict is not Verdict.AGREES} == {
        verdict
    }


class Wave(Function):
    """x sin(x)."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return Wave.factor * grads[0] * (x.sin() + x * x.cos())


@pytest.mark.parametrize("factor", [1.0, 1.001])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_rules_know_a_leaf_after_an_optimizer_s_step(
    factor: float, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wave, "factor", factor)
    x: Any = torch.linspace(-1, 1.2, 7).requires_grad_()
    updating = optimizer([x], lr=0.1)
    with gw.watch(names={"x": x}, rerun=False) as witness:
        for _ in range(2):
            updating.zero_grad()
            apply(Wave, x).sum().backward()
            updating.step()
    wanted = Verdict.AGREES if factor == 1 else Verdict.DISAGREES
    sent = [f for f in witness.report.findings if f.title.endswith("of x (input 0)")]
    assert [f.verdict for f in sent] == [wanted] * 2
    assert all(f.grade.startswith("normwise") for f in sent)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_detach_elsewhere_excuses_nothing(dtype: torch.dtype) -> None:
    def program(x: Any, factor: float) -> Any:
        return (apply(Scaled, x.sin(), factor) * (x - x.mean().detach())).sum()

    assert watched(program, dtype, 1.0)[1].verdict is Verdict.AGREES
    assert watched(program, dtype, 1.02)[1].verdict is Verdict.DISAGREES


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_a_hook_behind_a_solver_that_ran_before_is_in_doubt(
    factor: float, dtype: torch.dtype
) -> None:
    a = torch.linspace(-1, 1.2, 7, dtype=dtype)
    x: Any = a.clone().requires_grad_()
    z0 = a
    for _ in range(60):
        z0 = z0.sin() / 2 + a
    with gw.watch(names={"x": x}) as witness:
        z = z0.sin() / 2 + x
        slope = factor / (1 - z.detach().cos() / 2)
        z.register_hook(lambda g: g * slope)
        z.square().sum().backward()
    right = factor == 1
    assert torch.allclose(x.grad, hooked_slope(a)) is right
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert "the result of a solver that ran before" in witness.report.rows[0].reason


def test_a_hook_on_what_no_solver_found_is_refuted() -> None:
    x: Any = torch.linspace(-1, 1.2, 7).requires_grad_()
    given = torch.linspace(0.3, 0.9, 7)
    with gw.watch(names={"x": x}) as witness:
        z = given.sin() / 2 + x
        z.register_hook(lambda g: 2 * g)
        z.square().sum().backward()
    assert witness.verdict is Verdict.DISAGREES
