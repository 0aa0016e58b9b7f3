"""Mistakes on one of several ways, at a repeated line, or in the loss, are named and placed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnose.trials import without_figures
from diagnose.ways import Attention, Logits, Recurrent, case
from gradwitness.diagnose.rank import diagnose

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion
    from torch import nn

CASES = [
    (Attention, "query cut off", "detached", "Attention", 0.0),
    (Attention, "value's sign", "wrong sign", "Attention", -1.0),
    (Attention, "scale left out", "scale left out in backward", "Attention", 3.0),
    (Attention, "scale twice", "scale applied twice", "Attention", 1 / 3),
    (Attention, "0.37", "constant factor", "Attention", 0.37),
    (Attention, "divided by all", "mean against sum", "", 17 / 20),
    (Attention, "mean", "LayerNorm mean path dropped", "norm ", None),
    (Recurrent, "tanh everywhere", "activation derivative missing", "4 steps: ", None),
    (Recurrent, "every step cut", "detached between steps", "Recurrent", None),
    (Recurrent, "one cut", "detached between steps", "Recurrent", None),
    (Recurrent, "gate cut", "detached", "4 steps: ", None),
    (Logits, "target", "loss without its target", "ways.py:", None),
    (Logits, "eps", "eps elsewhere", "norm ", 1e-3),
    (Logits, "sign", "wrong sign", "", -1.0),
    (Logits, "loss scale", "loss scale", "", 65536.0),
]


@pytest.mark.parametrize(("kind", "mistake", "cause", "place", "factor"), CASES)
def test_mistake_is_named_and_placed(
    kind: type[nn.Module],
    mistake: str,
    cause: str,
    place: str,
    factor: float | None,
    snapshot: SnapshotAssertion,
) -> None:
    staged = case(kind, mistake)
    refuted = {name for name, exhibit in staged.exhibits.items() if exhibit.refuted}
    assert refuted
    first, *others = diagnose(staged)
    assert (first.cause, others) == (cause, [])
    assert first.place.startswith(place)
    assert set(first.explains) == refuted
    assert without_figures(first.text) == snapshot
    if factor is not None:
        assert first.coefficient == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("kind", [Attention, Recurrent, Logits])
def test_right_claims_are_explained_by_nothing(kind: type[nn.Module]) -> None:
    staged = case(kind, "")
    assert not any(exhibit.refuted for exhibit in staged.exhibits.values())
    assert diagnose(staged) == ()


def test_a_way_is_told_by_where_it_begins_and_ends() -> None:
    first, *_ = diagnose(case(Attention, "query cut off"))
    begin, end = first.place.split(" to ")
    assert begin != end
    assert end.startswith("all ")
    assert first.guilty == ("all.bias", "all.weight")
    assert set(first.inherited) == {"norm.bias", "norm.weight", "table.weight"}


def test_a_tied_weight_inherits_at_its_use_behind_the_fault() -> None:
    """Its other use, next to the loss, is right."""
    first, *_ = diagnose(case(Attention, "0.37"))
    assert "table.weight" in first.inherited


def test_what_a_likelihood_is_divided_by_is_named(snapshot: SnapshotAssertion) -> None:
    first, *_ = diagnose(case(Attention, "divided by all"))
    assert first.text == snapshot
