"""The public names, what importing them costs, and that none needs torch before watching."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

import gradwitness
from capture.handmade import tape

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = {
    "CaptureError",
    "Cause",
    "Claim",
    "ClaimCheck",
    "ClaimReport",
    "ClaimRow",
    "Claims",
    "Comparison",
    "ConfigError",
    "Coverage",
    "Fault",
    "FileFormatError",
    "Finding",
    "GradientDisagreement",
    "GradwitnessError",
    "InputError",
    "LawFinding",
    "MissingExtraError",
    "Note",
    "Probe",
    "ProbePass",
    "Replay",
    "Report",
    "Row",
    "Rule",
    "RuleError",
    "Source",
    "Step",
    "Tape",
    "Verdict",
    "Witness",
    "allow_detach",
    "approximation",
    "assert_gradients",
    "check",
    "diff",
    "gradcheck",
    "jax_claims",
    "judge",
    "laws",
    "load_tape",
    "meant_hook",
    "probe",
    "pytree_claims",
    "replay",
    "retraction",
    "rule",
    "save_tape",
    "surrogate",
    "watch",
}


def python(code: str, *words: object) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


def test_the_public_names() -> None:
    assert set(gradwitness.__all__) == {*PUBLIC, "experiment"}
    assert len(gradwitness.__all__) == len(PUBLIC) + 1
    assert set(dir(gradwitness)) >= {*PUBLIC, "experiment", "__version__"}
    assert not hasattr(gradwitness, "no_such_name")


def test_type_checkers_read_the_names_that_programs_get() -> None:
    tree = ast.parse(inspect.getsource(gradwitness))
    (block,) = (node for node in tree.body if ast.unparse(node).startswith("if TYPE_CHECKING"))
    read = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"gradwitness.{home}.{name}" for name, home in gradwitness._HOMES.items()}
    assert read == homes | {"experiment": "gradwitness.experiment"}


def test_public_objects_are_themselves_when_imported_pickled_or_starred() -> None:
    from gradwitness import Verdict, watch

    assert watch is gradwitness.watch
    assert pickle.loads(pickle.dumps(Verdict.AGREES)) is Verdict.AGREES  # noqa: S301
    starred: dict[str, object] = {}
    exec("from gradwitness import *", starred)  # noqa: S102
    assert starred.keys() >= PUBLIC


def test_every_public_object_says_what_it_is() -> None:
    for name in PUBLIC:
        public = getattr(gradwitness, name)
        assert public.__doc__, name
        assert public.__module__.startswith("gradwitness"), name


def test_the_exceptions_are_a_tree() -> None:
    g = gradwitness
    for error in (g.InputError, g.RuleError, g.CaptureError, g.GradientDisagreement):
        assert issubclass(error, g.GradwitnessError)
    for error in (g.ConfigError, g.FileFormatError, g.MissingExtraError):
        assert issubclass(error, g.InputError)
    # So that pytest shows it as a failed assertion.
    assert issubclass(g.GradientDisagreement, AssertionError)


def test_a_traceback_names_an_error_as_a_program_imports_it() -> None:
    errors = [name for name, home in gradwitness._HOMES.items() if home == "_errors"]
    for error in (getattr(gradwitness, name) for name in errors):
        named = traceback.format_exception_only(error("why"))
        assert named == [f"gradwitness.{error.__name__}: why\n"]
        assert type(pickle.loads(pickle.dumps(error("why")))) is error  # noqa: S301


EVERYTHING = """
import importlib, pkgutil, sys, types
importlib.import_module(sys.argv[1])
import gradwitness
names = [m.name for m in pkgutil.walk_packages(gradwitness.__path__, "gradwitness.")]
for name in names:
    importlib.import_module(name)
hidden = [n for n in sys.argv[2:] if isinstance(getattr(gradwitness, n), types.ModuleType)]
for name in names:
    exec(f"import {name} as module")
    hidden += [name] * (module is not sys.modules[name])
print(*hidden)
"""


@pytest.mark.parametrize(
    "first", ["gradwitness", "gradwitness.judging.sweep", "gradwitness.api.laws"]
)
def test_no_module_hides_a_function_and_no_function_a_module(first: str) -> None:
    assert python(EVERYTHING, first, *PUBLIC) == ""


HELP = """
from contextlib import suppress
from gradwitness.cli import main
with suppress(SystemExit):
    main(["--help"])
"""


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import gradwitness", "numpy scipy ml_dtypes torch jax rich typer"),
        # These made importing six times as slow as importing NumPy.
        (
            "from gradwitness import watch",
            "torch jax typer numpy.testing numpy.f2py scipy.special scipy.linalg scipy.sparse",
        ),
        ("import gradwitness.cli", "numpy scipy ml_dtypes torch rich"),
        (HELP, "numpy scipy ml_dtypes torch rich"),
    ],
    ids=["the package", "a name", "the command line", "help"],
)
def test_importing_loads_no_more_than_is_used(code: str, without: str) -> None:
    told = f"import sys\n{code}\nprint('loaded', *sys.modules.keys() & set(sys.argv[1:]))"
    assert python(told, *without.split()).splitlines()[-1] == "loaded"


JUDGE = """
import sys
sys.modules["torch"] = None
import gradwitness as gw
for path in sys.argv[1:]:
    report = gw.judge(gw.load_tape(path))
    print(report.verdict.value, *[row.name for row in report.rows])
"""


def test_a_saved_tape_is_judged_without_torch(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.npz", tmp_path / "wrong.npz"
    gradwitness.save_tape(tape(), right)
    gradwitness.save_tape(tape("d3"), wrong)
    assert python(JUDGE, right, wrong).splitlines() == ["AGREES x w b", "DISAGREES x w b"]


WITHOUT = """
import sys
sys.modules["torch"] = None
import gradwitness as gw
from gradwitness import experiment
for call in (gw.watch, lambda: gw.probe(print), lambda: experiment.run(experiment.Config())):
    try:
        call()
    except gw.MissingExtraError as error:
        print(error)
"""


def test_what_needs_torch_says_so() -> None:
    said = python(WITHOUT).splitlines()
    wanted = ["recording needs PyTorch", "probing needs PyTorch", "the experiment needs PyTorch"]
    assert [line.partition(" (")[0] for line in said] == wanted
    assert all(line.endswith("pip install 'gradwitness[torch]'") for line in said)
