"""What keeps the tracker upright: who really asks, how often one address may, and how much a request may hold."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse

from abmail._networks import address_of
from abmail._web_pages import PRIVATE
from abmail._web_writer import CAPACITY
from abmail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "ADDRESS",
    "MAX_BODY",
    "MAX_URL",
    "MAX_WEBHOOK",
    "Guard",
    "Proxies",
    "RateLimit",
    "TrackerSettings",
    "own_path",
    "rate_limit",
]

MAX_URL: Final = 8_192
"""Longest path and query in bytes; a click's target travels in the query, percent-encoded."""
MAX_BODY: Final = 65_536
"""Longest body in bytes; a one-click unsubscribe has 26."""
MAX_WEBHOOK: Final = 5 * 1_048_576
"""Longest body in bytes of a provider's webhook, which brings many events."""
ADDRESS: Final = "abmail.address"
"""Key of the reader's address in the scope of a request."""
_SOCKET: Final = "unix"
_ADDRESSES: Final = 20_000
_BURST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSettings:
    """How a tracker is run.

    Attributes:
        proxies: Networks whose word on the reader's address is taken (``127.0.0.1``, ``10.0.0.0/8``, ``unix`` for who
            comes over a Unix socket); nobody's by default.
        rate: Requests a second from one address (from one /64 of IPv6), in the long run; five seconds' worth may come
            at once. 0 for as many as come. Unsubscribing is never limited, and of webhooks, which a provider sends from
            few addresses, only those that are refused are counted.
        capacity: Most opens and clicks that wait to be stored.
        metrics: Whether ``/metrics`` tells numbers for Prometheus.

    Raises:
        ConfigError: A network cannot be read, or a number is out of range.
    """

    proxies: tuple[str, ...] = ()
    rate: float = 200.0
    capacity: int = CAPACITY
    metrics: bool = False

    def __post_init__(self) -> None:
        Proxies(self.proxies)
        if not 0.0 <= self.rate < float("inf"):
            raise ConfigError(f"the tracker's rate is {self.rate}, must be 0 (no limit) or more requests a second")
        if self.capacity < 1:
            raise ConfigError(f"the tracker's capacity is {self.capacity} events, must be 1 or more")


class Proxies:
    """Tells who asks. The word of a proxy is taken only where it was named.

    Args:
        networks: See `TrackerSettings.proxies`.

    Raises:
        ConfigError: One of them is no network.

    >>> proxies = Proxies(["10.0.0.0/8"])
    >>> proxies.reader("10.1.2.3", ["198.51.100.7, 203.0.113.9", "10.9.9.9"])
    '203.0.113.9'
    >>> proxies.reader("192.0.2.1", ["203.0.113.9"])
    '192.0.2.1'
    """

    def __init__(self, networks: tuple[str, ...] | list[str]) -> None:
        self._networks = tuple(_network(each) for each in networks if each != _SOCKET)
        self._socket = _SOCKET in networks
        self._is_named = lru_cache(4_096)(self._look_up)

    def reader(self, peer: str, forwarded: list[str]) -> str:
        """Address of the reader.

        Args:
            peer: Address of who is connected to us; empty over a Unix socket.
            forwarded: Values of X-Forwarded-For, in order.

        Returns:
            The last address that no named proxy vouches for; the peer's own where it is none.
        """
        address = peer
        for hop in reversed(",".join(forwarded).split(",") if forwarded else []):
            if not self._is_named(address):
                break
            address = hop.strip() or address
        return address

    def _look_up(self, address: str) -> bool:
        if not address:
            return self._socket
        found = address_of(address)
        return found is not None and any(found in network for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no network of proxies", hint="write them as 127.0.0.1, 10.0.0.0/8, 2001:db8::/32, or unix"
        ) from None


