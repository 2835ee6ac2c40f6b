"""The outbox worker: takes due messages, makes them, hands them to transports, and notes what became of each."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from random import Random
from typing import Final

from abmail.errors import (
    AbmailError,
    ConfigError,
    PermanentSendError,
    TransientSendError,
    UncertainSendError,
)
from abmail.render import RenderedMessage
from abmail.send import Throttle, Transport, retry_delay
from abmail.store import Claimed, Outcome, State, Store

__all__ = ["Breaker", "Outbox", "Sent"]

_BATCH: Final = 100  # messages that are claimed at a time
_GIVEN_UP: Final = timedelta(days=5)
_LONGEST_WAIT: Final = 43_200.0  # seconds; no server can put a message off further than that
_BEAT: Final = 120.0  # seconds between two renewals of the leases
_NAP: Final = 0.2  # seconds between two looks at whether to stop
_FAILURES: Final = 20
_WINDOW: Final = 100
_LOG: Final = logging.getLogger("abmail")


@dataclass(slots=True, kw_only=True)
class Sent:
    """What one pass over the outbox did, in messages."""

    sent: int = 0
    retried: int = 0
    failed: int = 0
    uncertain: int = 0
    skipped: int = 0
    deferred: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def total(self) -> int:
        """Messages that were looked at."""
        return self.sent + self.retried + self.failed + self.uncertain + self.skipped + self.deferred


class Breaker:
    """Pauses an experiment when 20 of its last 100 mails failed; the others go on.

    Args:
        pause: Called with the experiment's name and the reason in words.
    """

    def __init__(self, pause: Callable[[str, str], object]) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._last: dict[str, deque[bool]] = {}

    def note(self, experiment: str, failure: str | None) -> None:
        """Take one outcome down: None where the mail was taken, else why it failed."""
        with self._lock:
            last = self._last.setdefault(experiment, deque(maxlen=_WINDOW))
            last.append(failure is not None)
            n, failed = len(last), sum(last)
            if failure is None or failed < _FAILURES:
                return
            last.clear()
        self._pause(experiment, f"{failed} of the last {n} mails failed; the last one: {failure}")


class _Step:
    """What one connection wants to have committed."""

    __slots__ = ("begin", "begun", "done", "error", "is_through")

    def __init__(self, done: Sequence[Outcome], begin: str | None) -> None:
        self.done = done
        self.begin = begin
        self.begun = self.is_through = False
        self.error: BaseException | None = None


class _Journal:
    """Commits the steps of several connections together: the one that comes first commits for all who wait."""

    def __init__(self, store: Store, worker: str, now: Callable[[], datetime]) -> None:
        self._store, self._worker, self._now = store, worker, now
        self._waiting: list[_Step] = []
        self._queue, self._commit = threading.Lock(), threading.Lock()

    def step(self, done: Sequence[Outcome], begin: str | None = None) -> bool:
        """Commit outcomes and an intent; returns whether the message ``begin`` may be sent now."""
        step = _Step(done, begin)
        with self._queue:
            self._waiting.append(step)
        with self._commit:
            if not step.is_through:
                self._commit_waiting()
        if step.error is not None:
            raise step.error
        return step.begun

    def _commit_waiting(self) -> None:
        with self._queue:
            steps, self._waiting = self._waiting, []
        try:
            begun = self._store.advance(
                worker=self._worker,
                now=self._now(),
                begin=[step.begin for step in steps if step.begin is not None],
                done=[outcome for step in steps for outcome in step.done],
            )
        except BaseException as error:
            for step in steps:
                step.error = error
            raise
        else:
            for step in steps:
                step.begun = step.begin in begun
        finally:
            for step in steps:
                step.is_through = True


class _Supply:
    """Claimed messages for all connections; claims more when it has run out."""

    def __init__(
        self, claim: Callable[[int], Sequence[Claimed]], limit: int | None, stopping: Callable[[], bool]
    ) -> None:
        self._claim, self._left, self._stopping = claim, limit, stopping
        self._lock = threading.Lock()
        self._ready: deque[Claimed] = deque()
        self._is_stopped = False

    @property
    def stopped(self) -> bool:
        """Whether no further message may be begun."""
        return self._is_stopped or self._stopping()

    def stop(self) -> None:
        """Give out no further message."""
        self._is_stopped = True

    def next(self) -> Claimed | None:
        """A message to send; None where there is none, or no more is to be sent."""
        with self._lock:
            if self.stopped or self._left == 0:
                return None
            if not self._ready:
                self._ready.extend(self._claim(_BATCH if self._left is None else min(_BATCH, self._left)))
            if not self._ready:
                return None
            if self._left is not None:
                self._left -= 1
            return self._ready.popleft()


class Outbox:
    """Sends what a worker claims, each message at most once, over one connection or several.

    The intent is committed before a transport is called and the outcome after, so that a crash leaves at most one
    message for each connection of which nobody knows whether it arrived. The outcome of one message and the intent of
    the next share a commit, and so do the connections that wait for one.

    Args:
        store: The ledger.
        transports: Where mails go, one for each connection.
        render: Makes the mail of a claimed message; what it raises fails that message only.
        worker: `worker_name` of this process.
        throttle: Slows sending down.
        breaker: Told of every mail that was taken or failed.
        rng: Draws the waiting time before a retry.
    """

    def __init__(
        self,
        store: Store,
        transports: Sequence[Transport],
        *,
        render: Callable[[Claimed, datetime], RenderedMessage],
        worker: str,
        throttle: Throttle,
        breaker: Breaker,
        rng: Random | None = None,
    ) -> None:
        self._store = store
        self._transports = transports
        self._render = render
        self._worker = worker
        self._throttle = throttle
        self._breaker = breaker
        self._rng = rng or Random()  # noqa: S311  (spreads retries, guards nothing)

    def run(
        self,
        claim: Callable[[int], Sequence[Claimed]],
        *,
        now: Callable[[], datetime],
        limit: int | None = None,
        on_progress: Callable[[Sent], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Sent:
        """Send until nothing more can be claimed.

        Args:
            claim: Claims at most so many messages for this worker.
            now: The clock.
            limit: At most so many messages.
            on_progress: Called after each message with the totals.
            stopping: Asked before each message; True ends the work there.

        Raises:
            ConfigError: The relay refuses us as a whole; the message went back to the queue.
        """
        shift = _Shift(self, _Supply(claim, limit, stopping), now, on_progress)
        if len(self._transports) == 1:
            shift.work(self._transports[0])
        else:
            shift.work_together(self._transports)
        return shift.total

    def renew(self, now: datetime) -> None:
        """Keep what this worker holds."""
        self._store.renew(self._worker, now=now)

    def journal(self, now: Callable[[], datetime]) -> _Journal:
        """Where the connections of one run commit their steps."""
        return _Journal(self._store, self._worker, now)

    def make(self, claimed: Claimed, now: datetime) -> RenderedMessage | Outcome:
        """The mail, or the failure to make it."""
        try:
            return self._render(claimed, now)
        except Exception as error:  # one broken row must not stop the others, whatever is wrong with it
            if not isinstance(error, AbmailError):
                _LOG.exception("message %s cannot be made", claimed.id)
            return self._failed(claimed, error, now)

    def reserve(self, claimed: Claimed) -> float:
        """Seconds to wait for a message's turn; negative where it has to come back later."""
        return self._throttle.reserve(claimed.recipient.email)

    def hand_over(
        self, transport: Transport, claimed: Claimed, message: RenderedMessage, now: Callable[[], datetime]
    ) -> Outcome:
        """Call the transport; a ConfigError comes back as such, everything else as an outcome."""
        try:
            transport.send(message)
        except TransientSendError as error:
            return self._again(claimed, error, now())
        except (PermanentSendError, UncertainSendError) as error:
            return self._failed(claimed, error, now())
        except ConfigError:
            raise
        except Exception as error:  # a fault of the transport: how far it came nobody knows
            _LOG.exception("the transport failed at message %s", claimed.id)
            return self._failed(claimed, UncertainSendError(f"{type(error).__name__}: {error}"), now())
        self._breaker.note(claimed.experiment, None)
        return Outcome(message=claimed.id, state=State.SENT, at=now(), links=message.links)

    def _failed(self, claimed: Claimed, error: Exception, now: datetime) -> Outcome:
        refused = error if isinstance(error, PermanentSendError) else None
        words = _words(error)
        self._breaker.note(claimed.experiment, words)
        return Outcome(
            message=claimed.id,
            state=State.UNCERTAIN if isinstance(error, UncertainSendError) else State.FAILED,
            at=now,
            error=words,
            code=refused.code if refused else None,
            refusal=refused.kind if refused else "",
        )

    def _again(self, claimed: Claimed, error: TransientSendError, now: datetime) -> Outcome:
        if error.throttled:
            self._throttle.slow_down(claimed.recipient.email, whole=error.throttled == "relay")
        delay = max(retry_delay(claimed.attempts + 1, rng=self._rng), min(error.retry_after or 0.0, _LONGEST_WAIT))
        due = now + timedelta(seconds=delay)
        end = (claimed.first_attempt_at or now) + _GIVEN_UP
        if due > min(end, claimed.expires_at or end):
            return self._failed(claimed, _GivenUp(f"given up after {claimed.attempts + 1} tries: {error}"), now)
        return Outcome(
            message=claimed.id, state=State.ASSIGNED, at=now, error=_words(error), code=error.code, due_at=due
        )


