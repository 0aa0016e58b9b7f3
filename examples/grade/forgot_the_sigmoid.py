"""A wrong answer: the derivative of the sigmoid is missing."""

from typing import Any

import numpy as np


def gradients(data: dict[str, Any]) -> dict[str, Any]:
    """Return the gradients of mean((output(sigmoid(hidden(x))) - y)^2)."""
    x, y = data["x"], data["y"]
    h = 1 / (1 + np.exp(-(x @ data["hidden.weight"].T + data["hidden.bias"])))
    p = h @ data["output.weight"].T + data["output.bias"]
    dp = 2 * (p - y) / p.size
    dz = dp @ data["output.weight"]
    return {
        "hidden.weight": dz.T @ x,
        "hidden.bias": dz.sum(0),
        "output.weight": dp.T @ h,
        "output.bias": dp.sum(0),
    }
