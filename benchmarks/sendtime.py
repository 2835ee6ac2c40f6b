"""Send-time strategies side by side, on people with latent weekly habits.

Run: ``python -m benchmarks.sendtime [--people N] [--seeds N] [--only TEXT]``. Every column sees the same logs of 5, 10,
20 and 50 past mails, and then picks a slot for each person. A figure is the share of the attainable lift: 0 is all at
10:00, 100 is an oracle who knows each person's true profile. Shown are means over the seeds, and for abmail the
standard error.

The lists are not those behind the shipped profiles: their types of day are shifted and mixed otherwise for each seed.
Still the simulator has the form of the model, which flatters it; what an account gains is what its control group shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from abmail._hazard import WEEK
from abmail._readers import START, Floats, Integers, People, another_account, history, people
from abmail.sendtime import History, SendTime

MARKS = (5, 10, 20, 50)
TEN = 10
TUESDAY, ANY = 24 + np.arange(24), np.arange(WEEK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is true of a list.

    Attributes:
        name: Row of the table.
        people: Arguments of `people`.
        logs: See `abmail._readers.slots_of`.
        slots: Slots to choose from.
        appeal_sd: Standard deviation of the campaigns' log appeal.
        clicks: Whether only clicks are known, 16 % of opens.
        machines: Share of people whose mail machines open.
        crowded: Whether mail sent at 9 to 11 is buried fast, and at night hardly.
        moving: Share of people who change their habits after 30 mails.
        zones_known: Whether the zone of people abroad is known.
        usual_mix: Whether the list is like the one behind the shipped profiles, which flatters them.
        n: People; 0 for the number asked for.
        marks: Past mails at which the strategies choose.
    """

    name: str
    people: dict[str, Any] = field(default_factory=dict)
    logs: str = "habit"
    slots: Integers = field(default_factory=lambda: TUESDAY)
    appeal_sd: float = 0.3
    clicks: bool = False
    machines: float = 0.0
    crowded: bool = False
    moving: float = 0.0
    zones_known: bool = False
    usual_mix: bool = False
    n: int = 0
    marks: tuple[int, ...] = MARKS


ABROAD = {"zones": (-8, -5, 6), "abroad": 0.3}
SCENARIOS = (
    Scenario(name="usual mix, strong habits", usual_mix=True),
    Scenario(name="usual mix, weak habits", usual_mix=True, people={"strength": 0.5}),
    Scenario(name="strong habits"),
    Scenario(name="strong, every mail at a random hour", logs="day"),
    Scenario(name="strong, a tenth at random hours", logs="mixed"),
    Scenario(name="strong, always 10:00", logs="fixed"),
    Scenario(name="168 slots", slots=ANY),
    Scenario(name="168 slots, random hours of the week", slots=ANY, logs="week"),
    Scenario(name="weak habits", people={"strength": 0.5}),
    Scenario(name="clicks only", clicks=True),
    Scenario(name="ageing differs, 20 % react to arrival", people={"ageing_sd": 0.6, "reacting": 0.2}),
    Scenario(name="ageing differs in shape, 20 % react", people={"steepness_sd": 0.6, "reacting": 0.2}),
    Scenario(name="crowded inboxes", crowded=True),
    Scenario(name="crowded, a tenth at random hours", crowded=True, logs="mixed"),
    Scenario(name="campaigns differ more (sd 0.6)", appeal_sd=0.6),
    Scenario(name="machines open for 45 %", machines=0.45),
    Scenario(name="30 % abroad, zone unknown", people=ABROAD),
    Scenario(name="30 % abroad, zone known", people=ABROAD, zones_known=True),
    Scenario(name="25 % change after 30 mails", moving=0.25),
    Scenario(name="a list of 300", n=300),
)


@dataclass(frozen=True, slots=True)
class World:
    """A list, its log, and how well each slot would do.

    Attributes:
        crowd: The people as they are at the end.
        log: Mails in the order of campaigns.
        chances: (n, n_slots) true chance of an open at each slot, by the sender's clock or one's own if it is known.
        base: Index of 10:00 among the slots.
        slots: The slots.
        zones_known: Whether they are by each one's own clock.
    """

    crowd: People
    log: History
    chances: Floats
    base: int
    slots: Integers
    zones_known: bool


