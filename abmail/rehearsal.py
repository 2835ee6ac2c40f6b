"""Before learned send times are switched on: what they would bring a list of that size, played on made-up readers.

The readers are made up, the work is not: each list's past is learned from by `SendTime.fit`, every mailing gets its
hours by `SendTime.decide`, with a control group and random hours, is learned from by `update`, and judged by `uplift`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from abmail._hazard import HORIZON, WEEK, reach
from abmail._readers import SHARES, START, People, history, people
from abmail._rehearsal_words import describe
from abmail.sendtime import History, SendTime, Uplift, UpliftStatus, control_group, uplift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["Plan", "Rehearsal", "rehearse"]

_REFIT: Final = (4, 16, 64)
"""Mailings after which all is learned anew, not only added."""

_APPEAL: Final = 0.3
"""Standard deviation of the campaigns' log appeal."""

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is played.

    Attributes:
        recipients: People on the list.
        past: Mails that each of them had before, most at the fixed hour or near it.
        mailings: Mailings to come, one a week, from Monday to Friday in turn.
        hours: First hour of the day at which mail may go out, and the one before which it must; 0 to 24.
        fixed: Hour of the control group and of all mail without learning.
        control: Share of the control group, fraction in [0, 0.5].
        explore: Share of random hours among the others, fraction in [0, 1].
        open_rate: Share that opens a mail of Tuesday at 10:00, fraction in (0, 0.7].
        strength: How much people differ: 1 for strong habits, 0 for none.
        kinds: Activity by local hour of the week of each kind of reader, (k, 168), and how common each is, (k,), such
            as a fitted model's; abmail's own eight kinds when None.
    """

    recipients: int
    past: int = 10
    mailings: int = 12
    hours: tuple[int, int] = (0, 24)
    fixed: int = 10
    control: float = 0.1
    explore: float = 0.05
    open_rate: float = 0.22
    strength: float = 1.0
    kinds: tuple[Floats, Floats] | None = None

    def __post_init__(self) -> None:
        first, last = self.hours
        for name, good, must in (
            ("recipients", self.recipients >= 1, "1 or more"),
            ("past", self.past >= 0, "0 or more"),
            ("mailings", self.mailings >= 1, "1 or more"),
            ("hours", 0 <= first < last <= 24, "two hours of a day, the first before the last"),
            ("fixed", first <= self.fixed < last, f"one of the allowed hours, {first} to {last - 1}"),
            ("control", 0 <= self.control <= 0.5, "in [0, 0.5]"),
            ("explore", 0 <= self.explore <= 1, "in [0, 1]"),
            ("open_rate", 0 < self.open_rate <= 0.7, "in (0, 0.7]"),
            ("strength", 0 <= self.strength <= 1, "in [0, 1]"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}, must be {must}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What came of r simulated lists.

    Attributes:
        plan: What was played.
        seed: Of the random numbers.
        opens_fixed: (r,) expected opens of all mailings if everybody were mailed at the fixed hour.
        opens: (r,) expected opens as it was done, control group and random hours included.
        opens_best: (r,) expected opens if each reader's best allowed hour were known.
        share: (r, mailings) share of the attainable gain that the chosen hours of a mailing reach.
        predicted: (r,) gain in opens over the fixed hour that the model expected of its chosen hours, as a fraction.
        proven: (r,) number of the mailing after which `uplift` first called the gain proven, 0 for never.
        lift: (r, 3) measured lift after the last mailing, and the ends of its interval for this look; NaN for too few.
        claimed: (r,) whether anything, good or bad, was ever claimed.
        covered: (r,) whether the interval after the last mailing holds the true effect; True for too few.
    """

    plan: Plan
    seed: int
    opens_fixed: Floats
    opens: Floats
    opens_best: Floats
    share: Floats
    predicted: Floats
    proven: Integers
    lift: Floats
    claimed: Booleans
    covered: Booleans

    def __len__(self) -> int:
        return len(self.opens)

    @property
    def gain(self) -> Floats:
        """(r,) opens more than at the fixed hour, as a fraction of those."""
        return self.opens / self.opens_fixed - 1

    @property
    def attainable(self) -> Floats:
        """(r,) opens more at everybody's best hour, as a fraction."""
        return self.opens_best / self.opens_fixed - 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; spans are the middle, and the 5 % and 95 % points over the simulated lists."""
        plan = self.plan
        some = self.proven > 0
        return {
            "format_version": FORMAT_VERSION,
            "plan": {
                "recipients": plan.recipients, "past": plan.past, "mailings": plan.mailings, "hours": list(plan.hours),
                "fixed": plan.fixed, "control": plan.control, "explore": plan.explore, "open_rate": plan.open_rate,
                "strength": plan.strength, "own_kinds": plan.kinds is not None,
            },
            "seed": self.seed,
            "replications": len(self),
            "opens_fixed": span(self.opens_fixed),
            "opens_more": span(self.opens - self.opens_fixed),
            "gain": span(self.gain),
            "attainable": span(self.attainable),
            "predicted": span(self.predicted),
            "share_first": span(self.share[:, 0]),
            "share_last": span(self.share[:, -1]),
            "proven": int(some.sum()),
            "proven_after": span(self.proven[some].astype(np.float64)),
            "claimed": int(self.claimed.sum()),
            "covered": int(self.covered.sum()),
            "measured": None if np.isnan(self.lift).all() else np.round(np.nanmedian(self.lift, axis=0), 4).tolist(),
        }  # fmt: skip

    def to_text(self, language: Literal["en", "ja"] = "en") -> str:
        """In words, for the person who decides."""
        return describe(self.to_dict(), language)


def span(values: Floats) -> list[float] | None:
    """Middle, 5 % and 95 % points; None where there are no values."""
    good = values[np.isfinite(values)]
    return np.round(np.quantile(good, (0.5, 0.05, 0.95)), 4).tolist() if len(good) else None


class Map(Protocol):
    """Applies a function to values, such as `map` or a pool's."""

    def __call__(self, work: Callable[[int], _Played], values: Iterable[int], /) -> Iterable[_Played]: ...


