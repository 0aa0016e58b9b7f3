"""Fused kernels written by hand, of the size that models have: right ones, and with each fault."""

# Torch prescribes the parameters.
# ruff: noqa: ARG004

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf
from gradwitness import Verdict
from gradwitness.judging.comparing.compare import COARSE
from gradwitness.judging.finding import Step
from gradwitness.judging.gradients.lost import LOST

if TYPE_CHECKING:
    from collections.abc import Callable

REAL, SMALL = (512, 1024), (64, 128)
# What is measured is run in float64 again and again, all of it in memory.
MEASURED = (128, 1024)
FORMATS = [torch.float32, torch.bfloat16, torch.float64]
# Faults at real size where it matters most: many terms, little precision lost to nothing.
SIZES = [(torch.float32, REAL), (torch.bfloat16, SMALL), (torch.float64, SMALL)]


class SwiGLU(Function):
    """silu(a) b."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return torch.nn.functional.silu(a) * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (a, b) = grads, ctx.saved_tensors
        s = torch.sigmoid(a)
        return g * b * s * (1 + a * (1 - s)), g * a * s


class SwiGLUWithoutATerm(SwiGLU):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (a, b) = grads, ctx.saved_tensors
        s = torch.sigmoid(a)
        return g * b * s, g * a * s


class LayerNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, b: Any, eps: float) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        r = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)
        h = centred * r
        ctx.save_for_backward(h, r, w)
        return h * w + b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (h, r, w) = grads, ctx.saved_tensors
        u = g * w
        mean, along = u.mean(-1, keepdim=True), (u * h).mean(-1, keepdim=True)
        return r * (u - mean - h * along), (g * h).sum(0), g.sum(0), None


class LayerNormWithoutATerm(LayerNorm):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (h, r, w) = grads, ctx.saved_tensors
        u = g * w
        return r * (u - u.mean(-1, keepdim=True)), (g * h).sum(0), g.sum(0), None


class CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, classes: Any) -> Any:
        with torch.no_grad():
            shifted = x - x.max(-1, keepdim=True).values
        e = shifted.exp()
        total = e.sum(-1, keepdim=True)
        ctx.save_for_backward(e / total, classes)
        return -(shifted - total.log()).gather(1, classes[:, None]).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        p, classes = ctx.saved_tensors
        one = torch.zeros_like(p).scatter_(1, classes[:, None], 1.0)
        return (p - one) * (grads[0] / len(classes)), None


class CrossEntropyWithoutATerm(CrossEntropy):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        p, classes = ctx.saved_tensors
        return p * (grads[0] / len(classes)), None


class Outside(Function):
    """x^2 w, the square in memory that NumPy sees, so that no rule can follow."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return torch.from_numpy(x.detach().numpy() ** 2) * w

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (x, w) = grads, ctx.saved_tensors
        return 2 * g * x * w, g * x * x


class OutsideWithoutATerm(Outside):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (x, w) = grads, ctx.saved_tensors
        return g * (2 * x * w - (x > 1).to(x.dtype)), g * x * x


def negated(g: Any) -> Any:
    return -g


def scaled(g: Any) -> Any:
    return g * 1.5


