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
from gradwitness.assert_gradients import assert_gradients as assert_gradients
from gradwitness.check.finding import Finding as Finding
from gradwitness.check.finding import Report as Report
from gradwitness.check.finding import Row as Row
from gradwitness.check.local import judge as judge
from gradwitness.check.probed import Probe as Probe
from gradwitness.check.probed import ProbePass as ProbePass
from gradwitness.check.verdict import Verdict as Verdict
from gradwitness.claimed import ClaimCheck as ClaimCheck
from gradwitness.claimed import diff as diff
from gradwitness.claims.jax_source import jax_claims as jax_claims
from gradwitness.claims.jax_source import pytree_claims as pytree_claims
from gradwitness.engine.replay import replay as replay
from gradwitness.files.tape_file import load_tape as load_tape
from gradwitness.files.tape_file import save_tape as save_tape
from gradwitness.gradcheck import gradcheck as gradcheck
from gradwitness.laws import laws as laws
from gradwitness.probe import probe as probe
from gradwitness.rules.own import rule as rule
from gradwitness.rules.surrogates import surrogate as surrogate
from gradwitness.tape import Tape as Tape
from gradwitness.witness import Witness as Witness
from gradwitness.witness import check as check
from gradwitness.witness import watch as watch

__version__ = "0.1.0"
