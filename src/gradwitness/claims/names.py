"""Parse the names of gradients: which layer, and whether it is a weight or a bias."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WEIGHT = {"weight", "weights", "kernel", "w", "dw", "gw", "gamma", "scale"}
_BIAS = {"bias", "biases", "b", "db", "gb", "beta", "offset"}
# Long forms are safe as synonyms; single letters only where layers are compared.
_LONG = {"weights": "weight", "kernel": "weight", "kernels": "weight", "biases": "bias"}
_GRADIENT = {"grad", "grads", "gradient", "gradients", "of", "the", "for", "wrt"}
_WHOLE = {"module", "model", "net", "network", "params", "param", "parameters"}
_LAYERS = {"layer": "layer", "layers": "layer"}
_LAST = {"output", "last", "final", "out", "head"}
_FIRST = {"input", "first", "in"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SUFFIX = re.compile(r":\d+$")  # of TensorFlow's variables


@dataclass(frozen=True)
class Name:
    """A parsed name."""

    role: str  # `weight`, `bias`, or empty
    layer: tuple[str, ...]  # all other words, in order
    numbers: tuple[int, ...]


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(_SUFFIX.sub("", name)))


def light_key(name: str) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
    """Return a name's words, sorted, and its numbers in order; words like gradient are dropped."""
    words = [w for w in _words(name) if w not in _GRADIENT and w not in _WHOLE]
    plain = sorted(_LAYERS.get(_LONG.get(w, w), _LONG.get(w, w)) for w in words if not w.isdigit())
    numbers = tuple(_number(w) for w in words if w.isdigit())
    return (tuple(plain), numbers) if plain else None


def _number(word: str) -> int:
    return int(word[:18])


@lru_cache(maxsize=4096)
def parsed(name: str) -> Name:
    """Parse a name."""
    words = [w for w in _words(name) if w not in _GRADIENT and w not in {"d", "dl", "ld"}]
    roles = ["weight" if w in _WEIGHT else "bias" for w in words if w in _WEIGHT | _BIAS]
    layer = tuple(w for w in words if w not in _WEIGHT | _BIAS)
    numbers = tuple(_number(w) for w in layer if w.isdigit())
    return Name(roles[0] if len(roles) == 1 else "", layer, numbers)


def by_rank(references: list[str], claims: list[str]) -> dict[str, str]:
    """Match layers from the first to the last, if both sides have the same weights and biases.

    The reference's names come in order. Claims are ordered by their number; input comes first,
    output last. Empty if that does not order them, or if the two sides do not correspond.
    """
    reference_layers = _layers(references)
    claimed_layers = _layers(claims)
    order = sorted(claimed_layers, key=_rank)
    ranks = [_rank(layer) for layer in order]
    if len(reference_layers) != len(order) or len(set(ranks)) < len(ranks):
        return {}
    matches: dict[str, str] = {}
    for reference, claimed in zip(
        reference_layers.values(), (claimed_layers[layer] for layer in order), strict=True
    ):
        if reference.keys() != claimed.keys():
            return {}
        matches.update({reference[role]: claimed[role] for role in reference})
    return matches


def by_kind(references: list[str], claims: list[str], axes: Callable[[str], int]) -> dict[str, str]:
    """Match like `by_rank`, but dense layers and convolutions separately.

    ``Conv_0`` and ``Dense_0`` both bear the number 0, each as the first of its kind. The number of
    axes of its weight tells a layer's kind; ``axes`` returns it for a name on either side.
    """
    kinds = [_kinds(names, axes) for names in (references, claims)]
    if kinds[0].keys() != kinds[1].keys():
        return {}
    matches: dict[str, str] = {}
    for kind, names in kinds[0].items():
        ranked = by_rank(names, kinds[1][kind])
        if not ranked:
            return {}
        matches.update(ranked)
    return matches


def _kinds(names: list[str], axes: Callable[[str], int]) -> dict[int, list[str]]:
    kinds: dict[int, list[str]] = {}
    for parts in _layers(names).values():
        kind = axes(parts["weight"]) if "weight" in parts else 0
        kinds.setdefault(kind, []).extend(parts.values())
    return kinds


def forward_order(names: list[str]) -> list[str]:
    """Return names in the order of the forward pass, if numbers of like layers tell it.

    ``dw3 db3 dw2 db2`` is the order of a backward pass: ``dw2`` comes first. Layers of several
    kinds (``conv1``, ``fc1``) stay in their source's order, as each kind counts for itself.
    """
    layers = [parsed(name).layer for name in names]
    ends = _FIRST | _LAST
    kinds = {
        tuple(w for w in layer if not w.isdigit()) for layer in layers if not ends & set(layer)
    }
    if len(kinds) > 1 or len({_rank(layer) for layer in layers}) != len(set(layers)):
        return names
    return [name for _, name in sorted(zip(layers, names, strict=True), key=lambda p: _rank(p[0]))]


def is_kernel(name: str) -> bool:
    """Whether a name says kernel, as in Flax and Keras, rather than weight, as in PyTorch."""
    return "kernel" in _words(name)


def _layers(names: list[str]) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the names of each layer's weight and bias; empty if a name has no role."""
    layers: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        meaning = parsed(name)
        parts = layers.setdefault(meaning.layer, {})
        if not meaning.role or meaning.role in parts:
            return {}
        parts[meaning.role] = name
    return layers


def _rank(layer: tuple[str, ...]) -> tuple[int, tuple[int, ...]]:
    end = -1 if _FIRST & set(layer) else 1 if _LAST & set(layer) else 0
    return end, tuple(_number(word) for word in layer if word.isdigit())
