"""A limit on memory while files are read that nobody vouches for."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What is judged takes some ten times its size; what libraries map when they are imported takes
# gigabytes of addresses, if hardly any memory.
_GROWTH = 64
_ALWAYS_ALLOWED = 2**32


@contextlib.contextmanager
def bounded_memory(words: Sequence[str]) -> Iterator[None]:
    """Bound the memory of a command by the sizes of its files, whatever these declare.

    A recording holds small numbers and a call that would make a huge one of them: no check of the
    file sees that. A program may take what it wants. Elsewhere than on Linux nothing is bounded.
    """
    if sys.platform != "linux" or any(".py" in word for word in words):
        yield
        return
    import resource

    files = [Path(word) for word in words if word.endswith(".npz") and "\0" not in word]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = mapped + _ALWAYS_ALLOWED + _GROWTH * sum(sizes)
    if sizes and before[0] == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
