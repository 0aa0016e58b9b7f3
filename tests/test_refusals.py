"""What torch refuses is skipped, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import gradwitness as gw
from refusals import torch_alone

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = "could not create a primitive descriptor for a matmul. Run workload with ..."


def outcome(program: Callable[[], object]) -> BaseException:
    """What ends a program: caught here, so that a skip does not skip the test of it."""
    with pytest.raises((Exception, pytest.skip.Exception)) as caught, torch_alone():
        program()
    return caught.value


def refuses() -> None:
    raise RuntimeError(REFUSED)


def test_what_torch_alone_refuses_is_skipped_in_its_words() -> None:
    skipped = outcome(refuses)
    assert isinstance(skipped, pytest.skip.Exception)
    assert str(skipped).endswith(": could not create a primitive descriptor for a matmul")


def test_what_comes_by_way_of_gradwitness_is_no_refusal() -> None:
    assert type(outcome(lambda: gw.assert_gradients(refuses))) is RuntimeError


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), ValueError(REFUSED)], ids=repr)
def test_another_error_is_no_refusal(error: Exception) -> None:
    def fails() -> None:
        raise error

    assert outcome(fails) is error
