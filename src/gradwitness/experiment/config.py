"""The configuration of the experiment: network, loss, numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from gradwitness._errors import ConfigError

ACTIVATIONS = ("relu", "sigmoid", "tanh", "identity", "gelu", "silu")
LOSSES = ("square", "product", "mse", "l1")
DTYPES = ("float32", "float64", "bfloat16")
NETWORKS = ("dense", "conv")
# What the other network does not have.
_DENSE_ONLY = ("hidden", "width", "activation", "activate_input")
# Beyond these a run would take minutes at least, and more memory than most machines have.
_MOST_LAYERS = 10**4
_MOST_NUMBERS = 10**8


@dataclass(frozen=True)
class Config:
    """A run of the experiment.

    The dense network is Linear(inputs, width), then ``hidden`` times Linear(width, width) with an
    activation, then Linear(width, 1). Only with ``activate_input`` is the first Linear followed by
    an activation too. Inputs are uniform on (0, 1), the target is the mean of their squares.

    The conv network is small, for the sake of its graph: with s = sum(x), its loss is
    sum((p - s) * (p - s)) for p = Linear(Linear(flatten(x) + flatten(Conv1d(x)))), and x requires a
    gradient itself.

    Attributes
    ----------
    inputs : int
        d.
    hidden : int
        K, the number of hidden layers.
    width : int or None
        Units of a hidden layer; None for 2 d + 1.
    activation : str
        One of `ACTIVATIONS`.
    activate_input : bool
    loss : str
        ``square``: (p - y)^2, its mean over a batch; ``product``: the sum of (p - y) * (p - y);
        ``mse``: torch's own mse_loss; ``l1``: the mean of abs(p - y).
    batch : int
        Samples; 1 makes x a vector without a batch axis.
    dtype : str
        One of `DTYPES`.
    seed : int
    network : str
        One of `NETWORKS`.

    Raises
    ------
    ConfigError
        If a field is invalid; the message gives the valid values.
    """

    inputs: int = 10
    hidden: int = 10
    width: int | None = None
    activation: str = "relu"
    activate_input: bool = False
    loss: str = "square"
    batch: int = 1
    dtype: str = "float32"
    seed: int = 0
    network: str = "dense"

    def __post_init__(self) -> None:
        for name, minimum in (("inputs", 1), ("hidden", 0), ("width", 1), ("batch", 1)):
            _check_integer(name, getattr(self, name), minimum, optional=name == "width")
        _check_integer("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise ConfigError(f"seed is {self.seed}; it must be below 2^63")
        for name, choices in (
            ("activation", ACTIVATIONS),
            ("loss", LOSSES),
            ("dtype", DTYPES),
            ("network", NETWORKS),
        ):
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ConfigError(f"unknown {name} {value!r}; choose {', '.join(choices)}")
        if self.hidden > _MOST_LAYERS:
            raise ConfigError(f"hidden is {self.hidden}; it must be at most {_MOST_LAYERS}")
        numbers = self.inputs * (self.units + self.batch)
        numbers += self.hidden * self.units * (self.units + self.batch)
        if numbers > _MOST_NUMBERS:
            raise ConfigError(
                f"this experiment would have some {numbers:.1e} numbers, more than "
                f"{_MOST_NUMBERS:.0e}; choose fewer inputs, hidden layers, units or samples"
            )
        if self.network == "conv" and self.batch != 1:
            raise ConfigError(f"the conv network needs batch 1, not {self.batch}")
        for name in _DENSE_ONLY if self.network == "conv" else ():
            if getattr(self, name) != getattr(Config, name):
                raise ConfigError(f"the conv network takes no {name}: leave it out")

    @property
    def units(self) -> int:
        """Width of a hidden layer."""
        return 2 * self.inputs + 1 if self.width is None else self.width

    def describe(self) -> str:
        """Return the network in one line."""
        if self.network == "conv":
            d = self.inputs
            return (
                f"Linear({d},1)(Linear({d},{d})(flatten(x) + flatten(Conv1d(1,1,3,padding=1)(x))))"
            )
        first = f"Linear({self.inputs},{self.units})"
        if self.activate_input:
            first += f" {self.activation}"
        middle = f"{self.hidden} x [Linear({self.units},{self.units}) {self.activation}]"
        return f"{first} -> {middle} -> Linear({self.units},1)"

    def command(self) -> str:
        """Return the command that runs this configuration again."""
        base = PRESETS["conv" if self.network == "conv" else "default"]
        words = ["gradwitness", "run"]
        if self.network == "conv":
            words += ["--preset", "conv"]
        for field in fields(self):
            value = getattr(self, field.name)
            # Always show the seed.
            if value == getattr(base, field.name) and field.name != "seed":
                continue
            flag = "--" + field.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
        return " ".join(words)


def _check_integer(name: str, value: Any, minimum: int, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} is {value!r}; it must be an integer of at least {minimum}")


PRESETS = {
    "default": Config(),
    "sigmoid": Config(inputs=2, hidden=1, width=10, activation="sigmoid", activate_input=True),
    "conv": Config(network="conv", loss="product"),
}


def preset(name: str, **changes: Any) -> Config:
    """Return a preset with some fields changed.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; choose {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
