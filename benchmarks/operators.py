"""How much of torch is judged? Torch's own sample inputs, watched. Prints a table and the reasons.

``python benchmarks/operators.py [--dtypes float64,float32,...] [--samples 8] [--planted]
[NAME ...]``. A pair is one operation of torch's own test suite in one format, with its first
samples, forward and backward under a random cotangent. It agrees if every step of every sample
does, and has a verdict if every step agrees or disagrees; torch is right here but for a few known
faults, so that whatever DISAGREES is listed to be looked at. A doubt may say what torch has lost.
With ``--planted``, one number of each step that agrees is moved by a little more than the step says
it detects, and the recording judged again. The step is refuted then, or left in doubt, or passes
unseen; placed is what is refuted first at that step, or left in doubt where no other is refuted.
Operations that leave numbers unset, samples that torch itself refuses, and tensors without
elements do not count.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import random
import re
import sys
import types
import unittest
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils._pytree import tree_leaves

import gradwitness
from gradwitness import Verdict
from gradwitness.judging.comparing.comparison import EMPTY
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.gradients.doubts import FAINT
from gradwitness.judging.gradients.lost import LOST

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whose numbers are whatever lay in memory.
_UNSET = ("empty", "new_empty")
# Any result within limits is right, as it is drawn at random.
_DRAWN = ("aten.rrelu_with_noise",)
_FAULTS = ("planted", "refuted", "in doubt", "placed")


@dataclass
class Pairs:
    """What came of the pairs of one format."""

    tried: int = 0
    agreeing: int = 0
    judged: int = 0
    told: int = 0
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    refuted: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))

    def add(self, name: str, findings: list[Any]) -> None:
        """Count one operation, by the findings of all its samples."""
        self.tried += 1
        findings = [f for f in findings if f.comparison.reason != EMPTY]
        doubtful = [f for f in findings if f.comparison.verdict is Verdict.INCONCLUSIVE]
        wrong = [f for f in findings if f.comparison.verdict is Verdict.DISAGREES]
        self.agreeing += not doubtful and not wrong
        self.judged += not doubtful
        self.told += bool(doubtful) and all(f.comparison.reason.startswith(LOST) for f in doubtful)
        self.refuted += sorted({f"{name}: {f.title}" for f in wrong})
        for reason in {re.sub(r"\d+", "N", f.comparison.reason) for f in doubtful}:
            self.reasons[reason].append(name)


def operations() -> list[Any]:
    """Return torch's own operations with samples; they import a package that they do not use."""
    unused: Any = types.ModuleType("expecttest")
    unused.TestCase, unused.assert_expected_inline = unittest.TestCase, None
    sys.modules.setdefault("expecttest", unused)
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if not op.name.startswith(_UNSET)]


