"""An independent witness for gradients.

Importing this needs no torch; watching a program does.
"""

from gradwitness._errors import CaptureError as CaptureError
from gradwitness._errors import ConfigError as ConfigError
from gradwitness._errors import FileFormatError as FileFormatError
from gradwitness._errors import GradientDisagreement as GradientDisagreement
from gradwitness._errors import GradwitnessError as GradwitnessError
from gradwitness._errors import InputError as InputError
from gradwitness._errors import MissingExtraError as MissingExtraError
from gradwitness._errors import RuleError as RuleError
from gradwitness.api.assert_gradients import assert_gradients as assert_gradients
from gradwitness.api.claims import ClaimCheck as ClaimCheck
from gradwitness.api.claims import diff as diff
from gradwitness.api.gradcheck import gradcheck as gradcheck
from gradwitness.api.laws import laws as laws
from gradwitness.api.probe import probe as probe
from gradwitness.api.watch import Witness as Witness
from gradwitness.api.watch import check as check
from gradwitness.api.watch import watch as watch
from gradwitness.claims.jax_source import jax_claims as jax_claims
from gradwitness.claims.jax_source import pytree_claims as pytree_claims
from gradwitness.engine.replay import replay as replay
from gradwitness.files.tape_file import load_tape as load_tape
from gradwitness.files.tape_file import save_tape as save_tape
from gradwitness.judging.finding import Finding as Finding
from gradwitness.judging.finding import Report as Report
from gradwitness.judging.finding import Row as Row
from gradwitness.judging.local import judge as judge
from gradwitness.judging.probe_results import Probe as Probe
from gradwitness.judging.probe_results import ProbePass as ProbePass
from gradwitness.rules.surrogates import surrogate as surrogate
from gradwitness.rules.user_rules import rule as rule
from gradwitness.tape import Tape as Tape
from gradwitness.verdict import Verdict as Verdict

__version__ = "0.1.0"
