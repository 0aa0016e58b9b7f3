"""Whatever public functions take or return can be named by a program that is type-checked."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, ForwardRef, get_args

import gradwitness

if TYPE_CHECKING:
    from collections.abc import Iterator

# The parts of a tape and of a rule, which `gradwitness.tape` and the rules name; what a law is of;
# and how a replay may be told to take its steps.
INTERNAL = {
    *("Call", "Edge", "NodeRun", "Layout", "LeafUpdate", "Node", "Ref", "Sweep", "Value"),
    *("Ending", "Made", "Unseen"),
    *("Adjoining", "Homogeneous", "Scaled", "Simplex", "Unshifted"),
    *("Gradient", "Steps"),
}


def imported(module: str) -> dict[str, Any]:
    """Return what a module's names stand for, those that it imports for types alone too."""
    names = dict(vars(sys.modules[module]))
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gradwitness"):
            home = import_module(str(node.module))
            names |= {
                alias.asname or alias.name: vars(home).get(alias.name) for alias in node.names
            }
    return names


def meant(annotation: Any, names: dict[str, Any], seen: frozenset[str] = frozenset()) -> set[type]:
    """Return our classes in an annotation: text, a type, or an alias of either."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, type) and annotation.__module__.startswith("gradwitness"):
        return {annotation}
    parts = list(get_args(annotation))
    if isinstance(annotation, str) and annotation not in seen:
        # An alias may lead back to itself.
        seen |= {annotation}
        for node in ast.walk(ast.parse(annotation)):
            if isinstance(node, ast.Name):
                parts.append(names.get(node.id))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                parts.append(getattr(names.get(node.value.id), node.attr, None))
    return {one for part in parts for one in meant(part, names, seen)}


def annotated(public: Any) -> Iterator[Any]:
    """Yield the annotations of a function, or of what a class shows."""
    if inspect.isfunction(public):
        yield from public.__annotations__.values()
        return
    yield from inspect.get_annotations(public).values()
    for name, member in vars(public).items():
        if not name.startswith("_") or name == "__init__":
            function = member.fget if isinstance(member, property) else member
            yield from getattr(function, "__annotations__", {}).values()


def reachable(publics: list[Any]) -> dict[str, str]:
    """Return our classes that annotations lead to, each with what led there."""
    found: dict[str, str] = {}
    waiting = list(publics)
    while waiting:
        public = waiting.pop()
        names = imported(public.__module__)
        for annotation in annotated(public):
            for one in meant(annotation, names):
                if one.__qualname__ not in found:
                    found[one.__qualname__] = public.__qualname__
                    waiting.append(one)
    return found


def test_types_that_are_returned_are_public() -> None:
    publics = [getattr(gradwitness, name) for name in gradwitness.__all__]
    packages = [public for public in publics if inspect.ismodule(public)]
    publics += [o for package in packages for n, o in vars(package).items() if n[0] != "_"]
    ours = [one for one in publics if getattr(one, "__module__", "").startswith("gradwitness")]
    found = reachable([one for one in ours if callable(one)])
    assert set(found) - {one.__qualname__ for one in ours if isinstance(one, type)} == INTERNAL
