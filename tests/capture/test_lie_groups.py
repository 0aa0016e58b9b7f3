"""Gradients along Lie groups: right ones agree, wrong ones do not, and mixed ones are left open."""

# Torch prescribes the parameters.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy
import torch
from scipy.spatial.transform import Rotation

import gradwitness as gw
from capture.functions import apply
from capture.lie_functions import (
    ACTS,
    PARTS,
    Exp,
    Invert,
    Log,
    Multiply,
    Turn,
    elements,
    left,
    left_inverse,
    padded,
    rotation,
    times,
)
from gradwitness import RuleError, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = [torch.float32, torch.float64]
POSE = ACTS["SE(3)"]
TURN = ACTS["SO(3)"]


def poses(x: Any, p: Any, *, multiply: Any = Multiply, invert: Any = Invert) -> Any:
    y = elements("SE(3)", x.dtype, seed=5)
    return apply(POSE, apply(multiply, apply(invert, x), y), p)


def after_exp(x: Any, p: Any, *, exp: Any = Exp, log: Any = Log) -> Any:
    return apply(TURN, apply(exp, 0.7 * apply(log, x)), p)


CHAINS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    **{name: (name, partial(apply, function)) for name, function in ACTS.items()},
    "SO(2)": ("SO(2)", lambda x, p: apply(Turn, x, p[:, :2])),
    "log": ("SO(3)", lambda x, p: apply(Log, x) * p),
    "log, exp": ("SO(3)", after_exp),
    "product of inverse": ("SE(3)", poses),
}


