"""A backward pass in which some nodes send what they should not, and what would come of it.

Every step but those is linear in the gradient, so only the change is carried, from the first wrong
node on: what a fault leaves alone is not computed again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.budget import Effort
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.suspects import suspects
from gradwitness.engine.backward import gradients, unbroadcast
from gradwitness.engine.binding import bind, over_complex, recorded
from gradwitness.engine.forward import run
from gradwitness.engine.replay import backward_pass
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import Kind, Ref, references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.engine.replay import Instead, Replay
    from gradwitness.tape import Call, Node, Source, Tape

    Array: TypeAlias = NDArray[Any]
    Sent: TypeAlias = Sequence[Array | None]
    # From a site's turn to what it sends by mistake; None where this mistake cannot be made here.
    Wrong: TypeAlias = Callable[["Visit"], Sent | None]


@dataclass(frozen=True)
class Site:
    """One operation's node, with all that its gradients are made of.

    Attributes
    ----------
    node : Node
    call : Call
    op : str
        ``aten.addmm``.
    operands : dict
        By the rule's names: arrays, numbers, None or tuples.
    numbers : dict of str to int
        The values that are the operands, where they are tensors.
    parameters : dict
    results : tuple of (ndarray or None)
        What the call made.
    names : tuple of str
        The operand of each edge.
    rule : Rule
    """

    node: Node
    call: Call
    op: str
    operands: dict[str, Any]
    numbers: dict[str, int]
    parameters: dict[str, Any]
    results: tuple[Any, ...]
    names: tuple[str, ...]
    rule: Any

    @property
    def y(self) -> Any:
        """The first result."""
        return self.results[0]

    @property
    def place(self) -> str:
        """Module and line, as far as they are known."""
        return where(self.call.source, self.op)

    def edge(self, name: str) -> int | None:
        """Return the edge of an operand, if its gradient is wanted."""
        if name not in self.names:
            return None
        edge = self.names.index(name)
        return None if self.node.edges[edge] is None else edge

    def vjp(self, name: str, g: Any, **changed: Any) -> Array:
        """Apply the rule's formula for one operand, with other operands or parameters."""
        operands = {**self.operands, **{k: v for k, v in changed.items() if k in self.operands}}
        parameters = {
            **self.parameters,
            **{k: v for k, v in changed.items() if k in self.parameters},
        }
        y = changed.get("y", self.results if len(self.results) > 1 else self.y)
        g = (g, *(None for _ in self.results[1:])) if len(self.results) > 1 else g
        gradient = self.rule.gradients[name]
        made = run("the vjp", gradient, g, y, tuple(operands.values()), parameters)
        return np.asarray(unbroadcast(made, np.shape(self.operands[name])))


@dataclass(frozen=True)
class Visit:
    """A site's turn in a backward pass.

    Attributes
    ----------
    site : Site
    g : ndarray
        The gradient that arrives, of the first result.
    sent : list of (ndarray or None)
        What it should send along each edge.
    """

    site: Site
    g: Any
    sent: list[Any]

    def sending(self, made: Any, edge: int = 0) -> list[Any]:
        """Return what it sends if that is something else along one edge."""
        return [*self.sent[:edge], made, *self.sent[edge + 1 :]]


def where(source: Source, otherwise: str = "") -> str:
    """Return a module and a line as one would say them."""
    line = source.line.rpartition("/")[2]
    if source.module and line:
        return f"{source.module} ({line})"
    return source.module or line or otherwise


