"""`abmail power` and `Engine.power`: what a marketer is told before the first mail, in text and in numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from abmail import _design, _planning, _power_report
from abmail._power_report import ReadOff
from abmail.cli import _run
from abmail.engine import Engine, PowerReport
from abmail.events import Event, EventType
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.stats import FixedShares, design_effect, power, sample_size

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEMPLATE = '<p>Hello</p><a href="https://example.com/x">go</a>'
WAVES = {"policy": "thompson", "waves": 8, "every": "1h"}
TWO = {"plain": "Hello", "number": "3 ways"}
FOUR = {"plain": "Hello", "number": "3 ways", "question": "Ready?", "late": "Last call"}


@pytest.fixture(autouse=True)
def few_replications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_power_report, "_SHOWN_REPLICATIONS", 400)
    monkeypatch.setattr(_design, "_SEARCH_REPLICATIONS", 150)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine whose store stays empty: asking for power writes nothing."""
    with Engine("sqlite://", secret=b"0123456789abcdef", clock=lambda: NOW) as opened:
        yield opened
        assert (opened.store.count_recipients(), opened.store.experiments()) == (0, ())


@pytest.fixture
def mailing() -> Iterator[Engine]:
    """An engine with a store of its own that can send."""
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=lambda: NOW) as opened:
        yield opened


def definition(name: str = "spring", subjects: dict[str, str] = TWO, **parts: object) -> Experiment:
    plain: dict[str, object] = {
        "spec": 1,
        "name": name,
        "factors": {"subject": subjects},
        "control": {"subject": "plain"},
        "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"},
        "analysis": {"baseline": 0.04, "mde": 0.01},
    }
    return Experiment.from_dict({**plain, **parts})


def only(report: PowerReport) -> _power_report.Outlook:
    (outlook,) = report.outlooks
    return outlook


def lost(report: PowerReport) -> float:
    found = only(report).found
    assert found is not None
    return found.lost


# --- The engine -------------------------------------------------------------------------------------------------------


def test_an_even_split_is_answered_by_the_closed_form(engine: Engine) -> None:
    report = engine.power(definition(), n=20_000)
    outlook = only(report)

    assert outlook.found == power(baseline=0.04, effect=0.01, n=20_000, epochs=1)
    assert outlook.needed.n == sample_size(baseline=0.04, effect=0.01, epochs=1).n == 13_490
    assert outlook.smallest is not None
    assert outlook.smallest.effect == pytest.approx(0.0081, abs=1e-4)
    assert (report.reached, report.mails, report.waves) == (True, 20_000, (20_000,))
    assert "a rise from 4.0% to 5.0% in 93% of the cases" in report.sentence
    assert report.advice[-1] == "abmail plan spring"


def test_a_list_that_is_too_small_is_told_so_with_what_helps(engine: Engine) -> None:
    report = engine.power(definition(allocation=WAVES), n=10_000)

    assert report.reached is False
    assert "This list is too small" in report.sentence
    assert any("policy: uniform (an even split) shows it in 67% of the cases" in step for step in report.advice)
    assert any("send it to more people: about " in step for step in report.advice)
    assert any("write mde: 0.01" in step for step in report.advice)


def test_every_floor_has_its_price_in_both_currencies(engine: Engine) -> None:
    report = engine.power(definition(allocation=WAVES, metrics={"primary": "opened"}), n=10_000, baseline=0.2, mde=0.03)
    settings = only(report).settings

    assert [(each.name, each.min_weight) for each in settings] == [
        ("earn", 0.01), ("balance", 0.10), ("learn", 0.20), ("even", 0.50)
    ]  # fmt: skip
    assert [each.name for each in settings if each.chosen] == ["balance"]
    for less, more in pairwise(settings):
        assert less.found.lost < more.found.lost
        assert less.found.power < more.found.power + 0.03
    assert settings[0].found.power < settings[-1].found.power - 0.1
    assert "opens lost" in report.to_text()
    assert "* min_weight: 0.1 (balance)" in report.to_text().replace("*  ", "* ")


