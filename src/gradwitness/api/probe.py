"""Probing: the same program with cotangents and parameters that cannot hide a fault."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError, MissingExtraError
from gradwitness._room import Room
from gradwitness.api.arguments import KEEP
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.custom.accused import settled
from gradwitness.judging.finding import Report
from gradwitness.judging.fuzz.guilty import fuzzed
from gradwitness.judging.gradients.unfelt import without_unfelt
from gradwitness.judging.local import Judge
from gradwitness.judging.looks.whole import Whole
from gradwitness.judging.probe_results import (
    AGAIN,
    KINDS,
    MOVED,
    MOVED_RANDOM,
    OWN,
    Probe,
    ProbePass,
    off_its_directions,
)
from gradwitness.judging.probe_sweep import StepsCheck
from gradwitness.judging.repeatability import Fingerprints
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import torch

    from gradwitness.capture.again.probing import Trial
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Edge, LeafUpdate, NodeRun, Tape


def probe(
    step: Callable[[], Any],
    *models: torch.nn.Module,
    names: Mapping[str, torch.Tensor] | None = None,
    passes: Iterable[str] | None = None,
    seed: int = 0,
    saved: bool = False,
    rerun: bool | Collection[Any] = (),
) -> Probe:
    """Judge a training step, then test it with random cotangents and perturbed parameters.

    A loss with a constant cotangent, or a parameter that still has its initial value (a scale of
    1, a bias of 0), can make a wrong backward produce the right numbers. So after the program's
    own backward pass the same graph is run again, once for each kind of probe, with the gradient
    that arrives at each node replaced; then the step is run once more with its parameters moved.

    Parameters
    ----------
    step : callable
        Runs a forward pass and returns its loss or outputs, from which backward is run with ones;
        or runs forward and backward itself. It is called once, and once more for the probes that
        move parameters.
    *models : torch.nn.Module
        As for `watch`.
    names : mapping of str to Tensor, optional
        As for `watch`.
    passes : iterable of str, optional
        The probes to run at every node, of those in `gradwitness.judging.probe_results.KINDS`. By
        default all of them, but zero, one-hot, large and small cotangents only at the nodes of
        custom functions.
    seed : int, optional
        The seed of the probes' random numbers. The program's own generators are not affected.
    saved : bool, optional
        Also record the tensors that each node saved for backward, to show them in the graph.
    rerun : bool or collection, optional
        Custom functions that may run again afterwards, as for `watch`.

    Returns
    -------
    Probe

    Raises
    ------
    MissingExtraError
        If PyTorch is not installed.
    InputError
        If a probe is unknown, or ``step`` is not callable.

    Notes
    -----
    Parameters, buffers, ``.grad``, ``requires_grad``, training modes and random number generators
    are restored bit for bit, whatever happens. Any other effect of the step happens twice.

    Examples
    --------
    This backward sends ones to the bias instead of the gradient, and the loss hides it:

    >>> import torch
    >>> import gradwitness
    >>> class AddBias(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x, bias):
    ...         return x + bias
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g, torch.ones_like(g)
    >>> x = torch.rand(3)
    >>> bias = torch.zeros(3, requires_grad=True)
    >>> probe = gradwitness.probe(lambda: AddBias.apply(x, bias).sum(), names={"bias": bias})
    >>> probe.report.verdict
    <Verdict.AGREES: 'AGREES'>
    >>> probe.verdict
    <Verdict.DISAGREES: 'DISAGREES'>
    >>> list(probe.hidden)
    ['AddBiasBackward #1, gradient of bias (input 1)']
    """
    chosen = list(KINDS) if passes is None else list(dict.fromkeys(passes))
    unknown = [name for name in chosen if name not in KINDS]
    if unknown:
        raise InputError(f"unknown probe {unknown[0]!r}; choose from: {'; '.join(KINDS)}")
    if not callable(step):
        raise InputError(
            f"probe needs a function that runs a forward pass, not {type(step).__name__}: "
            "probe(lambda: loss_of(model(x)), model)"
        )
    try:
        from gradwitness.capture.again.probing import trial
    except ImportError as error:
        raise MissingExtraError(
            f"probing needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    begun = time.perf_counter()

    def run(kinds: Sequence[str], split: _Split, **further: Any) -> Trial:
        return trial(
            step,
            models,
            kinds,
            split,
            names=names,
            seed=seed,
            saved=saved,
            room=Room(KEEP.lasting),
            rerun=rerun,
            everywhere=passes is not None,
            **further,
        )

    beside = [kind for kind in chosen if kind not in (MOVED, MOVED_RANDOM)]
    plain = _Split()
    done = run(beside, plain)
    own, found = plain.results(done.tape, done.errors)
    results = [found.get(kind, ProbePass(kind, (), own, sent=False)) for kind in beside]
    if MOVED in chosen or MOVED_RANDOM in chosen:
        shifted = _Split(replayed=False)
        also = ["random"] if MOVED_RANDOM in chosen else []
        again = run(also, shifted, tensors=done.met, moving=True)
        tape, extra = shifted.results(again.tape, again.errors)
        both = extra.get("random", ProbePass("", (), tape, sent=False))
        moved = off_its_directions(ProbePass(MOVED, shifted.report.findings, tape), plain.report)
        both = off_its_directions(both, plain.report)
        results += [moved] * (MOVED in chosen)
        results += [replace(both, kind=MOVED_RANDOM)] * (MOVED_RANDOM in chosen)
    return Probe(own, plain.report, tuple(results), done.skipped, time.perf_counter() - begun)


class _Split:
    """Gives the program's own passes to a judge, and those of the probes to one of steps alone."""

    # All numbers are kept.
    in_doubt = False

    def __init__(self, *, replayed: bool = True) -> None:
        self._replayed = replayed
        self.report = Report((), ())
        self._checks: dict[int, StepsCheck] = {}
        self._findings: dict[str, list[Finding]] = {}
        self._numbers: dict[int, tuple[str, int]] = {}

    def watches(
        self, tape: Tape, functions: Functions, label: Callable[[], tuple[str, int]]
    ) -> None:
        """Begin to judge a tape that grows; ``label`` tells what runs now."""
        self._functions = functions
        self._tape = tape
        self._label = label
        self._own = Judge(tape, functions)
        self._records = Records(tape)
        self._looks = Whole(tape, self._records)
        self._prints = Fingerprints(tape)

    def called(self, number: int) -> None:
        """Hear of a call."""
        self._own.called(number)

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Hear of a pass, which gets a number among those of its kind."""
        kind, group = self._label()
        count = sum(known == kind for known, _ in self._numbers.values())
        self._numbers[sweep] = (kind, count)
        if kind in (OWN, AGAIN):
            self._prints.begins(sweep, group, again=kind == AGAIN)
        if kind == OWN:
            self._own.begins(count, roots, limited_to)
        elif kind != AGAIN:
            self._findings.setdefault(kind, [])
            self._checks[sweep] = StepsCheck(
                self._tape, self._records, count, roots, limited_to, self._functions, self._looks
            )

    def node_ran(
        self, sweep: int, node_run: NodeRun, update: LeafUpdate | None
    ) -> Sequence[tuple[int, int]]:
        """Hear that a node has had its turn."""
        kind, count = self._numbers[sweep]
        if kind in (OWN, AGAIN):
            self._prints.node_ran(sweep, node_run)
        if kind == OWN:
            self._own.node_ran(count, node_run, update)
        elif kind != AGAIN:
            self._findings[kind] += self._checks[sweep].judge_node(
                self._tape.nodes[node_run.node], node_run, update
            )
        return ()

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Hear that a pass is over."""
        kind, count = self._numbers[sweep]
        if kind in (OWN, AGAIN):
            self._prints.ends(sweep, captured)
        if kind == OWN:
            self._own.ends(count, captured)
        self._checks.pop(sweep, None)

    def results(self, tape: Tape, errors: Mapping[str, str]) -> tuple[Tape, dict[str, ProbePass]]:
        """Return the program's own tape, and what each kind of probe found."""
        kinds = {sweep: kind for sweep, (kind, _) in self._numbers.items()}

        def only(kind: str) -> Tape:
            kept = (s for n, s in enumerate(tape.sweeps) if kinds.get(n) == kind)
            return replace(tape, sweeps=tuple(kept))

        own = only(OWN)
        self.report = self._own.report(own if self._replayed else replace(own, replayable=False))
        found = {}
        seen = {finding.title for finding in self.report.wrong}
        for kind, findings in self._findings.items():
            passed = only(kind)
            after = settled(findings)
            judged, _ = without_unfelt(passed, after.findings, after.trusted)
            # What is wrong already, or under an earlier probe, was tried then.
            judged = fuzzed(judged, [f for f in findings if f.title not in seen])
            seen |= {f.title for f in judged if f.verdict is Verdict.DISAGREES}
            found[kind] = ProbePass(kind, tuple(judged), passed, error=errors.get(kind, ""))
        if AGAIN in kinds.values():
            # Half a pass has nothing to compare.
            notes = () if AGAIN in errors else tuple(self._prints.notes(own))
            found[AGAIN] = ProbePass(AGAIN, (), own, error=errors.get(AGAIN, ""), notes=notes)
        del self._own, self._records, self._functions
        return own, found
