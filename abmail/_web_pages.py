"""The pages that a reader sees: English and Japanese, without script and without anything from elsewhere."""

from __future__ import annotations

import hashlib
import html
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MAIL_HEADERS", "PRIVATE", "page"]

PRIVATE: Final = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex", "Referrer-Policy": "no-referrer"}
"""Headers of every answer: nobody may keep it, index it, or pass its address on."""

_STYLE: Final = """
:root{color-scheme:light dark}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f4f5f7;color:#1c2430;
font:1.0625rem/1.6 system-ui,-apple-system,"Segoe UI","Hiragino Sans","Noto Sans JP",sans-serif}
main{box-sizing:border-box;width:min(30rem,100% - 2rem);margin:1rem;padding:2rem 1.75rem;background:#fff;
border-radius:14px;box-shadow:0 1px 3px rgba(16,24,40,.12),0 8px 24px rgba(16,24,40,.06)}
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.3;text-wrap:balance}
:lang(ja){word-break:auto-phrase}
p{margin:0 0 1.5rem}
p:last-child{margin:0}
button{width:100%;min-height:3rem;padding:.75rem 1.25rem;border:0;border-radius:10px;background:#1a56db;color:#fff;
font:inherit;font-weight:600;cursor:pointer}
button:hover{background:#1e429f}
button:focus-visible{outline:3px solid #1a56db;outline-offset:3px}
@media(prefers-color-scheme:dark){body{background:#11151c;color:#e6e9ef}main{background:#1b222d;box-shadow:none}
button:focus-visible{outline-color:#93b4ff}}
"""

_WORDS: Final = {
    "en": {
        "offer": ("Unsubscribe", "Press the button and you will get no more of these e‑mails.", "Unsubscribe"),
        "done": ("You are unsubscribed", "You will get no more of these e‑mails. You can close this page.", ""),
        "bad_link": (
            "This link does not work",
            "It may have been cut off on its way. Open it once more from the e‑mail, or answer the e‑mail.",
            "",
        ),
        "away": (
            "Please come back in a moment",
            "This page cannot be shown just now. Please open the link once more in a moment.",
            "",
        ),
        "try_later": (
            "Please try again",
            "Your wish could not be stored just now. Please try again in a moment.",
            "Try again",
        ),
    },
    "ja": {
        "offer": ("配信停止", "ボタンを押すと、今後このメールは届かなくなります。", "配信を停止する"),
        "done": ("配信を停止しました", "今後このメールは届きません。このページは閉じて構いません。", ""),
        "bad_link": (
            "このリンクは開けません",
            "途中で切れている可能性があります。メールからもう一度開くか、メールにご返信ください。",
            "",
        ),
        "away": (
            "ただいま表示できません",
            "しばらくしてから、もう一度リンクを開いてください。",
            "",
        ),
        "try_later": (
            "もう一度お試しください",
            "ただいま処理できませんでした。しばらくしてからもう一度お試しください。",
            "もう一度試す",
        ),
    },
}

_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_PAGE_HEADERS: Final = {
    **PRIVATE,
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


MAIL_HEADERS: Final = {
    **PRIVATE,
    # A mail is its author's, with values of a list in it: it may show pictures and styles, and do nothing.
    "Content-Security-Policy": "default-src 'none'; img-src * data:; style-src * 'unsafe-inline'; font-src *; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-popups allow-top-navigation-by-user-activation",
    "X-Content-Type-Options": "nosniff",
}


def page(
    request: Request, name: str, *, language: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """One of the reader's pages; without script, and without anything from elsewhere."""
    if language not in _WORDS:
        language = "ja" if request.headers.get("accept-language", "").lower().startswith("ja") else "en"
    title, text, action = (html.escape(each) for each in _WORDS[language][name])
    # Without an action the form goes to the page's own URL, wherever the tracker is mounted.
    form = f'<form method="post"><button name="unsubscribe" value="yes">{action}</button></form>' if action else ""
    content = (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p role="status">{text}</p>\n{form}\n</main>\n</body>\n</html>\n'
    )
    return Response(content, status, {**_PAGE_HEADERS, **(headers or {})}, media_type="text/html; charset=utf-8")
