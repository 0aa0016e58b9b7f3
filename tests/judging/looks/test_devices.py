"""Steps whose numbers live on a device are looked at there, and brought to the host where odd.

No device is needed: `DeviceArray` takes what CuPy takes, refuses the rest, and counts what comes to
the host. So this shows where numbers are read, not that a device computes well.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from engine.device_array import DeviceArray
from engine.elsewhere import moved, recorded_elsewhere
from gradwitness.engine.distant import at_hand, checksum, scalars
from gradwitness.engine.tiling import is_large, slabs
from gradwitness.judging.comparing.comparison import CLOSE, PROJECTED
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.norms import largest_of
from gradwitness.judging.looks.products import Products
from judging.looks.test_fast import (
    PROGRAMS,
    changed,
    looked_at,
    loss_of,
    place_of,
    taped,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradwitness.tape import Tape


@dataclass
class Traffic:
    """What came to the host: single numbers, arrays of more than a few, and their bytes."""

    scalars: int = 0
    arrays: int = 0
    bytes: int = 0


@contextmanager
def counted() -> Iterator[Traffic]:
    """Count what comes to the host."""
    traffic = Traffic()
    before = DeviceArray.host_copies

    def get(array: Any) -> Any:
        few = array.size <= 8
        traffic.scalars += few
        traffic.arrays += not few
        traffic.bytes += array.nbytes
        return own(array)

    own = DeviceArray.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceArray, "get", get)
        yield traffic
    # All single numbers come by one function, so that they can come together.
    assert DeviceArray.host_copies == before


def on_device(tape: Tape) -> Tape:
    """Return a recording as if its program had run on a device."""
    there = moved(tape, DeviceArray)
    return replace(there, values=tuple(map(at_hand, there.values)))


def watched(name: str, depth: str, dtype: torch.dtype = torch.float32) -> gw.Witness:
    torch.manual_seed(0)
    model, x = PROGRAMS[name]()
    model, x = model.to(dtype), x.to(dtype) if x.is_floating_point() else x
    with gw.watch(model, depth=depth) as witness:
        torch.autograd.backward(loss_of(model, x))
    return witness


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_watched_steps_have_the_verdicts_of_the_host(
    name: str, depth: str, dtype: torch.dtype
) -> None:
    with recorded_elsewhere(DeviceArray):
        there = watched(name, depth, dtype)
    here = watched(name, depth, dtype)
    assert {place_of(f): f.verdict for f in there.report.findings} == {
        place_of(f): f.verdict for f in here.report.findings
    }
    assert [(r.name, r.verdict) for r in there.report.rows] == [
        (r.name, r.verdict) for r in here.report.rows
    ]
    assert {n.kind for n in there.report.notes} == {n.kind for n in here.report.notes}
    assert not there.tape.failures


class Wide(nn.Module):
    """Layers of which each number counts: 2 MiB of activations, 1.3 MiB of parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(256, 512), nn.ReLU(), nn.LayerNorm(512), nn.Linear(512, 256), nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y + x


@pytest.mark.parametrize("depth", ["full", "fast"])
def test_a_large_step_leaves_samples_and_single_numbers_on_the_host(depth: str) -> None:
    torch.manual_seed(0)
    model, x = Wide(), torch.randn(512, 256, requires_grad=True)
    with counted() as traffic, recorded_elsewhere(DeviceArray):
        with gw.watch(model, depth=depth) as witness:
            torch.autograd.backward(model(x).square().mean())
        assert witness.verdict is gw.Verdict.AGREES
    tape = witness.tape
    steps = len(tape.calls) + sum(len(sweep.node_runs) for sweep in tape.sweeps)
    recorded = sum(np.prod(v.shape, dtype=int) for v in tape.values) * 4
    # Samples have up to a 256th of the numbers, of several tensors, or 256.
    assert traffic.bytes < recorded / (50 if depth == "fast" else 500)
    assert traffic.scalars <= 6 * steps
    reasons = Counter(f.comparison.reason for f in witness.report.findings)
    assert reasons[PROJECTED] >= 5
    assert depth == "fast" or reasons[CLOSE] >= 10
    # What projections may miss is said, at full depth too.
    assert f"depth     {depth}: {reasons[PROJECTED]} steps by projection" in str(witness)


def test_on_the_host_full_depth_projects_nothing() -> None:
    report = watched("dense", "full").report
    assert all(f.comparison.reason != PROJECTED for f in report.findings)
    assert "depth  " not in str(watched("dense", "full"))


def test_of_a_convolution_all_rows_are_projected_at_full_depth() -> None:
    report = gw.judge(on_device(taped("images")))
    products = [f.comparison for f in report.findings if f.comparison.missed]
    assert len(products) >= 4
    assert {c.share for c in products} == {1.0}