class Trial:
    """A case's backward pass, to be played with mistakes.

    Parameters
    ----------
    case : Case
        With a tape and a replay.
    """

    def __init__(self, case: Case, tape: Tape, replay: Replay) -> None:
        self.case, self.tape, self.replay = case, tape, replay
        self.sweep = tape.sweeps[case.sweep]
        self._record = recorded(tape)
        self.effort = Effort()

    @classmethod
    def of(cls, case: Case) -> Trial | None:
        """Return the trial of a case, or None where there is no backward pass to play."""
        if case.tape is None or case.replay is None or case.sweep >= len(case.tape.sweeps):
            return None
        return cls(case, case.tape, case.replay)

    @cached_property
    def suspects(self) -> frozenset[int]:
        """Nodes that may be at fault."""
        return suspects(self.case)[0]

    def lookup(self, number: int) -> Array:
        """Return a forward value's numbers."""
        known = self.replay.values.get(number)
        return self._record(number) if known is None else known

    def arriving(self, node: int, index: int = 0) -> Array | None:
        """Return the right gradient that arrives at a node."""
        return self.replay.gradient(self.case.sweep, node, index)

    def sites(self, ops: Iterable[str] | None = None) -> Iterator[Site]:
        """Yield the nodes of some operations through which the pass goes, from the loss on."""
        chosen = None if ops is None else frozenset(ops)
        for node_run in self.sweep.node_runs:
            node = self.tape.nodes[node_run.node]
            if node.kind != Kind.OPERATION or node.call is None:
                continue
            call = self.tape.calls[node.call]
            if chosen is not None and call.base_op not in chosen:
                continue
            if self.arriving(node.id) is None:
                continue
            site = self.site(call, node)
            if site is not None:
                yield site

    def site(self, call: Call, node: Node) -> Site | None:
        """Return a node as a site; None where the rules do not cover it, or of complex numbers.

        The mistakes are those of real formulas.
        """
        if over_complex(self.tape, call):
            return None
        try:
            bound = bind(self.tape, call, self.lookup, arithmetic=None)
            results = tuple(None if n is None else self.lookup(n) for n in call.outputs)
        except Unjudgeable:
            return None
        input_nrs = bound.inputs()
        if len(input_nrs) != len(node.edges):
            return None
        pairs = zip(bound.rule.operands, bound.arguments, strict=True)
        return Site(
            node,
            call,
            call.base_op,
            dict(zip(bound.rule.operands, bound.operands, strict=True)),
            {name: a.value for name, a in pairs if isinstance(a, Ref)},
            bound.parameters,
            results,
            tuple(name for name, _, _ in input_nrs),
            bound.rule,
        )

    def with_faults(self, faults: Iterable[tuple[Site, Wrong]]) -> dict[str, Array]:
        """Return the gradients that come out differently if these sites make these mistakes.

        Empty if nothing would show, if it cannot be told, or if it is a single site's and enough
        has been tried.
        """
        instead = {site.node.id: self._mistaken(site, wrong) for site, wrong in faults}
        if len(instead) == 1 and self.gives_up(*instead):
            return {}
        self.effort.passed(len(self.sweep.node_runs))
        with np.errstate(all="ignore"):
            changes, lost = backward_pass(
                self.tape, self.case.sweep, self.replay.values, instead, self.effort
            )
        return {} if lost else self._outcome(changes)

    def gives_up(self, node: int | None) -> bool:
        """Whether a mistake at a single place is not tried: enough has been. It is kept in mind."""
        if self.effort.exhausted:
            self.case.skipped.add(-1 if node is None else node)
        return self.effort.exhausted

    def _mistaken(self, site: Site, wrong: Wrong) -> Instead:
        before = [self.arriving(site.node.id, k) for k in range(len(site.results))]

        def send(change: list[Any]) -> Sent:
            padded = [*change, *[None] * (len(before) - len(change))]
            arrives = [_sum(a, b) for a, b in zip(before, padded, strict=True)]
            right = list(self._right(site, before))
            now = right if all(c is None for c in change) else list(self._right(site, arrives))
            made = run("the mistake", wrong, Visit(site, arrives[0], list(now)))
            if made is None:
                raise Unjudgeable("this mistake cannot be made here")
            return [_less(a, b) for a, b in zip(made, right, strict=True)]

        return send

    def _right(self, site: Site, arrives: list[Any]) -> Sent:
        return gradients(self.tape, site.node, arrives, self.lookup, None)

    def _outcome(self, changes: Mapping[tuple[int, int], Any]) -> dict[str, Array]:
        """Add the changes that arrive at the leaves to the gradients of the case."""
        found = {}
        for node, leaf in self.tape.leaves():
            exhibit = self.case.exhibits.get(leaf.name)
            change = changes.get((node.id, 0))
            if exhibit is None or change is None or change.shape != exhibit.witness.shape:
                continue
            if np.any((np.abs(change) > exhibit.allowance) | np.isnan(change)):
                found[leaf.name] = exhibit.witness + change
        return found

    # Who made a value, and of what.

    @cached_property
    def makers(self) -> dict[int, Call]:
        """The call that made each value, views included."""
        return {n: call for call in self.tape.calls for n in call.outputs if n is not None}

    def origin(self, number: int) -> int:
        """Return what a value is a mere view or copy of."""
        seen = set()
        while number in self.makers and number not in seen:
            seen.add(number)
            call = self.makers[number]
            if not call.is_view and call.base_op not in COPIES:
                break
            number = next(references(next(iter(call.arguments.values()))))
        return number

    def comes_from(self, number: int, ops: frozenset[str]) -> bool:
        """Whether a value was made by one of some operations, behind views and arithmetic."""
        waiting, seen = [number], set()
        while waiting:
            value = self.origin(waiting.pop())
            call = self.makers.get(value)
            if call is None or value in seen:
                continue
            seen.add(value)
            if call.base_op in ops:
                return True
            if call.base_op in SOURCES or call.node is not None:
                continue
            waiting += [n for a in call.arguments.values() for n in references(a)]
        return False


