"""Of the whole suite: one thread for each process, and which tests are of low precision."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

# Before NumPy and torch are loaded, also by the workers and programs that the tests start: several
# threads for such small arrays would only wait for each other.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

# How long an example takes says how busy the machine is, and the same tree has the same examples:
# a change is judged by what it does. `pytest --hypothesis-profile=search` draws others each time.
settings.register_profile("search", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that run torch with a 16-bit format among their parameters."""
    for item in items:
        if isinstance(item, pytest.Function) and "torch" in vars(item.module):
            call = getattr(item, "callspec", None)
            parameters = call.params.values() if call else ()
            if any(_names_16_bits(parameter) for parameter in parameters):
                item.add_marker(pytest.mark.low_precision)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end: the modules and all tests."""
    gc.collect()
    gc.freeze()


def _names_16_bits(parameter: object) -> bool:
    named = isinstance(parameter, str) or type(parameter).__name__ == "dtype"
    return named and "float16" in str(parameter)
