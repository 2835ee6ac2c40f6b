"""What the account's earlier experiments say about a new one, taken from their counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail.bandit import AccountCurve, AccountPrior, curve_from_history, prior_from_history
from abmail.spec import Experiment
from abmail.store import BIN_SECONDS

if TYPE_CHECKING:
    from abmail._evidence import Evidence

__all__ = ["NO_PAST", "Past", "past_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is expected before the first mail.

    Attributes:
        prior: Where the variants' rates are expected; flat where too little is known.
        curve: How long answers take; None without any answer.
    """

    prior: AccountPrior = field(default_factory=lambda: AccountPrior(a=1.0, b=1.0, experiments=0, arms=0))
    curve: AccountCurve | None = None


NO_PAST: Final = Past()
"""Of an account's first experiment."""


def past_of(experiment: Experiment, earlier: Iterable[Evidence]) -> Past:
    """Learn from earlier experiments what to expect of one.

    Only epochs count whose window, as long as this experiment's, had closed.

    Args:
        experiment: The one to come; its primary metric and window count.
        earlier: The others, as they stood when it began.
    """
    window = experiment.metrics.window.total_seconds()
    sent, seen, names, delays, n, sources = [], [], [], [], [], []
    for one in earlier:
        same = replace(one, experiment=replace(one.experiment, metrics=experiment.metrics))
        closed = same.n_mature
        mails = same.sent[:closed].sum(axis=0)
        sent += mails.tolist()
        seen += np.minimum(same.successes[:closed].sum(axis=0), mails).tolist()
        names += [one.experiment.name] * len(mails)
        epoch, _, where, number = same.tally.rows(same.outcome)
        delay = (where + 0.5) * BIN_SECONDS
        kept = (epoch < closed) & (delay < window)
        delays += delay[kept].tolist()
        n += number[kept].tolist()
        sources += [one.experiment.name] * int(kept.sum())
    ages = np.full(len(delays), window)
    return Past(
        prior=prior_from_history(seen, sent, names),
        curve=curve_from_history(delays, ages, sources, counts=n, window=window) if delays else None,
    )  # fmt: skip
