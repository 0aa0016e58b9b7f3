"""A rule that says how it falls apart is cut along every axis it names, and nothing may show it."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness import rules
from gradwitness._errors import Unjudgeable
from gradwitness.engine import tiling
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.forward import evaluate
from gradwitness.engine.tiling import cuts, small_steps
from gradwitness.rules.registry import ELEMENTWISE
from rules.harness import Case, make, name
from rules.samples import SAMPLES, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.engine.tiling import Cut, Index


def rule_of(sample: Sample) -> rules.Rule | None:
    return rules.find(make(sample).call.base_op)


CUTTABLE = [s for s in SAMPLES if (found := rule_of(s)) is not None and found.apart]


@pytest.fixture(autouse=True)
def pieces_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything for large, and cut it into pieces that are as thin as can be."""
    monkeypatch.setattr(tiling, "_LARGE", 0)
    monkeypatch.setattr(tiling, "_PIECE", 1)


def every_cut(case: Case, target: str = "") -> Iterator[list[Cut]]:
    """Cut a case along one letter after the other, and not only along the best."""
    longest = tiling._longest_cut
    for letter in string.ascii_letters:

        def only(aim: str, *rest: Any, letter: str = letter) -> Any:
            return longest("".join(a if a == letter else "_" for a in aim), *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling, "_longest_cut", only)
            pieces = cuts(case.tape, case.call, target)
        if pieces:
            yield pieces


def forward(case: Case, pieces: list[Cut]) -> Iterator[tuple[int, Index, Any]]:
    """Yield every piece of every result, and where it belongs."""
    for cut, small in small_steps(case.tape, case.call, pieces, recorded(case.tape)):
        made = evaluate(small.tape, small.call, small.lookup, bounded=True)
        for place, result in enumerate(made):
            yield place, cut.result(place, case.outputs[place].shape), result


def backward(case: Case, operand: str, pieces: list[Cut]) -> Iterator[tuple[int, Index, Any]]:
    """Yield every piece of one gradient, and where it belongs."""
    arithmetic = Arithmetic.stepwise(case.dtype)
    wanted = [input_nr == operand for input_nr in case.inputs()]
    for cut, small in small_steps(case.tape, case.call, pieces, recorded(case.tape)):
        arrived = [
            None if g is None else Bounded(g[cut.result(place, g.shape)], arithmetic)
            for place, g in enumerate(case.cotangents)
        ]
        sent = vjp(small.tape, small.call, arrived, small.lookup, arithmetic, wanted)
        yield 0, cut.operand(operand, case.operand(operand).shape), sent[wanted.index(True)]


def adds_up(case: Case, operand: str, pieces: list[Cut]) -> bool:
    """Whether a gradient in float64 is its pieces along an axis of the results, added up."""
    wanted = [input_nr == operand for input_nr in case.inputs()]
    left = np.array(case.gradient(operand))
    for cut, small in small_steps(case.tape, case.call, pieces, recorded(case.tape)):
        arrived = [
            None if g is None else g[cut.result(place, g.shape)]
            for place, g in enumerate(case.cotangents)
        ]
        try:
            sent = vjp(small.tape, small.call, arrived, small.lookup, None, wanted)
        except Unjudgeable:
            return False
        part, index = sent[wanted.index(True)], cut.operand(operand, left.shape)
        if part.shape != left[index].shape:
            return False
        left[index] -= part
    return np.allclose(left, 0, rtol=0, atol=1e-12)


def numbers_of(result: Any) -> list[Any]:
    """The value and both bounds, zeros where it is exact; of a result without numbers none."""
    value = np.zeros(0) if result is None else np.asarray(getattr(result, "value", result))
    errors = result.errors if isinstance(result, Bounded) else (None, None)
    return [value, *(np.zeros(value.shape) if e is None else e for e in errors)]


def unwritten(part: Any) -> Any:
    """An array of a piece's shape that nothing has been written to."""
    return np.full(part.shape, np.nan, np.result_type(part, np.float64))


