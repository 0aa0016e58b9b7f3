"""What torch itself refuses on this processor: its tests are skipped, in torch's own words."""

from __future__ import annotations

import contextlib
import re
import traceback
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# oneDNN has no kernel in this format for this processor; torch was built without oneDNN; torch has
# no kernel in this format.
_REFUSALS = re.compile(
    r"could not create a primitive|bf16 path needs|not compiled with MKLDNN"
    r"|not implemented for '(BFloat16|Half)'"
)


@contextlib.contextmanager
def torch_alone() -> Iterator[None]:
    """Run torch without a witness; skip the test if torch has no kernel for it here.

    Nothing else is skipped: an error that passed through gradwitness, or is another one, is raised.
    """
    try:
        yield
    except RuntimeError as error:
        frames = traceback.walk_tb(error.__traceback__)
        names = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in frames}
        if "gradwitness" in names or not _REFUSALS.search(str(error)):
            raise
        pytest.skip(f"torch refuses on this processor: {str(error).partition('. ')[0]}")