def world(scenario: Scenario, n: int, seed: int) -> World:
    """Draw a list and its log."""
    rng = np.random.default_rng([seed, 5])
    mix = {} if scenario.usual_mix else another_account(rng)
    crowd = people(scenario.n or n, rng, **cast("dict[str, Any]", mix), **scenario.people)
    if scenario.crowded:
        burial = np.ones(24)
        burial[9:12], burial[[22, 23, 0, 1, 2, 3, 4, 5]] = 1.05, 0.98
        crowd = replace(crowd, burial=burial)
    if scenario.moving:
        log, crowd = _with_movers(scenario, crowd, rng)
    else:
        log = history(crowd, max(scenario.marks), rng, logs=scenario.logs, appeal_sd=scenario.appeal_sd)
    log = _seen(scenario, log, len(crowd), rng)
    offset = np.zeros(1, np.int64) if scenario.zones_known else crowd.offset
    chances = np.stack(
        [_chance(crowd, np.broadcast_to((slot + offset) % WEEK, (len(crowd),))) for slot in scenario.slots], axis=1
    )
    base = int(np.flatnonzero(scenario.slots == 24 + TEN)[0])
    return World(crowd, log, chances, base, scenario.slots, scenario.zones_known)


def _chance(crowd: People, slot: Integers) -> Floats:
    return np.asarray(-np.expm1(-crowd.hazard(slot).sum(axis=1)))


def _with_movers(scenario: Scenario, crowd: People, rng: np.random.Generator) -> tuple[History, People]:
    before = history(crowd, 30, rng, logs=scenario.logs)
    moved = rng.uniform(size=len(crowd)) < scenario.moving
    activity = np.where(moved[:, np.newaxis], crowd.activity[rng.permutation(len(crowd))], crowd.activity)
    after = replace(crowd, activity=activity)
    later = history(after, max(scenario.marks) - 30, rng, logs=scenario.logs, first=30)
    return _joined(before, later), after


def _joined(one: History, two: History) -> History:
    names = ("recipient", "sent_at", "opened_at", "campaign", "randomised")
    columns: dict[str, Any] = {k: np.concatenate([getattr(one, k), getattr(two, k)]) for k in names}
    return replace(one, **columns)


def _seen(scenario: Scenario, log: History, n: int, rng: np.random.Generator) -> History:
    """What is logged of it: clicks alone, or opens of machines beside clicks of people."""
    clicked = np.where(rng.uniform(size=len(log)) < 0.16, log.opened_at, np.nan)
    if scenario.clicks:
        return replace(log, opened_at=clicked)
    if scenario.machines:
        behind = (rng.uniform(size=n) < scenario.machines)[log.recipient]
        at_once = log.sent_at + rng.uniform(0, 3600, len(log))
        opened = np.where(behind, at_once, log.opened_at)
        return replace(log, opened_at=opened, clicked_at=clicked, machine=behind)
    return log


def first_mails(log: History, mails: int) -> History:
    """The campaigns so far."""
    kept = log.sent_at < START + 3600.0 * WEEK * mails
    names = ("recipient", "sent_at", "opened_at", "campaign", "randomised", "clicked_at", "machine")
    columns: dict[str, Any] = {k: None if getattr(log, k) is None else getattr(log, k)[kept] for k in names}
    return replace(log, **columns)


# --- strategies: log -> index of the slot for each person ------------------------------------------------------------

Strategy = Callable[[World, History, np.random.Generator], Integers]


def _hours(log: History, slots: Integers) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Hours of sending and opening on the grid of the slots, and whether it was opened within 72 hours."""
    opened = np.isfinite(log.opened_at)
    sent = ((log.sent_at - START) // 3600).astype(np.int64) % WEEK
    at = ((np.where(opened, log.opened_at, log.sent_at) - START) // 3600).astype(np.int64) % WEEK
    return (sent % 24, at % 24, opened) if len(slots) == 24 else (sent, at, opened)


def _count(person: Integers, hour: Integers, n: int, width: int) -> Floats:
    return np.bincount(person * width + hour, minlength=n * width).reshape(n, width).astype(np.float64)


def random_slot(world: World, _: History, rng: np.random.Generator) -> Integers:
    """Any slot."""
    return rng.integers(0, len(world.slots), len(world.crowd))


def best_hour(world: World, log: History, _: np.random.Generator) -> Integers:
    """The hour of sending with the highest open rate, of those used for a fiftieth of the mail, for everybody."""
    sent, _at, opened = _hours(log, world.slots)
    n = np.bincount(sent, minlength=len(world.slots))
    rate = np.bincount(sent, opened, minlength=len(world.slots)) / np.maximum(n, 1)
    return np.full(len(world.crowd), int(np.argmax(np.where(n >= len(log) / 50, rate, -1))))


def mode_of_opens(world: World, log: History, rng: np.random.Generator) -> Integers:
    """The hour in which most past opens happened; 10:00 for people without any."""
    _, at, opened = _hours(log, world.slots)
    counts = _count(log.recipient[opened], at[opened], len(world.crowd), len(world.slots))
    tied = counts + 1e-6 * rng.uniform(size=counts.shape)
    return np.where(counts.sum(axis=1) > 0, tied.argmax(axis=1), world.base)


def earlier_mode(world: World, log: History, _: np.random.Generator) -> Integers:
    """The hour before the most frequent one, in a histogram shrunk to the account's, worth 8 opens."""
    _sent, at, opened = _hours(log, world.slots)
    counts = _count(log.recipient[opened], at[opened], len(world.crowd), len(world.slots))
    account = counts.sum(axis=0) / max(float(counts.sum()), 1.0)
    best = _smooth(counts + 8 * account).argmax(axis=1)
    return np.asarray((best - 1) % len(world.slots))


