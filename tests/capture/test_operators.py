"""Operators of `torch.library`: with a rule judged as torch's own, without one by slopes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf
from gradwitness import RuleError, Verdict
from gradwitness.cli import main
from gradwitness.rules import registry, user_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syrupy.assertion import SnapshotAssertion

ROOT = Path(__file__).parent.parent.parent
FACTOR = {"swish": 1.0, "mix": 1.0, "join": 1.0, "pair": 1.0}


@torch.library.custom_op("gwtest::swish", mutates_args=())
def swish(x: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


def swish_back(ctx: Any, g: Any) -> Any:
    (x,), beta = ctx.saved_tensors, ctx.beta
    s = torch.sigmoid(beta * x)
    return g * (s + FACTOR["swish"] * beta * x * s * (1 - s)), None


def swish_keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.beta = inputs[1]


swish.register_autograd(swish_back, setup_context=swish_keep)


@torch.library.custom_op("gwtest::mix", mutates_args=())
def mix(x: torch.Tensor, w: torch.Tensor | None, *, k: int) -> torch.Tensor:
    return x * k if w is None else x * w * k


def mix_back(ctx: Any, g: Any) -> Any:
    x, w = ctx.operands
    if w is None:
        return g * ctx.k, None
    return g * w * ctx.k, FACTOR["mix"] * g * x * ctx.k


def mix_keep(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    ctx.operands = inputs
    ctx.k = keyword_only_inputs["k"]


mix.register_autograd(mix_back, setup_context=mix_keep)


@torch.library.custom_op("gwtest::join", mutates_args=())
def join(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([k * part for k, part in enumerate(parts, 1)])


def join_back(ctx: Any, g: Any) -> Any:
    pieces = g.split(ctx.lengths)
    return [FACTOR["join"] * k * piece for k, piece in enumerate(pieces, 1)]


def join_keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.lengths = [len(part) for part in inputs[0]]


join.register_autograd(join_back, setup_context=join_keep)


@torch.library.custom_op("gwtest::pair", mutates_args=())
def pair(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.sin(), x * x


def pair_back(ctx: Any, g: Any, h: Any) -> Any:
    (x,) = ctx.saved_tensors
    return g * x.cos() + FACTOR["pair"] * h * 2 * x


def pair_keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


pair.register_autograd(pair_back, setup_context=pair_keep)

# A kernel of a library, with an autograd.Function of its own in front.
LIBRARY = torch.library.Library("gwtest", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define("cube(Tensor x) -> Tensor")  # type: ignore[no-untyped-call]
LIBRARY.impl("cube", lambda x: torch.from_numpy(x.numpy() ** 3), "CPU")  # type: ignore[no-untyped-call]


class Cube(torch.autograd.Function):
    factor = 3

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.gwtest.cube(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return Cube.factor * x * x * grads[0]


LIBRARY.impl("cube", lambda x: apply(Cube, x), "Autograd")  # type: ignore[no-untyped-call]


@pytest.fixture
def scratch() -> Iterator[None]:
    """Take back afterwards which rules a test enters."""
    tables: tuple[dict[str, Any], ...] = (registry._RULES, registry._BY_NODE, user_rules._own)
    before = [dict(one) for one in tables]
    yield
    for one, old in zip(tables, before, strict=True):
        one.clear()
        one.update(old)


@pytest.fixture
def rules(scratch: None) -> None:  # noqa: C901 (one rule after another)
    """Bring a rule along for each operator."""

    @gw.rule("gwtest::swish", "y = x / (1 + exp(-beta x))")
    def swish_rule(x: Any, *, beta: Any = 1.0) -> Any:
        return x / (1 + np.exp(-beta * x))

    @swish_rule.vjp("x", "g * (s + beta * x * s * (1 - s))")
    def _(g: Any, x: Any, *, beta: Any) -> Any:
        s = 1 / (1 + np.exp(-beta * x))
        return g * (s + beta * x * s * (1 - s))

    @gw.rule("gwtest.mix", "y = x * w * k")
    def mix_rule(x: Any, w: Any, *, k: int) -> Any:
        return x * k if w is None else x * w * k

    @mix_rule.vjp("x", "g * w * k")
    def _(g: Any, w: Any, *, k: int) -> Any:
        return g * k if w is None else g * w * k

    @mix_rule.vjp("w", "g * x * k")
    def _(g: Any, x: Any, *, k: int) -> Any:
        return g * x * k

    @gw.rule("gwtest::join", "y = concatenate(1 parts_1, 2 parts_2, ...)")
    def join_rule(parts: Any) -> Any:
        return np.concatenate([k * part for k, part in enumerate(parts, 1)])

    @join_rule.vjp("parts", "k g_k")
    def _(g: Any, parts: Any) -> Any:
        lengths = [part.shape[0] for part in parts]
        ends = np.cumsum(lengths).tolist()
        pieces = [g[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        return [k * piece for k, piece in enumerate(pieces, 1)]

    @gw.rule("gwtest::pair", "y = (sin(x), x^2)")
    def pair_rule(x: Any) -> Any:
        return np.sin(x), x * x

    @pair_rule.vjp("x", "g_1 * cos(x) + g_2 * 2 x")
    def _(g: Any, y: Any, x: Any) -> Any:
        return g[0] * np.cos(x) + g[1] * 2 * x

    @gw.rule("gwtest::cube", "y = x^3")
    def cube_rule(x: Any) -> Any:
        return x * x * x

    @cube_rule.vjp("x", "3 g x^2")
    def _(g: Any, x: Any) -> Any:
        return 3 * g * x * x


def run_swish() -> Any:
    return swish(leaf(6) * 2, 1.5)


def run_mix() -> Any:
    return mix(leaf(6), leaf(6), k=3)


def run_mix_without() -> Any:
    return mix(leaf(6), None, k=3)


def run_join() -> Any:
    return join([leaf(3), leaf(2), leaf(4)])


def run_pair() -> Any:
    first, second = pair(leaf(6))
    return first * second


def run_pair_one() -> Any:
    return pair(leaf(6))[1]


def run_cube() -> Any:
    return torch.ops.gwtest.cube(leaf(6))


RUNS = [run_swish, run_mix, run_mix_without, run_join, run_pair, run_pair_one, run_cube]
FAULTY = [("swish", run_swish), ("mix", run_mix), ("join", run_join), ("pair", run_pair)]


def judged(run: Any) -> gw.Report:
    torch.manual_seed(2)
    # The code of a kernel cannot be read: it is allowed to run again.
    with gw.watch(rerun=["Cube"]) as witness:
        result = run()
        result.backward(torch.randn(result.shape))
    return witness.report


@pytest.mark.parametrize("run", RUNS)
def test_with_a_rule_all_is_judged(run: Any, rules: None) -> None:
    report = judged(run)
    assert report.verdict is Verdict.AGREES, report.reasons()
    assert not any(f.grade.startswith("numerical") for f in report.findings)


@pytest.mark.parametrize("run", RUNS)
def test_without_a_rule_the_backward_is_measured(run: Any) -> None:
    report = judged(run)
    assert report.wrong == ()
    (reason,) = report.reasons()
    assert reason.startswith("no rule for gwtest.")
    open_steps = {f.step.value for f in report.findings if f.verdict is Verdict.INCONCLUSIVE}
    assert open_steps == {"forward"}
    assert any(f.grade.startswith("numerical") for f in report.findings)


@pytest.mark.parametrize(("name", "run"), FAULTY)
@pytest.mark.parametrize("factor", [-1.0, 1.01, 0.0])
def test_a_fault_is_found_with_a_rule(
    name: str, run: Any, factor: float, rules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTOR, name, factor)
    assert {f.node for f in judged(run).wrong if "gwtest" in f.title} != set()


@pytest.mark.parametrize(("name", "run"), FAULTY)
@pytest.mark.parametrize("factor", [-1.0, 1.01, 0.0])
def test_a_fault_is_measured_without_a_rule(
    name: str, run: Any, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTOR, name, factor)
    wrong = judged(run).wrong
    assert wrong
    assert all(f.grade.startswith("numerical") and "gwtest" in f.title for f in wrong)
    if name == "mix":
        assert [f.tensor_nr for f in wrong] == [1]


def test_a_kernel_behind_a_function_with_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cube, "factor", 2)
    (finding,) = judged(run_cube).wrong
    assert finding.grade.startswith("numerical")


def simple(x: Any) -> Any:
    return x


def test_a_name_that_is_none(snapshot: SnapshotAssertion) -> None:
    for name in ("swish", "a::b::c", "my lib::swish", "mylib.swish.default", "", None, 3):
        with pytest.raises(RuleError) as error:
            gw.rule(name, "y = x")  # type: ignore[arg-type]
        assert str(error.value) == snapshot


def test_a_name_of_torch(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(RuleError) as error:
        gw.rule("aten::mul", "y = a b")
    assert str(error.value) == snapshot


def test_a_formula_that_is_none(snapshot: SnapshotAssertion) -> None:
    for text in ("x * sigmoid(x)", "y =", None):
        with pytest.raises(RuleError) as error:
            gw.rule("gwtest::swish", text)  # type: ignore[arg-type]
        assert str(error.value) == snapshot


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (np.sin, r"is <ufunc 'sin'>: write a function of its arguments"),
        (3, "is 3: write a function of its arguments"),
        (next, "is <built-in function next>: write a function of its arguments"),
        (lambda: 0, "takes nothing: name each argument"),
        (lambda x, /: x, "takes x without a name: name each argument"),
    ],
)
def test_what_is_no_rule_of_an_operator(function: Any, said: str, scratch: None) -> None:
    with pytest.raises(RuleError, match=f"^the rule of gwtest::swish {said}"):
        gw.rule("gwtest::swish", "y = x")(function)
    assert registry.find("gwtest.swish") is None


def test_two_rules_for_one_operator(scratch: None, snapshot: SnapshotAssertion) -> None:
    first = gw.rule("gwtest::swish", "y = x", aliases=("gwtest::other",))(simple)
    with pytest.raises(RuleError) as error:
        gw.rule("gwtest.swish", "y = x")(simple)
    assert str(error.value) == snapshot
    assert registry.find("gwtest.swish.default") is first
    second = gw.rule("gwtest.swish", "y = 2 x", replace=True)(simple)
    assert registry.find("gwtest.swish.default") is second
    # All names of the first are gone, as it is.
    assert registry.find("gwtest.other") is None


def test_parameters_that_no_schema_has(scratch: None, snapshot: SnapshotAssertion) -> None:
    def anything(*arrays: Any) -> Any:
        return arrays[0]

    with pytest.raises(RuleError) as error:
        gw.rule("gwtest::swish", "y = x")(anything)
    assert str(error.value) == snapshot
    made = gw.rule("gwtest::swish", "y = x")(simple)
    with pytest.raises(RuleError) as error:
        made.vjp("x", "g")(anything)
    assert str(error.value) == snapshot
    with pytest.raises(RuleError) as error:
        made.vjp("z", "g")
    assert str(error.value) == snapshot


def no_beta(x: Any) -> Any:
    return x


def wrong_beta(x: Any, *, bta: Any) -> Any:
    return x


def positional_beta(x: Any, beta: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("gwtest::swish", no_beta, r"takes 1 positional arguments \(x\) where .* 2 \(x, beta\)"),
        ("gwtest::swish", wrong_beta, "the schema has no argument 'bta'"),
        ("gwtest::swish", positional_beta, "'beta' is not a tensor: make it keyword-only"),
        ("gwtest::swosh", no_beta, "no such operator; did you mean gwtest.swish"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_when_watching_starts(
    name: str, function: Any, said: str, scratch: None
) -> None:
    gw.rule(name, "y = x")(function)
    with pytest.raises(RuleError, match=said), gw.watch():
        pytest.fail("the block runs")
    # Nothing is left on.
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_a_rule_for_a_library_that_is_not_loaded_is_no_fault(scratch: None) -> None:
    gw.rule("gwabsent::op", "y = x")(simple)
    with gw.watch():
        pass


def test_the_example_agrees_by_the_rule_in_the_documentation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scratch: None
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        main(["check", "examples/custom_op.py:step"])
    assert end.value.code == 0
    assert "verdict   AGREES" in capsys.readouterr().out
    # The page shows a rule of its own: it takes the place of the example's, and agrees too.
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "custom.md").read_text(), re.S)
    user_rules._own.pop("mylib.swish")
    registry._RULES.pop("mylib.swish")
    names: dict[str, Any] = {}
    exec(shown, names)  # noqa: S102
    with gw.watch() as witness:
        x = leaf(5)
        torch.ops.mylib.swish(x, 0.5).backward(torch.randn(5))
    assert witness.verdict is Verdict.AGREES, str(witness)


def _fails() -> Any:
    raise gw.RuleError("this rule calls np.forgotten")


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_rule_that_raises_leaves_its_step_in_doubt(where: str) -> None:
    @gw.rule("gwtest::swish", "y = x / (1 + exp(-beta x))")
    def swish_rule(x: Any, *, beta: Any = 1.0) -> Any:
        return _fails() if where == "forward" else x / (1 + np.exp(-beta * x))

    @swish_rule.vjp("x", "nothing of use")
    def _(g: Any) -> Any:
        return _fails()

    x: Any = leaf(6)
    swish(x, 1.5).sum().backward()
    plain = x.grad.clone()
    with gw.watch() as witness:
        for step in range(2):
            x.grad = None
            swish(x, 1.5).sum().backward()
            assert torch.equal(x.grad, plain), step
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    reasons = witness.report.reasons()
    assert all("this rule calls np.forgotten" in reason for reason in reasons)
    # The backward of each step, and its forward where that fails too.
    assert reasons.total() == (4 if where == "forward" else 2)
    with pytest.raises(gw.GradientDisagreement, match=r"np\.forgotten"):
        witness.require()


@pytest.mark.parametrize("name", ["nonempty", "skip_empty_rows", "empty_like_sin"])
def test_an_operator_is_judged_whatever_its_name(name: str) -> None:
    """Memory that nobody wrote to is aten's own affair: no other name makes it so."""
    operator = torch.library.custom_op(f"gwnames::{name}", mutates_args=())(_seven_times_the_sine)
    operator.register_autograd(
        lambda ctx, g: g * ctx.saved_tensors[0].cos(),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),  # noqa: ARG005
    )
    rule = gw.rule(f"gwnames::{name}", "y = the sine of x", replace=True)(_sine)
    rule.vjp("x", "g cos x")(lambda g, x: g * np.cos(x))
    with gw.watch() as witness:
        operator(leaf(5)).sum().backward()
    assert witness.verdict is Verdict.DISAGREES
    # The formula is prose, which is shown as it stands.
    assert "the sine of x" in str(witness)


def _seven_times_the_sine(x: torch.Tensor) -> torch.Tensor:
    return 7 * x.sin()


def _sine(x: Any) -> Any:
    return np.sin(x)


def test_the_backward_that_was_registered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTOR, "swish", 2.0)
    x = torch.linspace(-1, 2, 5, requires_grad=True)
    with gw.watch() as witness:
        swish(x, 1.5).sum().backward()  # the call
    (finding,) = witness.report.wrong
    lines, first = inspect.getsourcelines(swish_back)
    assert (finding.symbol, finding.file) == ("swish_back", __file__)
    assert first <= finding.line < first + len(lines)
    assert finding.title.endswith("gradient of x (input 0)")
    here, begin = inspect.getsourcelines(test_the_backward_that_was_registered_is_named)
    call = begin + next(k for k, line in enumerate(here) if line.endswith("# the call\n"))
    assert finding.called.endswith(f"test_operators.py:{call}")
