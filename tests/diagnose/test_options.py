"""Claims of another program by one option, or rounded, are named so; no other cause is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from diagnose.cases import CASES
from diagnose.trials import staged, without_figures
from diagnose.ways import routed
from gradwitness.diagnose.rank import diagnose

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from gradwitness.diagnose.case import Case

NAMES = {
    "another leaky slope",
    "unbiased variance",
    "class weights ignored",
    "label smoothing ignored",
}


class Normed(nn.Module):
    """Two layers with a normalisation, by torch, or by hand with a mistake."""

    def __init__(self, kind: str, mistake: str = "") -> None:
        super().__init__()
        self.kind, self.mistake = kind, mistake
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        # A large eps, so that its place shows.
        self.norm = nn.BatchNorm1d(6, eps=0.01) if kind == "batch" else nn.LayerNorm(6, eps=0.01)
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 1.5)
            self.norm.bias.uniform_(-1, 1)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        if not self.mistake:
            return self.norm(x)  # type: ignore[no-any-return]
        axis = 0 if self.kind == "batch" else 1
        gap = x - x.mean(axis, keepdim=True)
        v = x.var(axis, keepdim=True, unbiased=self.mistake == "unbiased")
        outside = self.mistake == "outside"
        s = v.sqrt() + self.norm.eps if outside else (v + self.norm.eps).sqrt()
        return gap / s * self.norm.weight + self.norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.normalised(self.first(x))))  # type: ignore[no-any-return]


class Leaky(nn.Module):
    """Three layers with a leaky ReLU after each of the first two."""

    def __init__(self, kind: str, mistake: str = "") -> None:
        super().__init__()
        del kind
        self.mistake = mistake
        self.layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            z = layer(x)
            if number == 2:
                return z  # type: ignore[no-any-return]
            x = functional.leaky_relu(z, 0.2 if self.mistake == "program" else 0.01)
            if self.mistake == "backward" or (self.mistake == "once" and number):
                x = routed(x, functional.leaky_relu(z, 0.1))
        raise AssertionError


class Classes(nn.Module):
    """Two layers; the loss has options."""

    def __init__(self, kind: str, mistake: str = "") -> None:
        super().__init__()
        self.kind, self.mistake = kind, mistake
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def case(build: type[nn.Module], kind: str, mistake: str) -> Case:
    torch.manual_seed(0)
    right = build(kind)
    wrong = build(kind, mistake)
    wrong.load_state_dict(right.state_dict())
    x, y, t = torch.randn(9, 4), torch.randn(9, 3), torch.randint(0, 3, (9,))
    weights = torch.tensor([0.5, 1.0, 3.0])

    def loss(model: Any) -> torch.Tensor:
        output = model(x)
        if build is not Classes:
            return functional.mse_loss(output, y)
        if kind == "hand":
            square: torch.Tensor = (output - y) ** 2
            return routed(square, output**2).mean() if model.mistake else square.mean()
        if kind == "product":
            gap = y - output
            square = gap * gap
            return routed(square, output**2).mean() if model.mistake else square.mean()
        options: dict[str, Any] = {}
        if "weights" in kind and "weights" not in model.mistake:
            options["weight"] = weights
        if "smoothing" in kind and "smoothing" not in model.mistake:
            options["label_smoothing"] = 0.1
        return functional.cross_entropy(output, t, **options)

    torch.autograd.backward(loss(wrong))
    claims = {n: p.grad.numpy() for n, p in wrong.named_parameters() if p.grad is not None}
    return staged(right, loss, claims)


PLANTED = [
    (Normed, "batch", "unbiased", "unbiased variance", "norm "),
    (Normed, "layer", "unbiased", "unbiased variance", "norm "),
    (Normed, "batch", "outside", "eps elsewhere", "norm "),
    (Leaky, "", "program", "another leaky slope", ""),
    (Leaky, "", "backward", "another leaky slope", "2 steps"),
    (Leaky, "", "once", "another leaky slope", ""),
    (Classes, "weights", "weights", "class weights ignored", ""),
    (Classes, "smoothing", "smoothing", "label smoothing ignored", ""),
    (Classes, "hand", "target", "loss without its target", ""),
    (Classes, "product", "target", "loss without its target", ""),
]


@pytest.mark.parametrize(("build", "kind", "mistake", "cause", "place"), PLANTED)
def test_mistake_is_named_and_placed(
    build: type[nn.Module],
    kind: str,
    mistake: str,
    cause: str,
    place: str,
    snapshot: SnapshotAssertion,
) -> None:
    claimed_case = case(build, kind, mistake)
    refuted = {name for name, exhibit in claimed_case.exhibits.items() if exhibit.refuted}
    assert refuted
    first, *others = diagnose(claimed_case)
    assert (first.cause, others) == (cause, [])
    assert first.place.startswith(place)
    assert without_figures(first.text) == snapshot
    assert set(first.explains) == refuted


@pytest.mark.parametrize(("build", "kind"), {(row[0], row[1]): 0 for row in PLANTED})
def test_right_claims_are_explained_by_nothing(build: type[nn.Module], kind: str) -> None:
    claimed_case = case(build, kind, "")
    assert not any(exhibit.refuted for exhibit in claimed_case.exhibits.values())
    assert diagnose(claimed_case) == ()


def test_slope_is_told() -> None:
    first, *_ = diagnose(case(Leaky, "", "program"))
    assert first.coefficient == 0.2
    first, *_ = diagnose(case(Leaky, "", "backward"))
    assert first.coefficient == 0.1


def test_no_other_fault_is_called_so() -> None:
    assert not NAMES & {name for case in CASES for name in (case.cause, *case.like)}
