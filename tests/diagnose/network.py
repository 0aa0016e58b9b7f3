"""A 4-layer network with its gradients, right and claimed, to plant faults in."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import gradwitness as gw
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.engine.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Arrays = dict[str, np.ndarray[Any, Any]]

BATCH = 6
SIZES = (8, 12, 12, 12, 3)


def network(
    seed: int,
    passes: int = 1,
    sizes: tuple[int, ...] = SIZES,
    batch: int = BATCH,
    between: type[torch.nn.Module] = torch.nn.Tanh,
) -> tuple[Case, Arrays, Arrays]:
    """Return a case without faults, torch's own float32 gradients, and the weights.

    Of several passes, each over other data, the case is about the last.
    """
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [torch.nn.Linear(a, b)] + ([between()] if k < len(sizes) - 2 else [])
    model = torch.nn.Sequential(*layers)
    with gw.watch(model) as witness:
        for _ in range(passes):
            model.zero_grad()
            x, y = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[-1])
            torch.autograd.backward(torch.nn.functional.mse_loss(model(x), y))
    claims: Arrays = {}
    weights: Arrays = {}
    for name, p in model.named_parameters():
        assert p.grad is not None
        claims[name] = p.grad.numpy().astype(np.float64)
        weights[name] = p.detach().numpy().astype(np.float64)
    tape = witness.tape
    replayed = replay(tape)
    gradients: Arrays = {}
    for node, leaf in tape.leaves():
        g = replayed.gradient(passes - 1, node.id)
        assert g is not None
        gradients[leaf.name] = g
    gradients = {name: gradients[name] for name in claims}
    return claimed(gradients, claims, Case({}, tape, replayed, passes - 1)), claims, weights


def claimed(right: Mapping[str, Any], claims: Mapping[str, Any], about: Case) -> Case:
    """Return a case with these claims, judged as float32 numbers are."""
    exhibits = {}
    for name, g in right.items():
        h = np.asarray(claims[name], np.float64)
        allowance = 3e-6 * float(np.max(np.abs(g)))
        if h.size == g.size and h.shape != g.shape:
            h = h.reshape(g.shape)
        with np.errstate(invalid="ignore"):
            wrong = h.shape != g.shape or not bool(np.all(np.abs(h - g) <= allowance))
        exhibits[name] = Exhibit(name, g, h, allowance, wrong)
    return Case(exhibits, about.tape, about.replay, about.sweep)


def planted(
    seed: int, fault: Callable[[Arrays, Arrays], Mapping[str, Any]], **options: Any
) -> Case:
    """Return a case with a fault in it, which gets the claims and the weights; see `network`."""
    case, claims, weights = network(seed, **options)
    right = {e.name: e.witness for e in case.exhibits.values()}
    changed = fault(claims, weights)
    stored = {n: np.asarray(h).astype(np.float32) for n, h in (claims | dict(changed)).items()}
    return claimed(right, stored, case)


def without_tape(case: Case) -> Case:
    """Return what is left of a case when only gradients are known."""
    return Case(case.exhibits)
