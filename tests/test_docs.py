"""What the documents show is true: their code runs, the command reference is fresh, the examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import abmail

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_the_python_examples_of_a_page_run_and_print_what_their_comments_say(page: Path) -> None:
    for code in blocks(page, "python"):
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        said = re.findall(r"^print\(.*\)\s+# (.*)$", code, re.MULTILINE)
        assert ran.stdout.splitlines() == said


def test_the_references_of_commands_and_rules_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, fresh in (
        ("docs/cli.md", generate.reference()),
        ("docs/rules.md", generate.rules()),
        ("abmail/experiment.schema.json", generate.schema()),
    ):
        assert (ROOT / name).read_text(encoding="utf-8") == fresh, "run: python docs/generate.py"


def test_every_test_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for row in re.findall(r"^\|.*`test_\w+\.py`.*$", page.read_text(encoding="utf-8"), re.MULTILINE):
            for file, names in re.findall(r"`(test_\w+\.py)`: ([^;|]*)", row):
                code = (ROOT / "tests" / file).read_text(encoding="utf-8")
                for name in re.findall(r"`(test_\w+)`", names):
                    assert f"def {name}(" in code, f"{page.name}: {file} has no {name}"


def test_the_errors_that_the_readme_shows_are_what_check_says(tmp_path: Path) -> None:
    shown = next(b for b in blocks(ROOT / "README.md", "console") if "bad.yaml" in b)
    lines = ["spec: 1", "name: spring", "factors:", '  subject: {plain: "Join us", number: "3 ways"}']
    lines += ["control: {subject: plian}", 'message: {template: mails/x.html.j2, from: "Sales <news@example.com>"}']
    lines += ["allocation: {policy: thompson, every: 60}"]
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "x.html.j2").write_text("<p></p>", encoding="utf-8")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "bad.yaml").write_text("\n".join(lines), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "abmail", "check", "experiments/bad.yaml"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert shown == f"$ abmail check experiments/bad.yaml\n{ran.stdout}{ran.stderr}"


def test_the_plans_that_a_page_shows_are_what_abmail_prints(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from abmail.engine import Engine
    from abmail.recipient import Recipient

    page = ROOT / "docs" / "plan.md"
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "webinar.html.j2").write_text("<p>{{ cta }}</p>", encoding="utf-8")
    zones = ("Europe/Berlin", "America/New_York", "Asia/Tokyo")
    stages = ("hot", "cold", "cold", "cold", "cold")
    people = [
        Recipient(id=f"r{i}", email=f"r{i}@example.com", zone=zones[i % 3], attributes={"stage": stages[i % 5]})
        for i in range(10_000)
    ]
    now = datetime(2026, 10, 23, 6, 30, tzinfo=UTC)
    definitions, shown = blocks(page, "yaml"), blocks(page, "console")
    assert len(definitions) == len(shown) == 2
    with Engine(f"sqlite:///{tmp_path / 'mail.db'}", secret=b"0123456789abcdef", project=tmp_path) as engine:
        engine.store.import_recipients(people, now=now)
        engine.store.suppress(["r0@example.com", "r5@example.com"], reason="bounced", now=now)
        engine.store.suppress(["r10@example.com"], reason="unsubscribed", now=now)
        for i, (definition, text) in enumerate(zip(definitions, shown, strict=True)):
            found = engine.review(abmail.loads(definition), now=now, power=not i)
            command = "$ abmail plan webinar" + " --check" * i
            assert text == f"{command}\n{found.to_text(width=100)}"
            if not i:
                engine.apply(found.plan, now=now)
        fields = re.findall(r"^\| `(\w+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fields) == set(found.to_dict())


def modules() -> list[str]:
    found = [m.name for m in pkgutil.walk_packages(abmail.__path__, "abmail.") if ".migrations" not in m.name]
    return [name for name in found if name != "abmail.__main__"]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_hold(name: str) -> None:
    importlib.import_module(name)
    assert doctest.testmod(sys.modules[name]).failed == 0


def test_the_schema_describes_every_example_definition() -> None:
    import jsonschema
    from ruamel.yaml import YAML

    from abmail.spec import json_schema

    validator = jsonschema.Draft202012Validator(json_schema())
    examples = sorted((ROOT / "experiments").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        plain = json.loads(json.dumps(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))))
        assert list(validator.iter_errors(plain)) == [], path.name


def test_every_example_definition_is_clean_and_uses_the_template_that_ships() -> None:
    from abmail.render import read_template, starter_template

    for path in sorted((ROOT / "experiments").glob("*.yaml")):
        experiment = abmail.load(path)
        assert abmail.check(experiment, root=ROOT) == (), path.name
        assert read_template(ROOT, experiment.message.template) == starter_template(), path.name
