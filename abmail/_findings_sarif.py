"""Findings as SARIF 2.1.0, the standard by which GitHub's code scanning, Azure and editors take findings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from abmail.diagnostics import Diagnostic, advised, fingerprints

__all__ = ["RuleHelp", "write_sarif"]

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_UNREADABLE: Final = "AB100"
_ROOT: Final = "%SRCROOT%"


class RuleHelp(NamedTuple):
    """What a viewer shows about a rule: one sentence, and its page in Markdown."""

    summary: str
    page: str


def write_sarif(diagnostics: Iterable[Diagnostic], *, helps: Mapping[str, RuleHelp] | None = None) -> str:
    """Write findings as a SARIF log.

    Args:
        diagnostics: With paths from the root of the repository.
        helps: What to tell about rules, by code.
    """
    found = list(diagnostics)
    rules = {diagnostic.code: diagnostic for diagnostic in sorted(found, key=lambda each: each.code)}
    run = {
        "tool": {"driver": {
            "name": "abmail",
            "semanticVersion": version("abmail"),
            "rules": [_rule(each, (helps or {}).get(each.code)) for each in rules.values()],
        }},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": _UNREADABLE not in rules}],
        "results": [
            _result(each, list(rules).index(each.code), mark)
            for each, mark in zip(found, fingerprints(found), strict=True)
        ],
    }  # fmt: skip
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=2) + "\n"


def _rule(diagnostic: Diagnostic, told: RuleHelp | None) -> dict[str, Any]:
    rule = {
        "id": diagnostic.code,
        "name": "".join(word.capitalize() for word in diagnostic.name.split("-")),
        "shortDescription": {"text": diagnostic.name.replace("-", " ").capitalize()},
        "defaultConfiguration": {"level": diagnostic.severity},
    }
    if told is None:
        return rule
    return {**rule, "fullDescription": {"text": told.summary}, "help": {"text": told.page, "markdown": told.page}}


def _result(diagnostic: Diagnostic, rule: int, fingerprint: str) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": diagnostic.line, "startColumn": diagnostic.column}
    if diagnostic.end_column:
        region["endColumn"] = diagnostic.end_column
    if diagnostic.source_line:
        region["snippet"] = {"text": diagnostic.source_line}
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": advised(diagnostic, "\n")},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(diagnostic.path), "region": region}}],
        "partialFingerprints": {"abmail/v1": fingerprint},
    }


def _artifact(path: str) -> dict[str, str]:
    """A file by its place below the root of the repository, or by where it is on this machine."""
    pure = PurePath(path)
    if pure.is_absolute():
        return {"uri": pure.as_uri()}
    return {"uri": quote(pure.as_posix(), errors="surrogatepass"), "uriBaseId": _ROOT}
