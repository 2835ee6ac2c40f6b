"""Conversions and replies that a website or a shop reports: a pixel on its page, or a call from its server.

Both prove themselves by a token that stands in the mail for the links' targets (``{{ conversion_token }}``). A reader
can see it, and could report conversions of their own mail with it. A server that has a key needs no token: it names the
mail by our message id, or by the experiment and the recipient.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from abmail._web_endpoints import PIXEL
from abmail._web_pages import PRIVATE
from abmail.events import Event, EventType
from abmail.recipient import normalise_email

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.requests import Request

    from abmail._web_hits import Tracking

__all__ = ["conversion_api", "conversion_routes"]

_log = logging.getLogger("abmail")

_TYPES: Final = (EventType.CONVERTED, EventType.REPLIED)
_MOST_KEY: Final = 200
_MOST_BODY: Final = 4_096
_AHEAD: Final = timedelta(minutes=5)  # by which a server's clock may be ahead of ours


def conversion_routes(tracking: Tracking, clock: Callable[[], datetime]) -> list[Route]:
    """The routes.

    ============================  ==========================================  =========================================
    request                       answer                                      effect
    ============================  ==========================================  =========================================
    GET /k/{token}.gif?value&key  200, a GIF of 43 bytes; 404 for no token    ``converted``; HEAD changes nothing
    POST /k/{token}               200, or 400 with what is wrong; JSON        ``converted`` or ``replied``
    ============================  ==========================================  =========================================

    ``value`` is a number, ``key`` names the order: the same again changes nothing. A POST has them as JSON or as a
    form, and may have ``type``. Either is committed before the answer; 503 asks to try again.
    """
    conversions = _Conversions(tracking, clock)
    return [
        Route("/k/{token}.gif", conversions.pixel, methods=["GET"]),
        Route("/k/{token}", conversions.call, methods=["POST"]),
    ]


class Recording(Protocol):
    """Where events are kept; an `Engine` fits."""

    def record_all(self, events: Iterable[Event], /) -> object:
        """Store events in one transaction; those with a key that was stored before change nothing."""


class Ledger(Protocol):
    """Where messages are looked up; a `Store` fits."""

    def known_messages(self, ids: Sequence[str], /) -> frozenset[str]:
        """Those of some message ids that are known."""

    def messages_to(self, name: str, /, *, recipients: Sequence[str], emails: Sequence[str]) -> Mapping[str, str]:
        """The last message of an experiment to each of some people, by their ids and by their addresses."""


def conversion_api(
    recording: Recording, ledger: Ledger, keys: Sequence[str], *, clock: Callable[[], datetime]
) -> list[Route]:
    """The route for servers that have a key: ``POST /k`` with ``Authorization: Bearer KEY`` and a JSON object.

    It has ``message_id``, or ``experiment`` with ``recipient`` or ``email``; ``key``, the order's: the same again
    changes nothing; and may have ``value``, ``type`` (``converted`` or ``replied``) and ``at`` (ISO 8601 with a zone).
    200 once it is committed, 401 without a key that is known, 404 for a mail that is not, 400 for what cannot be read.

    Args:
        recording: Where events are kept.
        ledger: Where messages are looked up.
        keys: Those that are accepted; without any there is no route.
        clock: Tells the time, aware UTC.
    """
    api = _Api(recording, ledger, tuple(keys), clock)
    return [Route("/k", api.call, methods=["POST"])] if keys else []


class _Api:
    def __init__(
        self, recording: Recording, ledger: Ledger, keys: Sequence[str], clock: Callable[[], datetime]
    ) -> None:
        self._recording, self._ledger, self._keys, self._clock = recording, ledger, keys, clock

    async def call(self, request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._accepts(given.strip()):
            return _answer(401, "no key that is known", {"WWW-Authenticate": "Bearer"})
        try:
            fields = _fields("json", await _body(request))
            known = await run_in_threadpool(self._record, fields)
        except ValueError as error:
            return _answer(400, str(error))
        except Exception:
            _log.exception("a conversion could not be stored")
            return _answer(503, "not stored, try again", {"Retry-After": "120"})
        return _answer(200, "stored") if known else _answer(404, "no such mail")

    def _accepts(self, given: str) -> bool:
        presented = given.encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(key.encode(), presented) for key in self._keys)

    def _record(self, fields: Mapping[str, Any]) -> bool:
        if not fields.get("key"):
            raise ValueError("key must name the order, so that the same one twice counts once")
        at, message = _moment(fields.get("at"), self._clock()), self._message(fields)
        if message is None:
            return False
        self._recording.record_all([_event(message, fields, at)])
        return True

    def _message(self, fields: Mapping[str, Any]) -> str | None:
        named = {name: fields[name] for name in ("message_id", "experiment", "recipient", "email") if name in fields}
        if not all(isinstance(value, str) and value for value in named.values()):
            raise ValueError(f"{', '.join(named)} must be texts")
        if "message_id" in named:
            return next(iter(self._ledger.known_messages([named["message_id"]])), None)
        who = named.get("recipient") or (normalise_email(named["email"]) if "email" in named else "")
        if "experiment" not in named or not who:
            raise ValueError("the mail must be named by message_id, or by experiment and recipient or email")
        wanted = {"recipients": [who], "emails": []} if "recipient" in named else {"recipients": [], "emails": [who]}
        return self._ledger.messages_to(named["experiment"], **wanted).get(who)


def _moment(given: object, now: datetime) -> datetime:
    if given is None:
        return now
    try:
        at = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"at is {str(given)[:40]!r}, must be a time with its zone, such as 2026-03-01T10:00:00+09:00")
    if at > now + _AHEAD:
        raise ValueError(f"at is {at.isoformat()}, which lies in the future")
    return at


class _Conversions:
    def __init__(self, tracking: Tracking, clock: Callable[[], datetime]) -> None:
        self._tracking, self._clock = tracking, clock

    async def pixel(self, request: Request) -> Response:
        """A page's pixel: what is wrong with its values is not the reader's fault, and only logged."""
        message = self._message(request)
        if message is None:
            return _answer(404, "no such token")
        if request.method != "HEAD":
            try:
                await run_in_threadpool(self._record, message, dict(request.query_params))
            except ValueError as error:
                _log.warning("a conversion pixel says nonsense: %s", error)
            except Exception:
                _log.exception("a conversion could not be stored")
                return _answer(503, "not stored, try again", {"Retry-After": "120"})
        return Response(PIXEL, media_type="image/gif", headers=PRIVATE)

    async def call(self, request: Request) -> Response:
        """A server's call."""
        message = self._message(request)
        if message is None:
            return _answer(404, "no such token")
        try:
            fields = _fields(request.headers.get("content-type", ""), await _body(request))
            await run_in_threadpool(self._record, message, fields)
        except ValueError as error:
            return _answer(400, str(error))
        except Exception:
            _log.exception("a conversion could not be stored")
            return _answer(503, "not stored, try again", {"Retry-After": "120"})
        return _answer(200, "stored")

    def _message(self, request: Request) -> str | None:
        token = self._tracking.signer.verify("k", request.path_params["token"])
        return None if token is None else token.message_id

    def _record(self, message: str, fields: Mapping[str, Any]) -> None:
        self._tracking.record_all([_event(message, fields, self._clock())])


