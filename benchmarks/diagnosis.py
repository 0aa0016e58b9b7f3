"""Is a wrong gradient found, placed, and called by its right cause? Prints three tables.

``python benchmarks/diagnosis.py [--seeds N] [--part PART] [--only WORD]``. Each fault is planted in
float32 claims that are handed to the witness as a user would, tolerances and all: mistakes of
whoever writes a backward pass by hand (in networks whose backward is written out in NumPy or in
broken functions of torch), and faults of finished tensors (in four networks with another activation
each). Found: the claims disagree. Placed: the cause is at the step, or in the tensors, where the
fault was planted. First, in three: the right cause is named so. Abstained: no cause was named.
Wrong: another one was named first.

The same faults are shown to ``torch.testing.assert_close`` with its defaults, beside autograd's
gradients, to ``torch.autograd.gradcheck`` with its defaults in float64, as a function whose
backward returns the claims, and to ``cmp``: both sides printed with six decimals and compared byte
by byte. The last table shows right claims, in three formats, to all of them.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from diagnose.cases import CASES, Planted
from diagnose.faults import FAULTS, NAMELESS
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Arrays = dict[str, np.ndarray[Any, Any]]

SEEDS = 20
BATCH, SIZES = 6, (8, 12, 12, 12, 3)
BETWEEN = (torch.nn.Tanh, torch.nn.ReLU, torch.nn.Sigmoid, torch.nn.GELU)
# A gradcheck runs a model twice for each of its parameters.
GRADCHECKED_SEEDS = 1


@dataclass(frozen=True)
class Subject:
    """A program and somebody's gradients of it.

    Attributes
    ----------
    model, loss
        The program, which is right.
    claims : dict
        The wrong gradients, or the right ones.
    causes : tuple of str
        What may be said first; empty if nothing should be.
    place : str
        What the place begins with.
    tensors : set of str
        Where the fault was planted, for a fault of tensors.
    """

    model: torch.nn.Module
    loss: Callable[[torch.nn.Module], torch.Tensor]
    claims: Mapping[str, Any]
    causes: tuple[str, ...] = ()
    place: str = ""
    tensors: frozenset[str] = frozenset()


@dataclass
class Tally:
    """What came of one kind of fault."""

    runs: int = 0
    found: int = 0
    placed: int = 0
    first: int = 0
    three: int = 0
    abstained: int = 0
    wrong: int = 0
    others: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))


def structural(case: Planted, seed: int) -> Subject:
    """Return a mistake in a backward pass."""
    model, loss, claims = case.parts(seed)
    return Subject(model, loss, claims, (case.cause, *case.like), case.place)


def of_tensors(name: str, seed: int) -> Subject:
    """Return a fault of finished tensors, in the networks by turns."""
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(SIZES)):
        layers.append(torch.nn.Linear(a, b))
        if k < len(SIZES) - 2:
            layers.append(BETWEEN[seed % len(BETWEEN)]())
    model = torch.nn.Sequential(*layers)
    x, y = torch.randn(BATCH, SIZES[0]), torch.randn(BATCH, SIZES[-1])

    def loss(net: torch.nn.Module) -> torch.Tensor:
        return torch.nn.functional.mse_loss(net(x), y)

    right = gradients(model, loss)
    weights = {n: p.detach().numpy().astype(np.float64) for n, p in model.named_parameters()}
    wide = {n: g.astype(np.float64) for n, g in right.items()}
    cause, fault = FAULTS[name] if name in FAULTS else ("", NAMELESS[name])
    changed = {n: np.asarray(h).astype(np.float32) for n, h in fault(wide, weights).items()}
    causes = (cause,) if cause else ()
    return Subject(model, loss, right | changed, causes, tensors=frozenset(changed))


def gradients(model: torch.nn.Module, loss: Any) -> Arrays:
    """Return autograd's gradients."""
    model.zero_grad()
    torch.autograd.backward(loss(model))
    return {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}


def judged(subject: Subject, dtype: str) -> gradwitness.ClaimCheck:
    """Let the witness judge the claims."""
    subject.model.zero_grad()
    with gradwitness.watch(subject.model, keep=None) as witness:
        torch.autograd.backward(subject.loss(subject.model))
    found: gradwitness.ClaimCheck = witness.check_claims(dict(subject.claims), dtype=dtype)
    return found


