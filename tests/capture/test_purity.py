"""Which code is known to be pure: it runs again only if nobody could notice."""

# What is read here is never run.
# ruff: noqa: ARG005, T201, S102

from __future__ import annotations

import functools
import math
import random
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.linalg import solve
from torch import nn
from torch.autograd import Function

from gradwitness.capture.again.purity import impurity

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 0
SEEN: list[Any] = []
CACHE: dict[str, Any] = {}
STEPS, EPS, DTYPES = 50, (1e-3, 1e-4), (torch.float32, torch.float64)
WEIGHT = torch.ones(3)


class Settings:
    steps = 3


SETTINGS = Settings()


def helper(x: Any) -> Any:
    return F.softplus(x) * math.pi + WEIGHT


def counting_helper(x: Any) -> Any:
    global COUNT
    COUNT += 1
    return x


@functools.lru_cache(maxsize=4)
def remembered(n: int) -> Any:
    return torch.eye(n)


@functools.lru_cache(maxsize=4)
def counted_once(n: int) -> Any:
    return counting_helper(n)


class Side(Enum):
    LEFT = 0
    RIGHT = 1


class Noting(Enum):
    ON = 0

    def note(self, x: Any) -> None:
        SEEN.append((self, x))


def with_a_side(x: Any, side: Any = Side.LEFT) -> Any:
    return x if not isinstance(side, Side) or side is Side.RIGHT else x @ remembered(3)


def notes_by_a_member(x: Any, how: Noting = Noting.ON) -> Any:
    how.note(x)
    return x


