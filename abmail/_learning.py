"""Learning what is common to all recipients, on a sample of them: decay, classes, appeal of campaigns, engagement."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import gammaln

from abmail._classes import Classes, Evidence, Prior, fit_classes, posterior, starting_shapes
from abmail._hazard import (
    CELL_OF,
    COLUMNS,
    HORIZON,
    N_CELLS,
    WEEK,
    cell_smoother,
    exposure_table,
    fit_ageing,
    refit_ageing,
    tally,
)
from abmail._memory import discounts, exposures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._history import Events

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Population", "appeals", "learn", "shipped", "with_random_sends"]

_SAMPLE: Final = (6_000, 12_000)  # fewest and most recipients
_SAMPLE_OPENS: Final = 30_000  # that are enough
_ROUNDS: Final = (40, 15, 10)  # of EM: first, with appeal and decay corrected, and at last
_PROFILE_OPENS: Final = 2_000.0
_N_CLASSES, _FEW_CLASSES, _FEW = 12, 6, 500
_APPEAL_PRIOR: Final = 20.0
_RESIDUALS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_BLOCK: Final = 4  # hours of a day that are taken together when the personal deviation is judged
_AGEING_MAILS: Final = 60_000
_RANDOM_SENDS, _HOUR_PRIOR = 1_000, 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What is common to all recipients.

    Attributes:
        ageing: (72,) decay with the age of a mail, hours; 1 when new.
        classes: Weekly habits.
        residual: How many opens it takes to move a recipient away from the classes.
        by_hour: (24,) factor on the hazard by local hour of sending; 1 until enough random sends have shown it.
        clicks_per_open: Of the account.
        random_opens: (24,) opens of mails whose hour was drawn at random, by local hour of sending.
        random_expected: (24,) opens that were expected of them.
        random_sends: How many such mails there were.
        opens: Human opens behind the classes.
    """

    ageing: Floats
    classes: Classes
    residual: float
    by_hour: Floats
    random_opens: Floats
    random_expected: Floats
    random_sends: float
    clicks_per_open: float
    opens: float

    def with_segments(self, n: int) -> Population:
        """With room for n segments; new ones begin with the mix of recipients without a segment."""
        shares = self.classes.shares
        more = np.tile(shares[:1], (n - len(shares), 1))
        return replace(self, classes=replace(self.classes, shares=np.concatenate([shares, more])))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some recipients: their mails, what is left of each, and their segments."""

    events: Events
    fading: Floats
    segment: Integers

    @classmethod
    def of(cls, events: Events, forget: float) -> _Sample:
        opens = np.bincount(events.row[events.hour >= 0], minlength=len(events.people))
        enough = int(np.searchsorted(np.cumsum(opens), _SAMPLE_OPENS)) + 1
        n = min(len(events.people), int(np.clip(enough, *_SAMPLE)))
        part = events.of_first(n)
        return cls(part, discounts(part.row, n, forget)[0].astype(np.float64), np.maximum(events.segment[:n], 0))

    def evidence(self, table: Floats, appeal: Floats) -> Evidence:
        events, n = self.events, len(self.segment)
        weight = self.fading * events.scale * (appeal[events.campaign] if len(appeal) else 1.0)
        seen = exposures(events, weight, 0, n, slice(0, len(events)))
        exposure = np.maximum(np.asarray(seen @ table.reshape(-1, WEEK), dtype=np.float64), 0)
        opened = events.hour >= 0
        at = events.row[opened] * WEEK + events.hour[opened]
        opens = tally(at, self.fading[opened], n * WEEK).reshape(n, WEEK)
        return Evidence(opens=opens, exposure=exposure, segment=self.segment)


def learn(events: Events, *, forget: float, profiles: bool, n_classes: int | None = None) -> tuple[Population, Floats]:
    """Fit the population, from the recipients whose keys come first: a sample that the order of rows doesn't change.

    Args:
        events: Mails of which it is known whether they were opened.
        forget: What a mail leaves of those before it.
        profiles: Whether the shipped profiles are the prior; they settle the number of classes.
        n_classes: Otherwise; 12, or 6 under 500 recipients, when None.

    Returns:
        The population, and the appeal of each campaign (n_campaigns,).
    """
    sample = _Sample.of(events, forget)
    prior = shipped() if profiles else None
    ageing, pooled = fit_ageing(_histogram(events))
    n_classes = n_classes or (_N_CLASSES if len(sample.segment) >= _FEW else _FEW_CLASSES)
    shapes = starting_shapes(pooled, n_classes) if prior is None else prior.classes.shapes
    appeal = np.ones(events.n_campaigns)
    for rounds in _ROUNDS[:-1]:
        table = exposure_table(ageing)
        evidence = sample.evidence(table, appeal)
        classes = fit_classes(evidence, shapes, n_segments=len(events.segments), prior=prior, rounds=rounds)
        weights, engagement = posterior(evidence, classes)
        shapes, level = classes.shapes, weights * engagement
        ageing = _ageing_again(sample.events, level @ shapes, appeal)
        appeal = _appeals(sample.events, level, table.reshape(-1, WEEK) @ shapes.T)
    evidence = sample.evidence(exposure_table(ageing), appeal)
    classes = fit_classes(evidence, shapes, n_segments=len(events.segments), prior=prior, rounds=_ROUNDS[-1])
    return Population(
        ageing=ageing, classes=classes, residual=_residual(evidence, classes), by_hour=np.ones(24),
        random_opens=np.zeros(24), random_expected=np.zeros(24), random_sends=0.0,
        clicks_per_open=events.clicks_per_open, opens=float((events.hour >= 0).sum()),
    ), appeal  # fmt: skip


def _histogram(events: Events) -> Floats:
    """(168, 73) mails by slot and outcome."""
    size = WEEK * (HORIZON + 1)
    return tally(events.slot * (HORIZON + 1) + events.outcome, events.scale, size).reshape(WEEK, HORIZON + 1)


@cache
def shipped() -> Prior:
    """The profiles that come with the package, learned from simulated people; worth 2,000 opens."""
    text = resources.files("abmail").joinpath("_profiles.json").read_text(encoding="utf-8")
    found = json.loads(text)
    shapes = np.array(found["shapes"])
    classes = Classes(
        shapes=shapes / shapes.mean(axis=1, keepdims=True), shares=np.array([found["shares"]]),
        alpha=float(found["alpha"]), beta=float(found["beta"]),
    )  # fmt: skip
    return Prior(classes, _PROFILE_OPENS)


def appeals(events: Events, level: Floats, population: Population) -> Floats:
    """Opens of each campaign against what its recipients would open of a usual one, drawn towards 1.

    Args:
        events: Mails.
        level: (n, K) class weight times engagement of each recipient.
        population: What is known of all.

    Returns:
        (n_campaigns,), (0,) where none are to be told apart.
    """
    if not events.n_campaigns:
        return np.ones(0)
    return _appeals(events, level, exposure_table(population.ageing).reshape(-1, WEEK) @ population.classes.shapes.T)


def _appeals(events: Events, level: Floats, by_class: Floats) -> Floats:
    expected = np.einsum("ek,ek->e", by_class[events.slot * COLUMNS + events.outcome], level[events.row])
    total = tally(events.campaign, expected * events.scale, events.n_campaigns)
    opens = tally(events.campaign, events.hour >= 0, events.n_campaigns)
    return np.asarray((opens + _APPEAL_PRIOR) / (total + _APPEAL_PRIOR))


def _ageing_again(events: Events, acting: Floats, appeal: Floats) -> Floats:
    """The decay, given each recipient's own activity (n, 168)."""
    m = min(len(events), _AGEING_MAILS)
    row, slot, age = events.row[:m], events.slot[:m], events.outcome[:m]
    level = events.scale[:m] * (appeal[events.campaign[:m]] if len(appeal) else 1.0)
    opens = np.bincount(age, minlength=HORIZON + 1)[:HORIZON].astype(np.float64)
    expected = np.zeros(HORIZON)
    for hour in range(HORIZON):
        risk = (age > hour) + 0.5 * (age == hour)
        expected[hour] = (risk * level * acting[row, (slot + hour) % WEEK]).sum()
    return refit_ageing(opens, expected, float(opens.sum()))


