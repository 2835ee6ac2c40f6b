"""The wire under SMTP: time limits that the system keeps, replies however they are cut, and no call too many."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abmail._replies import Reply
from abmail._wire import LostError, Wire, open_wire

TAKEN = re.compile(rb"2\d\d [^\n]*\n2\d\d [^\n]*\n354 [^\n]*\n")
LATE = 0.2  # seconds; nothing fails where it is longer
EVERY = [False, True]


@dataclass
class Line:
    """Both ends of a connection."""

    wire: Wire
    ours: socket.socket
    theirs: socket.socket


@pytest.fixture
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """The parameter says whether the wire is one for any socket, such as TLS has; it is patient for 0.05 s."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Line(Wire(ours) if request.param else open_wire(ours, patience=0.05), ours, theirs)


@pytest.mark.parametrize("line", EVERY, indirect=True)
def test_a_reply_may_come_later_than_usual_where_its_limit_is_longer(line: Line) -> None:
    for number in (1, 2):
        timer = threading.Timer(LATE, line.theirs.sendall, [b"250 %d\r\n" % number])
        timer.start()
        assert line.wire.reply(30.0) == Reply(250, b"%d\r" % number)
        timer.join()


@pytest.mark.parametrize("line", EVERY, indirect=True)
@pytest.mark.parametrize("seconds", [0.05, 0.1])
def test_silence_ends_with_the_limit(line: Line, seconds: float) -> None:
    line.theirs.sendall(b"250 half a rep")
    with pytest.raises(LostError, match="no answer in time"):
        line.wire.reply(seconds)


@pytest.mark.parametrize("line", EVERY, indirect=True)
def test_what_does_not_fit_into_the_buffer_goes_out_as_the_other_end_reads(line: Line) -> None:
    octets = bytes(range(256)) * 40_000
    read = bytearray()

    def reader() -> None:
        while len(read) < len(octets):
            read.extend(line.theirs.recv(65_536))
        line.theirs.sendall(b"250 OK\r\n")

    thread = threading.Thread(target=reader)
    thread.start()
    line.wire.write(octets, 30.0)
    assert line.wire.reply(30.0).code == 250
    thread.join()
    assert read == octets


@pytest.mark.parametrize("line", EVERY, indirect=True)
def test_an_end_that_reads_nothing_stops_the_writing(line: Line) -> None:
    with pytest.raises(LostError, match="no answer in time"):
        line.wire.write(bytes(10_000_000), 0.1)


@pytest.mark.parametrize("line", EVERY, indirect=True)
def test_an_end_that_closed_is_told(line: Line) -> None:
    line.theirs.close()
    with pytest.raises(LostError, match="the server closed it"):
        line.wire.reply(30.0)
    with pytest.raises(LostError, match="Broken pipe"):
        line.wire.write(b"MAIL", 30.0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python keeps the limit")
@pytest.mark.parametrize("line", [False], indirect=True)
def test_an_ordinary_exchange_sets_no_time_limit(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be a system call, and one more before every octet that is sent or received."""
    threading.Timer(LATE, line.theirs.sendall, [b"250 late\r\n"]).start()
    line.wire.reply(30.0)
    assert line.ours.gettimeout() is None
    for name in ("settimeout", "setblocking", "setsockopt"):
        monkeypatch.setattr(socket.socket, name, None, raising=False)
    line.theirs.sendall(b"250 1\r\n250 2\r\n354 3\r\n")
    line.wire.write(b"MAIL, RCPT, DATA", 30.0)
    assert line.wire.skip(TAKEN, 30.0)
    line.wire.write(b"a message", 600.0)
    line.theirs.sendall(b"250 4\r\n")
    assert line.wire.reply(600.0) == Reply(250, b"4\r")


LINES = st.sampled_from([b"250 OK", b"250-more", b"354 Go", b"354", b"550 No", b"421 Bye", b"299 Odd"])


@settings(deadline=None)
@example([b"250 OK", b"250 OK", b"354 Go"], 40)
@example([b"250 OK", b"250 OK", b"354 Go", b"421 Bye"], 40)
@given(st.lists(LINES, min_size=1, max_size=6), st.integers(1, 40))
def test_replies_that_are_skipped_are_those_that_would_be_read(lines: list[bytes], cut: int) -> None:
    """Skipping first, then reading on, gives what reading each alone gives, wherever the octets are cut."""
    octets = b"".join(line + b"\r\n" for line in lines)

    def read(wire: Wire, replies: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        while True:
            try:
                reply = wire.reply(1.0)
            except LostError:
                return replies
            replies.append((reply.code, reply.words))

    found = []
    for is_skipping in (False, True):
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)  # what is sent in one call comes in one
        with ours, theirs:
            for start in range(0, len(octets), cut):
                theirs.sendall(octets[start : start + cut])
            theirs.close()
            wire = open_wire(ours, patience=1.0)
            skipped = is_skipping and wire.skip(TAKEN, 1.0)
            found.append([(int(line[:3]), line[4:] + b"\r") for line in lines[:3]] if skipped else [])
            found[-1] = read(wire, found[-1])
            assert not skipped or [code // 100 for code, _ in found[-1][:3]] == [2, 2, 3]
    assert found[0] == found[1]
