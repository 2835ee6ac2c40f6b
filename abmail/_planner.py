"""Planner: what an experiment would do with this database's people, and putting that plan into force."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from abmail import _planning as planning
from abmail._delivery import Delivery
from abmail._engine_values import Applied
from abmail._evidence import Evidence
from abmail._planning import Plan
from abmail._power_report import Baseline, PowerReport, ReadOff, past_rate, past_spread, power_report
from abmail._survey import Survey
from abmail.errors import StoreError
from abmail.recipient import Recipient
from abmail.simulate import Truth, typical_truth
from abmail.spec import Experiment
from abmail.stats import design_effect
from abmail.store import Candidate, Store, StoredExperiment

__all__ = ["Planner"]


class Planner:
    """Plans experiments and applies the plans.

    Args:
        store: Recipients, versions and the ledger.
        delivery: Reads the project's templates.
        earlier: What was known of an applied experiment at a moment.
        message_ids: For an experiment's name, what gives the message's id for a recipient's.
    """

    def __init__(
        self,
        store: Store,
        delivery: Delivery,
        *,
        earlier: Callable[[StoredExperiment, datetime], Evidence],
        message_ids: Callable[[str], Callable[[str], str]],
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._evidence = earlier
        self._message_ids = message_ids

    def plan(
        self,
        experiment: Experiment,
        recipients: Iterable[Recipient] | None = None,
        *,
        template: str | None = None,
        text_template: str | None = None,
        survey: Survey | None = None,
    ) -> Plan:
        """See `Engine.plan`; ``survey`` counts the audience on the way."""
        message = experiment.message
        if template is None:
            template = self._delivery.template(message.template)
        if text_template is None and message.text_template:
            text_template = self._delivery.template(message.text_template)
        files = self._delivery.files(experiment, template, text_template)
        self._delivery.renderer_for(experiment, template, text_template, files)
        given = None if recipients is None else tuple(recipients)
        stored, roll = self.stored(experiment.name), planning.Roll()
        portions = roll.note(planning.audience(experiment, self._everybody(experiment.name, given)))
        seen = portions if survey is None else survey.note(portions)
        selection = sum((portion.selection for portion in seen), planning.Selection())
        before = self._store.files(stored.name, stored.version) if stored else {}
        plan = Plan(
            experiment=experiment,
            template=template,
            text_template=text_template,
            selection=selection,
            waves=planning.waves(experiment, selection.chosen),
            against_version=stored.version if stored else 0,
            changes=planning.changes_to(stored, experiment, template, text_template, files=(before, files)),
            recipients=given,
            files=files,
            roll=roll.digest if given is None else "",
        )
        return replace(plan, warnings=tuple(planning.warnings(plan)))

    def apply(self, plan: Plan, *, now: datetime) -> Applied:
        """See `Engine.apply`."""
        experiment = plan.experiment
        stored = self.stored(experiment.name)
        planning.require_applicable(plan, stored)
        barred: frozenset[str] = frozenset()
        if plan.recipients is not None:
            imported = self._store.import_recipients(plan.recipients, now=now)
            barred = frozenset((*imported.conflicts, *imported.forgotten))
        known = None if plan.recipients is None else {r.id: r for r in plan.recipients if r.id not in barred}
        given = None if known is None else list(known.values())
        chosen = None if given is None else list(self._everybody(experiment.name, given))

        def rows(stored_people: Iterator[Candidate]) -> Iterator[Mapping[str, object]]:
            roll, people = planning.Roll(), stored_people if chosen is None else chosen
            portions = roll.note(planning.audience(experiment, people))
            yield from planning.ledger_rows(experiment, portions, message_id=self._message_ids(experiment.name))
            planning.require_same_people(plan, roll)

        version, added = self._store.apply(
            experiment.name,
            spec_hash=experiment.spec_hash,
            content_hash=plan.content_hash,
            definition=experiment.resolved(),
            template=plan.template,
            text_template=plan.text_template,
            files=plan.files,
            waves=plan.waves,
            messages=rows,
            after_version=plan.against_version,
            now=now,
        )
        new = version != (stored.version if stored else 0)
        return Applied(experiment=experiment.name, version=version, new_version=new, added=added)

    def stored(self, name: str) -> StoredExperiment | None:
        """The applied experiment of that name; None where there is none."""
        with suppress(LookupError):
            return self._store.experiment(name)
        return None

    def _everybody(self, name: str, given: Iterable[Recipient] | None = None) -> Iterator[Candidate]:
        """The recipients that were given, or all stored ones, with what bars a mail of an experiment."""
        if given is None:
            return self._store.candidates(name)
        suppressed, known = self._store.suppressed(), self._store.in_ledger(name)
        return (Candidate.of(each, suppressed.get(each.email), known=each.id in known) for each in given)

    def first(self, experiment: Experiment, email: str | None) -> Recipient | None:
        """The first stored recipient in the segment, or the one with an address; None where there is none."""
        everybody = (Candidate(each, "", False) for each in self._store.recipients())
        portions = planning.audience(experiment, everybody)
        people = (each.recipient for portion in portions for each in portion.members)
        return next((each for each in people if email in {None, each.email}), None)

    def size(self, experiment: Experiment) -> int:
        """People in the audience, held out ones included.

        Raises:
            StoreError: There is nobody.
        """
        found = planning.select(experiment, self._everybody(experiment.name))
        if not found.chosen + found.held_out:
            hint = "import a list, or say how many people it will have: --recipients 20000"
            raise StoreError(f"there is nobody in the audience of {experiment.name}", hint=hint)
        return found.chosen + found.held_out

    def power(
        self,
        experiment: Experiment,
        *,
        n: int | None,
        baseline: float | None,
        effect: float | None,
        per_day: float | None,
        icc: float | None,
        read: ReadOff,
        now: datetime,
    ) -> PowerReport:
        """See `Engine.power`."""
        if n is None:
            selection = planning.select(experiment, self._everybody(experiment.name))
            mails, held = selection.chosen, selection.held_out
        else:
            mails, held = planning.expected_mails(experiment, n)
        mails = planning.tested(experiment, mails)
        if icc is not None:
            sizes = planning.company_sizes(experiment, self._everybody(experiment.name))
            read = replace(read, design_effect=design_effect(sizes, icc))
        return power_report(
            experiment, recipients=mails + held, mails=mails, baseline=self.baseline(experiment, baseline, now=now),
            effect=effect, per_day=per_day, read_off=read,
        )  # fmt: skip

    def baseline(self, experiment: Experiment, given: float | None = None, *, now: datetime) -> Baseline | None:
        """The rate to expect: the given one, the definition's, or that of earlier mailings; None without any."""
        rate = experiment.analysis.baseline
        if given is not None:
            return Baseline(rates=(given,), source="given")
        if rate is not None:
            return Baseline(rates=(rate,), source="definition")
        return past_rate(experiment, self._earlier(experiment.name, now))

    def typical_truth(self, experiment: Experiment, now: datetime) -> Truth:
        """Rates spread as those of earlier experiments here."""
        return typical_truth(experiment, past_spread(experiment, self._earlier(experiment.name, now)))

    def _earlier(self, name: str, now: datetime) -> Iterator[Evidence]:
        """What is known of the other experiments."""
        for stored in self._store.experiments():
            if stored.name != name:
                yield self._evidence(stored, now)
