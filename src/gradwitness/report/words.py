"""What formulas say that is neither mathematics nor a name of the program, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# By what a formula has in it: names, and the functions that most programs meet.
_WORDS = {
    r"d?[Wb]\d+(?:\^T)?": "W, b: weight and bias, numbered by layer; ^T: transposed; "
    "d in front of a name: its gradient.",
    r"d?x\d+": "x and a number: what an operation returned, in the program's order.",
    r"d?c\d+": "c and a number: data, or a constant that has no name.",
    r"d?p\d+": "p and a number: what requires a gradient and has no name.",
    "n": "n: the number of terms that a mean is taken over.",
    r"share(?=\()": "share(x, reduction): the number of terms for a mean, else 1.",
    r"reduce(?=\()": "reduce(x, reduction): the mean of the terms, their sum, or each by itself.",
    r"repeat(?=\()": "repeat(g, x): g once for each number of x that was added up in it.",
    r"count(?=\()": "count(x, dim): how many numbers of x were added up.",
    r"weighed(?=\()": "weighed(x, weight): the terms times their weights, if there are any.",
    r"raised(?=\()": "raised(w, t): w t + 1 - t, the weight of a term; 1 without w.",
    r"limited_log(?=\()": "limited_log(x): log(x), and at least -100.",
    r"at_least(?=\()": "at_least(x, c): the larger of the two.",
    r"conv(?=\()": "conv(x, W): the convolution of x with the kernel W.",
    r"conv_input(?=\()": "conv_input(g, x, W): what the convolution's transpose makes of g.",
    r"conv_weight(?=\()": "conv_weight(g, x, W): the correlation of x with g.",
    r"sum_positions(?=\()": "sum_positions(g): g added up over batch and positions.",
    r"place(?=\()": "place(g, x, ...): zeros in the shape of x, with g where it was taken from.",
    r"unscaled(?=\()": "unscaled(grads, found_inf, s): each gradient times s, and 1 if any number "
    "is infinite or NaN.",
    r"bags(?=\()": "bags(table, ...): the sum, mean or maximum of the table's rows in each bag.",
    r"is_within(?=\()": "is_within(x, a, b): whether x is between a and b.",
    r"over(?=\()": "over(a, b): a / b, and 0 where b is 0.",
}
SENTENCES = frozenset(_WORDS.values())
_ANY = re.compile(r"(?<![\w.])(?:" + "|".join(f"({word})" for word in _WORDS) + r")(?!\w)")


def explained(formulas: Iterable[str]) -> list[str]:
    """Return a sentence for each word of some formulas that has one."""
    met = {found.lastindex for formula in formulas for found in _ANY.finditer(formula)}
    return [text for number, text in enumerate(_WORDS.values(), start=1) if number in met]
