"""A view shows every node once: as itself, or counted in the box of a group."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradwitness as gw
from gradwitness import experiment
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.picture import Arrow, Box, Direction, Flow, Picture, Role
from gradwitness.report.picture.svg import write_pages, write_svg
from gradwitness.report.picture.view import View, view
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


@lru_cache(maxsize=1)
def default() -> Picture:
    run = experiment.run(experiment.preset("default"))
    return draw(run.tape, run.report, title="The default experiment")


def recorded(step: Callable[[], torch.Tensor], *models: nn.Module) -> Picture:
    with gw.watch(*models) as witness:
        step().backward()  # type: ignore[no-untyped-call]
    return draw(witness.tape, witness.report, title="")


def size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)  # noqa: S314  # our own writer's text
    return float(root.attrib["width"]), float(root.attrib["height"])


def counted(picture: Picture) -> int:
    """How many nodes a picture stands for."""
    return sum(
        int(box.lines[0].split()[0]) if box.role is Role.GROUP else 1 for box in picture.boxes
    )


def titles(picture: Picture) -> list[str]:
    return [box.title.partition(" #")[0] for box in picture.boxes]


def test_the_default_experiment_fits_a_landscape_page_and_a_slide() -> None:
    shown = view(default())
    width, height = size(write_svg(shown))
    # In inches; at 0.6 of their size on paper, letters are still 5 points high.
    for across, down in ((297 / 25.4, 210 / 25.4), (40 / 3, 7.5)):
        assert 0.6 * width < 96 * across
        assert 0.6 * height < 96 * down
    assert "10 x hidden, activation" in titles(shown)


def test_folded_groups_say_what_is_in_them(snapshot: SnapshotAssertion) -> None:
    shown = view(default(), View(depth=0))
    assert [(box.title, *box.lines[:1]) for box in shown.boxes] == snapshot
    (block,) = [box for box in shown.boxes if box.title.startswith("10 x")]
    assert block.lines[0] == "70 nodes"
    assert block.verdict is Verdict.AGREES
    # Ten hidden layers of 21 units: (21,21) and (21).
    text = " ".join(block.lines)
    assert re.search(r"b2\.grad to b11\.grad \(21\) \S+\.\.\S+", text)
    assert re.search(r"W2\.grad to W11\.grad \(21,21\) \S+\.\.\S+", text)


@pytest.mark.parametrize("chosen", [View(), View(depth=0), View(depth=1), View(compact=True)])
def test_no_node_is_lost_or_shown_twice(chosen: View) -> None:
    whole = default()
    nodes = [box for box in whole.boxes if box.role is not Role.SAVED]
    if not chosen.compact:
        assert counted(view(whole, chosen)) == len(nodes)
    keys = {box.key for box in view(whole, chosen).boxes}
    assert all(a.source in keys and a.target in keys for a in view(whole, chosen).arrows)


def test_unfolded_everything_is_as_drawn() -> None:
    shown = view(default(), View(unfold=True))
    assert (shown.boxes, shown.arrows) == (default().boxes, default().arrows)
    assert shown.direction is Direction.FIT


def test_gradients_between_groups_carry_shape_and_norm() -> None:
    shown = view(default(), View(depth=0))
    names = {box.key: box.title for box in shown.boxes}
    (arrow,) = [a for a in shown.arrows if names[a.source].startswith("10 x")]
    assert (arrow.shape, len(arrow.norms)) == ("(21)", 1)
    assert re.fullmatch(r"\(21\) \S+", arrow.text)


class Blocks(nn.Module):
    """Three blocks, the same but for their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def test_equal_blocks_are_folded_and_a_wrong_one_stands_out() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            del ctx
            return x.tanh()

        @staticmethod
        def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:
            del ctx
            return 2 * g

    class Act(nn.Module):
        def __init__(self, *, wrong: bool) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Wrong.apply(x) if self.wrong else x.tanh()  # type: ignore[no-untyped-call]

    def stack(wrong: int) -> Picture:
        layers = [layer for n in range(20) for layer in (nn.Linear(4, 4), Act(wrong=n == wrong))]
        model, x = nn.Sequential(*layers), torch.randn(2, 4)
        return recorded(lambda: model(x).square().sum(), model)

    torch.manual_seed(0)
    assert [title[:2] for title in titles(view(stack(-1))) if " x " in title] == ["20"]
    shown = view(stack(4))
    wrong = [box for box in shown.boxes if box.verdict is Verdict.DISAGREES]
    assert [box.title.partition(" ")[0] for box in wrong] == ["WrongBackward"]
    # Above it nothing is wrong; below it everything runs on a wrong gradient.
    (above,) = [box for box in shown.boxes if box.title.startswith("15 x ")]
    assert not above.inherits
    assert any(box.inherits for box in shown.boxes)
    keys = {box.key: box for box in shown.boxes}
    for arrow in shown.arrows:
        if arrow.flow is Flow.GRADIENT:
            assert arrow.wrong == keys[arrow.target].inherits


def test_of_equal_steps_a_wrong_one_is_not_folded_away() -> None:
    boxes = tuple(
        Box(f"n{n}", Role.OPERATION, f"SinBackward0 #{n}", (f"x{n} = sin(x)",), short="sin",
            verdict=Verdict.DISAGREES if n == 30 else Verdict.AGREES, when=60 - n, inherits=n > 30)
        for n in range(60)
    )  # fmt: skip
    arrows = tuple(Arrow(f"n{n}", f"n{n + 1}", Flow.GRADIENT) for n in range(59))
    shown = view(Picture("", "", boxes, arrows), View(depth=0))
    assert titles(shown) == ["30 x SinBackward0", "SinBackward0", "29 x SinBackward0"]
    assert [box.inherits for box in shown.boxes] == [False, False, True]


