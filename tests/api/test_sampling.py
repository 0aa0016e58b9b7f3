"""Of a training loop some blocks are watched, and watching costs no more than its budget."""

from __future__ import annotations

import gc
import math
import random
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.api import sampling
from gradwitness.api.sampling import Sampling, Watched
from gradwitness.capture import Recorder
from gradwitness.capture.again.keeping import Randomness
from gradwitness.judging.finding import Step
from gradwitness.judging.left_out import LEFT_OUT

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


def run(
    known: Sampling, watched: float = WATCHED, recording: float = 0.0, ending: float = 0.0
) -> float:
    """Count a block of a made-up length, and return the share of it that was watched.

    What its ending takes depends on no share.
    """
    share = known.share()
    if not share:
        known.ended(BLOCK, 0.0, None)
        return 0.0
    spent = recording + ending + share * (watched - recording - ending)
    came = Watched(AGREES, recording, share, 1000, round(1000 * (1 - share)))
    known.ended(BLOCK + spent, spent, came)
    return share


def loop(
    blocks: int, watched: float = WATCHED, recording: float = 0.0
) -> tuple[Sampling, list[float]]:
    """Count blocks of made-up lengths."""
    known = Sampling(BUDGET)
    return known, [run(known, watched, recording) for _ in range(blocks)]


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


# What watching a whole block takes, and what recording takes of that. In five minutes 6 seconds are
# saved.
@pytest.mark.parametrize(
    ("watched", "recording"), [(0.1, 0.0), (WATCHED, 1.0), (50.0, 0.0), (50.0, 2.0), (50.0, 20.0)]
)
def test_the_cost_of_many_blocks_is_below_the_budget(watched: float, recording: float) -> None:
    known, chosen = loop(20_000, watched, recording)
    assert sum(map(bool, chosen)) > 2
    spent = sum(recording + share * (watched - recording) for share in chosen if share)
    assert known.cost == pytest.approx(spent / 20_000)
    assert known.cost <= BUDGET
    # Nor is much of it left: of what can be saved, the last watched block may wait for two.
    assert known.cost > BUDGET - 3 * watched / 20_000


@pytest.mark.parametrize(
    ("watched", "recording", "share"),
    [
        (WATCHED, 1.0, 1),
        (6.0, 1.0, 1),
        (50.0, 0.0, 6 / 50),
        (50.0, 2.0, 4 / 48),
        # As much is spent on looking as on recording.
        (50.0, 20.0, 20 / 30),
        (50.0, 30.0, 1),
    ],
)
def test_of_a_block_that_is_not_paid_for_soon_a_share_is_looked_at(
    watched: float, recording: float, share: float
) -> None:
    known, chosen = loop(20_000, watched, recording)
    assert chosen[:2] == [1, 1]
    later = [each for each in chosen[2:] if each]
    assert later == pytest.approx([share] * len(later))
    # With 50 seconds for each, the first two leave a debt of 5,000 blocks.
    if share < 1 and not recording:
        assert len(later) > 20
        assert all(gap < 2 * 300 for gap in np.diff(np.flatnonzero(chosen))[2:])
    assert (known.in_part, known.watched) == (len(later) * (share < 1), len(later) + 2)


def test_a_share_does_not_become_ever_smaller_as_some_costs_stay() -> None:
    known = Sampling(BUDGET)
    shares = [run(known, 50.0, 2.0, ending=10.0) for _ in range(40_000)]
    later = [each for each in shares[2:] if each]
    assert len(later) > 20
    assert min(later) >= 2 / 48 * (1 - 1e-9)
    assert known.cost <= BUDGET


def test_a_block_that_has_become_dearer_is_watched_less_often() -> None:
    known, _ = loop(5_000)
    watched = known.watched
    for _ in range(5_000):
        run(known, 10 * WATCHED, 9 * WATCHED)
    assert 0 < known.watched - watched < watched / 4
    assert known.cost <= BUDGET


def test_what_no_clock_of_ours_sees_counts_too() -> None:
    known = Sampling(BUDGET)
    known.ended(BLOCK, 0.0, None)
    known.ended(5 * BLOCK, BLOCK, Watched(AGREES))
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


@pytest.fixture
def in_part(monkeypatch: pytest.MonkeyPatch) -> Callable[..., gw.Witness]:
    """Return a way to watch a block in part: so much of it, after the first two."""

    def watch(
        net: Any, share: float, spoil: Callable[[Any], Any] = lambda y: y, **further: Any
    ) -> gw.Witness:
        monkeypatch.setattr(Sampling, "share", lambda _: share)
        with gw.watch(net, depth="sample", **further) as witness:
            step(net, spoil)
        return witness

    return watch


