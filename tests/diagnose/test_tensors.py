"""Each kind of mistake is named, and no other mistake gets its name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from diagnose.faults import FAULTS, NAMELESS, every, one
from diagnose.network import claimed, network, planted, without_tape
from diagnose.trials import without_figures
from gradwitness.diagnose.case import Case, Exhibit, Explanation
from gradwitness.diagnose.rank import diagnose as ranked
from gradwitness.diagnose.registry import TENSORS

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

# Causes that need the tape, and the cause that is found without it.
NEEDS_TAPE = {
    "bias averaged": "mean against sum",
    "weight": "",
    "updated weight": "",
    "weight decay": "",
}


def diagnose(case: Case) -> Any:
    return ranked(case, TENSORS)


def wrong(case: Case) -> set[str]:
    return {e.name for e in case.exhibits.values() if e.refuted}


def single(g: Any, h: Any, allowance: float = 1e-6) -> Case:
    """Return a case of one tensor, which is wrong."""
    g, h = np.asarray(g, float), np.asarray(h, float)
    exhibit = Exhibit("w", g, h, allowance * float(np.abs(g).max()), refuted=True)
    return Case({"w": exhibit})


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, snapshot: SnapshotAssertion) -> None:
    cause, fault = FAULTS[name]
    case = planted(1, fault)
    assert wrong(case)
    first, *others = diagnose(case)
    assert first.cause == cause
    assert without_figures(first.text) == snapshot
    assert not others
    assert first.residual <= 1
    # 16-bit rounding hides what is not much larger.
    if name != "bfloat16":
        assert set(first.explains) == wrong(case)
    assert set(first.guilty) | set(first.inherited) == set(first.explains)
    bare = diagnose(without_tape(case))
    assert [c.cause for c in bare] == [c for c in [NEEDS_TAPE.get(name, cause)] if c]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NAMELESS)
def test_what_has_no_cause_gets_none(name: str, seed: int) -> None:
    case = planted(seed, NAMELESS[name])
    assert wrong(case)
    assert diagnose(case) == ()
    assert diagnose(without_tape(case)) == ()


def test_right_gradients_have_no_cause() -> None:
    case, _, _ = network(0)
    assert not wrong(case)
    assert diagnose(case) == ()


def test_a_chain_has_one_guilty_layer_and_the_rest_inherit() -> None:
    (cause,) = diagnose(planted(0, FAULTS["factor behind a layer"][1]))
    assert set(cause.guilty) == {"2.weight", "2.bias"}
    assert set(cause.inherited) == {"0.weight", "0.bias"}
    assert cause.coefficient == pytest.approx(0.73, rel=1e-5)
    (cause,) = diagnose(planted(0, FAULTS["detached"][1]))
    assert set(cause.guilty) == {"2.weight", "2.bias"}
    (cause,) = diagnose(planted(0, FAULTS["swapped"][1]))
    assert set(cause.guilty) == {"2.weight", "4.weight"}
    assert cause.inherited == ()


def test_two_causes_of_one_factor_are_both_named_with_what_tells_them_apart(
    snapshot: SnapshotAssertion,
) -> None:
    (cause,) = diagnose(planted(0, every(lambda g: g / 2)))
    assert (cause.cause, cause.runner_up) == (
        "missing factor 2",
        "world size or accumulation steps",
    )
    assert cause.experiment == snapshot
    (cause,) = diagnose(planted(0, every(lambda g: 2 * g)))
    assert (cause.cause, cause.runner_up) == ("gradient accumulated", "extra factor 2")
    assert cause.experiment == snapshot


@pytest.mark.parametrize("world", [3, 8])
def test_a_world_size_is_the_other_reading_of_an_average(
    world: int, snapshot: SnapshotAssertion
) -> None:
    (cause,) = diagnose(planted(0, every(lambda g: g / world)))
    # It is no count of the program, whose tape tells them.
    assert (cause.cause, cause.runner_up) == (
        "world size or accumulation steps",
        "mean against sum",
    )
    assert cause.experiment == snapshot


def test_two_faults_are_two_causes() -> None:
    case = planted(0, lambda g, _: {"2.weight": g["2.weight"].T, "6.weight": -g["6.weight"]})
    assert {(c.cause, c.explains) for c in diagnose(case)} == {
        ("transposed", ("2.weight",)),
        ("wrong sign", ("6.weight",)),
    }


def test_a_fault_under_a_common_factor_is_found() -> None:
    case = planted(0, lambda g, _: {n: (h.T if n == "2.weight" else h) / 2 for n, h in g.items()})
    first, second = diagnose(case)
    assert first.cause == "missing factor 2"
    assert len(first.explains) == 7
    assert (second.cause, second.explains) == ("transposed", ("2.weight",))


@pytest.mark.parametrize("allowance", [1e-6, 1e-15])
@pytest.mark.parametrize("factor", [1.37, 1.0001, 0.02312])
def test_one_number_fits_any_factor_and_proves_none(factor: float, allowance: float) -> None:
    assert diagnose(single([0.7], [0.7 * factor], allowance)) == ()
    assert diagnose(single([[0.7]], [[0.7 * factor]], allowance)) == ()


@pytest.mark.parametrize("factor", [65536.0, 0.4694])
def test_a_factor_of_all_shows_in_noise_too(factor: float) -> None:
    """The bias ahead of a batch norm has a gradient of zero: what is claimed there is rounding."""
    case, _, _ = network(0)
    noise = 1e-9 * random(12)
    exhibits = {
        n: replace(e, claim=factor * e.witness, refuted=True) for n, e in case.exhibits.items()
    }
    quiet = Exhibit("2.bias", noise, factor * 1e-9 * random(12, seed=1), 1e-8, refuted=True)
    (cause,) = diagnose(replace(case, exhibits=exhibits | {"2.bias": quiet}))
    assert cause.cause == ("loss scale" if factor > 1 else "constant factor")
    assert cause.coefficient == pytest.approx(factor, rel=1e-6)
    assert "2.bias" in cause.explains


def test_the_one_gradient_that_there_is_is_named(snapshot: SnapshotAssertion) -> None:
    g = random(3, 4)
    (cause,) = diagnose(single(g, g / 2))
    assert cause.text == snapshot


@pytest.mark.parametrize("more", [1e-6, 0.0])
def test_clipping_by_norm_is_known_with_and_without_torch_s_addend(more: float) -> None:
    case, right, _ = network(0)
    norm = math.sqrt(sum(float(np.sum(g * g)) for g in right.values()))
    exhibits = {
        n: replace(e, claim=e.witness * (0.05 / (norm + more)), refuted=True, allowance=1e-9)
        for n, e in case.exhibits.items()
    }
    (cause,) = diagnose(replace(case, exhibits=exhibits))
    assert cause.cause == "clipped by norm"


def test_a_factor_of_all_is_one_though_some_have_another_fault_besides() -> None:
    def fault(g: Any, _: Any) -> Any:
        wrong = {**g, "2.weight": g["2.weight"].T, "0.bias": np.roll(g["0.bias"], 1)}
        return {n: 65536 * h for n, h in wrong.items()}

    first, *others = diagnose(planted(0, fault))
    assert (first.cause, len(first.explains)) == ("loss scale", 6)
    assert {c.cause for c in others} == {"transposed", "index shift"}


def test_a_hypothesis_that_fails_is_told_and_the_others_are_heard(
    snapshot: SnapshotAssertion,
) -> None:
    def broken(case: Case) -> Any:
        raise ZeroDivisionError("by hand")

    g = random(5)
    with pytest.warns(UserWarning, match="ZeroDivisionError: by hand") as warned:
        (cause,) = ranked(single(g, -g), (broken, *TENSORS))
    assert str(warned[0].message) == snapshot
    assert cause.cause == "wrong sign"


def test_one_number_may_have_a_telling_factor() -> None:
    assert diagnose(single([0.7], [-0.7]))[0].cause == "wrong sign"
    assert diagnose(single([0.7], [0.35]))[0].cause == "missing factor 2"
    # Not if the claim is known to two digits only.
    assert diagnose(single([0.7], [0.35], 0.3)) == ()


def test_several_numbers_with_one_factor_prove_it() -> None:
    g = random(3)
    (cause,) = diagnose(single(g, 1.37 * g))
    assert cause.cause == "constant factor"
    assert cause.coefficient == pytest.approx(1.37)


@pytest.mark.parametrize(("other", "count"), [(1.0, 1), (2.0, 0)])
def test_a_cause_that_would_break_a_right_gradient_is_refused(other: float, count: int) -> None:
    g = random(9)
    wrong, right = (Exhibit(n, g, h, 1e-6, h is not g) for n, h in (("w", -g), ("v", g)))

    def hypothesis(case: Case) -> Any:
        yield Explanation("planted", "", {"w": -g, "v": other * g})

    assert len(ranked(Case({"w": wrong, "v": right}), (hypothesis,))) == count


@pytest.mark.parametrize("axes", [(0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_kernels_with_permuted_axes(axes: tuple[int, ...], snapshot: SnapshotAssertion) -> None:
    g = random(4, 4, 4, 4)
    (cause,) = diagnose(single(g, g.transpose(axes)))
    assert cause.cause == (
        "transposed" if sum(a != k for k, a in enumerate(axes)) == 2 else "axes permuted"
    )
    assert cause.text == snapshot


def test_a_kernel_flipped_in_both_axes(snapshot: SnapshotAssertion) -> None:
    g = random(4, 2, 3, 3)
    (cause,) = diagnose(single(g, g[:, :, ::-1, ::-1]))
    assert cause.cause == "axis flipped"
    assert cause.text == snapshot


def test_a_claim_in_the_transposed_shape() -> None:
    g = random(4, 6)
    assert diagnose(single(g, g.T))[0].cause == "transposed"


def test_a_bias_not_summed_over_the_batch(snapshot: SnapshotAssertion) -> None:
    rows = random(7, 5)
    (cause,) = diagnose(single(rows.sum(0), rows))
    assert cause.cause == "broadcast not summed"
    assert cause.text == snapshot
    assert diagnose(single(rows.sum(0), random(7, 5, seed=1))) == ()


def test_sums_of_what_arrives_at_a_bias() -> None:
    case, claims, _ = network(3)
    tape, replay = case.tape, case.replay
    assert tape is not None
    assert replay is not None
    node = next(n.id for n, v in tape.leaves() if v.name == "6.bias")
    user = next(n.id for n in tape.nodes if any(e and e.node == node for e in n.edges))
    cotangent = replay.arriving[0, user, 0]
    right = {e.name: e.witness for e in case.exhibits.values()}
    for cause, h in (
        ("summed over the wrong axis", cotangent.sum(1)),
        ("one sample only", cotangent[0]),
        ("broadcast not summed", cotangent),
        ("averaged instead of summed", cotangent.mean(0)),
    ):
        causes = diagnose(claimed(right, {**claims, "6.bias": h}, case))
        assert [c.cause for c in causes] == [cause]


@pytest.mark.parametrize(
    ("cause", "mix"),
    [
        ("gradient accumulated", (1.0, 1.0, 1.0)),
        ("gradient accumulated", (0.0, 1.0, 1.0)),
        ("momentum", (0.0, 0.9, 1.0)),
        ("momentum", (0.0, 0.123, 1.0)),
        ("gradient of another backward pass", (1.0, 0.0, 0.0)),
    ],
)
def test_gradients_of_several_passes(cause: str, mix: tuple[float, ...]) -> None:
    case, claims, _ = network(0, passes=3)
    replay, tape = case.replay, case.tape
    assert replay is not None
    assert tape is not None
    mixed = {}
    for node, leaf in tape.leaves():
        by_pass = [replay.arriving[sweep, node.id, 0] for sweep in range(3)]
        mixed[leaf.name] = np.tensordot(mix, by_pass, 1).astype(np.float32)
    right = {e.name: e.witness for e in case.exhibits.values()}
    (first,) = diagnose(claimed(right, mixed, case))
    assert first.cause == cause
    assert set(first.explains) == set(claims)


def test_localised_faults_say_where(snapshot: SnapshotAssertion) -> None:
    for name in ("one element", "one row", "one column"):
        (cause,) = diagnose(planted(0, FAULTS[name][1]))
        assert cause.text == snapshot(name=name)
    (cause,) = diagnose(planted(0, one("2.weight", lambda g: np.full_like(g, math.nan))))
    assert (cause.cause, cause.explains) == ("not finite", ("2.weight",))
    assert cause.text == snapshot(name="NaN")


def test_large_tensors_are_told_apart_by_a_glance_and_then_in_full() -> None:
    g = random(300, 300)
    assert diagnose(single(g, g.T))[0].cause == "transposed"
    almost = g.T.copy()
    almost[1, 2] += 1
    assert all(c.cause != "transposed" for c in diagnose(single(g, almost)))


def test_a_part_of_the_gradients_is_not_multiplied_by_a_learning_rate() -> None:
    # An optimizer acts on all gradients: 0.3 behind one layer is a factor in the chain.
    def fault(g: Any, _: Any) -> Any:
        return {name: 0.3 * h for name, h in g.items() if name < "4"}

    first, *_ = diagnose(planted(1, fault))
    assert first.cause == "constant factor"
    first, *_ = diagnose(planted(1, every(lambda g: 0.3 * g)))
    assert first.cause == "learning rate"
