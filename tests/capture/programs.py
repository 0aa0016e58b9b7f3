"""Programs that must be recorded whole. Each returns the tensors that it leaves behind.

Every program runs forward and backward under the seed that the test sets, with random numbers as
weights of its result: a gradient of ones would hide a wrong order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

Tensors = list[Any]
PROGRAMS: dict[str, Callable[[], Tensors]] = {}


def program(function: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Enter a program into the table."""
    PROGRAMS[function.__name__] = function
    return function


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
    """Return random numbers that collect a gradient."""
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def weighted(result: Any) -> Any:
    """Return a scalar in which every element has a weight of its own."""
    return (result * torch.randn(result.shape).to(result.dtype)).sum()


def unruled(x: Any) -> Any:
    """Return 2 x by a convolution over time, which no rule knows."""
    return torch.conv_tbc(x.view(-1, 1, 1), 2 * torch.ones(1, 1, 1), torch.zeros(1)).view(x.shape)


def run_back(result: Any, *leaves: Any) -> Tensors:
    """Run backward from a weighted result; return the gradients of the leaves."""
    weighted(result).backward()
    return [leaf.grad for leaf in leaves]


@program
def relu_in_place_in_sequential() -> Tensors:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    return run_back(model(torch.randn(5, 3)), *model.parameters())


@program
def in_place_on_plain_tensors() -> Tensors:
    x, w = leaf(4), leaf(4)
    y = x.clone()
    # The product keeps a copy of what it overwrites.
    y.add_(1).mul_(w)
    y.sigmoid_()
    return run_back(y * y, x, w)


@program
def in_place_on_a_slice() -> Tensors:
    x, y = leaf(4, 3), leaf(1, 3)
    z = x * 2
    z[1:2].add_(y)
    return run_back(z * z, x, y)


@program
def set_item_to_a_number() -> Tensors:
    x = leaf(4, 3)
    z = x * 2
    z[0] = 3
    return run_back(z * z, x)


@program
def set_item_to_a_tensor() -> Tensors:
    x, y = leaf(4, 3), leaf(3)
    z = x * 2
    z[0] = y
    return run_back(z * z, x, y)


@program
def copy_slices_of_copy_slices() -> Tensors:
    x, y = leaf(4, 6), leaf(2)
    z = x * 2
    rows = z[1:3]
    rows[:, ::3].mul_(y)
    rows.add_(1.5)
    return run_back(z, x, y)


@program
def changed_view_is_the_root() -> Tensors:
    x, y = leaf(4, 6), leaf(2)
    z = x * 2
    rows = z[1:3]
    rows[:, ::3].mul_(y)
    return run_back(rows, x, y)


@program
def view_of_a_changed_base() -> Tensors:
    x = leaf(4, 6)
    z = x * 2
    rows = z[1:3]
    z.mul_(3)
    return run_back(rows * rows, x)


@program
def several_stale_views() -> Tensors:
    x, w = leaf(4, 4), leaf(4)
    z = x * 2
    first, second = z[1], z[2]
    z.mul_(3)
    first.mul_(w)
    second.mul_(w)
    return run_back(z, x, w)


@program
def chain_of_views() -> Tensors:
    x = leaf(4, 6)
    z = x.t().reshape(3, 8).unsqueeze(1).expand(3, 2, 8).permute(2, 0, 1)[1:].transpose(0, 2)
    return run_back(z * z, x)


@program
def detached() -> Tensors:
    x = leaf(4)
    return run_back(x * x.detach(), x)


@program
def island_without_grad() -> Tensors:
    x = leaf(4)
    with torch.no_grad():
        c = x * 3 + 1
    return run_back(x * c, x)


@program
def leaf_changed_without_grad() -> Tensors:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[0].zero_()
        layer.weight[:, 1] = 5.0
    return [*run_back(layer(torch.randn(4, 3)).tanh(), *layer.parameters()), layer.weight]


@program
def grad_of_a_subset() -> Tensors:
    a, b, c = leaf(4), leaf(4), leaf(4)
    return list(torch.autograd.grad(weighted(a * b * c.sin()), [b]))