def given(group: str, dtype: torch.dtype) -> tuple[Any, Any]:
    point = torch.randn((3, 3), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return elements(group, dtype).requires_grad_(), point.to(dtype).requires_grad_()


def loss(y: Any) -> Any:
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return (y * weights.to(y.dtype)).sum()


def watched(group: str, run: Callable[[Any, Any], Any], dtype: torch.dtype) -> gw.Witness:
    x, p = given(group, dtype)
    with gw.watch(names={"x": x, "p": p}) as witness:
        loss(run(x, p)).backward()
    return witness


def moved(group: str, x: Any, v: Any) -> Any:
    """Return exp(v) x by the exponential of matrices."""
    if group == "SO(2)":
        c, s = np.cos(v[0]), np.sin(v[0])
        return np.array([c * x[0] - s * x[1], s * x[0] + c * x[1]])
    parts = PARTS[group]
    start = 3 * ("t" in parts)
    t, q, s = (x[:3] if start else np.zeros(3)), x[start : start + 4], [*x[start + 4 :], 1.0][0]
    tau, phi, sigma = (v[:3] if start else t), v[start : start + 3], [*v[start + 3 : -1], 0.0][0]
    generator, matrix = np.zeros((4, 4)), np.eye(4)
    generator[:3, :3] = np.cross(np.eye(3), phi) + sigma * np.eye(3)
    generator[:3, 3] = tau
    matrix[:3, :3], matrix[:3, 3] = s * Rotation.from_quat(q).as_matrix(), t
    matrix = scipy.linalg.expm(generator) @ matrix
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    turned = Rotation.from_matrix(matrix[:3, :3] / scale).as_quat()
    by_part = {"t": matrix[:3, 3], "q": turned * np.sign(turned @ q), "s": np.array([scale])}
    return np.concatenate([by_part[part] for part in parts])


@pytest.mark.parametrize("name", CHAINS)
def test_the_right_gradients_are_right(name: str) -> None:
    group, run = CHAINS[name]
    x, p = given(group, torch.float64)
    loss(run(x, p)).backward()
    start = x.detach().numpy()
    for k in range(x.shape[-1] - 1):
        step = 1e-5 * np.eye(x.shape[-1])[k]
        ahead, behind = (
            loss(run(torch.tensor(np.stack([moved(group, row, v) for row in start])), p)).item()
            for v in (step, -step)
        )
        assert abs((ahead - behind) / 2e-5 - float(x.grad[:, k].sum())) < 1e-8


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", CHAINS)
def test_a_right_gradient_agrees_and_says_along_what(name: str, dtype: torch.dtype) -> None:
    group, run = CHAINS[name]
    report = watched(group, run, dtype).report
    assert report.verdict is Verdict.AGREES, report.reasons()
    words = f"along tangent directions of {group} (left perturbation)"
    assert {f.grade for f in report.findings if "along" in f.grade} == {f"normwise, {words}"}
    (note,) = report.notes
    assert note.kind == "gradient along a group"
    assert note.text.startswith(f"the gradient of x is {words}")


class OtherFormula(TURN):  # type: ignore[misc, valid-type]
    """The same for unit quaternions: R^T g = (w^2 - u^2) g + 2 (u . g) u - 2 w u x g."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (of_x, _), (g,), q = TURN.backward(ctx, *grads), grads, ctx.saved_tensors[0]
        u, w = q[..., :3], q[..., 3:]
        along = 2 * (u * g).sum(-1, keepdim=True) * u - 2 * w * torch.linalg.cross(u, g)
        return of_x, (w * w - (u * u).sum(-1, keepdim=True)) * g + along


def test_unit_quaternions_that_were_made_in_float32_agree() -> None:
    x = elements("SO(3)", torch.float32).double().requires_grad_()
    p = torch.ones((3, 3), dtype=torch.float64, requires_grad=True)
    with gw.watch() as witness:
        loss(apply(OtherFormula, x, p)).backward()
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()
    of_x, of_p = (f.grade for f in witness.report.findings if f.grade)
    assert of_x == "normwise, along tangent directions of SO(3) (left perturbation)"
    assert of_p.startswith("normwise, to the 1e-08 by which elements are off their group")


def with_fault(function: Any, fault: Callable[[Any], Any]) -> Any:
    class Faulty(function):  # type: ignore[misc]
        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            results = function.backward(ctx, *grads)
            first, *others = results if isinstance(results, tuple) else (results,)
            return fault(first), *others

    return Faulty


def one_sign(g: Any) -> Any:
    signs = torch.ones_like(g)
    signs[..., 1] = -1
    return g * signs


FAULTS: dict[str, Callable[[Any], Any]] = {
    "one sign": one_sign,
    "2 %": lambda g: 1.02 * g,
    "one element": lambda g: g + 0.01 * g.abs().max() * (torch.arange(g.numel()) == 1).view_as(g),
    "order": lambda g: torch.cat([g[..., :3].flip(-1), g[..., 3:]], -1),
    "last": lambda g: g + 0.01 * torch.eye(g.shape[-1], dtype=g.dtype)[-1],
}


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", PARTS)
def test_a_fault_is_found(name: str, fault: str, dtype: torch.dtype) -> None:
    function = with_fault(ACTS[name], FAULTS[fault])
    report = watched(name, lambda x, p: apply(function, x, p), dtype).report
    assert report.verdict is Verdict.DISAGREES
    assert {(f.title.split()[0], f.tensor_nr) for f in report.wrong} == {("FaultyBackward", 0)}
    if fault != "last":
        assert f"nor is it right along tangent directions of {name}" in report.wrong[0].grade


class RightPerturbed(TURN):  # type: ignore[misc, valid-type]
    """The gradient by v of x exp(v): R^T times that of exp(v) x."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        of_x, of_p = TURN.backward(ctx, *grads)
        return padded(times(rotation(ctx.saved_tensors[0]).mT, of_x[..., :3])), of_p


class LogTransposed(Log):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return padded(times(left_inverse(ctx.saved_tensors[0]), grads[0]))


class ExpTransposed(Exp):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return times(left(ctx.saved_tensors[0]), grads[0][..., :3])


class NotInverted(Invert):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        del ctx
        return -grads[0]


class MultipliedOnly(Multiply):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        del ctx
        return 1.02 * grads[0], None


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("group", "run"),
    [
        ("SO(3)", lambda x, p: apply(RightPerturbed, x, p)),
        ("SO(3)", lambda x, p: apply(LogTransposed, x) * p),
        ("SO(3)", lambda x, p: after_exp(x, p, exp=ExpTransposed)),
        ("SE(3)", lambda x, p: poses(x, p, invert=NotInverted)),
        ("SE(3)", lambda x, p: poses(x, p, multiply=MultipliedOnly)),
    ],
    ids=["right perturbation", "log transposed", "exp transposed", "inverse", "product"],
)
def test_a_wrong_jacobian_is_found(
    group: str, run: Callable[[Any, Any], Any], dtype: torch.dtype
) -> None:
    report = watched(group, run, dtype).report
    assert report.verdict is Verdict.DISAGREES
    assert len(report.wrong) == 1


def test_a_gradient_along_a_group_is_none_by_the_numbers() -> None:
    # Divided by its norm, an element is one, but the division takes what it gets by the numbers.
    raw = elements("SO(3)", torch.float64).mul(2).requires_grad_()
    with gw.watch() as witness:
        q = raw / raw.norm(dim=-1, keepdim=True)
        loss(apply(TURN, q, torch.ones(3, 3, dtype=torch.float64))).backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(r.startswith("what arrives is a gradient along") for r in witness.report.reasons())


