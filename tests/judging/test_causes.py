"""A wrong custom function is explained: where, why, and what to write."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from capture.functions import apply
from gradwitness.report.faults import faults_of
from gradwitness.report.record import report_record
from judging import guilty_functions as guilty

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding

N, M = (6, 8), (8,)
MISTAKES = [
    (guilty.Isrlu, (N,), (1.0,), {"x": "does not depend on the incoming gradient"}),
    (
        guilty.Norm,
        (N, M, M),
        (1e-5,),
        dict.fromkeys(("weight", "bias"), "gradients of weight and bias swapped"),
    ),
    (guilty.NormWithoutMean, (N, M, M), (1e-5,), {"x": "mean path missing"}),
    (guilty.NormWithoutVariance, (N, M, M), (1e-5,), {"x": "variance path missing"}),
    (guilty.NormWithMeanTwice, (N, M, M), (1e-5,), {"x": "mean path counted twice"}),
    (guilty.NormWithVarianceTwice, (N, M, M), (1e-5,), {"x": "variance path counted twice"}),
    (guilty.Swish, (N,), (), {"x": "term missing"}),
    (guilty.Cube, (N,), (), {"x": "missing factor 3"}),
    (guilty.Linear, ((6, 8), (8, 8)), (), {"w": "transposed"}),
    (guilty.Dropped, (N,), (), {"x": "recomputed with other random numbers"}),
    (guilty.Short, ((6, 8), (8, 4)), (), {"x": "low precision"}),
    (guilty.Overwritten, (N,), (), {"x": "saved tensor overwritten"}),
    (guilty.TwoResults, (N, N), (), {"x": "gradient of output 1 ignored"}),
    (guilty.NoBias, (N, M), (), {"bias": "gradient missing"}),
    (guilty.Masked, (N,), (), {"x": "mask ignored in backward"}),
    (guilty.Blocks, (N,), (), {"x": "last rows missing"}),
    (guilty.Rows, (N,), (), {"x": "repeated indices overwrite each other"}),
    (guilty.ByFirst, (N,), (), {"x": "one number of the incoming gradient for all"}),
    (guilty.Gain, (N, M), (), {"w": "a factor too many"}),
    (guilty.Averaged, (N, M), (), {"bias": "averaged instead of summed"}),
]


def wrong(function: Any, shapes: Any, numbers: Any = (), **options: Any) -> list[Finding]:
    """Return what is wrong with a function, at random cotangents."""
    torch.manual_seed(0)
    inputs = guilty.parameters(*shapes)
    with gw.watch(**options) as witness:
        results = function.apply(*inputs, *numbers)
        results = results if isinstance(results, tuple) else (results,)
        torch.autograd.backward(results, [torch.randn(r.shape) for r in results])
    return list(witness.report.wrong)


@pytest.mark.parametrize(("function", "shapes", "numbers", "causes"), MISTAKES)
def test_a_mistake_is_named(
    function: Any, shapes: Any, numbers: Any, causes: dict[str, str]
) -> None:
    findings = wrong(function, shapes, numbers)
    said = {f.title.split("gradient of ")[1].split(" (")[0]: f.cause for f in findings}
    assert said == causes
    for finding in findings:
        assert finding.symbol == f"{function.__name__}.backward"
        assert Path(finding.file) == Path(guilty.__file__)
        lines, first = inspect.getsourcelines(function.backward)
        assert first < finding.line < first + len(lines)
        assert Path(finding.called.rpartition(":")[0]) == Path(__file__)
        assert finding.why


@pytest.mark.low_precision
@pytest.mark.parametrize(
    ("function", "causes"),
    [(guilty.NormInside, ["mean path counted twice"]), (guilty.NormInsideRight, [])],
)
def test_a_mistake_in_float32_between_16_bits_is_named(function: Any, causes: list[str]) -> None:
    torch.manual_seed(0)
    numbers = torch.randn(32, 48), torch.ones(48), torch.zeros(48)
    inputs = [x.bfloat16().requires_grad_() for x in numbers]
    with gw.watch() as witness:
        (apply(function, *inputs).float() * (3 + torch.randn(32, 48))).sum().backward()
    assert [finding.cause for finding in witness.report.wrong] == causes


def test_the_strides_of_what_arrives() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 8, requires_grad=True)
    with gw.watch() as witness:
        (apply(guilty.Strided, x).t().contiguous() * torch.randn(8, 6)).sum().backward()
    (finding,) = witness.report.wrong
    assert finding.cause == "strides of the incoming gradient ignored"
    assert finding.remedy == "g = g.contiguous()"
    # Where it is contiguous, the function is right.
    with gw.watch() as witness:
        (apply(guilty.Strided, x) * torch.randn(6, 8)).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES


def test_the_line_that_made_the_gradient_and_the_one_to_write() -> None:
    (finding,) = wrong(guilty.Isrlu, (N,), (1.0,))
    text = Path(guilty.__file__).read_text(encoding="utf-8").splitlines()
    assert text[finding.line - 1].endswith("# the line")
    assert finding.remedy == "return grad_out * ctx.nisr ** 3, None"
    assert finding.forward == (
        "neg = clamp(x, max=0)",
        "nisr = rsqrt(neg * 1.0 * neg + 1)",
        "x * nisr",
    )


def test_swapped_gradients_are_returned_the_other_way_round() -> None:
    first, _ = wrong(guilty.Norm, (N, M, M), (1e-5,))
    assert first.remedy == "return dx, (dy * xhat).sum(0), dy.sum(0), None"


@pytest.mark.parametrize("function", [guilty.Swish, guilty.Cube, guilty.Linear])
def test_the_gradient_to_write_is_right(function: Any) -> None:
    """Evaluate the line, and hold it against central differences in float64."""
    shapes = ((6, 8), (8, 8)) if function is guilty.Linear else (N,)
    (finding,) = wrong(function, shapes)
    torch.manual_seed(1)
    names = inspect.signature(function.forward).parameters
    inputs = dict(zip([*names][1:], (torch.randn(s).double() for s in shapes), strict=True))
    g = torch.randn(6, 8).double()
    name = finding.title.split("gradient of ")[1].split(" (")[0]
    remedy = finding.remedy
    if remedy.startswith("return"):
        # Of the backward's own line, the element of this input.
        scope: dict[str, Any] = {"g": g, **inputs}
        element = eval(remedy.removeprefix("return "), {"torch": torch}, scope)  # noqa: S307
        element = element[[*inputs].index(name)] if isinstance(element, tuple) else element
    else:
        scope = {"g": g, "s": torch.sigmoid(inputs["x"]), **inputs}
        element = eval(remedy.partition(" = ")[2], {"torch": torch}, scope)  # noqa: S307
    h, slopes = 1e-5, torch.zeros_like(inputs[name])
    ctx = torch.autograd.function.FunctionCtx()
    for index in np.ndindex(*slopes.shape):
        ends = []
        for sign in (1, -1):
            moved = {k: v.clone() for k, v in inputs.items()}
            moved[name][index] += sign * h
            ends.append((function.forward(ctx, *moved.values()) * g).sum())
        slopes[index] = (ends[0] - ends[1]) / (2 * h)
    assert torch.allclose(element, slopes, rtol=1e-6, atol=1e-6)


def test_a_checkpoint_with_other_random_numbers() -> None:
    for reentrant in (False, True):
        torch.manual_seed(0)
        layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
        x = torch.randn(6, 8, requires_grad=True)
        with gw.watch(layer) as witness:
            y = checkpoint(layer, x, use_reentrant=reentrant, preserve_rng_state=False)
            (y * torch.randn(6, 8)).sum().backward()
        finding = witness.report.first_wrong
        assert finding is not None
        said = "the checkpoint ran the forward again with other random numbers"
        assert finding.cause == said
        assert "preserve_rng_state=True" in finding.remedy


def test_a_right_function_has_no_cause() -> None:
    class Right(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * g * ctx.saved_tensors[0]

    assert wrong(Right, (N,)) == []


def test_random_numbers_are_no_known_mistake() -> None:
    class Noise(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:  # noqa: ARG004
            return torch.sin(137 * g * g + torch.arange(8.0))

    (finding,) = wrong(Noise, (N,))
    assert (finding.cause, finding.why, finding.runner_up) == ("", "", "")
    # The right gradient is known all the same.
    assert finding.remedy == "grad_x = g * x + g * x  # with x saved in forward"


def test_what_was_freed_is_placed_without_a_cause() -> None:
    (finding,) = wrong(guilty.Isrlu, (N,), (1.0,), keep=0)
    assert finding.symbol == "Isrlu.backward"


def test_a_cause_is_in_the_record_and_in_the_annotation() -> None:
    torch.manual_seed(0)
    (x,) = guilty.parameters(N)
    with gw.watch() as witness:
        apply(guilty.Isrlu, x, 1.0).backward(torch.randn(N))
    steps = report_record(witness.report, witness.tape)["steps"]
    record = next(s for s in steps if s["verdict"] is gw.Verdict.DISAGREES)
    assert record["cause"] == "does not depend on the incoming gradient"
    assert record["symbol"] == "Isrlu.backward"
    assert record["remedy"].startswith("return grad_out * ")
    (fault,) = faults_of(witness.report, witness.tape)
    assert "cause    does not depend on the incoming gradient" in fault.text
    assert "write    return grad_out * ctx.nisr ** 3, None" in fault.text
    assert fault.line == record["wrong_at"]
    assert "derive this step's forward by hand" not in str(witness)