class RateLimit:
    """Token buckets, one for each address, of which the longest unused ones are forgotten.

    A bucket is one number: the time at which it will be full again.

    Args:
        rate: Requests a second; 0 for no limit.
        burst: Most that may come at once.
        addresses: Most buckets that are remembered.
        clock: Seconds, never running backwards.

    >>> limit = RateLimit(1.0, burst=2.0, clock=lambda: 0.0)
    >>> [limit.takes("192.0.2.1") for _ in range(3)], limit.takes("192.0.2.2")
    ([True, True, False], True)
    """

    def __init__(
        self, rate: float, *, burst: float, addresses: int = _ADDRESSES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._addresses, self._clock = rate, burst, addresses, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def takes(self, address: str) -> bool:
        """Whether one more request of an address may pass."""
        if not self._rate:
            return True
        now, key = self._clock(), _household(address)
        full_at = max(self._full_at.pop(key, now), now) + 1.0 / self._rate
        passes = full_at - now <= self._burst / self._rate + 1e-9
        self._full_at[key] = full_at if passes else full_at - 1.0 / self._rate
        if len(self._full_at) > self._addresses:
            self._full_at.popitem(last=False)
        return passes

    def has_room(self, address: str) -> bool:
        """Whether `takes` would let one pass; nothing is counted."""
        if not self._rate:
            return True
        now = self._clock()
        wait = max(self._full_at.get(_household(address), now) - now, 0.0)
        return wait + 1.0 / self._rate <= self._burst / self._rate + 1e-9


def _household(address: str) -> str:
    """The address, or the /64 of one of IPv6: a single home has as many of these as it likes."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Guard:
    """Stands before the routes: finds out who asks, and turns away what is too much before anything is parsed.

    Args:
        app: The routes.
        proxies: Whose word is taken.
        limit: How often one address may ask.
        refused: How often one address may send webhooks that are refused; of those that are taken any number may come.
    """

    def __init__(self, app: ASGIApp, *, proxies: Proxies, limit: RateLimit, refused: RateLimit) -> None:
        self._app, self._proxies, self._limit, self._refused = app, proxies, limit, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, self._watching(scope, send) if _is_webhook(scope) else send)

    def _watching(self, scope: Scope, send: Send) -> Send:
        """What counts a webhook that is refused."""

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_taken = scope["method"] == "POST" and message["status"] < 400
                if not is_taken and message["status"] < 500:  # what went wrong here is not the sender's fault
                    self._refused.takes(scope[ADDRESS])
            await send(message)

        return watch

    def _refusal(self, scope: Scope) -> Response | None:
        path = own_path(scope)
        if len(scope.get("raw_path") or path) + len(scope["query_string"]) > MAX_URL:
            return _refuse("URL too long", 414)
        declared, forwarded = b"0", []
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = value
            elif name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
        most = MAX_WEBHOOK if _is_webhook(scope) else MAX_BODY
        if len(declared) > 20 or (declared.isdigit() and int(declared) > most):
            return _refuse("Body too large", 413)
        client = scope.get("client")
        scope[ADDRESS] = address = self._proxies.reader(client[0] if client else "", forwarded)
        if scope["method"] == "POST" and path.startswith("/u/"):
            return None  # nobody who wants to leave is told to wait
        passes = self._refused.has_room(address) if _is_webhook(scope) else self._limit.takes(address)
        return None if passes else _refuse("Too many requests", 429, {"Retry-After": "1"})


def _is_webhook(scope: Scope) -> bool:
    return own_path(scope).startswith("/w/")


def own_path(scope: Scope) -> str:
    """The path within the tracker, wherever it is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path")
    return path.removeprefix(root) if root else path


def _refuse(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, headers={**PRIVATE, **(headers or {})})


def rate_limit(settings: TrackerSettings, clock: Callable[[], float] = time.monotonic) -> RateLimit:
    """The limit that the settings ask for."""
    return RateLimit(settings.rate, burst=max(settings.rate * _BURST_SECONDS, 1.0), clock=clock)
