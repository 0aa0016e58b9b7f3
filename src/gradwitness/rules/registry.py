"""The table of rules, and how a rule is written.

A rule is a function of arrays (positional) and parameters (keyword-only, named as in the ATen
schema), with its formula as text beside it, and one vjp for each differentiable operand::

    @rule("aten.mul", "y = a * b", meaning="multiplies the gradient by the other factor")
    def mul(a, b):
        return a * b

    @mul.vjp("a", "g * b")
    def _(g, b):
        return g * b

A vjp names what it reads, and nothing else: ``g``, the recorded result ``y``, operands, and after
``*`` parameters, whose defaults are the rule's. What no vjp names need not be kept in memory. An
operand of which only the shape counts is annotated so: ``x: Shaped``. A vjp of one expression may
be a lambda, and one whose code is its text, in the words of `formula`, needs no function::

    mul.vjps(a="g * b", b="g * a")

A rule never broadcasts back, casts, accumulates or logs: the engine does. Of an operation with
several results ``g`` and ``y`` are tuples, and ``y1`` is the second result alone; an operand that
is a list of tensors is a tuple, and its vjp returns a list. A function that goes on in steps may
have a keyword ``made``: None, or the recorded results, and then each step starts from the recorded
one before; a keyword ``memory`` gets the place in memory of each element of the first operand, or
None if they fill it in order; a keyword ``in_parts`` is whether the recorded kernel stored partial
sums (see `convolution`). Overloads, in-place forms and aliases of an operation share its rule.
"""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gradwitness._errors import RuleError
from gradwitness.rules.formula import GIVEN, named_formula
from gradwitness.rules.vjps import Array as Array
from gradwitness.rules.vjps import Gradient, read_off, zero
from gradwitness.rules.vjps import Shaped as Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Letters of axes, or what gives them from the operands' shapes and the parameters.
Apart: TypeAlias = "str | Callable[[Mapping[str, tuple[int, ...]], Mapping[str, Any]], str]"
# Of operations whose every element depends on one of each operand, which are broadcast.
ELEMENTWISE = "elementwise"
# In the place of the letters of a result that the rule does not make.
UNMADE = "-"
# The rules use this name for an added term, never for a factor.
ADDED = "b"


Function = TypeVar("Function", bound="Callable[..., Any]")


