"""Training steps through factors of matrices: Cholesky's, eigenvectors, singular values, Q R."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _DeepKernel(nn.Module):
    """The covariance of a Gaussian process over features that a network makes, and its noise."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, features))
        self.scales = nn.Parameter(torch.zeros(features))
        self.size = nn.Parameter(torch.zeros(()))
        self.noise = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.net(x).to(self.scales) * self.scales.exp()
        squares = (z[:, None] - z).square().sum(-1)
        covariance: Tensor = self.size.exp() * torch.exp(-squares / 2)
        return covariance + self.noise.exp() * torch.eye(len(x))


@entry
def gaussian_process() -> Workload:
    model = _DeepKernel(3, 2)
    x, y = torch.randn(9, 3), torch.randn(9, 1)

    def loss() -> Tensor:
        L: Tensor = torch.linalg.cholesky(model(x))
        fit: Tensor = y.mT @ torch.cholesky_solve(y, L)
        return (fit.squeeze() + len(x) * math.log(2 * math.pi)) / 2 + L.diagonal().log().sum()

    return Workload(model, loss)


class _Whitening(nn.Module):
    """Make the covariance of a batch the identity, by its eigenvectors."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.get_default_dtype())
        x = x - x.mean(0)
        covariance = x.mT @ x / len(x) + 1e-3 * torch.eye(x.shape[1])
        values, vectors = torch.linalg.eigh(covariance)
        whitened: Tensor = x @ (vectors * values.rsqrt()) @ vectors.mT
        return whitened


@entry
def whitening() -> Workload:
    first = nn.Linear(6, 5)
    model = nn.Sequential(first, _Whitening(), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(12, 6), classes(3, 12)

    def loss() -> Tensor:
        steep = torch.linalg.matrix_norm(first.weight, 2)
        rank = torch.linalg.matrix_norm(first.weight, "nuc")
        total: Tensor = F.cross_entropy(model(x), y) + 0.1 * steep + 0.01 * rank
        return total

    return Workload(model, loss)


class _FullCovariance(nn.Module):
    """An autoencoder whose codes have a covariance each, in coordinates that stay orthogonal."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.code = code
        self.encoder = nn.Linear(width, code + code * code)
        self.basis = nn.Parameter(torch.randn(code, code))
        self.decoder = nn.Linear(code, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.encoder(x).to(self.basis)
        mean, raw = made[:, : self.code], made[:, self.code :].unflatten(1, (self.code, -1))
        L = raw.tril(-1) + torch.diag_embed(F.softplus(raw.diagonal(dim1=1, dim2=2)) + 0.1)
        code = MultivariateNormal(mean, scale_tril=L, validate_args=False)
        prior = torch.eye(self.code) + 0.5
        usual = MultivariateNormal(torch.zeros(self.code), prior, validate_args=False)
        Q, _ = torch.linalg.qr(self.basis)
        return self.decoder(code.rsample() @ Q), kl_divergence(code, usual).mean()


@entry
def full_covariance() -> Workload:
    model = _FullCovariance(6, 3)
    x = torch.randn(8, 6)

    def loss() -> Tensor:
        found, gap = model(x)
        total: Tensor = F.mse_loss(found.to(x), x) + gap
        return total

    return Workload(model, loss)
