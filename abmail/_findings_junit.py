"""Findings as JUnit's XML, which most servers of continuous integration show as tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from abmail._findings_text import write_text
from abmail.diagnostics import Diagnostic, Severity, visible

__all__ = ["write_junit"]

_UNREADABLE: Final = "AB100"


def write_junit(diagnostics: Iterable[Diagnostic], *, files: Iterable[str] = (), fail_on: Severity = "error") -> str:
    """Write findings as JUnit XML: a suite for each file, a test for each finding, one that passes for a clean file.

    Args:
        diagnostics: In the order in which they are to appear.
        files: Every file that was looked at.
        fail_on: Whether warnings fail, too; otherwise they are tests that pass and tell what was found.
    """
    by_file: dict[str, list[Diagnostic]] = {file: [] for file in files}
    for diagnostic in diagnostics:
        by_file.setdefault(diagnostic.path, []).append(diagnostic)
    root = Element("testsuites", {"name": "abmail check"})
    for file, found in by_file.items():
        root.append(_suite(file, found, fail_on))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(file: str, found: list[Diagnostic], fail_on: Severity) -> Element:
    suite = Element("testsuite", {"name": _clean(file), "tests": str(max(1, len(found)))})
    for diagnostic in found:
        suite.append(_test(diagnostic, fail_on))
    if not found:
        suite.append(Element("testcase", {"name": "no findings", "classname": _clean(file)}))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    return suite


def _test(diagnostic: Diagnostic, fail_on: Severity) -> Element:
    name = f"{diagnostic.code} {diagnostic.name} at {diagnostic.line}:{diagnostic.column}"
    test = Element("testcase", {"name": name, "classname": _clean(diagnostic.path)})
    if diagnostic.severity == "warning" and fail_on == "error":
        kind = SubElement(test, "system-out")
    else:
        told = {"type": diagnostic.code, "message": _clean(diagnostic.message)}
        kind = SubElement(test, "error" if diagnostic.code == _UNREADABLE else "failure", told)
    kind.text = write_text([diagnostic])
    return test


def _clean(text: str) -> str:
    """Without what XML cannot hold: control characters, halves of surrogate pairs, U+FFFE."""
    return visible(text)
