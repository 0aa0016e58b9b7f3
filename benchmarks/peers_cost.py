"""What a training step costs under each way to compute its gradients, and to check them.

``python benchmarks/peers_cost.py [NETWORK ...]`` prints a table in markdown. Each network is
written twice, in PyTorch and in JAX, with the same numbers, and both must give the same gradients.
Figures are CPU seconds over those of a plain PyTorch step, the median of some rounds in which all
take turns in one process, on one thread, once everything is compiled. A check includes the step
that it checks.

JAX is needed for its rows only (``pip install jax``), a C++ compiler for ``torch.compile``: where
one is missing, the script says so, and leaves the rows out. The slow mode of gradcheck runs two
forward passes for each parameter, and is timed on networks of few. Both its modes are timed once.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

# Before JAX is imported.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np
import torch
from cost import GRADCHECK, close, gradchecked, row, watched
from cost_models import Case
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


def imported(name: str) -> Any:
    """Return a module, or None if there is none."""
    try:
        return import_module(name)
    except ImportError:
        return None


jax, jnp, jax_checks = map(imported, ("jax", "jax.numpy", "jax.test_util"))
ROUNDS, SECONDS = 15, 60.0
FEW = 10_000  # parameters
PLAIN, SLOW = "torch", "gradcheck, slow"
ONCE = GRADCHECK, SLOW
HEADS = 4


def squared(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error."""
    loss: torch.Tensor = (model(x) - y).square().mean()
    return loss


