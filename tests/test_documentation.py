"""The documentation of public names: complete, and its examples do what they print."""

from __future__ import annotations

import doctest
import inspect
import re
from typing import TYPE_CHECKING

import pytest

import gradwitness
from gradwitness.rules import registry, user_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUBLIC = {name: getattr(gradwitness, name) for name in gradwitness.__all__}
FUNCTIONS = {name: public for name, public in PUBLIC.items() if inspect.isfunction(public)}
# Examples may end a traceback with dots, or leave out a machine's own digits.
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _forgotten_rules() -> Iterator[None]:
    """Take the rules of the examples out of the table again."""
    before = user_rules.own()
    yield
    for name, rule in user_rules.own().items():
        if name not in before:
            registry.forget(rule)
            del user_rules._own[name]


def sections(text: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by their headings."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", [*FUNCTIONS, "Witness"])
def test_examples_do_what_they_print(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(PUBLIC[name], name, globs={})
    assert example.examples
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_document_what_they_take_return_and_raise(name: str) -> None:
    function: Callable[..., object] = FUNCTIONS[name]
    found = sections(inspect.getdoc(function) or "")
    heads = re.findall(r"^(\S.*?)(?: : .*)?$", found["Parameters"], re.MULTILINE)
    documented = [word.lstrip("*") for head in heads for word in head.split(", ")]
    assert sorted(documented) == sorted(inspect.signature(function).parameters)
    assert ("Returns" in found) == (function.__annotations__["return"] != "None")
    raised = re.findall(r"^(\S+)$", found.get("Raises", ""), re.MULTILINE)
    assert all(issubclass(getattr(gradwitness, error), Exception) for error in raised)