def test_a_gradient_by_the_numbers_is_none_along_a_group() -> None:
    phi = torch.randn((3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    phi.requires_grad_()
    with gw.watch() as witness:
        loss(apply(Exp, phi)[..., :3]).backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(
        r.startswith("what arrives is a gradient by the numbers") for r in witness.report.reasons()
    )


def test_both_kinds_of_gradient_for_one_tensor_are_left_open() -> None:
    x, p = given("SO(3)", torch.float64)
    with gw.watch() as witness:
        (loss(apply(TURN, x, p)) + loss(x[..., :3].sin())).backward()
    assert witness.verdict is Verdict.INCONCLUSIVE
    assert any(r.startswith("adds a gradient along a group") for r in witness.report.reasons())


def test_what_moves_whole_elements_passes_such_gradients_on() -> None:
    x, p = given("SE(3)", torch.float64)
    with gw.watch() as witness:
        rows = torch.cat([x[1:], x[:1].expand(2, 7).clone()]).view(2, 2, 7)[:, 1]
        loss(apply(POSE, rows, p[:2])).backward()
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()


def test_elements_of_a_class_of_their_own_agree() -> None:
    class Pose(torch.Tensor):
        pass

    x, p = given("SE(3)", torch.float64)
    with gw.watch() as witness:
        loss(apply(POSE, x.as_subclass(Pose).as_subclass(torch.Tensor), p)).backward()
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()


def test_a_result_of_one_number_is_no_element() -> None:
    class Total(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return 2.02 * grads[0] * ctx.saved_tensors[0]

    x, _ = given("SO(3)", torch.float64)
    with gw.watch() as witness:
        apply(Total, x).backward()
    assert witness.verdict is Verdict.DISAGREES


def test_a_recording_alone_agrees(tmp_path: Any) -> None:
    group, run = CHAINS["product of inverse"]
    watched(group, run, torch.float32).save(tmp_path / "tape.npz")
    report = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert report.verdict is Verdict.AGREES, report.reasons()


def by_numpy(function: Any, factor: float = 1.0) -> Any:
    """Return a function whose forward leaves torch, so that slopes must decide."""

    class Opaque(function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, p: Any) -> Any:
            y = torch.from_numpy(function.act(x, p).numpy() * np.ones(3, x.numpy().dtype))
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            of_x, of_p = function.backward(ctx, *grads)
            return factor * of_x, of_p

    return Opaque


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", PARTS)
def test_slopes_decide_where_the_rules_cannot(name: str, dtype: torch.dtype) -> None:
    right, wrong = by_numpy(ACTS[name]), by_numpy(ACTS[name], 1.02)
    report = watched(name, lambda x, p: apply(right, x, p), dtype).report
    assert report.verdict is Verdict.AGREES, report.reasons()
    assert any(
        f.grade == f"by slopes (4 directions, float64) along tangent directions of {name} "
        "(left perturbation)"
        for f in report.findings
    )
    report = watched(name, lambda x, p: apply(wrong, x, p), dtype).report
    assert report.verdict is not Verdict.AGREES


class Heading(torch.autograd.Function):
    """Poses of the plane, (angle, x, y), moved from the right: a robot's own axes."""

    @staticmethod
    def forward(ctx: Any, z: Any, p: Any) -> Any:
        ctx.save_for_backward(z, p)
        c, s = z[..., 0].cos(), z[..., 0].sin()
        turned = torch.stack([c * p[..., 0] - s * p[..., 1], s * p[..., 0] + c * p[..., 1]], -1)
        return z[..., 1:] + turned

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (z, p) = grads, ctx.saved_tensors
        c, s = z[..., 0].cos(), z[..., 0].sin()
        back = torch.stack([c * g[..., 0] + s * g[..., 1], c * g[..., 1] - s * g[..., 0]], -1)
        turn = p[..., 0] * back[..., 1] - p[..., 1] * back[..., 0]
        return torch.cat([turn[..., None], back], -1), None


def ahead(x: Any, v: Any) -> Any:
    c, s = np.cos(x[..., 0]), np.sin(x[..., 0])
    way = np.stack([c * v[..., 1] - s * v[..., 2], s * v[..., 1] + c * v[..., 2]], -1)
    return np.concatenate([x[..., :1] + v[..., :1], x[..., 1:] + way], -1)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_declared_retraction(dtype: torch.dtype) -> None:
    right, wrong, undeclared = (
        with_fault(Heading, f) for f in (lambda g: g, one_sign, lambda g: g)
    )
    for function in (right, wrong):
        gw.retraction(function, "z")(ahead)

    def report(function: Any) -> Any:
        z = torch.tensor([[0.3, 1.0, 2.0], [1.0, -1.0, 0.5]], dtype=dtype, requires_grad=True)
        with gw.watch() as witness:
            loss(apply(function, z, torch.ones(2, 2, dtype=dtype))).backward()
        return witness.report

    agreed = report(right)
    assert agreed.verdict is Verdict.AGREES, agreed.reasons()
    assert any("of a retraction (as declared)" in f.grade for f in agreed.findings)
    assert report(wrong).verdict is Verdict.DISAGREES
    assert report(undeclared).verdict is Verdict.DISAGREES


def test_a_retraction_that_does_not_fit() -> None:
    with pytest.raises(RuleError, match="give the class itself"):
        gw.retraction(len, "x")
    with pytest.raises(RuleError, match="no argument 'q'"):
        gw.retraction(Heading, "q")
    with pytest.raises(RuleError, match="belongs to nothing"):
        gw.retraction(Heading)
    with pytest.raises(RuleError, match="give it an element x and the vector v"):
        gw.retraction(Heading, "z")(one_sign)
    gw.retraction(Heading, "p", results=True)(ahead)
    with pytest.raises(RuleError, match="replace=True"):
        gw.retraction(Heading, "p")
    gw.retraction(Heading, "p", replace=True)(ahead)