def _event(message: str, fields: Mapping[str, Any], now: datetime) -> Event:
    kind = fields.get("type") or EventType.CONVERTED
    if kind not in _TYPES:
        raise ValueError(f"type is {str(kind)[:40]!r}, must be one of {', '.join(_TYPES)}")
    order = fields.get("key") or ""
    if not isinstance(order, str) or len(order) > _MOST_KEY:
        raise ValueError(f"key must be a text of at most {_MOST_KEY} characters")
    # An order's number is the shop's: it must not meet the key of another mail's event.
    key = f"{message}:{kind}:{order}" if order else ""
    return Event(type=EventType(kind), at=now, message_id=message, value=_value(fields.get("value")), key=key)


def _value(given: object) -> float | None:
    if given is None or given == "":
        return None
    try:
        value = float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"value is {str(given)[:40]!r}, must be a number")
    return value


def _fields(kind: str, body: bytes) -> Mapping[str, Any]:
    if not body:
        return {}
    try:
        text = body.decode()
        if "json" not in kind:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=20))
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the body is neither JSON nor a form in UTF-8") from None
    if not isinstance(fields, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  # a value in somebody's request
    return fields


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            raise ValueError(f"the body has more than {_MOST_BODY} bytes")
    return body


def _answer(status: int, said: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"status": said}, status, headers={**PRIVATE, **(headers or {})})
