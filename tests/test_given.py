"""What is given in the place of something else is said, and what would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("taking", [gw.judge, gw.replay, lambda tape: gw.save_tape(tape, "t.npz")])
def test_what_is_no_recording(taking: Callable[[Any], Any], tmp_path: Path) -> None:
    witness = gw.watch()
    for given, said in (
        ("rec.npz", "str 'rec.npz'"),
        (tmp_path, "PosixPath"),
        (witness, "Witness"),
    ):
        with pytest.raises(gw.InputError, match=rf"recording \(witness.tape, .*, not {said}"):
            taking(given)
