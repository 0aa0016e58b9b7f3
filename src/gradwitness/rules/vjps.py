"""What a vjp reads: it names it, and the engine hands it in."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gradwitness._errors import RuleError
from gradwitness.rules.made_like import full_like

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# An ndarray, or what the engine's dispatch puts in its place (Bounded, a CuPy array): every
# object that obeys NEP 13 and NEP 18.
Array: TypeAlias = Any
# One of several results. What is annotated otherwise than this counts as read: kept, to be safe.
_SINGLE = re.compile(r"y(\d+)")
_SHAPED = re.compile(r"\bShaped\b")


class Shaped(Protocol):
    """An operand of which a vjp asks only the shape: its numbers need not be kept.

    What is handed in has none (NaN stands for each).
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def size(self) -> int:
        """The number of elements."""


@dataclass(frozen=True)
class Gradient:
    """The vjp with respect to one operand.

    ``text`` is its formula over g, y and operands; ``reads`` are those of them whose numbers it may
    use, where ``y[1]`` is one of several results. ``kernel`` says whether torch runs it as one
    kernel, see `Rule.vjp`. Of a function that returns the gradients of several operands at once,
    ``together`` are their names.
    """

    text: str
    function: Callable[..., Array]
    reads: frozenset[str]
    _places: tuple[tuple[int, int | None], ...]
    _defaults: Mapping[str, Any]
    _keywords: tuple[str, ...]
    kernel: str = ""
    together: tuple[str, ...] = ()

    def __call__(
        self, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]
    ) -> Any:
        """Compute the gradient from all that there is: the function gets what it names."""
        sources = (g, y, *operands)
        asked = [sources[at] if k is None else _result(y, k) for at, k in self._places]
        if not self._keywords:
            return self.function(*asked)
        named = {name: parameters[name] for name in self._keywords if name in parameters}
        return self.function(*asked, **{**self._defaults, **named})


def _result(y: Any, index: int) -> Any:
    if not isinstance(y, tuple):
        raise TypeError(f"the vjp asks for y{index}, but the operation has one result: y")
    return y[index]


def read_off(
    function: Callable[..., Array],
    text: str,
    operands: tuple[str, ...],
    parameters: tuple[str, ...],
    defaults: Mapping[str, Any],
    kernel: str = "",
) -> Gradient:
    """Read off a function's signature what it is to be given."""
    names = ("g", "y", *operands)
    places: list[tuple[int, int | None]] = []
    reads, keywords = set(), []
    for p in inspect.signature(function).parameters.values():
        single = _SINGLE.fullmatch(p.name)
        fault = f"asks for '{p.replace(annotation=p.empty)}'"
        if p.kind is p.VAR_KEYWORD:
            keywords += [name for name in parameters if name not in keywords]
            continue
        if p.default is not p.empty:
            fault = f"gives {p.name!r} a default: the rule's holds"
        elif p.kind is p.KEYWORD_ONLY and p.name in parameters:
            keywords.append(p.name)
            continue
        elif p.kind is p.POSITIONAL_OR_KEYWORD and (p.name in names or single):
            named = p.name in names
            places.append((names.index(p.name), None) if named else (1, int(p.name[1:])))
            if not _SHAPED.search(str(p.annotation)):
                reads.add(p.name if named else f"y[{p.name[1:]}]")
            continue
        after = f", and after * for {', '.join(parameters)}" if parameters else ""
        raise RuleError(
            f"{fault}; it may ask by name for g, y (single results: y0, y1, ...), "
            f"{', '.join(operands)}{after}"
        )
    own = {name: defaults[name] for name in keywords if name in defaults}
    return Gradient(text, function, frozenset(reads), tuple(places), own, tuple(keywords), kernel)


def zero(operand: int) -> Gradient:
    """Return the vjp of an operand, by its place, that the result does not change with."""
    return Gradient("0", _zero, frozenset({"g"}), ((0, None), (2 + operand, None)), {}, ())


def _zero(g: Any, x: Shaped) -> Array:
    return full_like(g[0] if isinstance(g, tuple) else g, x.shape, 0)
