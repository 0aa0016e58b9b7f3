"""The public names, and that none of them needs torch until a program is watched."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import gradwitness
from capture.handmade import tape

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = {
    "CaptureError",
    "ClaimCheck",
    "ConfigError",
    "FileFormatError",
    "Finding",
    "GradientDisagreement",
    "GradwitnessError",
    "InputError",
    "MissingExtraError",
    "Probe",
    "ProbePass",
    "Report",
    "Row",
    "RuleError",
    "Tape",
    "Verdict",
    "Witness",
    "assert_gradients",
    "check",
    "diff",
    "gradcheck",
    "jax_claims",
    "judge",
    "laws",
    "load_tape",
    "probe",
    "pytree_claims",
    "replay",
    "rule",
    "save_tape",
    "surrogate",
    "watch",
}
# Modules that become attributes of the package once something imports them.
PARTS = {
    "capture",
    "claimed",
    "claims",
    "cli",
    "engine",
    "experiment",
    "files",
    "grading",
    "report",
    "rules",
    "tape",
    "targets",
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
    names = {name for name in vars(gradwitness) if not name.startswith("_")}
    assert names - PARTS - {"witness"} == PUBLIC


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


# Some functions have the name of a module or package of ours; the function is what users get,
# whatever was imported before or after.
EVERYTHING = """
import importlib, pkgutil, sys, types
importlib.import_module(sys.argv[1])
import gradwitness
for module in pkgutil.walk_packages(gradwitness.__path__, "gradwitness."):
    importlib.import_module(module.name)
print(*[n for n in sys.argv[2:] if isinstance(getattr(gradwitness, n), types.ModuleType)])
"""


@pytest.mark.parametrize(
    "first", ["gradwitness", "gradwitness.judging.sweep", "gradwitness.api.laws"]
)
def test_no_module_takes_a_public_name(first: str) -> None:
    assert python(EVERYTHING, first, *PUBLIC) == ""


def test_importing_needs_no_torch() -> None:
    code = "import sys, gradwitness, gradwitness.cli; print('torch' in sys.modules)"
    assert python(code) == "False"


JUDGE = """
import sys
sys.modules["torch"] = None
import gradwitness as gw
report = gw.judge(gw.load_tape(sys.argv[1]))
print(report.verdict.value, *[row.name for row in report.rows])
"""


@pytest.mark.parametrize(("wrong", "verdict"), [("", "AGREES"), ("d3", "DISAGREES")])
def test_a_saved_tape_is_judged_without_torch(tmp_path: Path, wrong: str, verdict: str) -> None:
    path = tmp_path / "t.npz"
    gradwitness.save_tape(tape(wrong), path)
    assert python(JUDGE, path) == f"{verdict} x w b"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("gw.watch()", "recording needs PyTorch"),
        ("gw.probe(print)", "probing needs PyTorch"),
        ("experiment.run(experiment.Config())", "the experiment needs PyTorch"),
    ],
)
def test_what_needs_torch_says_so(call: str, said: str) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
import gradwitness as gw
from gradwitness import experiment
try:
    {call}
except gw.MissingExtraError as error:
    print(error)
"""
    message = python(code)
    assert message.startswith(said)
    assert message.endswith("pip install 'gradwitness[torch]'")
