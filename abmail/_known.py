"""What a policy learns from, and the weights that come of it: one pure function for the engine and the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abmail import _planning as planning
from abmail._by_company import thinning
from abmail._evidence import Evidence, curve_of, policy_counts, stacked
from abmail._reasons import reason
from abmail.bandit import (
    ArmCurves,
    BySegment,
    ChanceToBeBest,
    DelayCurve,
    EpsilonGreedy,
    ExplorationSampling,
    Factorial,
    Fixed,
    Hierarchical,
    Policy,
    Sharpened,
    TestThenSend,
    Thompson,
    TopTwo,
    Uniform,
    faded,
    quantise,
    weights_over,
)
from abmail.spec import Experiment
from abmail.stats import Counts
from abmail.store import BIN_SECONDS

__all__ = [
    "Known",
    "Shares",
    "arm_curves",
    "factorial_of",
    "known",
    "learning_segments",
    "policy_of",
    "prior_of",
    "shares_of",
]

Floats = NDArray[np.float64]

_MOST_WORTH: Final = 20.0
"""Mails that the running variants' rate is worth to a new one: a stronger prior slows learning down."""

_MOST_STRATA: Final = 300
"""Combinations of attributes that a contextual policy tells apart."""

_MOST_SEGMENTS: Final = 40
"""Segments that learn for themselves; with more of them a model takes long and the small ones learn nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a policy learns from.

    Attributes:
        counts: Sends and answers, one row for each epoch, or for each epoch and segment.
        exposures: (n_scenarios, n_rows, n_arms) delay-weighted trials in each picture of the delays.
        chances: (n_scenarios,) chance of each picture.
    """

    counts: Counts
    exposures: Floats
    chances: Floats

    @property
    def expected(self) -> Counts:
        """The counts with the exposure that is to be expected over the pictures of the delays."""
        mean = np.tensordot(self.chances / self.chances.sum(), self.exposures, axes=1)
        return self.counts.exposed(np.clip(mean, self.counts.successes, self.counts.n))

    def fading(self, keep: Floats) -> Known:
        """Old rows count less: see `abmail.bandit.faded`."""
        counts = faded(self.counts, keep)
        exposures = np.clip(self.exposures * keep[None, :, None], counts.successes, counts.n)
        return Known(counts=counts, exposures=exposures, chances=self.chances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Weights of an epoch that opens.

    Attributes:
        weights: (n_arms,) for everybody whose segment has none of its own.
        segments: Segment -> its weights.
    """

    weights: tuple[float, ...]
    segments: Mapping[str, tuple[float, ...]]


def arm_curves(evidence: Evidence) -> ArmCurves:
    """How long answers to each arm take: one curve for all, and curves that differ, by the evidence for either."""
    epoch, _, age, n = evidence.ages
    sent = np.bincount(epoch, n, len(evidence.epochs))
    mean_age = np.bincount(epoch, age * n, len(evidence.epochs)) / np.maximum(sent, 1)
    seen_in, arm, where, seen = evidence.tally.rows(evidence.outcome)
    delay = (where + 0.5) * BIN_SECONDS
    expected = evidence.expected_delays
    prior = expected.pop("prior", None) or DelayCurve.default(window=evidence.window)
    return DelayCurve.fit_by_arm(
        delay, np.maximum(mean_age[seen_in], delay) if len(delay) else delay, arm,
        n_arms=len(evidence.experiment.cells), counts=seen, window=evidence.window, prior=prior.in_steps(BIN_SECONDS),
        **expected,
    )  # fmt: skip


def known(evidence: Evidence) -> Known:
    """What the policy of an experiment may learn from now; old epochs count less where the definition says so."""
    n_epochs = len(evidence.epochs)
    if not n_epochs:
        counts = policy_counts(evidence, curve_of(evidence))
        return Known(counts=counts, exposures=counts.exposure[None], chances=np.ones(1))
    curves = arm_curves(evidence)

    def exposures(part: Evidence) -> Floats:
        epoch, cell, age, n = part.ages
        return curves.exposures(epoch, cell, age, n, n_epochs=n_epochs)

    counts, pictures = stacked(evidence, [learning_segments(evidence)] * n_epochs, exposures)
    found = Known(counts=counts, exposures=pictures, chances=curves.chances)
    if evidence.companies:
        found = found.fading(np.full(len(counts.n), thinning(evidence)))
    half_life = evidence.experiment.allocation.half_life
    if half_life is None:
        return found
    ages = np.array([(evidence.now - e.opened_at) / half_life for e in evidence.epochs])[list(found.counts.epochs)]
    return found.fading(0.5 ** np.maximum(ages, 0.0))


def learning_segments(evidence: Evidence) -> tuple[str, ...]:
    """The segments that get weights of their own: the largest so far; the others go with everybody else."""
    sizes = {name: int(tally.n[tally.metric == "sent"].sum()) for name, tally in evidence.strata.items()}
    most = _MOST_STRATA if evidence.experiment.allocation.features else _MOST_SEGMENTS
    return tuple(sorted(sorted(sizes, key=lambda name: (-sizes[name], name))[:most]))


def shares_of(evidence: Evidence, policy: Policy) -> Shares:
    """The weights of the epoch that opens now, from what the counts and the delays say.

    Args:
        evidence: All that is known; arms that were stopped get nothing, new ones start at the floor.
        policy: As `policy_of` gives it.
    """
    if isinstance(policy, Uniform | Fixed | TestThenSend):
        counts = policy_counts(evidence, curve_of(evidence))
        return Shares(weights=_plain(policy.weights(counts, active=evidence.active)), segments={})
    have, fresh = known(evidence), _fresh(evidence)
    tried = tuple(on and not new for on, new in zip(evidence.active, fresh, strict=True))

    def shares(weights: Floats) -> tuple[float, ...]:
        return _plain(_with_newcomers(weights, fresh, evidence))

    if not isinstance(policy, BySegment):
        weights = weights_over(policy, have.counts, have.exposures, have.chances, active=tried)
        return Shares(weights=shares(weights), segments={})
    counts, names = have.expected, learning_segments(evidence)
    own = policy.weights_by_segment(counts, segments=names, active=tried) if names else ()
    everybody = policy.weights(counts, active=tried)
    return Shares(
        weights=shares(everybody), segments={name: shares(row) for name, row in zip(names, own, strict=True)}
    )  # fmt: skip


def _fresh(evidence: Evidence) -> tuple[bool, ...]:
    """The arms that were added while the experiment ran and have no mail yet; none where all are new."""
    sent = evidence.sent.sum(axis=0)
    added = np.arange(len(sent)) >= evidence.n_arms_at_start
    new = added & (sent == 0) & evidence.active
    others = (np.array(evidence.active) & ~new).any()
    return tuple(bool(one and others) for one in new)


def _with_newcomers(weights: Floats, fresh: tuple[bool, ...], evidence: Evidence) -> Floats:
    """New arms start at the floor; the others share the rest as they would without them."""
    new = np.array(fresh)
    if not new.any():
        return weights
    floor = min(evidence.experiment.min_weight, 1 / len(weights))
    return quantise(np.where(new, floor, weights * (1 - floor * new.sum())))


def _plain(weights: Floats) -> tuple[float, ...]:
    return tuple(float(w) for w in weights)


# -- policies ---------------------------------------------------------------------------------------------------------


def policy_of(evidence: Evidence) -> tuple[Policy, str]:
    """The policy that a definition asks for, and its name in words."""
    experiment, settings = evidence.experiment, evidence.experiment.allocation
    match settings.policy:
        case "uniform":
            return Uniform(), reason("even")
        case "fixed":
            shares = settings.weights or {}
            return Fixed(shares=tuple(shares[cell.name] for cell in experiment.cells)), reason("fixed")
        case "test_then_send":
            wait = settings.every.total_seconds()
            policy = TestThenSend(share=settings.first_wave, wait=wait, planned=sum(evidence.waves) or None)
            return policy, reason("test_then_send")
        case "epsilon_greedy":
            epsilon = min(1.0, experiment.min_weight * len(experiment.cells))
            return EpsilonGreedy(epsilon=epsilon, prior=prior_of(evidence)), reason("epsilon_greedy")
    rule, words = _rule(evidence)
    return _structured(experiment, rule), words


def _rule(evidence: Evidence) -> tuple[ChanceToBeBest, str]:
    """How the chance to be the best becomes shares."""
    experiment, settings = evidence.experiment, evidence.experiment.allocation
    floor, prior = experiment.min_weight, prior_of(evidence)
    if settings.policy == "top_two":
        return TopTwo(min_weight=floor, prior=prior), reason("top_two")
    if settings.policy == "exploration":
        return ExplorationSampling(min_weight=floor, prior=prior), reason("exploration")
    if (lean := settings.lean(len(experiment.factors))) > 1:
        planned = None if settings.standing else sum(evidence.waves) or None
        return Sharpened(planned=planned, power=lean, min_weight=floor, prior=prior), reason(settings.goal)
    return Thompson(min_weight=floor, prior=prior), reason("thompson")


def _structured(experiment: Experiment, rule: ChanceToBeBest) -> Policy:
    if (contextual := planning.contextual_of(experiment, rule)) is not None:
        return contextual
    if len(experiment.factors) > 1:
        return factorial_of(experiment, rule)
    return Hierarchical(rule=rule) if experiment.allocation.segments else rule


def factorial_of(experiment: Experiment, rule: ChanceToBeBest) -> Factorial:
    """The factorial model of an experiment's cells, in their order."""
    levels = {str(factor): tuple(levels) for factor, levels in experiment.factors.items()}
    order = experiment.order
    return Factorial.of(levels, order=() if order == tuple(range(len(order))) else order, rule=rule)


def prior_of(evidence: Evidence) -> tuple[float, float] | None:
    """What is expected of a variant before its first mail: the account's rate, else that of the running variants."""
    if evidence.past.prior.learnt:
        return evidence.past.prior.beta
    n, k = int(evidence.trials.sum()), int(evidence.successes.sum())
    added = len(evidence.epochs) > 0 and evidence.n_arms_at_start < len(evidence.experiment.cells)
    if not added or not 0 < k < n:
        return None
    return _MOST_WORTH * k / n, _MOST_WORTH * (1 - k / n)
