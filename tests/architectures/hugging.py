"""Architectures as the transformers library builds them: small, with random weights, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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
    entry(make)


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
    words = classes(50, 2, 9)
    return {"input_ids": words, "labels": words}


def _padded_words() -> dict[str, Tensor]:
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return _words() | {"attention_mask": mask}


def _images() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(3, 3, 32, 32), "labels": classes(4, 3)}


def _pairs() -> dict[str, Any]:
    return {
        "input_ids": classes(50, 3, 7),
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
