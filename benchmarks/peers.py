"""Pictures of the same training steps by torchviz, torchview, TorchLens and gradwitness.

``pip install torchviz torchview torchlens transformers``, Graphviz's ``dot``, then
``python benchmarks/peers.py [FOLDER [MODEL ...]]``. Each picture is made in its own process, as
SVG, from the model to the file; seconds are CPU seconds, imports not counted, of the process and of
``dot``. Of gradwitness they include recording the step and judging it. A size is in CSS pixels.
``FOLDER/index.html`` shows them side by side, each as large as fits into the same frame.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from html import escape
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 180  # seconds
TOOLS = ("torchviz", "torchview", "TorchLens", "TorchLens backward", "gradwitness", "all nodes")


class Residual(nn.Module):
    """A residual convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.BatchNorm2d(16),
            )
            for _ in range(8)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class scores."""
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


class Recurrent(nn.Module):
    """``nn.RNN`` over some steps, a cell a step, as torch runs it on a CPU."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.rnn = nn.RNN(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last state's sum."""
        out: torch.Tensor = self.rnn(x)[0][-1].sum()
        return out


def gpt2(layers: int) -> tuple[nn.Module, torch.Tensor]:
    """Return a small GPT-2 of some layers, and tokens for it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=100, n_positions=32, n_embd=48, n_layer=layers, n_head=4, use_cache=False
    )

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt = GPT2LMHeadModel(config)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.gpt(tokens).logits
            return scores

    return Scores(), torch.randint(0, 100, (2, 16))


def experiment() -> tuple[nn.Module, torch.Tensor]:
    """Return the experiment's network: ten hidden layers of 21 ReLUs."""
    sizes = [10] + [21] * 11
    layers = [f(a, b) for a, b in pairwise(sizes) for f in (nn.Linear, _relu)]
    return nn.Sequential(*layers, nn.Linear(21, 1)), torch.rand(1, 10)


def _relu(_: int, __: int) -> nn.Module:
    return nn.ReLU()


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "the experiment": experiment,
    "residual, 8 blocks": lambda: (Residual(), torch.rand(2, 3, 8, 8)),
    "GPT-2, 2 layers": lambda: gpt2(2),
    "GPT-2, 12 layers": lambda: gpt2(12),
    "nn.RNN, 20 steps": lambda: (Recurrent(20), torch.rand(20, 1, 4)),
    "nn.RNN, 50 steps": lambda: (Recurrent(50), torch.rand(50, 1, 4)),
    "nn.RNN, 200 steps": lambda: (Recurrent(200), torch.rand(200, 1, 4)),
}


def draw(tool: str, model: nn.Module, x: torch.Tensor, file: Path) -> None:
    """Draw a model's step by one tool."""
    stem = str(file.with_suffix(""))
    if tool == "torchviz":
        dot = import_module("torchviz").make_dot(
            model(x).sum(), params=dict(model.named_parameters())
        )
        dot.render(stem, format="svg", cleanup=True)
    elif tool == "torchview":
        graph = import_module("torchview").draw_graph(
            model, input_data=x, expand_nested=True, depth=10
        )
        graph.visual_graph.render(stem, format="svg", cleanup=True)
    elif tool.startswith("TorchLens"):
        trace = import_module("torchlens").trace(model, x)
        options: dict[str, Any] = {"vis_outpath": stem, "vis_fileformat": "svg"}
        if tool == "TorchLens":
            trace.draw(vis_save_only=True, **options)
        else:
            trace.log_backward(trace[trace.output_layers[0]].out.sum())
            trace.draw_backward(vis_save_only=True, **options)
    else:
        import gradwitness
        from gradwitness.report.picture.graph import draw as drawn
        from gradwitness.report.picture.svg import write_svg
        from gradwitness.report.picture.view import View, view

        with gradwitness.watch(model) as witness:
            model(x).sum().backward()
        picture = drawn(witness.tape, witness.report, title="a step")
        file.write_text(write_svg(view(picture, View(unfold=tool == "all nodes"))))


def one(tool: str, name: str, file: Path) -> None:
    """Draw one picture, and print what it took."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, x = MODELS[name]()
    import_module({"all nodes": "gradwitness"}.get(tool, tool.split()[0].lower()))
    begun = _cpu()
    draw(tool, model, x, file)
    print(json.dumps(_cpu() - begun))


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def size_of(file: Path) -> str:
    """Return an SVG's width and height in CSS pixels."""
    head = re.search(r"<svg[^>]*>", file.read_text())
    sizes = re.findall(r'\b(?:width|height)="([\d.]+)(pt|)"', head[0]) if head else []
    return " x ".join(f"{float(n) * (4 / 3 if unit else 1):.0f}" for n, unit in sizes)


def outcome(tool: str, name: str, file: Path) -> str:
    """Return what a cell of the table says."""
    words = [sys.executable, __file__, "--one", tool, name, str(file)]
    ran = subprocess.Popen(  # noqa: S603 (this file)
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, failed = ran.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        # With its ``dot``.
        os.killpg(ran.pid, signal.SIGKILL)
        ran.communicate()
        return f"none after {PATIENCE} s"
    if ran.returncode or not file.exists():
        lines = failed.strip().splitlines() or ["no picture"]
        return f"fails: {lines[-1][:60]}"
    seconds = float(said.strip().splitlines()[-1])
    return f"{seconds:.1f} s, {size_of(file)}"


STYLE = """
body { margin: 16px; font: 15px sans-serif; }
div { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; }
figure { margin: 0; border: 1px solid #ccc; padding: 8px; }
img { width: 100%; aspect-ratio: 16 / 10; object-fit: contain; background: #fff; }
"""


def sized(said: str) -> str:
    """Return what a cell says without its time, which is of one run alone."""
    return said.partition(" s, ")[2] or said


def side_by_side(told: dict[str, dict[str, tuple[Path, str]]]) -> str:
    """Return a page of the pictures of each model, each in a frame of the same size."""
    rows = []
    for name, pictures in told.items():
        figures = [
            f'<figure><img src="{file.name}" alt=""><figcaption>{escape(f"{tool}: {sized(said)}")}'
            "</figcaption></figure>"
            for tool, (file, said) in pictures.items()
        ]
        rows.append(f"<h2>{escape(name)}</h2><div>{''.join(figures)}</div>")
    return f"<!DOCTYPE html><meta charset=utf-8><style>{STYLE}</style>{''.join(rows)}"


def main(folder: Path, models: list[str]) -> None:
    """Print the table."""
    told: dict[str, dict[str, tuple[Path, str]]] = {name: {} for name in models}
    table = Table(title="CPU seconds, and the picture's pixels", box=None)
    for column in ("", *models):
        table.add_column(column)
    for tool in TOOLS:
        for name in models:
            file = folder / f"{tool} {name}.svg".replace(" ", "_").replace(",", "")
            told[name][tool] = file, outcome(tool, name, file)
        cells = [told[name][tool][1] for name in models]
        table.add_row(tool, *cells)
        print(tool, *cells, sep="\n  ", flush=True)
    (folder / "index.html").write_text(side_by_side(told), "utf-8")
    Console(width=200, highlight=False).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary), sys.argv[2:] or [*MODELS])
