"""The plain evaluation stays where its operands live, shown with arrays that refuse to leave.

No device is needed: `DeviceArray` takes what CuPy takes. So the tests show that calls dispatch, not
that a device computes well.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from engine.device_array import DeviceArray
from engine.elsewhere import by_rule, evaluated, moved, paired
from engine.test_last_uses import Cubed, in_place, leaf
from gradwitness._errors import Unjudgeable
from gradwitness.capture import record
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.engine.forward import as_recorded, evaluate
from gradwitness.rules import find, table
from gradwitness.rules.made_like import full_like
from gradwitness.tape import Kind, Value
from rules.harness import make
from rules.test_sparse import RULES, products

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradwitness.tape import Tape

# The rules that need the processor, and what for.
_SCAN = "CuPy accumulates sums and products alone"
_SCIPY = "SciPy's function takes NumPy arrays alone"
_BOXES = "where numbers are read is worked out on the host"
ON_HOST = {
    "aten.cummax": _SCAN,
    "aten.cummin": _SCAN,
    "aten.hash_tensor": "CuPy reduces by sums and products alone",
    "aten.logcumsumexp": _SCAN,
    "aten.digamma": _SCIPY,
    "aten.polygamma": _SCIPY,
    "aten.special_airy_ai": _SCIPY,
    "aten.special_zeta": _SCIPY,
    "aten.linalg_matrix_exp": _SCIPY,
    "aten.linalg_eig": "eigenvalues are paired by SciPy's assignment",
    "aten._linalg_eigvals": "eigenvalues are paired by SciPy's assignment",
    "torchvision.deform_conv2d": _BOXES,
    "torchvision.nms": _BOXES,
    "torchvision.ps_roi_align": _BOXES,
    "torchvision.ps_roi_pool": _BOXES,
    "torchvision.roi_align": _BOXES,
    "torchvision.roi_pool": _BOXES,
}


BY_RULE = by_rule()


def require_same(made: Any, expected: Any) -> None:
    """Require numbers on the device that are those of NumPy's arrays."""
    assert isinstance(made, DeviceArray), f"a result is on the host: {type(made)}"
    assert made.dtype == expected.dtype
    np.testing.assert_allclose(made.get(), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("rule", sorted(BY_RULE.keys() - ON_HOST.keys()))
def test_rule_runs_where_its_operands_live(rule: str) -> None:
    for case in map(make, BY_RULE[rule]):
        for made, expected in evaluated(case, DeviceArray):
            require_same(made, expected)


@pytest.mark.parametrize("rule", sorted(ON_HOST))
def test_rule_on_the_host_is_listed_only_as_long_as_it_needs_to_be(rule: str) -> None:
    runs = (evaluated(case, DeviceArray) for case in map(make, BY_RULE[rule]))
    with pytest.raises((Unjudgeable, TypeError)):  # else it must be taken off
        list(itertools.chain.from_iterable(runs))


@pytest.mark.parametrize("place", range(len(RULES)))
def test_rule_of_sparse_tensors_runs_where_its_operands_live(place: int) -> None:
    name, given, parameters, wanted = RULES[place]
    rule = find(f"aten.{name}")
    assert rule

    def results(put: Callable[[Any], Any]) -> Iterator[Any]:
        operands = tuple(map(put, given))
        how = {n: put(a) if isinstance(a, np.ndarray) else a for n, a in parameters.items()}
        if name == "_sparse_mm_reduce_impl":
            how["which"] = put(products(how["reduce"])[0])
        y = rule.function(*operands, **how)
        yield y
        one = y[0] if isinstance(y, tuple) else y
        g = (one + 1, None) if isinstance(y, tuple) else one + 1
        for operand in wanted:
            yield rule.gradients[operand](g, y, operands, how)

    pairs = zip(results(DeviceArray), results(np.asarray), strict=True)
    for made, expected in itertools.chain.from_iterable(itertools.starmap(paired, pairs)):
        require_same(made, expected)


def test_the_page_on_costs_tells_how_many_rules_dispatch() -> None:
    assert ON_HOST.keys() <= BY_RULE.keys()
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert f"{len(BY_RULE) - len(ON_HOST)} of the {len(BY_RULE)} rules that have samples" in page
    assert f"The {len(ON_HOST)} others" in page
    # Other tests enter rules of their own.
    own = {r.name for r in table().values() if r.name.startswith(("aten.", "torch"))}
    others = own - BY_RULE.keys() - {f"aten.{name}" for name, *_ in RULES}
    assert f"The {len(others)} rules that have none either" in page


def custom() -> None:
    y: torch.Tensor = Cubed.apply(leaf(3, 4))  # type: ignore[no-untyped-call]
    torch.autograd.backward(y.square().mean())


def trained(model: torch.nn.Module, x: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    for _ in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(model(x).square().mean())
        optimizer.step()


def transformer() -> None:
    torch.manual_seed(0)
    trained(
        torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), leaf(2, 5, 8)
    )


def convolutional() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
    trained(torch.nn.Sequential(*layers, torch.nn.MaxPool2d(2)), leaf(3, 2, 8, 8))


def outcomes(tape: Tape) -> Iterator[Any]:
    """Yield what the engine computes for each call, and for each node that ran."""
    lookup = recorded(tape)
    for call in (call for call in tape.calls if call.operands):
        yield lambda call=call: evaluate(tape, call, lookup, bounded=False)
    for run in (run for sweep in tape.sweeps for run in sweep.node_runs):
        node = tape.nodes[run.node]
        if node.kind != Kind.ACCUMULATE:
            arrived = [None if n is None else lookup(n) for n in run.incoming]
            yield lambda node=node, arrived=arrived: gradients(tape, node, arrived, lookup, None)


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Unjudgeable as reason:
        return str(reason)


@pytest.mark.parametrize("program", [in_place, custom, transformer, convolutional])
def test_recorded_program_is_evaluated_without_a_copy_to_the_host(
    program: Callable[[], None],
) -> None:
    with record() as recorder:
        program()
    tape, before = recorder.tape, DeviceArray.host_copies
    pairs = zip(outcomes(moved(tape, DeviceArray)), outcomes(tape), strict=True)
    judged = 0
    for run, own in pairs:
        made, expected = outcome(run), outcome(own)
        if isinstance(expected, str):
            assert made == expected
            continue
        for one, other in paired(made, expected):
            require_same(one, other)
        judged += 1
    assert judged >= 8
    assert DeviceArray.host_copies == before


def test_whole_numbers_are_made_on_the_device() -> None:
    x = DeviceArray(np.array([1.5, -2.5, np.nan, 1e30]))
    made = as_recorded(x, Value(0, (4,), "int32", None))
    low = np.iinfo(np.int32).min
    assert isinstance(made, DeviceArray)
    assert made.get().tolist() == [1, -2, low, low]
    assert made.dtype == np.int32


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_of_one_number_may_have_any_shape(shape: tuple[int, ...]) -> None:
    for like in (np.ones(4), DeviceArray(np.ones(4))):
        made = full_like(like, shape, 2)
        assert type(made) is type(like)
        assert made.shape == shape
    assert np.all(made.get() == 2)


X = DeviceArray(np.arange(3.0))
REFUSED: dict[str, Callable[[], Any]] = {
    "Implicit conversion": lambda: np.asarray(X),
    "Unsupported type": lambda: X + np.ones(3),
    "Unsupported type <class": lambda: np.where(np.ones(3, bool), X, 0),
    "Only cupy arrays": lambda: np.stack([X, 0.0]),
    "'initial'": lambda: np.max(X, initial=0),
    "'device'": lambda: np.eye(3, like=X),
    "no shape is taken": lambda: np.zeros_like(X, shape=()),
    "maximum.accumulate": lambda: np.maximum.accumulate(X),
    "returned NotImplemented": lambda: np.spacing(X),
    "no implementation found": lambda: np.geomspace(X, X),
    "one place": lambda: X.__setitem__([0, 0], DeviceArray(np.ones(2))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_device_array_refuses_what_does_not_dispatch(message: str) -> None:
    with pytest.raises((TypeError, NotImplementedError, IndexError), match=message):
        REFUSED[message]()


def test_numbers_read_on_the_host_are_counted() -> None:
    before = DeviceArray.host_copies
    assert float(np.sum(X)) == 3
    assert bool(np.any(X > 1))
    assert int(X[2]) == 2
    assert DeviceArray.host_copies == before + 3