def differences(whole: tuple[Any, ...], parts: Iterator[tuple[int, Index, Any]]) -> list[str]:
    """Put pieces together, and say where that is not the whole."""
    together = [[unwritten(part) for part in numbers_of(each)] for each in whole]
    try:
        for place, index, piece in parts:
            for into, part in zip(together[place], numbers_of(piece), strict=True):
                if into[index].shape != part.shape:
                    return [f"a piece of shape {part.shape} at {index} of {into.shape}"]
                into[index] = part
    except Unjudgeable as reason:
        return [str(reason)]
    found = []
    for place, (mine, pieces) in enumerate(zip(map(numbers_of, whole), together, strict=True)):
        for kind, one, other in zip(("value", "rigorous", "probable"), mine, pieces, strict=True):
            # Sums in another order: what is lost is some 2^-53 of their largest term.
            slack = 1e-12 * np.max(np.abs(one), initial=0.0, where=np.isfinite(one))
            if not np.allclose(other, one, rtol=1e-9, atol=slack, equal_nan=True):
                found.append(f"{kind} of result {place}")
    return found


def is_cut(case: Case) -> bool:
    """Whether there is any way to cut a case."""
    targets = ("", *case.differentiable)
    return any(True for target in targets for _ in every_cut(case, target))


def all_differences(case: Case) -> list[str]:
    """Cut everything along everything; what was not as it is."""
    found = []
    for pieces in every_cut(case):
        found += differences(case.values(), forward(case, pieces))
    for operand in case.differentiable:
        whole = (case.gradient(operand, Arithmetic.stepwise(case.dtype)),)
        for pieces in every_cut(case, operand):
            new = differences(whole, backward(case, operand, pieces))
            found += [f"d{operand} along {pieces[0].letter}: {each}" for each in new]
        found += [
            f"what d{operand} adds up to along {pieces[0].letter}"
            for pieces in every_cut(case)
            if not adds_up(case, operand, pieces)
        ]
    return found


@pytest.mark.parametrize("sample", CUTTABLE, ids=name)
def test_pieces_are_the_whole(sample: Sample) -> None:
    assert all_differences(make(sample, "float32")) == []


def test_every_rule_that_says_how_is_cut_somewhere() -> None:
    told = {each.name for each in map(rule_of, CUTTABLE) if each is not None}
    cut = {
        rule_of(sample).name  # type: ignore[union-attr]
        for sample in CUTTABLE
        if is_cut(make(sample, "float32"))
    }
    assert told == cut
    assert told >= {rule.name for rule in rules.table().values() if rule.apart}


WRONG = {
    "aten.mm": ("ik,kj->ik", "ij,jk->ij", "ik,ij->ij"),
    "aten.addmm": ("ij,ik,kj->kj", "i,ik,kj->ij"),
    "aten.bmm": ("nik,nkj->nkj", "nij,njk->nij", "jik,nkj->nij", "nik,njk->nij"),
    "aten._softmax": ("ab->ab", "abc->abc"),
    "aten.native_layer_norm": ("nm,m,m->nm,n,n", "n,n,n->n,n,n"),
    "aten.native_batch_norm": ("nc,c,c,c,c->nc,c,c", "c,c,c,c,c->c,c,c"),
    "aten.native_group_norm": ("nc,c,c->nc,n,n", "c,c,c->c,c,c"),
    "aten.convolution": ("nc,c,->nc", "nc,cn,->n", "n,n,n->n"),
    "aten._scaled_dot_product_flash_attention_for_cpu": ("nhl,nhl,nhl,n___->nhl,nhl",),
    "aten.index_add": ("ab,,ab->ab", "a,,a->a", "b_,,_b->b_"),
    "aten.upsample_nearest2d": ("nch->nch", "nc->cn"),
    "aten.sum": (ELEMENTWISE,),
    "aten.cumsum": (ELEMENTWISE,),
}


@pytest.mark.parametrize(
    ("base", "letters"), [(base, each) for base, wrong in WRONG.items() for each in wrong]
)
def test_wrong_letters_are_seen(base: str, letters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = (sample for sample in SAMPLES if str(sample.op).startswith(f"{base}."))
    cases = [make(sample, "float32") for sample in own]
    right = rules.find(base)
    assert right is not None
    wrong = replace(right, apart=letters)
    found = rules.find
    monkeypatch.setattr(rules, "find", lambda op: wrong if op == base else found(op))
    assert any(map(all_differences, cases))
