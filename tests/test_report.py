"""The report: a value that goes to JSON and back, and its pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from abmail._report_words import EN, JA, Words
from abmail.errors import MissingExtra
from abmail.report import (
    ArmReport,
    BotSensitivity,
    DecisionReport,
    EpochReport,
    FactorReport,
    GuardrailReport,
    Language,
    LevelReport,
    MethodReport,
    Report,
    SecondArm,
    SecondOpinion,
    SegmentArmReport,
    SegmentReport,
    SegmentSummary,
    SendTimeReport,
    SrmReport,
)

Metric = Literal["unsubscribed", "complained", "bounced"]
GOLDEN = Path(__file__).parent / "golden"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"
SECTION_7 = set(
    """format_version experiment spec_hash state metric sent held_out epochs arms control srm decision sentence segments
    bot_sensitivity method send_time actions""".split()  # noqa: SIM905  # as the contract writes them
)
SECTION_7_ARM = set(
    """name cell n successes rate human_opens clicks unsubscribes complaints bounces effect lift ci_lower ci_upper
    p_value p_best expected_loss weight""".split()  # noqa: SIM905
)


# builders


def waves(names: list[str], count: int) -> tuple[EpochReport, ...]:
    """Waves in which the last variant's share grows."""
    made = []
    for i in range(count):
        lead = 1 / len(names) + 0.4 * i / count
        weights = dict.fromkeys(names, (1 - lead) / (len(names) - 1)) | {names[-1]: lead}
        reason = "first wave" if i == 0 else "hour over"
        made.append(
            EpochReport(n=790, number=i + 1, opened_at=START + timedelta(hours=i), reason=reason, weights=weights)
        )
    return tuple(made)


def leading() -> Report:
    """Two subject lines; the new one is ahead and the windows are not all closed."""
    plain = ArmReport(
        name="plain",
        cell={"subject": "plain"},
        content={"subject": "Join our spring webinar"},
        n=3310,
        successes=132,
        rate=132 / 3310,
        human_opens=702,
        clicks=132,
        unsubscribes=6,
        complaints=1,
        bounces=40,
        p_best=0.02,
        expected_loss=0.0181,
        weight=0.3,
    )
    number = ArmReport(
        name="number",
        cell={"subject": "number"},
        content={"subject": "3 ways to cut reporting time by 40 %"},
        n=6170,
        successes=358,
        rate=358 / 6170,
        human_opens=1490,
        clicks=358,
        unsubscribes=14,
        complaints=2,
        bounces=72,
        effect=0.018,
        lift=0.455,
        ci_lower=0.004,
        ci_upper=0.032,
        p_value=0.0082,
        p_best=0.98,
        expected_loss=0.0001,
        weight=0.7,
    )
    limits: dict[Metric, float] = {"unsubscribed": 0.005, "complained": 0.001, "bounced": 0.05}
    return Report(
        experiment="spring-webinar",
        hypothesis="A concrete number in the subject line raises clicks.",
        spec_hash="3f9ac01b77de4512",
        state="running",
        metric="clicked",
        window_seconds=259_200,
        generated_at=START + timedelta(hours=30),
        seed=7,
        abmail_version="0.1.0",
        audience=10_000,
        sent=9_480,
        held_out=500,
        pending=16,
        failed=3,
        uncertain=1,
        mature_share=0.82,
        epochs=waves(["plain", "number"], 12),
        arms=(plain, number),
        control="plain",
        srm=SrmReport(p_value=0.43),
        decision=DecisionReport(
            state="leading",
            arm="number",
            reason="The range excludes 0, but 18% of the mails can still be clicked",
            reason_ja="範囲は0を含みませんが、メールの18%はこれからクリックされることがあります",
        ),
        sentence="number brings 1.8 points more clicks than plain (+0.4 to +3.2): about 18 more per 1,000 mails.",
        sentence_ja="number は plain より1.8ポイント多くクリックされています（1,000通あたり約18件）。",
        bot_sensitivity=BotSensitivity(
            all={"plain": 190, "number": 430},
            human_likely={"plain": 132, "number": 358},
            strict={"plain": 120, "number": 330},
        ),
        method=MethodReport(
            name="epoch combination with an O'Brien-Fleming boundary",
            why="The shares change between waves and the result is looked at more than once",
            why_ja="配信比率が回ごとに変わり、結果を何度も確認するためです",
            alpha=0.05,
            looks=12,
        ),
        actions=("Wait until 2026-03-06 09:00 UTC, when the last window closes.", "Then report again."),
        actions_ja=("最後の期限の2026-03-06 09:00 UTCまで待ってください。", "その後、もう一度報告を出してください。"),
        guardrails=tuple(
            GuardrailReport(metric=metric, limit=limit, arm=arm, rate=limit / 3, ok=True)
            for metric, limit in limits.items()
            for arm in ("plain", "number")
        ),
    )


