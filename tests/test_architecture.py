"""The house keeps its shape: imports go down, each third-party package has one home, the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import abmail

PACKAGE = Path(abmail.__file__).parent

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "diagnostics"}),
    frozenset({"recipient", "segment"}),
    frozenset({"spec", "events"}),
    frozenset({"stats", "render", "sendtime", "bounces", "dkim", "webhooks"}),
    frozenset({"bandit", "assign", "check", "report", "audience", "ingest", "store"}),
    frozenset({"decide"}),
    frozenset({"send", "simulate", "rehearsal"}),
    frozenset({"engine"}),
    frozenset({"web", "project"}),
    frozenset({"demo"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)

PRIVATE: dict[str, str] = {
    "_ci": "project", "_fix": "check", "_fix_files": "check", "_spec_versions": "spec",
    "_findings_github": "diagnostics", "_findings_json": "diagnostics", "_findings_junit": "diagnostics",
    "_findings_sarif": "diagnostics", "_findings_text": "diagnostics",
    "_event_notes": "events", "_journal": "store", "_engine_tracking": "engine", "_engine_people": "engine",
    "_hash": "recipient", "_table": "recipient",
    "_web_conversions": "web", "_web_dashboard": "web",
    "_web_hits": "web", "_web_writer": "web", "_web_endpoints": "web", "_web_pages": "web", "_web_webhooks": "web",
    "_web_judge": "web", "_web_limits": "web", "_web_metrics": "web", "_web_server": "web", "_web_health": "web",
    "_hazard": "sendtime", "_classes": "sendtime", "_calendar": "sendtime", "_history": "sendtime",
    "_memory": "sendtime", "_learning": "sendtime", "_profile": "sendtime", "_choice": "sendtime",
    "_model_file": "sendtime", "_slots": "sendtime", "_capacity": "sendtime", "_zones": "sendtime",
    "_holidays": "sendtime", "_send_plan": "sendtime", "_uplift": "sendtime", "_history_file": "sendtime",
    "_judgement": "sendtime", "_written_times": "sendtime",
    "_rules": "check", "_check_settings": "check",
    "_values": "spec", "_yaml": "spec", "_spec_problems": "spec",
     "_files": "spec", "_free_days": "spec",
    "_spec_types": "spec", "_spec_cells": "spec", "_fields": "spec",
    "_starter": "spec", "_document": "spec", "_spec_allocation": "spec", "_spec_metrics": "spec", "_spec_times": "spec",
    "_spec_privacy": "spec",
    "_crowd": "events", "_crowd_counts": "store",
    "_event_types": "events", "_networks": "events", "_tokens": "events",
    "_verdict_reasons": "events", "_verdict_facts": "events", "_verdict_rules": "events",
    "_verdict_around": "events",
    "_counts": "stats", "_boundary": "stats", "_sequential": "stats", "_fixed": "stats", "_bayes": "stats",
    "_comparison": "stats", "_sample_ratio": "stats", "_method": "stats", "_contest": "stats", "_wording": "stats",
    "_guardrail": "stats", "_balance": "stats",
    "_trials": "stats",
    "_moments": "stats", "_cells": "stats", "_mean_score": "stats", "_means": "stats", "_means_answer": "stats",
    "_survival": "stats", "_clusters": "stats",
    "_exact": "stats", "_hypergeometric": "stats", "_aipw": "stats",
    "_drift": "stats", "_design": "stats", "_power": "stats",
    "_posterior": "stats", "_arms": "stats", "_multiple": "stats", "_conditional": "stats", "_pooling": "stats",
    "_segments": "stats", "_futility": "stats", "_later": "stats", "_why": "stats",
    "_links": "render", "_html": "render",
    "_mime": "render", "_page": "render", "_plain": "render", "_retelling": "render",
    "_templates": "render",
    "_delay": "bandit", "_speeds": "bandit", "_account": "bandit", "_policies": "bandit", "_weights": "bandit",
    "_guard": "render", "_filters": "render", "_layout": "render", "_preview": "render", "_sources": "render",
    "_fading": "bandit",
    "_laplace": "bandit", "_structure": "bandit", "_hierarchy": "bandit", "_factorial": "bandit",
    "_contextual": "bandit",
    "_report_codec": "report", "_report_charts": "report", "_report_html": "report", "_report_text": "report",
    "_report_view": "report", "_report_words": "report",
    "_report_allocation": "report", "_report_arms": "report", "_report_findings": "report",
    "_report_sendtime": "report",
    "_report_parts": "report", "_report_checks": "report", "_report_sections": "report",
    "_tables": "store", "_statements": "store", "_records": "store", "_database": "store", "migrations": "store",
    "_strata": "store", "_bulk": "store", "_claims": "store", "_connection": "store", "_people": "store",
    "_releases": "store", "_companies": "store",
    "_recording": "store", "_rejudging": "store", "_judging": "store", "_outcomes": "store", "_event_sources": "store",
    "_soft_bounces": "store", "_valued": "store", "_past_mails": "store", "_matching": "store", "_erasure": "store",
    "_indexes": "store",
    "_refusals": "events", "_mailboxes": "bounces",
    "_text_file": "recipient", "_company": "recipient",
    "_json_items": "ingest", "_export_shapes": "ingest", "_export_rows": "ingest", "_export_mapping": "ingest",
    "_export_webhooks": "ingest",
    "_intake": "engine", "_person": "engine",
    "_truth": "simulate", "_world": "simulate", "_mailing": "simulate", "_simulation_words": "simulate",
    "_replay": "simulate",
    "_readers": "rehearsal", "_rehearsal_words": "rehearsal",
    "_outbox": "send", "_smtp": "send", "_relays": "send", "_replies": "send", "_throttle": "send", "_wire": "send",
    "_http": "send", "_ses": "send", "_resend": "send",
    "_analysis": "decide", "_known": "decide", "_evidence": "decide", "_past": "decide", "_planning": "decide",
    "_opening": "decide", "_moves": "decide", "_around": "project", "_by_company": "decide",
    "_power_report": "engine", "_power_words": "engine",
    "_second_look": "engine", "_rejudge_report": "engine", "_machine_report": "engine", "_breakdown": "engine",
    "_value_report": "engine",
    "_habits": "engine",
    "_allocation_report": "engine", "_timing": "engine", "_timing_report": "engine", "_slot_test": "engine",
    "_engine_values": "engine", "_signing": "engine",
    "_delivery": "engine", "_fetch": "project", "_webhook_settings": "project", "_planner": "engine",
    "_reviewer": "engine",
    "_plan_report": "engine", "_plan_view": "engine", "_plan_words": "engine", "_plan_power": "engine",
    "_survey": "decide", "_reasons": "decide", "_forecast": "decide", "_plan_changes": "decide",
}  # fmt: skip
"""Private siblings, and the module whose room they belong to."""

HOMES: dict[str, frozenset[str]] = {
    "numpy": frozenset({"recipient", "sendtime", "stats"})
    | frozenset({"bandit", "assign", "store", "decide", "send", "simulate", "rehearsal", "engine", "demo"}),
    "scipy": frozenset({"sendtime", "stats", "bandit", "simulate"}),
    "sqlalchemy": frozenset({"store"}),
    "alembic": frozenset({"store"}),
    "click": frozenset({"cli"}),
    "jinja2": frozenset({"render"}),
    "markupsafe": frozenset({"render"}),
    "ruamel": frozenset({"spec"}),
    "yaml": frozenset({"spec"}),
    "rich": frozenset({"cli", "report"}),
    "email_validator": frozenset({"recipient"}),
    "idna": frozenset({"recipient"}),
    "starlette": frozenset({"web"}),
    "uvicorn": frozenset({"web"}),
    "granian": frozenset({"web"}),
    "prometheus_client": frozenset({"web"}),
    "anyio": frozenset({"web"}),
    "altair": frozenset({"report"}),
    "vl_convert": frozenset({"report"}),
    "httpx": frozenset({"send"}),
    "aiosmtpd": frozenset({"demo"}),
    "mrml": frozenset({"render"}),
    "css_inline": frozenset({"render"}),
    "flufl": frozenset({"bounces"}),
    "cryptography": frozenset({"dkim", "webhooks"}),
    "pandas": frozenset({"stats"}),
    "narwhals": frozenset({"stats"}),
    "holidays": frozenset({"sendtime"}),
}
"""Third-party packages, and the rooms that may import them."""


def room_of(path: Path) -> str:
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return PRIVATE.get(top, top)


def sources() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imports_of(path: Path, *, typing_too: bool = True) -> Iterator[str]:
    """Full names of the modules that a file imports, inside functions too."""
    for node in _walk(ast.parse(path.read_text(encoding="utf-8")), typing_too):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            yield from (f"abmail.{alias.name}" for alias in node.names) if module == "abmail" else (module,)


def _walk(tree: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not typing_too and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _walk(node, typing_too)


def floor_of(room: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} stands on no floor: add it to FLOORS or PRIVATE"
    return found[0]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path, typing_too=room != "errors"):  # errors names diagnostics in annotations only
        parts = name.split(".")
        if parts[0] != "abmail" or len(parts) == 1:
            continue
        target = PRIVATE.get(parts[1], parts[1])
        assert target == room or floor_of(target) < floor_of(room), f"{room} must not import {target}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_third_party_package_is_imported_at_home_only(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        package = name.split(".")[0]
        if package in sys.stdlib_module_names or package == "abmail":
            continue
        assert package in HOMES, f"{package} has no home: decide on one"
        assert room in HOMES[package], f"{package} is imported by {room}, its home is {sorted(HOMES[package])}"


def test_every_room_has_a_docstring_and_a_list_of_public_names() -> None:
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path.name
        if path.parent == PACKAGE and not path.name.startswith("_"):
            assert "__all__" in path.read_text(encoding="utf-8"), path.name


def modules_after(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["check", "experiments"]])
def test_check_and_help_start_without_the_heavy_libraries(arguments: list[str]) -> None:
    code = f"from abmail.cli import _run\n_run({arguments!r})"
    heavy = {
        *(() if arguments[-1] == "experiments" else ("jinja2",)),
        "numpy",
        "scipy",
        "statsmodels",
        "pandas",
        "sqlalchemy",
        "alembic",
        "rich",
        "starlette",
    }
    assert not modules_after(code) & heavy


def test_importing_the_package_loads_nothing() -> None:
    assert not {m for m in modules_after("import abmail") if m.startswith("abmail.")}


def test_every_public_name_can_be_had_and_is_what_it_says() -> None:
    for name in abmail.__all__:
        assert getattr(abmail, name) is not None
    assert callable(abmail.assign)
    assert callable(abmail.check)
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(abmail, "nonsense")  # noqa: B009  (the attribute does not exist, on purpose)
