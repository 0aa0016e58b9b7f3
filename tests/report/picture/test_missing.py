"""What gets no gradient is in the picture, with the line that cut it off; data is not."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.picture import Box, Flow, Picture, Role
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.view import view

if TYPE_CHECKING:
    from collections.abc import Callable


class Model(nn.Module):
    """Five ways for a gradient to be missing, each in a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.choice = nn.Linear(6, 3)
        self.table = nn.Embedding(3, 6)
        self.idle = nn.Linear(2, 2)
        self.first.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).tanh()
        scale = h.detach()  # detached
        row = self.choice(h).argmax(-1)  # integers
        with torch.no_grad():
            centre = h.mean(0)  # gradients off
        return self.table(row) * scale + h - centre  # type: ignore[no-any-return]


def picture(step: Callable[[], torch.Tensor], *models: nn.Module) -> Picture:
    with gw.watch(*models) as witness:
        step().backward()  # type: ignore[no-untyped-call]
    return draw(witness.tape, witness.report, title="")


def missing(drawn: Picture) -> dict[str, Box]:
    boxes = [box for box in drawn.boxes if box.role is Role.MISSING]
    reasons = {box.title.removeprefix("no gradient: "): box for box in boxes}
    assert len(reasons) == len(boxes)
    return reasons


def users(drawn: Picture, box: Box) -> list[str]:
    titles = {other.key: other.title.partition(" ")[0] for other in drawn.boxes}
    return [titles[a.source] for a in drawn.arrows if a.target == box.key]


def line_of(comment: str) -> int:
    lines, first = inspect.getsourcelines(Model)
    return first + next(n for n, line in enumerate(lines) if line.endswith(f"# {comment}\n"))


def test_each_cut_hangs_on_what_used_its_numbers_and_names_its_line() -> None:
    torch.manual_seed(0)
    model, x = Model(), torch.randn(5, 4)
    drawn = picture(lambda: model(x).sum(), model)
    found = missing(drawn)
    assert found.keys() == {"frozen", "detached", "integers", "gradients off", "unused"}
    expected = {
        "frozen": "AddmmBackward0",
        "detached": "MulBackward0",
        "integers": "EmbeddingBackward0",
        "gradients off": "SubBackward0",
    }
    for reason, user in expected.items():
        assert users(drawn, found[reason]) == [user]
    for reason in ("detached", "integers", "gradients off"):
        assert f"at test_missing.py:{line_of(reason)} in module Model" in found[reason].lines
    assert "choice.weight" in found["integers"].note
    assert found["frozen"].lines[0] == "first.bias"
    assert found["unused"].lines[0] == "idle.weight and idle.bias"
    assert {a.flow for a in drawn.arrows if a.target in {b.key for b in found.values()}} == {
        Flow.MISSING
    }


def test_a_parameter_whose_result_is_thrown_away() -> None:
    models, x = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}), torch.randn(3, 2)

    def step() -> torch.Tensor:
        models["b"](x)
        return models["a"](x).sum()  # type: ignore[no-any-return]

    found = missing(picture(step, models))
    assert found.keys() == {"no way to the result"}
    assert found["no way to the result"].lines[0] == "b.weight and b.bias"


def test_a_frozen_layer_below_hides_all_of_its_parameters_in_one_box() -> None:
    frozen, head = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), nn.Linear(2, 1)
    frozen.requires_grad_(requires_grad=False)
    model, x = nn.Sequential(frozen, head), torch.randn(4, 2)
    drawn = picture(lambda: model(x).sum(), model)
    (box,) = missing(drawn).values()
    assert box.title == "no gradient: frozen"
    names = set(box.lines[0].replace(" and ", ", ").split(", "))
    assert names == {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}


def test_data_and_shapes_are_not_missing() -> None:
    model, x = nn.Linear(2, 2), torch.randn(3, 2)
    index = torch.tensor([1, 0])

    def step() -> torch.Tensor:
        y = model(x)[index]
        return (y * torch.ones_like(y)).sum()  # type: ignore[no-any-return]

    assert not missing(picture(step, model))


def test_who_asks_for_some_gradients_misses_none() -> None:
    model, x = nn.Linear(2, 2), torch.randn(3, 2)
    with gw.watch(model) as witness:
        torch.autograd.grad(model(x).sum(), [model.weight])
    assert not missing(draw(witness.tape, witness.report, title=""))


def test_a_pass_that_torch_refused_still_has_a_picture() -> None:
    model, x = nn.Linear(2, 2).requires_grad_(requires_grad=False), torch.randn(3, 2)
    with gw.watch(model) as witness, pytest.raises(RuntimeError, match="does not require grad"):
        model(x).sum().backward()
    drawn = draw(witness.tape, witness.report, title="")
    assert [box.lines[0] for box in drawn.boxes] == ["weight and bias"]
    write_svg(view(drawn))
