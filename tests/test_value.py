"""What mails bring in: from a conversion's value through store and statistics to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from command import run

from abmail import Experiment, Recipient, SpecError
from abmail.engine import Engine
from abmail.events import Event, EventType, Verdict
from abmail.report import Report, ValueReport
from abmail.send import Memory
from abmail.stats import Moments, compare_means

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEMPLATE = '<p>Hello</p><a href="https://example.com/x">go</a>'
HOUR = timedelta(hours=1)


class Shop:
    """An experiment that was sent to 120 people, and what they buy."""

    def __init__(self, store_url: str, **value: object) -> None:
        self.transport, self.now = Memory(), NOW
        self.engine = Engine(store_url, transport=self.transport, secret=b"0123456789abcdef", clock=lambda: self.now)
        exp = Experiment.from_dict({
            "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"},
            "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
            "allocation": {"policy": "uniform"}, "metrics": {"window": "72h", "value": value},
        })  # fmt: skip
        people = [Recipient(id=f"r{i}", email=f"r{i}@example.com") for i in range(120)]
        self.engine.apply(self.engine.plan(exp, people, template=TEMPLATE))
        self.engine.tick()

    def mails(self, subject: str) -> list[str]:
        return [mail.message_id for mail in self.transport.messages if mail.subject == subject]

    def buys(self, mail: str, value: float | None, after: timedelta = HOUR, **more: object) -> None:
        event = Event(type=EventType.CONVERTED, at=NOW + after, message_id=mail, value=value, **more)  # type: ignore[arg-type]
        self.engine.record(event, now=event.at)

    def report(self) -> Report:
        return self.engine.analyze("spring")

    def value(self) -> ValueReport:
        found = self.report().value
        assert found is not None
        return found


@pytest.fixture
def shop(store_url: str) -> Iterator[Shop]:
    opened = Shop(store_url, unit="EUR", winsorize=100)
    yield opened
    opened.engine.close()


def test_values_are_summed_per_mail_capped_and_compared_with_those_who_bought_nothing(shop: Shop) -> None:
    rng, bought = np.random.default_rng(5), {"Hello": 15, "3 ways": 25}
    sums: dict[str, list[float]] = {}
    for subject, buyers in bought.items():
        mails = shop.mails(subject)
        sums[subject] = [0.0] * len(mails)
        for i in range(buyers):
            for order, value in enumerate(rng.gamma(2, 30, size=2)):
                shop.buys(mails[i], value, key=f"{subject}-{i}-{order}")
                sums[subject][i] += value
    shop.now += timedelta(days=4)
    found = shop.value()

    capped = [np.minimum(sums[subject], 100) for subject in bought]
    arm = np.repeat([0, 1], [len(part) for part in capped])
    expected = compare_means(Moments.from_values(np.concatenate(capped), arm=arm), names=["plain", "number"])
    for shown, wanted in zip(found.arms, expected.arms, strict=True):
        assert shown.n == wanted.n
        assert [shown.mean, shown.effect, shown.ci_lower] == pytest.approx(
            [wanted.mean, wanted.effect, wanted.ci_lower]
        )
    assert [shown.valued for shown in found.arms] == [15, 25]
    assert [shown.total for shown in found.arms] == pytest.approx([sum(part) for part in sums.values()])
    assert found.capped == sum(one > 100 for part in sums.values() for one in part)
    assert (found.method.name, found.limit, found.unit) == ("fixed", 100, "EUR")
    assert "EUR above 'plain'" in found.sentence
    assert all("EUR" in said.split("(")[1] for said in (found.sentence, found.sentence_ja))
    assert "ウェルチの検定" in found.method.why_ja
    assert Report.from_dict(shop.report().to_dict()).value == found


def test_machines_duplicates_late_orders_and_other_events_bring_in_nothing(shop: Shop) -> None:
    mail, other = shop.mails("Hello")[:2]
    shop.buys(mail, 10.0, key="order-1")
    shop.buys(mail, 10.0, key="order-1")
    shop.buys(mail, 500.0, verdict=Verdict.MACHINE)
    shop.buys(mail, 500.0, after=timedelta(hours=73))
    shop.engine.record(Event(type=EventType.REPLIED, at=NOW + HOUR, message_id=mail, value=500.0), now=NOW + HOUR)
    shop.buys(other, None)  # a conversion without a value counts as 1
    shop.buys(other, -0.5, key="refund")
    plain, number = shop.value().arms
    assert (plain.total, plain.valued) == (10.5, 2)
    assert (number.total, number.valued, number.mean) == (0.0, 0, 0.0)


def test_while_windows_are_open_any_number_of_looks_leaves_the_comparison_valid(shop: Shop) -> None:
    shop.buys(shop.mails("Hello")[0], 10.0)
    shop.now += HOUR
    report = shop.report()
    assert report.value is not None
    assert report.value.method.name == "anytime"
    assert "will rise" in report.to_text()


def test_a_definition_without_a_value_has_none_in_its_report_and_keeps_its_hash(store_url: str) -> None:
    plain = {
        "spec": 1, "name": "x", "factors": {"subject": {"a": "A", "b": "B"}}, "control": {"subject": "a"},
        "message": {"template": "x.j2", "from": "a@example.com"},
    }  # fmt: skip
    exp = Experiment.from_dict(plain)
    assert exp.metrics.value is None
    assert "value" not in exp.resolved()["metrics"]
    with_value = Experiment.from_dict({**plain, "metrics": {"value": {}}})
    assert with_value.resolved()["metrics"]["value"] == {"event": "converted", "unit": ""}
    assert with_value.spec_hash != exp.spec_hash


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"event": "opened"}, "'opened' is not one of converted, replied"),
        ({"winsorize": 0}, "0 is no cap"),
        ({"winsorize": "99 %"}, "expected a number"),
        ({"winsorise": 10}, "did you mean 'winsorize'?"),
        ({"unit": "thousands of euros"}, "too long for a unit"),
    ],
)
def test_bad_values_are_refused_with_their_place(value: dict[str, object], words: str) -> None:
    plain = {
        "spec": 1, "name": "x", "factors": {"subject": {"a": "A", "b": "B"}}, "control": {"subject": "a"},
        "message": {"template": "x.j2", "from": "a@example.com"}, "metrics": {"value": value},
    }  # fmt: skip
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict(plain)
    (problem,) = caught.value.diagnostics
    assert words in f"{problem.message} {problem.hint}"
    assert "metrics.value" in problem.message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13])
def test_an_event_whose_value_is_no_amount_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="value is"):
        Event(type=EventType.CONVERTED, at=NOW, message_id="m", value=value)


def test_the_curves_of_opens_and_clicks_end_at_the_shares_of_the_mails_that_have_them(shop: Shop) -> None:
    mails = shop.mails("3 ways")
    for i in range(40):
        for kind, last in ((EventType.OPENED, 40), (EventType.CLICKED, 10)):
            if i < last:
                at = NOW + timedelta(minutes=5 + 30 * i)
                shop.engine.record(Event(type=kind, at=at, message_id=mails[i]), now=at)
    shop.now += timedelta(days=4)
    curves = {(curve.metric, curve.arm): curve for curve in shop.report().curves}
    assert set(curves) == {("opened", "number"), ("clicked", "number")}  # nobody opened the other one
    opens = curves["opened", "number"]
    assert (opens.n, opens.events, opens.median is None) == (len(mails), 40, len(mails) > 80)
    assert opens.points[-1].share == pytest.approx(40 / len(mails))
    assert opens.points[0].seconds == 600
    shares = [point.share for point in opens.points]
    assert shares == sorted(shares)
    assert all(p.lower <= p.share <= p.upper for p in opens.points if p.lower is not None and p.upper is not None)


def test_from_the_definition_over_a_file_of_orders_to_the_report(tmp_path: Path) -> None:
    run(tmp_path, "init", "p")
    folder = tmp_path / "p"
    (folder / "leads.csv").write_text("email\n" + "".join(f"a{i}@example.com\n" for i in range(80)), encoding="utf-8")
    run(folder, "new", "subjects", "--kind", "subject")
    file = folder / "experiments" / "subjects.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("metrics:\n", "metrics:\n  value: {unit: EUR, winsorize: 200}\n"), encoding="utf-8")
    run(folder, "check")
    assert "EUR" in run(folder, "config", "show", "subjects").stdout
    run(folder, "audience", "import", "leads.csv")
    run(folder, "apply", "subjects")
    run(folder, "send", "subjects", "--until-done", "--yes")
    at = datetime.now(UTC).isoformat()
    with Engine(f"sqlite:///{folder / 'abmail.db'}", secret=b"0123456789abcdef") as engine:
        ids = [message.recipient for message in engine.store.messages("subjects")]
    orders = [
        {
            "type": "converted",
            "at": at,
            "experiment": "subjects",
            "recipient": who,
            "value": 19.9,
            "key": f"order {who}",
        }
        for who in ids[:30]
    ]
    lines = [*(json.dumps(order) for order in orders), json.dumps({**orders[0], "value": "much", "key": "bad"})]
    (folder / "orders.jsonl").write_text("\n".join(lines), encoding="utf-8")
    ran = run(folder, "ingest", "orders.jsonl", status=1)
    assert "orders.jsonl:31: 'value' must be a number or null" in ran.stderr
    report = run(folder, "report", "subjects").stdout
    assert "What each mail brings in" in report
    assert "EUR" in report
    document = json.loads(run(folder, "report", "subjects", "--format", "json").stdout)
    assert sum(arm["total"] for arm in document["value"]["arms"]) == pytest.approx(597)
    assert "1通あたりの成果額" in run(folder, "report", "subjects", "--language", "ja").stdout


@pytest.mark.parametrize("limit", [None, 50.0])
def test_moments_of_those_who_bought_are_the_moments_of_all(limit: float | None) -> None:
    rng = np.random.default_rng(3)
    epoch, arm = rng.integers(0, 3, 900), rng.integers(0, 2, 900)
    value = np.where(rng.random(900) < 0.1, rng.gamma(1, 40, 900), 0.0)
    whole = Moments.from_values(value, arm=arm, epoch=epoch, limit=limit, looks=3)
    some = value > 0
    sparse = Moments.from_sparse(whole.n, value[some], arm=arm[some], epoch=epoch[some], limit=limit, looks=3)
    np.testing.assert_allclose(sparse.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(sparse.product, whole.product, rtol=1e-12)
    assert (sparse.n.tolist(), sparse.limit, sparse.looks) == (whole.n.tolist(), limit, 3)


def test_more_values_than_units_are_refused() -> None:
    with pytest.raises(ValueError, match="number of values of epoch 0, arm 1 is 2"):
        Moments.from_sparse([5, 1], [1.0, 2.0], arm=[1, 1])
