"""An independent witness for gradients.

Importing this needs no torch; watching a program does. Every public name is imported when it is
first used, so that a program that only may need the witness starts as fast as without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    # What type checkers and editors read; a test holds it to be the same as _HOMES.
    from gradwitness import experiment as experiment
    from gradwitness._errors import CaptureError as CaptureError
    from gradwitness._errors import ConfigError as ConfigError
    from gradwitness._errors import FileFormatError as FileFormatError
    from gradwitness._errors import GradientDisagreement as GradientDisagreement
    from gradwitness._errors import GradwitnessError as GradwitnessError
    from gradwitness._errors import InputError as InputError
    from gradwitness._errors import MissingExtraError as MissingExtraError
    from gradwitness._errors import RuleError as RuleError
    from gradwitness.api.assert_gradients import assert_gradients as assert_gradients
    from gradwitness.api.check import check as check
    from gradwitness.api.claims import ClaimCheck as ClaimCheck
    from gradwitness.api.claims import diff as diff
    from gradwitness.api.gradcheck import gradcheck as gradcheck
    from gradwitness.api.laws import laws as laws
    from gradwitness.api.probe import probe as probe
    from gradwitness.api.watch import Witness as Witness
    from gradwitness.api.watch import watch as watch
    from gradwitness.claims.claim import Claim as Claim
    from gradwitness.claims.claim import Claims as Claims
    from gradwitness.claims.jax_source import jax_claims as jax_claims
    from gradwitness.claims.jax_source import pytree_claims as pytree_claims
    from gradwitness.diagnose.rank import Cause as Cause
    from gradwitness.engine.replay import Replay as Replay
    from gradwitness.engine.replay import replay as replay
    from gradwitness.files.tape_file import load_tape as load_tape
    from gradwitness.files.tape_file import save_tape as save_tape
    from gradwitness.judging.claimed.judge import ClaimReport as ClaimReport
    from gradwitness.judging.claimed.judge import ClaimRow as ClaimRow
    from gradwitness.judging.claimed.laws import LawFinding as LawFinding
    from gradwitness.judging.comparing.comparison import Comparison as Comparison
    from gradwitness.judging.finding import Coverage as Coverage
    from gradwitness.judging.finding import Finding as Finding
    from gradwitness.judging.finding import Report as Report
    from gradwitness.judging.finding import Row as Row
    from gradwitness.judging.finding import Step as Step
    from gradwitness.judging.note import Note as Note
    from gradwitness.judging.probe_results import Probe as Probe
    from gradwitness.judging.probe_results import ProbePass as ProbePass
    from gradwitness.judging.recorded import judge as judge
    from gradwitness.rules.declarations import allow_detach as allow_detach
    from gradwitness.rules.declarations import approximation as approximation
    from gradwitness.rules.declarations import meant_hook as meant_hook
    from gradwitness.rules.registry import Rule as Rule
    from gradwitness.rules.retractions import retraction as retraction
    from gradwitness.rules.surrogates import surrogate as surrogate
    from gradwitness.rules.user_rules import rule as rule
    from gradwitness.tape import Source as Source
    from gradwitness.tape import Tape as Tape
    from gradwitness.verdict import Fault as Fault
    from gradwitness.verdict import Verdict as Verdict

# Where each public name lives; the packages of which a user needs more than a name come last.
_NAMES = {
    "_errors": "CaptureError ConfigError FileFormatError GradientDisagreement GradwitnessError"
    " InputError MissingExtraError RuleError",
    "api.assert_gradients": "assert_gradients",
    "api.check": "check",
    "api.claims": "ClaimCheck diff",
    "api.gradcheck": "gradcheck",
    "api.laws": "laws",
    "api.probe": "probe",
    "api.watch": "Witness watch",
    "claims.claim": "Claim Claims",
    "claims.jax_source": "jax_claims pytree_claims",
    "diagnose.rank": "Cause",
    "engine.replay": "Replay replay",
    "files.tape_file": "load_tape save_tape",
    "judging.claimed.judge": "ClaimReport ClaimRow",
    "judging.claimed.laws": "LawFinding",
    "judging.comparing.comparison": "Comparison",
    "judging.finding": "Coverage Finding Report Row Step",
    "judging.note": "Note",
    "judging.probe_results": "Probe ProbePass",
    "judging.recorded": "judge",
    "rules.declarations": "allow_detach approximation meant_hook",
    "rules.registry": "Rule",
    "rules.retractions": "retraction",
    "rules.surrogates": "surrogate",
    "rules.user_rules": "rule",
    "tape": "Source Tape",
    "verdict": "Fault Verdict",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
_PACKAGES = ("experiment",)
__all__ = (*_HOMES, *_PACKAGES)

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _PACKAGES:
            return import_module(f"gradwitness.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'gradwitness' has no attribute {name!r}")
        from random import getstate, setstate

        # Rich draws random numbers while it is imported: the program's next ones stay as they were.
        state = getstate()
        public = getattr(import_module(f"gradwitness.{_HOMES[name]}"), name)
        setstate(state)
        globals()[name] = public  # the next use costs nothing
        return public

    def __dir__():
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
