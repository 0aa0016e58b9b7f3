"""More steps that people really run: with an optimizer, in several formats, and left open."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from capture.programs import leaf, weighted
from capture.steps import OPEN as OPEN
from capture.steps import STEPS as STEPS
from capture.steps import Tensors, data, left_open, losses, mse, net, remains, step

if TYPE_CHECKING:
    from collections.abc import Callable

# Optimizers.

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd foreach": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.1, amsgrad=True, foreach=False),
    "adam foreach": lambda p: torch.optim.Adam(p, 0.1, foreach=True),
    "adam fused": lambda p: torch.optim.Adam(p, 0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1, lr_decay=0.1),
}


def trained(make: Callable[[Any], Any]) -> Tensors:
    model, (x, y) = net(), data()
    optimizer = make(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        losses(model, x, y).backward()
        optimizer.step()
    return remains(model, optimizer)


STEPS |= {name: partial(trained, make) for name, make in OPTIMIZERS.items()}


@step
def lbfgs_with_a_closure() -> Tensors:
    model, (x, y) = net(), data()
    optimizer: Any = torch.optim.LBFGS(
        model.parameters(), max_iter=3, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimizer.zero_grad()
        loss = losses(model, x, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    return remains(model)


@step
def groups_and_a_schedule() -> Tensors:
    model, (x, y) = net(), data()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], 0.1
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=4)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        losses(model, x, y).backward()
        optimizer.step()
        schedule.step()
    return remains(model, optimizer)


# Formats and layouts.


@step
def mixed_formats() -> Tensors:
    first, second = nn.Linear(4, 6), nn.Linear(6, 3).double()
    last = nn.Linear(3, 2).bfloat16()
    x = torch.randn(5, 4)
    weighted(last(second(first(x).tanh().double()).bfloat16()).float()).backward()
    return [p.grad for layer in (first, second, last) for p in layer.parameters()]


@step
def channels_last() -> Tensors:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    weighted(model(x)).backward()
    return [*remains(model), x.grad]


@step
def inputs_that_are_not_contiguous() -> Tensors:
    model = net()
    x = torch.randn(4, 10).t()[::2].requires_grad_()
    weighted(model(x).t().flip(0)).backward()
    return [*remains(model), x.grad]


@step
def an_empty_batch() -> Tensors:
    model = net()
    model(torch.randn(4, 4)[:0]).sum().backward()
    return remains(model)


@step
def complex_numbers() -> Tensors:
    x, w = leaf(8), torch.randn(5, dtype=torch.cfloat, requires_grad=True)
    optimizer = torch.optim.Adam([x, w], 0.1)
    for _ in range(2):
        spectrum = torch.fft.rfft(x) * w
        # Real numbers that are a view of complex ones, and are written to.
        torch.view_as_real(spectrum)[:, 0].mul_(2)
        weighted((spectrum.abs() + spectrum.conj().imag).pow(2)).backward()
        optimizer.step()
        optimizer.zero_grad()
    weighted(torch.fft.irfft(x * (w.conj() + 1j)[:4].sum(), n=6)).backward()
    return [x.grad, w.grad, *remains(nn.Module(), optimizer)]


@left_open({"no rule for complex numbers: aten.nan_to_num.default": 1})
def a_function_of_complex_numbers_that_no_rule_covers() -> Tensors:
    x = torch.randn(3, dtype=torch.cfloat, requires_grad=True)
    weighted((x * torch.nan_to_num(x.detach())).abs()).backward()
    return [x.grad]


@left_open({"a sparse tensor that names a place twice: its terms are not known": 1})
def sparse_gradients() -> Tensors:
    embed = nn.Embedding(5, 3, sparse=True)
    weighted(embed(torch.tensor([1, 3, 1]))).backward()
    return [embed.weight.grad.to_dense() if embed.weight.grad is not None else None]


@left_open({"a float32 tensor without its own memory (sparse, or inside torch.func)": 25})
def transforms_of_functions() -> Tensors:
    model, (x, y) = net(), data()
    names = dict(model.named_parameters())

    def loss(given: Any, one: Any, wanted: Any) -> Any:
        return mse(torch.func.functional_call(model, given, (one,)), wanted)

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(names, x, y)
    losses(model, x, y).backward()
    return [*remains(model), *each.values()]


@left_open({"a float32 tensor without its own memory (sparse, or inside torch.func)": 7})
def jacobian_by_a_transform() -> Tensors:
    # Its pass runs under vmap, where the graph of the inputs is that of another level.
    model, (x, y) = net(), data()
    each: Any = torch.func.jacrev(lambda x: x.sin() * x.sum())(torch.randn(4))
    losses(model, x, y).backward()
    return [*remains(model), each]


@step
def checkpoints_in_a_checkpoint() -> Tensors:
    model, (x, y) = net(), data()

    def inner(z: Any) -> Any:
        return checkpoint(model, z, use_reentrant=True)

    x.requires_grad_()
    mse(checkpoint(inner, x, use_reentrant=True), y).backward()
    return [*remains(model), x.grad]


@step
def checkpoint_whose_parameters_the_outer_pass_reaches_too() -> Tensors:
    # A pass within another: both accumulate into the same leaves, through the same nodes.
    model, (x, y) = net(), data()
    x.requires_grad_()
    (mse(checkpoint(model, x, use_reentrant=True), y) + losses(model, x.sin(), y)).backward()
    return [*remains(model), x.grad]


@step
def passes_through_the_graph_of_the_pass_around_them() -> Tensors:
    model, (x, y) = net(), data()
    made = model(x)
    inner = made.square().mean()
    outer = made.cos()
    outer.register_hook(lambda _: inner.backward(retain_graph=True))
    mse(outer, y).backward()
    return remains(model)