def _residual(evidence: Evidence, classes: Classes) -> float:
    """Strength of the prior on a recipient's own deviation, by marginal likelihood of blocks of four hours.

    Opens of a block are negative binomial around what the classes expect (Gamma-Poisson).
    """
    weights, engagement = posterior(evidence, classes)
    expected = ((weights * engagement) @ classes.shapes) * evidence.exposure
    block = (np.arange(N_CELLS) // _BLOCK)[CELL_OF]
    onto = np.eye(N_CELLS // _BLOCK)[block]
    mean, seen = expected @ onto + 1e-9, evidence.opens @ onto
    scores = []
    for c in _RESIDUALS:
        score = gammaln(c + seen) - gammaln(c) + c * np.log(c / (c + mean)) + seen * np.log(mean / (c + mean))
        scores.append(float(score.sum()))
    return _RESIDUALS[int(np.argmax(scores))]


def with_random_sends(population: Population, events: Events, hazard: Floats, appeal: Floats) -> Population:
    """Add what mails sent at random hours say about the hour of sending itself.

    Inboxes are fuller at some hours, and a mail is buried faster then: its opens fall behind what the readers' own
    activity makes expect. Only random hours show it; chosen ones go to the people who are best at them.

    Args:
        population: As it was.
        events: Mails; those that are not ``randomised`` are skipped.
        hazard: (r,) cumulated hazard of each randomised one until its open or the horizon, before the correction.
        appeal: (n_campaigns,) or (0,).
    """
    chosen = events.randomised
    level = events.scale[chosen] * (appeal[events.campaign[chosen]] if len(appeal) else 1.0)
    hour = events.slot[chosen] % 24
    opens = population.random_opens + tally(hour, events.hour[chosen] >= 0, 24)
    expected = population.random_expected + tally(hour, hazard * level, 24)
    n = population.random_sends + float(chosen.sum())
    by_hour = np.ones(24)
    if n >= _RANDOM_SENDS:
        even = expected * opens.sum() / max(float(expected.sum()), 1e-9)
        smooth = cell_smoother(0.8)[:24, :24]
        by_hour = (smooth @ opens + _HOUR_PRIOR) / (smooth @ even + _HOUR_PRIOR)
    return replace(population, by_hour=by_hour, random_opens=opens, random_expected=expected, random_sends=n)
