"""The choice by bits is np.where's, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwitness.rules import kernel_ops

N = 2 * kernel_ops._MANY
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, -1.5])
X = np.resize(SPECIAL, (2, N))
Y = np.resize(SPECIAL[::-1], (2, N))
CHOICE = np.random.default_rng(0).random((2, N)) < 0.5
CASES: dict[str, tuple[Any, Any, Any]] = {
    "arrays": (CHOICE, X, Y),
    "a number first": (CHOICE, 1, Y),
    "zero first": (CHOICE, 0, Y),
    "zero second": (CHOICE, X, 0.0),
    "minus zero": (CHOICE, -0.0, Y),
    "minus zero second": (CHOICE, X, -0.0),
    "a row": (CHOICE, X, Y[0]),
    "a row chosen from": (CHOICE[0], X[:, None], Y),
    "strides": (CHOICE.T, X.T, Y.T),
    "numbers": (CHOICE, 1.0, 0.0),
    "whole numbers": (CHOICE, CHOICE.astype(int), 3),
    "float32 and float64": (CHOICE, X.astype(np.float32), Y),
    "float32": (CHOICE, X.astype(np.float32), Y.astype(np.float32)),
    "float32 or zero": (CHOICE, X.astype(np.float32), 0),
    "float32 or a number": (CHOICE, 0.1, Y.astype(np.float32)),
    "float32 or one of float64": (CHOICE, X.astype(np.float32), np.float64(0.1)),
    "float32 or one of float64 in an array": (CHOICE, X.astype(np.float32), np.array(0.1)),
    "complex": (CHOICE, X + 1j, Y),
    "not yet true or false": (X, X, Y),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_numpys(name: str) -> None:
    got, expected = kernel_ops.where(*CASES[name]), np.where(*CASES[name])
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()
