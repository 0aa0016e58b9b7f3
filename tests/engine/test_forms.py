"""Forms of calls: the same for all that are alike, and never those of another."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness import rules
from gradwitness._errors import Unjudgeable
from gradwitness.engine.forms import form_of
from gradwitness.judging.step_memory import StepMemory
from gradwitness.rules import registry, user_rules
from gradwitness.tape import Call, Ref, Tape, Value

if TYPE_CHECKING:
    from collections.abc import Iterator


def value(number: int, shape: tuple[int, ...] = (2, 3), dtype: str = "float32") -> Value:
    return Value(number, shape, dtype, np.zeros(shape, np.float32))


def call(number: int = 0, *, op: str = "aten.add.Tensor", **arguments: Any) -> Call:
    given = {"self": Ref(0), "other": Ref(1), "alpha": 1, **arguments}
    return Call(number, op, given, (2,))


VALUES = [value(n) for n in range(3)]


@pytest.fixture
def own() -> Iterator[registry.Rule]:
    @user_rules.rule("formed::scaled", "y = a * b")
    def scaled(a: Any, b: Any) -> Any:
        return a * b

    yield scaled
    for rule in {*user_rules.own().values()}:
        registry.forget(rule)
    user_rules._own.clear()


def test_calls_that_are_alike_have_one_form() -> None:
    others = [value(n) for n in range(3)]
    assert form_of(others, call(7, alpha=5)) is form_of(VALUES, call())


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ([value(0), value(1, (3,)), value(2)], call()),
        ([value(0), value(1, dtype="bfloat16"), value(2)], call()),
        ([value(0), value(1), value(2, dtype="float64")], call()),
        (VALUES, call(other=2.0)),
        (VALUES, call(alpha=1.0)),
        (VALUES, call(op="aten.sub.Tensor")),
    ],
)
def test_a_difference_in_shape_format_type_or_operation_makes_another_form(
    values: list[Value], other: Call
) -> None:
    assert form_of(values, other) is not form_of(VALUES, call())


def test_what_a_form_says_of_sizes() -> None:
    values = [value(0, (4, 1)), value(1, (0, 3)), value(2, (4, 3))]
    form = form_of(values, call())
    assert (form.largest, form.is_empty, form.over_complex) == (12, True, False)
    # (4, 1) and (0, 3) do not go together.
    assert not form.by_element
    assert form_of([value(0, (4, 1)), value(1, (1, 3)), value(2, (4, 3))], call()).by_element
    assert not form_of([value(0, (4, 1)), value(1, (1, 3)), value(2, (4, 1))], call()).by_element


def test_edges_stand_for_tensors_and_for_what_is_left_out() -> None:
    form = form_of(VALUES, call())
    assert [(name, index) for name, index, _ in form.inputs(call())] == [("a", None), ("b", None)]
    assert [name for name, *_ in form_of(VALUES, call(other=2.0)).inputs(call())] == ["a"]
    several = Call(0, "aten.cat.default", {"tensors": (Ref(0), Ref(1)), "dim": 0}, (2,))
    inputs = form_of(VALUES, several).inputs(several)
    assert [(index, argument) for _, index, argument in inputs] == [(0, Ref(0)), (1, Ref(1))]


def test_a_rule_that_is_replaced_leaves_no_form_behind(own: registry.Rule) -> None:
    step = Call(0, "formed.scaled.default", {"a": Ref(0), "b": Ref(1)}, (2,))
    assert form_of(VALUES, step).rule is own

    @user_rules.rule("formed::scaled", "y = a + b", replace=True)
    def other(a: Any, b: Any) -> Any:
        return a + b

    assert form_of(VALUES, step).rule is other is rules.find("formed.scaled")


def test_a_vjp_that_is_added_later_is_known(own: registry.Rule) -> None:
    step = Call(0, "formed.scaled.default", {"a": Ref(0), "b": Ref(1)}, (2,))
    assert form_of(VALUES, step).inputs(step) == []
    own.vjp("b", "g * a")(lambda g, a: g * a)
    assert form_of(VALUES, step).inputs(step) == [("b", None, Ref(1))]


def test_forms_hold_no_numbers() -> None:
    values = [value(n, (5, 7)) for n in range(3)]
    array: Any = values[0].array
    kept = weakref.ref(array)
    form_of(values, call())
    with (memory := StepMemory(Tape(values, [call()], (), ()))):
        form_of(memory.tape.values, call())
    del values, memory, array
    gc.collect()
    assert kept() is None


def test_a_step_remembers_the_form_of_a_call_and_not_that_of_another_with_its_number() -> None:
    memory = StepMemory(Tape(VALUES, [call()], (), ()))
    with memory:
        step = memory.tape.calls[0]
        form = form_of(memory.tape.values, step)
        assert form_of(memory.tape.values, step) is form
        member = call(op="aten.sub.Tensor")
        assert form_of(memory.tape.values, member).rule.name == "aten.sub"
        assert form_of(memory.tape.values, step) is form


@pytest.mark.parametrize(
    ("values", "other", "message"),
    [
        (VALUES, call(op="aten.unheard_of.default"), "no rule for aten.unheard_of.default"),
        (
            VALUES,
            Call(0, "aten.relu.default", {"self": Ref(0), "other": Ref(1)}, (2,)),
            "the rule of aten.relu does not cover this form of aten.relu.default",
        ),
        (
            [value(0, dtype="complex64"), value(1), value(2)],
            Call(0, "aten.relu.default", {"self": Ref(0)}, (2,)),
            "no rule for complex numbers: aten.relu.default",
        ),
    ],
)
def test_what_no_rule_covers_has_no_form(values: list[Value], other: Call, message: str) -> None:
    for _ in range(2):
        with pytest.raises(Unjudgeable, match=message):
            form_of(values, other)
