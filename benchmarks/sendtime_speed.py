"""Time and memory of the send-time model: first fit, absorbing a finished mailing, choosing among 24 slots.

Run: ``python -m benchmarks.sendtime_speed [--recipients 10000,100000,1000000] [--mails 20]``. Each size runs in a
process of its own, whose peak of memory is shown; beside wall time stands the processor's, as machines are shared. The
limit is numpy reading the columns of the log once and sorting their keys.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np

from abmail._hazard import WEEK
from abmail._readers import START
from abmail.sendtime import History, SendTime

T = TypeVar("T")
SLOTS = 24 + np.arange(24)


def log(recipients: int, mails: int, first: int = 0) -> History:
    """A log in the order of sending, of which 22 % are opened with exponential delays of 8 hours in the mean."""
    rng = np.random.default_rng(first)
    number = np.repeat(np.arange(first, first + mails), recipients)
    sent = START + 3600.0 * (WEEK * number + 24 * (number % 5) + rng.choice([9, 10, 10, 14], mails)[number - first])
    opened = np.where(rng.uniform(size=len(number)) < 0.22, sent + rng.exponential(8 * 3600, len(number)), np.nan)
    return History.of(np.tile(np.arange(recipients), mails), sent, opened, campaign=number)


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result, seconds on the wall and seconds of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def limit(past: History) -> float:
    """Seconds of the processor for one pass over the columns, and a sort."""
    _, _, processor = timed(lambda: (np.argsort(past.recipient * 2**20), past.sent_at.sum(), past.opened_at.sum()))
    return processor


def measure(recipients: int, mails: int) -> str:
    """One row."""
    past = log(recipients, mails)
    bare = limit(past)
    model, *fit = timed(partial(SendTime.fit, past))
    del past
    newest = log(recipients, 1, first=mails)
    model, *update = timed(lambda: model.update(newest))
    ids = np.arange(recipients)
    _, *choose = timed(lambda: model.choose(ids, SLOTS, 1))
    own = model.people.keys.nbytes + model.segment.nbytes + model.proxied.nbytes
    each = model.memory.bytes_each + own / recipients
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cells = "".join(f"{wall:9.2f} /{processor:7.2f}" for wall, processor in (fit, update, choose))
    return f"{recipients:>11,}{cells}{bare:10.2f}{peak:10.2f}{each:9.0f} + {model.people.ids.itemsize} for the id"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and memory of the send-time model.")
    parser.add_argument("--recipients", default="10000,100000,1000000")
    parser.add_argument("--mails", type=int, default=20)
    options = parser.parse_args(arguments)
    print(f"{options.mails} past mails each; seconds on the wall / of the processor")
    print(f"{'recipients':>11}{'fit':>18}{'one mailing':>18}{'24 slots':>18}{'limit':>10}{'peak GiB':>10}   bytes each")
    for size in (int(text) for text in options.recipients.split(",")):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            print(pool.submit(measure, size, options.mails).result(), flush=True)


if __name__ == "__main__":
    main()