class _GivenUp(AbmailError):
    """A message was put off for too long."""


class _Shift:
    """One run of an outbox: what its connections share."""

    def __init__(
        self, outbox: Outbox, supply: _Supply, now: Callable[[], datetime], on_progress: Callable[[Sent], None]
    ) -> None:
        self._outbox, self._supply, self._now, self._on_progress = outbox, supply, now, on_progress
        self._journal = outbox.journal(now)
        self._lock = threading.Lock()
        self._renewed = time.monotonic()
        self._errors: list[BaseException] = []
        self.total = Sent()

    def work_together(self, transports: Sequence[Transport]) -> None:
        """Send over all connections at once, each in a thread of its own."""
        threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in transports]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_NAP)
                    self._keep_leases()
        finally:
            self._supply.stop()
        if self._errors:
            raise self._errors[0]

    def _guarded(self, transport: Transport) -> None:
        try:
            self.work(transport)
        except BaseException as error:  # raised again in the thread that waits for all
            self._errors.append(error)
            self._supply.stop()

    def work(self, transport: Transport) -> None:
        """Send over one connection until there is nothing more."""
        done: list[Outcome] = []
        try:
            while (claimed := self._supply.next()) is not None:
                self._keep_leases()
                done = self._send(transport, claimed, done)
        finally:
            self._flush(done)

    def _send(self, transport: Transport, claimed: Claimed, done: list[Outcome]) -> list[Outcome]:
        """Take one message through; gives the outcomes that are not committed yet."""
        message = self._outbox.make(claimed, self._now())
        if isinstance(message, Outcome):
            return self._note(done, message, Sent(failed=1))
        wait = self._outbox.reserve(claimed)
        if wait < 0.0:
            return self._note(done, _deferred(claimed, self._now(), -wait), Sent(deferred=1))
        if wait > 0.0:
            self._flush(done)
            done = []
            if not self._wait(wait):
                return done
        if not self._journal.step(done, begin=claimed.id):
            self._add(Sent(skipped=1))
            return []
        try:
            outcome = self._outbox.hand_over(transport, claimed, message, self._now)
        except ConfigError as error:
            self._journal.step([_untried(claimed, error, self._now())])
            raise
        return self._note([], outcome, _counted(outcome))

    def _note(self, done: list[Outcome], outcome: Outcome, counted: Sent) -> list[Outcome]:
        self._add(counted)
        if len(done) >= _BATCH:
            self._flush(done)
            return [outcome]
        return [*done, outcome]

    def _flush(self, done: list[Outcome]) -> None:
        if done:
            self._journal.step(done)

    def _wait(self, seconds: float) -> bool:
        """Wait for a message's turn; False where the work is to end before."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._supply.stopped:
            time.sleep(min(left, _NAP))
            self._keep_leases()
        return not self._supply.stopped

    def _keep_leases(self) -> None:
        with self._lock:
            if time.monotonic() - self._renewed < _BEAT:
                return
            self._renewed = time.monotonic()
        self._outbox.renew(self._now())

    def _add(self, counted: Sent) -> None:
        with self._lock:
            self.total += counted
            self._on_progress(self.total)


def _counted(outcome: Outcome) -> Sent:
    match outcome.state:
        case State.SENT:
            return Sent(sent=1)
        case State.ASSIGNED:
            return Sent(retried=1)
        case State.UNCERTAIN:
            return Sent(uncertain=1)
        case _:
            return Sent(failed=1)


def _deferred(claimed: Claimed, now: datetime, seconds: float) -> Outcome:
    """Put a message off that was not begun, as its group is slow."""
    due = now + timedelta(seconds=seconds)
    return Outcome(message=claimed.id, state=State.ASSIGNED, at=now, due_at=due, attempted=False)


def _untried(claimed: Claimed, error: ConfigError, now: datetime) -> Outcome:
    """Put a message back at once: it is not its fault."""
    return Outcome(message=claimed.id, state=State.ASSIGNED, at=now, error=_words(error), due_at=now, attempted=False)


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:500]
