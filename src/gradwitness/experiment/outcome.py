"""Run the experiment: record, judge, and collect both sides' numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import MissingExtraError
from gradwitness.engine.floats import numpy_dtype
from gradwitness.engine.replay import replay
from gradwitness.judging.recorded import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.experiment.config import Config
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape
    from gradwitness.verdict import Verdict


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes
    ----------
    config : Config
    tape : Tape
    report : Report
    torch_side, witness_side : dict of str to ndarray
        ``loss``, ``prediction`` and every gradient by its parameter's name, in the order of the
        network: torch's in the run's dtype, the witness's in float64, from scratch.
    data : dict of str to ndarray
        x and the target y.
    weights : dict of str to ndarray
        The parameters used.
    seconds, overhead : float
        Wall time of the recorded step, and recording's share of it.
    """

    config: Config
    tape: Tape
    report: Report
    torch_side: dict[str, NDArray[Any]]
    witness_side: dict[str, NDArray[Any]]
    data: dict[str, NDArray[Any]]
    weights: dict[str, NDArray[Any]]
    seconds: float
    overhead: float

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the run."""
        return self.report.verdict

    def header(self) -> dict[str, str]:
        """Return the facts needed to repeat the run."""
        config = self.config
        return {
            "seed": str(config.seed),
            "dtype": config.dtype,
            "network": config.describe(),
            "loss": config.loss,
            "batch": str(config.batch),
            "again": config.command(),
            **self.tape.about,
        }


def run(
    config: Config,
    weights: Mapping[str, NDArray[Any]] | None = None,
    replayed_by: Callable[[Tape], Replay] = replay,
) -> Outcome:
    """Run the experiment.

    Parameters
    ----------
    config : Config
    weights : mapping of str to ndarray, optional
        Parameters to use instead of random ones.
    replayed_by : callable, optional
        Returns the recording's replay.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the weights do not fit or are not finite.
    MissingExtraError
        If torch is not installed.
    """
    try:
        from gradwitness.capture import record
        from gradwitness.capture.memory.arrays import as_array
        from gradwitness.experiment.program import build
    except ImportError as error:
        raise MissingExtraError(
            f"the experiment needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None

    program = build(config, weights)
    with record(program.model, names=program.names(), saved=True) as recorder:
        result = program.step()
        prediction = recorder.number_of(result.prediction)
    tape = recorder.tape
    replayed = replayed_by(tape)
    report = judge(tape, replayed)

    sweep = tape.sweeps[0]
    (root, _), *_ = sweep.roots
    loss = tape.nodes[root.node].outputs[root.index]
    assert loss is not None  # noqa: S101 (the call that made it is on the tape)
    assert prediction is not None  # noqa: S101 (so is this one's)
    torch_side = {"loss": _number(tape, loss), "prediction": _number(tape, prediction)}
    witness_side = {
        "loss": np.array(replayed.values[loss]),
        "prediction": np.array(replayed.values[prediction]),
    }
    by_name = {row.name: row for row in report.rows}
    leaf_names = [name for name, _ in program.model.named_parameters()]
    leaf_names += ["x"] if program.x.requires_grad else []
    for name in leaf_names:
        row = by_name[name]
        torch_side[name] = _number(tape, row.value)
        witness_side[name] = np.array(replayed.gradient(0, row.node), order="C")
    data = {"x": np.array(as_array(program.x)), "y": np.array(as_array(result.target))}
    parameters = program.model.named_parameters()
    used = {name: np.array(as_array(p)) for name, p in parameters}
    return Outcome(
        config,
        tape,
        report,
        torch_side,
        witness_side,
        data,
        used,
        recorder.seconds,
        recorder.overhead,
    )


def _number(tape: Tape, value: int | None) -> NDArray[Any]:
    array = None if value is None else tape.values[value].array
    assert array is not None  # noqa: S101 (CPU tensors of a finished step)
    return np.ascontiguousarray(array.astype(numpy_dtype(tape.values[value or 0].dtype)))
