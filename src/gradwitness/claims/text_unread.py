"""What follows a name as a number does, and is none: ``b = 1d5``, ``b = 0x10``, ``a[1] = 12x``."""

from __future__ import annotations

import re

from gradwitness.claims.text_bare import is_announced
from gradwitness.files.printed_numbers import NUMBER_PATTERN

_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_NAMED = re.compile(
    r"[ \t]*([A-Za-z_][\w.]{0,199}(?:\[[\d, ]{1,99}\])?)[ \t]*([:=]|(?=[ \t]))[ \t]*(\S.{0,999})"
)
_LIKE_A_NUMBER = re.compile(
    r"[-+(]{0,2}(?:0[xob][\da-f]+|\d{1,3}(?:[_']\d{3})+\.?\d*"
    r"|(?:\d+\.?\d*|\.\d+)(?:[deq][-+]?\d*)?(?:[-+][\d.e]*j|[a-z]{1,2}|e[-+\d]*)?)\)?"
    r"|-{2,3}|#n/a",
    re.IGNORECASE,
)
# Behind a name without a sign between these are part of a heading: 2d, 1st, ---.
_OF_A_HEADING = re.compile(r"\d+[a-zA-Z]{1,2}|-+")
# How long something took, or how large it is: no gradient.
_WITH_UNIT = re.compile(r"(?i)[-+]?[\d.]+(?:e[-+]?\d+)?(?:[munp]?s|min|h|[kmgt]?i?b|[kmg])")


def unread_name(line: bytes) -> str:
    """Return the name in a line that was meant to be a number's; empty if it was not."""
    match = _NAMED.fullmatch(line.decode("utf-8", "replace").rstrip())
    if not match or is_announced(match[1]):
        return ""
    words = re.split(r"[\s,]+", match[3].rstrip(" ,"))
    if not all(map(_LIKE_A_NUMBER.fullmatch, words)):
        return ""
    is_text = all(_NUMBER.fullmatch(word) or _WITH_UNIT.fullmatch(word) for word in words)
    is_text = is_text or (not match[2] and all(map(_OF_A_HEADING.fullmatch, words)))
    return "" if is_text else match[1]
