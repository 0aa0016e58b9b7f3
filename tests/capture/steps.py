"""Steps that people really run. Each returns all the tensors that it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from capture.programs import leaf, weighted

if TYPE_CHECKING:
    from collections.abc import Callable

Tensors = list[Any]
# Untyped, as much of torch is.
mse: Any = F.mse_loss
STEPS: dict[str, Callable[[], Tensors]] = {}
# What cannot be judged yet, by step: every reason, and how often.
OPEN: dict[str, dict[str, int]] = {}


def step(function: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Enter a step into the table."""
    STEPS[function.__name__] = function
    return function


def left_open(reasons: dict[str, int]) -> Callable[[Any], Any]:
    """Enter a step of which something is not judged, with all reasons."""

    def enter(function: Callable[[], Tensors]) -> Callable[[], Tensors]:
        OPEN[function.__name__] = reasons
        return step(function)

    return enter


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def data(count: int = 5) -> tuple[Any, Any]:
    return torch.randn(count, 4), torch.randn(count, 3)


def remains(model: nn.Module, optimizer: Any = None) -> Tensors:
    """Return all that a step leaves: parameters, gradients, buffers, the optimizer's state."""
    found: Tensors = [*model.parameters(), *model.buffers()]
    found += [p.grad for p in model.parameters()]
    for state in optimizer.state.values() if optimizer else ():
        found += [item for item in state.values() if isinstance(item, torch.Tensor)]
    return found


def losses(model: Any, x: Any, y: Any) -> Any:
    return mse(model(x), y)


# Several passes.


@step
def accumulation_over_micro_batches() -> Tensors:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data(6)
    for part, wanted in zip(x.chunk(3), y.chunk(3), strict=True):
        (losses(model, part, wanted) / 3).backward()
    optimizer.step()
    return remains(model)


@step
def several_losses_added() -> Tensors:
    model, (x, y) = net(), data()
    out = model(x)
    (mse(out, y) + 0.1 * out.abs().mean() + F.softplus(out).sum()).backward()
    return remains(model)


@step
def a_pass_for_each_loss() -> Tensors:
    model, (x, y) = net(), data()
    out = model(x)
    mse(out, y).backward(retain_graph=True)
    out.abs().mean().backward()
    return remains(model)


@step
def several_roots_with_weights() -> Tensors:
    model, (x, _) = net(), data()
    out = model(x)
    torch.autograd.backward([out[:, 0], out[:, 1]], [torch.randn(5), torch.randn(5)])
    return remains(model)


@step
def gradients_asked_for() -> Tensors:
    model, (x, y) = net(), data()
    x.requires_grad_()
    found = torch.autograd.grad(losses(model, x, y), [x, *model.parameters()])
    return list(found)


@step
def some_inputs_only() -> Tensors:
    model, (x, y) = net(), data()
    losses(model, x, y).backward(inputs=list(model[0].parameters()))  # type: ignore[index]
    return remains(model)


@step
def gradient_penalty() -> Tensors:
    model, (x, y) = net(), data()
    x.requires_grad_()
    out = model(x)
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    (mse(out, y) + 10 * (slope.norm(2, dim=1) - 1).pow(2).mean()).backward()
    return [*remains(model), x.grad]


@step
def hessian_vector_product() -> Tensors:
    model, (x, y) = net(), data()
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(losses(model, x, y), parameters, create_graph=True)
    along = sum((slope * torch.randn_like(slope)).sum() for slope in slopes)
    return list(torch.autograd.grad(along, parameters, allow_unused=True))  # type: ignore[arg-type]


@step
def a_step_of_maml() -> Tensors:
    model, (x, y), (u, v) = net(), data(), data()
    names = dict(model.named_parameters())
    inner = losses(model, x, y)
    slopes = torch.autograd.grad(inner, list(names.values()), create_graph=True)
    moved = {n: p - 0.1 * s for (n, p), s in zip(names.items(), slopes, strict=True)}
    mse(torch.func.functional_call(model, moved, (u,)), v).backward()
    return remains(model)


