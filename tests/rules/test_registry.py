"""Looking rules up by operation and by node, and what the registry refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness import rules
from gradwitness._errors import RuleError
from gradwitness.rules import registry
from gradwitness.rules.registry import Shaped, Term, find, find_node, node_name, rule, table, term

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


def scaled(a: Any, b: Any, *, alpha: Any = 2, beta: Any) -> Any:
    return a * b * alpha * beta


@pytest.mark.usefixtures("scratch")
def test_vjp_of_no_operand_or_a_second_one_is_refused() -> None:
    made = rule("mine.same", "y = x", meaning="does nothing")(identity)
    made.vjp("x", "g")(lambda g: g)
    with pytest.raises(RuleError, match=r"^mine.same has no operand 'z'; it has x$"):
        made.vjp("z", "g")
    with pytest.raises(RuleError, match=r"^mine.same: 'x' has two vjps$"):
        made.vjp("x", "g")


@pytest.mark.parametrize("text", [None, "", 3])
@pytest.mark.usefixtures("scratch")
def test_vjp_without_a_formula_is_refused(text: Any) -> None:
    made = rule("mine.same", "y = x", meaning="passes on")(identity)
    with pytest.raises(
        RuleError, match=f"^mine.same: the formula of the vjp of 'x' is {text!r}: write it"
    ):
        made.vjp("x", text)


@pytest.mark.parametrize("name", ["g", "y"])
@pytest.mark.usefixtures("scratch")
def test_operand_that_is_called_as_cotangent_or_result_is_refused(name: str) -> None:
    functions = {"g": lambda x, g: x * g, "y": lambda x, y: x * y}
    with pytest.raises(RuleError, match=f"^mine.same: .*call the operand '{name}' otherwise"):
        rule("mine.same", "y = ...")(functions[name])
    assert find("mine.same") is None


# What a vjp names is what it is given, and what counts as read.


def of_shape(g: Any, a: Shaped) -> Any:
    return g + sum(a.shape)


def of_numbers_and_shape(g: Any, a: Any, b: Shaped | None) -> Any:
    return g * a if b is None else g * a * b.size


@pytest.mark.parametrize(
    ("function", "read", "value"),
    [
        (lambda g: g, {"g"}, 10),
        (lambda g, b: g * b, {"g", "b"}, 70),
        (lambda b, g: g * b, {"g", "b"}, 70),
        (lambda g, y: g + y, {"g", "y"}, 12),
        # The rule's default, unless the call gives another; all of them by **.
        (lambda g, *, alpha: g * alpha, {"g"}, 20),
        (lambda g, b, *, beta, alpha: g * b * beta * alpha, {"g", "b"}, 4200),
        (lambda g, **how: [g, sorted(how.items())], {"g"}, [10, [("alpha", 2), ("beta", 30)]]),
        (lambda g, *, beta, **how: [g, beta, how], {"g"}, [10, 30, {"alpha": 2}]),
    ],
)
@pytest.mark.usefixtures("scratch")
def test_vjp_is_given_what_it_names(function: Any, read: set[str], value: Any) -> None:
    made = rule("mine.scaled", "y = ...")(scaled)
    made.vjp("a", "...")(function)
    gradient = made.gradients["a"]
    assert gradient(10, 2, (3, 7), {"beta": 30, "other": 1}) == value
    assert gradient.reads == made.kept == read


@pytest.mark.parametrize(
    ("function", "read", "value"),
    [(of_shape, {"g"}, 13), (of_numbers_and_shape, {"g", "a"}, 360)],
)
@pytest.mark.usefixtures("scratch")
def test_an_operand_of_which_only_the_shape_counts_is_not_read(
    function: Any, read: set[str], value: Any
) -> None:
    made = rule("mine.scaled", "y = ...")(scaled)
    made.vjp("a", "...")(function)
    assert made.kept == read
    found = made.gradients["a"](10, None, (np.full(3, 3), np.arange(12)), {"beta": 1})
    assert np.all(found == value)


@pytest.mark.usefixtures("scratch")
def test_single_results_are_read_apart() -> None:
    made = rule("mine.scaled", "y = ...")(scaled)
    made.vjp("a", "...")(lambda g, y2, y0: g[0] * y2 - y0)
    assert made.kept == {"g", "y[0]", "y[2]"}
    assert [made.keeps(place, 3) for place in range(3)] == [True, False, True]
    gradient = made.gradients["a"]
    assert gradient((10, None, None), (1, None, 5), (3, 7), {}) == 49
    # An array's first row is not the first of several results.
    with pytest.raises(TypeError, match="asks for y2, but the operation has one result"):
        gradient(np.ones(3), np.ones(3), (3, 7), {})


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda g, c: g * c, "asks for 'c'"),
        (lambda g, out, a: g * out * a, "asks for 'out'"),
        (lambda g, alpha: g * alpha, "asks for 'alpha'"),
        (lambda g, *, a: g * a, "asks for 'a'"),
        (lambda g, *, y: g * y, "asks for 'y'"),
        (lambda g, *, gamma: g * gamma, "asks for 'gamma'"),
        (lambda g, *rest: g * rest[0], r"asks for '\*rest'"),
        (lambda g, y_1: g * y_1, "asks for 'y_1'"),
        (lambda g, *, alpha=2: g * alpha, "gives 'alpha' a default: the rule's holds"),
    ],
)
@pytest.mark.usefixtures("scratch")
def test_what_a_vjp_may_ask_for_is_listed(function: Any, fault: str) -> None:
    made = rule("mine.scaled", "y = ...")(scaled)
    with pytest.raises(
        RuleError,
        match=f"^mine.scaled: the vjp of 'a' {fault}; it may ask by name for g, y "
        r"\(single results: y0, y1, \.\.\.\), a, b, and after \* for alpha, beta$",
    ):
        made.vjp("a", "...")(function)
    assert not made.gradients
    assert not made.kept


@pytest.mark.usefixtures("scratch")
def test_an_operand_that_the_result_does_not_change_with_gets_zeros() -> None:
    made = rule("mine.scaled", "y = ...")(scaled)
    made.constant_in("a", "b")
    assert made.kept == {"g"}
    zero = made.gradients["b"]
    assert zero.text == "0"
    given = (np.ones(2), np.ones((3, 4)))
    assert np.array_equal(zero(np.ones(2), None, given, {}), np.zeros((3, 4)))
    assert np.array_equal(zero((np.ones(2), None), None, given, {}), np.zeros((3, 4)))


def test_which_results_are_kept() -> None:
    norm, relu, mm = (find(f"aten.{op}") for op in ("native_batch_norm", "relu", "mm"))
    assert norm
    assert relu
    assert mm
    assert [norm.keeps(place, 3) for place in range(3)] == [False, True, True]
    assert relu.keeps(0, 1)
    assert not mm.keeps(0, 1)