def factorial() -> Report:
    """Eight cells with awkward names, a broken split, a broken limit, factors, segments and learned send times."""
    names = [
        "plain+register",
        "number+register",
        "a question with quite a long level name+see the free seats now",
        "問いかけ+無料席を確認する",
        "数字入り+今すぐ登録",
        "a|b*c_d+register",
        HOSTILE,
        "urgency+last call",
    ]
    effects = [None, 0.012, -0.004, 0.021, 0.006, -0.018, 0.001, None]
    arms = tuple(
        ArmReport(
            name=name,
            cell={"subject": name.split("+")[0], "cta": name.split("+")[-1]},
            content={"subject": f"件名 {name}"},
            n=1200 + 37 * i,
            successes=50 + i,
            rate=(50 + i) / (1200 + 37 * i),
            human_opens=300 + i,
            clicks=60 + i,
            effect=effect,
            lift=None if effect is None else effect / 0.04,
            ci_lower=None if effect is None else effect - 0.011,
            ci_upper=None if effect is None else effect + 0.012,
            p_value=None if effect is None else 0.04,
            weight=0.3 if i == 3 else 0.1,
            status="too_few" if i == 7 else "ok",
        )
        for i, (name, effect) in enumerate(zip(names, effects, strict=True))
    )
    level: dict[str, Any] = {"n": 2400, "successes": 90, "rate": 0.0375}
    return replace(
        leading(),
        experiment="春のウェビナー告知-件名とボタン",
        hypothesis=f"「数字」はクリックを増やす {HOSTILE}",
        arms=arms,
        control=names[0],
        epochs=waves(names, 12),
        decision=DecisionReport(state="leading", arm=names[3], reason=f"It is not proven against {HOSTILE} yet"),
        sentence=f"{HOSTILE} is one of the variants.",
        sentence_ja="",
        srm=SrmReport(p_value=3e-7, ok=False),
        acting_together=0.97,
        factors=(
            FactorReport(
                factor="subject",
                levels=(
                    LevelReport(level="plain", **level),
                    LevelReport(level="問いかけ", effect=0.0185, ci_lower=0.003, ci_upper=0.034, p_value=0.02, **level),
                ),
            ),
        ),
        segments=(
            SegmentReport(
                segment="manufacturing",
                arms=(
                    SegmentArmReport(name=names[0], n=1_000, successes=40, rate=0.04),
                    SegmentArmReport(
                        name=names[3],
                        n=1_000,
                        successes=60,
                        rate=0.06,
                        effect=0.02,
                        ci_lower=0.003,
                        ci_upper=0.037,
                        shrunk_effect=0.015,
                        shrunk_lower=0.001,
                        shrunk_upper=0.029,
                        p_value=0.01,
                    ),
                ),
                winner=names[3],
            ),
            SegmentReport(
                segment="",
                arms=(
                    SegmentArmReport(name=names[0], n=12, successes=0, rate=0.0),
                    SegmentArmReport(
                        name=names[3],
                        n=9,
                        successes=1,
                        rate=1 / 9,
                        shrunk_effect=0.009,
                        shrunk_lower=-0.01,
                        shrunk_upper=0.03,
                        status="too_few",
                    ),
                ),
            ),
        ),
        segment_summary=SegmentSummary(
            by="industry",
            differs=True,
            p_value=0.004,
            method="anytime",
            alpha=0.05,
            n_segments=23,
            left_out=21,
            sentence=f"The effect differs between the 23 segments (p = 0.004): '{names[3]}' wins in 'manufacturing'.",
        ),
        second_opinion=SecondOpinion(
            method="anytime",
            alpha=0.01,
            verdicts="all",
            arms=(
                SecondArm(name=names[0], n=1_800, successes=70, rate=0.039),
                SecondArm(
                    name=names[3],
                    n=1_911,
                    successes=90,
                    rate=0.047,
                    effect=0.011,
                    ci_lower=-0.01,
                    ci_upper=0.032,
                    p_value=0.31,
                ),
            ),
            decision=DecisionReport(state="leading", arm=names[3], reason="Chance could still explain the lead"),
            sentence=f"Not proved yet {HOSTILE}.",
            note="machine traffic counts here",
            note_ja="機械による反応も数えています",
        ),
        bot_sensitivity=BotSensitivity(
            all=dict.fromkeys(names, 70), human_likely=dict.fromkeys(names, 50), leader_changes=True
        ),
        send_time=SendTimeReport(
            mode="learn", between="08:00-20:00", zone="recipient", effect=0.004, ci_lower=0.001, ci_upper=0.007
        ),
        guardrails=tuple(
            GuardrailReport(metric="bounced", limit=0.005, arm=name, rate=0.0075 if i == 2 else 0.001, ok=i != 2)
            for i, name in enumerate(names)
        ),
    )


