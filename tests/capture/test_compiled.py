"""Code that torch.compile compiles: inside watch it runs eagerly, says so, and stays compiled."""

from __future__ import annotations

import inspect
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.tape import COMPILED

if TYPE_CHECKING:
    from collections.abc import Callable

# Loading the compiler takes seconds.
dynamo: Any = pytest.importorskip("torch._dynamo")
X = torch.linspace(-1, 1, 32).reshape(4, 8)


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def doubling(graph: Any, _: Any) -> Any:
    """Compile to what returns twice the result, to be told from eager code."""

    def run(*arguments: Any) -> Any:
        return tuple(2 * output for output in graph.forward(*arguments))

    return run


@pytest.fixture(autouse=True)
def _fresh() -> None:
    dynamo.reset()


def gradient(model: Any, run: Callable[[], Any]) -> Any:
    model.zero_grad()
    run()
    return model[0].weight.grad.clone()


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_a_compiled_model_runs_eagerly_and_is_compiled_afterwards(
    fullgraph: bool, before: bool
) -> None:
    model = network()
    fast: Any = torch.compile(model, backend=doubling, fullgraph=fullgraph)
    right = gradient(model, lambda: model(X).sum().backward())
    if before:
        assert torch.equal(gradient(model, lambda: fast(X).sum().backward()), 2 * right)
    with gw.watch(model) as witness:
        model.zero_grad()
        fast(X).sum().backward()  # here
    assert torch.equal(model[0].weight.grad, right)
    assert torch.equal(gradient(model, lambda: fast(X).sum().backward()), 2 * right)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert list(witness.report.reasons()) == [COMPILED]
    assert {row.verdict for row in witness.report.rows} == {gw.Verdict.AGREES}
    (note,) = witness.report.notes
    assert note.kind == "compiled code"
    assert "gradwitness.check(" in note.text
    lines, begin = inspect.getsourcelines(
        test_a_compiled_model_runs_eagerly_and_is_compiled_afterwards
    )
    here = begin + next(n for n, line in enumerate(lines) if "# here" in line)
    assert note.source is not None
    assert note.source.line == f"{__file__}:{here}"
    with pytest.raises(gw.GradientDisagreement, match="compiled code ran eagerly"):
        witness.require()


def test_a_model_compiled_within_the_block_is_compiled_afterwards() -> None:
    model = network()
    right = gradient(model, lambda: model(X).sum().backward())
    with gw.watch(model) as witness:
        fast: Any = torch.compile(model, backend=doubling)
        fast(X).sum().backward()
    assert list(witness.report.reasons()) == [COMPILED]
    assert torch.equal(gradient(model, lambda: fast(X).sum().backward()), 2 * right)


def test_blocks_of_two_threads_that_end_in_another_order_leave_the_compiler_on() -> None:
    model = network()
    fast: Any = torch.compile(model, backend=doubling)
    right = gradient(model, lambda: model(X).sum().backward())
    second_began, first_ended = threading.Event(), threading.Event()

    def second() -> None:
        with gw.watch():
            second_began.set()
            first_ended.wait(10)

    with gw.watch():
        thread = threading.Thread(target=second)
        thread.start()
        second_began.wait(10)
    first_ended.set()
    thread.join()
    assert torch.equal(gradient(model, lambda: fast(X).sum().backward()), 2 * right)


class Half(torch.autograd.Function):
    """2 x, with the gradient of x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0]


class Wraps(nn.Module):
    """A model with something behind it."""

    def __init__(self, last: Any) -> None:
        super().__init__()
        self.model, self.last = network(), last

    def forward(self, x: Any) -> Any:
        """Run it."""
        return self.last(self.model(x))


def breaks(y: Any) -> Any:
    torch._dynamo.graph_break()
    return y.sin()


def in_place(model: Any) -> Any:
    model.compile(backend="aot_eager")
    return model(X).sum()


@pytest.mark.parametrize(
    "loss",
    [
        in_place,
        lambda model: torch.compile(lambda y: y.square().mean(), backend="eager")(model(X)),
        lambda model: torch.compile(Wraps(breaks), backend="aot_eager")(X).sum() + model(X).sum(),
        pytest.param(
            lambda model: torch.compile(model, mode="reduce-overhead")(X).sum(),
            # From torch's own default backend.
            marks=pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
        ),
    ],
)
def test_other_ways_to_compile_are_seen(loss: Any) -> None:
    model = network()
    with gw.watch(model) as witness:
        loss(model).backward()
    assert list(witness.report.reasons()) == [COMPILED]
    assert {row.verdict for row in witness.report.rows} == {gw.Verdict.AGREES}


def test_a_fault_in_compiled_code_is_found() -> None:
    half: Any = Half.apply
    fast: Any = torch.compile(Wraps(half), backend="aot_eager")
    with gw.watch(fast) as witness:
        fast(X).sum().backward()
    assert [finding.title for finding in witness.report.wrong] == [
        "HalfBackward #1, gradient of x (input 0)"
    ]


def plain(model: Any) -> None:
    model(X).sum().backward()


def not_compiled(model: Any) -> None:
    disable: Any = torch.compiler.disable
    disabled = disable(model)
    torch.compile(lambda x: disabled(x), backend="eager")(X).sum().backward()


def with_a_compiled_update(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step: Any = torch.compile(optimizer.step, backend="eager")
    model(X).sum().backward()
    step()


@pytest.mark.parametrize("run", [plain, not_compiled, with_a_compiled_update])
def test_eager_code_agrees_though_the_compiler_is_loaded(run: Any) -> None:
    model = network()
    with gw.watch(model) as witness:
        run(model)
    assert witness.verdict is gw.Verdict.AGREES
    assert witness.report.notes == ()


def test_no_filter_of_warnings_stays_behind() -> None:
    before = list(warnings.filters)
    test_who_wants_eager_code_gets_no_doubt()
    assert list(warnings.filters) == before


def test_who_wants_eager_code_gets_no_doubt() -> None:
    model = network()
    fast: Any = torch.compile(model, backend=doubling)
    with torch.compiler.set_stance("force_eager"), gw.watch(model) as witness:
        fast(X).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES


def test_a_forward_outside_of_the_block_was_not_recorded() -> None:
    model = network()
    fast: Any = torch.compile(model, backend="aot_eager")
    loss = fast(X).sum()
    with gw.watch(model) as witness:
        loss.backward()
    assert "computed by compiled code, which was not recorded" in witness.report.reasons()
    assert not witness.report.wrong


@pytest.mark.parametrize("in_check", [False, True])
def test_compiled_gradients_are_judged_as_claims(in_check: bool) -> None:
    model = network()
    fast: Any = torch.compile(model, backend="aot_eager")
    fast(X).sum().backward()
    right = {name: p.grad for name, p in model.named_parameters()}
    wrong = {name: 2 * g for name, g in right.items()}
    judged: Any = model
    if in_check:
        # What is compiled for good runs eagerly there, on purpose.
        judged = network()
        judged.compile(backend=doubling)
    for claims, verdict in ((right, gw.Verdict.AGREES), (wrong, gw.Verdict.DISAGREES)):
        found = gw.check(judged, X, loss=torch.sum, claims=claims)
        assert found.verdict is verdict
