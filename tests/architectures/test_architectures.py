"""Real architectures that train as they should: each step is judged in full, and none refuted.

And no note is made, but for those that are true.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from architectures.zoo import ZOO, build
from gradwitness.judging.comparing.compare import COARSE
from gradwitness.judging.gradients.lost import LOST
from refusals import torch_alone

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def quiet_and_offline() -> Iterator[None]:
    # Transformers logs advice on configurations; it asks nobody for weights that it is not told to.
    logger = logging.getLogger("transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(logger, "disabled", True)
        yield


# What is right to tell, by hand: kind, and how the text may begin.
TRUE: dict[str, list[tuple[str, str | tuple[str, ...]]]] = {
    # The maker's turn leaves gradients in the critic, which this test's Adam then uses; it updates
    # the maker once more.
    "gan": [("stale gradient", ""), ("updated twice", "maker.")],
    # Its target network runs under no_grad, as it must; it belongs to no model that is trained.
    "q_learning": [("parameters cut off", ("0.weight, 0.bias", "0.bias, 0.weight"))],
    # Sinusoids, which are not trained.
    "whisper": [("parameters frozen", "model.encoder.embed_positions.weight: ")],
    # Projections for global attention, which no word here asks for.
    "longformer": [
        ("parameters unused", "longformer.encoder.layer.0.attention.self.query_global.weight, ")
    ],
    # No word is as rare as those that the last of its small classifiers tells apart.
    "rare_words": [("parameters unused", "tails.tail.2.0.weight and tails.tail.2.1.weight: ")],
    # Of the first word, for whoever asks.
    "fnet": [("parameters without effect", "fnet.pooler.dense.")],
    # The agreement that routes the votes is detached, and weighs the same votes.
    "capsules": [("numbers leave autograd's sight", "")],
    # For masked words and segments, which this input has none of.
    "xlnet": [("parameters unused", "transformer.mask_emb, ")],
}


# In one format the numbers are kept, in the other they are let go of as they are judged.
@pytest.mark.parametrize(
    ("dtype", "keep"),
    [("float32", None), ("bfloat16", 0)],
    ids=["float32 kept", "bfloat16 released"],
)
@pytest.mark.parametrize("name", ZOO)
def test_two_steps_of_adam_are_judged_and_agree(name: str, dtype: str, keep: int | None) -> None:
    low = dtype == "bfloat16"
    if low:
        with torch_alone():
            build(name).step(low=True)
    workload = build(name)
    assert workload.model.training
    optimizer = torch.optim.Adam(workload.model.parameters(), 1e-3)
    with gw.watch(workload.model, keep=keep) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            workload.step(low=low)
            optimizer.step()
    report = witness.report
    assert report.rows
    assert [finding.title for finding in report.wrong] == []
    # In bfloat16 a kernel may add so coarsely that an error of a tenth would not show.
    coarse = low and bool(report.reasons())
    assert not coarse or all(r.startswith((COARSE, LOST)) for r in report.reasons())
    assert coarse or not report.reasons()
    # Each parameter that has got a gradient has its row.
    trained = {
        parameter for parameter, p in workload.model.named_parameters() if p.grad is not None
    }
    assert trained
    assert trained <= {row.name for row in report.rows}
    complete = all(share.judged == share.total for share in report.coverage().values())
    assert complete is not coarse
    assert report.verdict is (gw.Verdict.INCONCLUSIVE if coarse else gw.Verdict.AGREES)
    # What a sum in 16 bits lost is said, too.
    kinds = {"digits lost"} if low else set()
    found = [(note.kind, note.text) for note in report.notes if note.kind not in kinds]
    wanted = TRUE.get(name, [])
    assert [kind for kind, _ in found] == [kind for kind, _ in wanted]
    assert all(text.startswith(start) for (_, text), (_, start) in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["lenet", "gpt2", "physics"])
def test_a_gradient_that_a_hook_doubles_is_seen_in_an_architecture(name: str) -> None:
    # The other tests can fail: the last layer's input is handed a gradient twice as large.
    workload = build(name)
    parameter: Any
    *_, parameter = workload.model.parameters()
    parameter.register_hook(lambda g: 2 * g)
    with gw.watch(workload.model, keep=0) as witness:
        workload.step()
    assert witness.verdict is gw.Verdict.DISAGREES