def unsent() -> Report:
    """Applied, and nothing has gone out."""
    return replace(
        leading(),
        state="draft",
        sent=0,
        pending=9_500,
        failed=0,
        uncertain=0,
        mature_share=0.0,
        epochs=(),
        arms=tuple(ArmReport(name=name, n=0, successes=0, rate=None, weight=0.5) for name in ("plain", "number")),
        srm=SrmReport(),
        decision=DecisionReport(state="too_early"),
        sentence="Nothing has been sent yet.",
        sentence_ja="まだ送信されていません。",
        bot_sensitivity=BotSensitivity(),
        guardrails=(),
        actions=("Start with `abmail send spring-webinar`.",),
        actions_ja=("`abmail send spring-webinar` で始めてください。",),
    )


def first_wave() -> Report:
    """One wave is out and there is too little to compare."""
    arms = (
        ArmReport(name="plain", n=100, successes=1, rate=0.01, clicks=1, weight=0.5),
        ArmReport(name="number", n=100, successes=3, rate=0.03, clicks=3, weight=0.5, status="too_few"),
    )
    return replace(
        leading(),
        sent=200,
        failed=0,
        uncertain=0,
        mature_share=0.0,
        epochs=waves(["plain", "number"], 1),
        arms=arms,
        srm=SrmReport(),
        decision=DecisionReport(state="too_early", reason="4 clicks say nothing yet"),
        sentence="Too early: 4 clicks in 200 mails.",
        sentence_ja="",
        bot_sensitivity=BotSensitivity(),
        guardrails=(),
    )


# any report

LINE = st.text(max_size=12).filter(lambda text: not re.search("nan|inf|None", text))
COUNT = st.integers(0, 10**7)
SHARE = st.floats(0, 1)
MAYBE_SHARE = st.none() | SHARE | st.just(float("nan"))
DIFFERENCE = st.none() | st.floats(-1, 1) | st.sampled_from([float("nan"), float("inf"), float("-inf")])
PAIR = st.just((None, None)) | st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted).map(tuple)