def perceptron(sizes: list[int], batch: int) -> Case:
    """Return layers of ReLUs that learn the mean of their inputs' squares."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    x = torch.rand(batch, sizes[0])
    y = x.square().mean(1, keepdim=True)
    return Case(nn.Sequential(*layers[:-1]), (x, y), squared)


def perceptron_in_jax(parameters: dict[str, Any], x: Any, y: Any) -> Any:
    """Return the loss of the same layers."""
    names = sorted({name.partition(".")[0] for name in parameters}, key=int)
    for name in names:
        x = x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]
        x = x if name == names[-1] else jnp.maximum(x, 0)
    return jnp.mean((x - y) ** 2)


class Block(nn.Module):
    """Attention and two layers, each behind a norm, with residual connections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        heads = self.mix(self.first(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        hidden = nn.functional.gelu(self.up(self.second(x)))
        return x + torch.as_tensor(self.down(hidden))


def transformer(width: int, layers: int, shape: tuple[int, int]) -> Case:
    """Return blocks that learn the mean of their inputs' squares."""
    x = torch.randn(*shape, width)
    model = nn.Sequential(*(Block(width) for _ in range(layers)))
    return Case(model, (x, x.square()), squared)


def transformer_in_jax(parameters: dict[str, Any], x: Any, y: Any) -> Any:
    """Return the loss of the same blocks."""

    def linear(name: str, x: Any) -> Any:
        return x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        x = jax.nn.standardize(x, epsilon=1e-5)
        return x * parameters[f"{name}.weight"] + parameters[f"{name}.bias"]

    for k in sorted({name.partition(".")[0] for name in parameters}, key=int):
        heads = linear(f"{k}.mix", norm(f"{k}.first", x)).reshape(*x.shape[:2], 3, HEADS, -1)
        q, key, value = jnp.moveaxis(heads, 2, 0)
        mixed = jax.nn.dot_product_attention(q, key, value)
        x = x + linear(f"{k}.out", mixed.reshape(x.shape))
        hidden = jax.nn.gelu(linear(f"{k}.up", norm(f"{k}.second", x)), approximate=False)
        x = x + linear(f"{k}.down", hidden)
    return jnp.mean((x - y) ** 2)


# By its name: the network in PyTorch, and its loss in JAX.
NETWORKS: dict[str, tuple[Callable[[], Case], Callable[..., Any]]] = {
    "the experiment's, batch 1": (lambda: perceptron([10] + [21] * 11 + [1], 1), perceptron_in_jax),
    "MLP, 8 x 512, batch 1,024": (
        lambda: perceptron([64] + [512] * 8 + [1], 1024),
        perceptron_in_jax,
    ),
    "transformer, 4 x 256, 8 x 128 tokens": (
        lambda: transformer(256, 4, (8, 128)),
        transformer_in_jax,
    ),
}


def in_jax(case: Case, loss: Callable[..., Any]) -> dict[str, Callable[[], object]]:
    """Return a step in JAX, and JAX's check of it; both networks must agree."""
    given = {name: jnp.asarray(p.detach().numpy()) for name, p in case.model.named_parameters()}
    x, y = (jnp.asarray(part.numpy()) for part in case.inputs)
    step = jax.jit(jax.value_and_grad(loss))
    case.step()
    _, gradients = step(given, x, y)
    for name, p in case.model.named_parameters():
        assert p.grad is not None
        right, largest = np.asarray(gradients[name]), float(p.grad.abs().max())
        np.testing.assert_allclose(p.grad.numpy(), right, rtol=1e-3, atol=1e-4 * largest)
    compiled = jax.jit(loss)

    def checked() -> None:
        # In float32, as the network is; how close its slopes come does not matter here.
        jax_checks.check_grads(
            lambda given: compiled(given, x, y), (given,), 1, ["rev"], rtol=1e9, atol=1e9
        )

    return {
        "jax.jit": lambda: jax.block_until_ready(step(given, x, y)),
        "jax check_grads": checked,
    }


def in_turn(*steps: Callable[[], object]) -> None:
    """Run all of these."""
    for step in steps:
        step()


def runs_of(name: str) -> dict[str, Callable[[], object]]:
    """Return what is timed of a network, by the name of its column."""
    torch.manual_seed(0)
    make, loss = NETWORKS[name]
    case = make()
    double = case.doubled()
    runs: dict[str, Callable[[], object]] = {PLAIN: case.step}
    model: Any = torch.compile(case.model)
    compiled = Case(model, case.inputs, case.loss)
    try:
        compiled.step()
        runs["torch.compile"] = compiled.step
    except Exception as error:  # noqa: BLE001 (whatever it lacks)
        why = str(error).strip().partition("\n")[0]
        print(f"torch.compile is left out: {type(error).__name__}: {why}\n", file=sys.stderr)
    if jax is not None:
        runs |= in_jax(case, loss)
    runs |= {
        "gradwitness, full": partial(watched, case, "full"),
        "gradwitness, fast": partial(watched, case, "fast"),
        "float64 and assert_close": partial(in_turn, case.step, partial(close, case, double)),
        GRADCHECK: partial(in_turn, case.step, partial(gradchecked, double, fast=True)),
    }
    if sum(p.numel() for p in case.model.parameters()) <= FEW:
        runs[SLOW] = partial(in_turn, case.step, partial(gradchecked, double, fast=False))
    if "jax check_grads" in runs:
        runs["jax check_grads"] = partial(in_turn, runs["jax.jit"], runs["jax check_grads"])
    return runs


def ratios(name: str) -> tuple[float, dict[str, float]]:
    """Return a network's plain seconds, and the medians of everything over them."""
    runs = runs_of(name)
    for column, run in runs.items():
        if column not in ONCE:
            run()
    taken: dict[str, list[float]] = {column: [] for column in runs}
    begun = time.perf_counter()
    while len(taken[PLAIN]) < ROUNDS and (
        len(taken[PLAIN]) < 3 or time.perf_counter() - begun < SECONDS
    ):
        for column, run in runs.items():
            if column in ONCE and taken[column]:
                continue
            started = time.process_time()
            run()
            taken[column].append(time.process_time() - started)
    plain = statistics.median(taken[PLAIN])
    return plain, {column: statistics.median(times) / plain for column, times in taken.items()}


def main() -> None:
    """Print the table: a column for each network."""
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(NETWORKS)
    if jax is None:
        print("JAX is missing, and so are its rows: pip install jax\n", file=sys.stderr)
    found = {name: ratios(name) for name in names}
    sizes = [sum(p.numel() for p in NETWORKS[n][0]().model.parameters()) for n in names]
    versions = f"torch {torch.__version__}" + (f", jax {jax.__version__}" if jax else "")
    print(f"{versions}, one thread\n")
    print(row("times a plain step", *names))
    print(row("---", *["---:"] * len(names)))
    print(row("parameters", *(f"{size:,}" for size in sizes)))
    print(row("plain step (ms)", *(f"{plain * 1e3:.2f}" for plain, _ in found.values())))
    for column in dict.fromkeys(column for _, over in found.values() for column in over):
        cells = (over.get(column) for _, over in found.values())
        print(row(column, *("" if c is None else f"{c:.3g}" for c in cells)))


if __name__ == "__main__":
    main()
