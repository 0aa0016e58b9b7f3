"""What tests of the judgement share."""

from __future__ import annotations

import sys

import pytest

from gradwitness.judging.looks.whole import Whole


@pytest.fixture
def by_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge every step that computes by its bounds, as if it had few numbers."""
    monkeypatch.setattr(Whole, "_few", sys.maxsize)