def test_a_cheaper_way_that_is_enough_is_named(engine: Engine) -> None:
    report = engine.power(definition(), n=40_000)

    assert report.reached is True
    assert any("would still reach" in step and "clicks" in step for step in report.advice)


@pytest.mark.parametrize(
    ("allocation", "name", "policy", "least"),
    [
        ({**WAVES, "min_weight": 0.07}, "definition", "thompson", 0.07),
        ({"policy": "fixed", "weights": {"plain": 0.3, "number": 0.7}}, "definition", "fixed", 0.3),
        ({**WAVES, "min_weight": 0.2}, "learn", "thompson", 0.2),
        ({"policy": "uniform"}, "even", "uniform", 0.5),
    ],
)
def test_the_definitions_own_way_is_marked_among_the_others(
    engine: Engine, allocation: dict[str, object], name: str, policy: str, least: float
) -> None:
    report = engine.power(definition(allocation=allocation), n=6_000)
    (own,) = (each for each in only(report).settings if each.chosen)

    assert (own.name, own.policy, own.min_weight) == (name, policy, least)
    assert own.found == only(report).found
    assert len(only(report).settings) == 4 + (name == "definition")


def test_fixed_shares_are_judged_by_the_smaller_arm(engine: Engine) -> None:
    weights = {"plain": 0.5, "number": 0.2, "question": 0.2, "late": 0.1}
    found = only(engine.power(definition(subjects=FOUR, allocation={"policy": "fixed", "weights": weights}), n=20_000))
    shares = FixedShares(shares=(0.5, 0.1, 0.2, 0.2))
    again = power(baseline=0.04, effect=0.01, n=20_000, n_arms=4, allocation=shares, epochs=1, replications=200)

    assert found.found == again


def test_the_waves_of_the_definition_are_those_that_are_simulated(engine: Engine) -> None:
    slow = engine.power(definition(allocation={**WAVES, "every": "3d"}), n=10_000, mde=0.02)
    fast = engine.power(definition(allocation={**WAVES, "every": "1h"}), n=10_000, mde=0.02)

    # waves three days apart know every answer, waves an hour apart hardly any
    assert lost(slow) < lost(fast) - 1
    assert slow.time == timedelta(days=7 * 3 + 3)
    assert fast.time == timedelta(hours=7 + 72)


def test_five_hundred_waves_are_answered_as_twenty_five_would_be() -> None:
    many = definition(allocation={**WAVES, "waves": 500})
    few = definition(allocation={**WAVES, "waves": 25, "every": "21h"})
    lost = [_power_report._shown(exp, 120_000, 0.04, 0.004, ReadOff()).lost for exp in (many, few)]

    assert lost[0] == pytest.approx(lost[1], rel=0.1)


def test_a_list_for_a_single_wave_has_no_floor_to_choose(engine: Engine) -> None:
    report = engine.power(definition(allocation=WAVES), n=350)

    assert only(report).settings == ()
    assert "one wave" in report.to_text()
    assert report.reached is False


def test_with_four_variants_two_are_said_to_be_easier(engine: Engine) -> None:
    report = engine.power(definition(subjects=FOUR), n=16_000)
    outlook = only(report)

    assert outlook.found is not None
    assert outlook.two_variants is not None
    assert outlook.found.power < 0.5 < outlook.two_variants.power
    assert any("two variants instead of 4" in step for step in report.advice)
    assert "beats each of them" in report.to_text()