def one_element(g: Any) -> Any:
    spoilt = g.clone()
    spoilt.view(-1)[g.numel() // 3] += g.abs().max()
    return spoilt


FAULTS = {"sign": negated, "factor": scaled, "one element": one_element}


@cache
def spoilt(function: Any, fault: str, input_nr: int) -> Any:
    """Return a function whose backward has a fault in one of its gradients."""

    class Spoilt(function):  # type: ignore[misc]
        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            results = function.backward(ctx, *grads)
            if not isinstance(results, tuple):
                results = (results,)
            return tuple(FAULTS[fault](g) if k == input_nr else g for k, g in enumerate(results))

    return Spoilt


def operands(function: Any, dtype: torch.dtype, shape: tuple[int, int]) -> list[Any]:
    rows, columns = shape
    if issubclass(function, LayerNorm):
        return [leaf(*shape, dtype=dtype), leaf(columns, dtype=dtype), leaf(columns, dtype=dtype)]
    if issubclass(function, CrossEntropy):
        return [leaf(*shape, dtype=dtype), torch.randint(columns, (rows,))]
    return [leaf(*shape, dtype=dtype), leaf(*shape, dtype=dtype)]


def judged(function: Any, dtype: torch.dtype, shape: tuple[int, int] = REAL) -> gw.Report:
    torch.manual_seed(5)
    given = operands(function, dtype, shape)
    more = [1e-5] if issubclass(function, LayerNorm) else []
    # Given cotangents: a sum of so many numbers would be lost in their rounding.
    cotangent = torch.randn(shape).to(dtype)
    with gw.watch() as witness:
        result = apply(function, *given, *more)
        result.backward(None if result.dim() == 0 else cotangent)
    return witness.report


KERNELS = [SwiGLU, LayerNorm, CrossEntropy]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("function", KERNELS)
def test_a_right_kernel_agrees(function: Any, dtype: torch.dtype) -> None:
    report = judged(function, dtype)
    assert not report.wrong
    # What a normwise bound in bfloat16 allows may be a tenth of the largest number.
    wide = (COARSE, LOST) if dtype is torch.bfloat16 else ()
    assert all(r.startswith(wide) for r in report.reasons())
    # In 16 bits its own backward, run again in float64, decides instead of a wide bound.
    measured = any(f.grade.startswith("numerical") for f in report.findings)
    assert measured is (dtype is torch.bfloat16)


@pytest.mark.parametrize("function", KERNELS)
def test_a_right_kernel_agrees_on_several_threads(function: Any) -> None:
    # Each then adds up a part of its own. The suite has one thread everywhere else.
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        report = judged(function, torch.float32)
    finally:
        torch.set_num_threads(threads)
    assert report.verdict is Verdict.AGREES, report.reasons()


@pytest.mark.parametrize(("dtype", "shape"), SIZES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", KERNELS)
def test_a_fault_is_found_at_its_input(
    function: Any, fault: str, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    input_nrs = {SwiGLU: [0, 1], LayerNorm: [0, 1, 2], CrossEntropy: [0]}[function]
    for input_nr in input_nrs:
        report = judged(spoilt(function, fault, input_nr), dtype, shape)
        (finding,) = report.wrong
        assert (finding.step, finding.tensor_nr) == (Step.BACKWARD, input_nr)
        assert finding.grade.startswith("normwise")
        if fault == "one element":
            assert finding.comparison.refuted == 1


WITHOUT = [SwiGLUWithoutATerm, LayerNormWithoutATerm, CrossEntropyWithoutATerm]
# What bfloat16 cannot show of it is in the test below.
SEEN = [(f, *size) for f in WITHOUT for size in SIZES if (f, size[0]) != (WITHOUT[1], FORMATS[1])]


@pytest.mark.parametrize(("function", "dtype", "shape"), SEEN)
def test_a_missing_term_is_found(function: Any, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    (finding,) = judged(function, dtype, shape).wrong
    assert finding.tensor_nr == 0


@pytest.mark.low_precision
def test_what_a_format_cannot_show_is_said_beside_the_verdict() -> None:
    # The missing term is a mean of 1024 random numbers: 1/32 of the gradient, 8 roundings.
    report = judged(LayerNormWithoutATerm, torch.bfloat16)
    assert report.wrong == ()
    (finding,) = (f for f in report.findings if f.step is Step.BACKWARD and f.tensor_nr == 0)
    assert finding.comparison.detects_relative > 1 / 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_no_rule_follows_is_measured(dtype: torch.dtype) -> None:
    report = judged(Outside, dtype, MEASURED)
    assert report.verdict is Verdict.AGREES, report.reasons()
    grades = [f.grade for f in report.findings if f.step is Step.BACKWARD]
    assert grades[0].startswith("numerical: directional derivatives in float64")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fault_that_no_rule_sees_is_measured(fault: str, dtype: torch.dtype) -> None:
    (finding,) = judged(spoilt(Outside, fault, 0), dtype, MEASURED).wrong
    assert finding.tensor_nr == 0
    assert finding.grade.startswith("numerical")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_missing_term_that_no_rule_sees_is_measured(dtype: torch.dtype) -> None:
    (finding,) = judged(OutsideWithoutATerm, dtype, MEASURED).wrong
    assert finding.tensor_nr == 0


class Constant(Function):
    """x over its largest magnitude, which is taken as a number, and as a constant."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.size = x.abs().max().item()
        return x / ctx.size

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] / ctx.size


class Noisy(Function):
    """x plus noise that no recorder sees."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        noise = torch.rand(x.shape).tolist()
        return torch.from_numpy(x.detach().numpy() * 1.0) * torch.tensor(noise, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class SingleOnly(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        if x.dtype is not torch.float32:
            raise TypeError("this kernel is for float32")
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 3 * grads[0]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (Constant, "right only if the numbers that come back are constants"),
        (Noisy, "it draws random numbers"),
        (SingleOnly, "it does not run in float64 (TypeError: this kernel is for float32)"),
    ],
)
def test_what_cannot_be_measured_is_left_open(function: Callable[..., Any], said: str) -> None:
    torch.manual_seed(0)
    x = leaf(6)
    state = torch.get_rng_state()
    with gw.watch() as witness:
        apply(function, x).backward(torch.ones(6))
    after = torch.get_rng_state()
    assert witness.report.wrong == ()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(said in reason for reason in witness.report.reasons())
    # Measuring has used up no random numbers of the program.
    torch.set_rng_state(state)
    apply(function, x)
    assert torch.equal(torch.get_rng_state(), after)


class Counted(Function):
    runs = 0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Counted.runs += 1
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 3 * grads[0]


def test_what_the_rules_can_judge_is_not_run_again() -> None:
    with gw.watch() as witness:
        apply(Counted, leaf(5)).backward(torch.ones(5))
    assert witness.verdict is Verdict.DISAGREES
    assert Counted.runs == 1


class ForgottenOutside(Function):
    """sin x and an input w that only NumPy meets, which gets None."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin() + torch.from_numpy(w.detach().numpy() * 2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0].cos(), None


def test_none_for_an_input_that_only_something_else_meets_is_not_passed() -> None:
    torch.manual_seed(0)
    x, w = leaf(5), leaf(5)
    with gw.watch(names={"x": x, "w": w}) as witness:
        apply(ForgottenOutside, x, w).backward(torch.randn(5))
    rows = {row.name: row.verdict for row in witness.report.rows}
    assert rows == {"x": Verdict.AGREES, "w": Verdict.INCONCLUSIVE}
