"""Real architectures in training mode, each judged in full: no step left out, none refuted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from architectures.zoo import ZOO, build

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def quiet_and_offline() -> Iterator[None]:
    # Transformers logs advice on configurations; it asks nobody for weights that it is not told to.
    logger = logging.getLogger("transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(logger, "disabled", True)
        threads = torch.get_num_threads()
        # So small are the products that several threads only wait for each other.
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.mark.parametrize("keep", [None, 0], ids=["kept", "released"])
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ZOO)
def test_every_step_is_judged_and_agrees(name: str, low: bool, keep: int | None) -> None:
    workload = build(name)
    assert workload.model.training
    with gw.watch(workload.model, keep=keep) as witness:
        workload.step(low=low)
    report = witness.report
    assert report.rows
    assert [finding.title for finding in report.wrong] == []
    assert dict(report.reasons()) == {}
    # Each parameter that has got a gradient has its row.
    trained = {
        parameter for parameter, p in workload.model.named_parameters() if p.grad is not None
    }
    assert trained
    assert trained <= {row.name for row in report.rows}
    shares = report.coverage()
    assert {sort: share.judged for sort, share in shares.items()} == {
        sort: share.total for sort, share in shares.items()
    }
    assert report.verdict is gw.Verdict.AGREES


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
