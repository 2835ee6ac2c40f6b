"""The outbox worker on real databases: several connections, throttles, pauses, and servers that behave badly."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from abmail import _outbox
from abmail.engine import Engine
from abmail.errors import (
    ConfigError,
    PermanentSendError,
    StoreError,
    TransientSendError,
    UncertainSendError,
    UnknownExperiment,
)
from abmail.recipient import Recipient
from abmail.render import RenderedMessage
from abmail.send import SMTP, Memory, Throttle
from abmail.spec import Experiment
from abmail.store import State, StoredMessage

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
TEMPLATE = '<p>{{ recipient.name }}</p><a href="https://example.com/x">go</a>'
SECRET = b"0123456789abcdef"


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time

    def seconds(self) -> float:
        return self.time.timestamp()

    def forward(self, **step: float) -> None:
        self.time += timedelta(**step)


class Moody(Memory):
    """Raises what it is told for a recipient's number, and takes the rest; counts how many send at the same time.

    The first sends wait (at most half a minute) till `together` of them go on at once.
    """

    def __init__(
        self, mood: Callable[[int], Exception | None] = lambda _: None, pause: float = 0.0, together: int = 1
    ) -> None:
        super().__init__()
        self.mood, self.pause, self.together = mood, pause, together
        self.busy = self.busiest = self.others = 0
        self._changed = threading.Condition()

    def another(self) -> Moody:
        self.others += 1
        return self

    def send(self, message: RenderedMessage) -> str:
        with self._changed:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.busiest >= self.together, timeout=30)
        time.sleep(self.pause)
        with self._changed:
            self.busy -= 1
        if error := self.mood(number(message.recipient)):
            raise error
        return super().send(message)


def number(email: str) -> int:
    return int(email.partition("@")[0].removeprefix("r"))


def people(n: int, domain: Callable[[int], str] = lambda _: "example.com") -> list[Recipient]:
    return [
        Recipient(id=f"r{i}", email=f"r{i}@{domain(i)}", attributes={"name": f"Person {i}"}, zone=None)
        for i in range(n)
    ]


def definition(name: str = "spring", **parts: object) -> Experiment:
    message = {"template": "mails/x.html.j2", "from": "News <news@example.com>"}
    return Experiment.from_dict(
        {
            "spec": 1,
            "name": name,
            "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"},
            "allocation": {"policy": "uniform"},
            **parts,
            "message": {**message, **dict(parts.get("message", {}))},  # type: ignore[call-overload]
        }
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def transport() -> Moody:
    return Moody()


@pytest.fixture
def engine(store_url: str, clock: Clock, transport: Moody) -> Iterator[Engine]:
    throttle = Throttle(clock=clock.seconds)
    with Engine(store_url, transport=transport, secret=SECRET, clock=clock, throttle=throttle) as opened:
        yield opened


def apply(engine: Engine, exp: Experiment, recipients: list[Recipient]) -> None:
    engine.apply(engine.plan(exp, recipients, template=TEMPLATE))


def ledger(engine: Engine, name: str = "spring") -> dict[int, StoredMessage]:
    return {number(message.email): message for message in engine.store.messages(name)}


# --- several connections ----------------------------------------------------------------------------------------------


def test_several_connections_send_each_mail_once_and_at_the_same_time(store_url: str) -> None:
    transport = Moody(together=4)
    with Engine(store_url, transport=transport, secret=SECRET, connections=4) as engine:
        apply(engine, definition(), people(250))
        tick = engine.tick()
        assert (tick.outbox.sent, tick.next_at) == (250, None)
        assert engine.store.states("spring") == {State.SENT: 250}
        assert engine.store.tally("spring", n_cells=2).matrix("sent").sum() == 250
        engine.tick()
    assert Counter(number(m.recipient) for m in transport.messages) == Counter(range(250))
    assert transport.busiest == 4
    assert transport.others == 3


def test_connections_that_wait_share_a_commit(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    with Engine(store_url, transport=Moody(pause=0.001), secret=SECRET, connections=8) as engine:
        apply(engine, definition(), people(200))
        advance = engine.store.advance

        def slow(**steps: object) -> frozenset[str]:
            commits.append(len(steps["begin"]))  # type: ignore[arg-type]
            time.sleep(0.003)
            return advance(**steps)  # type: ignore[arg-type]

        monkeypatch.setattr(engine.store, "advance", slow)
        engine.tick()
    assert sum(commits) == 200
    assert max(commits) > 1
    assert len(commits) < 150


def test_no_more_than_the_limit_goes_out_over_several_connections(store_url: str) -> None:
    with Engine(store_url, transport=(transport := Moody()), secret=SECRET, connections=3) as engine:
        apply(engine, definition(), people(50))
        assert engine.tick(limit=7).outbox.sent == 7
        assert engine.store.states("spring") == {State.SENT: 7, State.ASSIGNED: 43}
        assert engine.tick().outbox.sent == 43
    assert len({m.recipient for m in transport.messages}) == 50


def test_a_connection_that_fails_stops_the_others_and_loses_nothing(store_url: str) -> None:
    wrong = ConfigError("535 wrong password")
    transport = Moody(lambda n: wrong if n == 20 else None, pause=0.001)
    with Engine(store_url, transport=transport, secret=SECRET, connections=4) as engine:
        apply(engine, definition(), people(200))
        with pytest.raises(ConfigError, match="535"):
            engine.tick()
        states = engine.store.states("spring")
        assert states[State.SENT] == len(transport.messages) < 200
        assert states[State.ASSIGNED] == 200 - states[State.SENT]
        assert ledger(engine)[20].attempts == 0
        transport.mood = lambda _: None
        assert engine.tick().outbox.sent == states[State.ASSIGNED]


def test_a_database_that_fails_ends_the_work_of_all_connections(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(store_url, transport=Moody(), secret=SECRET, connections=4) as engine:
        apply(engine, definition(), people(50))
        with monkeypatch.context() as patch:

            def fail(**_: object) -> frozenset[str]:
                raise StoreError("the disk is full")

            patch.setattr(engine.store, "advance", fail)
            with pytest.raises(StoreError, match="disk"):
                engine.tick()
        assert engine.store.states("spring") == {State.ASSIGNED: 50}
        assert engine.tick().outbox.sent == 50


def test_settings_that_cannot_serve_several_connections_are_refused() -> None:
    with pytest.raises(ValueError, match="connections is 0"):
        Engine("sqlite://", transport=Memory(), secret=SECRET, connections=0)
    with pytest.raises(ValueError, match="in memory"):
        Engine("sqlite://", transport=Memory(), secret=SECRET, connections=2)


def test_leases_are_renewed_while_sending_takes_long(
    engine: Engine, transport: Moody, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outbox, "_BEAT", 0.0)
    claimed_elsewhere: list[int] = []

    def mood(_: int) -> None:
        clock.forward(minutes=10)
        engine.store.recover(now=clock())  # as another sender does: leases that are over go back
        found = engine.store.claim(worker="elsewhere:1:1", limit=9, now=clock(), open_zones={"spring": ["UTC"]})
        claimed_elsewhere.append(len(found))

    transport.mood = mood
    apply(engine, definition(), people(5))
    assert engine.tick().outbox.sent == 5
    assert claimed_elsewhere == [0] * 5


# --- failures ---------------------------------------------------------------------------------------------------------


def test_twenty_failures_among_the_last_hundred_pause_that_experiment_alone(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    refused = PermanentSendError("554 5.7.1 Blocked", code=554, kind="policy")
    transport.mood = lambda n: refused if n < 500 and n % 4 == 0 else None
    apply(engine, definition("bad"), people(400))
    apply(engine, definition("good"), [replace_number(p, 1_000) for p in people(150)])
    tick = engine.tick()
    bad, good = engine.status()
    assert good.messages == {"sent": 150}
    assert bad.messages["failed"] == 20
    assert bad.messages["assigned"] > 200
    assert bad.paused is not None
    assert bad.paused.startswith("20 of the last ")
    assert bad.paused.endswith("554 5.7.1 Blocked")
    assert (bad.next_at, tick.next_at) == (None, None)
    assert engine.tick().outbox.total == 0
    transport.mood = lambda _: None
    assert engine.resume("bad")
    assert engine.tick().outbox.sent == bad.messages["assigned"]
    assert engine.status()[0].paused is None


def replace_number(person: Recipient, by: int) -> Recipient:
    n = number(person.email) + by
    return Recipient(id=f"r{n}", email=f"r{n}@example.com", attributes=person.attributes, zone=None)


def test_nineteen_failures_among_a_hundred_pause_nothing(engine: Engine, transport: Moody) -> None:
    seen = itertools.count()
    transport.mood = lambda _: PermanentSendError("554", code=554) if next(seen) % 100 < 19 else None
    apply(engine, definition(), people(400))
    engine.tick()
    assert engine.store.states("spring") == {State.FAILED: 76, State.SENT: 324}


def test_a_mail_that_cannot_be_made_fails_alone_whatever_is_wrong_with_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(engine, definition(), people(10))
    render = engine._delivery._render

    def broken(claimed: object, now: datetime) -> RenderedMessage:
        message = render(claimed, now)  # type: ignore[arg-type]
        if number(message.recipient) == 3:
            raise ZeroDivisionError("in a filter")
        return message

    monkeypatch.setattr(engine._delivery, "_render", broken)
    engine.tick()
    assert engine.store.states("spring") == {State.FAILED: 1, State.SENT: 9}
    assert ledger(engine)[3].error == "in a filter"


def test_a_fault_of_the_transport_leaves_that_mail_uncertain_and_the_others_go_on(
    engine: Engine, transport: Moody
) -> None:
    transport.mood = lambda n: KeyError("a fault") if n == 3 else None
    apply(engine, definition(), people(10))
    engine.tick()
    assert engine.store.states("spring") == {State.UNCERTAIN: 1, State.SENT: 9}
    assert ledger(engine)[3].error == "KeyError: 'a fault'"


def test_a_mailbox_that_was_full_three_times_in_a_month_is_not_mailed_again(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    transport.mood = lambda n: PermanentSendError("552 5.2.2 Full", code=552, kind="soft") if n == 3 else None
    for count, days in enumerate((0, 20, 20, 5, 1)):
        clock.forward(days=days)
        apply(engine, definition(f"mailing-{count}"), people(5))
        engine.tick()
        # Of the last 30 days: the first, the second, then 20 and 0 days ago, and with 25, 5 and 0 days ago three.
        assert ("r3@example.com" in engine.store.suppressed()) == (count >= 3), count
    assert engine.store.states("mailing-4") == {State.SENT: 4}


def test_a_dead_address_is_suppressed_and_a_refusal_of_us_is_not(engine: Engine, transport: Moody) -> None:
    kinds = {1: "hard", 2: "policy", 3: "other", 4: "soft"}
    transport.mood = lambda n: PermanentSendError("5xx", code=550, kind=kinds[n]) if n in kinds else None  # type: ignore[arg-type]
    apply(engine, definition(), people(8))
    engine.tick()
    assert engine.store.suppressed() == {"r1@example.com": "bounced"}


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_mail_that_missed_its_time_expires_and_is_never_sent(engine: Engine, transport: Moody, clock: Clock) -> None:
    busy = TransientSendError("451 busy")
    transport.mood = lambda n: busy if n == 3 else None
    apply(engine, definition(send_time={"expires": "2h"}), people(10))
    assert engine.tick(limit=6).outbox.total == 6
    tried = ledger(engine)[3].attempts
    clock.forward(hours=2)
    tick = engine.tick()
    assert tick.next_at is None
    states = engine.store.states("spring")
    assert states[State.EXPIRED] == 10 - states[State.SENT] - states.get(State.FAILED, 0)
    assert len(transport.messages) == states[State.SENT] == 6 - tried
    assert all(message.cell is not None for message in ledger(engine).values())


def test_a_retry_that_would_come_too_late_is_given_up_at_once(engine: Engine, transport: Moody) -> None:
    transport.mood = lambda _: TransientSendError("450 4.2.0 Greylisted, try again in 3 hours", retry_after=10_800.0)
    apply(engine, definition(send_time={"expires": "2h"}), people(1))
    engine.tick()
    (message,) = ledger(engine).values()
    assert message.state == State.FAILED
    assert str(message.error).startswith("given up after 1 tries: 450 4.2.0")


def test_what_expired_or_failed_can_be_put_back_into_the_row(engine: Engine, transport: Moody, clock: Clock) -> None:
    transport.mood = lambda n: (
        PermanentSendError("550", code=550, kind="hard" if n == 1 else "other") if n < 3 else None
    )
    apply(engine, definition(), people(6))
    engine.tick()
    assert engine.store.states("spring") == {State.FAILED: 3, State.SENT: 3}
    cells = {n: m.cell for n, m in ledger(engine).items()}
    transport.mood = lambda _: None
    assert engine.retry("spring", messages=[ledger(engine)[0].id]) == 1
    assert engine.retry("spring") == 2
    assert engine.retry("spring") == 0
    tick = engine.tick()
    assert (tick.outbox.sent, tick.outbox.skipped) == (2, 1)
    assert engine.store.states("spring") == {State.SUPPRESSED: 1, State.SENT: 5}
    assert cells == {n: m.cell for n, m in ledger(engine).items()}
    with pytest.raises(ValueError, match="'sent' cannot be sent again"):
        engine.retry("spring", state="sent")
    engine.stop("spring")
    with pytest.raises(StoreError, match="has ended"):
        engine.retry("spring")


# --- what nobody knows ------------------------------------------------------------------------------------------------


def crash(engine: Engine, transport: Moody) -> None:
    """Leave the ledger as a sender leaves it that is killed after a mail went out."""
    transport.mood = lambda n: UncertainSendError("no answer came") if n == 3 else None
    engine.tick()
    transport.mood = lambda _: None
    assert engine.store.states("spring")[State.UNCERTAIN] == 1


@pytest.mark.parametrize(("policy", "after"), [(None, None), ("hold", None), ("resend", 0), ("reconcile", 24)])
def test_an_uncertain_mail_is_held_or_sent_once_more_as_the_definition_says(
    engine: Engine, transport: Moody, clock: Clock, policy: str | None, after: int | None
) -> None:
    apply(engine, definition(message={} if policy is None else {"uncertain": policy}), people(8))
    crash(engine, transport)
    sent_after: int | None = None
    for hour in range(0, 30, 6):
        engine.tick()
        if sent_after is None and engine.store.states("spring") == {State.SENT: 8}:
            sent_after = hour
        clock.forward(hours=6)
    assert sent_after == after
    ids = [m.message_id for m in transport.messages if number(m.recipient) == 3]
    assert ids == ([] if after is None else [ledger(engine)[3].id])


def test_a_mail_is_sent_again_once_at_most(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(message={"uncertain": "resend"}), people(4))
    tries: list[int] = []

    def mood(n: int) -> Exception | None:
        tries.append(n)
        return UncertainSendError("no answer came") if n == 3 else None

    transport.mood = mood
    for _ in range(5):
        engine.tick()
        clock.forward(hours=1)
    assert tries.count(3) == 2
    assert engine.store.states("spring") == {State.SENT: 3, State.UNCERTAIN: 1}


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_a_pause_from_outside_stops_a_sender_before_its_next_mail(
    engine: Engine, store_url: str, transport: Moody
) -> None:
    apply(engine, definition(), people(50))
    with Engine(store_url, secret=SECRET) as other:

        def mood(_: int) -> None:
            if len(transport.messages) == 9:
                assert other.pause("spring", why="a link is broken")

        transport.mood = mood
        tick = engine.tick()
        assert tick.outbox.sent == 10
        assert other.status()[0].paused == "a link is broken"
        assert not other.pause("spring")
        assert engine.store.states("spring") == {State.SENT: 10, State.ASSIGNED: 40}
        transport.mood = lambda _: None
        assert engine.tick().outbox.total == 0
        assert other.resume("spring")
        assert not other.resume("spring")
    assert engine.tick().outbox.sent == 40
    assert engine.status()[0].is_finished
    with pytest.raises(UnknownExperiment):
        engine.pause("summer")
    with pytest.raises(UnknownExperiment):
        engine.resume("summer")


def test_a_retry_of_a_paused_experiment_waits_for_its_return(engine: Engine, transport: Moody, clock: Clock) -> None:
    transport.mood = lambda _: TransientSendError("451 busy")
    apply(engine, definition(), people(3))
    engine.tick()
    engine.pause("spring")
    clock.forward(hours=1)
    transport.mood = lambda _: None
    assert engine.tick().outbox.total == 0
    engine.resume("spring")
    assert engine.tick().outbox.sent == 3


# --- throttles --------------------------------------------------------------------------------------------------------


def test_a_group_that_wants_fewer_mails_does_not_hold_up_the_others(
    store_url: str, clock: Clock, transport: Moody
) -> None:
    throttle = Throttle(groups={"gmail": 1.0}, clock=clock.seconds)
    recipients = people(60, lambda i: "gmail.com" if i % 2 else "example.com")
    with Engine(store_url, transport=transport, secret=SECRET, clock=clock, throttle=throttle) as engine:
        apply(engine, definition(), recipients)
        tick = engine.tick()
        assert (tick.outbox.sent, tick.outbox.deferred) == (31, 29)
        assert all(message.attempts <= 1 for message in ledger(engine).values())
        assert tick.next_at is not None
        for _ in range(40):
            clock.forward(seconds=1)
            assert engine.tick().outbox.sent <= 1
        assert engine.store.states("spring") == {State.SENT: 60}


def test_a_throttle_hits_all_variants_alike(engine: Engine, transport: Moody, clock: Clock) -> None:
    """Half of the list is put off again and again: who got mail by a given time has no bearing on the variant."""
    answers = itertools.count()

    def mood(_: int) -> Exception | None:
        clock.forward(seconds=0.05)
        busy = next(answers) % 20 == 19
        return TransientSendError("421 4.7.0 Too many", code=421, throttled="recipient") if busy else None

    transport.mood = mood
    apply(engine, definition(), people(400, lambda _: "gmail.com"))
    for _ in range(60):
        engine.tick()
        clock.forward(seconds=5)
    messages = ledger(engine).values()
    sent = Counter(m.cell for m in messages if m.state == State.SENT)
    everybody = Counter(m.cell for m in messages)
    assert 50 < sum(sent.values()) < 350
    # Hypergeometric: the share of the first cell among those who got mail, within 5 standard deviations.
    n, share = sum(sent.values()), everybody[0] / 400
    deviation = (share * (1 - share) * n * (400 - n) / 399) ** 0.5
    assert abs(sent[0] - n * share) < 5 * deviation


# --- a server that behaves badly --------------------------------------------------------------------------------------


@dataclass
class BadServer:
    """Takes mails with a fault for some: numbers ending in 0 are refused, in 1 hung up after, in 2 left hanging after,
    in 3 reset after, in 4 answered 421, in 5 greylisted the first time, in 6 answered slowly and octet by octet."""

    accepted: list[int] = field(default_factory=list)
    seen: Counter[int] = field(default_factory=Counter)
    busy_greetings: int = 3
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def talk(self, connection: socket.socket) -> None:
        with self._lock:
            self.busy_greetings -= 1
            if self.busy_greetings >= 0:
                connection.sendall(b"421 4.3.2 Not now\r\n")
                return
        stream = connection.makefile("rb")
        connection.sendall(b"220 bad.example\r\n")
        n = -1
        with stream:
            for line in stream:
                command = line[:4].upper()
                if command == b"RCPT":
                    n = number(line.partition(b"<")[2].partition(b">")[0].decode())
                    with self._lock:
                        self.seen[n] += 1
                reply = self.reply(command, n)
                connection.sendall(reply)
                if command == b"DATA" and reply.startswith(b"354"):
                    while (content := stream.readline()) != b".\r\n":
                        assert content
                    if not self.take(connection, n):
                        return
                if command == b"QUIT" or reply.startswith(b"421"):
                    return

    def reply(self, command: bytes, n: int) -> bytes:
        match command, n % 10:
            case (b"RCPT", 0):
                return b"550 5.7.1 Refused\r\n"
            case (b"RCPT", 4) if self.seen[n] == 1:
                return b"421 4.7.0 Too many connections\r\n"
            case (b"RCPT", 5) if self.seen[n] == 1:
                return b"450 4.2.0 Greylisted\r\n"
            case (b"EHLO", _):
                return b"250-bad.example\r\n250 PIPELINING\r\n"
            case (b"DATA", _):
                good = n % 10 not in {0, 4, 5} or (n % 10 and self.seen[n] > 1)
                return b"354 Go\r\n" if good else b"503 5.5.1 No recipient\r\n"
            case (b"QUIT", _):
                return b"221 Bye\r\n"
            case _:
                return b"250 OK\r\n"

    def take(self, connection: socket.socket, n: int) -> bool:
        """Take a mail, and answer or fail to; returns whether the connection goes on."""
        with self._lock:
            self.accepted.append(n)
        match n % 10:
            case 1:
                return False
            case 2:
                connection.settimeout(5.0)
                with suppress(OSError):
                    connection.recv(1)
                return False
            case 3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return False
            case 6:
                for octet in b"250 2.0.0 Ok at last\r\n":
                    connection.sendall(bytes([octet]))
                    time.sleep(0.001)
            case _:
                connection.sendall(b"250 2.0.0 Ok\r\n")
        return True


@contextmanager
def bad_server() -> Iterator[BadServer]:
    server = BadServer()
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            server.talk(connection)

    def accept(listener: socket.socket) -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
        listener.settimeout(0.1)
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield server
        done.set()
        thread.join(5)


@pytest.mark.parametrize("connections", [1, 4])
def test_with_a_server_that_behaves_badly_the_books_balance(store_url: str, clock: Clock, connections: int) -> None:
    with bad_server() as server:
        transport = SMTP("127.0.0.1", port=server.port, local_hostname="client.example", timeout=2.0, data_timeout=0.1)
        throttle = Throttle()
        throttle.slow_down = lambda *_, **__: None  # type: ignore[method-assign]  # waits are tested elsewhere
        with Engine(
            store_url, transport=transport, secret=SECRET, clock=clock, connections=connections, throttle=throttle
        ) as engine:
            apply(engine, definition(), people(60))
            engine.store.pause = lambda *_, **__: False  # type: ignore[method-assign]
            while (at := engine.tick().next_at) is not None:
                clock.time = at
            found = ledger(engine)
            assert engine.status()[0].next_at is None
    assert max(Counter(server.accepted).values()) == 1
    taken = set(server.accepted)
    assert taken == {n for n in range(60) if n % 10}
    assert {n for n, m in found.items() if m.state == State.FAILED} == {n for n in range(60) if n % 10 == 0}
    assert {n for n, m in found.items() if m.state == State.UNCERTAIN} == {n for n in range(60) if n % 10 in {1, 2, 3}}
    assert all(m.state == State.SENT for n, m in found.items() if n % 10 > 3)