@dataclass(frozen=True, eq=False)
class Rule:
    """What the witness knows of one operation.

    Attributes
    ----------
    name : str
        ``aten.addmm``: namespace and operation, no overload.
    text : str
        The formula, ``y = ...``, over the operands and parameters.
    function : callable
        ``function(*operands, **parameters)`` gives the value.
    operands, parameters : tuple of str
        Names, read from the function's signature.
    defaults : dict
        Values of the parameters that a call may leave out.
    node : str
        The autograd node's name without its number: ``AddmmBackward``. Empty if there is none.
    meaning : str
        What that node does to the gradient, to follow the node's name in a sentence.
    aliases : tuple of str
        Other operations with the same rule.
    ignores : tuple of str
        Schema arguments that do not change the result's numbers.
    composite : bool, `OUT_OF_ORDER` or `IN_BACKWARD`
        Whether torch rounds to the tensor's format at every step, and not only at the end: always,
        or where some numbers do not lie in memory in their order. A gradient is made step by step
        in any case; with `IN_BACKWARD` some of these work on the operands alone, in their formats.
    doubles : tuple of str
        Parameters that are numbers which torch keeps in double precision.
    given : dict
        Parameters that are results, taken as they were recorded: their places by name.
    apart : str or callable
        Along which axes it may be computed piece by piece, see `engine.tiling`: letters of the
        axes of operands and results, or a function of the operands' shapes and the parameters that
        returns them; `UNMADE` for a result that the rule leaves out. Empty where it may not.
    apart_for : dict
        By operand name: the same for its gradient alone, where that may be computed along others.
    sequential : bool
        Whether it goes on in many small steps, which small pieces would make smaller still.
    moves : bool
        Whether what it computes may come through unrounded, as numbers that are only moved do.
        (What is computed element by element always may.) Then NaN that came in spoils no other.
    gradients : dict
        By operand name; an operand that is absent here is not differentiable.
    precise : dict
        By operand name, where torch's formula of a gradient cancels: one that keeps its digits, by
        which the replay goes.
    refused : set of str
        Operands that have an edge, though torch raises where their gradient is asked for.
    kept : set of str
        Operands, and ``y``, whose numbers some vjp may use: the others need not be kept. Of several
        results ``y[1]`` stands for one, where ``y`` stands for all.
    """

    name: str
    text: str
    function: Callable[..., Any]
    operands: tuple[str, ...]
    parameters: tuple[str, ...]
    defaults: dict[str, Any]
    node: str
    meaning: str
    aliases: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    composite: bool | str = False
    doubles: tuple[str, ...] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    apart: Apart = ""
    sequential: bool = False
    moves: bool = False
    apart_for: Mapping[str, Apart] = field(default_factory=dict)
    gradients: dict[str, Gradient] = field(default_factory=dict)
    precise: dict[str, Gradient] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)

    @functools.cached_property
    def no_operands(self) -> frozenset[str]:
        """Names of arguments that are parameters, or ignored."""
        return frozenset((*self.parameters, *self.ignores))

    def vjp(self, operand: str, text: str, *, kernel: str = "") -> Callable[[Function], Function]:
        """Register the vjp of one operand; ``text`` is its formula without the left-hand side.

        The function takes what it reads by name, see the module's description. ``kernel`` says when
        torch runs it as one kernel, which computes 16-bit formats in float32 and rounds at the end:
        never, `ALWAYS`, `UNLESS_TWICE` (not where it may be differentiated again, or is the second
        time) or `IN_ORDER` (only if all numbers lie in memory in their order).
        """
        if operand not in self.operands:
            raise RuleError(
                f"{self.name} has no operand {operand!r}; it has {', '.join(self.operands)}"
            )
        if operand in self.gradients:
            raise RuleError(f"{self.name}: {operand!r} has two vjps")
        if not (text and isinstance(text, str)):
            raise RuleError(
                f"{self.name}: the formula of the vjp of {operand!r} is {text!r}: write it as text"
            )

        def register(function: Function) -> Function:
            try:
                gradient = read_off(
                    function, text, self.operands, self.parameters, self.defaults, kernel
                )
            except RuleError as fault:
                raise RuleError(f"{self.name}: the vjp of {operand!r} {fault}") from None
            self.gradients[operand] = gradient
            self.kept.update(gradient.reads)
            return function

        return register

    def vjps_together(self, **texts: str) -> Callable[[Function], Function]:
        """Register one function that returns the vjps of several operands, and their formulas."""

        def register(function: Function) -> Function:
            for operand, text in texts.items():
                self.vjp(operand, text)(function)
                self.gradients[operand] = replace(self.gradients[operand], together=(*texts,))
            return function

        return register

    def vjps(self, *, kernel: str = "", **formulas: str) -> None:
        """Register the vjps of operands by formulas that are text and code at once."""
        parameters = dict.fromkeys(self.parameters, GIVEN)
        for operand, text in formulas.items():
            names = ("g", "y", *self.operands)
            self.vjp(operand, text, kernel=kernel)(
                named_formula(self.name, text, names, parameters)
            )

    def precisely(self, operand: str, text: str) -> Callable[[Function], Function]:
        """Register a formula that keeps the digits which torch's loses; as for `vjp`."""

        def register(function: Function) -> Function:
            names = self.operands, self.parameters, self.defaults
            self.precise[operand] = read_off(function, text, *names)
            return function

        return register

    def constant_in(self, *operands: str) -> None:
        """Register that operands get 0: the result does not change with their numbers."""
        for operand in operands:
            self.gradients[operand] = zero(self.operands.index(operand))
            self.kept.add("g")

    def keeps(self, index: int, results: int) -> bool:
        """Return whether some vjp may use the numbers of one result, by its index, of so many."""
        if results == 1:
            return "y" in self.kept or any(name.startswith("y[") for name in self.kept)
        return not self.kept.isdisjoint(("y", f"y[{index}]"))

    def definition(self, node: str = "") -> str:
        """Return one plain sentence that defines the autograd node, under a name that it has."""
        return f"{node or self.node} {self.meaning}."


@dataclass(frozen=True)
class Term:
    """An autograd node kind, or an operation, that no formula belongs to."""

    name: str
    meaning: str

    def definition(self, node: str = "") -> str:
        """Return one plain sentence that defines it, under a name that it has."""
        return f"{node or self.name} {self.meaning}."


ALWAYS, UNLESS_TWICE, IN_ORDER = "always", "unless twice", "in order"
OUT_OF_ORDER, IN_BACKWARD = "out of order", "in backward"

_RULES: dict[str, Rule] = {}
_BY_NODE: dict[str, Rule | Term] = {}


