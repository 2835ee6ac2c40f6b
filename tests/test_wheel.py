"""The wheel holds all that the package reads when it runs, and nothing else; what it is made of works elsewhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import abmail

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, made as an installer makes it, but for the environment: that of these tests, not one of the index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def package_files() -> set[str]:
    """Every file of the package as it stands here."""
    found = (path.relative_to(ROOT) for path in (ROOT / "abmail").rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_only_those(wheel: zipfile.ZipFile) -> None:
    about = f"abmail-{abmail.__version__}.dist-info/"
    assert {name for name in wheel.namelist() if not name.startswith(about)} == package_files()
    assert wheel.testzip() is None


@pytest.mark.parametrize(
    "name",
    [
        "abmail/py.typed",
        "abmail/experiment.schema.json",  # for editors, and what `abmail init` writes
        "abmail/_profiles.json",  # hours at which people read, where there is no history
        "abmail/_plan_words.py",  # plans and reports in English and Japanese
        "abmail/_report_words.py",
        "abmail/migrations/script.py.mako",
        "abmail/migrations/versions/0001_first_tables.py",
        "abmail/templates/demo.yaml",
        "abmail/templates/mail.html.j2",
        "abmail/templates/report.html.j2",
        "abmail/webhooks/sendgrid.py",
    ],
)
def test_what_is_read_from_the_package_is_in_the_wheel_as_it_stands_here(wheel: zipfile.ZipFile, name: str) -> None:
    assert wheel.read(name) == (ROOT / name).read_bytes()


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    about = f"abmail-{abmail.__version__}.dist-info/"
    said = Parser().parsestr(wheel.read(f"{about}METADATA").decode("utf-8"))
    assert said["Name"] == "abmail"
    assert said["Version"] == abmail.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert "# abmail" in str(said.get_payload())
    assert wheel.read(f"{about}entry_points.txt").decode().split() == [
        "[console_scripts]", "abmail", "=", "abmail.__main__:main",
    ]  # fmt: skip
    assert f"{about}licenses/LICENSE" in wheel.namelist()


def test_what_is_in_the_wheel_makes_a_project_and_checks_it(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site = tmp_path / "site"
    wheel.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import abmail.cli; assert {str(site)!r} in abmail.__file__\n"
    )

    def ran(folder: Path, *arguments: str) -> str:
        command = [sys.executable, "-c", f"{code}sys.argv[1:] = {list(arguments)!r}; abmail.cli.main()"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    project = tmp_path / "mailing"
    assert "A first session:\n    abmail init mailing" in ran(tmp_path, "--help")
    ran(tmp_path, "init", "mailing")
    ran(project, "new", "subjects")
    assert ran(project, "check") == ""
    (project / "leads.csv").write_text("email\na@example.com\nb@example.com\n", encoding="utf-8")
    ran(project, "audience", "import", "leads.csv")
    assert "2 mails would go out" in ran(project, "plan", "subjects")
    assert (project / "experiment.schema.json").read_text(encoding="utf-8") == ran(project, "schema")
