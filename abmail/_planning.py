"""What an experiment would send, to whom and when it may: the pure part of the engine's plan."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from abmail._company import home_of
from abmail._hash import HASH_BITS, hash52_array
from abmail._reasons import in_japanese, reason
from abmail.assign import HOLDOUT, assign_array, salt_of, unit_of
from abmail.audience import in_segment
from abmail.bandit import ChanceToBeBest, Contextual, Thompson
from abmail.errors import StalePlan, StoreError
from abmail.recipient import Recipient, email_domain
from abmail.sendtime import zone_of as guessed_zone
from abmail.spec import Experiment
from abmail.stats import FEWEST_SUCCESSES, Decision, Futility
from abmail.store import Candidate, State, StoredExperiment

if TYPE_CHECKING:
    from abmail._wording import Language

__all__ = [
    "Change",
    "Plan",
    "Portion",
    "Roll",
    "Selection",
    "audience",
    "changes",
    "changes_to",
    "company_sizes",
    "contextual_of",
    "expected_mails",
    "ledger_rows",
    "order_of",
    "positions",
    "require_applicable",
    "require_same_people",
    "segments_of",
    "select",
    "tested",
    "too_few",
    "units",
    "verdict_on",
    "verdict_on_size",
    "warnings",
    "waves",
    "zone_of",
]

_PORTION: Final = 5_000
_ROLLS: Final = 1 << 64
_SMALLEST_WAVE: Final = 200
_COMPANY_BITS: Final = 40  # of a place in the order of the waves that the company decides
_COLLEAGUE_BITS: Final = 22  # and those that the person does: together they fit into a database's integers
_FROZEN: Final = (
    "factors", "control", "salt", "audience.holdout", "audience.unit", "metrics.primary", "metrics.window",
    "analysis.alpha", "message.template", "message.text_template", "template",
    "message.attachments", "message.images", "message.inline_css", "file ",
)  # fmt: skip
"""Settings that cannot change while an experiment runs: they move people between variants or change the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that differs from the stored version.

    Attributes:
        path: Dotted path of the setting, such as ``stop.after``; ``template`` for the mail's own source.
        before: The stored value.
        after: The new value.
        risky: Whether the change would break a running test.
    """

    path: str
    before: Any
    after: Any
    risky: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The audience of an experiment among the recipients, in numbers.

    Attributes:
        chosen: Who get a mail.
        held_out: Who belong to the audience and deliberately get none.
        suppressed: Those in the segment who must never be mailed.
        outside: Those outside the segment.
        new: Those of the audience who have no row in the ledger yet, held out ones included.
    """

    chosen: int = 0
    held_out: int = 0
    suppressed: int = 0
    outside: int = 0
    new: int = 0

    def __add__(self, other: Selection) -> Selection:
        return Selection(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """A part of the audience, small enough for memory.

    Attributes:
        members: Who are in the segment and may be mailed.
        held: For each of them, whether mail is withheld deliberately.
        barred: Those in the segment who must never be mailed.
        outside: Number of those outside the segment.
    """

    members: tuple[Candidate, ...]
    held: tuple[bool, ...]
    barred: tuple[Candidate, ...]
    outside: int

    @property
    def selection(self) -> Selection:
        """It in numbers."""
        held = sum(self.held)
        return Selection(
            chosen=len(self.members) - held, held_out=held, suppressed=len(self.barred), outside=self.outside,
            new=sum(not each.known for each in self.members),
        )  # fmt: skip


class Roll:
    """Who is in a segment, as a hash: tells whether a list is still the one that a plan was made for.

    Those who must never be mailed are in it: an unsubscribe after the plan takes a mail away, and makes no plan stale.
    """

    def __init__(self) -> None:
        self._sum = 0

    def note(self, portions: Iterable[Portion]) -> Iterator[Portion]:
        """Pass portions on, and note who is in them."""
        for portion in portions:
            ids = [each.recipient.id for each in (*portion.members, *portion.barred)]
            hashed = hash52_array("who is in the segment", ids) if ids else np.zeros(0, dtype=np.int64)
            self._sum = (self._sum + int(hashed.astype(np.uint64).sum())) % _ROLLS
            yield portion

    @property
    def digest(self) -> str:
        """16 hex digits, whatever the order of the people."""
        return f"{self._sum:016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `Engine.apply` would do.

    Attributes:
        experiment: The definition.
        template: Source of the HTML template.
        text_template: Source of the text template, None where the text is made from the HTML.
        files: What they include, the attachments and pictures: path in the project -> content.
        selection: The audience.
        waves: Planned number of mails in each epoch.
        against_version: The stored version that the plan was made against, 0 for none.
        changes: What differs from that version.
        recipients: Recipients that came with the plan and are stored with it; None where the store's own were used.
        warnings: What a marketer should know before applying, one sentence each.
        roll: Hash of who is in the segment of the stored list; empty where recipients came with the plan.
    """

    experiment: Experiment
    template: str
    text_template: str | None
    selection: Selection
    waves: tuple[int, ...]
    against_version: int
    changes: tuple[Change, ...] = ()
    recipients: tuple[Recipient, ...] | None = None
    warnings: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    roll: str = ""

    @property
    def new(self) -> int:
        """Number of recipients of the audience who have no row in the ledger yet, held out ones included."""
        return self.selection.new

    @property
    def content_hash(self) -> str:
        """Hash of the definition, the templates and the files."""
        parts: list[object] = [self.experiment.spec_hash, self.template, self.text_template]
        if self.files:
            parts.append({path: _digest(content) for path, content in sorted(self.files.items())})
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def as_shown(self, saved: Mapping[str, Any]) -> Plan:
        """The same plan, to be applied only where it is still what a saved one showed.

        Args:
            saved: As `PlanReport.to_dict` made it.

        Raises:
            StalePlan: Definition, templates or files are others now.
        """
        if saved["content_hash"] != self.content_hash:
            raise StalePlan(
                f"the definition of {self.experiment.name}, or a file of its mails, changed after the plan was made",
                hint="make the plan again",
            )
        return replace(self, against_version=saved["against_version"], roll=saved["roll"])

    @property
    def risky(self) -> tuple[Change, ...]:
        """The changes that would break a running test."""
        return tuple(change for change in self.changes if change.risky)

    def to_dict(self) -> dict[str, Any]:
        """The plan in numbers, JSON-able; no person in it."""
        cells = {cell.name: dict(cell.content) for cell in self.experiment.cells}
        return {
            "format_version": 1,
            "experiment": self.experiment.name,
            "spec_hash": self.experiment.spec_hash,
            "mails": self.selection.chosen,
            "held_out": self.selection.held_out,
            "suppressed": self.selection.suppressed,
            "outside_segment": self.selection.outside,
            "new": self.new,
            "waves": list(self.waves),
            "cells": cells,
            "changes": [{"path": c.path, "before": c.before, "after": c.after, "risky": c.risky} for c in self.changes],
            "warnings": list(self.warnings),
        }


def units(experiment: Experiment, recipients: Sequence[Recipient]) -> list[str]:
    """The text that is hashed for each recipient: the id, or the company's domain where it is the unit (`unit_of`)."""
    unit = experiment.audience.unit
    if unit == "recipient":  # a list of a million need not be taken apart for nothing
        return [r.id for r in recipients]
    return [unit_of(r.id, email_domain(r.email), unit) for r in recipients]


def segments_of(experiment: Experiment, recipients: Sequence[Recipient]) -> list[str]:
    """The segment that each recipient learns with; empty without one."""
    if (policy := contextual_of(experiment)) is not None:
        return [policy.stratum(recipient.attributes) for recipient in recipients]
    name = experiment.allocation.segments
    if name is None:
        return [""] * len(recipients)
    if name == "domain":
        return [email_domain(recipient.email) for recipient in recipients]
    return [str(recipient.attributes.get(name, "")) for recipient in recipients]


def contextual_of(experiment: Experiment, rule: ChanceToBeBest | None = None) -> Contextual | None:
    """The policy that goes by the recipients' attributes; None where the definition asks for none."""
    features = experiment.allocation.features
    if not features:
        return None
    texts = {name: [v for v in values if isinstance(v, str)] for name, values in features.items()}
    cuts = {name: [v for v in values if not isinstance(v, str)] for name, values in features.items()}
    return Contextual.of(
        categories={name: values for name, values in texts.items() if values},
        numbers={name: values for name, values in cuts.items() if values},
        rule=Thompson() if rule is None else rule,
    )  # fmt: skip


def audience(experiment: Experiment, everybody: Iterable[Candidate]) -> Iterator[Portion]:
    """Find an experiment's audience, some thousands at a time.

    Args:
        experiment: The definition with its segment and holdout.
        everybody: All recipients, with what bars a mail.
    """
    source = iter(everybody)
    while page := list(itertools.islice(source, _PORTION)):
        inside = [each for each in page if in_segment(experiment.audience.segment, each.recipient)]
        members = tuple(each for each in inside if not each.suppressed)
        barred = tuple(each for each in inside if each.suppressed) if len(members) < len(inside) else ()
        names = units(experiment, [each.recipient for each in members])
        held = assign_array(experiment, names, weights=[1.0]) == HOLDOUT
        yield Portion(
            members=members, held=tuple(held.tolist()), barred=barred, outside=len(page) - len(inside),
        )  # fmt: skip


def select(experiment: Experiment, everybody: Iterable[Candidate]) -> Selection:
    """Count an experiment's audience."""
    return sum((portion.selection for portion in audience(experiment, everybody)), Selection())


def company_sizes(experiment: Experiment, everybody: Iterable[Candidate]) -> list[int]:
    """How many of those who get a mail each company has, by mail domain (see `home_of`).

    Raises:
        ValueError: The company is not the unit, or the audience is empty.
    """
    if experiment.audience.unit != "company":
        raise ValueError(
            "icc was given, but audience.unit is 'recipient': people who get their variant one by one need no "
            "correction; set unit: company or leave icc out"
        )
    sizes: Counter[str] = Counter()
    for portion in audience(experiment, everybody):
        chosen = (one.recipient for one, held in zip(portion.members, portion.held, strict=True) if not held)
        sizes.update(home_of(recipient.email) for recipient in chosen)
    if not sizes:
        raise ValueError("icc was given, but the audience has no companies yet: import a list first")
    return list(sizes.values())


def ledger_rows(
    experiment: Experiment, portions: Iterable[Portion], *, message_id: Callable[[str], str]
) -> Iterator[dict[str, object]]:
    """The rows of the ledger for those of the audience who have none yet.

    Args:
        experiment: The definition.
        portions: Its audience.
        message_id: Gives the message's id for a recipient's.
    """
    holdout = experiment.audience.holdout
    for portion in portions:
        people = [each.recipient for each in portion.members]
        places = positions(experiment, people)
        for candidate, held, position in zip(portion.members, portion.held, places, strict=True):
            if candidate.known:
                continue
            recipient = candidate.recipient
            yield {
                "id": message_id(recipient.id), "recipient": recipient.id, "position": position,
                "state": State.HELD_OUT.value if held else State.QUEUED.value,
                "zone": zone_of(experiment, recipient), "propensity": holdout if held else None,
            }  # fmt: skip


def positions(experiment: Experiment, recipients: Sequence[Recipient]) -> list[int]:
    """The order of the waves: a hash of its own, so that the first wave is a sample of the whole list."""
    ids = [recipient.id for recipient in recipients]
    return [int(p) for p in order_of(experiment, units(experiment, recipients), ids)]


def order_of(
    experiment: Experiment, hashed: Sequence[str] | NDArray[np.generic], ids: Sequence[str] | NDArray[np.generic]
) -> NDArray[np.int64]:
    """The order of the waves, (n,) numbers below 2^62.

    Args:
        experiment: The definition.
        hashed: (n,) what is assigned as one: the ids, or names of companies, whose people follow each other in an order
            of their own.
        ids: (n,) the recipients.
    """
    salt = f"order of the waves: {salt_of(experiment)}"
    position = hash52_array(salt, hashed)
    if experiment.audience.unit != "company":
        return position
    colleague = hash52_array(f"{salt}, people", ids) >> (HASH_BITS - _COLLEAGUE_BITS)
    return (position >> (HASH_BITS - _COMPANY_BITS) << _COLLEAGUE_BITS) | colleague


def waves(experiment: Experiment, n: int) -> tuple[int, ...]:
    """Planned sizes of the epochs for a list of ``n``.

    A policy that does not learn sends everything at once. One that learns gets the first wave's share, then equal
    waves, none under 200 recipients: smaller ones teach nothing and only cost time. A test before the rest is two
    waves, and a standing experiment takes whoever waits.
    """
    if not n:
        return ()
    settings = experiment.allocation
    if settings.policy == "test_then_send":
        test = tested(experiment, n)
        return (test, n - test) if test < n else (n,)
    first = min(n, max(math.ceil(settings.first_wave * n), _SMALLEST_WAVE))
    later = min(settings.waves - 1, (n - first) // _SMALLEST_WAVE)
    if settings.standing or not settings.learns or later < 1:
        return (n,)
    edges = np.rint(np.linspace(first, n, later + 1)).astype(int)
    return (first, *(int(size) for size in np.diff(edges)))


def tested(experiment: Experiment, n: int) -> int:
    """How many of ``n`` mails compare the variants; the rest of a ``test_then_send`` only sends what was chosen."""
    return (
        min(n, math.ceil(experiment.allocation.first_wave * n))
        if experiment.allocation.policy == "test_then_send"
        else n
    )


def expected_mails(experiment: Experiment, n: int) -> tuple[int, int]:
    """Mails and held out recipients that ``n`` people in the segment will be, about.

    Raises:
        ValueError: ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"n is {n}, must be a number of people, 0 or more")
    held = round(n * experiment.audience.holdout)
    return n - held, held


def too_few(experiment: Experiment, n: int, language: Language = "en") -> str:
    """Why a list could never name a winner, in a sentence; empty where it could.

    Needs ``analysis.baseline``, the rate to expect; without it every list is taken as large enough.
    """
    baseline = experiment.analysis.baseline
    expected = FEWEST_SUCCESSES if baseline is None else 2 * n * baseline / len(experiment.cells)
    if expected >= FEWEST_SUCCESSES:
        return ""
    if language == "ja":
        return (
            f"{n}件のメールで率が{baseline:.1%}なら、二つの案を合わせた成果は約{expected:.0f}件です。"
            f"勝者の判定には{FEWEST_SUCCESSES}件以上が必要です"
        )
    return (
        f"{n} mails at a rate of {baseline:.1%} bring about {expected:.0f} successes for each pair of variants; "
        f"{FEWEST_SUCCESSES} is the least from which a winner is named"
    )


def verdict_on_size(experiment: Experiment, n: int) -> dict[str, Any] | None:
    """What the definition wants done with a list that could never name a winner; None to go on."""
    english = too_few(experiment, n)
    why = (english, f"配信先{n:,}件では、勝者を判定するのに必要な成果の数に届きません。")
    return _verdict(experiment, "too_early", None, why, experiment.stop.too_small) if english else None


def verdict_on(
    experiment: Experiment,
    decision: Decision | None,
    *,
    age: timedelta,
    futility: Futility | None = None,
    stopped: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """What the stop rule makes of a decision, and of what there is still to gain; None to go on.

    The decision is None where no window has closed yet: the time that is allowed is then all that counts. ``stopped``
    has the reason for each cell that gets no more mail: such a one is not shipped, however well it did.
    """
    rule = experiment.stop
    if decision is not None and decision.state == "winner" and (why := (stopped or {}).get(decision.arm or "")):
        return _verdict(
            experiment, "stopped", None, _told("won_but_stopped", arm=decision.arm, reason=why), rule.inconclusive
        )
    if decision is not None and decision.state == "winner" and "winner" in rule.when:
        return _verdict(experiment, "winner", decision.arm, (decision.reason, ""), rule.then)
    if decision is not None and decision.state == "no_difference" and "futile" in rule.when:
        return _verdict(experiment, "no_difference", None, (decision.reason, ""), rule.inconclusive)
    if futility is not None and futility.stop and "futile" in rule.when:
        return _verdict(experiment, "stopped", None, (futility.sentence, futility.sentence_in("ja")), rule.inconclusive)
    if age >= rule.after:
        return _verdict(experiment, "stopped", None, _told("time_over"), rule.inconclusive)
    return None


def _told(name: str, **values: object) -> tuple[str, str]:
    english = reason(name, **values)
    return english, in_japanese(english)


def _verdict(
    experiment: Experiment, state: str, arm: str | None, why: tuple[str, str], then: str
) -> dict[str, Any] | None:
    """A verdict with why, in English and, where the state does not say it all, in Japanese."""
    if then == "keep_going":
        return None
    arm = experiment.control_cell.name if then == "send_control" else arm
    english, japanese = why
    return {"state": state, "arm": arm, "reason": english, "reason_ja": japanese, "then": then}


def warnings(plan: Plan, language: Language = "en") -> Iterator[str]:
    """What a marketer should know before applying."""
    mails, japanese = plan.selection.chosen, language == "ja"
    if not mails:
        english = "nobody would get a mail: check the segment and the imported list"
        yield "配信先が一人もいません。segmentと取り込んだリストを確かめてください" if japanese else english
    if mails and (why := too_few(plan.experiment, mails, language)):
        then = plan.experiment.stop.too_small
        yield f"{why}（stop.too_small：{then}）" if japanese else f"{why}; stop.too_small says {then}"
    settings = plan.experiment.allocation
    if mails and settings.learns and not settings.standing and len(plan.waves) == 1:
        english = f"{mails} mails are too few to learn in waves: all go out at once, split evenly"
        yield f"{mails}件では回を分けて学習できないため、全件を均等に分けて一度に送ります" if japanese else english


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Compare two resolved definitions setting by setting."""
    old, new = dict(_flat(before)), dict(_flat(after))
    paths = [*old, *(path for path in new if path not in old)]
    added = set(_added_levels(before["factors"], after["factors"])) if "factors" in before else set()
    return tuple(
        Change(path=p, before=old.get(p), after=new.get(p), risky=p.startswith(_FROZEN) and p not in added)
        for p in paths
        if old.get(p) != new.get(p)
    )


def _added_levels(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Paths of levels that a running experiment can take in: any new ones, as the cells that there are keep theirs."""
    if list(before) == list(after):
        yield from (f"factors.{f}.{level}" for f in before for level in after[f] if level not in before[f])


def changes_to(
    stored: StoredExperiment | None,
    experiment: Experiment,
    template: str,
    text_template: str | None,
    *,
    files: tuple[Mapping[str, bytes], Mapping[str, bytes]],
) -> tuple[Change, ...]:
    """What differs from the stored version, the mail's own sources included; ``files`` are those of both, old first."""
    if stored is None:
        return ()
    found = changes(Experiment.from_dict(stored.definition).resolved(), experiment.resolved())
    texts = (("template", stored.template, template), ("text_template", stored.text_template, text_template))
    mails = (Change(path=p, before=b, after=a, risky=True) for p, b, a in texts if b != a)
    before, after = ({path: _digest(content) for path, content in each.items()} for each in files)
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return (
        *found,
        *mails,
        *(Change(path=f"file {p}", before=before.get(p), after=after.get(p), risky=True) for p in changed),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def require_applicable(plan: Plan, stored: StoredExperiment | None) -> None:
    """Refuse a plan that is stale, or that would break what is running.

    Raises:
        StalePlan: Another version was applied since the plan was made.
        StoreError: The plan would break a running experiment, or the experiment has ended.
    """
    if stored is None:
        if plan.against_version:
            raise StalePlan(f"experiment {plan.experiment.name} is not in this database", hint="make the plan again")
        return
    if stored.content_hash == plan.content_hash and stored.version == plan.against_version + 1:
        return  # it is in force already
    if stored.version != plan.against_version:
        raise StalePlan(f"experiment {stored.name} is at version {stored.version} now", hint="make the plan again")
    if stored.state != "running" and (plan.changes or plan.new):
        raise StoreError(f"experiment {stored.name} has ended", hint="give the new test a name of its own")
    if plan.risky and stored.state == "running":
        paths = ", ".join(change.path for change in plan.risky)
        raise StoreError(
            f"experiment {stored.name} is running; changing {paths} would make its result worthless",
            hint=f"stop it (`abmail stop {stored.name}`) and give the new test a name of its own",
        )


def require_same_people(plan: Plan, found: Roll) -> None:
    """Refuse a plan whose list is another one now.

    Raises:
        StalePlan: Somebody joined or left the segment since.
    """
    if plan.roll and found.digest != plan.roll:
        raise StalePlan(
            f"the list changed after the plan of {plan.experiment.name} was made: somebody joined the segment, or left",
            hint="make the plan again",
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def zone_of(experiment: Experiment, recipient: Recipient) -> str:
    """The time zone whose clock decides when this recipient may get mail: the own one, else that of the country."""
    settings = experiment.send_time
    if settings.zone != "recipient":
        return settings.zone
    if recipient.zone:
        return recipient.zone
    country = recipient.attributes.get("country")
    return guessed_zone(None, str(country), settings.default_zone).zone if country else settings.default_zone
