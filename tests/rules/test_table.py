"""The table as a whole: nothing unsampled, nothing unexplained, nothing written to."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness import rules
from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.forward import run
from gradwitness.rules import registry
from gradwitness.rules.registry import terms
from rules.harness import Case, make, name, pairs
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from rules.samples import Sample

ARITHMETIC = Arithmetic.stepwise("float64")
RULES = {rule.name: rule for rule in rules.table().values()}
# Those that take a format or a sparse tensor as their argument are tested by themselves
# (test_linear_cross_entropy, test_sparse).
OF_TORCH = {
    op: rule
    for op, rule in rules.table().items()
    if op.startswith(("aten.", "torchvision.")) and not rule.function.__module__.endswith(".sparse")
}


def test_every_rule_is_sampled_and_every_alias() -> None:
    assert {make(sample).call.base_op for sample in SAMPLES} == set(OF_TORCH)


def test_every_gradient_is_sampled() -> None:
    sampled = {
        (make(sample).bound().rule.name, operand.partition("[")[0]) for sample, operand in pairs()
    }
    # Torch's own is wrong everywhere: see the faults of torch. Regions have slopes by their edges,
    # too, which torchvision takes for constants.
    others = {("aten.as_strided_scatter", "x")} | {
        (rule.name, "rois") for rule in OF_TORCH.values() if "rois" in rule.operands
    }
    assert sampled | others == {
        (rule.name, operand) for rule in OF_TORCH.values() for operand in rule.gradients
    }


def test_names_of_samples_tell_them_apart() -> None:
    names = [name(sample) for sample in SAMPLES]
    assert len(names) == len(set(names))


def test_only_detach_has_gradients_and_no_meaning() -> None:
    # Torch's detach leaves no node behind, so there is nothing to explain.
    unexplained = {rule.name for rule in RULES.values() if rule.gradients and not rule.meaning}
    assert unexplained == {"aten.detach"}
    assert not [rule.name for rule in RULES.values() if rule.meaning and not rule.gradients]


def is_one_sentence(text: str, subject: str) -> bool:
    """Whether a text is a sentence on the subject: one full stop, at the end."""
    return bool(re.fullmatch(rf"{subject} [a-z].*[^.\s]\.", text)) and not re.search(r"\.\s", text)


@pytest.mark.parametrize("text", ["X adds", "X adds. It is.", "Y adds.", "X .", "X Adds."])
def test_what_is_no_sentence_is_told_from_one(text: str) -> None:
    assert is_one_sentence("X adds.", "X")
    assert not is_one_sentence(text, "X")


def test_definitions_are_sentences() -> None:
    texts = [(rule.definition(), rule.node) for rule in RULES.values() if rule.meaning]
    texts += [(term.definition(), term.name) for term in terms()]
    assert [text for text, subject in texts if not is_one_sentence(text, subject)] == []


def node_of(sample: Sample) -> str:
    """Torch's name of the node that a sample leaves behind, as a tape has it; empty if none."""
    # In a format that every kernel has. Some results are constants, the first of several too.
    nodes = [y.grad_fn for y in make(sample, "float32").outputs if y.grad_fn]
    return nodes[0].name().rpartition("::")[2] if nodes else ""


def test_only_operations_that_hand_on_their_operand_leave_no_node() -> None:
    without = {sample.name for sample in dict(pairs()) if not node_of(sample)}
    assert without == {"contiguous", "detach"}


def test_names_of_the_nodes_lead_back_to_the_rules() -> None:
    found = {
        sample.name: (rules.find_node(node), make(sample).bound().rule)
        for sample in dict(pairs())
        if (node := node_of(sample))
    }
    assert found
    assert [sample for sample, (rule, own) in found.items() if rule is not own] == []


# Frozen inputs.


def freeze(item: Any) -> Any:
    """Forbid writing to an array, and to the bounds of a Bounded."""
    arrays = (item.value, *item.errors) if isinstance(item, Bounded) else (item,)
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return item


