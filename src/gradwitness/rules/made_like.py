"""Arrays that are made like others: of their library, where they live.

Constants are made by ``np.arange(n, like=x)``, ``np.asarray(table, like=x)`` and their kin
(NEP 35), what is to be filled by ``np.zeros_like(x, shape=...)``, or by `full_like` where it may
have no axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def full_like(x: Any, shape: tuple[int, ...], number: Any) -> Any:
    """Return an array of one number, of another's kind; of any shape, () too.

    CuPy's own takes ``shape=()`` for no shape given.
    """
    return np.reshape(np.full_like(x, number, shape=(math.prod(shape),)), shape)
