"""Small real architectures, each with a training step: what the witness must judge in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class Workload:
    """A model and what a training step does to it: ``loss()`` runs the forward pass."""

    model: nn.Module
    loss: Callable[[], Tensor]


ZOO: dict[str, Callable[[], Workload]] = {}


def _entry(make: Callable[[], Workload]) -> Callable[[], Workload]:
    ZOO[make.__name__] = make
    return make


def build(name: str, seed: int = 0) -> Workload:
    """Build a workload of the zoo with random weights and data."""
    torch.manual_seed(seed)
    return ZOO[name]()


def _classes(count: int, *shape: int) -> Tensor:
    return torch.randint(0, count, shape)


@_entry
def mlp() -> Workload:
    model = nn.Sequential(
        nn.Linear(12, 24),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(24, 24),
        nn.SiLU(),
        nn.Linear(24, 5),
    )
    x, y = torch.randn(8, 12), _classes(5, 8)
    return Workload(model, lambda: F.cross_entropy(model(x), y, label_smoothing=0.1))


@_entry
def lenet() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 25, 10),
    )
    x, y = torch.rand(4, 1, 28, 28), _classes(10, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _Residual(nn.Module):
    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x), inplace=True)


@_entry
def residual() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        _Residual(8, 8, 1),
        _Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    x, y = torch.randn(4, 3, 32, 32), _classes(5, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(6, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True), nn.LeakyReLU(0.1)
        )
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.learned = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.out = nn.Conv2d(6 + 12 + 6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.middle(F.max_pool2d(skip, 2))
        return self.out(torch.cat([skip, self.smooth(deep), self.learned(deep)], 1))  # type: ignore[no-any-return]


@_entry
def unet() -> Workload:
    model = _UNet()
    x, y = torch.randn(2, 2, 16, 16), _classes(3, 2, 16, 16)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


@_entry
def lstm() -> Workload:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(20, 8), "rnn": nn.LSTM(8, 12, 2), "out": nn.Linear(12, 20)}
    )
    x, y = _classes(20, 7, 3), _classes(20, 21)

    def loss() -> Tensor:
        hidden, _ = model["rnn"](model["embed"](x))
        return F.cross_entropy(model["out"](hidden).flatten(0, 1), y)

    return Workload(model, loss)


@_entry
def gru() -> Workload:
    model = nn.ModuleDict(
        {"rnn": nn.GRU(6, 10, 2, bidirectional=True, batch_first=True), "out": nn.Linear(20, 1)}
    )
    x, y = torch.randn(4, 6, 6), torch.rand(4, 1)

    def loss() -> Tensor:
        hidden, _ = model["rnn"](x)
        return F.binary_cross_entropy_with_logits(model["out"](hidden[:, -1]), y)

    return Workload(model, loss)


@_entry
def encoder() -> Workload:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 9)
    )
    x, y = torch.randn(3, 6, 16), _classes(9, 18)
    return Workload(model, lambda: F.cross_entropy(model(x).flatten(0, 1), y))


@_entry
def decoder() -> Workload:
    layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    model = nn.TransformerDecoder(layer, 2)
    memory, x, y = torch.randn(3, 5, 16), torch.randn(3, 6, 16), torch.randn(3, 6, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    return Workload(
        model,
        lambda: F.smooth_l1_loss(model(x, memory, tgt_mask=mask, tgt_is_causal=True), y),
    )


def _hugging(name: str, config: dict[str, Any], inputs: Callable[[], dict[str, Tensor]]) -> None:
    def make() -> Workload:
        import transformers

        kind = getattr(transformers, name)
        settings = kind.config_class(**config)
        model = kind(settings)
        model.train()
        given = inputs()
        return Workload(model, lambda: model(**given).loss)

    make.__name__ = _SHORT[name]
    _entry(make)


_SHORT = {
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "BertForMaskedLM": "bert",
    "T5ForConditionalGeneration": "t5",
    "ViTForImageClassification": "vit",
    "ResNetForImageClassification": "resnet",
    "CLIPModel": "clip",
}


def _words() -> dict[str, Tensor]:
    words = _classes(50, 2, 9)
    return {"input_ids": words, "labels": words}


def _padded_words() -> dict[str, Tensor]:
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return _words() | {"attention_mask": mask}


def _images() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(3, 3, 32, 32), "labels": _classes(4, 3)}


def _pairs() -> dict[str, Any]:
    return {
        "input_ids": _classes(50, 3, 7),
        "pixel_values": torch.randn(3, 3, 32, 32),
        "return_loss": True,
    }


_hugging(
    "GPT2LMHeadModel",
    {
        "vocab_size": 50,
        "n_positions": 16,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    _words,
)
_hugging(
    "LlamaForCausalLM",
    {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16,
    },
    _words,
)
_hugging(
    "BertForMaskedLM",
    {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
    },
    _padded_words,
)
_hugging(
    "T5ForConditionalGeneration",
    {
        "vocab_size": 50,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    _words,
)
_hugging(
    "ViTForImageClassification",
    {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "image_size": 32,
        "patch_size": 8,
        "num_labels": 4,
    },
    _images,
)
_hugging(
    "ResNetForImageClassification",
    {
        "embedding_size": 8,
        "hidden_sizes": [16, 24],
        "depths": [1, 1],
        "layer_type": "bottleneck",
        "num_labels": 4,
    },
    _images,
)
_hugging(
    "CLIPModel",
    {
        "projection_dim": 12,
        "text_config": {
            "vocab_size": 50,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "projection_dim": 12,
            "max_position_embeddings": 16,
            "eos_token_id": 1,
        },
        "vision_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 12,
        },
    },
    _pairs,
)
