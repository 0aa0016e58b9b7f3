"""Of a training loop some blocks are watched, and watching costs no more than its budget."""

from __future__ import annotations

import gc
import math
import random
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.api.sampling import Sampling
from gradwitness.capture import Recorder
from gradwitness.capture.keeping import Randomness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AGREES, DISAGREES = gw.Verdict.AGREES, gw.Verdict.DISAGREES
BUDGET = 0.02
# What a made-up block takes, and what watching it takes.
BLOCK, WATCHED = 1.0, 3.0


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def doubled(y: Any) -> Any:
    y.register_hook(lambda g: 2 * g)
    return y


def step(net: Any, spoil: Callable[[Any], Any] = lambda y: y) -> None:
    net.zero_grad()
    spoil(net(torch.ones(2, 3))).square().mean().backward()


def many(net: Any, blocks: int, **further: Any) -> list[gw.Witness]:
    witnesses = []
    for _ in range(blocks):
        with gw.watch(net, depth="sample", **further) as witness:
            step(net)
        witnesses.append(witness)
    return witnesses


def loop(blocks: int, watched: float = WATCHED) -> tuple[Sampling, list[bool]]:
    """Count blocks of made-up lengths."""
    known, chosen = Sampling(BUDGET), []
    for _ in range(blocks):
        chosen.append(known.is_due())
        spent = watched if chosen[-1] else 0.0
        known.ended(BLOCK + spent, spent, AGREES if chosen[-1] else None)
    return known, chosen


def test_the_first_blocks_are_watched_and_most_others_are_not() -> None:
    witnesses = many(model(), 60)
    assert [w.watched for w in witnesses[:2]] == [True, True]
    assert {w.verdict for w in witnesses[:2]} == {AGREES}
    assert sum(w.watched for w in witnesses) < 10
    known = witnesses[-1].sampling
    assert known is not None
    assert known.blocks == 60
    assert known.watched == sum(w.watched for w in witnesses)
    assert known.verdicts == {AGREES: known.watched}


@pytest.mark.parametrize("watched", [0.1, WATCHED, 50.0])
def test_the_cost_of_many_blocks_is_below_the_budget(watched: float) -> None:
    known, chosen = loop(20_000, watched)
    assert sum(chosen) > 2
    assert known.cost == pytest.approx(sum(chosen) * watched / 20_000)
    assert known.cost <= BUDGET
    # Nor is much of it left: of what can be saved, the last watched block may wait for two.
    assert known.cost > BUDGET - 3 * watched / 20_000


def test_a_block_that_has_become_dearer_is_watched_less_often() -> None:
    known, _ = loop(5_000)
    watched = known.watched
    for _ in range(5_000):
        spent = 10 * WATCHED if known.is_due() else 0.0
        known.ended(BLOCK + spent, spent, AGREES if spent else None)
    assert 0 < known.watched - watched < watched / 4
    assert known.cost <= BUDGET


def test_what_no_clock_of_ours_sees_counts_too() -> None:
    known = Sampling(BUDGET)
    known.ended(BLOCK, 0.0, None)
    known.ended(5 * BLOCK, BLOCK, AGREES)
    assert known.cost == 4 / 2


def test_no_period_of_the_loop_goes_unseen() -> None:
    _, chosen = loop(40_000)
    seen = {number % 8 for number, is_watched in enumerate(chosen) if is_watched}
    assert seen == set(range(8))


def test_the_clock_is_right() -> None:
    net = model()
    with gw.watch(net, depth="sample", budget=1.0):
        step(net)
    begun = time.perf_counter()
    with gw.watch(net, depth="sample") as witness:
        step(net)
        time.sleep(0.2)
    whole = time.perf_counter() - begun
    known = witness.sampling
    assert known is not None
    assert 0.2 < known._blocks_own < whole + 0.2
    assert known._spent > 0


@pytest.mark.parametrize("part", ["_name_parameters", "_written"])
def test_what_starting_and_ending_take_counts_once(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(Recorder, part)

    def slow(*args: Any) -> Any:
        time.sleep(0.2)
        return plain(*args)

    monkeypatch.setattr(Recorder, part, slow)
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="mine"), gw.watch(model(), depth="sample") as witness:
        raise ValueError("mine")
    whole = time.perf_counter() - begun
    known = witness.sampling
    assert known is not None
    assert 0.2 <= known._spent < whole
    # The block did nothing but raise.
    assert 0 <= known._blocks_own < 0.1
    assert 0 <= witness.overhead < 1


