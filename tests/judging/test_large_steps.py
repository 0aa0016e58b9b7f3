"""Large steps are judged piece by piece, with the same results as at once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from gradwitness import Verdict, judge
from gradwitness.capture import record
from gradwitness.engine import in_pieces, tiling
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing import large_steps
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.finding import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness import Tape


class Products(nn.Module):
    """Matrix products of all kinds, with operands that are broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(12, 20)
        self.scale = nn.Parameter(torch.rand(20))
        self.free = nn.Parameter(torch.rand(24, 20))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.gelu(self.line(x) * self.scale + self.free)
        z = y.reshape(4, 6, 20)
        w = torch.softmax(torch.bmm(z, z.transpose(1, 2)), dim=1)
        return torch.baddbmm(z, w, z).tanh() / (1 + self.scale**2)


class Images(nn.Module):
    """Convolutions there and back, each normalised."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2 if groups > 1 else 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 3, stride=2, groups=groups),
            nn.LayerNorm(9),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layers(x)
        return made


def pooled(x: torch.Tensor) -> torch.Tensor:
    f = nn.functional
    y = f.avg_pool2d(f.max_pool2d(x, 3, 1, 1), 2, padding=1) * 3
    return f.adaptive_avg_pool2d(y, 3) + f.adaptive_max_pool2d(y, 3)


def attention(x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(3, 2, 8, 6)
    return nn.functional.scaled_dot_product_attention(q, q * 2, q + 1)


class Words(nn.Module):
    """A table, sums and means over some axes, elements normalised, a class for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.table(words))
        y = x + x.mean(1, keepdim=True) + x.sum(0)
        f = nn.functional
        of_each = f.cross_entropy(y.flatten(0, 1), words.flatten() % 12, reduction="none")
        return of_each + f.cross_entropy(y.transpose(1, 2), words % 12)


CASES: dict[str, Callable[[], tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]]] = {
    "products": lambda: (Products(), torch.rand(24, 12)),
    "images": lambda: (Images(1), torch.rand(5, 4, 8, 8, requires_grad=True)),
    "groups": lambda: (Images(2), torch.rand(5, 4, 8, 8, requires_grad=True)),
    "pooled": lambda: (pooled, torch.rand(5, 4, 8, 8, requires_grad=True)),
    "attention": lambda: (attention, torch.rand(3, 96, requires_grad=True)),
    "words": lambda: (Words(), torch.arange(40).reshape(4, 10) * 7 % 30),
}