def rule(
    name: str,
    text: str,
    *,
    meaning: str = "",
    aliases: tuple[str, ...] = (),
    ignores: tuple[str, ...] = (),
    composite: bool | str = False,
    doubles: tuple[str, ...] = (),
    given: Mapping[str, int] | None = None,
    apart: Apart = "",
    sequential: bool = False,
    moves: bool = False,
    apart_for: Mapping[str, Apart] | None = None,
    node: str | None = None,
) -> Callable[[Callable[..., Any]], Rule]:
    """Enter a rule into the table.

    The parameters are the attributes of `Rule`. The name of the node follows from that of the
    operation where none is given; an operation without a meaning has no node.

    Raises
    ------
    RuleError
        If the formula is not ``y = ...``, an operation would have two rules, or an operand is
        called as what a vjp gets besides.
    """
    if not right_hand_side(text):
        raise RuleError(f"the formula of {name} is {text!r}: write it as 'y = ...'")

    def register(function: Callable[..., Any]) -> Rule:
        signature = list(inspect.signature(function).parameters.values())
        entered = Rule(
            name=name,
            text=text,
            function=function,
            operands=tuple(p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD),
            parameters=tuple(p.name for p in signature if p.kind is p.KEYWORD_ONLY),
            defaults={p.name: p.default for p in signature if p.default is not p.empty},
            node=(node_name(name) if node is None else node) if meaning else "",
            meaning=meaning,
            aliases=aliases,
            ignores=ignores,
            composite=composite,
            doubles=doubles,
            given=given or {},
            apart=apart,
            sequential=sequential,
            moves=moves,
            apart_for=apart_for or {},
        )
        reserved = {"g", "y"}.intersection(entered.operands)
        if reserved:
            raise RuleError(
                f"{name}: g is the cotangent and y the result, in its formulas and vjps: call the "
                f"operand {reserved.pop()!r} otherwise (operands go by their order)"
            )
        for op in (name, *aliases):
            if op in _RULES:
                raise RuleError(f"{op} has two rules")
        holder = _BY_NODE.get(entered.node)
        if isinstance(holder, Term) or (holder and holder.node == entered.node):
            raise RuleError(f"{entered.node} is defined twice")
        for op in (name, *aliases):
            _RULES[op] = entered
            if meaning:
                _BY_NODE.setdefault(node_name(op), entered)
        if entered.node:
            _BY_NODE[entered.node] = entered
        return entered

    return register


def right_hand_side(text: Any) -> str:
    """Return what a formula says y to be; nothing where it does not, or is no text."""
    said = re.fullmatch(r"\s*y\s*=(?!=)\s*(.*\S)\s*", str(text), re.DOTALL)
    return said[1] if said else ""


# The same as `rule`, for operations that work element by element, after broadcasting.
elementwise = functools.partial(rule, apart=ELEMENTWISE)


def forget(entered: Rule) -> None:
    """Take a rule out of the table again, under all its names."""
    for entries in (_RULES, _BY_NODE):
        for name in [name for name, entry in entries.items() if entry is entered]:
            del entries[name]


def term(name: str, meaning: str) -> None:
    """Define an autograd node that is no operation's."""
    if name in _BY_NODE:
        raise RuleError(f"{name} is defined twice")
    _BY_NODE[name] = Term(name, meaning)


def node_name(op: str) -> str:
    """Return the name, without number, of the node that torch derives from an operation's name."""
    library, _, name = op.rpartition(".")
    if library == "torchvision":
        # Registered from Python.
        return f"GeneratedBackwardFor_{library}_{name}_defaultBackward"
    words = name.strip("_").split("_")
    # As torchgen does it, down to Log1PBackward and to forward functions' own backwards.
    return ("".join(map(str.title, words)) + "Backward").replace("ForwardBackward", "Backward")


def find(op: str) -> Rule | None:
    """Return the rule of an operation (``aten.addmm``, overload or not), or None."""
    return _RULES.get(op) or _RULES.get(".".join(op.split(".")[:2]))


def find_node(name: str) -> Rule | Term | None:
    """Return what defines an autograd node (``AddmmBackward0``), or None."""
    return _BY_NODE.get(name) or _BY_NODE.get(re.sub(r"\d+(_copy)?$", "", name))


def table() -> Mapping[str, Rule]:
    """Return all rules by operation, aliases included."""
    return _RULES


def terms() -> list[Term]:
    """Return the definitions of nodes without a rule."""
    return [entry for entry in _BY_NODE.values() if isinstance(entry, Term)]
