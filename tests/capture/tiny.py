"""A 1-2-2-1 network with weights of our choice, all of whose numbers follow by hand."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gradwitness.capture import record
from gradwitness.judging.recorded import judge

if TYPE_CHECKING:
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

# x = 0.5, y = 1; all of it is exact in binary.
#
# input     W1 = [2, -1]        b1 = [0.5, 0.25]  gives  [1.5, -0.25]
# hidden    W2 = [[1, 2],       b2 = [0, -8]      gives  [1, -3.25], ReLU [1, 0]
#                 [3, -1]]
# output    W3 = [3, 4]         b3 = -1           gives  2, e = 1, L = e^2 = 1
#
# dL/de = 2, so at the output dW3 = [2, 0], db3 = 2; it sends [6, 8], the ReLU lets [6, 0]
# through; dW2 = [[9, -1.5], [0, 0]], db2 = [6, 0]; it sends W2^T [6, 0] = [6, 12];
# dW1 = [3, 6], db1 = [6, 12].
GRADIENTS: dict[str, list[Any]] = {
    "0.weight": [[3.0], [6.0]],
    "0.bias": [6.0, 12.0],
    "1.weight": [[9.0, -1.5], [0.0, 0.0]],
    "1.bias": [6.0, 0.0],
    "3.weight": [[2.0, 0.0]],
    "3.bias": [2.0],
}


@lru_cache(maxsize=1)
def network() -> tuple[Tape, Report]:
    """Run it once, and judge it."""
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    chosen = [
        [[2.0], [-1.0]],
        [0.5, 0.25],
        [[1.0, 2.0], [3.0, -1.0]],
        [0.0, -8.0],
        [[3.0, 4.0]],
        [-1.0],
    ]
    with torch.no_grad():
        for parameter, numbers in zip(model.parameters(), chosen, strict=True):
            parameter.copy_(torch.from_numpy(np.array(numbers)))
    x, y = torch.tensor([[0.5]]).double(), torch.tensor([[1.0]]).double()
    with record(model, names={"x": x, "y": y}, saved=True) as recorder:
        torch.autograd.backward(((model(x) - y) ** 2).sum())
    return recorder.tape, judge(recorder.tape)
