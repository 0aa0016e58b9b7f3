"""One word for each thing, in messages, help and docs: docs/glossary.md has them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What must not be said, and what to say instead.
BANNED = {
    r"(a|an|the|saved|recorded) tapes?": "recording",
    r"sweeps?": "backward pass",
    r"likely": "probable",
    r"gravest": "worst",
    r"stages?|scenes?|actors?|plays?": "a court's words: trial, case, evidence",
    r"foretells?": "predicts",
    r"anew": "again",
    r"hear(s|d)? of": "observe",
    r"lets? go of": "free",
    r"(?<!there )(is|are) no (file|name|tensor|module|number|text)": "is not a ...",
    r"of one's own": "user-defined",
}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@cache
def sentences(path: Path) -> list[str]:
    """Return the texts of a page without its code, or of a module those that a user may read."""
    if path.suffix == ".md":
        text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", path.read_text("utf-8"), flags=re.S)
        return [text]
    tree = ast.parse(path.read_text("utf-8"))
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and " " in node.value
        and id(node) not in documents
    ]


@pytest.mark.parametrize("banned", BANNED)
def test_one_word_for_each_thing(banned: str) -> None:
    places = [
        f"{path.relative_to(ROOT)}: {text.strip()[:80]!r}: say {BANNED[banned]!r}"
        for path in (*PAGES, *sorted((ROOT / "src").rglob("*.py")))
        for text in sentences(path)
        if re.search(rf"\b({banned})\b", text, re.I)
    ]
    assert not places