@st.composite
def counted(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(COUNT)
    successes = draw(st.integers(0, n))
    lower, upper = draw(PAIR)
    return {
        "n": n,
        "successes": successes,
        "rate": successes / n if n else float("nan"),
        "effect": draw(DIFFERENCE),
        "ci_lower": lower,
        "ci_upper": upper,
        "p_value": draw(MAYBE_SHARE),
    }


@st.composite
def arm_reports(draw: st.DrawFn, name: str) -> ArmReport:
    return ArmReport(
        name=name,
        cell=draw(st.dictionaries(LINE, LINE, max_size=2)),
        content=draw(st.dictionaries(LINE, LINE, max_size=2)),
        lift=draw(DIFFERENCE),
        human_opens=draw(COUNT),
        clicks=draw(COUNT),
        p_best=draw(MAYBE_SHARE),
        expected_loss=draw(DIFFERENCE),
        weight=draw(MAYBE_SHARE),
        status=draw(st.sampled_from(["ok", "too_few", "zero_variance", "srm_failed", "something_new"])),
        **draw(counted()),
    )


@st.composite
def epoch_reports(draw: st.DrawFn, names: list[str]) -> tuple[EpochReport, ...]:
    made = []
    for i in range(draw(st.integers(0, 4))):
        raw = [draw(st.floats(0.01, 1)) for _ in names]
        weights = {name: share / sum(raw) for name, share in zip(names, raw, strict=True)}
        opened_at = START + timedelta(microseconds=draw(st.integers(0, 10**12)))
        made.append(EpochReport(n=draw(COUNT), number=i + 1, opened_at=opened_at, reason=draw(LINE), weights=weights))
    return tuple(made)


@st.composite
def segment_summaries(draw: st.DrawFn) -> SegmentSummary:
    return SegmentSummary(
        by=draw(LINE), differs=draw(st.booleans()), p_value=draw(MAYBE_SHARE), method="anytime", alpha=0.1,
        n_segments=draw(COUNT), left_out=draw(COUNT), sentence=draw(LINE), sentence_ja=draw(LINE),
    )  # fmt: skip


@st.composite
def second_opinions(draw: st.DrawFn, names: list[str]) -> SecondOpinion:
    refused = draw(st.booleans())
    return SecondOpinion(
        method=draw(LINE), alpha=0.2, verdicts=draw(st.sampled_from(["human-likely", "all"])),
        arms=() if refused else tuple(SecondArm(name=name, **draw(counted())) for name in names),
        decision=None if refused else DecisionReport(state="leading", arm=names[0]),
        sentence=draw(LINE), note=draw(LINE),
    )  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Any report that the engine could fill, with awkward texts and numbers that are not finite."""
    names = [f"{i}{draw(LINE)}" for i in range(draw(st.integers(2, 5)))]
    arms = tuple(draw(arm_reports(name)) for name in names)
    names = [arm.name for arm in arms]
    nothing: st.SearchStrategy[dict[str, int]] = st.just({})
    counts = nothing | st.fixed_dictionaries(dict.fromkeys(names, COUNT))
    lower, upper = draw(PAIR)
    return Report(
        experiment=draw(LINE),
        hypothesis=draw(LINE),
        spec_hash=draw(LINE),
        state=draw(st.sampled_from(["draft", "running", "finished", "stopped"])),
        metric=draw(st.sampled_from(["clicked", "opened"])),
        window_seconds=draw(st.integers(0, 10**7)),
        generated_at=START,
        seed=draw(COUNT),
        abmail_version=draw(LINE),
        audience=draw(COUNT),
        sent=draw(COUNT),
        failed=draw(COUNT),
        uncertain=draw(COUNT),
        mature_share=draw(SHARE),
        epochs=draw(epoch_reports(names)),
        arms=arms,
        control=names[0],
        srm=SrmReport(p_value=draw(MAYBE_SHARE), ok=draw(st.booleans()), sentence=draw(LINE)),
        decision=DecisionReport(
            state=draw(st.sampled_from(["winner", "leading", "no_difference", "too_early", "stopped"])),
            arm=draw(st.none() | st.sampled_from(names)),
            reason=draw(LINE),
        ),
        sentence=draw(LINE),
        sentence_ja=draw(LINE),
        factors=(FactorReport(factor=draw(LINE), levels=(LevelReport(level=draw(LINE), **draw(counted())),)),),
        segments=(SegmentReport(segment=draw(LINE), arms=(SegmentArmReport(name=names[1], **draw(counted())),)),),
        segment_summary=draw(st.none() | segment_summaries()),
        second_opinion=draw(st.none() | second_opinions(names)),
        bot_sensitivity=BotSensitivity(all=draw(counts), human_likely=draw(counts), leader_changes=draw(st.booleans())),
        method=MethodReport(name=draw(LINE), why=draw(LINE), alpha=0.05, looks=draw(st.none() | st.integers(1, 500))),
        send_time=SendTimeReport(
            mode=draw(st.sampled_from(["fixed", "learn", "test"])),
            between=draw(LINE),
            effect=draw(DIFFERENCE),
            ci_lower=lower,
            ci_upper=upper,
        ),
        actions=tuple(draw(st.lists(LINE, max_size=2))),
        guardrails=(
            GuardrailReport(
                metric=draw(st.sampled_from(["unsubscribed", "bounced"])),
                limit=draw(SHARE),
                arm=names[0],
                rate=draw(MAYBE_SHARE),
                ok=draw(st.booleans()),
            ),
        ),
    )


def some(count: int) -> settings:
    """So many examples: building a report takes longer than hypothesis likes."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# golden files


def check_golden(name: str, text: str) -> None:
    """Compare with ``golden/report.<name>``; ABMAIL_UPDATE_GOLDEN=1 rewrites the file instead."""
    path = GOLDEN / f"report.{name}"
    if os.environ.get("ABMAIL_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path} differs: run with ABMAIL_UPDATE_GOLDEN=1 and read the diff"
    )


def test_the_terminal_page_is_the_reviewed_one() -> None:
    check_golden("100.txt", leading().to_text(width=100))
    check_golden("80.txt", leading().to_text(width=80))


def test_the_terminal_page_of_a_factorial_design_is_the_reviewed_one() -> None:
    check_golden("factorial.txt", factorial().to_text(width=100))


def test_the_japanese_terminal_page_is_the_reviewed_one() -> None:
    check_golden("ja.txt", leading().to_text(width=80, language="ja"))


def test_the_pages_before_there_is_a_result_are_the_reviewed_ones() -> None:
    check_golden("unsent.txt", unsent().to_text(width=80))
    check_golden("first-wave.txt", first_wave().to_text(width=80))


def test_the_json_form_is_the_reviewed_one() -> None:
    check_golden("json", leading().to_json())


def test_the_markdown_page_is_the_reviewed_one() -> None:
    check_golden("md", factorial().to_markdown())


@pytest.mark.parametrize(
    ("language", "headings"),
    [
        ("en", ["By segment: industry", "A second look, not registered beforehand: it decides nothing", "(not given)"]),
        (
            "ja",
            ["セグメント別：industry", "もう一つの見方（事前に登録されていないため、判定には使いません）", "記入なし"],
        ),
    ],
)
def test_segments_and_the_second_look_are_on_every_page_under_their_own_headings(
    language: Language, headings: list[str]
) -> None:
    report = factorial()
    pages = (report.to_text(width=120, language=language), report.to_markdown(language=language))
    for page in (*pages, report.to_html(language=language)):
        for heading in headings:
            assert heading in page
    without = replace(report, second_opinion=None, segments=(), segment_summary=None)
    for page in (without.to_markdown(language=language), without.to_html(language=language)):
        for heading in headings:
            assert heading not in page


def test_a_method_that_cannot_be_used_leaves_its_words_on_the_page() -> None:
    second = SecondOpinion(method="fixed", alpha=0.05, note="the weights changed", note_ja="比率が変わりました")
    report = replace(leading(), second_opinion=second)
    assert "The weights changed." in report.to_text()
    assert "比率が変わりました" in report.to_text(language="ja")
    assert "It would say" not in report.to_text()


def test_the_html_page_around_the_charts_is_the_reviewed_one() -> None:
    skeleton = re.sub(r"(<desc[^>]*>[^<]*</desc>).*?</svg>", r"\1</svg>", leading().to_html(), flags=re.DOTALL)
    check_golden("html", skeleton)


# JSON


@given(report=reports())
@some(30)
def test_any_report_survives_json_unchanged(report: Report) -> None:
    text = report.to_json()
    text.encode("utf-8")
    assert Report.from_dict(json.loads(text)) == report


@given(report=reports())
@some(30)
def test_json_of_any_report_has_the_contract_keys_and_no_nan(report: Report) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in JSON")

    document = json.loads(report.to_json(), parse_constant=refuse)
    assert set(document) >= SECTION_7
    assert all(set(arm) >= SECTION_7_ARM for arm in document["arms"])
    assert all({"n", "opened_at", "weights"} <= set(epoch) for epoch in document["epochs"])
    assert {"p_value", "ok"} <= set(document["srm"])
    assert {"state", "arm", "reason"} <= set(document["decision"])
    assert {"name", "alpha", "looks"} <= set(document["method"])


def test_a_later_version_may_add_keys_to_the_json_form() -> None:
    document = leading().to_dict() | {"invented_later": 1}
    document["arms"][0]["invented_later"] = [1, 2]
    assert Report.from_dict(document) == leading()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("arms", 1, "rate"), "high", r"arms\[1\]\.rate is 'high', must be a finite number"),
        (("arms", 0, "n"), 1.5, r"arms\[0\]\.n is 1\.5, must be a whole number"),
        (("arms", 0, "n"), True, r"arms\[0\]\.n is True, must be a whole number"),
        (("arms",), "plain", r"arms is 'plain', must be a list"),
        (("arms", 0, "cell"), [], r"arms\[0\]\.cell is \[\], must be an object"),
        (("arms", 0), 3, r"arms\[0\] is 3, must be an object"),
        (("srm", "ok"), "yes", r"srm\.ok is 'yes', must be true or false"),
        (("state",), "asleep", r"state is 'asleep', must be one of draft, running, finished, stopped"),
        (("format_version",), 2, r"format_version is 2, must be one of 1"),
        (("generated_at",), "2026-03-02T09:00:00", r"generated_at is 2026-03-02T09:00:00, without a zone"),
        (("generated_at",), "yesterday", r"generated_at is 'yesterday', must be a date and time"),
        (("generated_at",), 5, r"generated_at is 5, must be a date and time"),
        (("sentence",), None, r"sentence is None, must be a string"),
        (("epochs", 0, "weights", "plain"), 7, r"weight of 'plain' in wave 1 is 7\.0, must be a fraction"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(path: tuple[str | int, ...], value: object, message: str) -> None:
    document: Any = leading().to_dict()
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        Report.from_dict(document)


def test_a_missing_field_is_named() -> None:
    document = leading().to_dict()
    del document["arms"][1]["n"]
    with pytest.raises(ValueError, match=r"arms\[1\]\.n is missing"):
        Report.from_dict(document)


def test_something_else_than_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the report is \[\], must be an object"):
        Report.from_dict([])  # type: ignore[arg-type]  # what a wrong file could hold


# the value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": "plan"}, r"control is 'plan', must be one of the arms: plain, number"),
        ({"sent": -1}, r"sent of spring-webinar is -1, must be 0 or more"),
        ({"mature_share": 1.2}, r"mature_share is 1\.2, must be a fraction in \[0, 1\]"),
        ({"arms": leading().arms[:1] * 2}, r"each name must occur once"),
        ({"generated_at": datetime(2026, 3, 2)}, r"must be an aware UTC datetime"),  # noqa: DTZ001  # the fault under test
    ],
)
def test_a_report_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(leading(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"successes": 3311}, r"successes of plain is 3311, must be at most n = 3310"),
        ({"clicks": -2}, r"clicks of plain is -2, must be 0 or more"),
        ({"p_best": 1.5}, r"p_best of plain is 1\.5, must be a fraction"),
        ({"ci_lower": 0.2, "ci_upper": 0.1}, r"interval of plain runs from 0\.2 to 0\.1, must not be upside down"),
    ],
)
def test_an_arm_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(leading().arms[0], **change)


