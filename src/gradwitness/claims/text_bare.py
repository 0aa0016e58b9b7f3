"""Lines of a name and whole numbers, no sign between: ``b 48`` is a tensor, ``layer 3`` is none.

``%g`` prints whole numbers without a point, so such a line may stand among others of tensors. It is
a heading where the word announces one, counts, or has the numbers of a tensor below it.
"""

from __future__ import annotations

import re
from itertools import islice

from gradwitness.claims import text_labels as labels

_BARE = re.compile(rb"[ \t]*+(_*[A-Za-z][\w.]{0,199})((?:[ \t]++[-+]?\d{1,400}+)++)[ \t\r]*")
_COUNTED = re.compile(rb"(?m)^[ \t]*+(_*[A-Za-z][\w.]{0,199})[ \t]++(\d{1,9})[ \t\r]*$")
# What is counted, and what says how large or how new something is.
_HEADING = re.compile(
    r"(?i)(?:.*[\d_.])?(?:layer|block|cell|stage|module|unit|head|group|part|section|example|sample"
    r"|device|rank|gpu|worker|fold|expert|case|test|slice|row|column|line|tensor|param(?:eter)?"
    r"|shape|size|dims?|version|torch|pytorch|numpy|jax|python|cuda)s?"
)
# Kinds of layers, which may also be names.
_LAYER = re.compile(
    r"(?i)(?:conv|fc|dense|linear|lstm|gru|rnn|norm|bn|ln|embed(?:ding)?|attention|mlp|encoder"
    r"|decoder|model|net(?:work)?)(?:\dd)?"
)
_LINE = re.compile(rb"[^\n]+")
_MOST_LINES = 8  # that are looked at for the numbers below a name


class BareLines:
    """Tells lines with a tensor of whole numbers from headings.

    Parameters
    ----------
    content : bytes
        The whole text.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._counting: set[bytes] | None = None

    def numbers_at(self, line: bytes, begin: int) -> int | None:
        """Return where the numbers of a line are, if it is a name and whole numbers; else None.

        ``begin`` is where the line is in the text.
        """
        match = _BARE.fullmatch(line)
        if not match or self._is_heading(match[1]) or _has_no_name(self._below(line, begin)):
            return None
        return match.start(2) + len(match[2]) - len(match[2].lstrip())

    def _is_heading(self, word: bytes) -> bool:
        name = word.decode()
        return is_announced(name) or bool(_LAYER.fullmatch(name)) or word in self._counts()

    def _counts(self) -> set[bytes]:
        """Return the words that count: ``Stem 1``, and further down ``Stem 2``."""
        if self._counting is None:
            found: dict[bytes, list[int]] = {}
            for word, number in _COUNTED.findall(self._content):
                found.setdefault(word, []).append(int(number))
            self._counting = {
                word
                for word, (first, *others) in found.items()
                if others and first < 2 and others == [*range(first + 1, first + 1 + len(others))]
            }
        return self._counting

    def _below(self, line: bytes, begin: int) -> bytes:
        """Return the next line that is not empty, if it is near."""
        lines = islice(_LINE.finditer(self._content, begin + len(line) + 1), _MOST_LINES)
        return next((match[0] for match in lines if match[0].strip()), b"")


def _has_no_name(line: bytes) -> bool:
    """Whether a line is the numbers of a tensor without a name, or one that is drawn."""
    begin = labels.beginning(line)
    return bool(begin) and not labels.clean(labels.classify(begin).label)


def is_announced(name: str) -> bool:
    """Whether a word announces a run, a part or a size, and is no tensor's."""
    return labels.is_run_header(name) or bool(_HEADING.fullmatch(name))
