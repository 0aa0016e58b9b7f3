"""The pytest plugin: a fixture ``witness``, annotations on GitHub, properties for JUnit.

It stands beside the package so that a test run that uses none of it imports none of it: neither
torch nor NumPy is loaded before a test asks for the fixture.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import torch

    from gradwitness import GradientDisagreement, Witness
    from gradwitness.verdict import Fault

SECTION = "gradwitness"
# Attribute of a test's report with its faults as plain lists: xdist carries it to the main process.
_FAULTS = "gradwitness_faults"
_NAME_LENGTH = 120
_KEY = pytest.StashKey["GradientTester"]()


class GradientTester:
    """What the fixture ``witness`` gives: gradwitness, tied to the test that runs.

    Parameters
    ----------
    depth : str
        How thoroughly to judge where the test does not say.

    Attributes
    ----------
    watched : list of (Witness, bool)
        Every witness of the test, and whether the test fails unless it agrees.
    failure : GradientDisagreement or None
        What the required witnesses have against the test.
    """

    def __init__(self, depth: str) -> None:
        self._depth = depth
        self.failure: GradientDisagreement | None = None
        self.watched: list[tuple[Witness, bool]] = []

    def watch(
        self,
        *models: torch.nn.Module,
        names: Mapping[str, torch.Tensor] | None = None,
        required: bool = True,
        **further: Any,
    ) -> Witness:
        """Watch a block, as `gradwitness.watch`; the test fails unless all of it agrees.

        Parameters
        ----------
        *models, names, **further
            As for `gradwitness.watch`.
        required : bool
            False leaves the verdict to the test.
        """
        import gradwitness

        made = gradwitness.watch(*models, names=names, **{"depth": self._depth, **further})
        self.watched.append((made, required))
        return made

    def gradcheck(self, func: Callable[..., Any], inputs: Any, **options: Any) -> bool:
        """Check a function's gradients, as `gradwitness.gradcheck`."""
        __tracebackhide__ = True
        import gradwitness

        return gradwitness.gradcheck(func, inputs, **options)

    def assert_gradients(
        self,
        actual: Any,
        program: Callable[[], Any] | None = None,
        *models: torch.nn.Module,
        **options: Any,
    ) -> None:
        """Assert that gradients are right, as `gradwitness.assert_gradients`."""
        __tracebackhide__ = True
        import gradwitness

        if program is None and callable(actual):
            witness = self.watch(*models, required=False, **options)
            with witness:
                actual()
            witness.require()
            return
        gradwitness.assert_gradients(actual, program, *models, **options)

    def judge(self) -> None:
        """Set ``failure`` if a required witness does not agree."""
        import gradwitness
        from gradwitness.verdict import Fault, Verdict, worst

        texts, faults, verdicts = [], [], []
        for made, required in self.watched:
            if required and not made.ended:
                title = "the `witness` fixture was used but nothing was watched"
                texts.append(f"{title}: write `with witness.watch(model):` around the step")
                faults.append(Fault(Verdict.INCONCLUSIVE, title, texts[-1]))
                verdicts.append(Verdict.INCONCLUSIVE)
            elif required and made.verdict is not Verdict.AGREES:
                texts.append(f"{made}")
                faults += made.faults
                verdicts.append(made.verdict)
        if verdicts:
            message = "\n".join([worst(verdicts).value, *texts])
            self.failure = gradwitness.GradientDisagreement(message, faults)


