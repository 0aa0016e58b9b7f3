"""Backward passes that are differentiated: forms of layers that no sample has, and edges."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradwitness as gw
from gradwitness.engine.floats import Arithmetic
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.comparing.compare import COARSE
from gradwitness.judging.gradients.lost import LOST
from gradwitness.tape import NodeRun
from rules.harness import make
from rules.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Choice = Callable[[nn.Module, Tensor], Sequence[Tensor]]

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layer norm": (lambda: nn.LayerNorm([3, 4]), (5, 3, 4)),
    "layer norm, plain": (lambda: nn.LayerNorm(6, elementwise_affine=False), (4, 6)),
    "layer norm, no bias": (lambda: nn.LayerNorm(6, bias=False), (4, 6)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (4, 3, 2, 5)),
    "batch norm, plain": (lambda: nn.BatchNorm1d(3, affine=False), (7, 3)),
    "batch norm, evaluation": (lambda: nn.BatchNorm2d(3).eval(), (4, 3, 2, 5)),
    "batch norm, no record": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (7, 3)),
    "instance norm": (lambda: nn.InstanceNorm1d(3, affine=True), (2, 3, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (3, 6, 2, 2)),
    "group norm, plain": (lambda: nn.GroupNorm(3, 6, affine=False), (3, 6, 4)),
    "convolution": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 2, 5, 6)),
    "convolution, no bias": (lambda: nn.Conv1d(4, 4, 2, groups=2, bias=False), (2, 4, 6)),
    "convolution, transposed": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 2, 3, 3)),
}
# What the first pass is asked for: whatever it leaves out, its kernels are told not to compute.
CHOICES: dict[str, Choice] = {
    "input": lambda _, x: [x],
    "weight": lambda layer, _: [*layer.parameters()][:1],
    "bias": lambda layer, _: [*layer.parameters()][1:],
    "all": lambda layer, x: [x, *layer.parameters()],
}


def differentiated(
    layer: nn.Module, sizes: tuple[int, ...], choice: Choice, low: bool, hook: Any = None
) -> gw.Witness:
    """Watch a gradient, and the gradient of a loss of it."""
    x = torch.randn(sizes, requires_grad=True)
    chosen = torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()
    with gw.watch(layer) as witness:
        with chosen:
            y = layer(x.bfloat16() if low else x)
        loss = (y.float().square() * torch.rand(y.shape)).sum()
        slopes = torch.autograd.grad(loss, choice(layer, x), create_graph=True)
        if hook:
            slopes[0].register_hook(hook)  # type: ignore[no-untyped-call]
        total = torch.stack([(s * torch.randn(s.shape)).sum() for s in slopes]).sum()
        torch.autograd.backward(total)
    return witness


CASES = [
    (layer, choice)
    for layer, (make_layer, _) in LAYERS.items()
    for choice in CHOICES
    if CHOICES[choice](make_layer(), torch.empty(0))
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("layer", "choice"), CASES)
def test_every_form_is_judged_and_agrees(layer: str, choice: str, dtype: str) -> None:
    torch.manual_seed(0)
    make_layer, sizes = LAYERS[layer]
    report = differentiated(make_layer(), sizes, CHOICES[choice], dtype == "bfloat16").report
    assert [finding.title for finding in report.wrong] == []
    # Long sums in bfloat16 may hide an error of a tenth.
    wide = (COARSE, LOST) if dtype == "bfloat16" else ()
    assert all(r.startswith(wide) for r in report.reasons())
    assert any("BackwardBackward" in finding.title for finding in report.findings) or (
        # Torch writes these out in plain operations.
        "group" in layer or choice == "bias"
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_a_gradient_that_is_moved_on_the_way_is_seen(layer: str) -> None:
    torch.manual_seed(0)
    make_layer, sizes = LAYERS[layer]
    witness = differentiated(make_layer(), sizes, CHOICES["input"], False, lambda g: 1.001 * g)
    assert witness.verdict is gw.Verdict.DISAGREES


@pytest.mark.low_precision
def test_the_coarsest_format_counts_where_several_meet() -> None:
    torch.manual_seed(0)
    make_layer, sizes = LAYERS["batch norm"]
    tape = differentiated(make_layer(), sizes, CHOICES["weight"], True).tape
    node = next(n for n in tape.nodes if n.name == "NativeBatchNormBackwardBackward0")
    (node_run,) = (f for sweep in tape.sweeps for f in sweep.node_runs if f.node == node.id)
    arrived = {tape.values[n].dtype for n in node_run.incoming if n is not None}
    # What comes in is of the weight, in float32; what it meets, the input, is not.
    assert arrived == {"float32"}
    found = backward_arithmetic(tape, node, node_run)
    assert found is not None
    assert found.unit == Arithmetic.stepwise("bfloat16").unit


def test_nothing_that_comes_in_has_no_arithmetic() -> None:
    torch.manual_seed(0)
    make_layer, sizes = LAYERS["convolution"]
    tape = differentiated(make_layer(), sizes, CHOICES["all"], False).tape
    assert backward_arithmetic(tape, tape.nodes[0], NodeRun(0, (None,), ())) is None


def test_torch_leaves_the_frequency_out_of_the_second_backward_of_an_embedding() -> None:
    name = "embedding_dense_backward by frequency"
    case = make(next(sample for sample in SAMPLES if sample.name == name))
    indices = case.operand("indices").astype(int).tolist()
    often = np.array([[indices.count(i)] for i in indices])
    # y[i] is the mean of the rows whose index is i, so that each of them gets its share of g[i].
    by_hand = case.cotangent[indices] / often
    np.testing.assert_allclose(case.gradient("dy"), by_hand, rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient("dy"), by_hand * often, rtol=1e-15)
    assert often.max() > 1


def test_an_embedding_by_frequency_is_refuted() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(4, 3, scale_grad_by_freq=True)
    with gw.watch(table) as witness:
        loss = table(torch.tensor([1, 1, 2])).square().sum()
        (slope,) = torch.autograd.grad(loss, table.weight, create_graph=True)
        torch.autograd.backward(slope.pow(2).sum())
    assert [f.title.split(" ")[0] for f in witness.report.wrong] == [
        "EmbeddingDenseBackwardBackward0"
    ]