def samples(op: Any, dtype: torch.dtype, count: int) -> Iterator[Any]:
    """Yield the first samples of an operation, the same in every run."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (torch's samples draw from it)
    random.seed(0)
    graded = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    return itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=graded), count)


def watched(op: Any, sample: Any) -> gradwitness.Witness | None:
    """Watch one sample; None if torch refuses it."""
    leaves = tree_leaves([sample.input, sample.args, sample.kwargs])
    leaves = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
    try:
        with gradwitness.watch() as witness:
            made = sample.output_process_fn_grad(op(sample.input, *sample.args, **sample.kwargs))
            roots = [x for x in tree_leaves(made) if isinstance(x, torch.Tensor)]
            roots = [root for root in roots if root.requires_grad]
            if roots and leaves:
                seeds = [torch.randn_like(root) for root in roots]
                torch.autograd.grad(roots, leaves, seeds, allow_unused=True)
    except Exception:  # noqa: BLE001 (torch's own)
        return None
    return witness


def plant(witness: gradwitness.Witness, faults: collections.Counter[str]) -> list[str]:
    """Move a number of each step that agrees, judge again, and return those it passes in."""
    passed = []
    for finding in witness.report.findings:
        if finding.comparison.verdict is not Verdict.AGREES:
            continue
        number = _result(witness.tape, finding)
        moved = None if number is None else _moved(witness.tape.values[number].array, finding)
        if number is None or moved is None:
            continue
        tape, values = witness.tape, list(witness.tape.values)
        layout = values[number].layout
        # Views that were made before show what was there before.
        made = tape.calls[(finding.call or 0) :]
        views = {n for c in made if c.is_view for n in c.outputs if n is not None}
        for n in {number, *(n for n in views if layout and values[n].layout == layout)}:
            values[n] = replace(values[n], array=moved)
        report = gradwitness.judge(replace(tape, values=tuple(values)))
        # A number that others of the step were computed with shows in those.
        here = [f for f in report.findings if _place(f) == _place(finding)]
        refuted = any(f.verdict is Verdict.DISAGREES for f in here)
        doubted = not refuted and any(
            f.verdict is Verdict.INCONCLUSIVE or f.comparison.reason == FAINT for f in here
        )
        first = report.first_wrong
        faults["planted"] += 1
        faults["refuted"] += refuted
        faults["in doubt"] += doubted
        faults["placed"] += (refuted or doubted) and (
            first is None or _place(first) == _place(finding)
        )
        if not (refuted or doubted):
            passed.append(finding.title)
    return passed


def _place(finding: Finding) -> tuple[Any, ...]:
    return finding.step, finding.sweep, finding.call, finding.node


def _result(tape: gradwitness.Tape, finding: Finding) -> int | None:
    """Return the value that a step made."""
    if finding.step is Step.FORWARD and finding.call is not None:
        call = tape.calls[finding.call]
        free = call.is_view or call.base_op in _DRAWN
        return None if free else call.outputs[finding.tensor_nr]
    if finding.step is Step.BACKWARD and finding.sweep is not None:
        runs = tape.sweeps[finding.sweep].node_runs
        run = next(r for r in runs if r.node == finding.node)
        number = run.outgoing[finding.tensor_nr]
        # What passes on the very memory that arrived cannot differ from it.
        memory = {_memory(tape, n) for n in (*run.incoming, *run.outgoing[: finding.tensor_nr])}
        return None if _memory(tape, number) in memory else number
    return None


def _memory(tape: gradwitness.Tape, number: int | None) -> int | None:
    layout = None if number is None else tape.values[number].layout
    return number if layout is None else -1 - layout.storage


def _moved(array: Any, finding: Finding) -> Any:
    """Return an array whose largest number is moved by more than a step detects, if it can be."""
    if array is None or not array.size or array.dtype.kind == "b":
        return None
    if 0 in array.strides:
        # Numbers that share their memory move together.
        inner = _moved(
            array[tuple(slice(None) if s else slice(1) for s in array.strides)].copy(), finding
        )
        return None if inner is None else np.broadcast_to(inner, array.shape)
    moved = np.array(array)
    wide = moved.astype(np.complex128 if moved.dtype.kind == "c" else np.float64)
    at = np.unravel_index(np.argmax(np.abs(wide)), wide.shape)
    size, by = float(np.abs(wide[at])), max(finding.comparison.detects, 0.0)
    if moved.dtype.kind in "iu":
        by = 1.0
    while math.isfinite(by) and abs(complex(moved[at]) - complex(wide[at])) <= by:
        by = by * 1.01 if by > 1e-12 * size else max(2 * by, 1e-12 * size, 1e-300)
        moved[at] = (wide[at] + by).astype(moved.dtype)
        if abs(complex(moved[at]) - complex(wide[at])) > finding.comparison.detects:
            break
    return moved if np.isfinite(wide[at]) and np.isfinite(complex(moved[at])) else None


def main() -> None:
    """Run the pairs, and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dtypes", default="float64,float32,bfloat16,complex128")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--planted", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(width=160, highlight=False)
    all_of_them = operations()
    table = Table(box=None)
    counted = ["pairs", "agree", "share", "with a verdict", "share", "losses told"]
    counted += _FAULTS if asked.planted else ()
    for column in ("dtype", *counted):
        table.add_column(column, justify="right")
    for name in asked.dtypes.split(","):
        dtype, pairs = getattr(torch, name), Pairs()
        able = [op for op in all_of_them if dtype in op.supported_dtypes("cpu")]
        if asked.names:
            able = [op for op in able if op.name in asked.names]
        for op in track(able, name, console=console, transient=True):
            title = f"{op.name}.{op.variant_test_name}".rstrip(".")
            found: list[Finding] = []
            for sample in samples(op, dtype, asked.samples):
                witness = watched(op, sample)
                found += witness.report.findings if witness else ()
                missed = plant(witness, pairs.faults) if witness and asked.planted else ()
                for step in missed:
                    console.print(f"{name} unseen: {title}: {step}")
            pairs.add(title, found)
        row = [name, str(pairs.tried)]
        for count in (pairs.agreeing, pairs.judged):
            row += [str(count), f"{count / max(pairs.tried, 1):.1%}"]
        row.append(str(pairs.told))
        row += [str(pairs.faults[k]) for k in _FAULTS] if asked.planted else []
        table.add_row(*row)
        for title in pairs.refuted:
            console.print(f"{name} refuted {title}")
        for reason, ops in sorted(pairs.reasons.items(), key=lambda pair: -len(pair[1])):
            console.print(f"{name} {len(ops)} x {reason}: {', '.join(sorted(ops))}")
    console.print(table)


if __name__ == "__main__":
    main()
