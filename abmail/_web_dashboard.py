"""The dashboard: what every experiment shows so far, for people who have the password. It changes nothing."""

from __future__ import annotations

import hmac
import logging
import threading
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from abmail._html import fill_page
from abmail._web_pages import PRIVATE
from abmail.errors import AbmailError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request

__all__ = ["dashboard_routes"]

_log = logging.getLogger("abmail")

_HEADERS: Final = {
    **PRIVATE,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "Experiments", "none": "No experiment was applied yet.", "experiment": "Experiment", "state": "State",
        "mails": "Mails sent", "waiting": "Waiting", "next": "Next mails (UTC)", "running": "running",
        "stopped": "stopped", "paused": "paused", "finished": "all sent", "back": "All experiments",
        "missing": "There is no such experiment.", "away": "The figures cannot be read just now. Please come back.",
    },
    "ja": {
        "title": "テスト一覧", "none": "適用されたテストはまだありません。", "experiment": "テスト", "state": "状態",
        "mails": "送信済み", "waiting": "送信待ち", "next": "次の送信（UTC）", "running": "実施中",
        "stopped": "停止", "paused": "一時停止", "finished": "送信完了", "back": "テスト一覧へ",
        "missing": "そのテストはありません。",
        "away": "ただいま表示できません。しばらくしてからもう一度お試しください。",
    },
}  # fmt: skip
_WAITING: Final = ("queued", "assigned", "sending")


class Shown(Protocol):
    """Where experiments are; an `Engine` fits."""

    def status(self) -> Sequence[Any]:
        """Each experiment's `Status`."""

    def analyze(self, name: str, /) -> Any:
        """What an experiment has shown: a `Report`."""


def dashboard_routes(shown: Shown, password: str) -> list[Route]:
    """The routes: ``GET /dashboard`` lists the experiments, ``GET /dashboard/{name}`` is the report of one.

    A browser asks for a name, which may be any, and the password (HTTP Basic, RFC 7617): put TLS before it. Pages are
    in the browser's language, English or Japanese, or in that of ``?language=``. They are worked out one at a time.

    Args:
        shown: Where experiments are.
        password: What opens it; where it is empty there is no dashboard.
    """
    pages = _Dashboard(shown, password)
    return [
        Route("/dashboard", pages.everything, methods=["GET"]),
        Route("/dashboard/{name}", pages.one, methods=["GET"]),
    ] if password else []  # fmt: skip


class _Dashboard:
    def __init__(self, shown: Shown, password: str) -> None:
        self._shown, self._password = shown, password.encode()
        self._one_at_a_time = threading.Lock()

    async def everything(self, request: Request) -> Response:
        return await self._answer(request, self._list)

    async def one(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await self._answer(request, lambda language: self._report(name, language))

    async def _answer(self, request: Request, make: Callable[[str], tuple[int, str]]) -> Response:
        if not self._may(request.headers.get("authorization", "")):
            headers = {**_HEADERS, "WWW-Authenticate": 'Basic realm="abmail", charset="UTF-8"'}
            return Response("the dashboard needs its password", 401, headers, media_type="text/plain; charset=utf-8")
        status, page = await run_in_threadpool(self._made, make, _language(request))
        return Response(page, status, _HEADERS, media_type="text/html; charset=utf-8")

    def _made(self, make: Callable[[str], tuple[int, str]], language: str) -> tuple[int, str]:
        with self._one_at_a_time:
            try:
                return make(language)
            except Exception:
                _log.exception("the dashboard could not be shown")
                return 503, _page(language, note=_WORDS[language]["away"])

    def _may(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        try:
            _, colon, presented = b64decode(given.strip(), validate=True).partition(b":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and bool(colon) and hmac.compare_digest(presented, self._password)

    def _list(self, language: str) -> tuple[int, str]:
        words = _WORDS[language]
        rows = [
            {
                "name": each.experiment,
                "state": words[_state(each)],
                "sent": f"{each.messages.get('sent', 0):,}",
                "waiting": f"{sum(each.messages.get(state, 0) for state in _WAITING):,}",
                "next": "" if each.next_at is None or each.paused else f"{each.next_at:%Y-%m-%d %H:%M}",
            }
            for each in self._shown.status()
        ]
        return 200, _page(language, rows=rows, note="" if rows else words["none"])

    def _report(self, name: str, language: str) -> tuple[int, str]:
        if name not in {each.experiment for each in self._shown.status()}:
            return 404, _page(language, note=_WORDS[language]["missing"], back=True)
        try:
            return 200, self._shown.analyze(name).to_html(language=language)
        except AbmailError as error:
            return 503, _page(language, note=str(error), back=True)


def _language(request: Request) -> str:
    asked = request.query_params.get("language", "") or request.headers.get("accept-language", "")
    return "ja" if asked.lower().startswith("ja") else "en"


def _state(each: Any) -> str:
    if each.paused is not None:
        return "paused"
    return "finished" if each.state == "running" and each.is_finished else str(each.state)


def _page(language: str, *, rows: Sequence[Mapping[str, str]] = (), note: str = "", back: bool = False) -> str:
    return fill_page("dashboard.html.j2", language=language, words=_WORDS[language], rows=rows, note=note, back=back)
