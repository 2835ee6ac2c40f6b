"""Files that make a server of continuous integration check a project's definitions."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Final, Literal

__all__ = ["Server", "ci_file"]

Server = Literal["github", "gitlab"]

_GITHUB: Final = """\
# Checks the definitions of experiments on every pull request: annotations beside the lines, and a summary of the run.
name: abmail
on:
  pull_request:
    paths: ["@PREFIX@experiments/**", "@PREFIX@mails/**", "@PREFIX@abmail.toml", ".github/workflows/abmail.yml"]
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    defaults:
      run:
        working-directory: @FOLDER@
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install @PACKAGE@
      - run: abmail check experiments/
"""
_GITLAB: Final = """\
# Checks the definitions of experiments on every merge request: findings beside the lines, and as tests.
abmail:
  image: python:3.12-slim
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes: ["@PREFIX@experiments/**/*", "@PREFIX@mails/**/*", "@PREFIX@abmail.toml"]
  script:
    - pip install --quiet @PACKAGE@
    - cd @CD@
    - abmail check experiments/ --format text --format gitlab:abmail-quality.json --format junit:abmail-junit.xml
  artifacts:
    when: always
    reports:
      codequality: "@PREFIX@abmail-quality.json"
      junit: "@PREFIX@abmail-junit.xml"
"""
_FILES: Final = {"github": (".github/workflows/abmail.yml", _GITHUB), "gitlab": (".gitlab-ci.yml", _GITLAB)}


def ci_file(server: Server, project: Path, *, version: str) -> tuple[Path, str]:
    """Where a repository keeps what its server is to do, and what to write there.

    Args:
        server: Whose file.
        project: The project's folder, in a repository or its root.
        version: Of abmail, from which on it is installed.
    """
    folder = project.resolve()
    root = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)
    below = folder.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    name, text = _FILES[server]
    blanks = {
        "PREFIX": json.dumps(prefix, ensure_ascii=False)[1:-1],
        "FOLDER": json.dumps(below, ensure_ascii=False),
        "CD": shlex.quote(below),
        "PACKAGE": shlex.quote(f"abmail>={version}"),
    }
    for blank, filling in blanks.items():
        text = text.replace(f"@{blank}@", filling)
    return root / name, text