def test_floors_of_many_variants_leave_room_for_learning() -> None:
    many = {f"v{i}": f"Text {i}" for i in range(9)} | {"plain": "Hello"}
    exp = definition(subjects=many, allocation={**WAVES, "waves": 2})
    own = _power_report._shown(exp, 3_000, 0.04, 0.05, ReadOff())
    settings = list(_power_report._settings(exp, 3_000, 0.04, 0.05, own, ReadOff()))

    assert [round(each.min_weight, 4) for each in settings] == [0.004, 0.04, 0.1]
    assert [each.name for each in settings if each.chosen] == ["balance"]


def test_an_effect_that_no_list_can_show_is_said_to_be_out_of_reach(engine: Engine) -> None:
    report = engine.power(definition(), n=10_000, mde=1e-6)

    assert only(report).needed.status == "out_of_reach"
    assert report.reached is False
    assert any("no list up to a thousand million mails" in step for step in report.advice)
    assert "more than a thousand million mails" in report.to_text()


def test_companies_as_the_unit_are_said_to_weaken_the_figures(engine: Engine) -> None:
    report = engine.power(definition(audience={"unit": "company"}), n=10_000)

    assert "promise too much" in report.to_text()
    assert "Give --icc" in report.to_text().replace("\n  ", " ")


def test_companies_that_answer_alike_take_more_mails(mailing: Engine) -> None:
    people = [
        Recipient(id=f"r{i}", email=f"r{i}@{'large' if i % 10 else f'small{i}'}.example", attributes={}, zone=None)
        for i in range(1_000)
    ]
    exp = definition(audience={"unit": "company"})
    mailing.store.import_recipients(people, now=NOW)
    report, plain = mailing.power(exp, icc=0.001), mailing.power(exp)
    factor = design_effect([1] * 100 + [900], 0.001)

    assert report.read_off.design_effect == pytest.approx(factor)
    assert only(report).needed.n == pytest.approx(factor * (only(plain).needed.n or 0), rel=1e-3)
    assert "needs 1.81 times the mails" in report.to_text().replace("\n  ", " ")


def test_a_correlation_within_companies_needs_companies(engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"audience\.unit is 'recipient'"):
        engine.power(definition(), n=10_000, icc=0.05)
    with pytest.raises(ValueError, match="no companies yet"):
        engine.power(definition(audience={"unit": "company"}), n=10_000, icc=0.05)


def test_the_test_is_planned_as_it_will_be_read(engine: Engine) -> None:
    even = {"policy": "uniform", "waves": 8, "every": "1h"}
    usual, early, once, open_end = (
        engine.power(definition(allocation=even), n=20_000, **read)
        for read in ({}, {"shape": 0.25}, {"method": "fixed"}, {"method": "anytime"})
    )
    powers = [only(report).found for report in (open_end, early, usual, once)]

    assert [found.power for found in powers if found] == sorted(found.power for found in powers if found)
    assert only(early).found == power(
        baseline=0.04, effect=0.01, n=20_000, epochs=_planning.waves(early.experiment, 20_000), shape=0.25
    )
    assert only(once).settings == ()
    assert "for the method anytime" in open_end.to_text()
    assert "boundary of shape 0.25" in early.to_text()


def test_segments_that_differ_make_the_test_stronger(engine: Engine) -> None:
    strata = [(0.8, 0.01), (0.2, 0.16)]
    report = engine.power(definition(), n=9_000, strata=strata)

    assert only(report).found == power(baseline=0.04, effect=0.01, n=9_000, epochs=1, strata=strata)
    assert (only(report).found or only(report)) != only(engine.power(definition(), n=9_000)).found
    assert "within 2 segments" in report.to_text()


def test_a_method_that_needs_an_even_split_is_refused_with_a_bandit(engine: Engine) -> None:
    with pytest.raises(ValueError, match="the shares may move"):
        engine.power(definition(allocation=WAVES), n=20_000, method="fixed")


def test_mails_a_day_set_the_time(engine: Engine) -> None:
    report = engine.power(definition(), n=20_000, per_day=2_000)

    assert report.time == timedelta(days=10 + 3)
    assert only(report).needed_time == timedelta(days=13_490 / 2_000 + 3)