def rehearse(
    plan: Plan,
    *,
    replications: int = 20,
    seed: int = 0,
    map_: Map = map,
    progress: Callable[[int, int], object] | None = None,
) -> Rehearsal:
    """Play a plan on simulated lists.

    Args:
        plan: What is played.
        replications: Simulated lists, 1 or more.
        seed: The figures depend on it alone, not on ``map_``.
        map_: Applies the work; `map`, or a pool's.
        progress: Told how many lists of how many are done.
    """
    if replications < 1:
        raise ValueError(f"replications is {replications}, must be 1 or more")
    played = []
    for one in map_(partial(_play, plan, seed), range(replications)):
        played.append(one)
        if progress is not None:
            progress(len(played), replications)
    return Rehearsal(
        plan=plan, seed=seed, **{name: np.array([getattr(one, name) for one in played]) for name in _Played.__slots__}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    """One list; see `Rehearsal`."""

    opens_fixed: float
    opens: float
    opens_best: float
    share: Floats
    predicted: float
    proven: int
    lift: Floats
    claimed: bool
    covered: bool


def _play(plan: Plan, seed: int, number: int) -> _Played:
    rng = np.random.default_rng([seed, number])
    shapes, shares = plan.kinds or (None, SHARES)
    crowd = people(plan.recipients, rng, strength=plan.strength, open_rate=plan.open_rate, shapes=shapes, shares=shares)
    past = history(crowd, plan.past, rng, appeal_sd=_APPEAL)
    control = control_group(np.arange(plan.recipients), f"list {number}", share=plan.control)
    return _Run(plan, crowd, past, control).played(rng)


class _Run:
    """One list and what has happened to it."""

    def __init__(self, plan: Plan, crowd: People, past: History, control: Booleans) -> None:
        self._plan, self._crowd, self._control = plan, crowd, control
        self._ids = np.arange(len(crowd))
        self._log = [past]
        self._model = SendTime.fit(past)
        self._hazard = crowd.engagement[:, np.newaxis] * (crowd.activity @ reach(crowd.decay))
        opened = np.bincount(past.recipient, np.isfinite(past.opened_at), len(crowd))
        self._before = opened / plan.past if plan.past else None

    def played(self, rng: np.random.Generator) -> _Played:
        """All mailings."""
        sums, share, effects, opened = np.zeros(3), [], [], []
        hoped = np.zeros(2)
        verdicts: list[Uplift] = []
        for mailing in self._mailings(rng):
            at_fixed, at_chosen, at_best = mailing.truth
            treated = ~self._control
            sums += at_fixed.sum(), at_chosen.sum(), at_best.sum()
            hoped += mailing.hoped
            gains = [float((x - at_fixed)[treated].sum()) for x in (at_chosen, at_best)]
            share.append(gains[0] / gains[1] if gains[1] > 0 else np.nan)
            effects.append(float((at_chosen - at_fixed)[treated].mean()))
            opened.append(mailing.opened)
            verdicts.append(self._judged(opened))
        said = [verdict.status for verdict in verdicts]
        found = verdicts[-1]
        return _Played(
            opens_fixed=float(sums[0]), opens=float(sums[1]), opens_best=float(sums[2]), share=np.array(share),
            predicted=float(hoped[1] / hoped[0] - 1) if hoped[0] > 0 else float("nan"),
            proven=said.index(UpliftStatus.PROVEN) + 1 if UpliftStatus.PROVEN in said else 0,
            lift=np.array([found.lift, found.lift_lower, found.lift_upper]),
            claimed=not {UpliftStatus.PROVEN, UpliftStatus.WORSE}.isdisjoint(said),
            covered=said[-1] == UpliftStatus.TOO_FEW or found.ci_lower <= float(np.mean(effects)) <= found.ci_upper,
        )  # fmt: skip

    def _mailings(self, rng: np.random.Generator) -> Iterator[_Mailing]:
        plan, ids = self._plan, self._ids
        for number in range(plan.mailings):
            day = 24 * (number % 5)
            slots = day + np.arange(*plan.hours)
            chosen = self._model.decide(
                ids, slots, rng, explore=plan.explore, control=self._control, fixed=day + plan.fixed
            )
            appeal = float(np.exp(_APPEAL * rng.standard_normal()))
            age = self._crowd.opens(chosen.slot, appeal, rng)
            hazard = appeal * self._hazard
            cells = (hazard[:, day + plan.fixed], hazard[ids, chosen.slot], hazard[:, slots].max(axis=1))
            at_fixed, at_chosen, at_best = (-np.expm1(-x) for x in cells)
            best = ~self._control & (chosen.arm == "best")
            yield _Mailing(
                truth=(at_fixed, at_chosen, at_best), opened=age < HORIZON,
                hoped=np.array([chosen.chance_fixed[best].sum(), chosen.chance[best].sum()]),
            )  # fmt: skip
            self._learn(number, chosen.slot, chosen.arm == "explore", age, rng)

    def _learn(self, number: int, slot: Integers, drawn: Booleans, age: Integers, rng: np.random.Generator) -> None:
        campaign = self._plan.past + number
        sent = START + 3600.0 * (WEEK * campaign + slot)
        opened = np.where(age < HORIZON, sent + 3600.0 * age + rng.uniform(0, 3600, len(sent)), np.nan)
        newest = History.of(self._ids, sent, opened, campaign=np.full(len(sent), campaign), randomised=drawn)
        self._log.append(newest)
        self._model = self._model.update(newest) if number + 1 not in _REFIT else SendTime.fit(_joined(self._log))

    def _judged(self, opened: list[Booleans]) -> Uplift:
        n = len(opened)
        return uplift(
            np.tile(self._ids, n), np.repeat(np.arange(n), len(self._ids)), np.tile(self._control, n),
            np.concatenate(opened), before=None if self._before is None else np.tile(self._before, n),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mailing:
    """True chances at the fixed, the chosen and the best hour; who opened; and the sums of the predicted chances."""

    truth: tuple[Floats, Floats, Floats]
    opened: Booleans
    hoped: Floats


def _joined(parts: list[History]) -> History:
    names = ("recipient", "sent_at", "opened_at", "campaign", "randomised")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return History.of(
        columns["recipient"], columns["sent_at"], columns["opened_at"], campaign=columns["campaign"],
        randomised=columns["randomised"],
    )  # fmt: skip
