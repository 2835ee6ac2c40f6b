"""What to do next with a running experiment, from all that is known of it: end it, or open an epoch with these weights.

Nothing here has a clock or a database. The engine does what comes out of it; the simulator plays the same decisions
through thousands of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from abmail import _planning as planning
from abmail._analysis import broken_guardrails, futility_of, mature_comparison
from abmail._evidence import Evidence, curve_of, policy_counts
from abmail._known import policy_of, shares_of
from abmail._reasons import reason
from abmail.bandit import Fixed, Policy, TestThenSend
from abmail.spec import Experiment
from abmail.store import Epoch, State, StoredExperiment

__all__ = [
    "Evidence",
    "breaches",
    "epoch_due",
    "is_due",
    "next_epoch",
    "next_release",
    "policy_of",
    "shares_of",
    "ships",
    "verdict_due",
]

_SHIP: Final = {"send_winner", "send_control"}


def verdict_due(evidence: Evidence) -> dict[str, Any] | None:
    """What the stop rule asks for now; None where it asks for nothing, or has asked before.

    An experiment that stands asks for nothing: its champion can be dethroned at any time.

    Only mails whose window has closed are judged; the same verdict as `findings` would give, at a fraction of its cost.
    """
    stored, experiment = evidence.stored, evidence.experiment
    if stored.verdict is not None or experiment.allocation.standing:
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
    stopped = {arm.cell: arm.reason for arm in evidence.stopped}
    return planning.verdict_on(experiment, mature.decision, age=age, futility=futility, stopped=stopped)


def breaches(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """The cells to stop since they broke a limit, proved at any number of looks, each with the finding in words.

    The control is never among them, as the others are compared with it; nor is the last cell that still gets mail.
    """
    left = [cell.name for cell, on in zip(evidence.experiment.cells, evidence.active, strict=True) if on]
    broken = {g.arm: g.sentence for g in reversed(broken_guardrails(evidence))}
    control = evidence.experiment.control_cell.name
    found = [(name, broken[name]) for name in left if name in broken and name != control]
    return tuple(found[: max(len(left) - 1, 0)])


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


def next_release(evidence: Evidence, *, waiting: int, number: int, pending: int) -> int:
    """How many mails get a moment of their own now, where each has one before it gets a variant: a wave of them.

    Args:
        evidence: All that is known now.
        waiting: Mails without a moment.
        number: Number of the release, from 0.
        pending: Mails that have a moment and did not go out yet.
    """
    policy, _ = _policy(evidence)
    if ships(evidence.stored) or not isinstance(policy, TestThenSend):
        return _size(evidence, policy, waiting, number=number)
    counts = policy_counts(evidence, curve_of(evidence))
    room = policy.room(counts)
    if room is not None:
        return min(waiting, max(room - pending, 0))
    age = (evidence.now - max(evidence.last_send.values(), default=evidence.now)).total_seconds()
    return 0 if pending or policy.pause(counts, age=age) else waiting


def next_epoch(evidence: Evidence, *, reachable: int, whole: bool = False) -> Epoch:
    """The epoch to open now, with its weights and why they are these.

    Args:
        evidence: All that is known now.
        reachable: Mails that wait and may go out now, at least 1.
        whole: Whether all of them are in it, as their moments have come; by default it is the next wave of them.
    """
    stored, experiment = evidence.stored, evidence.experiment
    number = len(evidence.epochs)
    policy, why = _policy(evidence)
    shares = shares_of(evidence, policy)
    return Epoch(
        number=number,
        version=stored.version,
        opened_at=evidence.now,
        size=0,
        planned=reachable if whole else _size(evidence, policy, reachable, number=number),
        weights=shares.weights,
        segments=shares.segments,
        policy=policy.to_dict(),
        seed=experiment.allocation.seed + number,
        reason=why if number else reason("first_wave", reason=why),
    )


def _size(evidence: Evidence, policy: Policy, reachable: int, *, number: int) -> int:
    """Mails of a wave: as many as planned, or everybody who waits in the last one and where no end is planned."""
    stored = evidence.stored
    if ships(stored) or evidence.experiment.allocation.standing:
        return reachable
    if isinstance(policy, TestThenSend):
        room = policy.room(policy_counts(evidence, curve_of(evidence)))
        return reachable if room is None else min(reachable, room)
    return reachable if number >= len(stored.waves) - 1 else min(reachable, stored.waves[number])


def _policy(evidence: Evidence) -> tuple[Policy, str]:
    """The policy of the next epoch, and why it is this one."""
    verdict = evidence.stored.verdict
    if verdict is not None and ships(evidence.stored):
        experiment = evidence.experiment
        arm = verdict["arm"] if verdict["then"] == "send_winner" else experiment.control_cell.name
        one = [float(cell.name == arm) for cell in experiment.cells]
        return Fixed(shares=tuple(one)), reason("everybody_else", arm=arm, reason=verdict["reason"])
    return policy_of(evidence)
