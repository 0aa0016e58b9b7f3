"""What was found as SARIF 2.1.0, which code hosts and editors show at its line.

A rule for each kind of finding, a result for each finding. Paths are relative to the root of the
repository, and fingerprints stay the same while lines move.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gradwitness.files.atomic import write_atomically
from gradwitness.report.findings import from_root
from gradwitness.report.record import dumps

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_FURTHER = ("cause", "remedy")


def write_sarif(path: Path, record: dict[str, Any]) -> None:
    """Write the findings of a record."""
    write_atomically(path, dumps(sarif(record)))


def sarif(record: dict[str, Any]) -> dict[str, Any]:
    """Return the findings of a record; those of no line are about the program as a whole."""
    findings = record["findings"]
    kinds = list(dict.fromkeys(finding["kind"] for finding in findings))
    target = record.get("target", "")
    path = from_root(target.rpartition(":")[0] or target) if target else ""
    rules = [{"id": _id(kind), "shortDescription": {"text": kind}} for kind in kinds]
    driver = {"name": "gradwitness", "rules": rules}
    results = [_result(finding, kinds, path) for finding in findings]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
        ],
    }


def _result(finding: dict[str, Any], kinds: list[str], target: str) -> dict[str, Any]:
    message = f"{finding['title']}\n{finding['text']}"
    message += "".join(f"\n{finding[key]}" for key in _FURTHER if finding[key] not in message)
    location: dict[str, Any] = {}
    if finding["file"] or target:
        location["physicalLocation"] = {"artifactLocation": _artifact(finding["file"] or target)}
    if finding["line"]:
        location["physicalLocation"]["region"] = {"startLine": finding["line"]}
    if finding["symbol"]:
        location["logicalLocations"] = [{"fullyQualifiedName": finding["symbol"]}]
    return {
        "ruleId": _id(finding["kind"]),
        "ruleIndex": kinds.index(finding["kind"]),
        "level": finding["severity"],
        # In a message, single braces hold the place of an argument.
        "message": {"text": message.replace("{", "{{").replace("}", "}}")},
        "locations": [location] if location else [],
        "partialFingerprints": {"gradwitness/v1": finding["fingerprint"]},
    }


def _artifact(path: str) -> dict[str, str]:
    uri = quote(path, errors="backslashreplace")
    if path.startswith("/"):
        return {"uri": f"file://{uri}"}
    return {"uri": uri, "uriBaseId": "%SRCROOT%"}


def _id(kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", kind.lower())
