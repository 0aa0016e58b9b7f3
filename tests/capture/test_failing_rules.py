"""A rule that fails is a reason: its step is INCONCLUSIVE, and the program goes on."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.programs import leaf
from gradwitness import Verdict
from gradwitness.rules import registry, user_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# What an operator makes, and what its rule says.
FACTOR = {"made": 0.1, "tenth": 0.1}


@torch.library.custom_op("gwfail::st", mutates_args=())
def st(x: torch.Tensor) -> torch.Tensor:
    return x * x


def st_keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[0])


st.register_autograd(
    lambda ctx, g: 2 * g * ctx.saved_tensors[0],
    setup_context=st_keep,
)


@torch.library.custom_op("gwfail::both", mutates_args=())
def both(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] + parts[1]


both.register_autograd(lambda _, g: [g, g])


@torch.library.custom_op("gwfail::tenth", mutates_args=())
def tenth(x: torch.Tensor) -> torch.Tensor:
    return torch.full_like(x, FACTOR["made"])


tenth.register_autograd(lambda _, g: torch.full_like(g, FACTOR["made"]))


def wrong_arity(x: Any) -> Any:
    return np.transpose(x, (0, 1, 2))


def sums(x: Any) -> Any:
    out = np.zeros(x.shape)
    out[0] = np.sum(x * x)
    return out


def deeper(x: Any) -> Any:
    return np.median(x * x)


CALLS = "calls np.median, which has no rounding bound: use "
# What fails, as a function of x, and what is said of it: {} stands for the shape that is wanted.
FAILURES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown function": (lambda x: np.median(x), CALLS),
    "in another function": (deeper, CALLS + ".* or add it in engine/bounded/arithmetic.py"),
    "ValueError": (wrong_arity, "failed: ValueError: axes don't match array"),
    "shapes do not match": (lambda x: x + np.ones(7), "failed: ValueError: operands could not be"),
    "TypeError": (lambda x: x.reshape("a"), "failed: TypeError: "),
    "IndexError": (lambda x: x[9], "failed: IndexError: index 9 is out of bounds"),
    "unknown method": (lambda x: x.partition(1), "failed: AttributeError: the arrays in a rule"),
    "a plain array is filled": (sums, "makes a plain number"),
    "an error of ours": (lambda x: gw.diff(x, 3), "failed: "),
    "shape": (lambda x: (x * x)[:2], r"gives shape \(2,\), but .*\(5,\)"),
    "None": (lambda _: None, r"returns None: is a return missing\?"),
    "text": (lambda _: "x", "returns str instead of an array"),
    "the end of the process": (lambda _: sys.exit(5), "failed: SystemExit: 5"),
    "NaN": (lambda x: x * np.nan, "NaN in 5 of 5 elements"),
    "NaN, plain": (lambda x: np.full(x.shape, np.nan), "NaN in 5 of 5 elements"),
}


@pytest.fixture
def scratch() -> Iterator[None]:
    """Take back afterwards which rules a test enters."""
    tables: tuple[dict[str, Any], ...] = (registry._RULES, registry._BY_NODE, user_rules._own)
    before = [dict(one) for one in tables]
    yield
    for one, old in zip(tables, before, strict=True):
        one.clear()
        one.update(old)


def enter(where: str, fails: Callable[[Any], Any]) -> str:
    """Enter a rule that fails in its forward or in its vjp; return what it is called."""

    def forward(x: Any) -> Any:
        return fails(x) if where == "forward" else x * x

    def vjp(g: Any, y: Any, x: Any) -> Any:
        return fails(x) if where == "backward" else 2 * g * x

    gw.rule("gwfail::st", "y = x^2")(forward).vjp("x", "2 g x")(vjp)
    return "the rule of gwfail.st" if where == "forward" else "the vjp of 'x' in the rule of gwfail"


def step() -> Any:
    x = leaf(5)
    (st(3 * x) * torch.linspace(0.3, 0.7, 5)).sum().backward()
    return x


@pytest.mark.parametrize("what", FAILURES)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_rule_that_fails_is_a_reason(where: str, what: str, scratch: None) -> None:
    fails, said = FAILURES[what]
    subject = enter(where, fails)
    with gw.watch() as witness:
        x = step()
    assert x.grad is not None
    assert witness.verdict is not Verdict.DISAGREES, str(witness)
    # Afterwards there is no function to measure slopes of.
    report = gw.judge(witness.tape)
    assert report.verdict is Verdict.INCONCLUSIVE
    found = [f for f in report.findings if f.verdict is not Verdict.AGREES]
    assert {f.step.value for f in found} == {where}
    for finding in found:
        assert finding.comparison.reason.startswith("NaN" if "NaN" in said else subject)
        assert re.search(said, finding.comparison.reason), finding.comparison.reason
    replayed = gw.replay(witness.tape)
    assert len(replayed.trusted) <= 1


def test_the_reason_names_the_line_of_the_users_rule(scratch: None) -> None:
    enter("forward", deeper)
    with gw.watch() as witness:
        step()
    code = deeper.__code__
    ((reason, _),) = witness.report.reasons().items()
    assert reason.endswith(f"(at tests/capture/test_failing_rules.py:{code.co_firstlineno + 1})")
    assert "np.median" in str(witness)


def test_a_rule_that_fails_on_what_is_carried_only(monkeypatch: pytest.MonkeyPatch) -> None:
    neg = registry.find("aten.neg")
    assert neg is not None
    known = neg.gradients["x"]

    def vjp(g: Any) -> Any:
        # Exact where the step alone is judged, and not with the gradient's own past.
        return known.function(g) if g.is_exact else np.median(g)

    monkeypatch.setitem(neg.gradients, "x", replace(known, function=vjp))
    with gw.watch() as witness:
        x = leaf(5)
        (-x * leaf(5)).sum().backward()
    assert x.grad is not None
    assert {f.verdict for f in witness.report.findings} == {Verdict.AGREES}


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(
    "what", ["in another function", "ValueError", "shape", "None", "NaN, plain"]
)
def test_probes_and_gradcheck_go_on(where: str, what: str, scratch: None) -> None:
    enter(where, FAILURES[what][0])
    probed = gw.probe(lambda: (st(3 * leaf(5)) * torch.linspace(0.3, 0.7, 5)).sum())
    assert probed.verdict is not Verdict.DISAGREES
    try:
        gw.gradcheck(lambda x: st(x), (leaf(5),))
    except gw.GradientDisagreement as left_open:
        assert str(left_open).startswith("INCONCLUSIVE")  # noqa: PT017


def test_a_list_of_gradients_that_is_none(scratch: None) -> None:
    rule = gw.rule("gwfail::both", "y = a + b")(lambda parts: parts[0] + parts[1])
    rule.vjp("parts", "g")(lambda g, y, parts: g)  # noqa: ARG005
    with gw.watch() as witness:
        both([leaf(5), leaf(5)]).sum().backward()
    report = gw.judge(witness.tape)
    (reason,) = report.reasons()
    assert reason.endswith(
        "in the rule of gwfail.both must return a list with one gradient for each tensor"
    )


def test_plain_numbers_of_a_rule_are_rounded_as_the_programs(scratch: None) -> None:
    rule = gw.rule("gwfail::tenth", "y = c")(lambda x: np.full(x.shape, FACTOR["tenth"]))
    rule.vjp("x", "c")(lambda g, y, x: np.full(x.shape, FACTOR["tenth"]))  # noqa: ARG005
    pairs = {(0.1, 0.1): True, (0.5, 0.5): True, (0.1, 0.1001): False}
    for (FACTOR["made"], FACTOR["tenth"]), right in pairs.items():
        verdict = Verdict.AGREES if right else Verdict.DISAGREES
        with gw.watch() as witness:
            tenth(leaf(5)).sum().backward()
        report = gw.judge(witness.tape)
        assert report.verdict is verdict, str(witness)


def test_complex_numbers_of_a_rule_for_real_ones(scratch: None) -> None:
    enter("forward", lambda x: x * x + 5j)
    with gw.watch() as witness:
        st(leaf(5)).sum().backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert reason.endswith("returns complex numbers, but real ones were recorded")
