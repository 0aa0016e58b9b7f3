"""Real models that train as they should get only true notes."""

from __future__ import annotations

import pytest
import torch

import gradwitness as gw
from architectures.zoo import ZOO, build

# The right notes, by hand: kind, and how the text may begin.
TRUE: dict[str, list[tuple[str, str | tuple[str, ...]]]] = {
    # The generator's step leaves gradients in the critic, which this test's Adam then uses.
    "gan": [("stale gradient", "")],
    # Its target network runs under no_grad, as it must; it belongs to no model that is trained.
    "q_learning": [("parameters cut off", ("0.weight, 0.bias", "0.bias, 0.weight"))],
    # Sinusoids, which are not trained.
    "whisper": [("parameters frozen", "model.encoder.embed_positions.weight: ")],
    # Projections for global attention, which no word here asks for.
    "longformer": [
        ("parameters unused", "longformer.encoder.layer.0.attention.self.query_global.weight, ")
    ],
    # No word is as rare as those that the last of its small classifiers tells apart.
    "rare_words": [("parameters unused", "tails.tail.2.0.weight, tails.tail.2.1.weight: ")],
    # Of the first word, for whoever asks.
    "fnet": [("parameters without effect", "fnet.pooler.dense.")],
    # For masked words and segments, which this input has none of.
    "xlnet": [("parameters unused", "transformer.mask_emb, ")],
}


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_two_steps_of_adam(name: str, *, low: bool) -> None:
    work = build(name)
    optimizer = torch.optim.Adam(work.model.parameters(), 1e-3)
    with gw.watch(work.model) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            work.step(low=low)
            optimizer.step()
    assert witness.report.rows
    notes = [(note.kind, note.text) for note in witness.report.notes]
    expected = TRUE.get(name, [])
    assert [kind for kind, _ in notes] == [kind for kind, _ in expected]
    assert all(
        text.startswith(start) for (_, text), (_, start) in zip(notes, expected, strict=True)
    )
