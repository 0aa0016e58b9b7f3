"""gradcheck: torch's own call, judged step by step in the format that the function runs in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradwitness._errors import InputError, MissingExtraError, Unjudgeable
from gradwitness.api.at_leaves import at_leaves
from gradwitness.api.fuzz import elsewhere, when_wrong
from gradwitness.api.probe import probe
from gradwitness.judging.custom.slopes import measure
from gradwitness.judging.finding import GRADIENTS
from gradwitness.judging.fuzz.description import ONLY
from gradwitness.judging.numbers import short
from gradwitness.judging.probe_results import AGAIN
from gradwitness.judging.sight import leaks as leaks_of
from gradwitness.judging.sight import way
from gradwitness.report.console import as_text
from gradwitness.report.faults import probe_faults
from gradwitness.report.tables.probes import probes
from gradwitness.report.tables.terminal import relative, summary
from gradwitness.rules.declarations import is_allowed
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.capture.again.gradchecking import Subject
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.probe_results import Probe

_PASSES = (AGAIN, "random", "strided", "expanded", "zero")


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
    seed: int = 0,
    fuzz: bool = False,
) -> bool:
    """Check a function's gradients; a drop-in replacement for ``torch.autograd.gradcheck``.

    The function runs in the dtype of its inputs (float32, bfloat16, float64, ...), with random
    cotangents for every output. Each of its steps, forward and backward, is judged under a bound
    derived from rounding error analysis, including the steps that lead to parameters which the
    function uses besides its inputs. If it also runs in float64, its directional derivatives are
    then measured there, which exposes values that reach the output without autograd's knowledge.
    Where a custom function or a hook sends something else than the derivative of what was recorded,
    those slopes decide whether the gradients of the inputs are right.

    Parameters
    ----------
    func : callable
        Takes the inputs and returns a tensor, or tensors in tuples or lists.
    inputs : Tensor or tuple
        The arguments. Those that are floating-point and require gradients are checked.
    raise_exception : bool, optional
        Raise if the gradients are not confirmed, instead of returning False.
    nondet_tol : float, optional
        How far the gradients of the same backward pass, run twice, may differ.
    check_undefined_grad : bool, optional
        Also check that undefined gradients of outputs are treated as zero.
    check_grad_dtypes : bool, optional
        Also check that each gradient has the dtype of its input.
    check_backward_ad : bool, optional
        Must be True: the backward pass is what is checked.
    check_forward_ad, check_batched_grad, check_batched_forward_grad : bool, optional
        Must be False: they are not supported.
    eps, atol, rtol, fast_mode, masked : optional
        Accepted and ignored: no finite differences are taken, and there is no tolerance to choose.
    seed : int, optional
        The seed of the cotangents.
    fuzz : bool, optional
        Also try the function in float64 at other shapes, strides and numbers than those of its
        inputs, some 200 times. A gradient that is wrong at some of them raises, and the message
        says at which; otherwise one line says how much was tried. What makes the function raise is
        no trial.

    Returns
    -------
    bool
        True if everything was judged and agrees.

    Raises
    ------
    GradientDisagreement
        If a step is wrong or could not be judged: INCONCLUSIVE does not pass. The exception is a
        ``torch.autograd.gradcheck.GradcheckError`` as well.
    InputError
        If an unsupported check is asked for, or no input requires a gradient; the latter is a
        ``ValueError`` as well, as it is in PyTorch.
    MissingExtraError
        If PyTorch is not installed.

    Notes
    -----
    Parameters, buffers, inputs, ``.grad`` and random number generators are restored bit for bit.

    Examples
    --------
    Unlike PyTorch's, it needs no float64 inputs:

    >>> import torch
    >>> import gradwitness
    >>> _ = torch.manual_seed(0)
    >>> x = torch.rand(2, 3, requires_grad=True)
    >>> gradwitness.gradcheck(torch.tanh, x)
    True
    >>> class Square(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * ctx.saved_tensors[0]
    >>> gradwitness.gradcheck(Square.apply, x, raise_exception=False)
    False
    """
    __tracebackhide__ = True  # pytest then shows the line that asked
    del eps, atol, rtol, fast_mode, masked
    _refuse(
        check_forward_ad=check_forward_ad,
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
    )
    if not check_backward_ad:
        raise InputError("check_backward_ad=False leaves nothing to check: only backward is judged")
    if not callable(func):
        raise InputError(f"gradcheck needs a function, not {type(func).__name__}")
    try:
        from gradwitness.capture.again.gradchecking import GradcheckDisagreement, Subject
    except ImportError as error:
        raise MissingExtraError(
            f"gradcheck needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    subject = Subject(func, inputs, seed)
    if not subject.wanted:
        raise NoGradientWantedError(
            "gradcheck expects at least one input tensor to require gradient, "
            "but none of them have requires_grad=True"
        )
    with subject.kept():
        outcome = _judged(
            subject,
            nondet_tol=nondet_tol,
            undefined=check_undefined_grad,
            dtypes=check_grad_dtypes,
        )
        verdict, said, faults = _tried_elsewhere(subject, outcome) if fuzz else outcome
    if verdict is Verdict.AGREES:
        if fuzz:
            print(said)  # noqa: T201 (asked for)
        return True
    if raise_exception:
        raise GradcheckDisagreement(f"{verdict.value}\n{said}", faults)
    return False


class NoGradientWantedError(InputError, ValueError):
    """No input requires a gradient."""


def _refuse(**asked: bool) -> None:
    for name in [name for name, wanted in asked.items() if wanted]:
        raise InputError(
            f"{name}=True is not checked here: only backward gradients are judged. Leave it out, "
            "and call torch.autograd.gradcheck for that part"
        )


class _Outcome(NamedTuple):
    verdict: Verdict
    text: str = ""
    faults: tuple[Fault, ...] = ()


def _judged(subject: Subject, *, nondet_tol: float, undefined: bool, dtypes: bool) -> _Outcome:
    """Return the verdict on a function and what there is to say."""
    # It runs many times in any case.
    found = probe(subject.step, *subject.models, names=subject.wanted, passes=_PASSES, rerun=True)
    # How a call's result is made is no question of its gradient.
    found = replace(found, report=found.report.judging(GRADIENTS))
    if not subject.outputs:
        return _told(
            Verdict.INCONCLUSIVE,
            "no output of the function requires a gradient",
            "there is no backward to judge. Look for a detach(), no_grad() or a conversion to "
            "NumPy",
        )
    told = _at_leaves(subject, found)
    if told is not Verdict.AGREES:
        if told is Verdict.DISAGREES and found.verdict is not Verdict.DISAGREES:
            return _slopes(subject, found)
        said = as_text(summary(found.report, found.tape), probes(found))
        return _Outcome(found.verdict, said, probe_faults(found))
    subject.again()
    if not subject.repeats <= nondet_tol:
        return _told(
            Verdict.DISAGREES,
            "backward is not deterministic",
            f"two runs of the same pass give gradients that differ by "
            f"{short(subject.repeats)}; the limit is nondet_tol={nondet_tol:g}. "
            + " ".join(note.text for note in found.notes),
        )
    if dtypes and subject.dtypes:
        return _told(Verdict.DISAGREES, "formats differ", "; ".join(subject.dtypes))
    wrong = subject.undefined() if undefined else ""
    if wrong:
        return _told(
            Verdict.DISAGREES,
            "undefined output gradients are not treated as zero",
            f"{wrong}. In backward, treat None as zero, or leave ctx.set_materialize_grads at True",
        )
    return _slopes(subject, found)


def _tried_elsewhere(subject: Subject, outcome: _Outcome) -> _Outcome:
    """Return what fuzzing adds to an outcome."""
    if outcome.verdict is Verdict.AGREES:
        return _told(*elsewhere(subject))
    if outcome.verdict is Verdict.INCONCLUSIVE or ONLY in " ".join(outcome.text.split()):
        return outcome
    only = when_wrong(subject)
    return outcome._replace(text=f"{outcome.text}\nfuzz: {only}") if only else outcome


def _at_leaves(subject: Subject, found: Probe) -> Verdict:
    """Return what slopes at the inputs say of gradients that a step put in question."""
    if found.verdict is Verdict.AGREES:
        return Verdict.AGREES
    try:
        return at_leaves(subject, subject.claims(), found).verdict
    except Unjudgeable:
        return Verdict.INCONCLUSIVE


def _told(verdict: Verdict, title: str, text: str, line: str = "") -> _Outcome:
    return _Outcome(verdict, f"{title}: {text}", (Fault(verdict, title, text, line),))


def _slopes(subject: Subject, found: Probe) -> _Outcome:
    """Hold the gradients against the function's slopes, where it runs in float64.

    The steps are right. What they cannot show are numbers that reach the outputs without autograd:
    where there are any, only the slopes can confirm that nothing is missing.
    """
    sources = {value.id for value in found.tape.values if value.name.startswith("inputs[")}
    seen = {call.source.line: way(call) for call in leaks_of(found.tape, sources)} | subject.leaks
    leaks = {line: way for line, way in seen.items() if not is_allowed(line)}
    if seen and not leaks:
        # Slopes would include what is cut off on purpose.
        return _Outcome(Verdict.AGREES)
    line = next(iter(leaks), "")
    said = "; ".join(f"{way} at {relative(line)}" for line, way in leaks.items())
    try:
        slopes = {name: measure(subject, claim) for name, claim in subject.claims().items()}
    except Unjudgeable as reason:
        slopes = {}
        why = str(reason)
    else:
        why = "; ".join(f"{n}: {s.reason}" for n, s in slopes.items() if s.reason)
    wrong = {n: s for n, s in slopes.items() if s.verdict is Verdict.DISAGREES}
    if wrong:
        texts = {name: _sloping(slope, said) for name, slope in wrong.items()}
        titles = {name: f"gradient of {name}: not the derivative of the function" for name in wrong}
        return _Outcome(
            Verdict.DISAGREES,
            "\n".join(f"DISAGREES  {titles[name]}\n{text}" for name, text in texts.items()),
            tuple(Fault(Verdict.DISAGREES, titles[n], text, line) for n, text in texts.items()),
        )
    settled = slopes and all(s.verdict is Verdict.AGREES for s in slopes.values())
    if leaks and not settled:
        return _told(
            Verdict.INCONCLUSIVE,
            "values leave autograd's sight",
            f"{said}. Every step agrees, but whether part of the gradient is missing could "
            f"not be measured: {why}",
            line,
        )
    return _Outcome(Verdict.AGREES)


def _sloping(slope: Comparison, leaks: str) -> str:
    unseen = "something that torch does not record: a NumPy view, an extension, a global"
    cause = f"values leave autograd's sight: {leaks}" if leaks else unseen
    direction = slope.index[0] if slope.index else 0
    return (
        f"  worst    direction {direction}: autograd's slope is {slope.recorded:.9g}, "
        f"the function's {slope.expected:.9g} (float64)\n"
        f"  error    {short(slope.error)}, {short(slope.ratio)} times the {short(slope.bound)} "
        f"that the measurement allows\n"
        f"  cause    {cause}\n"
        f"  next     every recorded step is right: look at what happens between them"
    )