def add(tally: Tally, subject: Subject) -> str:
    """Count what the witness says; return the cause that it named if that is not the right one."""
    found = judged(subject, "float32")
    (run,) = found.runs
    tally.runs += 1
    tally.found += found.verdict is Verdict.DISAGREES
    if not run.causes:
        tally.abstained += 1
        tally.first += not subject.causes
        tally.three += not subject.causes
        tally.placed += not subject.causes
        return "abstained" if subject.causes else ""
    first = run.causes[0]
    named = {cause.cause for cause in run.causes[:3]} | {first.runner_up}
    tally.first += first.cause in subject.causes
    tally.three += bool(named & set(subject.causes))
    tally.wrong += first.cause not in subject.causes
    if subject.tensors:
        tally.placed += set(first.guilty) <= subject.tensors
    else:
        tally.placed += first.place.startswith(subject.place)
    if first.cause in subject.causes and first.place.startswith(subject.place):
        return ""
    return f"{first.cause} at {first.place or 'no place'} (else {first.runner_up or 'nothing'})"


def assert_close_finds(subject: Subject, right: Mapping[str, Any]) -> bool:
    """Whether claims differ from autograd's gradients by assert_close's defaults."""
    try:
        for name, g in right.items():
            claim = torch.as_tensor(np.asarray(subject.claims[name]))
            torch.testing.assert_close(claim, torch.from_numpy(g))
    except AssertionError:
        return True
    return False


def cmp_finds(subject: Subject, right: Mapping[str, Any]) -> bool:
    """Whether the printed numbers differ in any byte."""

    def printed(array: Any) -> str:
        text: str = np.array2string(
            np.asarray(array, np.float64), threshold=10**9, formatter={"float": "{:.6f}".format}
        )
        return text

    return any(printed(subject.claims[name]) != printed(g) for name, g in right.items())


class Cast(TorchFunctionMode):
    """Turns float32 tensors that a program brings along, its data, into another format."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, f: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        def cast(item: Any) -> Any:
            foreign = isinstance(item, torch.Tensor) and item.dtype is torch.float32
            return item.to(self.dtype) if foreign else item

        return f(*tree_map(cast, args), **tree_map(cast, kwargs or {}))


def gradcheck_finds(subject: Subject) -> bool | None:
    """Whether gradcheck, in float64, refutes a function with these claims for its backward.

    None if it cannot say: it refutes the right gradients too, or the program fails there.
    """
    model = copy.deepcopy(subject.model).double()
    model.zero_grad()
    with Cast(torch.float64):
        loss = subject.loss(model)
    torch.autograd.backward(loss)
    right = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    if right.keys() != subject.claims.keys() or refuses(model, subject.loss, right) is not False:
        return None
    return refuses(model, subject.loss, subject.claims)


def refuses(model: torch.nn.Module, loss: Any, claimed: Mapping[str, Any]) -> bool | None:
    """Whether gradcheck, with its defaults, fails; None if it cannot run."""
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    inputs = [p.detach().clone().requires_grad_() for _, p in model.named_parameters()]
    claims = [torch.as_tensor(np.asarray(claimed[n])).double() for n in names]
    state = dict(model.named_parameters())

    class Claimed(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, *parameters: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), Cast(torch.float64):
                for name, given in zip(names, parameters, strict=True):
                    state[name].copy_(given)
                result: torch.Tensor = loss(model)
                return result

        @staticmethod
        def backward(_: Any, *grads: torch.Tensor) -> Any:
            return tuple(grads[0] * claim for claim in claims)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return not torch.autograd.gradcheck(
                Claimed.apply, inputs, raise_exception=False, check_undefined_grad=False
            )
    except (RuntimeError, TypeError, ValueError):
        return None


def examine(tally: Tally, subject: Subject, seed: int, label: str) -> None:
    """Plant one fault and let everybody look."""
    said = add(tally, subject)
    if said:
        print(f"{label} seed {seed}: {said}", flush=True)
    right = gradients(subject.model, subject.loss)
    tally.others["assert_close"].append(assert_close_finds(subject, right))
    tally.others["cmp"].append(cmp_finds(subject, right))
    if seed < GRADCHECKED_SEEDS:
        answer = gradcheck_finds(subject)
        if answer is not None:
            tally.others["gradcheck"].append(answer)


def right_claims(seeds: int) -> Table:
    """Show right claims to everybody, in three formats."""
    table = Table("right claims in", "runs", "refuted", "in doubt", "assert_close", "cmp")
    # Of each network once.
    cases = list({case.name.partition(":")[0]: case for case in CASES}.values())
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        runs = refuted = doubt = close = differ = 0
        for case in cases:
            for seed in range(seeds):
                model, loss, _ = case.parts(seed)
                with torch.no_grad():
                    for p in model.parameters():
                        p.copy_(p.to(torch.bfloat16))
                right = gradients(model, loss)
                claims = claims_in(model, loss, dtype)
                if claims is None:
                    continue
                subject = Subject(model.float(), loss, claims)
                verdict = judged(subject, str(dtype).removeprefix("torch.")).verdict
                runs += 1
                refuted += verdict is Verdict.DISAGREES
                doubt += verdict is Verdict.INCONCLUSIVE
                if verdict is Verdict.DISAGREES:
                    print(f"refuted though right: {case.name} {dtype} seed {seed}", flush=True)
                wide = {n: c.float().numpy() for n, c in claims.items()}
                close += assert_close_finds(Subject(model, loss, wide), right)
                differ += cmp_finds(Subject(model, loss, wide), right)
        name = str(dtype).removeprefix("torch.")
        table.add_row(name, *(str(n) for n in (runs, refuted, doubt, close, differ)))
    return table


def claims_in(model: torch.nn.Module, loss: Any, dtype: torch.dtype) -> dict[str, Any] | None:
    """Return a program's gradients when it runs in another format, data and all."""
    model.to(dtype)
    model.zero_grad()
    try:
        with Cast(dtype):
            found = loss(model)
        torch.autograd.backward(found)
    except (RuntimeError, NotImplementedError):
        model.float()
        return None
    claims = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.float()
    return claims


