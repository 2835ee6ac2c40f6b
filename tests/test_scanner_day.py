"""A mailing with scanners in front of 30 % of its recipients; `benchmarks.scanners` is the large version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks._scanner_day import BROWSERS, play_day
from benchmarks._scanner_rules import counted_clicks
from benchmarks._scanner_run import played

RATES = (0.04, 0.065)


def shares(*, days: int, links: tuple[int, int], **asked: Any) -> tuple[float, float, int, int]:
    """People's mails that count, mails of machines alone that count, and days on which the worse variant is ahead."""
    people = kept = machines = taken = wrong = naive_wrong = 0
    for seed in range(days):
        day = play_day(np.random.default_rng(7_000 + seed), n=3_000, rates=RATES, links=links, **asked)
        counts, alone = counted_clicks(day, links), day.touched & ~day.clicked
        people, kept = people + int(day.clicked.sum()), kept + int(counts[day.clicked].sum())
        machines, taken = machines + int(alone.sum()), taken + int(counts[alone].sum())
        long, short = (counts[day.arms == arm].mean() for arm in (0, 1))
        wrong += bool(long >= short)
        long, short = ((day.clicked | day.touched)[day.arms == arm].mean() for arm in (0, 1))
        naive_wrong += bool(long >= short)
    return kept / people, taken / machines, wrong, naive_wrong


def test_people_stay_people_and_machines_are_left_out() -> None:
    kept, taken, wrong, naive_wrong = shares(days=10, links=(8, 2), hidden=False)
    assert kept >= 0.99
    assert taken <= 0.01
    assert wrong == 0
    assert naive_wrong >= 3


def test_a_hidden_link_catches_scanners_in_mails_with_a_single_one() -> None:
    _, without, _, _ = shares(days=4, links=(10, 1), hidden=False)
    kept, trapped, wrong, _ = shares(days=4, links=(10, 1), hidden=True)
    assert kept >= 0.99
    assert trapped < without / 2
    assert wrong == 0


def test_browsers_that_read_as_people_do_are_told_by_their_networks() -> None:
    kept, taken, wrong, _ = shares(days=4, links=(8, 2), vendors=BROWSERS)
    assert kept >= 0.99
    assert taken <= 0.01
    assert wrong == 0


def test_few_scanners_that_follow_a_single_link_get_through() -> None:
    kept, taken, wrong, _ = shares(days=8, links=(1, 1))
    assert kept >= 0.985  # some 1,300 mails; over many more 99.2 %
    assert taken <= 0.02
    assert wrong == 0


@pytest.mark.parametrize(("links", "crowded"), [((8, 2), False), ((1, 1), True)])
def test_tracker_and_store_come_to_the_same_counts_as_the_rules_alone(links: tuple[int, int], crowded: bool) -> None:
    day = play_day(np.random.default_rng(3), n=500, rates=RATES, links=links, crowded=crowded)
    found = played(day, links=links)
    counts, alone = counted_clicks(day, links), day.touched & ~day.clicked
    assert (found.people, found.machines) == (int(day.clicked.sum()), int(alone.sum()))
    assert (found.kept, found.taken) == (int(counts[day.clicked].sum()), int(counts[alone].sum()))
    assert found.machines > 50
