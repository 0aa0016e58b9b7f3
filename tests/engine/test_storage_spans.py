"""Stretches of memory: kept together where they overlap, apart where they do not."""

from __future__ import annotations

import numpy as np

import gradwitness as gw
from gradwitness.engine.storage_spans import Piece, pieces
from gradwitness.tape import Call, Layout, Ref, Value


def value(number: int, shape: tuple[int, ...], storage: int, offset: int, *strides: int) -> Value:
    return Value(number, shape, "float32", np.zeros(shape), Layout(storage, offset, strides))


def piece(storage: int, start: int, end: int) -> Piece:
    return Piece((storage, "float32"), start, end)


def test_values_that_overlap_share_a_piece() -> None:
    # Elements 0..5, 4..9 and 20..21 of storage 7; 0..1 of storage 8.
    values = [value(0, (6,), 7, 0, 1), value(1, (2, 3), 7, 4, 3, 1), value(2, (2,), 7, 20, 1)]
    values.append(value(3, (2,), 8, 0, 1))
    first = piece(7, 0, 10)
    assert pieces(values) == {0: first, 1: first, 2: piece(7, 20, 22), 3: piece(8, 0, 2)}


def test_neighbours_that_only_touch_are_apart() -> None:
    found = pieces([value(0, (3,), 1, 0, 1), value(1, (3,), 1, 3, 1)])
    assert found == {0: piece(1, 0, 3), 1: piece(1, 3, 6)}


def test_a_long_piece_inside_which_a_short_one_ends_goes_on() -> None:
    found = pieces([value(0, (9,), 1, 0, 1), value(1, (1,), 1, 2, 1), value(2, (2,), 1, 8, 1)])
    assert set(found.values()) == {piece(1, 0, 10)}


def test_strided_values_span_what_lies_between() -> None:
    # A column of a 4 x 5 matrix: elements 2, 7, 12 and 17.
    assert pieces([value(0, (4,), 1, 2, 5)]) == {0: piece(1, 2, 18)}


def test_no_elements_no_piece() -> None:
    assert pieces([value(0, (0, 3), 1, 0, 3, 1)]) == {}


def test_a_batch_cut_out_of_a_large_tensor_does_not_bring_it_along() -> None:
    far = 10**15
    x = Value(0, (2,), "float32", np.array([1, 2], np.float32), Layout(0, far, (1,)))
    y = Value(1, (2,), "float32", np.array([2, 4], np.float32), Layout(1, 0, (1,)))
    call = Call(0, "aten.mul.Tensor", {"a": Ref(0), "b": 2}, (1,))
    # With a buffer for the whole storage this would ask for 8 petabytes.
    found = gw.replay(gw.Tape((x, y), (call,), (), ()))
    np.testing.assert_array_equal(found.values[1], [2.0, 4.0])
