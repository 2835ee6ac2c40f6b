"""What learned send times would bring: made-up readers, and the library's own learning, choosing and proving."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run

from abmail.cli._simulation import workers
from abmail.rehearsal import Plan, rehearse


def test_strong_habits_pay_and_more_so_the_longer_they_are_learned() -> None:
    made = rehearse(Plan(recipients=1_000, past=8, mailings=6), replications=2, seed=1)
    assert (made.opens_fixed < made.opens).all()
    assert (made.opens < made.opens_best).all()
    assert made.share.shape == (2, 6)
    assert (made.share[:, -2:].mean(axis=1) > made.share[:, :2].mean(axis=1)).all()
    assert "more opens than always 10:00" in made.to_text()
    assert "比較グループ" in made.to_text("ja")


def test_where_nobody_has_habits_nothing_is_gained_and_that_is_said() -> None:
    made = rehearse(Plan(recipients=600, past=5, mailings=2, strength=0.0), replications=2)
    assert np.allclose(made.gain, 0)
    assert np.isnan(made.share).all()
    assert not made.proven.any()
    assert "nothing to gain" in made.to_text()
    assert json.loads(json.dumps(made.to_dict()))["share_last"] is None


def test_the_seed_alone_decides_and_progress_is_told() -> None:
    plan, told = Plan(recipients=300, past=3, mailings=1), []
    one = rehearse(plan, replications=2, seed=3, progress=lambda done, total: told.append((done, total)))
    again = rehearse(plan, replications=2, seed=3, map_=lambda work, values: [work(v) for v in values])
    assert one.to_dict() == again.to_dict()
    assert one.to_dict() != rehearse(plan, replications=2, seed=4).to_dict()
    assert told == [(1, 2), (2, 2)]


def test_a_list_without_a_control_group_proves_nothing() -> None:
    made = rehearse(Plan(recipients=300, past=3, mailings=1, control=0.0), replications=1)
    assert "nothing can be proven" in made.to_text()
    assert made.to_dict()["measured"] is None
    assert made.covered.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipients": 0}, "recipients is 0"),
        ({"fixed": 22, "hours": (7, 21)}, "one of the allowed hours, 7 to 20"),
        ({"hours": (9, 9)}, "the first before the last"),
        ({"control": 0.7}, "control is 0.7"),
        ({"open_rate": 0.9}, "open_rate is 0.9"),
    ],
)
def test_plans_that_cannot_be_are_refused_in_words(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**{"recipients": 100, **change})


def test_the_command_starts_from_what_was_learned(tmp_path: Path) -> None:
    run(tmp_path, "init", "p")
    folder = tmp_path / "p"
    short = ("--mailings", "1", "--replications", "1", "--jobs", "1")
    refused = run(folder, "sendtime", "simulate", *short, status=2)
    assert "recipients is 0" in refused.stderr
    rows = ["email,sent at,opened at"]
    for day in range(2, 9):
        rows += [f"p{i}@example.com,2026-03-{day:02d} 09:00,2026-03-{day:02d} 20:15" for i in range(60)]
        rows += [f"q{i}@example.com,2026-03-{day:02d} 09:00," for i in range(180)]
    (folder / "past.csv").write_text("\n".join(rows), encoding="utf-8")
    run(folder, "sendtime", "fit", "--history", "past.csv")
    values = json.loads(run(folder, "sendtime", "simulate", *short, "--format", "json").stdout)
    assert values["plan"]["recipients"] == 240
    assert values["plan"]["past"] == 7
    assert values["plan"]["own_kinds"]
    assert values["plan"]["open_rate"] == pytest.approx(0.25, abs=0.01)
    page = run(folder, "sendtime", "simulate", *short, "--habits", "none", "--language", "ja").stdout
    assert "増える余地はありません" in page


def test_processes_share_the_cores_instead_of_each_taking_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with workers(2) as map_:
        assert list(map_(os.getenv, ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))) == ["1", "7"]
    assert "OPENBLAS_NUM_THREADS" not in os.environ