def test_the_segment_the_holdout_and_the_suppressed_make_the_list(mailing: Engine) -> None:
    people = [
        Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={"stage": "hot" if i % 2 else "cold"}, zone=None)
        for i in range(2_000)
    ]
    exp = definition(audience={"segment": "stage == 'hot'", "holdout": 0.2})
    mailing.store.import_recipients(people, now=NOW)
    mailing.store.suppress(["r1@example.com"], reason="asked", now=NOW)
    report = mailing.power(exp)

    assert report.recipients == 999
    assert 740 < report.mails < 860
    assert mailing.power(exp, n=1_000).mails == 800
    assert mailing.power(exp, n=1_000).recipients == 1_000


# --- The rate to expect -----------------------------------------------------------------------------------------------


def unplanned(name: str = "spring", *, analysis: object = None, metrics: object = None) -> Experiment:
    return definition(name, analysis=analysis or {}, metrics=metrics or {})


def sent_before(engine: Engine, *, mails: int, clicks: int, clicked_after: timedelta = timedelta(hours=1)) -> None:
    """An earlier experiment, sent four days ago."""
    people = [Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={}, zone=None) for i in range(mails)]
    start = NOW - timedelta(days=4)
    engine.apply(engine.plan(unplanned("winter"), people, template=TEMPLATE), now=start)
    engine.tick(now=start, only="winter")
    messages = list(engine.store.messages("winter"))[:clicks]
    at = start + clicked_after
    engine.record_all([Event(type=EventType.CLICKED, at=at, message_id=m.id) for m in messages], now=at)


def test_without_a_rate_typical_ones_are_shown_and_said_to_be_so(engine: Engine) -> None:
    clicks = engine.power(unplanned(analysis={"mde": 0.01}), n=9_000)
    opens = engine.power(unplanned(metrics={"primary": "opened"}), n=9_000)

    assert clicks.baseline.source == "typical"
    assert [o.baseline for o in clicks.outlooks] == [0.01, 0.025, 0.05]
    assert [o.baseline for o in opens.outlooks] == [0.15, 0.25, 0.40]
    assert "The click rate to expect is not known" in clicks.sentence
    assert "typical click rates are shown" in clicks.to_text().replace("\n  ", " ")
    assert any("analysis.baseline" in step for step in clicks.advice)
    assert clicks.reached is True  # at the lowest of the rates
    assert [o.reached for o in clicks.outlooks] == [True, False, False]


def test_a_list_that_is_too_small_at_every_typical_rate_is_too_small(engine: Engine) -> None:
    report = engine.power(unplanned(analysis={"mde": 0.01}), n=2_000)

    assert report.reached is False
    assert "too small for that at any of these rates" in report.sentence


def test_the_rate_of_earlier_mailings_is_used_and_said_to_be_so(mailing: Engine) -> None:
    sent_before(mailing, mails=100, clicks=40)
    report = mailing.power(unplanned(analysis={"mde": 0.05}), n=9_000)

    assert report.baseline == _power_report.Baseline(rates=(0.4,), source="past", mails=100, experiments=1)
    assert "40.0% is that of 100 mails in 1 earlier experiment." in report.to_text()


def test_the_rate_of_the_definition_and_that_of_the_call_win_over_the_past(mailing: Engine) -> None:
    sent_before(mailing, mails=100, clicks=40)

    assert mailing.power(definition(), n=9_000).baseline.rates == (0.04,)
    assert mailing.power(definition(), n=9_000, baseline=0.2).baseline == _power_report.Baseline(
        rates=(0.2,), source="given"
    )


@pytest.mark.parametrize(
    ("clicks", "name", "now"),
    [(29, "spring", NOW), (40, "winter", NOW), (40, "spring", NOW - timedelta(days=2))],
    ids=["too few answers", "the experiment itself", "the window is still open"],
)
def test_earlier_mailings_that_say_nothing_are_left_out(mailing: Engine, clicks: int, name: str, now: datetime) -> None:
    sent_before(mailing, mails=100, clicks=clicks)

    assert mailing.power(unplanned(name), n=9_000, now=now).baseline.source == "typical"


