"""The command line as people run it, in a process of its own, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run abmail in a folder, without the settings of who runs the tests, and hold it to an exit status."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ABMAIL_", "GITHUB_", "CI_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "abmail", *arguments], cwd=folder, env={**clean, **environment}, text=True,
        capture_output=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == status, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran
