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
    "WhisperForConditionalGeneration": "whisper",
    "MixtralForCausalLM": "mixtral",
    "DeepseekV3ForCausalLM": "deepseek",
    "MambaForCausalLM": "mamba_hugging",
    "Swinv2ForImageClassification": "swin",
    "DebertaV2ForMaskedLM": "deberta",
    "LongformerForMaskedLM": "longformer",
    "Wav2Vec2ForCTC": "wav2vec2",
    "EfficientNetForImageClassification": "efficientnet",
    "XLNetLMHeadModel": "xlnet",
    "FNetForMaskedLM": "fnet",
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

# One layer each, as small as its parts allow.
_SMALL = {
    "vocab_size": 50,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


def _sounds(words: int, **given: Tensor) -> Callable[[], dict[str, Tensor]]:
    return lambda: {
        **{name: torch.randn_like(like) for name, like in given.items()},
        "labels": 3 + classes(words - 3, 2, 4),
    }


def _small_images(size: int) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"pixel_values": torch.randn(3, 3, size, size), "labels": classes(3, 3)}


_hugging(
    "WhisperForConditionalGeneration",
    {
        "vocab_size": 20,
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "num_mel_bins": 4,
        "max_source_positions": 6,
        "max_target_positions": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    _sounds(20, input_features=torch.empty(2, 4, 12)),
)
_hugging(
    "Wav2Vec2ForCTC",
    {
        **_SMALL,
        "vocab_size": 20,
        "conv_dim": (4, 4),
        "conv_stride": (5, 2),
        "conv_kernel": (10, 3),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "mask_time_prob": 0.0,
    },
    _sounds(20, input_values=torch.empty(2, 200)),
)
# A grouped product, with the groups that a histogram of the routes counts out.
_hugging("MixtralForCausalLM", _SMALL | {"num_key_value_heads": 1, "num_local_experts": 4}, _words)
_hugging(
    "DeepseekV3ForCausalLM",
    _SMALL
    | {
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 8,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "num_key_value_heads": 2,
    },
    _words,
)
_hugging(
    "MambaForCausalLM",
    {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 4},
    _words,
)
_hugging(
    "DebertaV2ForMaskedLM",
    _SMALL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    _words,
)
# Windows that overlap in memory, and views whose base is written to between two uses.
_hugging(
    "LongformerForMaskedLM",
    _SMALL | {"attention_window": [4]},
    lambda: {"input_ids": classes(50, 2, 8), "labels": classes(50, 2, 8)},
)
_hugging(
    "XLNetLMHeadModel",
    {"vocab_size": 50, "d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 16},
    _words,
)
_hugging(
    "Swinv2ForImageClassification",
    {
        "image_size": 8,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 2,
        "num_labels": 3,
        # With the library's own 0.02 bfloat16 leaves little of the gradients.
        "initializer_range": 0.2,
    },
    _small_images(8),
)
_hugging(
    "EfficientNetForImageClassification",
    {
        "image_size": 16,
        "num_labels": 3,
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40],
        "kernel_sizes": [3, 3, 5],
        "strides": [1, 2, 2],
        "num_block_repeats": [1, 1, 1],
        "expand_ratios": [1, 2, 2],
        "depthwise_padding": [],
        "width_coefficient": 0.25,
        "depth_coefficient": 1.0,
        "hidden_dim": 320,
        # With the library's own 0.02 the gradients are too small for float32.
        "initializer_range": 0.2,
    },
    _small_images(16),
)
_hugging(
    "FNetForMaskedLM",
    {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
    },
    _words,
)
