"""Sending for tests of what follows from it: the same mails, rows and counts, with a commit for a batch of mails.

A worker commits once for each mail, so that a crash leaves one of unknown fate: most of the time of a test with a
thousand mails. Here the intents of a batch share a commit, and so do its outcomes, as those of several connections do.
Tests of sending itself, of crashes and of what happens amid a tick don't use it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from abmail._outbox import Sent, _counted
from abmail._records import Outcome

if TYPE_CHECKING:
    from abmail._outbox import _Shift
    from abmail.send import Transport

BATCH: Final = 200


def work(shift: _Shift, transport: Transport) -> None:
    """Send over one connection until there is nothing more; in place of `_Shift.work`."""
    outbox, store, worker, now = shift._outbox, shift._outbox._store, shift._outbox._worker, shift._now
    supply = iter(shift._supply.next, None)
    while batch := list(islice(supply, BATCH)):
        assert all(outbox.reserve(claimed) == 0 for claimed in batch), "a mail has to wait for its turn"
        made = [(claimed, outbox.make(claimed, now())) for claimed in batch]
        done = [mail for _, mail in made if isinstance(mail, Outcome)]
        begin = [claimed.id for claimed, mail in made if not isinstance(mail, Outcome)]
        begun = store.advance(worker=worker, now=now(), begin=begin, done=done)
        done += [
            outbox.hand_over(transport, claimed, mail, now)
            for claimed, mail in made
            if claimed.id in begun and not isinstance(mail, Outcome)
        ]
        store.advance(worker=worker, now=now(), done=[outcome for outcome in done if outcome.message in begun])
        for outcome in done:
            shift._add(_counted(outcome))
        shift._add(Sent(skipped=len(begin) - len(begun)))
