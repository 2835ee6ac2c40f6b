"""Gets small files over https from addresses that were checked before: no redirects, not much, not for long."""

from __future__ import annotations

import urllib.request
from functools import lru_cache
from http.client import HTTPMessage, HTTPResponse
from typing import IO, Final

__all__ = ["fetch", "fetch_once"]

_SECONDS: Final = 10.0
_MOST: Final = 100_000  # octets


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow nothing: the new address was not checked."""


_opener = urllib.request.build_opener(_NoRedirects)


def fetch(url: str) -> bytes:
    """The content of an address.

    Raises:
        OSError: It cannot be had, is no https, or is larger than 100 kB.
    """
    if not url.startswith("https://"):
        raise OSError(f"{url[:100]} is no https address")
    answer: HTTPResponse
    with _opener.open(url, timeout=_SECONDS) as answer:
        content = answer.read(_MOST + 1)
    if len(content) > _MOST:
        raise OSError(f"{url[:100]} holds more than {_MOST} octets")
    return content


fetch_once = lru_cache(maxsize=32)(fetch)
"""The same, asked for once while the process lives: for certificates, whose addresses never hold another one."""
