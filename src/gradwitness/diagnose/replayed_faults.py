"""Replay a backward pass with mistakes at some of its nodes.

All other steps are linear in the gradient. So only the change is propagated, from the first mistake
on: gradients that a mistake leaves unchanged are not computed again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.alike import alike, places_of, together
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

    from gradwitness.diagnose.case import Case, Hypothesis
    from gradwitness.engine.replay import Instead, Replay
    from gradwitness.tape import Call, Node, Source, Tape

    Array: TypeAlias = NDArray[Any]
    Sent: TypeAlias = Sequence[Array | None]
    # From a visit to the gradients sent by mistake; None where this mistake cannot be made.
    Wrong: TypeAlias = Callable[["Visit"], Sent | None]


@dataclass(frozen=True)
class Site:
    """An operation's node, with everything that its gradients depend on."""

    node: Node
    call: Call
    op: str  # `aten.addmm`
    operands: dict[str, Any]  # by the rule's names: arrays, numbers, None or tuples
    numbers: dict[str, int]  # the value numbers of the operands that are tensors
    parameters: dict[str, Any]
    results: tuple[Any, ...]  # the call's results
    names: tuple[str, ...]  # the operand of each edge
    rule: Any

    @property
    def y(self) -> Any:
        """The first result."""
        return self.results[0]

    @property
    def place(self) -> str:
        """Module and line, if known."""
        return where(self.call.source, self.op)

    @property
    def constants(self) -> list[str]:
        """The operands whose gradients are not wanted."""
        return [n for n, edge in zip(self.names, self.node.edges, strict=True) if edge is None]

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
        vjp, values = self.rule.gradients[name], tuple(operands.values())
        gradient = run("the vjp", vjp, g, y, values, parameters)
        return np.asarray(unbroadcast(gradient, np.shape(self.operands[name])))


@dataclass(frozen=True)
class Visit:
    """The run of a site's node in a backward pass."""

    site: Site
    g: Any  # the cotangent of the first result
    sent: list[Any]  # the right gradients to send along the edges

    def sending(self, gradient: Any, edge: int = 0) -> list[Any]:
        """Return the gradients to send, with another one along one edge."""
        return [*self.sent[:edge], gradient, *self.sent[edge + 1 :]]

    def times(self, factor: float) -> list[Any]:
        """Return a multiple of the gradients to send."""
        return [None if s is None else factor * s for s in self.sent]

    def again(self, g: Any, **changed: Any) -> list[Any]:
        """Return the gradients to send for another cotangent, other operands or parameters."""
        return [
            None if s is None else self.site.vjp(name, g, **changed)
            for name, s in zip(self.site.names, self.sent, strict=True)
        ]


def aten(names: str) -> frozenset[str]:
    """Return the operations of these names."""
    return frozenset(f"aten.{name}" for name in names.split())


def where(source: Source, otherwise: str = "") -> str:
    """Return a module and line as text."""
    line = source.line.rpartition("/")[2]
    if source.module and line:
        return f"{source.module} ({line})"
    return source.module or line or otherwise


