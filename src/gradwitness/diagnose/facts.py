"""Facts apart from the gradients: sizes, weights, gradients of other backward passes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.factor_names import MISSING_TWO
from gradwitness.diagnose.hypotheses.losses import LIKELIHOODS
from gradwitness.engine.floats import is_float
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.tape import Call, Tape

_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "convolution", "embedding")
_LIKELIHOODS = LIKELIHOODS | {"aten.binary_cross_entropy", "aten.binary_cross_entropy_with_logits"}
_ROOTED = ("cdist", "std")
_SQUARES = ("cdist", "huber_loss", "mse_loss", "pow", "smooth_l1_loss", "std", "var", "var_mean")


@dataclass(frozen=True)
class Facts:
    """Facts about a case, for the hypotheses."""

    case: Case

    @cached_property
    def leaves(self) -> Mapping[str, int]:
        """The accumulator of each parameter with a claimed gradient."""
        tape = self.case.tape
        if tape is None:
            return {}
        return {v.name: n.id for n, v in tape.leaves() if v.name in self.case.exhibits}

    @cached_property
    def weights(self) -> Mapping[str, NDArray[np.float64]]:
        """The recorded values of the parameters."""
        tape = self.case.tape
        if tape is None:
            return {}
        return {
            v.name: v.array.astype(np.float64)
            for _, v in tape.leaves()
            if v.name in self.case.exhibits and v.array is not None and is_float(v.dtype)
        }

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The tensors in the order of the backward pass, nearest to the loss first."""
        return self.order_from(None)

    def order_from(self, node: int | None) -> tuple[str, ...]:
        """Return the tensors in the order of the backward pass, from a node on.

        A weight used on both sides of the node counts by its use behind it.
        """
        names = tuple(self.case.exhibits)[::-1]
        tape = self.case.tape
        if tape is None or self.case.sweep >= len(tape.sweeps):
            return names
        node_runs = tape.sweeps[self.case.sweep].node_runs
        start = next((index for index, f in enumerate(node_runs) if f.node == node), 0)
        reached: dict[int, int] = {}
        for index, node_run in enumerate(node_runs):
            for edge in tape.nodes[node_run.node].edges if index >= start else ():
                if edge is not None:
                    reached.setdefault(edge.node, index)
        last = len(node_runs) + len(tape.nodes)
        return tuple(sorted(names, key=lambda name: reached.get(self.leaves.get(name, -1), last)))

    def other_sweeps(self) -> list[tuple[int, dict[str, NDArray[np.float64]]]]:
        """Return the gradients of the tape's other backward passes, by number."""
        tape, replay = self.case.tape, self.case.replay
        if tape is None or replay is None:
            return []
        sweeps = []
        for number in range(len(tape.sweeps)):
            gradients = {name: replay.gradient(number, node) for name, node in self.leaves.items()}
            present = {name: g for name, g in gradients.items() if g is not None}
            if number != self.case.sweep and present:
                sweeps.append((number, present))
        return sweeps

    def cotangent(self, name: str) -> NDArray[np.float64] | None:
        """Return the cotangent of the only operation that uses a parameter."""
        tape, replay = self.case.tape, self.case.replay
        leaf = self.leaves.get(name)
        if tape is None or replay is None or leaf is None:
            return None
        users = [n.id for n in tape.nodes if any(e and e.node == leaf for e in n.edges)]
        if len(users) != 1 or tape.nodes[users[0]].kind != Kind.OPERATION:
            return None
        return replay.gradient(self.case.sweep, users[0])

    @cached_property
    def counts(self) -> Mapping[float, str]:
        """Counts that gradients may wrongly be divided by, with their units."""
        tape = self.case.tape
        if tape is None:
            return {}
        counts: dict[float, str] = {}
        if self.case.alone is not None:
            return self._lengths(tape)
        batches: Counter[int] = Counter()
        for call in tape.calls:
            if call.during is not None:
                continue
            shapes = self._shapes(call)
            operation = call.base_op.partition(".")[2]
            if "loss" in operation or operation in ("mean", "sum"):
                counts |= {math.prod(s): "elements of the loss" for s in shapes[:1]}
                counts |= self._totals(call)
            elif operation in _PRODUCTS and shapes:
                batches.update(s[0] for s in shapes if len(s) > 1)
        if batches:
            counts[batches.most_common(1)[0][0]] = "samples in the batch"
        return {n: text for n, text in counts.items() if n > 1}

    @property
    def averages(self) -> bool:
        """Whether the forward may divide by a count: not if a function takes nothing together."""
        tape = self.case.tape
        if tape is None or self.case.alone is None or not tape.calls:
            return True
        for call in tape.calls:
            sizes = [math.prod(tape.values[n].shape) for n in call.operands]
            results = [math.prod(tape.values[n].shape) for n in call.outputs if n is not None]
            if "norm" in call.base_op or min(results, default=0) < max(sizes, default=0):
                return True
        return False

    @property
    def squares(self) -> bool:
        """Whether a 2 may be that of a square's derivative: of one outside of loops, if known.

        A loop stands for its limit, whose derivative is not that of its steps.
        """
        tape = self.case.tape
        if tape is None:
            return True
        lines = Counter(call.source.line for call in tape.calls if _is_square(call))
        return 1 in lines.values()

    @staticmethod
    def _lengths(tape: Tape) -> dict[float, str]:
        """Return the lengths of the axes of a function's inputs and results, and their products."""
        roots = (tape.nodes[edge.node].outputs[edge.index] for edge, _ in tape.sweeps[0].roots)
        named = [(value.name, value.shape) for _, value in tape.leaves()]
        named += [("the result", tape.values[n].shape) for n in roots if n is not None]
        counts: dict[float, str] = {}
        for name, shape in named:
            counts |= {n: f"numbers along axis {k} of {name}" for k, n in enumerate(shape)}
        for name, shape in named:
            counts.setdefault(math.prod(shape), f"numbers of {name}")
        return {n: text for n, text in counts.items() if n > 1}

    def _totals(self, call: Call) -> dict[float, str]:
        """Return the divisors of a likelihood: its targets' total weight, or their number."""
        replay = self.case.replay
        if replay is None or call.base_op not in LIKELIHOODS or call.outputs[1] is None:
            return {}
        total = replay.values.get(call.outputs[1])
        if total is None or np.ndim(total):
            return {}
        weighted = call.arguments.get("weight") is not None
        targets = [math.prod(shape) for shape in self._shapes(call)[1:2]]
        return dict.fromkeys(map(float, targets), "targets") | {
            float(total): "units of target weight" if weighted else "targets that are not ignored"
        }

    def _shapes(self, call: Call) -> list[tuple[int, ...]]:
        tape = self.case.tape
        assert tape is not None  # noqa: S101 (the call is on it)
        values = [tape.values[n] for n in call.operands]
        leaves = set(tape.parameters)
        return [v.shape for v in values if v.shape and v.id not in leaves and not v.requires_grad]

    def rules_out(self, cause: str) -> bool:
        """Whether a program's loss has nothing of which all gradients could have a factor's cause.

        A formula without squares may have a 2 of another kind; a likelihood has none.
        """
        calls = () if self.case.tape is None else self.case.tape.calls
        likelihood = any(call.base_op in _LIKELIHOODS for call in calls)
        return cause == MISSING_TWO and likelihood and not any(map(_squares, calls))


def _squares(call: Call) -> bool:
    """Whether a call multiplies something by itself."""
    name, operands = call.base_op.partition(".")[2], call.operands
    return name in _SQUARES or "norm" in name or len({*operands}) < len(operands)


def _is_square(call: Call) -> bool:
    """Whether a call's result is made of squares: not of their roots, nor of other powers."""
    name = call.base_op.partition(".")[2]
    power = name == "pow" and call.arguments.get("exponent") != 2
    return _squares(call) and not power and name not in _ROOTED and "norm" not in name