def test_shares_of_a_wave_cannot_exceed_the_whole() -> None:
    with pytest.raises(ValueError, match=r"weights of wave 1 sum to 1\.2, must be at most 1"):
        EpochReport(n=1, number=1, opened_at=START, weights={"a": 0.6, "b": 0.6})


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_an_error_level_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha is .*, must be in \(0, 1\)"):
        MethodReport(name="fixed", alpha=alpha)


def test_numpy_scalars_become_plain_numbers() -> None:
    numbers: dict[str, Any] = {
        "n": np.int64(10),
        "successes": np.int32(2),
        "rate": np.float64(0.2),
        "effect": np.float32("nan"),
    }
    arm = ArmReport(name="a", **numbers)
    assert (arm.n, arm.successes, arm.rate, arm.effect) == (10, 2, 0.2, None)
    assert {type(arm.n), type(arm.successes), type(arm.rate)} == {int, float}
    assert SrmReport(ok=np.bool_(False)).ok is False  # type: ignore[arg-type]


def test_a_number_that_must_be_there_cannot_be_nan() -> None:
    with pytest.raises(ValueError, match=r"Report\.mature_share is nan, must be a finite number"):
        replace(leading(), mature_share=float("nan"))


def test_times_are_kept_in_utc() -> None:
    tokyo = datetime(2026, 3, 2, 18, tzinfo=timezone(timedelta(hours=9)))
    assert replace(leading(), generated_at=tokyo).to_dict()["generated_at"] == "2026-03-02T09:00:00+00:00"