def call_frozen(
    function: Callable[..., Any], case: Case, arithmetic: Arithmetic | None, *, backward: bool
) -> Any:
    """Run a rule's function on operands, cotangent and result that cannot be written to."""
    bound = case.bound(arithmetic)
    operands = [each(with_error, x) if holds_bounds(x) else x for x in bound.operands]
    whose = f"the rule of {bound.rule.name}"
    operands = [each(freeze, item) for item in operands]
    if not backward:
        return run(whose, function, *operands, **bound.parameters)
    g, y = case.cotangent, each(np.copy, case.result)
    if arithmetic is not None:
        g, y = each(with_error, g), each(bounded, y)
    return run(whose, function, each(freeze, g), each(freeze, y), operands, bound.parameters)


def each(change: Callable[[Any], Any], item: Any) -> Any:
    """Change an input, or each of several."""
    return tuple(change(one) for one in item) if isinstance(item, tuple) else change(item)


def bounded(y: Any) -> Any:
    """A recorded result as the engine hands it to a rule: exact, and plain where it is whole."""
    return Bounded(y, ARITHMETIC) if y.dtype.kind in "fc" else y


def holds_bounds(item: Any) -> bool:
    """Whether an operand, or the first of several, has bounds."""
    first = item[0] if isinstance(item, tuple) and item else item
    return isinstance(first, Bounded)


def with_error(array: Any) -> Bounded:
    """A Bounded with bounds that a rule could write to."""
    value = np.array(array.value if isinstance(array, Bounded) else array)
    return Bounded(value, ARITHMETIC, np.full(value.shape, 1e-15), np.full(value.shape, 1e-16))


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_rule_writes_to_no_input_and_stays_in_float64(sample: Sample) -> None:
    for arithmetic in (None, ARITHMETIC):
        case = make(sample)
        rule = case.plain.rule
        names = dict.fromkeys(operand.partition("[")[0] for operand in case.differentiable)
        functions: dict[str, Any] = {"y": rule.function}
        functions |= {f"d{operand}": rule.gradients[operand] for operand in names}
        for result, function in functions.items():
            found = call_frozen(function, case, arithmetic, backward=result != "y")
            # The engine makes whole numbers of real ones, and the other way round.
            kinds: set[np.dtype[Any]] = {np.dtype(np.float64), np.dtype(np.complex128)}
            if result == "y":
                kinds |= {*(y.dtype for y in case.results), np.dtype(np.int64)}
            made = {dtype_of(one) for one in listed(found) if one is not None}
            assert made <= kinds, (result, arithmetic)


def test_a_rule_without_a_bound_is_collected_and_says_what_it_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = rules.table()["aten.tanh"]
    lacking = replace(known, function=lambda x: np.median(x) + np.tanh(x))
    monkeypatch.setitem(registry._RULES, "aten.tanh", lacking)
    case = make(next(sample for sample in SAMPLES if sample.name == "tanh"))
    # What parametrizes the tests of rules.
    assert (case.compared, case.differentiable) == (("y",), ("x",))
    said = "the rule of aten.tanh calls np.median, which has no rounding bound: .* or add it in"
    with pytest.raises(Unjudgeable, match=said):
        case.values()
    # Nor does one that runs on no numbers at all keep the others from being collected.
    monkeypatch.setitem(registry._RULES, "aten.tanh", replace(known, function=lambda x: x.nothing))
    assert make(case.sample).compared == ("y",)


def listed(found: Any) -> Any:
    return found if isinstance(found, (tuple, list)) else (found,)


def dtype_of(found: Any) -> Any:
    return np.asarray(found.value if isinstance(found, Bounded) else found).dtype


@pytest.mark.parametrize("arithmetic", [None, ARITHMETIC], ids=["plain", "bounded"])
@pytest.mark.parametrize("place", range(3), ids=["g", "y", "x"])
def test_writing_to_an_input_is_caught(place: int, arithmetic: Arithmetic | None) -> None:
    def writes(g: Any, y: Any, operands: Any, parameters: Any) -> Any:
        (g, y, *operands)[place][0] = 0

    case = make(next(sample for sample in SAMPLES if sample.name == "tanh"))
    with pytest.raises(
        Unjudgeable,
        match=r"the rule of aten.tanh failed: ValueError: .* read-only \(at .*test_table.py:\d+\)",
    ):
        call_frozen(writes, case, arithmetic, backward=True)
