"""Planted mistakes: a network, who claims what about it, and what it should be called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from diagnose import broken
from diagnose.clamped import Clamped
from diagnose.handmade import Network
from diagnose.trials import staged

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.diagnose.case import Case

    Parts = tuple[torch.nn.Module, Callable[[torch.nn.Module], torch.Tensor], dict[str, Any]]

RELU: dict[str, Any] = {
    "sizes": [6, 8, 8, 8, 4],
    "activations": ["", "relu", "relu", ""],
    "loss": "mse",
    "batch": 8,
}
SIGMOID: dict[str, Any] = {
    "sizes": [6, 8, 8, 4],
    "activations": ["sigmoid"] * 2 + [""],
    "loss": "ce",
    "batch": 9,
}
TANH: dict[str, Any] = {
    "sizes": [5, 7, 7, 3],
    "activations": ["tanh", "tanh", ""],
    "loss": "square",
    "batch": 6,
}
NETWORKS = {"relu": RELU, "sigmoid": SIGMOID, "tanh": TANH}


@dataclass(frozen=True)
class Planted:
    """A mistake in a network.

    Attributes
    ----------
    name : str
    cause : str
        What it should be called.
    place : str
        What the place begins with; empty if it is nowhere in particular.
    parts : callable
        From a seed to the model, its loss, and the claims.
    like : tuple of str
        Causes that cannot be told from it here, and are right, too.
    """

    name: str
    cause: str
    place: str
    parts: Callable[[int], Parts] = field(repr=False)
    like: tuple[str, ...] = ()

    def build(self, seed: int) -> Case:
        return staged(*self.parts(seed))


def by_hand(
    network: str, mistake: str, at: Any, cause: str, place: str = "", *like: str
) -> Planted:
    def parts(seed: int) -> Parts:
        handmade = Network(**NETWORKS[network], seed=seed, mistakes={mistake: at})
        return handmade.model(), handmade.torch_loss, handmade.claims()

    return Planted(f"{network}: {mistake} {at}", cause, place, parts, like)


def in_torch(
    name: str,
    kind: Callable[..., torch.nn.Module],
    mistake: dict[str, Any],
    cause: str,
    place: str = "",
    *like: str,
    honest: dict[str, Any] | None = None,
    setting: Callable[[torch.nn.Module, bool], None] | None = None,
) -> Planted:
    def parts(seed: int) -> Parts:
        models = []
        for arguments in (honest or {}, {**(honest or {}), **mistake}):
            torch.manual_seed(seed)
            models.append(kind(**arguments))
        right, wrong = models
        if setting is not None:
            setting(right, True)
            setting(wrong, False)
        wrong.load_state_dict(right.state_dict())
        loss = loss_for(right, seed)
        loss(wrong).backward()  # type: ignore[no-untyped-call]
        claims = {
            n: torch.zeros_like(p) if p.grad is None else p.grad
            for n, p in wrong.named_parameters()
        }
        return right, loss, {n: g.numpy() for n, g in claims.items()}

    return Planted(f"{name}: {mistake or 'mode'}", cause, place, parts, like)


def permuted(seed: int) -> Parts:
    torch.manual_seed(seed)
    model = broken.Images()
    loss = loss_for(model, seed)
    loss(model).backward()  # type: ignore[no-untyped-call]
    claims = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return model, loss, {**claims, "second.weight": claims["second.weight"].transpose(0, 2, 3, 1)}


def loss_for(model: torch.nn.Module, seed: int) -> Callable[[torch.nn.Module], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed + 1000)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if isinstance(model, broken.Transformer):
        words = torch.randint(0, 7, (3, 5), generator=generator)
        target = torch.randint(0, 7, (15,), generator=generator)
        return lambda m: functional.cross_entropy(m(words).reshape(15, 7), target)
    if isinstance(model, broken.Cached):
        before, x, y = normal(12, 5), normal(12, 5), normal(12, 3)
        return lambda m: (m(before, anew=True), functional.mse_loss(m(x), y))[1]
    if isinstance(model, broken.Images):
        x, y = normal(3, 2, 10, 10), normal(3, 3)
    elif isinstance(model, broken.Tied):
        x = normal(5, 7)
        y = x
    elif isinstance(model, broken.Residual):
        x, y = normal(5, 4), normal(5, 2)
    else:
        x, y = normal(12, 5), normal(12, 3)
    return lambda m: functional.mse_loss(m(x), y)


def _modes(training: bool) -> Callable[[torch.nn.Module, bool], None]:
    return lambda model, right: (model.train(right is training), None)[1]


G, BY_WHERE = broken.Guarded, "NaN through where"
T, N, C, R = broken.Transformer, broken.Normal, broken.Images, broken.Residual
NO_DELTA = "delta without activation derivative"

CASES = (
    by_hand("relu", "no derivative", 1, "relu mask missing", "3 "),
    by_hand("relu", "no derivative", 2, "relu mask missing", "5 "),
    by_hand("relu", "no derivative", None, "relu mask missing", "2 steps"),
    by_hand("relu", "mask where none", 0, "relu mask where there is none", "0 "),
    by_hand("relu", "mask where none", 3, "relu mask where there is none", "6 "),
    by_hand("relu", "untransposed", 1, "weight not transposed in backward", "2 "),
    by_hand("relu", "untransposed", None, "weight not transposed in backward", "2 steps"),
    by_hand("relu", "stops", 2, "detached"),
    by_hand("relu", "pre-activation operand", 2, "wrong operand: pre-activation", "4 "),
    by_hand("relu", "pre-activation operand", None, "wrong operand: pre-activation", "2 steps"),
    by_hand("relu", "own output operand", 2, "wrong operand: own output", "4 "),
    by_hand("relu", "layer before's operand", 2, "wrong operand: input of another layer", "4 "),
    by_hand("relu", "raw delta", 1, NO_DELTA, "2 "),
    by_hand("relu", "raw delta", None, NO_DELTA, "2 steps"),
    by_hand("relu", "one sample", None, "one sample of the batch"),
    by_hand("relu", "no 2", None, "missing factor 2"),
    by_hand("relu", "sum", None, "mean against sum"),
    by_hand("relu", "updated", 0.05, "weights already updated"),
    by_hand("relu", "updated within", 0.05, "weight updated within backward"),
    by_hand("sigmoid", "no derivative", 0, "activation derivative missing", "", NO_DELTA),
    by_hand("sigmoid", "no derivative", None, "activation derivative missing", "2 steps"),
    by_hand("sigmoid", "at the activation", 0, "derivative taken at the activation", "1 "),
    by_hand("sigmoid", "at the activation", None, "derivative taken at the activation", "2 steps"),
    by_hand("sigmoid", "formula of z", 1, "derivative formula given the pre-activation", "3 "),
    by_hand("sigmoid", "tanh's derivative", 1, "derivative of tanh taken", "3 "),
    by_hand("sigmoid", "tanh's derivative", 2, "activation derivative where there is none", "4 "),
    by_hand("sigmoid", "no target", None, "softmax-cross-entropy without -y"),
    by_hand("sigmoid", "elementwise softmax", None, "softmax treated elementwise"),
    by_hand("sigmoid", "no 1/B", None, "softmax-cross-entropy without 1/B", "", "mean against sum"),
    by_hand("sigmoid", "twice", None, "softmax derivative applied twice"),
    by_hand("sigmoid", "updated", 0.1, "weights already updated"),
    by_hand("sigmoid", "updated within", 0.1, "weight updated within backward"),
    by_hand("sigmoid", "untransposed", 1, "weight not transposed in backward", "2 "),
    by_hand("sigmoid", "one sample", None, "one sample of the batch"),
    by_hand("sigmoid", "own output operand", 1, "wrong operand: own output", "2 "),
    by_hand("tanh", "no 2", None, "missing factor 2"),
    by_hand("tanh", "sum", None, "mean against sum"),
    by_hand("tanh", "sigmoid's derivative", 1, "derivative of the sigmoid taken", "3 "),
    by_hand("tanh", "sigmoid's derivative", 2, "activation derivative where there is none", "4 "),
    by_hand("tanh", "formula of z", 0, "derivative formula given the pre-activation", "1 "),
    by_hand("tanh", "at the activation", None, "derivative taken at the activation", "2 steps"),
    by_hand("tanh", "pre-activation operand", 1, "wrong operand: pre-activation", "2 "),
    by_hand("tanh", "mask where none", 2, "relu mask where there is none", "4 "),
    by_hand("tanh", "stops", 2, "detached"),
    by_hand("tanh", "bias not summed", 1, "broadcast not summed"),
    by_hand("tanh", "bias over outputs", 1, "summed over the wrong axis"),
    in_torch(
        "transformer", T, {"mistake": "mean"}, "LayerNorm mean path dropped", "blocks.1.first"
    ),
    in_torch(
        "transformer",
        T,
        {"mistake": "variance"},
        "LayerNorm variance path dropped",
        "blocks.1.first",
    ),
    in_torch(
        "transformer", T, {"mistake": "both"}, "LayerNorm statistics as constants", "blocks.1.first"
    ),
    in_torch(
        "transformer",
        T,
        {"mistake": "mean twice"},
        "LayerNorm mean path counted twice",
        "blocks.1.first",
    ),
    in_torch("transformer", T, {"mistake": "gamma"}, "gamma omitted", "blocks.1.first"),
    in_torch("transformer", T, {"mistake": "scale"}, "attention scale missing", "blocks.1"),
    in_torch("transformer", T, {"mistake": "mask"}, "attention mask ignored", "blocks.1"),
    in_torch("transformer", T, {"mistake": "diagonal"}, "softmax treated elementwise", "blocks.1"),
    in_torch("transformer", T, {"mistake": "no mean"}, "softmax without its mean", "blocks.1"),
    in_torch("transformer", T, {"mistake": "skip"}, "one path dropped", "blocks.1"),
    in_torch("transformer", T, {"mistake": "gate"}, "product rule half done", "blocks.1"),
    in_torch(
        "transformer", T, {"mistake": "other"}, "other form of gelu differentiated", "blocks.1"
    ),
    in_torch("transformer", T, {"mistake": "rows"}, "embedding rows overwritten", "table"),
    in_torch("batch norm", N, {"mistake": "mean"}, "BatchNorm mean path dropped", "norms.1"),
    in_torch(
        "batch norm", N, {"mistake": "variance"}, "BatchNorm variance path dropped", "norms.1"
    ),
    in_torch(
        "batch norm",
        N,
        {"mistake": "variance twice"},
        "BatchNorm variance path counted twice",
        "norms.1",
    ),
    in_torch("batch norm", N, {"mistake": "both"}, "BatchNorm statistics as constants", "norms.1"),
    in_torch("batch norm", N, {"mistake": "gamma"}, "gamma omitted", "norms.1"),
    in_torch("batch norm", N, {"mistake": "raw"}, "gamma's gradient with the raw input", "norms.1"),
    in_torch("batch norm", N, {"mistake": "eps"}, "eps elsewhere", "norms.1"),
    in_torch("transformer", T, {"mistake": "eps"}, "eps elsewhere", "blocks.1"),
    in_torch("batch norm", N, {"mistake": "dropout mask"}, "dropout mask not applied in backward"),
    in_torch(
        "batch norm", N, {"mistake": "dropout no mask"}, "dropout mask not applied in backward"
    ),
    in_torch("batch norm", N, {"mistake": "dropout scale"}, "dropout scale missing"),
    in_torch("batch norm", N, {"mistake": "dropout off"}, "train/eval mismatch"),
    in_torch("running", broken.Running, {}, "train/eval mismatch", "norm", setting=_modes(True)),
    in_torch("running", broken.Running, {}, "train/eval mismatch", "norm", setting=_modes(False)),
    in_torch("images", C, {"mistake": "spread"}, "max pool spreads evenly"),
    in_torch("images", C, {"mistake": "all"}, "max pool gives to all"),
    in_torch("images", C, {"mistake": "all"}, "avg pool not divided", honest={"pool": "avg"}),
    in_torch("images", C, {"mistake": "flip"}, "convolution kernel flipped in backward", "second"),
    in_torch("images", C, {"mistake": "stride"}, "stride ignored", "second"),
    Planted("images: axes permuted", "axes permuted", "", permuted),
    in_torch("residual", R, {"mistake": "skip"}, "one path dropped"),
    in_torch("residual", R, {"mistake": "branch"}, "one path dropped", "layers.1"),
    in_torch("tied", broken.Tied, {"mistake": "encoder"}, "tied weight counted once"),
    in_torch("tied", broken.Tied, {"mistake": "decoder"}, "tied weight counted once"),
    in_torch("clamped", Clamped, {"mistake": "ignored"}, "clamp ignored in backward", "Clamped"),
    in_torch("clamped", Clamped, {"mistake": "added"}, "clamp where there is none", "second "),
    in_torch("clamped", Clamped, {"mistake": "left out"}, "clamp left out", "Clamped"),
    *(
        in_torch("cached", broken.Cached, {"mistake": mistake}, "stale forward", place)
        for mistake, place in [
            ("first input", "first "),
            ("shared input", "shared "),
            ("output input", "output "),
            ("all inputs", "3 steps"),
            ("relu", "Cached"),
            ("tanh", "Cached"),
        ]
    ),
    in_torch(
        "cached twice",
        broken.Cached,
        {"mistake": "overwritten"},
        "stale forward",
        "shared ",
        honest={"twice": True},
    ),
    *(
        in_torch(f"guarded {at} {guard}", G, {"mistake": mistake}, BY_WHERE, honest=honest)
        for at, guard, mistake in [
            ("scale", "where", "single"),
            ("scale", "fill", "times mask"),
            ("scale", "index", "single"),
            ("hidden", "fill", "single"),
            ("hidden", "index", "single"),
            ("distances", "where", "single"),
            ("both", "where", "single"),
        ]
        for honest in [{"at": at, "guard": guard}]
    ),
)
