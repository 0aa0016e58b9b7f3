"""What the rules of backward kernels take over from the rules of the operations themselves."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradwitness.rules.registry import Array, Rule

OPERAND = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = inspect.Parameter.KEYWORD_ONLY


class Parameters:
    """The parameters of an operation under the names that its backward has for them."""

    def __init__(self, forward: Rule, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed
        self._back = {new: old for old, new in renamed.items()}
        self._names = [
            parameter.replace(name=renamed.get(parameter.name, parameter.name))
            for parameter in inspect.signature(forward.function).parameters.values()
            if parameter.kind is KEYWORD
        ]

    def given_to(
        self,
        function: Callable[..., Array],
        *operands: str,
        more: tuple[str, ...] = (),
        required: bool = False,
    ) -> Callable[..., Array]:
        """Give a function the signature that a rule reads off it: operands and parameters.

        Where parameters are ``required``, each call gives them: they have no defaults.
        """
        first = [inspect.Parameter(name, OPERAND) for name in operands]
        added = [inspect.Parameter(name, KEYWORD) for name in more]
        own = [p.replace(default=p.empty) for p in self._names] if required else self._names
        signature = inspect.Signature([*first, *added, *own])
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    def own(self, how: Mapping[str, Any]) -> dict[str, Any]:
        """Return the operation's own parameters out of those of its backward."""
        named = {self._back.get(name, name): value for name, value in how.items()}
        return {name: value for name, value in named.items() if self._knows(name)}

    def _knows(self, name: str) -> bool:
        return any(parameter.name == self._renamed.get(name, name) for parameter in self._names)

    def worded(self, text: str, **words: str) -> str:
        """Return a formula of the operation with other words, and the backward's parameters."""
        said = {**self._renamed, **words}
        return re.sub(r"\b[a-z]\w*\b", lambda word: said.get(word[0], word[0]), text)