def test_control_characters_in_texts_cannot_steer_a_terminal() -> None:
    report = replace(leading(), hypothesis="a\x1b[2Jb\nc\u202ed\ud800")
    assert report.hypothesis == "a\ufffd[2Jb c\ufffdd\ufffd"


def test_a_report_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        leading().sent = 5  # type: ignore[misc]  # the assignment under test


def test_a_variant_is_found_by_its_name() -> None:
    assert leading().arm("number").n == 6170
    with pytest.raises(ValueError, match="no variant 'nomber' in the report; there are plain, number"):
        leading().arm("nomber")


def test_importing_the_report_loads_no_page_libraries() -> None:
    code = "import sys, abmail.report; print(*{'rich', 'jinja2', 'altair', 'vl_convert'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("make", [leading, factorial, unsent, first_wave])
def test_no_line_is_wider_than_the_terminal(make: Any, language: Language, width: int) -> None:
    lines = make().to_text(width=width, language=language).splitlines()
    assert max(map(cell_len, lines)) <= width


@given(report=reports(), width=st.integers(40, 120))
@some(20)
def test_any_report_prints_within_its_width_and_without_nan(report: Report, width: int) -> None:
    text = report.to_text(width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert not re.search(r"\b(nan|inf|None)\b", text)


def test_a_terminal_narrower_than_forty_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 39, must be at least 40"):
        leading().to_text(width=39)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="language is 'fr', must be 'en' or 'ja'"):
        leading().to_text(language="fr")  # type: ignore[arg-type]  # the argument under test


def test_colour_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in leading().to_text()
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = leading().to_text(color=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == leading().to_text().split()


def test_the_headline_and_the_sentence_come_first() -> None:
    text = leading().to_text(width=200)
    assert text.index("number is ahead, but not proven yet") < text.index("about 18 more per 1,000 mails")
    assert text.index("about 18 more per 1,000 mails") < text.index("Variants")


def test_numbers_stay_in_their_column_beside_wide_letters() -> None:
    lines = replace(factorial(), segments=(), second_opinion=None).to_text(width=120).splitlines()
    ends = {cell_len(line[: match.end()]) for line in lines if (match := re.search(r" 1,[234]\d\d(?= )", line))}
    assert len(ends) == 1


def test_effects_are_told_in_points_with_their_range() -> None:
    assert "+1.8 points (+0.4 to +3.2)" in leading().to_text(width=120)
    assert "+1.8 points (+0.4 to +3.2)" in leading().to_markdown()


def test_small_effects_keep_two_digits() -> None:
    plain, number = leading().arms
    small = replace(number, effect=0.0025, ci_lower=-0.003, ci_upper=0.008)
    assert "+0.25 points (−0.30 to +0.80)" in replace(leading(), arms=(plain, small)).to_text(width=120)


def test_the_chance_of_being_best_is_called_a_guide_and_never_a_certainty() -> None:
    plain, number = leading().arms
    sure = replace(leading(), arms=(replace(plain, p_best=0.0), replace(number, p_best=1.0))).to_text(width=120)
    assert "a guide for sharing out the next mails, not a guarantee" in sure
    assert "<1%" in sure
    assert ">99%" in sure


def test_before_the_first_mail_the_page_says_what_is_missing() -> None:
    text = unsent().to_text(width=120)
    assert "No mail has gone out, so there are no rates to compare. Waiting to be sent: 9,500." in text
    assert "Starting share" in text
    assert "Clicks" not in text
    assert "Can this be trusted?" not in text


def test_a_sentence_that_only_repeats_the_headline_is_not_printed_twice() -> None:
    assert unsent().to_text().count("Nothing has been sent yet") == 1


def test_in_the_first_wave_the_page_says_why_there_is_no_difference() -> None:
    text = first_wave().to_text(width=120)
    assert "No differences are shown yet (too few to say)." in text
    assert "One wave so far: the shares have not been changed yet." in text
    assert "Difference from control" not in text
    assert "No mail has had its 3 days yet" in text


def test_a_broken_split_overrides_the_headline() -> None:
    text = replace(factorial(), second_opinion=None).to_text(width=120)
    assert text.index("The split is off: do not act on this result yet") < text.index("Variants")
    assert "is ahead" not in text


def test_a_broken_limit_is_named_at_the_top_and_in_the_table() -> None:
    text = factorial().to_text(width=160)
    assert "bounces 0.75% (limit 0.5%)." in text[: text.index("Variants")]
    assert "0.75% (problem)" in text


def test_a_rate_above_a_limit_by_chance_is_not_called_within_it() -> None:
    near = GuardrailReport(metric="complained", limit=0.001, arm="number", rate=0.003, ok=True)
    text = replace(leading(), guardrails=(near,)).to_text(width=160)
    assert "Above a limit, by no more than chance allows: number, spam complaints 0.3% (limit 0.1%)." in text
    assert "All variants are within the limits" not in text


def test_before_the_first_wave_is_planned_the_variants_are_only_listed() -> None:
    report = unsent()
    text = replace(report, arms=tuple(replace(arm, weight=None) for arm in report.arms)).to_text()
    assert "plain (control)" in text
    assert "share" not in text.partition("What to do next")[0]


@pytest.mark.parametrize(
    ("decision", "headline"),
    [
        (DecisionReport(state="winner", arm="number"), "number wins"),
        (DecisionReport(state="winner", arm="plain"), "The control, plain, stays the best"),
        (DecisionReport(state="no_difference"), "No difference worth acting on"),
        (DecisionReport(state="too_early"), "Too early to say"),
        (DecisionReport(state="stopped"), "Stopped before a result"),
        (DecisionReport(state="stopped", arm="number"), "Stopped by hand; number was chosen"),
    ],
)
def test_each_decision_has_its_headline(decision: DecisionReport, headline: str) -> None:
    assert headline in replace(leading(), decision=decision).to_text()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(259_200, "3 days"), (86_400, "1 day"), (43_200, "12 hours"), (5_400, "90 minutes"), (61, "61 seconds")],
)
def test_the_window_is_told_in_its_largest_whole_unit(seconds: int, words: str) -> None:
    assert f"clicks within {words} of the send" in replace(leading(), window_seconds=seconds).to_text()