def test_a_block_that_is_not_watched_is_no_verdict_and_no_failure() -> None:
    net = model()
    witness = next(w for w in many(net, 200) if not w.watched)
    assert witness.ended
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert (witness.report.rows, witness.report.findings, len(witness.tape.calls)) == ((), (), 0)
    assert witness.faults == ()
    witness.require()
    said = str(witness)
    assert "not watched this time: nothing of this block was recorded or judged" in said
    assert "AGREES" not in said
    assert "not watched" in str(witness._repr_html_())
    with pytest.raises(gw.InputError, match=r"not watched this time.*witness\.watched"):
        witness.save("report.html")
    with pytest.raises(gw.InputError, match=r"not watched this time"):
        witness.show()


def test_a_page_says_that_its_block_is_one_of_many(tmp_path: Path) -> None:
    witness = many(model(), 2)[-1]
    assert witness.watched
    witness.save(tmp_path / "a.html")
    inline = witness._repr_html_()
    assert inline is not None
    for said in ((tmp_path / "a.html").read_text("utf-8"), inline):
        # Below it: how a block that is watched was looked at.
        assert "2 of 2 blocks watched: 2 agree" in said
        assert "fast" in said


def test_nothing_of_a_block_that_is_not_watched_is_touched() -> None:
    net = model()
    many(net, 2)
    for _ in range(200):
        with gw.watch(net, depth="sample") as witness:
            if not witness.watched:
                assert torch._C._len_torch_dispatch_stack() == 0
                assert torch._C._len_torch_function_stack() == 0
                assert not nn.modules.module._global_forward_pre_hooks
                break
            step(net)
    else:
        pytest.fail("every block was watched")


def test_the_text_says_what_was_watched_and_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = loop(1000)
    known.ended(1.0, 0.0, None)
    known.verdicts[DISAGREES] += 1
    known.first_wrong = 7
    said = str(known)
    count = known.watched
    assert f"sampled   {count} of 1,001 blocks watched: {count} agree, 1 DISAGREES" in said
    assert "(the first is block 7)" in said
    cost = f"cost      {known.cost:.2%} of the time that the blocks take (budget 2.00%)"
    assert said.endswith(cost)


def test_the_text_says_what_a_cost_over_budget_means() -> None:
    # Two blocks of 300, at 3 each, cost 2%, and 300 blocks of 1 have saved as much; 299 have not.
    for blocks, is_over in ((2, True), (299, True), (300, False)):
        known, _ = loop(blocks)
        assert known.watched == 2
        told = "over budget: the first two blocks are watched in any case, no other until" in str(
            known
        )
        assert told == is_over


def test_a_wrong_gradient_is_raised_where_it_is_found_and_told_from_then_on() -> None:
    net = model()
    with gw.watch(net, depth="sample") as first:
        step(net, doubled)
    with pytest.raises(gw.GradientDisagreement, match="DISAGREES"):
        first.require()
    assert first.sampling is not None
    assert first.sampling.first_wrong == 1
    last = many(net, 60)[-1]
    last.require()
    assert "1 DISAGREES (the first is block 1)" in str(last)


def test_an_error_in_a_block_passes_and_the_block_counts() -> None:
    net = model()
    many(net, 2)
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"), gw.watch(net, depth="sample") as witness:
            raise ValueError("mine")
    assert witness.sampling is not None
    assert witness.sampling.blocks == 5


def test_models_have_accounts_of_their_own_that_end_with_them() -> None:
    one, other = model(), model()
    many(one, 3)
    (witness,) = many(other, 1)
    assert witness.watched
    assert witness.sampling is not None
    assert witness.sampling.blocks == 1
    gone = weakref.ref(other)
    del other, witness
    gc.collect()
    assert gone() is None


def test_without_a_model_the_account_is_the_process_s() -> None:
    def block() -> gw.Witness:
        w = torch.ones(3, requires_grad=True)
        with gw.watch(names={"w": w}, depth="sample") as witness:
            torch.autograd.backward(w.square().sum())
        return witness

    assert block().sampling is block().sampling


def test_no_random_number_of_the_program_s_is_drawn() -> None:
    net = model()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the program may use that one)
    before = Randomness()
    many(net, 20)
    assert before.is_current()


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, math.nan, math.inf, "0.1", True, [0.1]])
def test_a_budget_that_is_no_share_is_refused(budget: Any) -> None:
    with pytest.raises(gw.InputError, match=r"budget=.*: give a share of 1, such as 0\.01"):
        gw.watch(model(), depth="sample", budget=budget)


@pytest.mark.parametrize("budget", [1, 0.5, np.float32(0.25)])
def test_any_number_that_is_a_share_is_a_budget(budget: Any) -> None:
    witness = gw.watch(model(), depth="sample", budget=budget)
    assert witness.sampling is not None
    assert witness.sampling.budget == budget


def test_a_budget_without_sampling_is_refused() -> None:
    with pytest.raises(gw.InputError, match="with depth='sample'"):
        gw.watch(model(), budget=0.1)