COPIES = frozenset(
    {"aten.clone", "aten._unsafe_view", "aten.t", "aten.view", "aten.reshape", "aten.detach"}
)


def _sum(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _less(a: Any, b: Any) -> Any:
    """Return a difference, None where there is none: zeros would be carried to every leaf."""
    if a is b:
        return None
    if a is None or b is None:
        return a if b is None else -b
    change = a - b
    return change if np.any(change) else None


@dataclass(frozen=True)
class Fault:
    """A mistake that can be made at any node of some operations.

    Attributes
    ----------
    cause : str
        Short name.
    text : str
        What was done, with ``{place}`` where the place belongs.
    ops : frozenset of str
    wrong : callable
        What such a node sends then; see `Wrong`.
    """

    cause: str
    text: str
    ops: frozenset[str]
    wrong: Wrong


def explanations(trial: Trial, fault: Fault, sites: Sequence[Site]) -> Iterator[Explanation]:
    """Yield a fault at each suspected site alone, and at all of them."""
    for site in sites:
        if site.node.id in trial.suspects:
            predicted = trial.with_faults([(site, fault.wrong)])
            if predicted:
                text = fault.text.format(place=site.place)
                yield Explanation(
                    fault.cause, text, predicted, place=site.place, node=site.node.id, reveals=False
                )
    for many in _together([s for s in sites if _can(trial, s, fault.wrong)]):
        predicted = trial.with_faults([(site, fault.wrong) for site in many])
        if predicted:
            places = list(dict.fromkeys(site.place for site in many))
            shown = ", ".join(places[:4]) + (", ..." if len(places) > 4 else "")
            text = fault.text.format(place=f"each of {len(many)} steps ({shown})")
            yield Explanation(
                fault.cause, text, predicted, place=f"{len(many)} steps: {shown}", reveals=False
            )


def _together(sites: Sequence[Site]) -> list[Sequence[Site]]:
    """Return sets of sites that one mistake may have been made at: all, a kind, a repeated line."""
    groups: dict[tuple[str, str], list[Site]] = defaultdict(list)
    for site in sites:
        groups["", ""].append(site)
        groups[site.op, ""].append(site)
        groups[site.op, site.place].append(site)
    several = {tuple(s.node.id for s in g): g for g in groups.values() if len(g) > 1}
    return list(several.values())


def _can(trial: Trial, site: Site, wrong: Wrong) -> bool:
    """Whether a fault can be made at a site."""
    arrives = [trial.arriving(site.node.id, k) for k in range(len(site.results))]
    try:
        with np.errstate(all="ignore"):
            right = gradients(trial.tape, site.node, arrives, trial.lookup, None)
            made = arrives[0] is not None and run(
                "the mistake", wrong, Visit(site, arrives[0], list(right))
            )
    except Unjudgeable:
        return False
    return made is not None and made is not False


def explained(case: Case, faults: Iterable[Fault]) -> Iterator[Explanation]:
    """Yield every explanation of a case by one of some faults."""
    trial = Trial.of(case)
    if trial is None:
        return
    sites = list(trial.sites(frozenset().union(*(fault.ops for fault in faults))))
    for fault in faults:
        yield from explanations(trial, fault, [s for s in sites if s.op in fault.ops])