@pytest.fixture(name="witness")
def _witness(request: pytest.FixtureRequest) -> GradientTester:
    """Judge the gradients of this test: ``witness.watch``, ``gradcheck``, ``assert_gradients``."""
    from gradwitness.api.declared_files import load_declarations

    load_declarations(request.config.rootpath)
    made = GradientTester(request.config.getoption("--gradwitness-depth"))
    request.node.stash[_KEY] = made
    return made


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gradwitness", "gradients checked by gradwitness")
    group.addoption(
        "--gradwitness-report",
        metavar="FOLDER",
        help="write each test's witness report to files in this folder",
    )
    group.addoption(
        "--gradwitness-depth",
        choices=("full", "fast"),
        default="full",
        help="how thoroughly `witness.watch` judges: every number, or some, much faster",
    )
    group.addoption(
        "--gradwitness-github",
        choices=("auto", "always", "never"),
        nargs="?",
        const="always",
        default="auto",
        help="annotate wrong steps on GitHub; auto: if GITHUB_ACTIONS is true",
    )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test whose gradients are not confirmed, after it has passed in all else."""
    result = yield
    tester = pyfuncitem.stash.get(_KEY, None)
    if tester:
        tester.judge()
        if tester.failure:
            pytest.fail(_headline(tester.failure), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell in the test's report what the witnesses found."""
    report = yield
    if call.when != "call":
        return report
    tester = item.stash.get(_KEY, None)
    judged = [made for made, _ in tester.watched if made.ended] if tester else []
    said = (tester.failure if tester else None) or _raised(call)
    if not (said or judged):
        return report
    faults: Sequence[Fault] = said.faults if said else ()
    if tester and tester.failure:
        # What the test itself raised stands in its traceback already.
        report.sections.append((SECTION, f"{said}"))
    elif report.failed and not said:
        # Another failure may come of a wrong gradient.
        faults = [fault for made in judged for fault in made.faults]
        report.sections += [(SECTION, f"{made}") for made in judged if made.faults]
    properties = _properties(said, judged, faults)
    report.user_properties += properties
    # JUnit's file takes them from the report of the teardown, which is made from the item's.
    item.user_properties += properties
    if report.failed and faults and _on_github(item.config):
        plain = [[fault.verdict.value, fault.title, fault.text, fault.line] for fault in faults]
        setattr(report, _FAULTS, plain)
    folder = item.config.getoption("--gradwitness-report")
    if folder:
        _write(Path(folder), item.nodeid, judged, f"{said or ''}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the annotations, each on a line of its own as GitHub wants them."""
    reports = terminalreporter.stats.get("failed", ())
    told = [fault for report in reports for fault in getattr(report, _FAULTS, ())]
    if not told:
        return
    from gradwitness import Verdict
    from gradwitness.report.tables.github import commands
    from gradwitness.verdict import Fault

    terminalreporter.ensure_newline()
    for line in commands(Fault(Verdict(verdict), *rest) for verdict, *rest in told):
        terminalreporter.write_line(line)


def _raised(call: pytest.CallInfo[None]) -> GradientDisagreement | None:
    """Return a disagreement that the test itself raised."""
    # If the package was not loaded, no error is one of its own.
    errors = sys.modules.get("gradwitness._errors")
    value = call.excinfo.value if call.excinfo else None
    return value if errors and isinstance(value, errors.GradientDisagreement) else None


def _headline(error: GradientDisagreement) -> str:
    verdict = str(error).partition("\n")[0]
    return f"gradients {verdict}" + "".join(f": {_placed(fault)}" for fault in error.faults[:1])


def _placed(fault: Fault) -> str:
    from gradwitness.report.tables.terminal import relative

    return f"{fault.title} at {relative(fault.line)}" if fault.line else fault.title


def _properties(
    said: GradientDisagreement | None, judged: Sequence[Witness], faults: Sequence[Fault]
) -> list[tuple[str, object]]:
    """Return what JUnit's file shows of a test: the verdict, and the first wrong step."""
    worst = max((made.verdict for made in judged), key=lambda v: v.severity, default=None)
    verdict = str(said).partition("\n")[0] if said else (worst.value if worst else "")
    found: list[tuple[str, object]] = [("gradwitness_verdict", verdict)]
    if faults:
        found.append(("gradwitness_first", _placed(faults[0])))
    return found


def _on_github(config: pytest.Config) -> bool:
    wanted = config.getoption("--gradwitness-github")
    return wanted == "always" or (
        wanted == "auto" and os.environ.get("GITHUB_ACTIONS", "").lower() == "true"
    )


def _write(folder: Path, test: str, judged: Sequence[Witness], said: str) -> None:
    """Write a test's reports, under names that every system allows."""
    from gradwitness.files.atomic import make_folder, write_atomically
    from gradwitness.report.save import EVERYDAY

    make_folder(folder)
    # Two tests may differ in what a file name cannot hold.
    mark = hashlib.blake2b(test.encode(), digest_size=4).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", test)[-_NAME_LENGTH:].strip("._")
    for count, made in enumerate(judged):
        number = f"-{count + 1}" if count else ""
        for ending in EVERYDAY:
            made.save(folder / f"{plain}-{mark}{number}{ending}")
    if said and not judged:
        write_atomically(folder / f"{plain}-{mark}.txt", said)