def _smooth(counts: Floats) -> Floats:
    return np.asarray(0.5 * counts + 0.25 * (np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1)))


def thompson(world: World, log: History, rng: np.random.Generator) -> Integers:
    """An own Beta(1, 1) for each person and hour of sending."""
    sent, _, opened = _hours(log, world.slots)
    n, width = len(world.crowd), len(world.slots)
    won = _count(log.recipient[opened], sent[opened], n, width)
    lost = _count(log.recipient[~opened], sent[~opened], n, width)
    return np.asarray(rng.beta(1 + won, 1 + lost).argmax(axis=1))


def abmail(world: World, log: History, _: np.random.Generator, **options: Any) -> Integers:
    """The production code."""
    model = SendTime.fit(_in_own_clock(world, log) if world.zones_known else log, **options)
    return np.asarray(model.score(np.arange(len(world.crowd)), world.slots).argmax(axis=1))


def _in_own_clock(world: World, log: History) -> History:
    """With the zone of each recipient."""
    names = {h: f"Etc/GMT{'-' if h > 0 else '+'}{abs(h)}" if h else "UTC" for h in np.unique(world.crowd.offset)}
    return replace(log, zone=np.array([names[h] for h in world.crowd.offset])[log.recipient])


STRATEGIES: dict[str, Strategy] = {
    "random": random_slot,
    "best hour": best_hour,
    "mode": mode_of_opens,
    "mode -1 h": earlier_mode,
    "Beta TS": thompson,
    "pooled": lambda w, h, r: abmail(w, h, r, profiles=False, classes=1),
    "own classes": lambda w, h, r: abmail(w, h, r, profiles=False),
    "abmail": abmail,
}


def share(world: World, chosen: Integers) -> float:
    """Percent of the attainable lift; for people behind machines too, who are the same as the others."""
    base, top = world.chances[:, world.base].mean(), world.chances.max(axis=1).mean()
    reached = world.chances[np.arange(len(chosen)), chosen].mean()
    return float(100 * (reached - base) / (top - base))


def row(scenario: Scenario, n: int, seeds: int, columns: Sequence[str]) -> Iterator[str]:
    """Lines of one scenario."""
    found = np.zeros((seeds, len(scenario.marks), len(columns)))
    lift = np.zeros(seeds)
    for seed in range(seeds):
        drawn = world(scenario, n, seed)
        lift[seed] = drawn.chances.max(axis=1).mean() / drawn.chances[:, drawn.base].mean() - 1
        for j, mark in enumerate(scenario.marks):
            seen = first_mails(drawn.log, mark)
            for k, name in enumerate(columns):
                chosen = STRATEGIES[name](drawn, seen, np.random.default_rng([seed, mark, k]))
                found[seed, j, k] = share(drawn, chosen)
    error = found.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(found.shape[1:], np.nan)
    yield f"{scenario.name} (oracle {lift.mean():+.1%})"
    for j, mark in enumerate(scenario.marks):
        cells = "".join(f"{x:>13.0f}" for x in found[:, j].mean(axis=0))
        yield f"  {mark:>3} mails{'':18}{cells}   ± {error[j, -1]:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Share of the attainable lift, by strategy.")
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--columns", default=",".join(STRATEGIES), help="strategies, separated by commas")
    options = parser.parse_args(arguments)
    columns = options.columns.split(",")
    if unknown := [name for name in columns if name not in STRATEGIES]:
        parser.error(f"no strategy {', '.join(unknown)}; there are {', '.join(STRATEGIES)}")
    print(f"{options.people:,} people, {options.seeds} seeds: share of the attainable lift in %, 0 = all at 10:00")
    print(f"{'':31}" + "".join(f"{name:>13}" for name in columns), flush=True)
    for scenario in SCENARIOS:
        if options.only in scenario.name:
            begin = time.perf_counter()
            for line in row(scenario, options.people, options.seeds, columns):
                print(line, flush=True)
            print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
