"""Engine: the one place where definition, store, bandit, sending and statistics meet.

A library user drives it with five verbs: `Engine.plan`, `Engine.apply`, `Engine.tick`, `Engine.record` and
`Engine.analyze`. Nothing runs by itself: time passes only when a caller ticks, and every verb can be repeated without
harm. Several processes may work on one database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Self, overload

from abmail._allocation_report import allocation_report
from abmail._analysis import Evidence, curve_of, policy_counts, report_on
from abmail._breakdown import breakdown, counts_by_segment
from abmail._delivery import Definitions, Delivery, cells_of
from abmail._engine_people import PeopleSide
from abmail._engine_values import Applied, Opened, Scheduled, Status, Tick, Tracked
from abmail._habits import history_of
from abmail._intake import Ingested, take_in
from abmail._machine_report import machine_report
from abmail._opening import next_opening
from abmail._outbox import Sent
from abmail._past import Past, past_of
from abmail._plan_report import PlanReport
from abmail._planner import Planner
from abmail._planning import Change, Plan
from abmail._power_report import PowerReport, ReadOff
from abmail._reasons import in_japanese, reason
from abmail._rejudge_report import Rejudgement, rejudgement
from abmail._reviewer import Reviewer
from abmail._second_look import SecondLook, second_opinion
from abmail._signing import default_secret, key_file, keys_of, rotate, secret_file, signer_of
from abmail._timing import OPEN_FOR, Timing
from abmail._value_report import curves_of, value_report
from abmail.decide import breaches, epoch_due, is_due, next_epoch, verdict_due
from abmail.dkim import Dkim
from abmail.errors import StoreError, mask_address
from abmail.events import Event, EventType
from abmail.ingest import Export, Refused
from abmail.recipient import Recipient
from abmail.render import RenderedMessage, preview_page
from abmail.report import Report
from abmail.send import Throttle, Transport
from abmail.sendtime import History
from abmail.simulate import Map, Progress, Simulation, Truth, simulate
from abmail.spec import Cell, Experiment
from abmail.stats import Counts, PlanMethod
from abmail.store import (
    Epoch,
    Recorded,
    Release,
    State,
    StoppedArm,
    Store,
    StoredExperiment,
)

__all__ = [
    "Applied",
    "Change",
    "Engine",
    "Ingested",
    "Opened",
    "Plan",
    "PlanReport",
    "PowerReport",
    "Rejudgement",
    "Scheduled",
    "Status",
    "Tick",
    "Tracked",
    "key_file",
    "keys_of",
    "rotate",
    "secret_file",
]

_RETRIED: Final = ("failed", "expired", "uncertain")
_DEFAULT_TRACKER: Final = "http://127.0.0.1:8025"


class Engine(PeopleSide):
    """Runs experiments on one database.

    Args:
        store: A `Store` or the URL of a database, which is then opened and closed with the engine.
        transport: Where mails go; without one nothing can be sent.
        secret: Signing key of links and message ids, at least 16 bytes; or several, of which the first one signs and
            what the others signed stays valid. By default ``ABMAIL_SECRET``, else a file
            beside the SQLite database, which is made with mode 600 when absent.
        tracker_url: Public address of the tracker; it is part of every mail.
        project: Folder in which the mail templates are found.
        clock: Tells the time, aware UTC, where a verb is called without ``now``.
        throttle: Slows sending down; by default only where servers ask for it.
        connections: How many mails are handed over at the same time, each over a connection of its own.
        dkim: Signs the mails; by default that is left to the relay.
        bounce_mailbox: Address to whose signed subaddresses bounces go; by default they go to the sender.
        send_times: File of a send-time model, as `SendTime.save` writes it; without one the model is learned from the
            mails of the database.

    Raises:
        ConfigError: No signing key can be found.
        StoreError: The database cannot be used.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        transport: Transport | None = None,
        secret: bytes | Sequence[bytes] | None = None,
        tracker_url: str = _DEFAULT_TRACKER,
        project: Path | str = ".",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        throttle: Throttle | None = None,
        connections: int = 1,
        dkim: Dkim | None = None,
        bounce_mailbox: str | None = None,
        send_times: Path | str | None = None,
    ) -> None:
        keys = secret or default_secret(store if isinstance(store, str) else store.url)
        self.signer = signer_of(keys)
        self.store = Store(store) if isinstance(store, str) else store
        self.store.fingerprints = self.signer.fingerprints
        self._clock = clock
        self._definitions = Definitions(self.store)
        self._delivery = Delivery(
            self.store, transport, signer=self.signer, tracker_url=tracker_url, project=Path(project),
            definitions=self._definitions, throttle=throttle, connections=connections, dkim=dkim,
            bounce_mailbox=bounce_mailbox,
        )  # fmt: skip
        # By the oldest key: a new one must not draw another control group.
        oldest = signer_of(keys if isinstance(keys, bytes) else keys[-1])
        self._timing = Timing(
            self.store, salt=oldest.message_id("send times", "control"),
            model=None if send_times is None else Path(send_times),
        )  # fmt: skip
        self._planner = Planner(
            self.store, self._delivery, earlier=self._evidence_alone, message_ids=self.signer.message_ids
        )
        self._reviewer = Reviewer(self.store, self._planner, self._timing, evidence=self._evidence)
        self._mails: dict[str, tuple[str, bool]] = {}
        self._pasts: dict[str, Past] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what this process holds, and close transport and database."""
        self._delivery.close()
        self.store.close()

    # -- plan and apply ---------------------------------------------------------------------------------------------

    def plan(
        self,
        experiment: Experiment,
        recipients: Iterable[Recipient] | None = None,
        *,
        template: str | None = None,
        text_template: str | None = None,
    ) -> Plan:
        """Work out what applying a definition would do; changes nothing.

        Args:
            experiment: The definition.
            recipients: Who could get it; the store's recipients by default. Given ones are stored by `apply`.
            template: Source of the HTML template; read from the project's folder by default.
            text_template: Source of the text template; likewise, where the definition names one.

        Raises:
            RenderError: A template cannot be read or compiled.
        """
        return self._planner.plan(experiment, recipients, template=template, text_template=text_template)

    def review(self, experiment: Experiment, *, now: datetime | None = None, power: bool = True) -> PlanReport:
        """Say all that is worth knowing before a definition is applied; reads only.

        Who would get which variant, when and where; who gets nothing, and why; what the list can show, and what the
        shares gain; and what differs from the version in force, with what each change means for the running test.

        Args:
            experiment: The definition.
            now: When sending would begin or go on, aware UTC.
            power: Whether to work out what the list can show, which may take some seconds.

        Returns:
            The report; its ``plan`` is for `apply`.

        Raises:
            RenderError: A template cannot be read or compiled.
        """
        return self._reviewer.review(experiment, now=now or self._clock(), power=power)

    def apply(self, plan: Plan, *, now: datetime | None = None) -> Applied:
        """Store the definition's version and an outbox row for each recipient; the same plan twice is a no-op.

        A recipient of the plan whose address another stored recipient has gets nothing: the other one is mailed.

        Raises:
            StalePlan: Another version was applied since the plan was made.
            StoreError: The plan would break a running experiment, or the experiment has ended.
        """
        return self._planner.apply(plan, now=now or self._clock())

    def preview(
        self, experiment: Experiment, *, email: str | None = None, now: datetime | None = None
    ) -> tuple[tuple[Cell, RenderedMessage], ...]:
        """Make the mail of each cell as one recipient would get it; stores and sends nothing.

        Args:
            experiment: The definition.
            email: Address of a stored recipient; by default the first one in the segment.
            now: For the Date header.

        Raises:
            RenderError: A template cannot be read, compiled or filled.
            StoreError: There is no such recipient.
        """
        made = self._delivery.preview(experiment, self._reader(experiment, email), now or self._clock())
        return tuple((cell, mail) for cell, mail, _ in made)

    def preview_page(self, experiment: Experiment, *, email: str | None = None, now: datetime | None = None) -> str:
        """Put the mails of all cells side by side on one self-contained HTML page; see `preview`."""
        recipient = self._reader(experiment, email)
        made = self._delivery.preview(experiment, recipient, now or self._clock())
        return preview_page(
            [previewed for _, _, previewed in made],
            experiment=experiment.name,
            recipient=recipient.email,
            language=experiment.message.language or "en",
        )

    def _reader(self, experiment: Experiment, email: str | None) -> Recipient:
        """Who a preview is made for."""
        recipient = self._planner.first(experiment, email)
        if recipient is None:
            who = "recipient" if email is None else f"recipient {mask_address(email)}"
            raise StoreError(f"there is no {who} in the audience of {experiment.name}", hint="import a list first")
        return recipient

    def power(
        self,
        experiment: Experiment,
        *,
        n: int | None = None,
        baseline: float | None = None,
        mde: float | None = None,
        per_day: float | None = None,
        method: PlanMethod = "sequential",
        shape: float = 0.0,
        strata: Sequence[tuple[float, float]] = (),
        icc: float | None = None,
        now: datetime | None = None,
    ) -> PowerReport:
        """Say what a test can show before it is sent: its power, the list it needs, and what a proof costs.

        Args:
            experiment: The definition.
            n: People in the audience, held out ones included; the segment of the imported list by default.
            baseline: Rate to expect; the definition's by default, else that of earlier mailings, else typical ones.
            mde: Smallest difference worth finding; the definition's by default, else a fifth of the rate.
            per_day: Mails a day; by default as fast as the waves allow.
            method: How the test is read: ``sequential``, ``fixed``, ``anytime``, ``exact`` or ``aipw``.
            shape: Shape of the boundary of ``sequential``: 0 for O'Brien-Fleming's, 0.25, 0.5 for Pocock's.
            strata: Share of the mails and rate of each segment within which the variants are compared; only the ratios
                count.
            icc: Correlation of the answers within a company, fraction in [0, 1], where ``audience.unit`` is company:
                the companies of the imported list say how many more mails that takes.
            now: Aware UTC datetime; earlier mailings count once their window has closed.

        Raises:
            ValueError: A number is out of range, the method is not valid for the way the definition shares the mails,
                or ``icc`` was given without companies.
        """
        return self._planner.power(
            experiment, n=n, baseline=baseline, effect=mde, per_day=per_day, icc=icc, now=now or self._clock(),
            read=ReadOff(method=method, shape=shape, strata=tuple(strata), icc=icc),
        )  # fmt: skip

    def simulate(
        self,
        experiment: Experiment,
        *,
        truth: Truth | None = None,
        n: int | None = None,
        replications: int = 500,
        rng: int = 0,
        aa: bool = False,
        map_: Map = map,
        progress: Progress | None = None,
        now: datetime | None = None,
    ) -> Simulation:
        """`abmail.simulate` with what this database knows: the size of the audience, and the spread of its mailings.

        Args:
            experiment: The definition.
            truth: What is true; by default rates drawn as earlier experiments here, with the same metric, were spread,
                and where there are too few, as in `abmail.simulate`.
            n: People in the audience, held out ones included; the segment of the imported list by default.
            replications: As in `abmail.simulate`.
            rng: Seed.
            aa: As in `abmail.simulate`.
            map_: As in `abmail.simulate`.
            progress: As in `abmail.simulate`.
            now: Aware UTC datetime; earlier mailings count once their window has closed.

        Raises:
            StoreError: Nobody is in the segment, and ``n`` was not given.
            ValueError: A number is out of range.
        """
        n = self._planner.size(experiment) if n is None else n
        if truth is None:
            truth = self._planner.typical_truth(experiment, now or self._clock())
        return simulate(
            experiment, truth=truth, n=n, replications=replications, rng=rng, aa=aa, map_=map_, progress=progress
        )

    # -- tick -------------------------------------------------------------------------------------------------------

    def tick(
        self,
        *,
        now: datetime | None = None,
        only: str | None = None,
        limit: int | None = None,
        on_progress: Callable[[Sent], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Tick:
        """Do what is due: settle what dead workers left, stop or re-weight, open epochs, send.

        Args:
            now: Aware UTC datetime; the engine's clock by default. Given, it stands still during the tick.
            only: Name of one experiment; all running ones by default.
            limit: At most so many messages; as many as are due by default.
            on_progress: Called after each message with the totals of this tick.
            stopping: Asked before each message; True ends the tick there.

        Raises:
            ConfigError: There is no transport, or the relay refuses us as a whole.
            UnknownExperiment: ``only`` names none.
        """
        clock = self._clock if now is None else (lambda: now)
        self._digest_all(clock)
        running = self._running(only)
        recovered = self._delivery.recover(running, clock())
        made = [(stored.name, *self._open_due_epoch(stored, clock())) for stored in running]
        sent = self._delivery.deliver(running, clock, limit, on_progress, stopping)
        next_at = self._next_at(self._running(only), clock())  # read anew: this tick may have noted a verdict
        return Tick(
            scheduled=tuple(Scheduled.of(name, release) for name, release, _ in made if release is not None),
            opened=tuple(opened for *_, opened in made if opened is not None),
            outbox=sent, recovered=recovered, next_at=next_at,
        )  # fmt: skip

    def due(self, name: str, *, now: datetime | None = None) -> Tick:
        """What a tick would open and send now, as numbers; changes nothing."""
        now = now or self._clock()
        (stored,) = self._running(name) or (None,)
        if stored is None:
            return Tick()
        evidence = self._evidence(stored, now, settled=True)
        if verdict := verdict_due(evidence):
            if verdict["then"] == "stop":
                return Tick()
            evidence = replace(evidence, stored=replace(evidence.stored, verdict=verdict))
        scheduled: tuple[Scheduled, ...] = ()
        if evidence.experiment.send_time.is_planned and (size := self._timing.due(evidence)):
            scheduled = (Scheduled(experiment=name, size=size),)
        epoch, _ = self._next_epoch(evidence)
        opened = () if epoch is None else (Opened.of(evidence.experiment, epoch, epoch.planned),)
        assigned = self.store.count_due(name, zones=self._delivery.open_zones(stored, now), now=now)
        outbox = Sent(sent=assigned + sum(o.size for o in opened))
        return Tick(scheduled=scheduled, opened=opened, outbox=outbox)

    def waiting(self, name: str | None = None) -> int:
        """Number of mails that are still to go out, of one experiment or of all running ones.

        Raises:
            UnknownExperiment: ``name`` names none.
        """
        known = (self.store.states(stored.name) for stored in self._running(name))
        return sum(states.get(State.QUEUED, 0) + states.get(State.ASSIGNED, 0) for states in known)

    def _running(self, only: str | None) -> tuple[StoredExperiment, ...]:
        chosen = (self.store.experiment(only),) if only else self.store.experiments()
        return tuple(stored for stored in chosen if stored.sends)

    def _open_due_epoch(self, stored: StoredExperiment, now: datetime) -> tuple[Release | None, Opened | None]:
        """Give a wave its moments where the definition chooses hours, and open the epoch that is due."""
        evidence = self._settled(self._evidence(stored, now, settled=True))
        experiment, released = evidence.experiment, None
        if experiment.send_time.is_planned and evidence.stored.sends:
            released = self._timing.release(evidence)
            self._timing.keep_caps(evidence)
        epoch, before = self._next_epoch(evidence)
        if epoch is None:
            return released, None
        zones = self._delivery.open_zones(stored, now)
        cells = partial(cells_of, experiment, epoch)
        expires = experiment.send_time.expires
        size = self.store.open_epoch(
            stored.name, epoch, zones=zones, assign=cells, now=now, expires=expires,
            whole=experiment.allocation.assignment == "quota", before=before,
        )  # fmt: skip
        return released, Opened.of(experiment, epoch, size) if size else None

    def _next_epoch(self, evidence: Evidence) -> tuple[Epoch | None, datetime | None]:
        """The epoch that is due now, with its weights; None where it is too early or nobody can be mailed now.

        Where mails have moments of their own, those before the moment that is returned, too, are in it.
        """
        name, zones = evidence.stored.name, self._delivery.open_zones(evidence.stored, evidence.now)
        ready, before = self._timing.ready(name, zones=zones, now=evidence.now)
        if ready:
            return next_epoch(evidence, reachable=ready, whole=True), before
        if evidence.experiment.send_time.is_planned or not is_due(evidence):
            return None, None
        reachable = self.store.queued(name, zones=zones)
        return (next_epoch(evidence, reachable=reachable) if reachable else None), None

    def _settled(self, evidence: Evidence) -> Evidence:
        """Stop what broke a limit, and apply the stop rule; returns what is in force then."""
        for cell, why in breaches(evidence):
            arm = StoppedArm(cell=cell, at=evidence.now, reason=why, by="guardrail")
            self.store.stop_arm(evidence.stored.name, arm)
        evidence = replace(evidence, stopped=self.store.stopped_arms(evidence.stored.name))
        name, verdict = evidence.stored.name, verdict_due(evidence)
        if verdict is None:
            return evidence
        self.store.note_verdict(name, verdict)
        if verdict["then"] == "stop":
            self.stop(name, why=str(verdict["reason"]), now=evidence.now)
        return replace(evidence, stored=self.store.experiment(name))

    def _next_at(self, running: Sequence[StoredExperiment], now: datetime) -> datetime | None:
        moments = [at for stored in running if (at := self._next_at_of(stored, now)) is not None]
        return min(moments, default=None)

    def _next_at_of(self, stored: StoredExperiment, now: datetime) -> datetime | None:
        """When a message falls due, or the next epoch does, in a zone that is open then."""
        experiment = self._definitions.of(stored)
        settings = experiment.send_time
        due = self.store.next_due(stored.name, now=now)
        moments = [next_opening(settings, zone, max(at, now)) for zone, at in due.items()]
        planned = self.store.next_planned(stored.name)
        moments += [next_opening(settings, zone, max(at, now)) for zone, at in planned.items()]
        if settings.is_planned:
            release = self._timing.next_at(stored, experiment, now=now, pending=bool(planned))
            moments += [] if release is None else [release]
        elif self.store.queued(stored.name):
            queued = self.store.zones(stored.name, state=State.QUEUED)
            due_at = max(epoch_due(stored, experiment, self.store.epochs(stored.name)) or now, now)
            moments += [next_opening(settings, zone, due_at) for zone in queued]
        return min(moments, default=None)

    # -- events -----------------------------------------------------------------------------------------------------

    def record(self, event: Event, *, now: datetime | None = None) -> bool:
        """Record one event; returns False where it was recorded before."""
        return self.record_all([event], now=now)[0] != Recorded.DUPLICATE

    def record_all(self, events: Iterable[Event], *, now: datetime | None = None) -> list[Recorded]:
        """Record events in one transaction; returns what became of each, in order."""
        return self.store.record(events, now=now or self._clock())

    def ingest(
        self,
        export: Export,
        *,
        refused: Callable[[Refused], None] = lambda _: None,
        told: Callable[[int], None] = lambda _: None,
        now: datetime | None = None,
    ) -> Ingested:
        """Record the events of a file, some thousands in each transaction; the same file again changes nothing.

        What was recorded stays where reading breaks off: ingest the file once more to go on.

        Args:
            export: The file, opened.
            refused: Gets each row that is no event, or whose message cannot be found, with the reason.
            told: Hears how many bytes of the file were read so far.
            now: When the events reached us.
        """
        return take_in(self.store, export, refused=refused, told=told, now=now or self._clock())

    def rejudge(self, name: str, *, apply: bool = True, now: datetime | None = None) -> Rejudgement:
        """Judge an experiment's events by the rules of today, and correct the counts by what that changes.

        Args:
            name: The experiment.
            apply: Whether to do it; otherwise nothing is changed.
            now: Time of the deed.

        Returns:
            What changes for each arm, and whether the decision does.

        Raises:
            UnknownExperiment: None of that name was applied.
        """
        now = now or self._clock()
        evidence = self._evidence(self.store.experiment(name), now)
        found = rejudgement(evidence, self.store.rejudged(name, n_cells=len(evidence.experiment.cells)))
        if apply:
            self.store.rejudge(name, now=now)
        return found

    def hosted(self, message_id: str) -> str | None:
        """A sent mail as a page for a browser; None where there is no such mail.

        Raises:
            RenderError: It cannot be made any more.
        """
        return self._delivery.hosted(message_id)

    def unsubscribe(self, message_id: str, *, at: datetime, reason: str) -> None:
        """Suppress the message's recipient for good; committed when this returns, and harmless when repeated."""
        self.record(Event(type=EventType.UNSUBSCRIBED, at=at, message_id=message_id, detail=reason), now=at)

    # -- results ----------------------------------------------------------------------------------------------------

    def analyze(
        self,
        name: str,
        *,
        now: datetime | None = None,
        method: str | None = None,
        alpha: float | None = None,
        verdicts: str | None = None,
        by: str | None = None,
    ) -> Report:
        """Say what an experiment has shown so far.

        The registered analysis is the same whatever else is asked for. ``method``, ``alpha`` and ``verdicts``
        (``human-likely``, ``all`` or ``strict``) add a second opinion that decides nothing; ``by``, an attribute of
        the recipients, ``domain`` or ``hour`` (of sending, by the recipient's clock), adds a comparison within its
        segments.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: A method, level, verdict or attribute is not known.
        """
        evidence = self._evidence(self.store.experiment(name), now or self._clock(), by)
        second = second_opinion(evidence, SecondLook(method, alpha, verdicts))
        report = replace(
            report_on(evidence),
            second_opinion=second,
            bot_sensitivity=machine_report(evidence),
            send_time=self._timing.report(evidence),
            value=value_report(evidence),
            curves=curves_of(evidence),
            allocation=allocation_report(evidence),
        )
        if by is None:
            return report
        segments, summary = breakdown(evidence, by)
        return replace(report, segments=segments, segment_summary=summary)

    @overload
    def counts(self, name: str, *, by: None = None, now: datetime | None = None) -> Counts: ...
    @overload
    def counts(self, name: str, *, by: str, now: datetime | None = None) -> dict[str, Counts]: ...
    def counts(self, name: str, *, by: str | None = None, now: datetime | None = None) -> Counts | dict[str, Counts]:
        """The experiment's counts per epoch and arm as the statistics use them; mature and young epochs alike.

        With ``by``, an attribute of the recipients as they are now, ``domain`` or ``hour``: one set of counts for each
        value, all of one shape, ``""`` for recipients without it. Their sends and successes add up to the whole's.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: No recipient has the attribute; the message names those there are.
        """
        evidence = self._evidence(self.store.experiment(name), now or self._clock(), by)
        return policy_counts(evidence, curve_of(evidence)) if by is None else counts_by_segment(evidence)

    def send_history(self, *, by: str | None = None, now: datetime | None = None) -> History:
        """Past mails as `SendTime.fit` reads them: those whose 72 hours are over, of all experiments.

        Args:
            by: Attribute of the recipients that is taken for their segment.
            now: Aware UTC datetime.
        """
        before = (now or self._clock()) - OPEN_FOR
        return history_of(self.store.past_mails(before=before), by=by)

    def status(self, *, now: datetime | None = None) -> tuple[Status, ...]:
        """Where each applied experiment stands, by name."""
        moment = now or self._clock()
        return tuple(self._status(stored, moment) for stored in self.store.experiments())

    def _status(self, stored: StoredExperiment, now: datetime) -> Status:
        return Status(
            experiment=stored.name,
            state=stored.state,
            version=stored.version,
            messages={str(state): n for state, n in sorted(self.store.states(stored.name).items())},
            epochs=len(self.store.epochs(stored.name)),
            planned_epochs=0 if self._is_open_ended(stored) else len(stored.waves),
            next_at=self._next_at_of(stored, now) if stored.sends else None,
            stopped={arm.cell: arm.reason for arm in self.store.stopped_arms(stored.name)},
            paused=stored.pause_reason,
        )

    def _is_open_ended(self, stored: StoredExperiment) -> bool:
        """Whether nobody knows how many epochs there will be."""
        experiment = self._definitions.of(stored)
        return experiment.allocation.standing or experiment.send_time.is_planned

    def _evidence(
        self, stored: StoredExperiment, now: datetime, by: str | None = None, *, settled: bool = False
    ) -> Evidence:
        """What is known of an experiment now, and what was known before it."""
        return replace(self._evidence_alone(stored, now, by, settled=settled), past=self._past(stored))

    def _evidence_alone(
        self, stored: StoredExperiment, now: datetime, by: str | None = None, *, settled: bool = False
    ) -> Evidence:
        """What is known of an experiment; all of one moment, so that an epoch is in all of its parts or in none.

        With ``settled``, opens and clicks whose verdict may still change don't count yet.
        """
        experiment = self._definitions.of(stored)
        own = experiment.allocation.shared_by
        if by is not None and own not in {None, by}:
            raise ValueError(f"the mails of {stored.name} were shared by {own}: only that can be compared within")
        if by is not None and own is None and experiment.counts_crowds:
            raise ValueError(f"{stored.name} counts opens and clicks without people: nobody knows what a segment did")
        valued = experiment.metrics.value
        provisional = experiment.metrics.provisional.total_seconds()
        found = self.store.snapshot(
            stored.name, n_cells=len(experiment.cells), by=by if own is None else None,
            valued=None if valued is None else valued.event, window=experiment.metrics.window.total_seconds(),
            belongs_within=experiment.metrics.belongs_within.total_seconds(),
            companies=experiment.metrics.primary if experiment.audience.unit == "company" else None,
            provisional=provisional, settled_at=now if settled else None,
        )  # fmt: skip
        return Evidence(
            stored=found.stored,
            experiment=self._definitions.of(found.stored),
            epochs=found.epochs,
            tally=found.tally,
            states=found.states,
            last_send=found.last_send,
            unsettled=found.unsettled,
            waves=found.waves,
            now=now,
            segments=found.segments if own is None or by is None else found.strata,
            strata=found.strata,
            stopped=found.stopped,
            values=found.values,
            companies=found.companies,
            facts=found.facts,
            provisional=provisional if settled else 0.0,
        )

    def pause(self, name: str, *, why: str = "", now: datetime | None = None) -> bool:
        """Let no further mail of an experiment go out until it is resumed; returns False where nothing changed.

        Raises:
            UnknownExperiment: None of that name was applied.
        """
        self.store.experiment(name)
        return self.store.pause(name, reason=why or "paused by hand", now=now or self._clock())

    def resume(self, name: str) -> bool:
        """Let mails of a paused experiment go out again; returns False where it was not paused.

        Raises:
            UnknownExperiment: None of that name was applied.
        """
        self.store.experiment(name)
        return self.store.resume(name)

    def retry(
        self, name: str, *, state: str = "failed", messages: Sequence[str] = (), now: datetime | None = None
    ) -> int:
        """Send failed, expired or uncertain mails of a running experiment again; returns how many will be.

        Addresses that were suppressed since get nothing.

        Args:
            name: The experiment.
            state: ``failed``, ``expired`` or ``uncertain``.
            messages: Their ids; all of that state by default.
            now: From when on they are due.

        Raises:
            UnknownExperiment: None of that name was applied.
            StoreError: The experiment has ended.
            ValueError: The state is another one.
        """
        if state not in _RETRIED:
            raise ValueError(f"mails that are {state!r} cannot be sent again; {', '.join(_RETRIED)} ones can")
        if self.store.experiment(name).state != "running":
            raise StoreError(f"experiment {name} has ended", hint="give the new test a name of its own")
        return self.store.retry(name, state=State(state), now=now or self._clock(), messages=messages)

    def _past(self, stored: StoredExperiment) -> Past:
        """What the account's earlier experiments say, as it was when this one was applied: read once."""
        if stored.name not in self._pasts:
            earlier = [one for one in self.store.experiments() if one.started_at < stored.started_at]
            known = [self._evidence_alone(one, stored.started_at) for one in earlier]
            self._pasts[stored.name] = past_of(self._definitions.of(stored), known)
        return self._pasts[stored.name]

    def stop_arm(self, name: str, arm: str, *, why: str = "", now: datetime | None = None) -> bool:
        """Give one cell no more mail from the next epoch on; its share goes to the others. The experiment goes on.

        Args:
            name: The experiment.
            arm: Name of the cell.
            why: Noted with it.
            now: Time of the deed.

        Returns:
            False where it had been stopped before.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: No cell of that name exists, or the others could not do without it: the control, the last one.
        """
        stored = self.store.experiment(name)
        experiment = self._definitions.of(stored)
        cell = experiment.cell(arm)
        if cell == experiment.control_cell:
            raise ValueError(f"{arm} is the control, with which the others are compared: stop {name}, or ship a cell")
        gone = {one.cell for one in self.store.stopped_arms(name)} | {cell.name}
        if all(one.name in gone for one in experiment.cells):
            raise ValueError(f"{arm} is the last cell of {name} that gets mail: stop the whole experiment")
        note = StoppedArm(cell=cell.name, at=now or self._clock(), reason=why or reason("by_hand"), by="hand")
        return self.store.stop_arm(name, note)

    def stop(self, name: str, *, ship: str | None = None, why: str = "", now: datetime | None = None) -> int:
        """Stop an experiment by hand; returns the number of mails that will not go out.

        Args:
            name: The experiment.
            ship: Name of the cell that everybody else gets; without it nobody else gets mail.
            why: Noted with the verdict.
            now: Time of the deed.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: No cell of that name exists.
        """
        now = now or self._clock()
        stored = self.store.experiment(name)
        said = why or reason("by_hand")
        words = {"reason": said, "reason_ja": why or in_japanese(said)}
        if ship is not None:
            arm = self._definitions.of(stored).cell(ship).name
            verdict = {"state": "stopped", "arm": arm, **words, "then": "send_winner"}
            self.store.end_experiment(name, state="running", verdict=verdict, now=now)
            return 0
        verdict = dict(stored.verdict or {"state": "stopped", "arm": None, **words, "then": "stop"})
        self.store.end_experiment(name, state="stopped", verdict=verdict, now=now)
        return self.store.cancel_queued(name)