def test_earlier_answers_count_inside_this_experiments_window(mailing: Engine) -> None:
    sent_before(mailing, mails=100, clicks=40, clicked_after=timedelta(hours=30))
    long = mailing.power(unplanned(metrics={"primary": "clicked", "window": "48h"}), n=9_000)
    short = mailing.power(unplanned(metrics={"primary": "clicked", "window": "24h"}), n=9_000)

    assert (long.baseline.rates, short.baseline.source) == ((0.4,), "typical")


def test_without_an_effect_a_fifth_of_the_rate_is_assumed_and_nothing_is_asked(engine: Engine) -> None:
    report = engine.power(unplanned(analysis={"baseline": 0.1}), n=500)

    assert report.effect_source == "assumed"
    assert only(report).effect == pytest.approx(0.02)
    assert report.reached is None
    assert any("analysis.mde" in step for step in report.advice)
    assert "you asked" not in report.sentence


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power") / "project"
    with pytest.MonkeyPatch.context() as environment:
        without_settings(environment)
        assert _run(["init", str(folder)]) == 0
        environment.chdir(folder)
        assert _run(["new", "subjects", "--kind", "subject"]) == 0
    return folder


@pytest.fixture
def project(first_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(first_project, tmp_path / "project"))
    without_settings(monkeypatch)
    monkeypatch.chdir(folder)
    return folder


def without_settings(environment: pytest.MonkeyPatch) -> None:
    for name in ("ABMAIL_DB", "ABMAIL_SECRET", "ABMAIL_SMTP_URL", "ABMAIL_TRACKER_URL"):
        environment.delenv(name, raising=False)


def test_a_marketer_is_told_what_her_list_can_show(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["power", "subjects", "--recipients", "20000"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("subjects: 2 variants, clicks within 72 hours, 20,000 mails\n")
    assert "the 80% that you\n  asked for are reached" in said
    assert "mails needed                  13,490 mails (result after 72 hours)" in said
    assert said.splitlines()[-1] == "next: abmail plan subjects"
    assert all(len(line) <= 100 for line in said.splitlines())


def test_a_list_that_is_too_small_makes_exit_status_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["power", "subjects", "--recipients", "2400"]) == 1
    assert "This list is too small for that." in capsys.readouterr().out.replace("\n  ", " ")


def test_without_a_list_the_size_that_it_needs_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["power", "subjects"]) == 1
    said = capsys.readouterr().out
    assert "There is nobody to send to yet" in said
    assert "13,490 mails" in said
    assert "abmail audience import FILE" in said.replace("\n  ", " ")


def test_the_imported_list_is_taken_where_no_number_is_given(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "leads.csv").write_text("email\n" + "".join(f"l{i}@example.com\n" for i in range(300)), encoding="utf-8")
    assert _run(["audience", "import", "leads.csv"]) == 0
    capsys.readouterr()
    assert _run(["power", "subjects"]) == 1
    assert "subjects: 2 variants, clicks within 72 hours, 300 mails\n" in capsys.readouterr().out


