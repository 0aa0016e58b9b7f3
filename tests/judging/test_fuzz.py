"""Accused functions are tried at other shapes, strides and numbers: when only they are wrong."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.judging.fuzz import guilty as fuzz_guilty
from gradwitness.report.faults import faults_of
from gradwitness.report.record import report_record
from judging import fuzzed_functions as fuzzed

if TYPE_CHECKING:
    from collections.abc import Callable


def drawn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


def leaf(*shape: int) -> torch.Tensor:
    return drawn(*shape).requires_grad_()


def found(
    function: Any, *inputs: torch.Tensor, arriving: Callable[..., torch.Tensor] = drawn, **how: Any
) -> gw.Witness:
    """Return what was found of a function, run back from what ``arriving`` makes of its shape."""
    with gw.watch(**how) as witness:
        y = function.apply(*inputs)
        y.backward(arriving(*y.shape))
    return witness


def said(witness: gw.Witness) -> dict[str, str]:
    """Return what fuzzing tells of each wrong gradient."""
    return {
        finding.title.partition("gradient of ")[2]: finding.fuzz
        for finding in witness.report.wrong
    }


def transposed(*shape: int) -> torch.Tensor:
    return drawn(*reversed(shape)).permute(*reversed(range(len(shape))))


def of_a_sum(*shape: int) -> torch.Tensor:
    return torch.ones(()).expand(shape)


def test_the_tail_of_a_block_loop() -> None:
    text = said(found(fuzzed.Ragged, leaf(6, 48)))["x (input 0)"]
    assert text == (
        "wrong only when the last axis of x (input 0) is not a multiple of 32 "
        "(right at 32, 64, 128, 256; wrong at 31, 33, 63, 65)"
    )
