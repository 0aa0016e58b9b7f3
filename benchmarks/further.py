"""Are further layers, losses and models refuted though autograd is right? One line for each.

``python benchmarks/further.py [NAME ...]``. None of them is in the test suite's zoo: torch's layers
and losses between linear ones, and small models of other families of transformers. Each runs one
training step in float32 and under bfloat16 autocast; every DISAGREES is false.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ["HF_HUB_OFFLINE"] = "1"

import gradwitness
from architectures.workload import Workload, classes
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

# By the shape of their input, of which the first number is the batch.
LAYERS: dict[tuple[int, ...], dict[str, tuple[Any, ...]]] = {
    (5, 12): {
        **dict.fromkeys(
            [
                "CELU",
                "ELU",
                "GELU",
                "Hardshrink",
                "Hardsigmoid",
                "Hardswish",
                "Hardtanh",
                "LeakyReLU",
                "LogSigmoid",
                "Mish",
                "PReLU",
                "ReLU6",
                "RReLU",
                "SELU",
                "SiLU",
                "Softplus",
                "Softshrink",
                "Softsign",
                "Tanhshrink",
                "Identity",
                "Softmin",
            ],
            (),
        ),
        "Threshold": (0.1, 0.3),
        "GLU": (),
        "BatchNorm1d": (12,),
        "RMSNorm": (12,),
        "AlphaDropout": (0.3,),
        "Unflatten": (1, (3, 4)),
    },
    (4, 6, 9): {
        "AdaptiveAvgPool1d": (4,),
        "AdaptiveMaxPool1d": (4,),
        "AvgPool1d": (3, 2),
        "LPPool1d": (2, 3),
        "CircularPad1d": (2,),
        "Conv1d": (6, 4, 3, 2, 1),
        "ConvTranspose1d": (6, 4, 3, 2),
        "FeatureAlphaDropout": (0.3,),
        "GRU": (9, 5),
        "InstanceNorm1d": (6,),
        "LSTM": (9, 5),
        "MaxPool1d": (3, 2),
        "ReflectionPad1d": (2,),
        "RNN": (9, 5),
        "TransformerEncoderLayer": (9, 3, 16),
        "Upsample": (15, None, "linear"),
        "LogSoftmax": (1,),
    },
    (3, 4, 6, 6): {
        "AdaptiveAvgPool2d": (4,),
        "AdaptiveMaxPool2d": (4,),
        "AvgPool2d": (3, 2),
        "ChannelShuffle": (2,),
        "Conv2d": (4, 6, 3, 1, 1, 1, 2),
        "ConvTranspose2d": (4, 6, 3, 2, 1, 1),
        "Dropout2d": (0.3,),
        "GroupNorm": (2, 4),
        "InstanceNorm2d": (4, 1e-5, 0.1, True),
        "LPPool2d": (2, 3),
        "LocalResponseNorm": (3,),
        "MaxPool2d": (3, 2),
        "PixelShuffle": (2,),
        "PixelUnshuffle": (2,),
        "ReplicationPad2d": (1,),
        "Softmax2d": (),
        "Unfold": (3,),
        "UpsamplingBilinear2d": (9,),
        "UpsamplingNearest2d": (9,),
        "ZeroPad2d": (1,),
    },
    (2, 3, 4, 4, 4): {
        "AdaptiveAvgPool3d": (2,),
        "AvgPool3d": (2,),
        "BatchNorm3d": (3,),
        "Conv3d": (3, 4, 3, 1, 1),
        "ConvTranspose3d": (3, 2, 2, 2),
        "MaxPool3d": (2,),
        "ReplicationPad3d": (1,),
    },
}
NUMBERS = ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "SoftMarginLoss")
CLASSES = ("CrossEntropyLoss", "MultiMarginLoss", "NLLLoss")
PAIRS = ("CosineEmbeddingLoss", "MarginRankingLoss", "TripletMarginLoss", "HingeEmbeddingLoss")
PROBABILITIES = ("BCEWithLogitsLoss", "KLDivLoss", "PoissonNLLLoss", "GaussianNLLLoss",
                 "MultiLabelSoftMarginLoss", "MultiLabelMarginLoss")  # fmt: skip
# Not yoso: it approximates its gradient, on purpose.
MODELS = [
    "albert",
    "bart",
    "bigbird_pegasus",
    "biogpt",
    "blenderbot",
    "bloom",
    "camembert",
    "cohere",
    "convbert",
    "ctrl",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "falcon",
    "gemma",
    "gemma2",
    "gpt_bigcode",
    "gpt_neox",
    "gptj",
    "granite",
    "led",
    "m2m_100",
    "marian",
    "mbart",
    "mistral",
    "mobilebert",
    "mpnet",
    "mpt",
    "mvp",
    "nystromformer",
    "olmo",
    "olmo2",
    "opt",
    "pegasus",
    "persimmon",
    "phi",
    "phi3",
    "plbart",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "rembert",
    "roberta",
    "roc_bert",
    "roformer",
    "smollm3",
    "squeezebert",
    "stablelm",
    "starcoder2",
    "xglm",
    "xlm",
    "xlm-roberta",
]
# Whatever of this a configuration knows, by any of its names.
SMALL: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "embedding_size", "dim", "embed_dim"], 16),
    **dict.fromkeys(
        ["num_hidden_layers", "encoder_layers", "decoder_layers", "n_layers", "n_layer"], 1
    ),
    **dict.fromkeys(["num_attention_heads", "num_key_value_heads", "n_head", "n_heads"], 2),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"], 24),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_seq_len"], 32),
    "vocab_size": 50,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    "state_size": 4,
    "num_heads": 2,
    "expand": 2,
    "num_experts": 4,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "embedding_dim": 16,
    "attention_types": [[["global", "local"], 1]],
    "num_layers": 2,
    "attention_window": 4,
    "true_hidden_size": 16,
    "intra_bottleneck_size": 16,
    "input_embedding_size": 16,
    "output_embedding_size": 16,
    "d_ff": 24,
    "n_inner": 24,
    "hidden_dim": 24,
    "dff": 24,
    "encoder_ffn": 24,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}


def layer(name: str, shape: tuple[int, ...], given: tuple[Any, ...]) -> Workload:
    """Return a layer between two linear ones."""
    first, inner = nn.Linear(shape[-1], shape[-1]), getattr(nn, name)(*given)
    model = nn.ModuleList([first, inner])
    x = torch.randn(shape)

    def loss() -> Any:
        y = inner(first(x))
        y = y[0] if isinstance(y, tuple) else y
        return (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).square().sum()

    return Workload(model, loss)


def loss_of(name: str) -> Workload:
    """Return a loss after a linear layer."""
    model, x, y = nn.Linear(6, 5), torch.randn(4, 6), torch.randn(4, 5)
    loss = getattr(nn, name)()
    signs, labels = torch.tensor([1.0, -1.0, 1.0, -1.0]), classes(5, 4)
    forms: dict[str, Callable[[], Tensor]] = {
        **dict.fromkeys(NUMBERS, lambda: loss(model(x), y.sign() if "Soft" in name else y)),
        **dict.fromkeys(CLASSES, lambda: loss(model(x).log_softmax(-1), labels)),
        "CosineEmbeddingLoss": lambda: loss(model(x), y, signs),
        "MarginRankingLoss": lambda: loss(model(x)[:, 0], y[:, 0], signs),
        "TripletMarginLoss": lambda: loss(model(x), y, y.flip(0)),
        "HingeEmbeddingLoss": lambda: loss(model(x)[:, 0], signs),
        "BCEWithLogitsLoss": lambda: loss(model(x), y.sigmoid()),
        "KLDivLoss": lambda: loss(model(x).log_softmax(-1), y.softmax(-1)),
        "PoissonNLLLoss": lambda: loss(model(x), y.abs()),
        "GaussianNLLLoss": lambda: loss(model(x), y, model(x).exp()),
        "MultiLabelSoftMarginLoss": lambda: loss(model(x), (y > 0).float()),
        "MultiLabelMarginLoss": lambda: loss(model(x), (y > 0).long()),
    }
    return Workload(model, forms[name])


def transformer(name: str) -> Workload:
    """Return a small model of a family of transformers, with random weights."""
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSeq2SeqLM,
    )

    known = AutoConfig.for_model(name)
    names = {*known.to_dict(), *known.attribute_map}
    config = AutoConfig.for_model(name, **{k: v for k, v in SMALL.items() if k in names})
    config.use_cache = False
    kinds: Any = (AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM)
    kind = next(kind for kind in kinds if type(config) in kind._model_mapping)
    model, words = kind.from_config(config).train(), classes(50, 2, 8)
    return Workload(model, lambda: model(input_ids=words, labels=words).loss)


def workloads() -> Iterator[tuple[str, Callable[[], Workload]]]:
    """Yield every name with its maker."""
    for shape, layers in LAYERS.items():
        for name, given in layers.items():
            yield name, partial(layer, name, shape, given)
    for name in (*NUMBERS, *CLASSES, *PAIRS, *PROBABILITIES):
        yield name, partial(loss_of, name)
    for name in MODELS:
        yield name, partial(transformer, name)


def judged(make: Callable[[], Workload], *, low: bool) -> gradwitness.Report:
    """Watch one step, after one that was not."""
    torch.manual_seed(0)
    work = make()
    work.step(low=low)
    with gradwitness.watch(work.model, keep=0) as witness:
        work.step(low=low)
    return witness.report


def main() -> None:
    """Watch one step of each, in both formats."""
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    total: dict[str, Counter[str]] = {"float32": Counter(), "bfloat16": Counter()}
    for name, make in workloads():
        for dtype, count in total.items():
            if wanted and name not in wanted:
                continue
            report = judged(make, low=dtype == "bfloat16")
            share, verdict = report.coverage()["gradients"], report.verdict.value
            count.update({verdict: 1, "gradients": share.total, "judged": share.judged})
            why = [finding.title for finding in report.wrong] or report.reasons().most_common(1)
            print(name, dtype, verdict, *why, flush=True)
    for dtype, count in total.items():
        print(dtype, *(f"{what} {number}" for what, number in count.items()))
    sys.exit(any(count[Verdict.DISAGREES.value] for count in total.values()))


if __name__ == "__main__":
    main()
