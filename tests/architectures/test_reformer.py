"""A fault in a library, found: transformers' Reformer swaps the halves of a gradient.

`_ReversibleFunction.forward` splits its input into (hidden_states, attn_output); `backward` returns
cat([grad_attn_output, grad_hidden_states]). Reformer feeds one tensor in as both halves, whose two
gradients are then added up: the swap changes no parameter's gradient there, which is a note. It is
wrong all the same, for whoever applies the function to two halves that differ.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gradwitness as gw
from gradwitness.judging.gradients.unfelt import UNFELT

_NODE = "_ReversibleFunctionBackward"


@pytest.fixture
def reformer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import transformers

    torch.manual_seed(0)
    kind: Any = transformers.ReformerConfig
    config = kind(
        vocab_size=20,
        hidden_size=8,
        num_attention_heads=2,
        attention_head_size=4,
        attn_layers=["local"],
        feed_forward_size=16,
        axial_pos_embds=False,
        is_decoder=True,
        local_attn_chunk_length=4,
        local_num_chunks_after=0,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
        loss_type="ForCausalLM",
    )
    return transformers.ReformerModelWithLMHead(config).train()


def _swapped(g: Tensor) -> Tensor:
    first, second = g.chunk(2, -1)
    return torch.cat([second, first], -1)


def test_swapped_halves_are_noted_at_the_function_that_swaps_them(reformer: Any) -> None:
    words = torch.randint(0, 20, (2, 8))
    with gw.watch(reformer) as witness:
        reformer(input_ids=words, labels=words).loss.backward()
    assert witness.verdict is gw.Verdict.AGREES
    assert "wrong step without effect" in [note.kind for note in witness.report.notes]
    (wrong,) = (f for f in witness.report.findings if f.comparison.reason == UNFELT)
    assert wrong.title.startswith(_NODE)
    # What was sent at the worst place's counterpart is what is expected at the worst place.
    found = wrong.comparison
    (number,) = (f.outgoing[0] for f in witness.tape.sweeps[0].node_runs if f.node == wrong.node)
    assert number is not None
    assert found.index is not None
    sent: Any = witness.tape.values[number].array
    row, word, column = found.index
    counterpart = sent[row, word, (column + sent.shape[-1] // 2) % sent.shape[-1]]
    assert abs(counterpart - found.expected) <= found.bound


def test_central_differences_say_that_the_halves_are_swapped(reformer: Any) -> None:
    from transformers.models.reformer.modeling_reformer import _ReversibleFunction

    layers = reformer.double().reformer.encoder.layers

    def function(x: Tensor) -> Tensor:
        apply: Any = _ReversibleFunction.apply
        made = apply(x, layers, None, None, [], [], None, False, 8, False, False)
        assert isinstance(made, Tensor)
        return made

    x, g, along = (torch.randn(2, 8, 16, dtype=torch.float64) for _ in range(3))
    x.requires_grad_()
    (dx,) = torch.autograd.grad(function(x), x, g)
    with torch.no_grad():
        step = 1e-5 * along
        slope = float((g * (function(x + step) - function(x - step))).sum()) / 2e-5
    assert float((along * _swapped(dx)).sum()) == pytest.approx(slope, rel=1e-6)
    assert float((along * dx).sum()) != pytest.approx(slope, rel=1e-2)
