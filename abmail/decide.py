"""What to do next with a running experiment, from all that is known of it: end it, or open an epoch with these weights.

Nothing here has a clock or a database. The engine does what comes out of it; the simulator plays the same decisions
through thousands of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from abmail import _planning as planning
from abmail._analysis import Evidence, curve_of, futility_of, mature_comparison, policy_counts
from abmail.bandit import Fixed, Policy, Thompson, Uniform
from abmail.spec import Experiment
from abmail.store import Epoch, State, StoredExperiment

__all__ = ["Evidence", "epoch_due", "is_due", "next_epoch", "policy_of", "ships", "verdict_due"]

_SHIP: Final = {"send_winner", "send_control"}


def verdict_due(evidence: Evidence) -> dict[str, Any] | None:
    """What the stop rule asks for now; None where it asks for nothing, or has asked before.

    Only mails whose window has closed are judged; the same verdict as `findings` would give, at a fraction of its cost.
    """
    stored, experiment = evidence.stored, evidence.experiment
    if stored.verdict is not None:
        return None
    if not evidence.epochs:
        return planning.verdict_on_size(experiment, sum(stored.waves))
    if not evidence.states.get(State.QUEUED):
        return None
    age = evidence.now - evidence.epochs[0].opened_at
    mature = mature_comparison(evidence)
    if mature is None:
        return planning.verdict_on(experiment, None, age=age)
    futility = futility_of(evidence, mature) if "futile" in experiment.stop.when else None
    return planning.verdict_on(experiment, mature.decision, age=age, futility=futility)


def ships(stored: StoredExperiment) -> bool:
    """Whether the test is decided and everybody who still waits gets one cell."""
    return bool(stored.verdict and stored.verdict.get("then") in _SHIP)


def epoch_due(stored: StoredExperiment, experiment: Experiment, epochs: Sequence[Epoch]) -> datetime | None:
    """When the next epoch may open; None where nothing holds it back."""
    return None if not epochs or ships(stored) else epochs[-1].opened_at + experiment.allocation.every


def is_due(evidence: Evidence) -> bool:
    """Whether an epoch may open now, as far as the time between two epochs goes."""
    due = epoch_due(evidence.stored, evidence.experiment, evidence.epochs)
    return due is None or evidence.now >= due


def next_epoch(evidence: Evidence, *, reachable: int) -> Epoch:
    """The epoch to open now, with its weights and why they are these.

    Args:
        evidence: All that is known now.
        reachable: Mails that wait and may go out now, at least 1.
    """
    stored, experiment = evidence.stored, evidence.experiment
    number = len(evidence.epochs)
    last = ships(stored) or number >= len(stored.waves) - 1
    policy, reason = _policy(stored, experiment)
    seed = experiment.allocation.seed + number
    counts = policy_counts(evidence, curve_of(evidence))
    return Epoch(
        number=number,
        version=stored.version,
        opened_at=evidence.now,
        size=0,
        planned=reachable if last else min(reachable, stored.waves[number]),
        weights=tuple(float(w) for w in policy.weights(counts, rng=seed)),
        policy=policy.to_dict(),
        seed=seed,
        reason=reason if number else f"first wave: {reason}",
    )


def policy_of(experiment: Experiment) -> tuple[Policy, str]:
    """The definition's policy, and its name in words."""
    settings = experiment.allocation
    if settings.policy == "uniform":
        return Uniform(), "even split"
    if settings.policy == "fixed":
        shares = settings.weights or {}
        return Fixed(shares=tuple(shares[cell.name] for cell in experiment.cells)), "fixed shares"
    return Thompson(min_weight=experiment.min_weight), "Thompson sampling over what is known so far"


def _policy(stored: StoredExperiment, experiment: Experiment) -> tuple[Policy, str]:
    """The policy of the next epoch, and why it is this one."""
    if ships(stored):
        verdict = stored.verdict or {}
        arm = verdict["arm"] if verdict["then"] == "send_winner" else experiment.control_cell.name
        one = [float(cell.name == arm) for cell in experiment.cells]
        return Fixed(shares=tuple(one)), f"everybody else gets {arm}: {verdict['reason']}"
    return policy_of(experiment)
