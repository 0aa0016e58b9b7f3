"""Settings of the whole process are the program's again after the last block."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import gradwitness
from gradwitness.judging.local import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.tape import Tape


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 11, 12)
    yield
    gc.set_threshold(*before)


def test_full_collections_are_rarer_within_blocks_alone() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        assert gc.get_threshold() == (700, 11, 120)
        with gradwitness.watch(nn.Linear(1, 1)):
            assert gc.get_threshold() == (700, 11, 120)
        assert gc.get_threshold() == (700, 11, 120)
    assert gc.get_threshold() == (700, 11, 12)


def test_blocks_may_end_in_any_order() -> None:
    first, second = gradwitness.watch(), gradwitness.watch()
    with first:
        second.__enter__()
    assert gc.get_threshold() == (700, 11, 120)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 11, 12)


def test_what_the_program_sets_stays() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        gc.set_threshold(1000, 20, 30)
    assert gc.get_threshold() == (1000, 20, 30)


def test_what_the_program_sets_in_part_stays_and_the_rest_is_restored() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        gc.set_threshold(0)
    assert gc.get_threshold() == (0, 11, 12)


def test_the_largest_threshold_can_be_held() -> None:
    largest = 2**31 - 1
    gc.set_threshold(700, 11, largest)
    with gradwitness.watch(nn.Linear(1, 1)):
        assert gc.get_threshold() == (700, 11, largest)
    assert gc.get_threshold() == (700, 11, largest)


def test_they_are_rare_until_the_verdict_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    conclude = Judge.conclude

    def concluding(self: Judge, tape: Tape) -> Any:
        seen.append(gc.get_threshold())
        return conclude(self, tape)

    monkeypatch.setattr(Judge, "conclude", concluding)
    with gradwitness.watch(nn.Linear(1, 1)):
        pass
    assert seen == [(700, 11, 120)]
    assert gc.get_threshold() == (700, 11, 12)


def test_a_verdict_that_fails_restores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "conclude", interrupted)
    with pytest.raises(KeyboardInterrupt), gradwitness.watch(nn.Linear(1, 1)):
        pass
    assert gc.get_threshold() == (700, 11, 12)
