"""The command line as people run it, in a process of its own, for tests."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_LONGEST = 300.0  # seconds
_LOADED = [f"abmail.{name}" for name in ("demo", "engine", "project", "rehearsal", "report", "simulate", "web")]


def run(folder: Path, *arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run abmail in a folder, without the settings of who runs the tests, and hold it to an exit status.

    The process is forked from one that has loaded abmail and done nothing yet: starting it anew for each command would
    take most of the time of the tests. How abmail starts is the matter of tests/test_architecture.py.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ABMAIL_", "GITHUB_", "CI_"))}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_LOADED, "abmail.cli._sending", "alembic.command", "psycopg", __name__])
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        process = context.Process(target=_abmail, args=(folder, arguments, {**clean, **environment}, (out, err)))
        process.start()
        process.join(_LONGEST)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"abmail {' '.join(arguments)} did not end")
        said = [file.read_text(encoding="utf-8") for file in (out, err)]
    assert process.exitcode is not None
    ran = subprocess.CompletedProcess(arguments, process.exitcode, *said)
    assert ran.returncode == status, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran


def _abmail(folder: Path, arguments: tuple[str, ...], environment: dict[str, str], streams: tuple[Path, Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(streams, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - they last as long as the process
        for number, mode in enumerate("rww")
    )
    os.chdir(folder)
    sys.argv = ["abmail", *arguments]
    from abmail.__main__ import main

    main()
