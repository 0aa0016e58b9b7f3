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
    # Its target network runs under no_grad, as it must, and is not trained.
    "q_learning": [("parameters cut off", ("0.weight, 0.bias", "0.bias, 0.weight"))],
    # Sinusoids, which are not trained.
    "whisper": [("parameters frozen", "model.encoder.embed_positions.weight: ")],
    # Projections for global attention, which no token here uses.
    "longformer": [
        ("parameters unused", "longformer.encoder.layer.0.attention.self.query_global.weight, ")
    ],
    # No word is as rare as those of its last small classifier.
    "rare_words": [("parameters unused", "tails.tail.2.0.weight, tails.tail.2.1.weight: ")],
    # Applied to the first token, but its result is not used.
    "fnet": [("parameters without effect", "fnet.pooler.dense.")],
    # For masked tokens and segments, of which this input has none.
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