def test_json_carries_the_same_values_as_the_text(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["power", "subjects", "--recipients", "20000", "--per-day", "4000"]
    assert _run(arguments) == 0
    said = capsys.readouterr().out
    assert _run([*arguments, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (outlook,) = data["outlooks"]

    assert data["format_version"] == 1
    assert (data["experiment"], data["metric"], data["variants"], data["mails"]) == ("subjects", "clicked", 2, 20_000)
    assert (data["alpha"], data["power"], data["reached"]) == (0.05, 0.8, True)
    assert data["seconds_to_result"] == (20_000 / 4_000 + 3) * 86_400
    assert outlook["found"]["power"] == pytest.approx(power(baseline=0.04, effect=0.01, n=20_000, epochs=1).power)
    assert f"{outlook['found']['power']:.0%} (asked: 80%)" in said
    assert f"{outlook['needed']['n']:,} mails" in said
    assert data["sentence"] in said.replace("\n  ", " ")
    for setting in outlook["settings"]:
        assert setting.keys() >= {"name", "policy", "min_weight", "chosen", "power", "se", "lost"}
        assert f"{setting['power']:.0%}" in said


def test_every_status_can_be_written_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "experiments" / "subjects.yaml"
    for analysis, arguments in (
        ("analysis: {}", []),
        ("analysis: {}", ["--recipients", "500"]),
        ("analysis: {mde: 0.01}", ["--recipients", "500", "--mde", "0.0001%"]),
        ("analysis: {mde: 0.01}", ["--recipients", "20", "--baseline", "4%"]),
    ):
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [analysis if line.startswith("analysis:") else line for line in lines]
        file.write_text("\n".join(kept), encoding="utf-8")
        assert _run(["power", "subjects", "--format", "json", *arguments]) in {0, 1}
        out = capsys.readouterr().out
        assert json.loads(out)["format_version"] == 1
        assert "NaN" not in out
        assert "Infinity" not in out
        assert _run(["power", "subjects", *arguments]) in {0, 1}
        assert "nan" not in capsys.readouterr().out


def test_the_reading_of_the_test_is_said_in_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reading = ["--shape", "0.25", "--strata", "80%:1%", "--strata", "0.2:16%"]
    assert _run(["power", "subjects", "--recipients", "20000", *reading, "--format", "json"]) in (0, 1)
    data = json.loads(capsys.readouterr().out)

    assert (data["method"], data["shape"], data["icc"], data["design_effect"]) == ("sequential", 0.25, None, 1.0)
    assert data["strata"] == [[0.8, 0.01], [0.2, 0.16]]


def test_a_rate_may_be_a_percentage_or_a_fraction(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    for rate, effect in (("6%", "2 %"), ("0.06", "0.02")):
        assert _run(["power", "subjects", "--recipients", "9000", "--baseline", rate, "--mde", effect]) == 0
        written.append(capsys.readouterr().out)

    assert written[0] == written[1]
    assert "a rise from 6.0% to 8.0%" in written[0]


def test_the_answer_can_go_to_a_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["power", "subjects", "--recipients", "2400", "-o", "power.txt"]) == 1
    assert (project / "power.txt").read_text(encoding="utf-8").startswith("subjects: 2 variants")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "4"], "4 must be between 0 and 1, such as 0.04 or 4%"),
        (["--baseline", "nan"], "nan must be between 0 and 1"),
        (["--mde", "much"], "is not a share"),
        (["--mde", "0"], "0 must be between 0 and 1"),
        (["--baseline", "60%", "--mde", "50%"], "come to 1 or more: no rate is that high"),
        (["--strata", "0.3"], "write its share of the mails and its rate, such as 30%:5%"),
        (["--strata", "30%:120%"], "'120%' is not a share"),
        (["--method", "guess"], "'guess' is not one of"),
        (["--method", "anytime", "--shape", "0.25"], "has no boundary to shape"),
        (["--icc", "0.05"], "audience.unit is 'recipient'"),
        (["--recipients", "0"], "0 is not in the range"),
        (["--per-day", "0"], "0.0 is not in the range"),
        (["--per-day", "1e-9", "--recipients", "1000000"], "per_day is too small"),
    ],
)
def test_nonsense_makes_exit_status_two_with_words(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert _run(["power", "subjects", "--recipients", "9000", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_an_experiment_that_is_not_there_makes_exit_status_two(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["power", "subject", "--recipients", "9000"]) == 2
    assert "did you mean subjects?" in capsys.readouterr().err
