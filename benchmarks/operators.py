"""How much of torch is judged? Torch's own sample inputs, watched. Prints a table and the reasons.

``python benchmarks/operators.py [--dtypes float64,float32,...] [--samples 8] [NAME ...]``. A pair
is one operation of torch's own test suite in one format, with its first samples, forward and
backward under a random cotangent. It is fully judged if every step of every sample agrees; torch is
right here but for a few known faults, so that whatever DISAGREES is listed to be looked at.
Operations that leave numbers unset, samples that torch itself refuses, and tensors without
elements do not count.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import random
import re
import sys
import types
import unittest
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils._pytree import tree_leaves

import gradwitness
from gradwitness import Verdict
from gradwitness.judging.comparison import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whose numbers are whatever lay in memory.
_UNSET = ("empty", "new_empty")


@dataclass
class Pairs:
    """What came of the pairs of one format."""

    tried: int = 0
    judged: int = 0
    refuted: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))

    def add(self, name: str, findings: list[Any]) -> None:
        """Count one operation, by the findings of all its samples."""
        self.tried += 1
        findings = [f for f in findings if f.comparison.reason != EMPTY]
        doubtful = [f for f in findings if f.comparison.verdict is Verdict.INCONCLUSIVE]
        wrong = [f for f in findings if f.comparison.verdict is Verdict.DISAGREES]
        self.judged += not doubtful and not wrong
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


def findings(op: Any, sample: Any) -> tuple[Any, ...]:
    """Watch one sample; nothing if torch refuses it."""
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
        return ()
    return witness.report.findings


def main() -> None:
    """Run the pairs, and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dtypes", default="float64,float32,bfloat16,complex128")
    parser.add_argument("--samples", type=int, default=8)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(width=160, highlight=False)
    all_of_them = operations()
    table = Table(box=None)
    for column in ("dtype", "pairs", "fully judged", "share", "refuted steps"):
        table.add_column(column, justify="right")
    for name in asked.dtypes.split(","):
        dtype, pairs = getattr(torch, name), Pairs()
        able = [op for op in all_of_them if dtype in op.supported_dtypes("cpu")]
        if asked.names:
            able = [op for op in able if op.name in asked.names]
        for op in track(able, name, console=console, transient=True):
            found = [f for s in samples(op, dtype, asked.samples) for f in findings(op, s)]
            pairs.add(f"{op.name}.{op.variant_test_name}".rstrip("."), found)
        share = f"{pairs.judged / max(pairs.tried, 1):.1%}"
        counts = (str(pairs.tried), str(pairs.judged), share, str(len(pairs.refuted)))
        table.add_row(name, *counts)
        for title in pairs.refuted:
            console.print(f"{name} refuted {title}")
        for reason, ops in sorted(pairs.reasons.items(), key=lambda pair: -len(pair[1])):
            console.print(f"{name} {len(ops)} x {reason}: {', '.join(sorted(ops))}")
    console.print(table)


if __name__ == "__main__":
    main()