def taped(name: str) -> Tape:
    torch.manual_seed(0)
    function, x = CASES[name]()
    with record() as recorder:
        torch.autograd.backward(function(x).square().sum())
    return recorder.tape


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Treat every step as large; the list counts the pieces of each step that was cut."""
    counts: list[int] = []
    cuts = tiling.cuts

    def counted(*args: object) -> list[tiling.Cut]:
        pieces = cuts(*args)  # type: ignore[arg-type]
        counts.append(len(pieces))
        return pieces

    monkeypatch.setattr(tiling, "_LARGE", 8)
    monkeypatch.setattr(tiling, "_PIECE", 16)
    for cutting in (large_steps, in_pieces):
        monkeypatch.setattr(cutting, "cuts", counted)
    return counts


@pytest.mark.parametrize("name", CASES)
def test_pieces_say_what_the_whole_says(name: str, request: pytest.FixtureRequest) -> None:
    tape = taped(name)
    at_once = judge(tape)
    counts = request.getfixturevalue("in_small_pieces")
    pieces = judge(tape)
    assert sum(count > 1 for count in counts) > 5
    assert at_once.verdict is pieces.verdict is Verdict.AGREES
    for one, other in zip(at_once.findings, pieces.findings, strict=True):
        assert one.title == other.title
        assert one.comparison.verdict is other.comparison.verdict, one.title
        assert one.comparison.size == other.comparison.size, one.title
        # Float64 sums in a different order; small errors may differ relatively more.
        np.testing.assert_allclose(
            (one.comparison.detects, one.comparison.norm, one.comparison.probable_ratio),
            (other.comparison.detects, other.comparison.norm, other.comparison.probable_ratio),
            rtol=1e-6,
            err_msg=one.title,
        )
    for mine, theirs in zip(at_once.rows, pieces.rows, strict=True):
        assert mine.verdict is theirs.verdict
        assert math.isclose(mine.comparison.detects, theirs.comparison.detects, rel_tol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_found_at_its_place(name: str, in_small_pieces: list[int]) -> None:
    tape = taped(name)
    calls = [call for call in tape.calls if tiling.cuts(tape, call)]
    assert calls
    for call in calls:
        number = call.outputs[0]
        assert number is not None
        value = tape.values[number]
        assert value.array is not None
        index = tuple(n * 2 // 3 for n in value.shape)
        array = value.array.copy()
        array[index] += 1 + abs(array[index])
        values = list(tape.values)
        values[number] = replace(value, array=array)
        report = judge(replace(tape, values=tuple(values)))
        finding = next(f for f in report.wrong if f.call == call.id)
        assert finding.comparison.index == index
        assert finding.comparison.refuted == 1


@pytest.mark.parametrize("name", CASES)
def test_a_fault_in_a_gradient_is_found_at_its_place(name: str, in_small_pieces: list[int]) -> None:
    tape = taped(name)
    (sweep,) = tape.sweeps
    seen = 0
    for node_run in sweep.node_runs:
        for input_nr, number in enumerate(node_run.outgoing):
            if number is None or number in node_run.incoming:
                continue
            value = tape.values[number]
            assert value.array is not None
            index = tuple(n * 2 // 3 for n in value.shape)
            array = value.array.copy()
            array[index] += 1 + abs(array[index])
            values = list(tape.values)
            values[number] = replace(value, array=array)
            report = judge(replace(tape, values=tuple(values)))
            (sent,) = (
                finding
                for finding in report.findings
                if (finding.step, finding.node, finding.tensor_nr)
                == (Step.BACKWARD, node_run.node, input_nr)
            )
            assert sent.comparison.verdict is Verdict.DISAGREES
            assert sent.comparison.index == index
            assert sent.comparison.refuted == 1
            node = tape.nodes[node_run.node]
            cut = node.call is not None and tiling.cuts(
                tape,
                tape.calls[node.call],
                in_pieces.operand_of(tape, tape.calls[node.call], input_nr)[0],
            )
            seen += bool(cut)
    assert seen > 3


@pytest.mark.usefixtures("in_small_pieces")
def test_a_norm_goes_in_pieces_backward_though_its_statistics_get_no_gradient() -> None:
    tape = taped("images")
    node = next(node for node in tape.nodes if node.name.startswith("NativeBatchNorm"))
    node_run = next(f for sweep in tape.sweeps for f in sweep.node_runs if f.node == node.id)
    arithmetic = Arithmetic.stepwise("float32")
    pieces = large_steps.in_large_pieces(tape, node, node_run.incoming, Records(tape), arithmetic)
    # The input, and its weight and bias.
    assert set(pieces) == {0, 1, 2}


def test_no_step_is_cut_along_an_axis_that_it_sums_over() -> None:
    """By hand: y = A B needs all of k for each element, and all of no other index."""
    torch.manual_seed(0)
    a, b = torch.rand(600, 500, requires_grad=True), torch.rand(500, 700, requires_grad=True)
    with record() as recorder:
        torch.autograd.backward(torch.mm(a, b).sum())
    tape = recorder.tape
    call = next(call for call in tape.calls if call.base_op == "aten.mm")
    letters = {
        target: {cut.letter for cut in tiling.cuts(tape, call, target)} for target in ("", "A", "B")
    }
    assert "k" not in letters[""]
    assert "j" not in letters["A"]
    assert "i" not in letters["B"]
    assert all(letters.values())


@pytest.mark.parametrize(
    ("size", "moved"),
    [
        ((6, 5), lambda x: x.clone().t().t()),
        # Windows that do not overlap: each gradient is only moved.
        ((4, 6, 10), lambda x: nn.functional.max_pool2d(x, 2).reshape(-1, 5)),
    ],
    ids=["copied", "pooled"],
)
def test_a_gradient_that_is_cut_keeps_its_bound_on_the_way_to_a_leaf(
    size: tuple[int, ...],
    moved: Callable[[torch.Tensor], torch.Tensor],
    in_small_pieces: list[int],
) -> None:
    """The gradient of x passes steps that round nothing; its row shows the product's bound."""
    torch.manual_seed(0)
    x = torch.rand(size, requires_grad=True)
    w = torch.rand(5, 7)
    with record() as recorder:
        torch.autograd.backward(torch.mm(moved(x), w).square().sum())
    (row,) = judge(recorder.tape).rows
    assert row.comparison.detects > 0
    assert max(in_small_pieces) > 1