def test_opens_as_the_goal_are_explained() -> None:
    text = replace(leading(), metric="opened").to_text(width=120)
    assert "Open rate" in text
    assert "mail programs that load images on their own blur this number" in " ".join(text.split())


def test_factors_and_zones_are_told_in_words() -> None:
    text = factorial().to_text(width=120)
    assert "Part: Subject line" in text
    assert "(08:00-20:00, each recipient's own time)" in text
    custom = replace(factorial().factors[0], factor="tone")
    assert "Part: tone" in replace(factorial(), factors=(custom,)).to_text(width=120)


def test_a_finished_experiment_is_called_final() -> None:
    done = replace(leading(), mature_share=1.0, state="finished")
    assert "All mails have had their 3 days: the counts are final." in done.to_text()


def test_maturity_is_not_rounded_up_to_all() -> None:
    assert "99.9% of the mails have had their 3 days" in replace(leading(), mature_share=0.99999).to_text()


def test_a_method_without_planned_looks_says_so() -> None:
    report = replace(leading(), method=MethodReport(name="normal mixture", alpha=0.01))
    assert "normal mixture (error level 1%, valid at any number of looks)" in report.to_text()


def test_own_wording_of_the_sample_ratio_wins() -> None:
    report = replace(leading(), srm=SrmReport(p_value=0.4, sentence="All is as planned"))
    assert "All is as planned." in report.to_text()
    assert "各パターンは予定どおりの比率で配信されています" in "".join(report.to_text(language="ja").split())


def test_japanese_falls_back_to_english_where_there_is_no_translation() -> None:
    report = replace(leading(), sentence_ja="", actions_ja=())
    assert "about 18 more per 1,000 mails" in report.to_text(language="ja", width=120)
    assert "Then report again." in report.to_text(language="ja")


def test_japanese_lines_do_not_begin_with_closing_punctuation() -> None:
    for width in range(40, 100, 7):
        for line in leading().to_text(width=width, language="ja").splitlines():
            assert not line.lstrip().startswith(tuple("、。）」"))


def test_both_languages_fill_in_the_same_values() -> None:
    def holes(words: Words) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for field in fields(Words):
            value = getattr(words, field.name)
            for key, phrase in value.items() if isinstance(value, dict) else [("", value)]:
                text = phrase.partition("|")[0]
                found[f"{field.name}.{key}"] = sorted(
                    {name for _, name, _, _ in Formatter().parse(text) if name is not None}
                )
        return found

    assert holes(EN) == holes(JA)


# Markdown