def test_modules_can_be_chosen_and_their_neighbours_stay_closed() -> None:
    model, x = Blocks(), torch.randn(2, 4)
    whole = recorded(lambda: model(x).sum(), model)
    shown = view(whole, View(module="blocks.1"))
    inside = [box for box in shown.boxes if box.path[:2] == ("blocks", "1")]
    assert len(inside) >= 3
    keys = {box.key for box in inside}
    for box in shown.boxes:
        near = [a for a in shown.arrows if box.key in (a.source, a.target)]
        assert box.key in keys or any({a.source, a.target} & keys for a in near) or box.path == ()
    (only,) = [b for b in view(whole, View(module="blocks.1.1")).boxes if b.path[2:] == ("1",)]
    assert only.title.startswith("TanhBackward0")


def test_the_surroundings_of_a_node_are_those_within_the_distance() -> None:
    chain = [
        Box(f"n{n}", Role.OPERATION, f"Op #{n}", (f"x{n} = w{n}",), when=9 - n) for n in range(9)
    ]
    arrows = tuple(Arrow(f"n{n}", f"n{n + 1}", Flow.GRADIENT) for n in range(8))
    whole = Picture("", "chain", tuple(chain), arrows)
    for name in ("4", "n4", "#4", "w4"):
        shown = view(whole, View(around=name))
        assert [box.key for box in shown.boxes] == ["n2", "n3", "n4", "n5", "n6"]
    assert [b.key for b in view(whole, View(around="4", depth=0)).boxes] == ["n4"]


def test_a_compact_picture_has_one_line_for_each_box() -> None:
    shown = view(default(), View(compact=True, unfold=True))
    assert not any(box.lines for box in shown.boxes)
    assert {"AddmmBackward0 (1,21)", "W2 (21,21)", "result L"} <= {b.title for b in shown.boxes}


def test_steps_of_a_loop_are_folded_and_what_they_share_stands_beside() -> None:
    torch.manual_seed(0)
    model, x = nn.RNN(3, 4), torch.randn(50, 2, 3)
    shown = view(recorded(lambda: model(x)[0].square().mean(), model))
    assert "50 x AddmmBackward0, AddBackward0, TanhBackward0" in titles(shown)
    leaves = [box.lines[0] for box in shown.boxes if box.role is Role.LEAF]
    assert "W_hh_l0 = weight_hh_l0" in leaves
    assert len(shown.boxes) < 16


def test_without_modules_a_loop_is_folded_by_its_lines() -> None:
    a = torch.tensor([0.3, 0.7], requires_grad=True)

    def step() -> torch.Tensor:
        y = a
        for _ in range(30):
            y = torch.sin(y)
            y = y * a
        return y.sum()

    shown = view(recorded(step))
    (loop,) = [box for box in shown.boxes if box.role is Role.GROUP]
    assert re.fullmatch(r"30 x test_view\.py:\d+, test_view\.py:\d+", loop.title)
    assert loop.lines[0] == "60 nodes"


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=60), st.data())
def test_any_program_folds_to_few_boxes_without_a_cycle(
    operations: list[tuple[int, str]], data: st.DataObject
) -> None:
    count = len(operations)
    boxes = [
        Box(f"n{n}", Role.OPERATION, f"{kind} #{n}", (), short=kind, when=count - n,
            path=("top", f"m{module}")[: 1 + module % 2])
        for n, (module, kind) in enumerate(operations)
    ]  # fmt: skip
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, max(count - 1, 0))] * 2), max_size=40))
    arrows = [Arrow(f"n{min(p)}", f"n{max(p)}", Flow.GRADIENT) for p in pairs if p[0] != p[1]]
    shown = view(Picture("", "", tuple(boxes), tuple(arrows)))
    assert counted(shown) == count
    assert len(shown.boxes) <= 40
    if count:
        # Backward, everything leads to what ran earlier: the boxes can be put in an order.
        order = {box.key: number for number, box in enumerate(shown.boxes)}
        assert all(order[a.source] < order[a.target] for a in shown.arrows)


def test_bad_choices_are_refused(snapshot: SnapshotAssertion) -> None:
    for chosen in (
        View(module="nope"),
        View(around="nope"),
        View(unfold=True, module="input"),
        View(unfold=True, depth=2),
        View(depth=-1),
    ):
        with pytest.raises(gw.InputError) as error:
            view(default(), chosen)
        assert str(error.value) == snapshot


def test_a_long_picture_has_pages_with_every_box_on_one_of_them() -> None:
    shown = view(default(), View(unfold=True))
    pages = write_pages(shown)
    assert len(pages) > 3
    width, _ = size(pages[0])
    for page in pages[1:-1]:
        assert size(page)[0] == width
        assert size(page)[1] < 1.6 * width
    numbers = [number for page in pages for number in re.findall(r'id="box-(\d+)"', page)]
    assert sorted(map(int, numbers)) == list(range(len(shown.boxes)))
    assert [page.count('class="legend"') for page in pages] == [0] * (len(pages) - 1) + [1]
    assert len(write_pages(view(default()))) == 1