class Inner(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.count = 3
        return x * 2


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.inside = nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.inside(x)


class Logging(Counting):
    def forward(self, x: Any) -> Any:
        return self.note(x)

    def note(self, x: Any) -> Any:
        SEEN.append(x)
        return x


class Renaming(Counting):
    def forward(self, x: Any) -> Any:
        same = self
        same.log.append(x)  # type: ignore[union-attr, operator]
        return x


class Quiet(Counting):
    def forward(self, x: Any) -> Any:
        return self.inside(x).relu() + self.calls


def local_state(x: Any) -> Any:
    steps, table = [], {}
    for k in range(STEPS):
        steps.append(torch.exp(x) * k)
        table[k] = steps[-1]
    x[0] = sum(steps)
    return x.add_(1), table


def nested(x: Any) -> Any:
    scale = 2.0

    def inner(z: Any) -> Any:
        nonlocal scale
        scale = scale + 1
        return z * scale

    return max(map(inner, [x, helper(x)])), [row**2 for row in x], sum(row.sum() for row in x)


def raises(x: Any) -> Any:
    if x.dtype not in DTYPES:
        raise TypeError(f"not for {x.dtype}")
    with torch.no_grad():
        return Inner.apply(x), np.exp(x.numpy()), solve(x, x), np.linalg.norm(x)  # type: ignore[no-untyped-call]


def imports(x: Any) -> Any:
    import scipy.optimize

    return scipy.optimize.brentq(lambda z: z * z - float(x), 0, 2, xtol=EPS[0])


PURE: list[Callable[..., Any]] = [
    helper,
    local_state,
    nested,
    raises,
    imports,
    with_a_side,
    lambda x: torch.nn.functional.silu(x) + torch.linalg.inv(x),
    lambda x: partial(torch.where, x > 0)(x, -x),
    lambda x: functools.reduce(torch.add, [x, x]),
    lambda x: x.new_zeros(3).scatter_add_(0, x.long(), x),
]


def appends(x: Any) -> Any:
    SEEN.append(x)
    return x


def caches(x: Any) -> Any:
    CACHE["x"] = x
    return x


def sets(x: Any) -> Any:
    SETTINGS.steps = 4
    return x


def marks(x: Any) -> Any:
    x.seen = True
    return x


def draws(x: Any) -> Any:
    return x * random.random()  # noqa: S311


def talks(x: Any) -> Any:
    dist.all_reduce(x)
    return x


def talks_by_name(x: Any) -> Any:
    torch.distributed.barrier()
    return x


def saves(x: Any) -> Any:
    np.save("x.npy", x)
    return x


def seeds(x: Any) -> Any:
    torch.manual_seed(0)
    return x


def sets_default(x: Any) -> Any:
    torch.set_default_dtype(torch.float64)
    return x


def imports_more(x: Any) -> Any:
    import logging

    return logging.getLogger(x)


def calls_a_counter(x: Any) -> Any:
    return helper(counting_helper(x))


def calls_a_counter_in_a_lambda(x: Any) -> Any:
    return [f(x) for f in (lambda z: counting_helper(z),)]  # type: ignore[no-untyped-call]


def appends_to_a_default(x: Any, log: list[Any] = SEEN) -> Any:
    return helper(appends_to_a_keyword(x))


def appends_to_a_keyword(x: Any, *, log: dict[str, Any] = CACHE) -> Any:
    log.setdefault("x", x)
    return x


def sets_errors(x: Any) -> Any:
    np.seterr(all="ignore")
    return x


def sets_precision(x: Any) -> Any:
    torch.set_float32_matmul_precision("medium")
    return x


def saves_by_a_local_name(x: Any) -> Any:
    import numpy as q  # noqa: ICN001 (by another name)

    q.savetxt("x.txt", x)
    return x


def writes_a_file(x: Any) -> Any:
    x.numpy().tofile("x.bin")
    return x


def writes_to_a_tensor_through_numpy(x: Any) -> Any:
    WEIGHT.numpy()[0] += 1
    return x


def writes_to_its_own_attributes(x: Any) -> Any:
    helper.__dict__.setdefault("seen", []).append(x)
    return x


def unknown(x: Any) -> Any:
    return compiled_extension(x)  # type: ignore[name-defined] # noqa: F821


def closure() -> Callable[[Any], Any]:
    count = 0

    def counts(x: Any) -> Any:
        nonlocal count
        count += 1
        return x

    return counts


IMPURE: dict[Callable[..., Any], str] = {
    counting_helper: "counting_helper writes to the global COUNT",
    calls_a_counter: "counting_helper writes to the global COUNT",
    calls_a_counter_in_a_lambda: "counting_helper writes to the global COUNT",
    appends: "it uses SEEN, of the type list",
    caches: "it uses CACHE, of the type dict",
    sets: "it uses SETTINGS, of the type Settings",
    marks: "marks sets the attribute seen",
    draws: "it uses random",
    talks: "it uses torch.distributed.distributed_c10d.all_reduce",
    talks_by_name: "it uses torch.distributed.distributed_c10d.barrier",
    saves: "it uses np.save",
    seeds: "it uses torch.random.manual_seed",
    sets_default: "it uses torch.set_default_dtype",
    imports_more: "imports_more imports logging",
    appends_to_a_default: "it uses a default of appends_to_a_default, of the type list",
    appends_to_a_keyword: "it uses a default of appends_to_a_keyword, of the type dict",
    sets_errors: "it uses np.seterr",
    sets_precision: "it uses torch.set_float32_matmul_precision",
    saves_by_a_local_name: "saves_by_a_local_name uses savetxt",
    writes_a_file: "writes_a_file uses tofile",
    writes_to_a_tensor_through_numpy: "writes_to_a_tensor_through_numpy writes to an array",
    writes_to_its_own_attributes: "writes_to_its_own_attributes uses __dict__",
    notes_by_a_member: "it uses a default of notes_by_a_member, of the type Noting",
    lambda x: counted_once(3) * x: "counting_helper writes to the global COUNT",
    unknown: "it uses compiled_extension",
    closure(): "counts writes to count, which belongs to another function",
    (lambda x: print(x)): "it uses print",
    (lambda x: setattr(SETTINGS, "steps", x)): "it uses setattr",
    (lambda x: exec("x = 3")): "it uses exec",
}


def read(function: Callable[..., Any], *arguments: Any) -> str:
    class Read(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, *more: Any) -> Any:
            ctx.save_for_backward(x)
            return function(x, *more)

    return impurity(Read, [None, *arguments])


@pytest.mark.parametrize("function", PURE)
def test_what_only_calculates_is_pure(function: Callable[..., Any]) -> None:
    assert read(function) == ""


@pytest.mark.parametrize(("function", "said"), IMPURE.items())
def test_what_leaves_a_trace_is_not(function: Callable[..., Any], said: str) -> None:
    assert read(function).startswith(said)


def hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (3, ""),
        ((1, "two", None), ""),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), ""),
        (Quiet(), ""),
        (torch.sin, ""),
        (helper, ""),
        (Counting(), "forward sets the attribute calls"),
        (nn.Sequential(Counting()), "forward sets the attribute calls"),
        (Logging(), "it uses SEEN, of the type list"),
        (Renaming(), "forward gives self another name"),
        (hooked(), "an argument has hooks"),
        (counting_helper, "counting_helper writes to the global COUNT"),
        (partial(counting_helper, 3), "counting_helper writes to the global COUNT"),
        (SETTINGS, "it uses an argument, of the type Settings"),
        (SEEN, "it uses an argument, of the type list"),
    ],
)
def test_arguments_are_read_too(argument: Any, said: str) -> None:
    assert read(helper, argument).startswith(said)
    assert bool(read(helper, argument)) == bool(said)


def test_both_parts_of_a_function_are_read() -> None:
    class Apart(Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * 2

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.x = inputs[0]
            SEEN.append(output)

    assert impurity(Apart, [None]) == "it uses SEEN, of the type list"


def test_a_class_method_is_read_with_its_class() -> None:
    class Base(Function):
        power = 2

        @classmethod
        def raised(cls, x: Any) -> Any:
            return x**cls.power

        @classmethod
        def forward(cls, ctx: Any, x: Any) -> Any:
            ctx.shape = x.shape
            return cls.raised(x)

    class Noting(Base):
        @classmethod
        def raised(cls, x: Any) -> Any:
            SEEN.append(x)
            return x

    assert impurity(Base, [None]) == ""
    assert impurity(Noting, [None]) == "it uses SEEN, of the type list"