def shares(tally: Tally) -> Iterator[str]:
    """Yield the cells of one row."""
    for count in (tally.runs, tally.found, tally.placed, tally.first, tally.three):
        yield str(count)
    yield str(tally.abstained)
    yield str(tally.wrong)
    for other in ("assert_close", "gradcheck", "cmp"):
        said = tally.others[other]
        yield f"{sum(said)} of {len(said)}" if said else "-"


def table_of(title: str, tallies: Mapping[str, Tally]) -> Table:
    """Return one table, its sum in the last row."""
    table = Table(title=title)
    for column in ("fault", "runs", "found", "placed", "first", "in three", "abstained", "wrong"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for column in ("assert_close", "gradcheck", "cmp"):
        table.add_column(column, justify="right")
    total = Tally()
    for name, tally in tallies.items():
        for count in ("runs", "found", "placed", "first", "three", "abstained", "wrong"):
            setattr(total, count, getattr(total, count) + getattr(tally, count))
        for other, said in tally.others.items():
            total.others[other] += said
        table.add_row(name, *shares(tally))
    table.add_row("all", *shares(total), style="bold")
    return table


def main() -> None:
    """Run all and print the tables."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--only", default="", help="faults with this in their name")
    options.add_argument("--part", choices=("structures", "tensors", "right"))
    chosen = options.parse_args()
    structures: dict[str, Tally] = defaultdict(Tally)
    tensors: dict[str, Tally] = defaultdict(Tally)
    console = Console(width=150)
    if chosen.part in (None, "structures"):
        wanted = [case for case in CASES if chosen.only in case.name]
        for case in track(wanted, description="mistakes in backward passes"):
            for seed in range(chosen.seeds):
                examine(structures[case.name], structural(case, seed), seed, case.name)
        console.print(table_of("mistakes in backward passes", structures))
    if chosen.part in (None, "tensors"):
        kinds = [name for name in (*FAULTS, *NAMELESS) if chosen.only in name]
        for name in track(kinds, description="faults of tensors"):
            for seed in range(chosen.seeds):
                examine(tensors[name], of_tensors(name, seed), seed, name)
        console.print(table_of("faults of tensors", tensors))
    if chosen.part in (None, "right"):
        console.print(right_claims(chosen.seeds))


if __name__ == "__main__":
    main()
