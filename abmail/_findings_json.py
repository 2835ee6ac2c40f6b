"""Findings as JSON for other programs: ours, and GitLab's code quality."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from abmail.diagnostics import FORMAT_VERSION, Diagnostic, Severity, advised, fingerprints

__all__ = ["write_gitlab", "write_json"]

_FIELDS: Final = ("code", "name", "severity", "message", "hint", "path", "line", "column", "end_column")
_GITLAB: Final[Mapping[Severity, str]] = {"error": "major", "warning": "minor"}


def write_json(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings as one JSON object: ``format_version``, ``errors``, ``warnings`` (counts) and ``findings``."""
    found = list(diagnostics)
    kinds = Counter(diagnostic.severity for diagnostic in found)
    return _text(
        {
            "format_version": FORMAT_VERSION,
            "errors": kinds["error"],
            "warnings": kinds["warning"],
            "findings": [{name: getattr(diagnostic, name) for name in _FIELDS} for diagnostic in found],
        }
    )


def write_gitlab(diagnostics: Iterable[Diagnostic]) -> str:
    """Write findings as GitLab's code quality report; paths are to be given from the root of the repository."""
    found = list(diagnostics)
    return _text([_issue(diagnostic, mark) for diagnostic, mark in zip(found, fingerprints(found), strict=True)])


def _issue(diagnostic: Diagnostic, fingerprint: str) -> dict[str, Any]:
    return {
        "description": advised(diagnostic, "; "),
        "check_name": f"{diagnostic.code} {diagnostic.name}",
        "fingerprint": fingerprint,
        "severity": _GITLAB[diagnostic.severity],
        "location": {"path": diagnostic.path.removeprefix("./"), "lines": {"begin": diagnostic.line}},
    }


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
