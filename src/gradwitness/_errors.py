"""Every exception that gradwitness raises on purpose.

GradwitnessError
├── InputError              the user's input cannot be used (exit code 2)
│   ├── ConfigError         an option of the experiment is invalid
│   ├── FileFormatError     a file does not hold what it should
│   └── MissingExtraError   an optional package is needed and absent
├── RuleError               the table of rules, or one rule, is wrong
├── CaptureError            a program could not be recorded
├── Unjudgeable             a step cannot be judged; gradwitness catches it itself
│   └── RuleFailure         ... because its rule failed
└── GradientDisagreement    the witness refutes a gradient (also an AssertionError)

KeyboardInterrupt
└── JudgingInterrupted      Ctrl-C while a recording was judged
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.verdict import Fault


class GradwitnessError(Exception):
    """Base of all errors that gradwitness raises on purpose."""


class InputError(GradwitnessError):
    """The user's input cannot be used."""


class ConfigError(InputError):
    """An option of the experiment is invalid."""


class FileFormatError(InputError):
    """A file does not hold what it should."""


class MissingExtraError(InputError):
    """An optional package is needed and absent."""


class RuleError(GradwitnessError):
    """The table of rules, or one rule, is wrong."""


class CaptureError(GradwitnessError):
    """A program could not be recorded."""


class Unjudgeable(GradwitnessError):
    """A step cannot be judged; the message is the reason."""


class JudgingInterrupted(KeyboardInterrupt):
    """Ctrl-C while a recording was judged.

    Parameters
    ----------
    report : Report
        What had been judged up to there.
    """

    def __init__(self, report: Any) -> None:
        super().__init__()
        self.report = report


class RuleFailure(Unjudgeable):
    """A rule failed, or returned what no rule may return."""


class GradientDisagreement(GradwitnessError, AssertionError):
    """The witness refutes a gradient, or cannot confirm it.

    Parameters
    ----------
    message : str
        Begins with the verdict; the rest is the report.
    faults : iterable of Fault
        The root causes, as data.
    """

    def __init__(self, message: str = "", faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


for _public in (
    GradwitnessError,
    InputError,
    ConfigError,
    FileFormatError,
    MissingExtraError,
    RuleError,
    CaptureError,
    GradientDisagreement,
):
    # Tracebacks name an error as a program imports it.
    _public.__module__ = "gradwitness"
