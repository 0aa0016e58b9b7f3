"""gradcheck, called as torch's is: what it confirms, what it finds, what it leaves as it was."""

from __future__ import annotations

import inspect
import itertools
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from torch.nn import functional

import gradwitness as gw
from gradwitness.rules import registry

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def leaf(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(dtype).requires_grad_()


def custom(
    forward: Callable[..., Any], backward: Callable[..., Any], *, materialize: bool = True
) -> Any:
    """Make a function with a backward of its own, which gets (g, x)."""

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            ctx.set_materialize_grads(materialize)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(*grads, ctx.saved_tensors[0])

    return Made.apply


square = custom(lambda x: x * x, lambda g, x: 2 * g * x)
half_square = custom(lambda x: x * x, lambda g, x: g * x)


def torch_passes(function: Any, inputs: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(torch.autograd.gradcheck(function, inputs, raise_exception=False))


RIGHT: dict[str, Callable[[torch.dtype], tuple[Any, Any]]] = {
    "linear and tanh": lambda d: (
        lambda x, w: functional.linear(x, w).tanh(),
        (leaf(3, 4, dtype=d), leaf(5, 4, dtype=d, seed=1)),
    ),
    "softmax": lambda d: (lambda x: x.softmax(-1), leaf(3, 4, dtype=d)),
    "convolution": lambda d: (
        functional.conv2d,
        (leaf(1, 2, 5, 5, dtype=d), leaf(3, 2, 3, 3, dtype=d, seed=1)),
    ),
    "a function of its own": lambda d: (square, leaf(3, 4, dtype=d)),
    "one number": lambda d: (torch.sin, leaf(dtype=d)),
    "in place": lambda d: (lambda x: x.clone().sin_().mul_(2), leaf(3, dtype=d)),
    "relu at its kink": lambda d: (
        torch.relu,
        torch.tensor([0.0, 2.0, -1.0], dtype=d, requires_grad=True),
    ),
    "stable softmax": lambda d: (
        lambda x: (x - x.max().detach()).exp() / (x - x.max().detach()).exp().sum(),
        leaf(5, dtype=d),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_right_functions_pass(name: str, dtype: torch.dtype) -> None:
    function, inputs = RIGHT[name](dtype)
    assert gw.gradcheck(function, inputs) is True


@pytest.mark.parametrize("name", ["linear and tanh", "softmax", "convolution"])
def test_where_torch_refuses_right_functions_in_float32(name: str) -> None:
    assert torch_passes(*RIGHT[name](torch.float64))
    assert not torch_passes(*RIGHT[name](torch.float32))
    assert gw.gradcheck(*RIGHT[name](torch.float32))


def test_where_torch_refuses_a_kink() -> None:
    assert not torch_passes(*RIGHT["relu at its kink"](torch.float64))
    assert torch_passes(*RIGHT["stable softmax"](torch.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_torch_passes_a_wrong_function(dtype: torch.dtype) -> None:
    """All values of the gradient lie under torch's atol, so that any gradient will do."""

    def small(x: torch.Tensor) -> Any:
        return half_square(x) * 1e-6

    assert torch_passes(small, leaf(3, 4, dtype=torch.float64))
    with pytest.raises(gw.GradientDisagreement, match=r"(?s)^DISAGREES\n.*MadeBackward #"):
        gw.gradcheck(small, leaf(3, 4, dtype=dtype))


turns = itertools.count()


def noisy(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    # Two roundings of float32, every other time.
    return 2 * g * x * (1 + 2.0**-22 * (next(turns) % 2))


weight = nn.Parameter(torch.ones(3))
_half_of_weight = custom(lambda w: w * 2, lambda g, _: g)


def without_gradient(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        scale = x.sum()
    return x * scale


DETACHED = (
    r"(?s)^DISAGREES\n.*gradient of inputs\[0\]: not the derivative of the function.*cause    "
)
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "half": (half_square, r"(?s)^DISAGREES\n.*DISAGREES  backward: MadeBackward #"),
    "right for ones only": (
        custom(lambda x: x.sum().expand(3) * 1, lambda g, _: g.mean().expand(3) * 3 + g - g.mean()),
        "DISAGREES  backward: MadeBackward #",
    ),
    "right for dense cotangents only": (
        custom(lambda x: x * x, lambda g, x: 2 * g * x if g.is_contiguous() else g * x),
        "only probes show that 1 step",
    ),
    "a constant added": (
        custom(lambda x: x * 2, lambda g, _: 2 * g + 1e-3 * (g.abs() < 1e-3)),
        "only probes show that 1 step",
    ),
    "a parameter beside the inputs": (
        lambda x: x * _half_of_weight(weight),
        "DISAGREES  backward: MadeBackward #",
    ),
    "detach": (
        lambda x: x * x.detach(),
        DETACHED + r"values leave autograd's sight: detach\(\) at .*test_gradcheck\.py:\d+",
    ),
    "no_grad": (
        without_gradient,
        DETACHED + r"values leave autograd's sight: sum under no_grad\(\) at .*py:\d+",
    ),
    "item": (lambda x: x * x[0].item(), DETACHED + r".*item\(\) at .*py:\d+"),
    "NumPy": (
        lambda x: x * torch.from_numpy(np.sin(x.detach().numpy())),
        DETACHED + r".*numpy\(\) at .*py:\d+",
    ),
    "data": (lambda x: x * x.data, DETACHED + r".*\.data at .*py:\d+"),
    "not deterministic": (
        custom(lambda x: x * x, noisy),
        r"^DISAGREES\nbackward is not deterministic: .* the limit is nondet_tol=0\.",
    ),
    "a crash for undefined gradients": (
        custom(lambda x: x * x, lambda g, x: 2 * g.view(-1) * x, materialize=False),
        r"undefined output gradients are not treated as zero: backward fails \(AttributeError",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_functions_fail(name: str) -> None:
    function, said = WRONG[name]
    x = leaf(3)
    with pytest.raises(gw.GradientDisagreement, match=said) as caught:
        gw.gradcheck(function, x)
    assert caught.value.faults
    assert gw.gradcheck(function, x, raise_exception=False) is False
    # A caller of torch's own catches it.
    assert isinstance(caught.value, GradcheckError)
    assert isinstance(caught.value, AssertionError)


def test_an_unfit_option_is_off_where_it_is_turned_off() -> None:
    function, _ = WRONG["a crash for undefined gradients"]
    assert gw.gradcheck(function, leaf(3), check_undefined_grad=False)
    function, _ = WRONG["not deterministic"]
    assert gw.gradcheck(function, leaf(3), nondet_tol=1e-3)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x.detach() * 2, r"^INCONCLUSIVE\nno output of the function requires a gradi"),
        (
            lambda x: x * x.detach() if x.dtype is torch.float32 else 1 / 0,
            r"^INCONCLUSIVE\nvalues leave autograd's sight: detach\(\) at .* \(ZeroDivisionError",
        ),
        (
            lambda x: x * float(x[0].detach() * 2) if x.dtype is torch.float32 else 1 / 0,
            r"^INCONCLUSIVE\nvalues leave autograd's sight: float\(\) at .* \(ZeroDivisionError",
        ),
    ],
)
def test_what_could_not_be_judged_does_not_pass(function: Any, said: str) -> None:
    with pytest.raises(gw.GradientDisagreement, match=said):
        gw.gradcheck(function, leaf(3))
    assert not gw.gradcheck(function, leaf(3), raise_exception=False)


def test_what_has_no_rule_and_no_slope_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry._RULES, "aten.erfinv")
    with pytest.raises(gw.GradientDisagreement, match=r"^INCONCLUSIVE\n(?s:.*)no rule for aten.er"):
        gw.gradcheck(torch.erfinv, torch.full((3,), 2.0, requires_grad=True))


def test_nothing_to_compare_does_not_pass() -> None:
    with pytest.raises(gw.GradientDisagreement, match="no elements: nothing was compared"):
        gw.gradcheck(lambda x: x * x, torch.zeros(0, 3, requires_grad=True))


def test_inputs_and_outputs_of_every_kind() -> None:
    x = leaf(3)

    def function(a: Any, n: int, word: str, more: Any, fixed: Any) -> Any:
        assert word == "word"
        return a.sin() * n, [more[0] * 2, (None, more[1][0].exp())], fixed.argmax(), fixed * 2

    assert gw.gradcheck(function, (x, 3, "word", [x * 2, (leaf(3, seed=1),)], torch.ones(3)))
    assert gw.gradcheck(function, [x, 3, "word", [x, (x,)], torch.ones(3)])
    # An input that no output depends on has no gradient, rightly.
    assert gw.gradcheck(lambda a, _: a.sin(), (x, leaf(2)))


def test_a_module_and_its_method() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = leaf(5, 4)
    assert gw.gradcheck(model, x)
    assert gw.gradcheck(model.forward, (x,))


def test_the_state_is_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = leaf(5, 4)
    x.grad = torch.full((5, 4), 7.0)
    first: Any = model[0]
    first.weight.grad = kept = torch.ones(3, 4)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    numbers, drawn = x.detach().clone(), torch.get_rng_state()
    legacy = np.random.get_state()  # noqa: NPY002 (a program may use it)

    def function(given: torch.Tensor) -> Any:
        np.random.rand()  # noqa: NPY002
        given.grad = None
        return model(given)

    gw.gradcheck(function, x, raise_exception=False)
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)
    assert torch.equal(x, numbers)
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full((5, 4), 7.0))
    assert first.weight.grad is kept
    assert torch.equal(kept, torch.ones(3, 4))
    assert first.bias.grad is None
    assert torch.equal(torch.get_rng_state(), drawn)
    assert str(np.random.get_state()) == str(legacy)  # noqa: NPY002


def test_every_keyword_of_torch_is_taken() -> None:
    theirs = inspect.signature(torch.autograd.gradcheck).parameters
    ours = inspect.signature(gw.gradcheck).parameters
    assert set(ours) - set(theirs) == {"seed", "fuzz"}
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind)
    assert gw.gradcheck(
        torch.sin,
        leaf(3),
        eps=1e-3,
        atol=1,
        rtol=1,
        check_grad_dtypes=True,
        fast_mode=True,
        masked=True,
    )


@pytest.mark.parametrize(
    "name", ["check_forward_ad", "check_batched_grad", "check_batched_forward_grad"]
)
def test_what_is_not_checked_is_refused(name: str) -> None:
    options: Any = {name: True}
    with pytest.raises(gw.InputError, match=rf"^{name}=True is not checked here"):
        gw.gradcheck(torch.sin, leaf(3), **options)


def test_bad_input() -> None:
    with pytest.raises(gw.InputError, match="check_backward_ad=False leaves nothing to check"):
        gw.gradcheck(torch.sin, leaf(3), check_backward_ad=False)
    with pytest.raises(gw.InputError, match="gradcheck needs a function, not int"):
        gw.gradcheck(3, leaf(3))  # type: ignore[arg-type]
    # As torch's own does, whatever raise_exception says.
    with pytest.raises(ValueError, match="expects at least one input tensor to require gradient"):
        gw.gradcheck(torch.sin, torch.ones(3), raise_exception=False)
    with pytest.raises(ZeroDivisionError):
        gw.gradcheck(lambda _: 1 / 0, leaf(3))


def test_a_disagreement_travels_between_processes() -> None:
    error = gw.GradientDisagreement("DISAGREES\nwhy")
    error.faults = ()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    assert (str(again), again.faults) == (str(error), ())


def test_a_sparse_input_is_refused_by_name() -> None:
    sparse = torch.eye(3).to_sparse().requires_grad_()
    with pytest.raises(gw.InputError, match=r"inputs\[1\] is sparse"):
        gw.gradcheck(lambda x, a: torch.sparse.mm(a, x), (leaf(3, 2), sparse))
