"""The examples of docs/declare.md run, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradwitness.rules import declarations, surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "declare.md"


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    kept: tuple[dict[Any, Any], ...] = (
        surrogates._declared,
        declarations._hooks,
        declarations._approximations,
    )
    before = [dict(table) for table in kept]
    yield
    for table, entries in zip(kept, before, strict=True):
        table.clear()
        table.update(entries)


def test_the_examples_print_what_the_page_says() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    said = re.findall(r"^print\(.*\)  # (\w+)$", code, re.MULTILINE)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, f"{PAGE}", "exec"), {"__name__": "declare_page"})  # noqa: S102
    assert len(said) == 9
    assert out.getvalue().split() == said