@program
def grad_at_an_inner_value() -> Tensors:
    a, b = leaf(4), leaf(4)
    h = a * b
    return list(torch.autograd.grad(weighted(h * h), [h, a]))


@program
def backward_to_some_inputs() -> Tensors:
    a, b, c = leaf(4), leaf(4), leaf(4)
    weighted(a * b * c.sin()).backward(inputs=[b, c])
    return [a.grad, b.grad, c.grad]


@program
def given_gradient() -> Tensors:
    a, b = leaf(4, 2), leaf(4, 2)
    (a * b).backward(gradient=torch.randn(4, 2))
    return [a.grad, b.grad]


@program
def several_roots() -> Tensors:
    a, b = leaf(4), leaf(4)
    torch.autograd.backward([weighted(a * b), (a + b).sin()], [None, torch.randn(4)])
    return [a.grad, b.grad]


@program
def one_root_behind_another() -> Tensors:
    a = leaf(4)
    y = a * a
    torch.autograd.backward([y, y.sin()], [torch.randn(4), torch.randn(4)])
    return [a.grad]


@program
def the_same_root_twice() -> Tensors:
    a = leaf(4)
    y = a * a
    torch.autograd.backward([y, y], [torch.randn(4), torch.randn(4)])
    return [a.grad]


@program
def second_backward() -> Tensors:
    a = leaf(4)
    y = weighted((a * a).sin())
    y.backward(retain_graph=True)
    y.backward()
    return [a.grad]


@program
def accumulation_into_a_gradient() -> Tensors:
    a = leaf(4)
    a.grad = torch.randn(4)
    return run_back((a * a).sin(), a)


@program
def tied_weights() -> Tensors:
    layer = nn.Linear(3, 3)
    return run_back(layer(layer(torch.randn(2, 3)).tanh()), *layer.parameters())


@program
def loss_of_two_terms() -> Tensors:
    layer = nn.Linear(3, 2)
    y = layer(torch.randn(4, 3))
    loss = nn.functional.mse_loss(y, torch.randn(4, 2)) + 0.1 * y.abs().sum()
    loss.backward()
    return [p.grad for p in layer.parameters()]


@program
def three_steps_of_an_optimizer() -> Tensors:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        weighted(model(torch.randn(4, 3)).square()).backward()
        optimizer.step()
    return [t for p in model.parameters() for t in (p, p.grad)]


@program
def model_called_repeatedly() -> Tensors:
    w, x = leaf(3, 3), torch.randn(3)
    for _ in range(3):
        x = torch.tanh(w @ x)
    return run_back(x, w)


@program
def numbers_read_out() -> Tensors:
    a = leaf(4)
    y = (a * a).sum()
    if y.detach().item() > 0:
        y = y * 2
    return run_back(y, a)


@program
def bfloat16_model() -> Tensors:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).bfloat16()
    x = leaf(4, 3, dtype=torch.bfloat16)
    return run_back(model(x).square(), x, *model.parameters())


@program
def float64_model() -> Tensors:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    x = leaf(4, 3, dtype=torch.float64)
    return run_back(model(x).square(), x, *model.parameters())


@program
def casts_between_formats() -> Tensors:
    x = leaf(4, 3)
    return run_back((x.double() * 2).to(torch.float32) + x.bfloat16().float(), x)


@program
def integers_among_the_operands() -> Tensors:
    x, k = leaf(4, 3), torch.tensor([1, 2, 3])
    return run_back(x * (k * 2) + k, x)


@program
def gradient_of_a_gradient() -> Tensors:
    a = leaf(4)
    (g,) = torch.autograd.grad(weighted(a * a * a), a, create_graph=True)
    return run_back(g * g, a)


@program
def checkpointed() -> Tensors:
    layer, x = nn.Linear(3, 3), leaf(2, 3)
    y = torch.utils.checkpoint.checkpoint(lambda z: layer(z).tanh(), x, use_reentrant=False)
    return run_back(y, x, *layer.parameters())


@program
def dropout() -> Tensors:
    x = leaf(40)
    return run_back(nn.functional.dropout(x, 0.5).square(), x)
