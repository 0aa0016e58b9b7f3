"""The backward of a custom function: judged by its own forward and the rules, else by slopes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleFailure, Unjudgeable
from gradwitness.engine.backward import gradients, sending
from gradwitness.engine.custom_forwards import connects, edge_value, handed_out, unseen_in
from gradwitness.engine.floats import SHORT, Arithmetic, is_inexact, unit_roundoff
from gradwitness.judging.comparing.compare import TOO_WIDE, Comparison
from gradwitness.judging.comparing.comparison import is_refuted, mismatch, settled_by, unjudged
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.accused import ITERATES, NORMWISE, Case
from gradwitness.judging.custom.approximations import within
from gradwitness.judging.custom.between_inputs import between_inputs
from gradwitness.judging.custom.declarations import Declared
from gradwitness.judging.custom.group_gradients import along_groups
from gradwitness.judging.custom.normwise import Judged, added_against, normwise
from gradwitness.judging.custom.recognition import advice as advice_on
from gradwitness.judging.custom.recorded_forward import (
    basis_rounded,
    computes_wide,
    iteration,
    rounds,
)
from gradwitness.judging.custom.unmeasured import Unmeasured
from gradwitness.judging.graph_queries import declared_as, same_operand
from gradwitness.rules.declarations import tolerance_of
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.rules.user_rules import own
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.judging.custom.outcome import Outcome
    from gradwitness.tape import Edge, Node, NodeRun, Tape


class CustomCheck:
    """Judges the node runs of custom functions.

    Parameters
    ----------
    tape : Tape
    records : Records
    functions : Functions or None
        Reruns them where no rule can differentiate them.
    """

    def __init__(self, tape: Tape, records: Records, functions: Functions | None) -> None:
        self._tape = tape
        self._records = records
        self.functions = functions
        self._declared = Declared(tape, records, functions)

    def expected(self, node: Node, node_run: NodeRun, wider: str = "") -> tuple[Any, ...]:
        """Return the gradients of the recorded forward by the rules, with normwise bounds.

        The derived bound belongs to the arrangement of the recorded forward. Another honest one
        loses digits relative to the largest entry, so every element is allowed the largest bound
        plus 4 roundings of the largest entry for each call of the forward, in the coarsest format
        that the forward used, or in a ``wider`` one. Sums are float32's at least, also those at
        places: what adds up thousands of numbers in 16 bits loses more than a rounding.

        Raises
        ------
        Unjudgeable
            If the rules cannot differentiate it.
        """
        dtype = self._records.coarsest([*node_run.incoming, *self._inner_outputs(node)])
        for number in node_run.incoming:
            if number is not None and not is_inexact(self._tape.values[number].dtype):
                raise Unjudgeable(f"a gradient of dtype {self._tape.values[number].dtype}")
        arithmetic = replace(Arithmetic.stepwise(wider or dtype), scatters_wide=True)
        incoming = [
            None if number is None else self._records.exact(number, arithmetic)
            for number in node_run.incoming
        ]
        declared = self._declared.gradients(node, incoming, arithmetic)
        try:
            results = gradients(self._tape, node, incoming, self._records, arithmetic)
        except Unjudgeable:
            if any(edge is not None and k not in declared for k, edge in enumerate(node.edges)):
                raise
            results = (None,) * len(node.edges)
        results = tuple(declared.get(input_nr, result) for input_nr, result in enumerate(results))
        return tuple(None if result is None else normwise(node, result) for result in results)

    def judge(
        self,
        node: Node,
        node_run: NodeRun,
        expected: tuple[Any, ...] | Unjudgeable,
        is_needed: Callable[[Edge], bool],
    ) -> Iterator[Judged]:
        """Judge what a node sent, as the program declared it.

        Parameters
        ----------
        node : Node
        node_run : NodeRun
        expected : tuple or Unjudgeable
            From `expected`, or the exception that it raised.
        is_needed : callable
            Whether the program asked for a gradient beyond an edge.
        """
        between: list[Judged] = []
        if isinstance(expected, Unjudgeable):
            run = (node, node_run)
            between = between_inputs(self._tape, run, self.expected, self._by_rules, is_needed)
        for judged in between or self._judge(node, node_run, expected, is_needed):
            settled = self._approximated(node, node_run, judged)
            yield replace(settled, advice=self._advice(node, node_run, expected, settled))

    def without_rule(
        self, node: Node, node_run: NodeRun, input_nr: int, why: Unjudgeable
    ) -> Judged:
        """Leave what a built-in operator without a rule sent to its slopes."""
        call = None if node.call is None else self._tape.calls[node.call]
        again = call is not None and call.base_op not in SOURCES and not call.writes
        if not again or not str(why).startswith("no rule for aten."):
            sent = node_run.outgoing[input_nr]
            array = None if sent is None else self._tape.values[sent].array
            return Judged(input_nr, unjudged(str(why), array), by_rules=False)
        input_nrs = same_operand(self._tape, node, input_nr)
        return self._accused(node, node_run, input_nrs, why, None, str(why), None)

    def _advice(self, node: Node, node_run: NodeRun, expected: Any, settled: Judged) -> str:
        if not settled.is_open and not is_refuted(settled.comparison):
            return ""
        k = settled.input_nr
        right = None if isinstance(expected, Unjudgeable) else expected[k]
        if right is None and not settled.is_open and settled.comparison.expected != 0:
            return ""
        numbers = None if right is None else np.asarray(right.value)
        return advice_on(self._tape, self._records, self.functions, node, node_run, k, numbers)

    def _judge(
        self,
        node: Node,
        node_run: NodeRun,
        expected: tuple[Any, ...] | Unjudgeable,
        is_needed: Callable[[Edge], bool],
    ) -> Iterator[Judged]:
        declared = self._declared.grades(node)
        for input_nr, edge in enumerate(node.edges):
            sent = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
            if edge is None or (sent is None and not is_needed(edge)):
                continue
            input_nrs = same_operand(self._tape, node, input_nr)
            if not declared.keys().isdisjoint(input_nrs):
                yield from self._as_declared(node, node_run, input_nr, expected, declared)
                continue
            if input_nrs[0] != input_nr:
                # The same tensor twice: only the sum of both gradients has a meaning.
                continue
            if isinstance(expected, RuleFailure) and self._has_own_rule(node):
                # Slopes would only hide that the rule needs mending.
                array = None if sent is None else self._tape.values[sent].array
                yield Judged(input_nr, unjudged(str(expected), array), by_rules=False)
                continue
            judged = self._judge_one(node, node_run, input_nrs, expected)
            if judged is not None:
                yield judged

    def _judge_one(
        self,
        node: Node,
        node_run: NodeRun,
        input_nrs: list[int],
        expected: tuple[Any, ...] | Unjudgeable,
    ) -> Judged | None:
        first, comparison = input_nrs[0], None
        if not isinstance(expected, Unjudgeable):
            comparison = self._by_rules(node, node_run, input_nrs, expected[first])
        operand = edge_value(self._tape, node.edges[first])
        if is_refuted(comparison) and operand is not None and self._tape.values[operand].sparse:
            open_ = unjudged("of a sparse tensor only what it names may count")
            return Judged(first, open_, by_rules=False)
        reason = self._why_not_by_rules(node, first, expected, comparison)
        if comparison is not None and comparison.verdict is Verdict.INCONCLUSIVE and not reason:
            return self._as_in_float32(node, node_run, input_nrs, comparison)
        if reason or is_refuted(comparison):
            plain = None if reason else comparison
            along = self._along_groups(node, node_run, input_nrs, plain)
            if along is not None and not is_refuted(along.comparison):
                return Judged(first, along.comparison, along.grade, False, along)
            return self._accused(node, node_run, input_nrs, expected, comparison, reason, along)
        return None if comparison is None else Judged(first, comparison)

    def _approximated(self, node: Node, node_run: NodeRun, judged: Judged) -> Judged:
        """Return a judgement in which an error within the tolerance that was declared is none."""
        number, tolerance = node_run.outgoing[judged.input_nr], self._tolerance(node)
        if number is None or not tolerance:
            return judged
        scale = largest(self._records(number))
        c, grade = within(judged.comparison, judged.grade, tolerance, scale)
        if c is judged.comparison:
            return judged
        # What was sent is right enough, and carried on as it is.
        return replace(judged, comparison=c, grade=grade, by_rules=False, case=None)

    def _tolerance(self, node: Node) -> float:
        return tolerance_of(declared_as(self._tape, node, self.functions))

    def _why_not_by_rules(
        self,
        node: Node,
        input_nr: int,
        expected: tuple[Any, ...] | Unjudgeable,
        comparison: Comparison | None,
    ) -> str:
        """Return why the rules cannot judge what was sent to an input, or an empty string."""
        if isinstance(expected, Unjudgeable):
            return str(expected)
        exit_call = handed_out(self._tape, node)
        if exit_call is not None:
            return f"its forward leaves torch ({exit_call.op})"
        if is_refuted(comparison) and not connects(self._tape, node, input_nr):
            return "no recorded operation leads from this input to an output"
        if comparison is not None and comparison.verdict is Verdict.INCONCLUSIVE:
            if iteration(self._tape, node, self._records) is not None:
                return f"{ITERATES}, which the rules cannot bound"
            # Slopes in float64 need no bound, but tell no more of 16 bits.
            dtype = self._records.coarsest([*self._inner_outputs(node)])
            if unit_roundoff(dtype) <= unit_roundoff("float32"):
                return comparison.reason if comparison.reason.startswith(TOO_WIDE) else ""
        return ""

    def _has_own_rule(self, node: Node) -> bool:
        """Whether a node is that of an operator for which the program brought a rule."""
        return len(node.inner) == 1 and self._tape.calls[node.inner[0]].base_op in own()

    def _as_declared(
        self,
        node: Node,
        node_run: NodeRun,
        input_nr: int,
        expected: tuple[Any, ...] | Unjudgeable,
        declared: Mapping[int, str],
    ) -> Iterator[Judged]:
        """Judge an input of a tensor for which a gradient was declared."""
        number = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
        grade = declared.get(input_nr, NORMWISE)
        reason = str(expected) if isinstance(expected, Unjudgeable) else ""
        if input_nr not in declared:
            reason = "a tensor is passed in twice, and only one of its gradients is declared"
        if reason or isinstance(expected, Unjudgeable):
            array = None if number is None else self._tape.values[number].array
            yield Judged(input_nr, unjudged(reason, array), grade)
            return
        comparison = self._by_rules(node, node_run, [input_nr], expected[input_nr])
        if comparison is not None:
            yield Judged(input_nr, comparison, grade)

    def _by_rules(
        self, node: Node, node_run: NodeRun, input_nrs: list[int], expected: Any, dtype: str = ""
    ) -> Comparison | None:
        numbers = [
            n for n in (node_run.outgoing[input_nr] for input_nr in input_nrs) if n is not None
        ]
        if not numbers:
            # An undefined gradient stands for zeros.
            if expected is None or not expected.value.any():
                return None
            value = np.asarray(expected.value)
            return mismatch("no gradient where a non-zero one is expected", value)
        if expected is None:
            # Zeros, in the shape that the function chose.
            expected = np.zeros(self._tape.values[numbers[0]].shape)
        comparison = added_against(self._tape, self._records, numbers, expected, dtype=dtype)
        first = input_nrs[0]
        alone = sending(node, {first})
        return settled_by(comparison, lambda: self._records.sent_sizes(alone, node_run)[first])

    def _as_in_float32(
        self, node: Node, node_run: NodeRun, input_nrs: list[int], coarse: Comparison
    ) -> Judged:
        """Judge what is too coarse in 16 bits as if all but the arguments were float32.

        What agrees was computed so. What does not is rounded in between, or wrong: unless its
        slopes refute it, the coarse comparison stands.
        """
        first = input_nrs[0]
        numbers = [n for n in (node_run.outgoing[k] for k in input_nrs) if n is not None]
        stands = Judged(first, coarse)
        dtype = self._records.shortest(numbers)
        if dtype not in SHORT.values():
            return stands
        try:
            expected = self.expected(node, node_run, "float32")
        except Unjudgeable:
            return stands
        comparison = self._by_rules(node, node_run, input_nrs, expected[first], dtype)
        if comparison is not None and comparison.verdict is Verdict.AGREES:
            return Judged(first, comparison, reference=expected[first])
        if comparison is None or not is_refuted(comparison):
            return stands
        accused = self._accused(node, node_run, input_nrs, expected, comparison, "", None)
        case = accused.case
        if isinstance(case, Case):
            roundings = 2 if computes_wide(self._tape, node) else case.roundings
            case = replace(case, otherwise=coarse, roundings=roundings)
        return replace(accused, comparison=coarse, case=case)

    def _along_groups(
        self, node: Node, node_run: NodeRun, input_nrs: list[int], plain: Comparison | None
    ) -> Outcome | None:
        """Judge what the rules refute as a gradient along a Lie group, by the rules too."""
        sent = [n for n in (node_run.outgoing[k] for k in input_nrs) if n is not None]
        if not sent or plain is None or unseen_in(self._tape, node, node_run):
            return None
        along = along_groups(
            self._tape,
            self._records,
            (node, node_run, input_nrs[0]),
            sent,
            self._declared.retracts(node, input_nrs[0]),
            lambda expected, beside: added_against(
                self._tape, self._records, sent, normwise(node, expected), beside
            ),
        )
        scale = max(largest(self._records(n)) for n in sent)
        return along and along.within(self._tolerance(node), scale, plain)

    def _accused(
        self,
        node: Node,
        node_run: NodeRun,
        input_nrs: list[int],
        expected: tuple[Any, ...] | Unjudgeable,
        by_rules: Comparison | None,
        reason: str,
        along: Outcome | None,
    ) -> Judged:
        """Leave what the rules refute, or cannot judge, to the function's slopes."""
        first = input_nrs[0]
        sent = [n for n in (node_run.outgoing[k] for k in input_nrs) if n is not None]
        array = self._tape.values[sent[0]].array if sent else None
        unseen = unseen_in(self._tape, node, node_run)
        if unseen:
            return Judged(first, unjudged(unseen, array), by_rules=False)
        tried = "" if along is None else f"; nor is it right {along.kinds}"
        if by_rules is not None and along is not None and along.is_nearer(by_rules):
            by_rules, tried = along.comparison, f"{tried}, to which it comes nearest"
        loop = iteration(self._tape, node, self._records)
        steps = loop is None and rounds(self._tape, node, first)
        unlike = by_rules is not None and by_rules.index is None and bool(sent)
        if by_rules is not None and not reason and (unlike or steps):
            # Of another shape or kind, or a step function: no slope could support it.
            return Judged(first, by_rules, NORMWISE + tried)
        if self.functions is None:
            at = edge_value(self._tape, node.edges[first], node)
            claim = Unmeasured(at, sent, array, reason, loop is not None, tried)
            return claim.judged(self._records, first, expected, by_rules)
        stands = by_rules if by_rules is not None and not reason else unjudged(reason, array)
        try:
            operand = self.functions.operands(node.id)[first]
            numbers = [operand, *node_run.incoming, *sent, *node.outputs]
            again = self.functions.again(node.id, numbers)
        except Unjudgeable as failure:
            if not reason and loop is None:
                return Judged(first, stands, NORMWISE + tried)
            said = f"{reason or ITERATES}; {failure}"
            return Judged(first, unjudged(said, array), by_rules=False)
        rule = None if isinstance(expected, Unjudgeable) or reason else expected[first]
        by_record = None if rule is None else np.asarray(rule.value)
        if rule is None and loop is not None and array is not None and not reason:
            # By comparisons alone, as a bisection: the derivative of the record is 0.
            by_record = np.zeros(array.shape)
        constants = f"{reason}: right only if the numbers that come back are constants"
        case = Case(
            again=again,
            operand=operand,
            incoming=node_run.incoming,
            sent=sent,
            outputs=node.outputs,
            reason=reason,
            by_rules=by_rules,
            expected=by_record,
            iteration=loop,
            constants=constants if reason.startswith("its forward leaves torch") else "",
            tolerance=self._tolerance(node),
            owner=(declared_as(self._tape, node, self.functions), first),
            retracts=self._declared.retracts(node, first),
            tried=tried,
            rounded=basis_rounded(self._tape, node),
        )
        return Judged(first, stands, NORMWISE if not reason else "", by_rules=not reason, case=case)

    def _inner_outputs(self, node: Node) -> Iterator[int | None]:
        for call in node.inner:
            yield from self._tape.calls[call].outputs
