"""Looking rules up by operation and by node, and what the registry refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gradwitness import rules
from gradwitness._errors import RuleError
from gradwitness.rules import registry
from gradwitness.rules.registry import Term, find, find_node, node_name, rule, table, term

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scratch() -> Iterator[None]:
    """Take back afterwards what a test enters into the tables."""
    tables: tuple[dict[str, Any], ...] = (registry._RULES, registry._BY_NODE)
    before = [dict(one) for one in tables]
    yield
    for one, old in zip(tables, before, strict=True):
        one.clear()
        one.update(old)


def identity(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("op", "node"),
    [
        ("aten.addmm", "AddmmBackward"),
        ("aten.t", "TBackward"),
        ("aten._unsafe_view", "UnsafeViewBackward"),
        ("aten._reshape_alias", "ReshapeAliasBackward"),
        ("aten.mse_loss", "MseLossBackward"),
        ("aten.add_", "AddBackward"),
        # Torch capitalizes what follows a digit too.
        ("aten.log1p", "Log1PBackward"),
        ("aten.atan2", "Atan2Backward"),
        ("aten._thnn_fused_lstm_cell_forward", "ThnnFusedLstmCellBackward"),
    ],
)
def test_node_name_is_the_one_that_torch_makes_of_the_operation(op: str, node: str) -> None:
    assert node_name(op) == node


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("aten.addmm", "aten.addmm"),
        ("aten.addmm.default", "aten.addmm"),
        ("aten.add.Tensor", "aten.add"),
        ("aten._unsafe_view.default", "aten.view"),
        ("aten.alias", "aten.clone"),
    ],
)
def test_find_takes_operations_with_and_without_overload(op: str, name: str) -> None:
    found = find(op)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("op", ["aten.nonesuch", "mine.addmm", "addmm", "aten", ""])
def test_find_knows_no_other_operation(op: str) -> None:
    assert find(op) is None


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("AddmmBackward0", "aten.addmm"),
        ("TBackward0", "aten.t"),
        ("UnsafeViewBackward0", "aten.view"),
        ("ReshapeAliasBackward0", "aten.view"),
        ("ViewBackward0", "aten.view"),
        ("CopyBackwards", "aten.copy"),
        ("MulBackward0", "aten.mul"),
        ("MulBackward1", "aten.mul"),
        ("PowBackward12", "aten.pow"),
        ("AliasBackward0", "aten.clone"),
    ],
)
def test_find_node_gives_the_rule(node: str, name: str) -> None:
    assert find_node(node) is find(name)


@pytest.mark.parametrize("node", ["AccumulateGrad", "CopySlices", "CustomFunction"])
def test_find_node_gives_terms_too(node: str) -> None:
    found = find_node(node)
    assert isinstance(found, Term)
    assert found.definition().startswith(f"{node} ")


@pytest.mark.parametrize("node", ["NonesuchBackward0", "addmmbackward0", "Backward0", ""])
def test_find_node_knows_no_other_node(node: str) -> None:
    assert find_node(node) is None


def test_aliases_share_one_rule() -> None:
    assert table()["aten._unsafe_view"] is table()["aten.view"]
    assert rules.table() is table()


def test_signature_gives_operands_and_parameters() -> None:
    found = find("aten.addmm")
    assert found is not None
    assert (found.operands, found.parameters) == (("b", "A", "B"), ("beta", "alpha"))


@pytest.mark.usefixtures("scratch")
def test_new_rule_is_found_by_operation_alias_and_node() -> None:
    made = rule(
        "mine.same", "y = x", meaning="does nothing", aliases=("mine.twin",), node="OddName"
    )(identity)
    assert [find("mine.same.default"), find("mine.twin")] == [made, made]
    assert [find_node(n) for n in ("OddName", "SameBackward0", "TwinBackward0")] == [made] * 3
    assert made.definition() == "OddName does nothing."


@pytest.mark.usefixtures("scratch")
def test_rule_without_meaning_has_no_node() -> None:
    made = rule("mine.same", "y = x")(identity)
    assert made.node == ""
    assert find_node("SameBackward0") is None


@pytest.mark.parametrize(
    ("name", "aliases", "twice"),
    [
        ("aten.mm", (), "aten.mm"),
        ("aten._unsafe_view", (), "aten._unsafe_view"),
        ("mine.new", ("aten.mm",), "aten.mm"),
    ],
    ids=["name", "name of an alias", "alias"],
)
@pytest.mark.usefixtures("scratch")
def test_second_rule_is_refused_and_leaves_nothing(
    name: str, aliases: tuple[str, ...], twice: str
) -> None:
    before = dict(table())
    with pytest.raises(RuleError, match=f"^{twice} has two rules$"):
        rule(name, "y = x", meaning="does nothing", aliases=aliases)(identity)
    assert table() == before


@pytest.mark.parametrize("node", ["AddmmBackward", "AccumulateGrad"])
@pytest.mark.usefixtures("scratch")
def test_second_rule_of_a_node_is_refused(node: str) -> None:
    with pytest.raises(RuleError, match=f"^{node} is defined twice$"):
        rule("mine.new", "y = x", meaning="does nothing", node=node)(identity)
    assert find("mine.new") is None


@pytest.mark.parametrize("name", ["AccumulateGrad", "AddmmBackward"])
def test_second_definition_of_a_node_is_refused(name: str) -> None:
    with pytest.raises(RuleError, match=f"^{name} is defined twice$"):
        term(name, "does something else")


@pytest.mark.parametrize("operand", ["z", "x"], ids=["no operand", "second time"])
@pytest.mark.usefixtures("scratch")
def test_vjp_is_refused(operand: str) -> None:
    made = rule("mine.same", "y = x", meaning="does nothing")(identity)
    made.vjp("x", "g")(lambda g, *_: g)
    with pytest.raises(RuleError, match=f"^mine.same: '{operand}' is no operand, or has its vjp"):
        made.vjp(operand, "g")


def _inner(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (lambda g, y, a, b: g, {"g"}),  # noqa: ARG005
        (lambda g, y, a, b: g * b, {"g", "b"}),  # noqa: ARG005
        (lambda g, y, a, b: g + y, {"g", "y"}),  # noqa: ARG005
        # A shape can be had without the numbers.
        (lambda g, y, a, b: g.reshape(a.shape), {"g"}),  # noqa: ARG005
        (lambda g, y, a, b: g * a.size + b.ndim, {"g"}),  # noqa: ARG005
        (lambda g, y, a, b: g * a.shape[0] + a, {"g", "a"}),  # noqa: ARG005
        # Handed on, kept by another function, or looked at in a comprehension: used.
        (lambda g, y, a, b: g * _inner(a), {"g", "a"}),  # noqa: ARG005
        (lambda g, y, a, b: (lambda: g * b)(), {"g", "b"}),  # noqa: ARG005
        (lambda g, y, a, b: [g * each for each in b], {"g", "b"}),  # noqa: ARG005
        # One result of several; in any other use all of them.
        (lambda g, y, a, b: g[0] * y[1] - y[2], {"g", "y[1]", "y[2]"}),  # noqa: ARG005
        (lambda g, y, a, b: g * y[1].shape[0], {"g", "y[1]"}),  # noqa: ARG005
        (lambda g, y, a, b: g * y[1] * _inner(y), {"g", "y"}),  # noqa: ARG005
        (lambda g, y, a, b: g * y[-1], {"g", "y"}),  # noqa: ARG005
        (lambda g, y, a, b: g * y[a], {"g", "y", "a"}),  # noqa: ARG005
        # By its place, whatever it is called; and if all are taken together, all.
        (lambda cotangent, _, first, second: cotangent * second, {"g", "b"}),  # noqa: ARG005
        (lambda *everything: everything[0], {"g", "y", "a", "b"}),
        (lambda g, *rest: g * rest[2], {"g", "y", "a", "b"}),
        (lambda g, y, *rest: g * y, {"g", "y"}),  # noqa: ARG005
        (lambda g, y, *rest, **more: g * more["c"], {"g"}),  # noqa: ARG005
    ],
)
def test_what_a_vjp_uses_is_read_from_its_code(function: Any, used: set[str]) -> None:
    assert registry.reads(function, ("g", "y", "a", "b")) == used


def test_which_results_are_kept() -> None:
    norm, relu, mm = (find(f"aten.{op}") for op in ("native_batch_norm", "relu", "mm"))
    assert norm
    assert relu
    assert mm
    assert [norm.keeps(place, 3) for place in range(3)] == [False, True, True]
    assert relu.keeps(0, 1)
    assert not mm.keeps(0, 1)


def test_an_argument_that_is_only_overwritten_counts_as_used() -> None:
    def vjp(g: Any, y: Any, a: Any) -> Any:
        a = g
        return a * 0 + g

    # It is loaded after that, which the code cannot tell from a use: kept, to be safe.
    assert registry.reads(vjp, ("g", "y", "a")) == {"g", "a"}
