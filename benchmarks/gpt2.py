"""What a training step of GPT-2 (124 million parameters, 12 layers) costs when it is watched.

``python benchmarks/gpt2.py [--tokens N]``: two sequences of 128 tokens, in float32, on all cores;
wall time and peak memory, each depth in a process of its own, over the plain step in the same
process. ``printed`` is what the report takes when it is first looked at.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import warnings

DEPTHS = ("full", "fast")


def measured(depth: str, tokens: int) -> str:
    """Return a line of the table."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import gradwitness

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0))
    words = torch.randint(0, model.config.vocab_size, (2, tokens))

    def step() -> None:
        model.zero_grad()
        model(words, labels=words).loss.backward()

    def seconds() -> float:
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun

    step()
    plain = min(seconds() for _ in range(3))
    before = peak()
    begun = time.perf_counter()
    with gradwitness.watch(model, depth=depth) as witness:
        step()
    verdict = witness.verdict.value
    watched = time.perf_counter() - begun
    after = peak()
    begun = time.perf_counter()
    str(witness)
    printed = time.perf_counter() - begun
    figures = (plain, watched, watched / plain, printed, before, after)
    return f"| {depth} | {verdict} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"


def peak() -> float:
    """Return the most memory that this process has held, in GiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--depth", choices=DEPTHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.depth:
        print(measured(options.depth, options.tokens))
        return
    print(f"{os.cpu_count()} cores\n")
    print("| depth | verdict | plain (s) | watched (s) | ratio | printed (s) | GiB plain | GiB |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for depth in DEPTHS:
        command = [sys.executable, __file__, "--depth", depth, "--tokens", str(options.tokens)]
        subprocess.run(command, check=True)  # noqa: S603 (this file itself)


if __name__ == "__main__":
    main()
