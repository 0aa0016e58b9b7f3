"""Find the nodes of torch whose backward has other bits under a dispatch mode.

    python scripts/branches.py [SAMPLES] [DTYPE ...]

Every operation of torch's own tests runs with some of its samples: as they are, with zeros in them,
and with huge numbers. Each node of its graph, with and without create_graph, and each node of the
graph that this makes, gets the same gradient with and without a mode that does nothing. What then
sends other bits takes another branch of its formula, and must stand in
judging/pathology/branches.py: exit code 1 if it does not.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import types
import unittest
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from gradwitness.judging.pathology.branches import BRANCHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    # By node, in the order of a walk: its name, what arrived and what it sent.
    Steps = list[tuple[str, Any, Any]]

# Whose numbers are whatever lay in memory.
_UNSET = ("empty", "new_empty", "linalg.lstsq")


class Nothing(TorchDispatchMode):
    """A mode that lets everything be."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked."""
        del types
        return func(*args, **(kwargs or {}))


def operations() -> Any:
    """Return torch's own operations with sample inputs; they import what they do not use."""
    unused: Any = types.ModuleType("expecttest")
    unused.TestCase, unused.assert_expected_inline = unittest.TestCase, None
    sys.modules.setdefault("expecttest", unused)
    from torch.testing._internal.common_methods_invocations import op_db

    return op_db


def tensors(of: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested containers."""
    if isinstance(of, torch.Tensor):
        yield of
    elif isinstance(of, list | tuple):
        for part in of:
            yield from tensors(part)
    elif isinstance(of, dict):
        yield from tensors(list(of.values()))


def bits(of: Any) -> Any:
    """Return all numbers, to the last bit."""
    parts = [None if t is None else t.detach() for t in of]
    dense = [None if t is None else t.to_dense().resolve_conj().resolve_neg() for t in parts]
    return [None if t is None else t.contiguous().reshape(-1).numpy().tobytes() for t in dense]


def watched(roots: list[Any], run: Any) -> tuple[Steps, Any]:
    """Run a backward pass and note what each node of its graph got and sent."""
    nodes: dict[Any, int] = {}
    waiting = [root.grad_fn for root in roots if root.grad_fn is not None]
    for node in waiting:
        if node not in nodes:
            nodes[node] = len(nodes)
            waiting += [target for target, _ in node.next_functions if target is not None]
    steps: Steps = [(node.name().rpartition("::")[2], None, None) for node in nodes]
    handles = []
    for node, number in nodes.items():

        def arrive(arrived: Any, number: int = number) -> None:
            with torch._C._DisableTorchDispatch():
                steps[number] = (steps[number][0], bits(arrived), None)

        def leave(sent: Any, _: Any, number: int = number) -> None:
            with torch._C._DisableTorchDispatch():
                steps[number] = (*steps[number][:2], bits(sent))

        handles += [node.register_prehook(arrive), node.register_hook(leave)]
    try:
        return steps, run()
    finally:
        for handle in handles:
            handle.remove()


def passes(op: Any, sample: Any, around: Any) -> Iterator[Steps]:
    """Yield a pass, the same with create_graph, and one through the graph that this makes."""
    leaves = [t for t in tensors([sample.input, sample.args, sample.kwargs]) if t.requires_grad]

    def differentiated(roots: list[Any], by: list[Any], inside: Any, **options: bool) -> Any:
        torch.manual_seed(2)
        seeds: Any = [(torch.rand_like(root) - 0.5).requires_grad_() for root in roots]
        with inside:
            return torch.autograd.grad(roots, by, seeds, allow_unused=True, **options)

    def roots_of() -> list[Any]:
        torch.manual_seed(1)
        made = op(sample.input, *sample.args, **sample.kwargs)
        return [t for t in tensors(sample.output_process_fn_grad(made)) if t.requires_grad]

    if not leaves or not roots_of():
        return
    for creates in (False, True):
        roots = roots_of()
        run = partial(differentiated, roots, leaves, around, create_graph=creates)
        yield watched(roots, run)[0]
    made = differentiated(roots_of(), leaves, contextlib.nullcontext(), create_graph=True)
    again = [g for g in made if g is not None and g.requires_grad]
    if again:
        yield watched(again, partial(differentiated, again, leaves, around))[0]


def all_passes(op: Any, sample: Any, around: Any) -> list[Steps] | str:
    """Return what each pass did, or the error."""
    done: list[Steps] = []
    try:
        done.extend(passes(op, sample, around))
    except Exception as error:  # noqa: BLE001 (compared with the same without a mode)
        return done or f"{type(error).__name__}: {error}"
    return done


def branching(op: Any, sample: Any) -> set[str]:
    """Return the names of the nodes that sent other bits under a mode."""
    plain, under, again = (
        all_passes(op, sample, around)
        for around in (contextlib.nullcontext(), Nothing(), contextlib.nullcontext())
    )
    if isinstance(plain, str) or isinstance(under, str) or plain != again:
        return set()
    return {
        name
        for one, other in zip(plain, under, strict=False)
        for (name, *step), (_, *twin) in zip(one, other, strict=False)
        if step[0] == twin[0] and step[1] != twin[1]
    }


def changed(sample: Any, how: str) -> Any:
    """Put zeros in all that a sample differentiates by, or make it huge."""
    for tensor in tensors([sample.input, sample.args, sample.kwargs]):
        if tensor.requires_grad and tensor.layout is torch.strided and tensor.is_leaf:
            with torch.no_grad():
                zeros = (torch.rand(tensor.shape) > 0.3).to(tensor.dtype)
                tensor.mul_({"with zeros": zeros, "huge": 1e13}.get(how, 1))
    return sample


def samples(op: Any, dtype: torch.dtype, count: int) -> list[Any]:
    """Return some samples of an operation, from fixed seeds."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (torch's samples draw from it)
    random.seed(0)
    every = list(op.sample_inputs("cpu", dtype, requires_grad=True))
    return every[:: max(len(every) // count, 1)][:count]


def main() -> int:
    """Compare all operations; print what branches."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    dtypes = [getattr(torch, name) for name in sys.argv[2:]] or [torch.float32, torch.complex64]
    found: dict[str, set[str]] = {}
    tried = ran = 0
    for op, dtype in itertools.product(operations(), dtypes):
        if op.name.startswith(_UNSET) or dtype not in op.supported_backward_dtypes("cpu"):
            continue
        tried += 1
        for how in ("as it is", "with zeros", "huge"):
            for sample in samples(op, dtype, count):
                ran += 1
                for name in branching(op, changed(sample, how)):
                    found.setdefault(name, set()).add(f"{op.name} {str(dtype)[6:]}")
    for name, where in sorted(found.items()):
        known = "" if name.startswith(BRANCHING) else "NOT LISTED: "
        sys.stdout.write(f"{known}{name}: {', '.join(sorted(where))}\n")
    sys.stdout.write(f"{ran} samples of {tried} operations and formats, up to three passes each\n")
    return int(not all(name.startswith(BRANCHING) for name in found))


if __name__ == "__main__":
    sys.exit(main())
