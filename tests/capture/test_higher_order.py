"""Operators that take functions: torch compiles their calls itself, watched or not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops.associative_scan import associative_scan, associative_scan_op
from torch._higher_order_ops.map import map as mapped
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from gradwitness.tape import COMPILED

# Loading the compiler takes seconds.
dynamo: Any = pytest.importorskip("torch._dynamo")
# What torch warns of as it compiles, and that attention is slow if it is not compiled.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("flex_attention called without", "The .grad attribute", ".torch.jit.script_method")
]
X = torch.linspace(0.5, 2, 3)
# Torch has no types for the first, and wrong ones for the second.
LOOP: Any = while_loop
MAP: Any = mapped


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.w = nn.Parameter(torch.randn(3))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    dynamo.reset()


def branches(layers: Layers, x: Any) -> Any:
    return torch.cond(x.sum() > 0, lambda x: x.sin() * layers.w, lambda x: x.cos(), (x,))


def of_an_operand(layers: Layers) -> Any:
    return torch.cond(layers.w.sum() > 0, torch.sin, torch.cos, (layers.w,))


def of_what_it_closes_over(layers: Layers) -> Any:
    # As it runs eagerly, under any other dispatch mode, torch loses the gradient of w.
    return branches(layers, X)


def of_modules(layers: Layers) -> Any:
    deciding = layers.w.sum() > 0
    return torch.cond(deciding, layers.linear, lambda x: layers.linear(x) * 2, (layers.w,))


def looped(layers: Layers) -> Any:
    begun = (torch.tensor(0), layers.w * 1)
    return LOOP(lambda i, _: i < 3, lambda i, y: (i + 1, y * layers.w), begun)[1]


def scanned(layers: Layers) -> Any:
    steps = torch.ones(4, 3)
    carry, outputs = scan(lambda c, x: (c * layers.w + x, c.clone()), X, steps)
    return carry + outputs.square().sum(0)


def of_rows(layers: Layers) -> Any:
    return MAP(lambda x, w: x * w, torch.ones(4, 3), layers.w)


def in_a_checkpoint(layers: Layers) -> Any:
    return checkpoint(lambda w: branches(layers, w * 2), layers.w, use_reentrant=False)


def without_gradients(layers: Layers) -> Any:
    return layers.w * torch.cond(X.sum() > 0, torch.sin, torch.cos, (X,))


def looped_without_gradients(layers: Layers) -> Any:
    with torch.no_grad():
        begun = (torch.tensor(0), X)
        return LOOP(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2), begun)[1] * layers.w


def attention(layers: Layers) -> Any:
    q = X.expand(1, 1, 4, 3).clone()
    with torch.no_grad():
        seen = flex_attention(q, q, q)
    return seen * layers.w


def under_vmap(layers: Layers) -> Any:
    def one(w: Any) -> Any:
        return torch.cond(w.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (w,))

    return torch.vmap(one)(torch.stack([layers.w, layers.w * 2]))


UNSEEN = {
    of_an_operand: "cond",
    of_what_it_closes_over: "cond",
    of_modules: "cond",
    in_a_checkpoint: "cond",
    without_gradients: "cond",
    under_vmap: "cond",
    looped: "while_loop",
    looped_without_gradients: "while_loop",
    scanned: "scan",
    of_rows: "map_impl",
    attention: "flex_attention",
}


def step(output: Any) -> tuple[Any, ...]:
    """Return all that a step computes, and how often torch compiled."""
    dynamo.utils.counters.clear()
    layers = Layers()
    result = output(layers)
    if result.requires_grad:
        result.square().sum().backward()
    compiled = dynamo.utils.counters["stats"]["unique_graphs"]
    return result.detach(), *(p.grad for p in layers.parameters()), compiled


@pytest.mark.parametrize("before", [False, True], ids=["compiled in the block", "before"])
@pytest.mark.parametrize("output", UNSEEN, ids=lambda output: output.__name__)
def test_what_takes_functions_runs_as_without_the_block(output: Any, before: bool) -> None:
    if before:
        step(output)
    with gw.watch() as witness:
        watched = step(output)
    again = step(output)
    dynamo.reset()
    first = step(output)
    plain = step(output) if before else first
    for mine, theirs, afterwards in zip(watched[:-1], plain[:-1], again[:-1], strict=True):
        assert (mine is None) == (theirs is None) == (afterwards is None)
        assert mine is None or torch.equal(mine, theirs)
        assert mine is None or torch.equal(mine, afterwards)
    # What was compiled once stays so, in the block and afterwards.
    assert (watched[-1], again[-1]) == (plain[-1], 0)
    assert witness.report is not None
    assert witness.verdict.value == "INCONCLUSIVE"
    assert f"no rule for higher_order.{UNSEEN[output]}" in witness.report.reasons()
    assert not any(unseen.reason == COMPILED for unseen in witness.tape.unseen)


def where_no_function_is_seen() -> Any:
    with torch._C.DisableTorchFunction():
        return torch.cond(X.sum() > 0, torch.sin, torch.cos, (X,))


def called_as_it_is() -> Any:
    return associative_scan_op(lambda a, b: (a + b,), [X.expand(4, 3).clone()], ())[0]


@pytest.mark.parametrize("run", [where_no_function_is_seen, called_as_it_is])
def test_what_torch_does_not_compile_runs_too(run: Any) -> None:
    plain = run()
    with gw.watch() as witness, torch.no_grad():
        watched = run()
    assert torch.equal(watched, plain)
    assert witness.report is not None
    assert "no rule for higher_order." in str(witness.report.reasons())


def test_a_gradient_through_an_operator_names_it() -> None:
    with gw.watch() as witness:
        step(of_what_it_closes_over)
    assert witness.report is not None
    reason = "torch runs higher_order.cond as one operation: what it ran was not recorded"
    assert reason in witness.report.reasons()
    kinds = {note.kind for note in witness.report.notes}
    assert "gradient of another shape" not in kinds


def test_a_generic_scan_is_computed_by_operations_that_are_judged() -> None:
    layers = Layers()
    with gw.watch(layers) as witness:
        rows = layers.w.expand(4, 3) * 1.0
        products: Any = associative_scan(lambda a, b: a * b, rows, 0, combine_mode="generic")
        products.sum().backward()
    assert witness.verdict.value == "AGREES"
    # d/dw of w + w^2 + w^3 + w^4.
    w = layers.w.detach()
    torch.testing.assert_close(layers.w.grad, 1 + 2 * w + 3 * w**2 + 4 * w**3)


def test_the_compiler_loaded_in_the_block_compiles_what_follows() -> None:
    program = """
        import sys
        import torch
        import gradwitness as gw

        w, x = torch.ones(3, requires_grad=True), torch.ones(3)

        def step():
            torch.cond(x.sum() > 0, lambda x: x * w, lambda x: x - w, (x,)).sum().backward()

        assert "torch._dynamo" not in sys.modules
        with gw.watch():
            step()
            step()
        step()
        assert w.grad.tolist() == [3.0] * 3
        from torch._dynamo.utils import counters
        assert counters["stats"]["unique_graphs"] == 1, counters
        """
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", textwrap.dedent(program)], check=True
    )