def test_markdown_shows_names_as_they_are() -> None:
    text = factorial().to_markdown()
    assert "<script>" not in text
    assert r"a\|b\*c\_d+register" in text
    assert r"\<script\>alert('x')\</script\>" in text


def test_every_markdown_table_row_has_as_many_cells_as_its_header() -> None:
    width = 0
    for line in factorial().to_markdown().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert not line.startswith("|") or width in (0, cells)
        width = cells if line.startswith("|") else 0


@pytest.mark.parametrize("sentence", ["- a", "1. a", "12) a", "+ a", "# a", "> a"])
def test_a_sentence_cannot_become_a_list_or_a_heading(sentence: str) -> None:
    lines = replace(leading(), sentence=sentence).to_markdown().splitlines()
    assert sentence not in lines
    assert any(line.replace("\\", "") == sentence for line in lines)


def test_commands_to_type_are_code() -> None:
    assert "`abmail send spring-webinar`" in unsent().to_markdown()
    assert "<code>abmail send spring-webinar</code>" in unsent().to_html()
    odd = replace(unsent(), actions=("a ` b <i>",))
    assert "<li>a ` b &lt;i&gt;</li>" in odd.to_html()


# HTML


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    VOID = frozenset({"meta", "wbr", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def assert_self_contained(text: str) -> None:
    page = Page(text)
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert page.tags["html"] == page.tags["main"] == page.tags["h1"] == 1
    assert not any(
        name.startswith("on") or name in {"src", "href", "xlink:href", "action"} for _, name, _ in page.attributes
    )
    assert not re.search(
        r"https?:|//|@import|url\((?!#)", re.sub(r"<(title|desc|text|p|th|td|dd|li)\b.*?</\1>", "", text)
    )
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    for references in page.values("aria-labelledby"):
        assert set(references.split()) <= set(identifiers)


@given(report=reports())
@some(8)
def test_any_report_is_a_well_formed_self_contained_page(report: Report) -> None:
    assert_self_contained(report.to_html())


@pytest.mark.parametrize("language", ["en", "ja"])
def test_hostile_names_are_text_on_the_page_and_in_the_charts(language: Language) -> None:
    html = factorial().to_html(language=language)
    assert_self_contained(html)
    assert "<script" not in html
    page = Page(html)
    assert page.text.count(HOSTILE) >= 5
    assert any("問いかけ+無料席を確認する" in text for text in page.text)
    assert page.values("lang") == [language]


def test_the_page_draws_effects_and_shares_with_words_beside_them() -> None:
    html = leading().to_html()
    page = Page(html)
    charts = [value for _, name, value in page.attributes if name == "class" and value.startswith("chart")]
    assert len(charts) == page.tags["desc"] == page.values("role").count("img") == 2
    assert "number: +1.8 points (+0.4 to +3.2)." in page.text
    assert "Noto Sans CJK JP" in html
    assert "Hiragino Sans" in html


def test_every_table_has_a_caption_and_headers_with_a_scope() -> None:
    page = Page(factorial().to_html())
    assert page.tags["caption"] == page.tags["table"] > 5
    assert len([1 for tag, name, _ in page.attributes if (tag, name) == ("th", "scope")]) == page.tags["th"]


def test_the_same_report_gives_the_same_page() -> None:
    first = leading().to_html()
    assert Report.from_dict(leading().to_dict()).to_html() == first


def test_eighty_four_cells_are_cut_to_what_can_be_read() -> None:
    names = [f"s{i}+c{j}+{hour}h" for i in range(4) for j in range(3) for hour in (7, 8, 9, 10, 12, 15, 18)]
    arms = tuple(
        ArmReport(name=n, n=100, successes=4, rate=0.04, effect=0.01, ci_lower=-0.01, ci_upper=0.03, weight=1 / 84)
        for n in names
    )
    arms = (ArmReport(name=names[0], n=100, successes=4, rate=0.04), *arms[1:])
    report = replace(leading(), arms=arms, control=names[0], epochs=waves(names, 15), guardrails=())
    page = Page(report.to_html())
    assert "77 others" in page.text
    assert any(
        "Shown: the 12 variants with the largest current share; the table has all 83." in text for text in page.text
    )
    assert any("Shown: the control and the variants with the largest share, 8 of 84." in text for text in page.text)
    assert sum(text == names[-1] for text in page.text) >= 3


def test_without_the_extra_the_page_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "abmail._report_charts", raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtra, match="charts in the HTML report needs the extra 'report'"):
        leading().to_html()
    assert "Nothing has been sent yet" in unsent().to_html()


def test_a_page_without_a_result_has_no_charts() -> None:
    assert Page(unsent().to_html()).tags["svg"] == 0
    assert Page(first_wave().to_html()).tags["svg"] == 0


def test_the_reason_of_the_method_begins_as_a_sentence_does() -> None:
    report = leading()
    told = replace(report, method=replace(report.method, why="the number of epochs is planned"))
    assert "planned looks). The number of epochs is planned." in " ".join(told.to_text(width=400).split())
