"""The wire under SMTP: octets out and replies in, each within a time limit, at few system calls a mail."""

from __future__ import annotations

import math
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from abmail._replies import Reply

if TYPE_CHECKING:
    import re

__all__ = ["LostError", "Wire", "open_wire", "reason"]

_LONGEST_REPLY: Final = 65_536  # octets of all its lines
_LONGEST_LINE: Final = 8_192  # octets
_USUAL: Final = {b"250 ": 250, b"354 ": 354}
# Elsewhere the system's structure for a time limit is another one.
_SYSTEM_KEEPS_TIME: Final = sys.platform == "linux" and sys.maxsize > 2**32


class LostError(Exception):
    """The connection broke, timed out, or brought something that is no SMTP reply."""


class Wire:
    """A connected socket, whose replies are read in order."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines: list[bytes] = []  # of replies that have come and were not read yet, the last one first
        self._begun = b""
        self._limit = sock.gettimeout()

    def write(self, octets: bytes, seconds: float) -> None:
        """Send all of it within so many seconds."""
        try:
            self._send(octets, seconds)
        except OSError as error:
            raise LostError(reason(error)) from error

    def reply(self, seconds: float) -> Reply:
        """Take the next reply, its lines as one; waits so many seconds for anything to come."""
        line = self._line(seconds)
        if usual := _USUAL.get(line[:4]):
            return Reply(usual, line[4:])
        words, taken = line[4:], len(line)
        while line[3:4] == b"-" and taken <= _LONGEST_REPLY:
            line = self._line(seconds)
            words, taken = words + b" " + line[4:], taken + len(line)
        code = line[:3]
        if not code.isdigit() or not b"200" <= code <= b"599" or line[3:4] == b"-":
            raise LostError("the answer is no SMTP reply")
        return Reply(int(code), words)

    def skip(self, replies: re.Pattern[bytes], seconds: float) -> bool:
        """Pass over replies that come together and are as expected; all others are left to be read one by one."""
        if self._lines or self._begun:
            return False
        octets = self._receive(seconds)
        if replies.fullmatch(octets):
            return True
        self._keep(octets)
        return False

    def _line(self, seconds: float) -> bytes:
        """The next line, without its end."""
        while not self._lines:
            self._keep(self._receive(seconds))
        line = self._lines.pop()
        if len(line) > _LONGEST_LINE:
            raise LostError("the answer is no SMTP reply")
        return line

    def _keep(self, octets: bytes) -> None:
        *lines, self._begun = (self._begun + octets).split(b"\n")
        if len(self._begun) > _LONGEST_LINE:
            raise LostError("the answer is no SMTP reply")
        self._lines = lines[::-1]

    def _receive(self, seconds: float) -> bytes:
        try:
            octets = self._recv(seconds)
        except OSError as error:
            raise LostError(reason(error)) from error
        if not octets:
            raise LostError("the server closed it")
        return octets

    def _send(self, octets: bytes | memoryview, seconds: float) -> None:
        self._set_limit(seconds)
        self._sock.sendall(octets)

    def _recv(self, seconds: float) -> bytes:
        self._set_limit(seconds)
        return self._sock.recv(_LONGEST_LINE)

    def _set_limit(self, seconds: float | None) -> None:
        if seconds != self._limit:
            self._sock.settimeout(seconds)
            self._limit = seconds


class _PlainWire(Wire):
    """A wire whose usual time limit the system keeps.

    For a limit of Python's own the system is asked before each call whether the socket is ready, which takes about as
    long as the call. Here Python's limit is set only where the system's has passed, or its buffer is full.
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        super().__init__(sock)
        self._patience = patience
        seconds, microseconds = divmod(math.ceil(patience * 1e6), 1_000_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, microseconds))
        self._set_limit(None)

    def _send(self, octets: bytes | memoryview, seconds: float) -> None:
        view = memoryview(octets)
        try:
            sent = self._sock.send(view, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(view):
            super()._send(view[sent:], seconds)
            self._set_limit(None)

    def _recv(self, seconds: float) -> bytes:
        try:
            return self._sock.recv(_LONGEST_LINE)
        except BlockingIOError:
            if seconds <= self._patience:
                raise
        octets = super()._recv(seconds - self._patience)
        self._set_limit(None)
        return octets


def open_wire(sock: socket.socket, *, patience: float) -> Wire:
    """The wire over a socket after its TLS handshake, if any: TLS cannot do with the system's time limit.

    Args:
        sock: The connected socket.
        patience: The shortest time limit that will be asked for, seconds.
    """
    is_plain = type(sock) is socket.socket
    return _PlainWire(sock, patience) if is_plain and _SYSTEM_KEEPS_TIME else Wire(sock)


def reason(error: BaseException) -> str:
    """Why a connection failed, in words."""
    if isinstance(error, TimeoutError | BlockingIOError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
