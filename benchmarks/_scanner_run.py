"""Plays a day of `benchmarks._scanner_day` through the tracker's judging and the store, and looks at what counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import sqlalchemy as sa

from abmail import _tables
from abmail._web_hits import Hit, recorder
from abmail.engine import Engine
from abmail.events import Event, EventType, Signer
from abmail.recipient import Recipient
from abmail.report import ArmReport, SecondArm
from abmail.spec import Experiment, loads
from abmail.store import Epoch, Outcome, Placed, Recorded, State
from benchmarks._scanner_day import Day, Request

__all__ = ["Counted", "played"]

START: Final = datetime(2026, 6, 1, 8, 0, tzinfo=UTC)
END: Final = START + timedelta(days=10)
_TOGETHER: Final = 500  # as many as the tracker takes from its journal at a time
_WORKER: Final = "day:1:0"
_ATTEMPTED: Final = (
    sa.update(_tables.messages)
    .where(_tables.messages.c.id == sa.bindparam("m"))
    .values(attempted_at=sa.bindparam("at"))
)
_DEFINITION: Final = """
spec: 1
name: day
factors: {body: {long: Many links, short: Few links}}
control: {body: long}
message: {template: mail.html.j2, from: "News <news@example.com>", subject: Hello}
allocation: {policy: uniform, first_wave: 1.0}
metrics: {primary: clicked, window: 3d}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What came of a day.

    Attributes:
        people: Mails that a person clicked.
        kept: Of these, mails that count as clicked.
        machines: Mails that only machines clicked.
        taken: Of these, mails that count as clicked.
        clicks_kept: Share of people's single clicks that are judged a person's.
        clicks_taken: Share of machines' single clicks that are judged a person's.
        reclassified: Verdicts that changed after the provisional window.
        winner: The arm that the report names, with verdicts; None where it names none.
        naive: The same where machines count.
        ahead: The arm with the highest rate, with verdicts and without.
    """

    people: int
    kept: int
    machines: int
    taken: int
    clicks_kept: float
    clicks_taken: float
    reclassified: int
    winner: str | None
    naive: str | None
    ahead: tuple[str, str]


def played(day: Day, *, links: Sequence[int]) -> Counted:
    """Send a day's mails, let its requests come in, and read the report."""
    requests = day.requests
    with _AtItsTime("sqlite://", secret=b"the secret of a made-up day") as engine:
        experiment = loads(_DEFINITION)
        ids = _send(engine, experiment, day, links)
        record = recorder(engine)
        for group in _groups(requests):
            record([_hit(engine.signer, ids, one) for one in group if one.method != "HEAD"])  # the tracker ignores HEAD
        return _counted(engine, day, ids, requests)


class _AtItsTime(Engine):
    """An engine whose clock shows when the last of the events came."""

    def record_all(self, events: Iterable[Event], *, now: datetime | None = None) -> list[Recorded]:
        group = list(events)
        return super().record_all(group, now=now or max(one.at for one in group))


def _send(engine: Engine, experiment: Experiment, day: Day, links: Sequence[int]) -> list[str]:
    n, store = len(day.sent), engine.store
    make = engine.signer.message_ids(experiment.name)
    ids = [make(f"r{i}") for i in range(n)]
    people = [Recipient(id=f"r{i}", email=f"p{i}@{day.domains[i]}", attributes={}, zone=None) for i in range(n)]
    store.import_recipients(people, now=START)
    rows = [
        {"id": ids[i], "recipient": f"r{i}", "state": State.QUEUED, "position": i, "zone": "UTC", "propensity": None}
        for i in range(n)
    ]
    store.apply(
        experiment.name, spec_hash=experiment.spec_hash, content_hash="c", definition=experiment.resolved(),
        template="<p>", text_template=None, waves=[n], messages=lambda _: rows, after_version=0, now=START,
    )  # fmt: skip
    arm = {f"r{i}": int(day.arms[i]) for i in range(n)}
    epoch = Epoch(
        number=0, version=1, opened_at=START, size=0, planned=n, weights=(0.5, 0.5), policy={"name": "uniform"}, seed=1,
        reason="the whole list",
    )  # fmt: skip
    store.open_epoch(
        experiment.name, epoch, zones=["UTC"], now=START, whole=True,
        assign=lambda taken: [Placed(cell=arm[one.id], propensity=0.5) for one in taken],
    )  # fmt: skip
    store.claim(worker=_WORKER, limit=n, now=START, open_zones={experiment.name: ["UTC"]})
    at = [START + timedelta(seconds=float(sent)) for sent in day.sent]
    store.advance(worker=_WORKER, now=START, begin=ids)
    with store._write() as db:  # all in one go, but each at its own time
        db.execute(_ATTEMPTED, [{"m": ids[mail], "at": at[mail]} for mail in range(n)])
    done = [Outcome(message=ids[m], state=State.SENT, at=at[m], links=links[int(day.arms[m])]) for m in range(n)]
    store.advance(worker=_WORKER, now=at[-1], done=done)
    return ids


def _groups(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """What is judged together; the verdicts are the same whatever the groups, which `tests/test_verdicts.py` holds."""
    return (requests[start : start + _TOGETHER] for start in range(0, len(requests), _TOGETHER))


def _hit(signer: Signer, ids: Sequence[str], one: Request) -> Hit:
    made = signer.of(ids[one.mail])
    signed = signer.signed("oc", made.click(one.link, "") if one.link else made.pixel())
    assert signed is not None
    at = (START + timedelta(seconds=one.at)).timestamp()
    return Hit(signed, round(at * 1e6), one.agent.encode("latin-1"), address=one.address)


def _counted(engine: Engine, day: Day, ids: Sequence[str], requests: Sequence[Request]) -> Counted:
    place = {message: mail for mail, message in enumerate(ids)}
    counts = np.zeros(len(ids), dtype=bool)
    judged: dict[tuple[int, int, int], bool] = {}
    for event in engine.store.events("day"):
        if event.type is EventType.CLICKED:
            human = event.verdict in {"human", "proxy"}
            mail = place[event.message_id]
            counts[mail] |= human
            judged[mail, event.link or 0, int(event.at.timestamp())] = human
    asked = [one for one in requests if one.link and one.method != "HEAD"]
    said = [judged[one.mail, one.link, int((START + timedelta(seconds=one.at)).timestamp())] for one in asked]
    shares = {who: [human for one, human in zip(asked, said, strict=True) if one.human is who] for who in (True, False)}
    alone = day.touched & ~day.clicked
    report = engine.analyze("day", now=END, verdicts="all")
    second = report.second_opinion
    assert second is not None
    assert second.decision is not None
    return Counted(
        people=int(day.clicked.sum()), kept=int(counts[day.clicked].sum()), machines=int(alone.sum()),
        taken=int(counts[alone].sum()), clicks_kept=float(np.mean(shares[True])),
        clicks_taken=float(np.mean(shares[False])), reclassified=report.bot_sensitivity.reclassified,
        winner=report.decision.arm if report.decision.state == "winner" else None,
        naive=second.decision.arm if second.decision.state == "winner" else None,
        ahead=(_ahead(report.arms), _ahead(second.arms)),
    )  # fmt: skip


def _ahead(arms: Iterable[ArmReport | SecondArm]) -> str:
    return max(arms, key=lambda arm: arm.rate or 0.0).name
