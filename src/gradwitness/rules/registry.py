"""The table of rules, and how a rule is written.

A rule is a function of arrays (positional) and parameters (keyword-only, named as in the ATen
schema), with its formula as text beside it, and one vjp for each differentiable operand::

    @rule("aten.mul", "y = a * b", meaning="multiplies the gradient by the other factor")
    def mul(a, b):
        return a * b

    @mul.vjp("a", "g * b")
    def _(g, y, a, b):
        return g * b

It never broadcasts back, casts, accumulates or logs: the engine does. ``y`` is the recorded result.
An operation with several results gets ``g`` and ``y`` as tuples; an operand that is a list of
tensors gets a list back. A function that goes on in steps may have a keyword ``made``: None, or the
recorded results, and then each step starts from the recorded one before; a keyword ``memory`` gets
the place in memory of each element of the first operand, or None if they fill it in order; a
keyword ``in_parts`` is whether the recorded kernel stored partial sums (see `convolution`).
Overloads, in-place forms and aliases of an operation share its rule.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# An ndarray, or what the engine's dispatch puts in its place (Bounded, a CuPy array): every
# object that obeys NEP 13 and NEP 18.
Array: TypeAlias = Any

# Letters of axes, or what gives them from the operands' shapes and the parameters.
Apart: TypeAlias = "str | Callable[[Mapping[str, tuple[int, ...]], Mapping[str, Any]], str]"
# Of operations whose every element depends on one of each operand, which are broadcast.
ELEMENTWISE = "elementwise"


@dataclass(frozen=True)
class Gradient:
    """The vjp with respect to one operand.

    Attributes
    ----------
    text : str
        Its formula over g, y, operands.
    function : callable
    reads : frozenset of str
        Those of its arguments whose numbers its code may use.
    """

    text: str
    function: Callable[..., Array]
    reads: frozenset[str]


@dataclass(frozen=True)
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
    composite : bool
        Whether torch rounds to the tensor's format at every step, and not only at the end.
    doubles : tuple of str
        Parameters that are numbers which torch keeps in double precision.
    given : dict
        Parameters that are results, taken as they were recorded: their places by name.
    apart : str or callable
        Along which axes it may be computed piece by piece, see `engine.tiling`: letters of the
        axes of operands and results, or a function of the operands' shapes and the parameters that
        returns them. Empty where it may not.
    moves : bool
        Whether what it computes along such axes may come through unrounded, as numbers that are
        only moved do. (What is computed element by element always may.)
    gradients : dict
        By operand name; an operand that is absent here is not differentiable.
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
    composite: bool = False
    doubles: tuple[str, ...] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    apart: Apart = ""
    moves: bool = False
    gradients: dict[str, Gradient] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def vjp(self, operand: str, text: str) -> Callable[[Callable[..., Array]], None]:
        """Register the vjp of one operand; ``text`` is its formula without the left-hand side."""
        if operand not in self.operands or operand in self.gradients:
            raise RuleError(f"{self.name}: {operand!r} is no operand, or has its vjp already")

        def register(function: Callable[..., Array]) -> None:
            signature = inspect.signature(function)
            named = dict.fromkeys(self.parameters)
            try:
                signature.bind(*("g", "y", *self.operands), **named)
            except TypeError as error:
                keywords = f", *, {', '.join(named)}" if named else ""
                raise RuleError(
                    f"{self.name}: the vjp of {operand!r} takes {signature} where "
                    f"({', '.join(('g', 'y', *self.operands))}{keywords}) is wanted: {error}"
                ) from None
            names = ("g", "y", *self.operands)
            used = reads(function, names)
            self.gradients[operand] = Gradient(text, function, used)
            self.kept.update(used)

        return register

    def keeps(self, place: int, results: int) -> bool:
        """Return whether some vjp may use the numbers of the result at a place, of so many."""
        if results == 1:
            return any(name == "y" or name.startswith("y[") for name in self.kept)
        return not self.kept.isdisjoint(("y", f"y[{place}]"))

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


_RULES: dict[str, Rule] = {}
_BY_NODE: dict[str, Rule | Term] = {}


def rule(
    name: str,
    text: str,
    *,
    meaning: str = "",
    aliases: tuple[str, ...] = (),
    ignores: tuple[str, ...] = (),
    composite: bool = False,
    doubles: tuple[str, ...] = (),
    given: Mapping[str, int] | None = None,
    apart: Apart = "",
    moves: bool = False,
    node: str | None = None,
) -> Callable[[Callable[..., Any]], Rule]:
    """Enter a rule into the table.

    Parameters
    ----------
    name : str
        The operation, ``aten.addmm``.
    text : str
        Its formula, ``y = ...``.
    meaning : str
        What its autograd node does to the gradient; empty for an operation without a node.
    aliases : tuple of str
        Other operations that compute the same.
    ignores : tuple of str
        Schema arguments that do not change the result's numbers.
    composite : bool
        Whether torch rounds to the tensor's format at every step, and not only at the end.
    doubles : tuple of str
        Parameters that are numbers which torch keeps in double precision.
    given : mapping, optional
        Parameters that are results, taken as they were recorded: their places by name.
    apart : str or callable
        Along which axes it may be computed piece by piece, see `Rule`.
    moves : bool
        Whether what is computed along such axes may come through unrounded.
    node : str, optional
        The node's name without number, where it does not follow from the operation's.

    Raises
    ------
    RuleError
        If an operation would have two rules.
    """

    def register(function: Callable[..., Any]) -> Rule:
        signature = list(inspect.signature(function).parameters.values())
        made = Rule(
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
            moves=moves,
        )
        for each in (name, *aliases):
            if each in _RULES:
                raise RuleError(f"{each} has two rules")
        holder = _BY_NODE.get(made.node)
        if isinstance(holder, Term) or (holder and holder.node == made.node):
            raise RuleError(f"{made.node} is defined twice")
        for each in (name, *aliases):
            _RULES[each] = made
            if meaning:
                _BY_NODE.setdefault(node_name(each), made)
        if made.node:
            _BY_NODE[made.node] = made
        return made

    return register


# The same, for operations that work element by element, after broadcasting.
elementwise = functools.partial(rule, apart=ELEMENTWISE)


# What can be asked of an array that has no numbers.
_OF_SHAPE = frozenset({"shape", "ndim", "size"})


def reads(function: Callable[..., Any], names: tuple[str, ...]) -> frozenset[str]:
    """Return which positional arguments a function uses for more than their shape.

    Parameters
    ----------
    function : callable
    names : tuple of str
        What the arguments are called here, whatever the function calls them.
    """
    code = inspect.unwrap(function).__code__
    own = code.co_varnames[: code.co_argcount]
    if code.co_flags & inspect.CO_VARARGS:
        # Those that it takes together are used together.
        together = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        own += (together,) * (len(names) - len(own))
    used: set[str] = set()
    single: set[str] = set()
    steps = list(dis.get_instructions(code))
    for step, following, then in itertools.zip_longest(steps, steps[1:], steps[2:]):
        mentioned = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if step.opname in ("STORE_FAST", "DELETE_FAST"):
            continue
        # Of two that are loaded at once, only the last one is asked for its shape, or for a place.
        if following and following.opname == "LOAD_ATTR" and following.argval in _OF_SHAPE:
            mentioned = mentioned[:-1]
        elif mentioned[-1:] == own[1:2] != own[2:3] and _takes_one(following, then):
            single.add(f"{names[1]}[{following.argval}]")
            mentioned = mentioned[:-1]
        used.update(word for word in mentioned if isinstance(word, str))
    whole = frozenset(name for name, word in zip(names, own, strict=True) if word in used)
    return whole if names[1] in whole else whole | single


def _takes_one(loaded: dis.Instruction | None, then: dis.Instruction | None) -> bool:
    """Whether two instructions take, of what was loaded before, the item at a fixed place."""
    place = loaded and loaded.opname in ("LOAD_CONST", "LOAD_SMALL_INT") and loaded.argval
    subscript = then and (then.opname == "BINARY_SUBSCR" or then.argrepr == "[]")
    return type(place) is int and place >= 0 and bool(subscript)


def forget(made: Rule) -> None:
    """Take a rule out of the table again, under all its names."""
    for entries in (_RULES, _BY_NODE):
        for name in [name for name, entry in entries.items() if entry is made]:
            del entries[name]


def term(name: str, meaning: str) -> None:
    """Define an autograd node that is no operation's."""
    if name in _BY_NODE:
        raise RuleError(f"{name} is defined twice")
    _BY_NODE[name] = Term(name, meaning)


def node_name(op: str) -> str:
    """Return the name, without number, of the node that torch derives from an operation's name."""
    words = op.rpartition(".")[2].strip("_").split("_")
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