def test_a_share_of_the_steps_is_looked_at_and_another_each_time(in_part: Any) -> None:
    net, seen = model(), Counter[str]()
    for _ in range(40):
        witness = in_part(net, 0.5)
        findings = witness.report.findings
        seen.update(f.title for f in findings if f.comparison.reason == LEFT_OUT)
        assert {f.verdict for f in findings if f.comparison.reason != LEFT_OUT} <= {AGREES}
    with gw.watch(net) as whole:
        step(net)
    steps = len(whole.tape.calls) + sum(len(s.node_runs) for s in whole.tape.sweeps)
    # Each of them is left out half of the times; 40 are off by more than 15 once in a million.
    assert len(seen) > steps / 2
    assert all(5 <= count <= 35 for count in seen.values())
    known = witness.sampling
    assert known.left_out == sum(seen.values()) < known.steps <= 40 * steps


def test_what_was_not_looked_at_is_never_counted_as_right(in_part: Any) -> None:
    witness = in_part(model(), 1e-9)
    report = witness.report
    assert witness.verdict is report.verdict is gw.Verdict.INCONCLUSIVE
    assert {row.verdict for row in report.rows} == {gw.Verdict.INCONCLUSIVE}
    assert {row.reason for row in report.rows} == {LEFT_OUT}
    assert len(report.rows) == 4
    judged = report.coverage()
    assert judged["backward nodes"].judged == judged["forward calls"].judged == 0
    assert judged["gradients"].judged == judged["elements"].judged == 0
    # Nothing was found.
    witness.require()
    assert witness.faults == ()
    said = str(witness)
    assert "AGREES" not in said
    assert LEFT_OUT in said
    known = witness.sampling
    assert known.verdicts == {}
    assert "sampled   1 of 1 block watched, 1 of them in part: no verdict" in said
    assert f"in part   0 of {known.steps} steps were looked at" in said


@pytest.mark.parametrize("judge", ["all", "gradients"])
def test_no_row_agrees_if_anything_was_left_out(in_part: Any, judge: str) -> None:
    net = model()
    for _ in range(30):
        report = in_part(net, 0.9).report.judging(judge)
        if any(f.comparison.reason == LEFT_OUT for f in report.findings):
            assert {row.verdict for row in report.rows} == {gw.Verdict.INCONCLUSIVE}
            assert report.verdict is gw.Verdict.INCONCLUSIVE


def test_a_wrong_step_is_found_as_often_as_it_is_looked_at(in_part: Any) -> None:
    net, found = model(), 0
    for _ in range(40):
        witness = in_part(net, 0.5, doubled)
        wrong = [f.step for f in witness.report.wrong]
        found += bool(wrong)
        if wrong:
            assert wrong == [Step.FAN_IN]
            with pytest.raises(gw.GradientDisagreement, match="DISAGREES"):
                witness.require()
        else:
            witness.require()
        known = witness.sampling
        assert known is not None
        assert known.verdicts == ({DISAGREES: found} if found else {})
        assert (known.first_wrong is None) == (found == 0)
    assert 5 <= found <= 35


def test_a_doubt_about_a_step_that_was_looked_at_is_one(in_part: Any) -> None:
    class Unknown(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.from_numpy(np.sin(x.detach().numpy()))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0].cos()

    doubts = 0
    for _ in range(30):
        witness = in_part(model(), 0.5, Unknown.apply, rerun=False)
        if {*witness.report.reasons()} == {LEFT_OUT}:
            witness.require()
            continue
        doubts += 1
        with pytest.raises(gw.GradientDisagreement, match=r"^INCONCLUSIVE"):
            witness.require()
    assert 0 < doubts < 30


def test_watching_in_part_leaves_the_gradients_as_they_are(in_part: Any) -> None:
    one, other = model(), model()
    in_part(one, 0.3)
    step(other)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_the_text_says_what_was_watched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_PATIENCE", 30.0)
    known, chosen = loop(3000)
    parts = sum(0 < share < 1 for share in chosen)
    assert parts
    looked = known.steps - known.left_out
    assert (
        f"sampled   {known.watched} of 3,000 blocks watched, {parts} of them in part: 2 agree\n"
        f"in part   {looked:,} of {known.steps:,} steps were looked at, drawn at random; what was "
        "not is not judged\ncost "
    ) in str(known)


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
    with pytest.raises(
        gw.InputError, match=r"budget=.*: give a fraction between 0 and 1, such as 0\.01"
    ):
        gw.watch(model(), depth="sample", budget=budget)


@pytest.mark.parametrize("budget", [1, 0.5, np.float32(0.25)])
def test_any_number_that_is_a_share_is_a_budget(budget: Any) -> None:
    witness = gw.watch(model(), depth="sample", budget=budget)
    assert witness.sampling is not None
    assert witness.sampling.budget == budget


def test_a_budget_without_sampling_is_refused() -> None:
    with pytest.raises(gw.InputError, match=r"^budget=0.1 needs depth='sample'$"):
        gw.watch(model(), budget=0.1)
