"""What so many right digits as the user requires make of a verdict."""

from __future__ import annotations

from gradwitness.verdict import Verdict


def required(digits: float | None, verdict: Verdict, met: Verdict) -> str:
    """Return what the verdict becomes if so many right digits are enough; nothing if none are."""
    if digits is None or (verdict is not Verdict.DISAGREES and met is verdict):
        return ""
    return f", to {digits:g} digits {met.value}"
