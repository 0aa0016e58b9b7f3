"""Vectors that met columns by mistake, and pairs that are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "shapes broadcast"
X = data(16)
Y = torch.randn(16, generator=torch.Generator().manual_seed(2))
COLUMN = Y.clone().reshape(16, 1)


def watched(loss: Callable[[Any], Any]) -> gw.Witness:
    model = network()
    with gw.watch(model) as witness:
        loss(model).backward()
    return witness


def by_hand(model: Any) -> Any:
    return ((model(X) - Y) ** 2).mean()


def clipped_values(model: Any) -> Any:
    values, old = model(X).squeeze(-1), COLUMN + 0.1
    clipped = old + (values - old).clamp(-0.2, 0.2)
    return torch.max((values - COLUMN) ** 2, (clipped - COLUMN) ** 2).mean()


def advantage(model: Any) -> Any:
    return -(Y * F.logsigmoid(model(X))).mean()


def log_probability(model: Any) -> Any:
    normal: Any = torch.distributions.Normal(model(X), 1.0, validate_args=False)
    return -normal.log_prob(Y).mean()


def masked(model: Any) -> Any:
    keep = (Y > 0).float()
    return ((model(X) - Y).abs() * keep).sum() / keep.sum()


def gathered(model: Any) -> Any:
    actions = torch.arange(16) % 4
    return (model[0](X).gather(1, actions[:, None]) - Y).square().mean()


def sliced(model: Any) -> Any:
    return (model[0](X)[:, :1] - Y).abs().mean()


def norm(model: Any) -> Any:
    return torch.linalg.norm(model(X) - Y) ** 2 / 16


def norm_of_two(model: Any) -> Any:
    return (model(X) - Y).norm()


def axis_by_axis(model: Any) -> Any:
    return ((model(X) - Y).abs().sum(0) / 2).mean()


@pytest.mark.parametrize(
    "loss",
    [
        by_hand,
        clipped_values,
        advantage,
        log_probability,
        masked,
        gathered,
        sliced,
        norm,
        norm_of_two,
        axis_by_axis,
    ],
)
def test_a_column_that_met_a_vector_in_a_loss(loss: Callable[[Any], Any]) -> None:
    assert KIND in kinds(watched(loss).report.notes)


def test_it_says_where_and_which_shapes(snapshot: SnapshotAssertion) -> None:
    (note,) = watched(by_hand).report.notes
    assert at(note, by_hand, "- Y")
    assert plain(note.text) == snapshot


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.l1_loss])
@pytest.mark.parametrize("squeezed", ["target", "prediction"])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_torchs_own_losses(loss: Any, squeezed: str) -> None:
    def step(model: Any) -> Any:
        p = model(X)
        return loss(p, Y) if squeezed == "target" else loss(p.squeeze(-1), COLUMN)

    assert kinds(watched(step).report.notes) == [KIND]


def all_pairs(model: Any) -> Any:
    p = model(X)
    q = p.squeeze(-1)
    differences = (p - p.T).square().mean() + (q[:, None] - q).square().mean()
    return differences + (p - p.flatten()).square().mean() + torch.relu(1 - q[:, None] + Y).mean()


def outer_product(model: Any) -> Any:
    return (model(X).squeeze(-1).unsqueeze(1) * Y).exp().mean()


def features_of_a_number(model: Any) -> Any:
    # 16 centres for 16 samples: each row goes on by itself.
    rows = torch.exp(-((model(X) - torch.linspace(0, 1, 16)) ** 2))
    waves = torch.sin(model(X) * torch.arange(16.0))
    return (rows @ torch.ones(16)).mean() + waves.sum(1).square().mean() + rows.logsumexp(1).mean()


def contrastive(model: Any) -> Any:
    one, other = (F.normalize(model[0](x), dim=-1) for x in (X, X + 0.1))
    return F.cross_entropy(one @ other.T, torch.arange(16))


def triplets(model: Any) -> Any:
    distances = torch.cdist(model[0](X), model[0](X + 1))
    return F.softplus(distances.diag()[:, None] - distances).mean()


def linear_from_one(model: Any) -> Any:
    torch.manual_seed(0)
    return nn.Linear(1, 16)(model(X)).square().mean()


def right_shapes(model: Any) -> Any:
    p = model(X)
    return F.mse_loss(p.squeeze(-1), Y) + (p - COLUMN).abs().mean() + (p - p.mean(0)).abs().mean()


def centres(model: Any) -> Any:
    # As many centres as samples: each is a parameter.
    some, column = (nn.Parameter(numbers.clone()) for numbers in (Y, COLUMN))
    rows = torch.exp(-((model(X) - some) ** 2)).sum()
    return rows + torch.exp(-((model(X).squeeze(-1) - column) ** 2)).sum()


def norm_of_pairs(model: Any) -> Any:
    q = model(X).squeeze(-1)
    return torch.linalg.norm(q[:, None] - q) + torch.linalg.norm(model(X) - Y, dim=1).log().mean()


def shares(model: Any) -> Any:
    # Each row is divided by its own sum, or squared: the sums are no sums of all pairs.
    weights = torch.exp(-((model(X) - Y) ** 2))
    rows = weights.sum(1)
    return (Y / rows).mean() + (rows * rows).mean() + (rows * Y).mean()


def one_sample(model: Any) -> Any:
    return (model(X[:1]) - Y[:1]).square().mean()


@pytest.mark.parametrize(
    "loss",
    [
        all_pairs,
        outer_product,
        features_of_a_number,
        contrastive,
        triplets,
        linear_from_one,
        right_shapes,
        centres,
        norm_of_pairs,
        shares,
        one_sample,
    ],
)
def test_pairs_that_are_meant(loss: Callable[[Any], Any]) -> None:
    assert KIND not in kinds(watched(loss).report.notes)
