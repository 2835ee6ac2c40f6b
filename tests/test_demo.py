"""The demo: a whole experiment over real SMTP and HTTP, whose outcome is told truthfully."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from abmail import demo
from abmail.demo import CLICKS, OPENS, run_demo
from abmail.engine import Engine
from abmail.errors import ConfigError
from abmail.project import Project
from abmail.store import State
from abmail.web import EventWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "project"


def test_the_demo_runs_twice_in_a_row_with_the_same_outcome(folder: Path) -> None:
    steps: list[float] = []
    first = run_demo(folder, recipients=700, seed=7, on_step=lambda _, done: steps.append(done))
    second = run_demo(folder, recipients=700, seed=7)
    assert (first.delivered, first.duplicates) == (first.sent, 0)
    assert first.opens > first.clicks > 0
    assert first.machine_hits > 0
    assert first.to_dict() == second.to_dict()
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
    document = json.loads(json.dumps(first.to_dict()))
    assert document["truth"]["number+seats"] == pytest.approx(OPENS["number"] * CLICKS["seats"])
    assert document["regret"]["even_split"] > 0
    assert first.sentence in " ".join(first.to_text().split())
    assert first.html.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def test_the_folder_it_leaves_is_a_project_whose_counts_equal_a_recount(folder: Path) -> None:
    if not folder.exists():  # another process runs the test before
        run_demo(folder, recipients=700, seed=7)
    project = Project.find(folder, environ={})
    with Engine(project.database, secret=b"0123456789abcdef") as engine:
        kept = engine.store.tally("spring-webinar", n_cells=8)
        anew = engine.store.recount("spring-webinar", n_cells=8)
        assert kept.n.sum() > 0
        assert (kept.metric.tolist(), kept.bin.tolist(), kept.n.tolist()) == (
            anew.metric.tolist(), anew.bin.tolist(), anew.n.tolist(),
        )  # fmt: skip
        assert engine.store.states("spring-webinar")[State.HELD_OUT] > 0


def test_a_tracker_that_answers_wrongly_is_a_fault_and_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("broken", 500))])
    broken.state.writer = EventWriter(lambda _: None)
    monkeypatch.setattr(demo, "create_app", lambda *_, **__: broken)
    with pytest.raises(RuntimeError, match="answered 500"):
        run_demo(tmp_path / "demo", recipients=100)


def test_no_server_is_left_running_when_the_demo_cannot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Engine:
        raise ConfigError("no database today")

    before = set(threading.enumerate())
    monkeypatch.setattr(demo, "Engine", refuse)
    with pytest.raises(ConfigError, match="today"):
        run_demo(tmp_path / "demo", recipients=100)
    assert set(threading.enumerate()) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match="something else"):
        run_demo(tmp_path, recipients=100)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "precious"
