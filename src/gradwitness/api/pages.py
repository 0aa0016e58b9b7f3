"""What a check judged, as a record and as a page, and a browser to show it."""

from __future__ import annotations

import shlex
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness._printable import one_line
from gradwitness.report.faults import probe_faults
from gradwitness.report.findings import finding_records
from gradwitness.report.page.subject import Subject
from gradwitness.report.record import report_record
from gradwitness.report.save import save
from gradwitness.report.tables.claims import claims as claims_table
from gradwitness.report.tables.probes import probe_record, probes
from gradwitness.verdict import worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.api.claims import ClaimCheck
    from gradwitness.judging.finding import Report
    from gradwitness.judging.probe_results import Probe
    from gradwitness.tape import Tape

# What these options are where they are not given.
_USUAL = {"--judge": "all", "--depth": "full"}


def page_of(
    target: str,
    tape: Tape,
    report: Report,
    probed: Probe | None,
    claimed: ClaimCheck | None,
    options: Mapping[str, Any],
    *,
    redact: bool,
) -> Subject:
    """Return what the page of a check is about: the program, and what else was judged."""
    words = ["gradwitness", "check", target]
    for option, value in options.items():
        if value is True:
            words.append(option)
        elif value and value != _USUAL.get(option):
            given = value if isinstance(value, list) else [value]
            words += [word for each in given for word in (option, str(each))]
    sections = [("Probes", probes(probed))] if probed else []
    sections += [("Claims", claims_table(claimed.runs))] if claimed else []
    return Subject(
        tape,
        report,
        worst([judged.verdict for judged in (probed or report, claimed) if judged]),
        command=shlex.join(words),
        sections=tuple(sections),
        is_live=not target.endswith(".npz"),
        is_redacted=redact,
    )


def checked_record(
    target: str,
    tape: Tape,
    report: Report,
    probed: Probe | None,
    claimed: ClaimCheck | None,
) -> dict[str, Any]:
    """Return a check as plain data: the program, and what else was judged."""
    record = report_record(report, tape) if claimed is None else claimed.record()
    record["target"] = target
    if probed is not None:
        judged = [judged for judged in (probed, claimed) if judged]
        faults = (*probe_faults(probed), *(claimed.claim_faults if claimed else ()))
        record |= {
            "verdict": worst([each.verdict for each in judged]),
            "exit_code": worst([each.required for each in judged]).exit_code,
            "findings": finding_records(faults, (*report.notes, *probed.notes)),
            "probe": probe_record(probed),
        }
    return record


def show(subject: Subject, saved: Sequence[Path]) -> str:
    """Open a page in the browser: one that was saved, or one in a folder for temporary files.

    Returns a line that says where it is.
    """
    pages = [path for path in saved if path.suffix == ".html"]
    if not pages:
        pages = [Path(tempfile.mkdtemp(prefix="gradwitness-")) / "report.html"]
        save(pages[0], {"page": lambda: subject})
    opened = webbrowser.open(pages[0].resolve().as_uri())
    missing = "" if opened else " (no browser was found: open it by hand)"
    return f"page      {one_line(str(pages[0]))}{missing}"