def wrong_in(tape: Tape, depth: str) -> set[Any]:
    """Return where the steps of a recording disagree."""
    report = gw.judge(tape, depth=depth)
    return {place_of(f) for f in report.findings if f.verdict is gw.Verdict.DISAGREES}


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fault_of_a_product_is_brought_to_the_host_and_placed_there(
    name: str, depth: str
) -> None:
    for tape, finding in looked_at(name, PROJECTED)[::3]:
        array: Any = np.array(tape.values[value_of(tape, finding)].array)
        array += 100 * finding.comparison.detects
        wrong = changed(tape, value_of(tape, finding), array)
        places = wrong_in(on_device(wrong), depth)
        assert place_of(finding) in places
        assert places == wrong_in(wrong, depth)


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_wrong_number_of_any_other_step_is_found(name: str) -> None:
    tape = taped(name)
    kinds = Step.FORWARD, Step.BACKWARD
    steps = [f for f in gw.judge(tape).findings if f.comparison.reason == CLOSE and f.step in kinds]
    assert len(steps) >= 4
    for finding in steps[::3]:
        array: Any = np.array(tape.values[value_of(tape, finding)].array)
        array[tuple(n - 1 - n // 3 for n in array.shape)] += 100 * finding.comparison.detects
        wrong = changed(tape, value_of(tape, finding), array)
        places = wrong_in(on_device(wrong), "full")
        # Where a step passes its gradient on as it is, others are at odds with it.
        assert places
        assert places == wrong_in(wrong, "full")


def test_the_largest_number_is_found_and_nan_before_all() -> None:
    array = np.array([[1.0, 2.0], [7.0, -9.0]])
    for put in (np.asarray, DeviceArray):
        assert largest_of(put(array)) == (2, 7.0)
        array[0, 1] = np.nan
        assert np.isnan(largest_of(put(array))[1])
        array[0, 1] = 2.0


def test_only_the_odd_steps_are_brought_to_the_host() -> None:
    tape = taped("dense")
    call = next(c for c in tape.calls if c.op == "aten.gelu.default")
    number = call.outputs[0] or 0
    array: Any = np.array(tape.values[number].array)
    array[0] *= 1.5
    with counted() as right:
        assert not wrong_in(on_device(tape), "fast")
    with counted() as wrong:
        places = wrong_in(on_device(changed(tape, number, array)), "fast")
    # GELU itself, and the two products that read its result.
    assert len([place for place in places if place[0] in (Step.FORWARD, Step.BACKWARD)]) == 3
    arrays = wrong.arrays - right.arrays
    assert arrays <= 12
    assert wrong.bytes - right.bytes <= 12 * array.nbytes


@pytest.mark.parametrize("depth", ["full", "fast"])
def test_what_fails_on_the_device_is_judged_on_the_host(
    depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise MemoryError("out of memory\nallocating 64 MiB")

    monkeypatch.setattr(Products, "look", failing)
    with recorded_elsewhere(DeviceArray):
        report = watched("dense", depth).report
    assert report.verdict is gw.Verdict.AGREES
    (note,) = (n for n in report.notes if n.kind == "judged on the host")
    assert note.text == (
        "A look at a step on its device failed: MemoryError: out of memory allocating 64 MiB. "
        "What this is about was copied to the host and judged there: no verdict depends on it."
    )


def test_what_fails_on_the_host_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(Products, "look", failing)
    report = watched("dense", "fast").report
    assert report.verdict is gw.Verdict.INCONCLUSIVE


def test_cupy_that_cannot_be_used_is_noted() -> None:
    tape = replace(taped("dense"), about={"CuPy": "13.6.0 is too old: 14.1 or later is needed"})
    (note,) = (n for n in gw.judge(tape).notes if n.kind == "copied to the host")
    assert note.text.startswith(
        "CuPy is installed, but cannot be used: 13.6.0 is too old: 14.1 or later is needed. What"
    )


def test_a_value_is_brought_to_the_host_once_and_when_asked_for() -> None:
    tape = on_device(taped("dense"))
    value = tape.values[0]
    with counted() as traffic:
        assert value.dtype == "float32"
        assert traffic == Traffic()
        one, other = value.array, value.array
        named = replace(value, name="x")
    assert one is other
    assert traffic.arrays == 1
    assert isinstance(one, np.ndarray)
    assert not one.flags.writeable
    assert named.array is one
    assert named.name == "x"
    assert replace(value, array=None).array is None


def test_a_recording_from_a_device_is_saved_by_its_numbers(tmp_path: Path) -> None:
    tape = taped("dense")
    gw.save_tape(on_device(tape), tmp_path / "tape.npz")
    loaded = gw.load_tape(tmp_path / "tape.npz")
    for one, other in zip(loaded.values, tape.values, strict=True):
        arrays: Any = one.array, other.array
        assert np.array_equal(*arrays)


def test_single_numbers_come_together() -> None:
    x = np.array([1.5, -2.5])
    y = np.array([1 + 2j])
    there = [DeviceArray(a) for a in (x[0], y[0], x[1] > 0)]
    with counted() as traffic:
        assert scalars(*there) == (1.5, 1 + 2j, 0)
    assert traffic.scalars == 1
    assert scalars(x[0], y[0], x[1] > 0) == (1.5, 1 + 2j, False)


CHANGES = {
    "one bit": lambda a: a.view(np.uint32).__setitem__(700, a.view(np.uint32)[700] ^ 1),
    "two swapped": lambda a: a.__setitem__([3, 900], a[[900, 3]]),
    "its last bit": lambda a: a.view(np.uint32).__setitem__(-1, a.view(np.uint32)[-1] ^ 1),
    "stretches swapped": lambda a: a.__setitem__(slice(4096), np.roll(a[:4096], 2048)),
    "transposed": lambda a: a.__setitem__(slice(2**20), a[: 2**20].reshape(1024, -1).T.ravel()),
    "halved": lambda a: np.multiply(a, 0.5, out=a),
    "of another sign": lambda a: np.negative(a, out=a),
    "moved by one place": lambda a: a.__setitem__(slice(None), np.roll(a, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("put", [np.asarray, DeviceArray])
def test_checksums_tell_arrays_apart(change: str, put: Any) -> None:
    # As many as would cancel, were each weighted with its place alone.
    array = np.random.default_rng(0).standard_normal(2**21 + 3).astype(np.float32)
    before = checksum(put(array))
    assert checksum(put(array.copy())) == before
    CHANGES[change](array)
    assert checksum(put(array)) != before


ALIKE: dict[str, tuple[str, Any]] = {
    # In so many numbers that what they add to a sum is a multiple of 2^64.
    "signs": ("float64", lambda a: np.negative(a, out=a)),
    "signs of two rows": ("float64", lambda a: np.negative(a[:2], out=a[:2])),
    "signs of every other column": ("float32", lambda a: np.negative(a[:, 1::2], out=a[:, 1::2])),
    "imaginary parts": ("complex64", lambda a: np.conjugate(a, out=a)),
    "exponents": ("float64", lambda a: np.multiply(a, 16, out=a)),
    # Each row and each column has the same numbers as before.
    "places": ("float64", lambda a: a.__setitem__(slice(None), a[::-1].copy())),
}


@pytest.mark.parametrize("change", ALIKE)
@pytest.mark.parametrize("put", [np.asarray, DeviceArray])
def test_checksums_tell_of_what_changes_all_numbers_alike(change: str, put: Any) -> None:
    dtype, alter = ALIKE[change]
    array = np.random.default_rng(0).standard_normal((1024, 1024)).astype(dtype)
    if change == "places":
        array = np.eye(1024)
    elif dtype == "complex64":
        array += 1j * array[::-1].copy()
    before = checksum(put(array))
    alter(array)
    assert checksum(put(array)) != before


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float64", "complex64", "complex128"])
def test_checksums_take_all_formats(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    other = array.copy()
    other[1, 2] = 0
    for one in (array, array.T):
        assert checksum(DeviceArray(one)) != checksum(DeviceArray(other))


def test_large_steps_are_cut_into_larger_pieces_on_a_device() -> None:
    x = torch.ones(2**19, requires_grad=True)
    with gw.watch() as witness:
        torch.autograd.backward((x * 2).sum())
    (call,) = (c for c in witness.tape.calls if c.op == "aten.mul.Tensor")
    assert is_large(witness.tape, call)
    assert not is_large(moved(witness.tape, DeviceArray), call)
    assert len(slabs((2**19,))) == 4
    assert slabs((2**19,), on_device=True) == [()]
    assert len(slabs((2**26,), on_device=True)) == 4


def test_numbers_overwritten_in_place_are_kept_where_they_live() -> None:
    x = torch.linspace(1, 2, 600, requires_grad=True)
    with recorded_elsewhere(DeviceArray):
        with gw.watch(names={"x": x}) as witness:
            y = x * 2
            z = y.detach().exp()
            y = y.clone().mul_(3)
            torch.autograd.backward((y * z).sum())
            with torch.no_grad():
                x.mul_(2)
        assert witness.verdict is gw.Verdict.AGREES
    (row,) = witness.report.rows
    expected = 6 * np.exp(2 * np.linspace(1, 2, 600))
    gradient: Any = witness.tape.values[row.value or 0].array
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
