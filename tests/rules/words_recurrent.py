"""Words of the formulas of recurrent layers: one sequence, one hidden number at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any


def _logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@dataclass
class _Sequence:
    """One member of a batch: its states and gates from the first step on."""

    x: Plain
    w: Plain
    u: Plain
    bias: Plain
    hs: list[Plain]
    cs: list[Plain]
    gates: list[Plain] = field(default_factory=list)

    def run(self) -> None:
        size = self.hs[0].size
        for now in self.x:
            z = [
                math.fsum([*(row * now), *(of_h * self.hs[-1]), bias])
                for row, of_h, bias in zip(self.w, self.u, self.bias, strict=True)
            ]
            i, f, g, o = (np.array(z[n * size : (n + 1) * size]) for n in range(4))
            i, f, o = (np.array([_logistic(number) for number in gate]) for gate in (i, f, o))
            g = np.array([math.tanh(number) for number in g])
            self.gates.append((i, f, g, o))
            self.cs.append(f * self.cs[-1] + i * g)
            self.hs.append(o * np.tanh(self.cs[-1]))

    def back(self, of_hs: Plain, dc: Plain) -> tuple[list[Plain], Plain, Plain]:
        """Gradients of each step's gates, before their functions, and of the start."""
        found: list[Plain] = []
        dh = np.zeros(self.hs[0].size)
        for step in reversed(range(len(self.gates))):
            i, f, g, o = self.gates[step]
            dh = dh + of_hs[step]
            dc = dc + dh * o / np.cosh(self.cs[step + 1]) ** 2
            into = (
                dc * g * i * (1 - i),
                dc * self.cs[step] * f * (1 - f),
                dc * i * (1 - g**2),
                dh * np.tanh(self.cs[step + 1]) * o * (1 - o),
            )
            found.insert(0, np.concatenate(into))
            dh, dc = self.u.T @ found[0], dc * f
        return found, dh, dc


def _sequences(
    x: Plain,
    w: Plain,
    u: Plain,
    b: Plain,
    v: Plain,
    h: Plain,
    c: Plain,
    reverse: bool,
    has_biases: bool,
) -> list[_Sequence]:
    bias = b + v if has_biases else np.zeros(len(w))
    made = []
    for n in range(x.shape[1]):
        steps = x[::-1, n] if reverse else x[:, n]
        made.append(_Sequence(steps, w, u, bias, [h[n]], [c[n]]))
        made[-1].run()
    return made


def lstm(*operands: Any) -> tuple[Plain, Plain, Plain, None]:
    made = _sequences(*operands)
    y = np.stack([np.array(one.hs[1:]) for one in made], axis=1)
    hy, cy = (np.array([states[-1] for states in all_]) for all_ in _states(made))
    return y[::-1] if operands[7] else y, hy, cy, None


def _states(made: list[_Sequence]) -> tuple[list[Plain], list[Plain]]:
    return [one.hs for one in made], [one.cs for one in made]


def lstm_back(g: Plain, *operands: Any) -> list[Plain]:
    """Gradients of x, w, u, b, h, c."""
    x, w = operands[:2]
    out = [np.zeros(operands[place].shape) for place in (0, 1, 2, 5, 6)]
    db = np.zeros(len(w))
    for n, one in enumerate(_sequences(*operands)):
        of_hs = (g[0][::-1, n] if operands[7] else g[0][:, n]).copy()
        of_hs[-1] += g[1][n]
        gates, out[3][n], out[4][n] = one.back(of_hs, g[2][n])
        for step, into in enumerate(gates):
            at = len(gates) - 1 - step if operands[7] else step
            out[0][at, n] = w.T @ into
            out[1] += np.outer(into, x[at, n])
            out[2] += np.outer(into, one.hs[step])
            db += into
    return [*out[:3], db, *out[3:]]


def reaching(lengths: Plain) -> Plain:
    return np.array([sum(n > step for n in lengths) for step in range(max(lengths))])


def _places(lengths: Plain) -> list[tuple[int, int]]:
    """Step and sequence of each row of what is packed."""
    return [
        (step, n) for step in range(max(lengths)) for n in range(len(lengths)) if lengths[n] > step
    ]


def pack(x: Plain, lengths: Plain, batch_first: bool) -> Plain:
    return np.stack([x[n, t] if batch_first else x[t, n] for t, n in _places(lengths)])


def unpack(g: Plain, x: Plain, lengths: Plain, batch_first: bool) -> Plain:
    out = np.zeros(x.shape)
    for row, (t, n) in zip(g, _places(lengths), strict=True):
        out[(n, t) if batch_first else (t, n)] = row
    return out


RECURRENT: dict[str, Any] = {
    word.__name__: word for word in (lstm, lstm_back, reaching, pack, unpack)
}