# What is done to gradients.


def clipped(clip: Callable[[Any], Any]) -> Tensors:
    model, (x, y) = net(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        losses(model, x, y).backward()
        clip(model.parameters())
        optimizer.step()
    return remains(model, optimizer)


@step
def clipping_the_norm() -> Tensors:
    return clipped(lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1))


@step
def clipping_the_values() -> Tensors:
    return clipped(lambda parameters: nn.utils.clip_grad_value_(parameters, 0.01))


@step
def scaled_gradients() -> Tensors:
    model, (x, y) = net(), data()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses(model, x, y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return remains(model, optimizer)


@step
def hooks_that_only_look() -> Tensors:
    model, (x, y) = net(), data()
    seen: Tensors = []
    parameter: Any
    for parameter in model.parameters():
        parameter.register_hook(lambda g: seen.append(g.clone()))
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    model.register_forward_hook(lambda *given: seen.append(given[2].detach()))
    x.requires_grad_()
    model.register_full_backward_hook(lambda *given: seen.append(given[2][0].clone()))
    losses(model, x, y).backward()
    return [*remains(model), *seen]


# Memory.


def checkpointed(reentrant: bool) -> Tensors:
    model = nn.Sequential(net(), nn.Dropout(0.4), nn.Linear(3, 3))
    x, y = data()
    x.requires_grad_()
    made = checkpoint(model[0], x, use_reentrant=reentrant)
    made = checkpoint(model[1:], made, use_reentrant=reentrant)
    mse(made, y).backward()
    return [*remains(model), x.grad]


@step
def checkpoint_not_reentrant() -> Tensors:
    return checkpointed(reentrant=False)


@step
def checkpoint_reentrant() -> Tensors:
    return checkpointed(reentrant=True)


@step
def saved_tensors_packed() -> Tensors:
    model, (x, y) = net(), data()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        loss = losses(model, x, y)
    loss.backward()
    return remains(model)


@step
def islands_without_gradient() -> Tensors:
    model, (x, y) = net(), data()
    with torch.no_grad():
        target = model(x) * 0.5 + y
    with torch.inference_mode():
        model(x)
    mse(model(x), target).backward()
    return remains(model)


# Models.


@step
def tied_weights() -> Tensors:
    embed, out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    out.weight = embed.weight
    words = torch.randint(0, 7, (3, 5))
    loss: Any = F.cross_entropy(out(embed(words)).flatten(0, 1), words.flatten())
    loss.backward()
    return [embed.weight, embed.weight.grad]


class Averages(nn.Module):
    """Batch norm, and a moving average of its own, both changed in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("mean", torch.zeros(4))
        self.mean: Any

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return self.norm(x) - self.mean.clone()


@step
def buffers_changed_in_forward() -> Tensors:
    model = nn.Sequential(Averages(), net())
    for _ in range(2):
        losses(model, *data()).backward()
    return remains(model)


def parametrized(wrap: Callable[[Any], Any]) -> Tensors:
    model = nn.Sequential(wrap(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3))
    losses(model, *data()).backward()
    return remains(model)


@step
def weight_norm() -> Tensors:
    return parametrized(parametrizations.weight_norm)


@step
def spectral_norm() -> Tensors:
    return parametrized(parametrizations.spectral_norm)


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.triu() + x.triu(1).T


@step
def a_parametrization_of_one_s_own() -> Tensors:
    layer = nn.Linear(4, 4)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    weighted(layer(torch.randn(3, 4))).backward()
    return remains(layer)


@step
def functional_call() -> Tensors:
    model, (x, y) = net(), data()
    given = {name: leaf(*p.shape) for name, p in model.named_parameters()}
    mse(torch.func.functional_call(model, given, (x,)), y).backward()
    return [g.grad for g in given.values()]
