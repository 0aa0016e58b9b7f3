"""Writing to an array: its bounds are its own from the first write on, and nobody else's change."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.emulation import bounded
from gradwitness._errors import RuleError
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


ARITHMETIC = Arithmetic.stepwise("float32")


def fresh(*shape: int) -> Any:
    return Bounded(np.zeros(shape), ARITHMETIC)


def piece(value: float, rigorous: float, probable: float | None = None) -> Any:
    worst = np.asarray(rigorous)
    return Bounded(
        np.asarray(value), ARITHMETIC, worst, worst if probable is None else np.asarray(probable)
    )


@pytest.mark.parametrize("probable", [None, 0.25], ids=["one bound", "two bounds"])
def test_pieces_go_into_the_bounds_that_are_there(probable: float | None) -> None:
    whole = fresh(50, 20_000)
    whole[0] = piece(1.0, 0.5, probable)
    addresses = [error.ctypes.data for error in whole.errors]
    tracemalloc.start()
    for row in range(1, 50):
        whole[row] = piece(row, 0.5, probable)
    whole[7] += piece(1.0, 0.5, probable)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some rows, where one copy of a bound has 50.
    assert most < 10 * 20_000 * 8
    assert [error.ctypes.data for error in whole.errors] == addresses
    assert len({*addresses}) == (1 if probable is None else 2)
    assert (whole.rigorous[:7] == 0.5).all()
    assert (whole.rigorous[7] > 1).all()


@pytest.mark.parametrize(
    "other",
    [
        lambda x: -x,
        lambda x: np.maximum(x, 0),
        lambda x: Bounded(x.value.copy(), ARITHMETIC, *x.errors),
        lambda x: Bounded(np.zeros(2), ARITHMETIC, x.rigorous[1:], x.probable[1:]),
    ],
)
def test_bounds_that_another_array_has_too_stay_as_they_are(other: Any) -> None:
    first = fresh(3)
    first[:] = piece(1.0, 0.5)
    second = other(first)
    kept = [error.copy() for error in second.errors]
    first[1] = piece(2.0, 0.125, 0.0625)
    assert [error.tolist() for error in second.errors] == [error.tolist() for error in kept]
    assert first.rigorous.tolist() == [0.5, 0.125, 0.5]
    assert first.probable.tolist() == [0.5, 0.0625, 0.5]


def test_bounds_that_a_program_holds_or_that_are_repeated_stay_as_they_are() -> None:
    held = np.full(3, 0.5)
    for errors in (held, np.broadcast_to(np.asarray(0.5), (3,)), held[::-1]):
        array = Bounded(np.zeros(3), ARITHMETIC, errors, errors)
        array[1] = piece(1.0, 0.25)
        array[2] = 7.0
        assert errors.tolist() == [0.5] * 3
        assert array.rigorous is array.probable
        assert np.asarray(array.rigorous).tolist() == [0.5, 0.25, 0]


def test_what_is_written_through_a_view_is_in_the_array_with_its_bound(
    snapshot: SnapshotAssertion,
) -> None:
    array = fresh(2, 3)
    row = array[1]
    row[0] = piece(4.0, 0.5)
    row *= 2
    assert array.value.tolist() == [[0, 0, 0], [8, 0, 0]]
    assert row.value.tolist() == [8, 0, 0]
    assert array.rigorous.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert row.rigorous.tolist() == [1, 0, 0]
    flat: Any = np.reshape(array, (6,))
    for either in (array, flat):
        with pytest.raises(RuleError) as error:
            either[0] = 1
        assert str(error.value) == snapshot
    del row, array, either
    # Nothing else shows it any more.
    flat[0] = piece(3.0, 0.125)
    assert flat.rigorous.tolist() == [0.125, 0, 0, 1, 0, 0]


def test_what_is_read_only_is_not_written_to() -> None:
    value = np.zeros(2)
    value.flags.writeable = False
    array: Any = Bounded(value, ARITHMETIC)
    del value
    with pytest.raises(ValueError, match="read-only"):
        array += bounded("float32", [1.0, 2.0])
