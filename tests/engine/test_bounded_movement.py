"""Data movement: values and bounds go the same way, and nobody writes into another's bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.emulation import FORMATS, bounded, to, unit
from gradwitness._errors import RuleError
from gradwitness.engine.bounded import Bounded, arithmetic, movement, transcendental
from gradwitness.engine.bounded.array import FUNCTIONS, UFUNCS
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

WINDOWS = np.lib.stride_tricks.sliding_window_view
MOVES: dict[str, Callable[[Any], Any]] = {
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "array_split": lambda x: np.array_split(x, 3, axis=1)[0],
    "atleast_1d": lambda x: np.atleast_1d(x[0, 0]),
    "atleast_2d": lambda x: np.atleast_2d(x[0]),
    "column_stack": lambda x: np.column_stack([x, x[:, 0]]),
    "concatenate": lambda x: np.concatenate([x, x[::-1]], axis=1),
    "copy": lambda x: np.copy(x),
    "delete": lambda x: np.delete(x, 1, axis=0),
    "diag": lambda x: np.diag(x[0]),
    "diagonal": lambda x: np.diagonal(x, 1, 0, 1),
    "expand_dims": lambda x: np.expand_dims(x, (0, 2)),
    "dstack": lambda x: np.dstack([x, x]),
    "flip": lambda x: np.flip(x, 1),
    "fliplr": lambda x: np.fliplr(x),
    "flipud": lambda x: np.flipud(x),
    "hsplit": lambda x: np.hsplit(x, 2)[1],
    "hstack": lambda x: np.hstack([x, x]),
    "matrix_transpose": lambda x: np.matrix_transpose(x),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "pad": lambda x: np.pad(x, ((1, 0), (2, 1)), mode="edge"),
    "ravel": lambda x: np.ravel(x),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "reshape": lambda x: np.reshape(x, (2, 6)),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "rot90": lambda x: np.rot90(x),
    "sliding_window_view": lambda x: WINDOWS(x, (2, 2)),
    "split": lambda x: np.split(x, [1], axis=1)[1],
    "squeeze": lambda x: np.squeeze(x[:, :1], 1),
    "stack": lambda x: np.stack([x, x], axis=2),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "take": lambda x: np.take(x, [2, 0, 2], axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[1], [0], [3]]), axis=1),
    "tile": lambda x: np.tile(x, (1, 2)),
    "transpose": lambda x: np.transpose(x, (1, 0)),
    "tril": lambda x: np.tril(x, 1),
    "triu": lambda x: np.triu(x),
    "vsplit": lambda x: np.vsplit(x, 3)[2],
    "vstack": lambda x: np.vstack([x, x[0]]),
    "where": lambda x: np.where(np.eye(3, 4) > 0, x, x[:, ::-1]),
}
METHODS: dict[str, Callable[[Any], Any]] = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "transpose, axes one by one": lambda x: x.transpose(1, 0),
    "transpose": lambda x: x.transpose(),
    "flatten": lambda x: x.flatten(),
    "ravel, a method": lambda x: x.ravel(),
    "squeeze, a method": lambda x: x[:, :1].squeeze(1),
    "swapaxes, a method": lambda x: x.swapaxes(0, 1),
    "copy, a method": lambda x: x.copy(),
    "astype": lambda x: x.astype(np.float64),
    "iteration": lambda x: np.stack([row[1] for row in x]),
    "getitem": lambda x: x[1:, [0, 2]],
    "item": lambda x: x[1, 2],
    "mask": lambda x: x[np.eye(3, 4) > 0],
    "reshape, a method": lambda x: x.reshape(4, 3),
    "reshape, a tuple": lambda x: x.reshape((4, -1)),
}
EVERY_MOVE = [*MOVES.items(), *METHODS.items()]
VALUES = np.arange(12.0).reshape(3, 4) + 1
RIGOROUS, LIKELY = VALUES / 1000, VALUES / 4000


def handled_here(table: dict[str, Callable[..., Any]]) -> set[str]:
    """Return what the three modules handle whose tests these are."""
    modules = {module.__name__ for module in (arithmetic, movement, transcendental)}
    return {name for name, handler in table.items() if handler.__module__ in modules}


def test_every_movement_is_here() -> None:
    computing = {"sum", "shape", "ndim", "size"}
    making = {"empty_like", "zeros_like", "ones_like", "full_like"}
    making |= {"arange", "asarray", "identity", "tri", "zeros"}
    assert handled_here(FUNCTIONS) - computing - making == MOVES.keys()


def test_what_is_made_like_an_array_is_plain_and_no_bound_gets_lost_in_it() -> None:
    x = Bounded(VALUES, Arithmetic.stepwise("float32"), RIGOROUS, LIKELY)
    like: Any = x
    assert np.arange(3, like=like).tolist() == [0, 1, 2]
    assert np.identity(2, like=like).tolist() == [[1, 0], [0, 1]]
    assert np.asarray([1j, 2], like=like).tolist() == [1j, 2]
    with pytest.raises(RuleError, match="makes a plain array"):
        np.asarray(x, like=like)


@pytest.mark.parametrize(("name", "move"), EVERY_MOVE)
def test_values_and_both_bounds_go_the_same_way(name: str, move: Callable[[Any], Any]) -> None:
    moved = move(Bounded(VALUES, Arithmetic.stepwise("float32"), RIGOROUS, LIKELY))
    expected = move(VALUES)
    assert moved.value.tolist() == expected.tolist()
    assert moved.rigorous.tolist() == move(RIGOROUS).tolist()
    assert moved.probable.tolist() == move(LIKELY).tolist()
    assert (moved.shape, moved.ndim, moved.size) == (
        expected.shape,
        expected.ndim,
        expected.size,
    )


@pytest.mark.parametrize(("name", "move"), EVERY_MOVE)
def test_exact_stays_exact_and_one_bound_stays_one(name: str, move: Callable[[Any], Any]) -> None:
    assert move(bounded("float32", VALUES)).is_exact
    shared = move(bounded("float32", VALUES, RIGOROUS))
    assert shared.rigorous is shared.probable


@pytest.mark.parametrize(
    "join",
    [
        lambda x: np.where([True, False], x, 0),
        lambda x: np.where([False, True], -1.5, x),
        lambda x: np.concatenate([x[:1], np.zeros(1)]),
        lambda x: np.stack([x[0], np.array(7.0)]),
        lambda x: np.pad(x[:1], (0, 1)),
        lambda x: np.pad(x[:1], (0, 1), constant_values=-np.inf),
        lambda x: np.pad(x[:1], (0, 1), mode="constant", constant_values=4),
    ],
)
def test_what_is_no_bounded_array_brings_no_error(join: Callable[[Any], Any]) -> None:
    joined = join(bounded("float32", [3.0, 5.0], [0.25, 0.25]))
    assert joined.rigorous.tolist() == [0.25, 0]
    assert join(bounded("float32", [3.0, 5.0])).is_exact


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    "place",
    [
        lambda x: np.where([False], x, 0.1),
        lambda x: np.pad(x, (1, 0), constant_values=0.1)[:1],
        lambda x: np.full_like(x, 0.1),
        lambda x: np.full_like(x, fill_value=0.1),
        lambda x: _stored(np.zeros_like(x), 0, 0.1),
    ],
)
def test_a_number_that_the_format_cannot_hold_is_not_exact(
    place: Callable[[Any], Any], dtype: str
) -> None:
    placed = place(bounded(dtype, [1.0]))
    off = abs(float(to(dtype, 0.1)) - 0.1)
    assert 0 < off <= placed.rigorous[0] <= 0.1 * unit(dtype) * (1 + 1e-9) + 2.0**-53


def test_the_condition_may_be_bounded_and_the_branches_plain() -> None:
    chosen: Any = np.where(bounded("float32", [1.0, 0.0]), 2, 3)
    assert chosen.tolist() == [2, 3]


def test_fresh_arrays_are_exact_and_writable() -> None:
    x = bounded("float32", [1.0, 2.0], [0.5, 0.5])
    for fresh, value in ((np.zeros_like(x), 0), (np.ones_like(x), 1), (np.full_like(x, 3), 3)):
        assert fresh.is_exact
        assert fresh.value.tolist() == [value, value]
        fresh[0] = 9
        assert fresh.value.tolist() == [9, value]


def _stored(array: Any, index: Any, item: Any) -> Any:
    array[index] = item
    return array


def fresh(errors: NDArray[np.float64]) -> Any:
    return Bounded(np.zeros(errors.shape), Arithmetic.stepwise("float32"), errors, errors)


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (bounded("float32", 7.0, 0.5), [0.1, 0.5, 0.1]),
        (bounded("float32", 7.0), [0.1, 0.0, 0.1]),
        (7, [0.1, 0.0, 0.1]),
    ],
)
def test_storing_replaces_the_bound_in_its_place_and_in_no_other_array(
    item: Any, wanted: list[float]
) -> None:
    errors = np.full(3, 0.1)
    errors.flags.writeable = False
    array = fresh(errors)
    array[1] = item
    assert array.value.tolist() == [0, 7, 0]
    assert array.rigorous.tolist() == wanted
    assert array.probable is array.rigorous
    assert errors.tolist() == [0.1, 0.1, 0.1]


def test_storing_what_has_two_bounds_parts_the_two() -> None:
    array = fresh(np.full(2, 0.1))
    array[0] = Bounded(np.array(1.0), array.arithmetic, np.array(0.4), np.array(0.2))
    assert array.rigorous.tolist() == [0.4, 0.1]
    assert array.probable.tolist() == [0.2, 0.1]
    array[1] = 5
    assert (array.rigorous.tolist(), array.probable.tolist()) == ([0.4, 0], [0.2, 0])


def test_adding_in_place_changes_the_array_and_no_bound_that_others_hold() -> None:
    array = fresh(np.full(2, 0.5))
    same, errors = array, array.rigorous
    array += bounded("float32", [1.0, 1.0], [0.25, 0.25])
    assert same is array
    assert array.value.tolist() == [1, 1]
    assert errors.tolist() == [0.5, 0.5]
    assert array.rigorous == pytest.approx(0.75, rel=1e-6)
    array -= 1
    array *= 2
    assert same.value.tolist() == [0, 0]
    # A sum is a number: one that is added to is another, as in NumPy.
    total = first = np.sum(array)
    total += 1
    assert (first.value, total.value) == (0, 1)
    sums = np.zeros_like(array)
    for index in (0, 1, 0):
        sums[index] += bounded("float32", 1.0, 0.25)
    assert sums.value.tolist() == [2, 1]
    assert sums.rigorous == pytest.approx([0.5, 0.25], rel=1e-6)


def test_what_cannot_be_moved_is_refused(snapshot: SnapshotAssertion) -> None:
    x = bounded("float32", [1.0, 2.0], [0.5, 0.5])
    refused: list[Callable[[], Any]] = [
        lambda: np.take_along_axis(np.ones(2), x, 0),
        lambda: np.pad(x, 1, mode="mean"),
        lambda: np.pad(x, 1, constant_values=(1, 2)),
        lambda: np.unwrap(x),
        lambda: np.corrcoef(x),
    ]
    for call in refused:
        with pytest.raises(RuleError) as error:
            call()
        assert str(error.value) == snapshot


def test_every_ufunc_with_a_handler_has_a_test() -> None:
    arithmetic = {"add", "subtract", "multiply", "divide", "reciprocal", "negative", "positive"}
    chosen = {"maximum", "minimum", "absolute", "fabs", "matmul", "sign", "isfinite", "isnan"}
    compared = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
    named = {"exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "tanh", "sin", "cos", "sqrt"}
    # Tested elsewhere, though registered by the same functions: with steps, with complex numbers,
    elsewhere = {"isinf", "signbit", "logical_and", "logical_or", "logical_not", "logical_xor"}
    elsewhere |= {"conjugate"}
    # and with the other circular functions.
    circular = {"tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh"}
    named |= circular | {"square", "arctanh", "erfc"}
    named |= {"erf", "power"} | elsewhere
    assert handled_here(UFUNCS) == arithmetic | chosen | compared | named


def test_the_shape_is_that_of_the_value() -> None:
    assert np.shape(bounded("float32", [[1.0, 2.0]])) == (1, 2)