class Trial:
    """A case's backward pass, to be replayed with mistakes."""

    def __init__(self, case: Case, tape: Tape, replay: Replay) -> None:
        self.case, self.tape, self.replay = case, tape, replay
        self.sweep = tape.sweeps[case.sweep]
        self._record = recorded(tape)
        self.effort = Effort(alone=case.alone is not None)
        # Of a single function: what was tried at one step each, by the mistake.
        self._alike: dict[tuple[str, str, str], list[tuple[Site, Wrong]]] = defaultdict(list)

    @classmethod
    def of(cls, case: Case) -> Trial | None:
        """Return the trial of a case, or None if it has no backward pass."""
        if case.tape is None or case.replay is None or case.sweep >= len(case.tape.sweeps):
            return None
        return cls(case, case.tape, case.replay)

    @cached_property
    def suspects(self) -> frozenset[int]:
        """Nodes that may be at fault."""
        return suspects(self.case)[0]

    def lookup(self, number: int) -> Array:
        """Return a value of the forward pass."""
        value = self.replay.values.get(number)
        return self._record(number) if value is None else value

    def arriving(self, node: int, index: int = 0) -> Array | None:
        """Return the right cotangent of a node."""
        return self.replay.gradient(self.case.sweep, node, index)

    def sites(self, ops: Iterable[str] | None = None) -> Iterator[Site]:
        """Yield the nodes of some operations that the pass visits, from the loss on."""
        names = None if ops is None else frozenset(ops)
        for node_run in self.sweep.node_runs:
            node = self.tape.nodes[node_run.node]
            if node.kind != Kind.OPERATION or node.call is None:
                continue
            call = self.tape.calls[node.call]
            if names is not None and call.base_op not in names:
                continue
            if self.arriving(node.id) is None:
                continue
            site = self.site(call, node)
            if site is not None:
                yield site

    def site(self, call: Call, node: Node) -> Site | None:
        """Return a node as a site; None without a rule, or for complex numbers.

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

    def with_mistakes(self, mistakes: Iterable[tuple[Site, Wrong]]) -> dict[str, Array]:
        """Return the gradients that change if these sites make these mistakes.

        Empty if nothing would show, if it cannot be computed, or if it is a single site's mistake
        and the budget is exhausted.
        """
        instead = {site.node.id: self._mistaken(site, wrong) for site, wrong in mistakes}
        if len(instead) == 1 and self.gives_up(*instead):
            return {}
        self.effort.passed(len(self.sweep.node_runs))
        with np.errstate(all="ignore"):
            changes, lost = backward_pass(
                self.tape, self.case.sweep, self.replay.values, instead, self.effort
            )
        return {} if lost else self._outcome(changes)

    def explained(
        self,
        cause: str,
        text: str,
        mistakes: Iterable[tuple[Site, Wrong]],
        *,
        place: str = "",
        node: int | None = None,
        freedom: int = 0,
    ) -> Iterator[Explanation]:
        """Yield these mistakes as an explanation, if they would show."""
        made = list(mistakes)
        if self.case.alone and len(made) == 1 and place:
            self._alike[cause, made[0][0].op, text.replace(place, "{place}")] += made
        predicted = self.with_mistakes(made)
        if predicted:
            yield Explanation(
                cause, text, predicted, place=place, node=node, freedom=freedom, reveals=False
            )

    def repeated(self) -> Iterator[Explanation]:
        """Yield each mistake that was tried at one step of a function, at all steps like it."""
        for (cause, _, text), made in list(self._alike.items()):
            for group in alike(made):
                at = f"each of {len(group)} steps ({places_of(site for site, _ in group)})"
                yield from self.explained(
                    cause, text.replace("{place}", at), group, place=at, freedom=8
                )

    def gives_up(self, node: int | None) -> bool:
        """Whether the budget forbids trying a mistake at a single node, which is then noted."""
        if self.effort.exhausted:
            self.case.skipped.add(-1 if node is None else node)
        return self.effort.exhausted

    def _mistaken(self, site: Site, wrong: Wrong) -> Instead:
        arriving = [self.arriving(site.node.id, k) for k in range(len(site.results))]

        def send(change: list[Any]) -> Sent:
            padded = [*change, *[None] * (len(arriving) - len(change))]
            arrives = [_sum(a, b) for a, b in zip(arriving, padded, strict=True)]
            right = list(self._right(site, arriving))
            now = right if all(c is None for c in change) else list(self._right(site, arrives))
            sent = run("the mistake", wrong, Visit(site, arrives[0], list(now)))
            if sent is None:
                raise Unjudgeable("this mistake cannot be made here")
            return [_less(a, b) for a, b in zip(sent, right, strict=True)]

        return send

    def _right(self, site: Site, arrives: list[Any]) -> Sent:
        return gradients(self.tape, site.node, arrives, self.lookup, None)

    def _outcome(self, changes: Mapping[tuple[int, int], Any]) -> dict[str, Array]:
        """Add the changes at the leaves to the right gradients."""
        outcome = {}
        for node, leaf in self.tape.leaves():
            exhibit = self.case.exhibits.get(leaf.name)
            change = changes.get((node.id, 0))
            if exhibit is None or change is None or change.shape != exhibit.witness.shape:
                continue
            if np.any((np.abs(change) > exhibit.allowance) | np.isnan(change)):
                outcome[leaf.name] = exhibit.witness + change
        return outcome

    # Which call made a value, and from what.

    @cached_property
    def makers(self) -> dict[int, Call]:
        """The call that made each value, views included."""
        return {n: call for call in self.tape.calls for n in call.outputs if n is not None}

    def origin(self, number: int) -> int:
        """Follow views and copies back to the original value."""
        seen = set()
        while number in self.makers and number not in seen:
            seen.add(number)
            call = self.makers[number]
            if not call.is_view and call.base_op not in COPIES:
                break
            number = references(next(iter(call.arguments.values())))[0]
        return number

    def comes_from(self, number: int, ops: frozenset[str]) -> bool:
        """Whether a value was made by one of some operations, up to views and arithmetic."""
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
            waiting += call.operands
        return False


def on_replay(hypothesis: Callable[[Trial], Iterable[Explanation]]) -> Hypothesis:
    """Let a hypothesis about a backward pass explain a case; nothing, if none was recorded."""

    @wraps(hypothesis)
    def of_case(case: Case) -> Iterable[Explanation]:
        trial = Trial.of(case)
        if trial is not None:
            yield from hypothesis(trial)
            yield from trial.repeated()

    return of_case


COPIES = aten("clone _unsafe_view t view reshape detach")


def _sum(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _less(a: Any, b: Any) -> Any:
    """Return a difference, or None if it is zero: zeros would be propagated to every leaf."""
    if a is b:
        return None
    if a is None or b is None:
        return a if b is None else -b
    change = a - b
    return change if np.any(change) else None


@dataclass(frozen=True)
class Mistake:
    """A mistake that can be made at any node of some operations."""

    cause: str
    text: str  # what was done, with `{place}` for its location
    ops: frozenset[str]
    wrong: Wrong  # returns what such a node then sends


def explanations(trial: Trial, mistake: Mistake, sites: Sequence[Site]) -> Iterator[Explanation]:
    """Yield a mistake at each suspected site alone, and at all of them."""
    for site in sites:
        if site.node.id in trial.suspects:
            text, single = mistake.text.format(place=site.place), [(site, mistake.wrong)]
            yield from trial.explained(
                mistake.cause, text, single, place=site.place, node=site.node.id
            )
    for group in together([s for s in sites if _can(trial, s, mistake.wrong)]):
        places, mistakes = places_of(group), [(site, mistake.wrong) for site in group]
        text = mistake.text.format(place=f"each of {len(group)} steps ({places})")
        place = f"{len(group)} steps: {places}"
        yield from trial.explained(mistake.cause, text, mistakes, place=place)


def _can(trial: Trial, site: Site, wrong: Wrong) -> bool:
    """Whether a mistake can be made at a site."""
    arrives = [trial.arriving(site.node.id, k) for k in range(len(site.results))]
    try:
        with np.errstate(all="ignore"):
            expected = gradients(trial.tape, site.node, arrives, trial.lookup, None)
            visit = Visit(site, arrives[0], list(expected))
            return arrives[0] is not None and run("the mistake", wrong, visit) is not None
    except Unjudgeable:
        return False


def explained(case: Case, mistakes: Iterable[Mistake]) -> Iterator[Explanation]:
    """Yield every explanation of a case by one of some mistakes."""
    trial = Trial.of(case)
    if trial is None:
        return
    sites = list(trial.sites(frozenset().union(*(mistake.ops for mistake in mistakes))))
    for mistake in mistakes:
        yield from explanations(trial, mistake, [s for s in sites if s.op in mistake.ops])
