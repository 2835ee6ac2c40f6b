"""Making mails: templates, signed links and MIME beside jinja2 with the standard library's EmailMessage.

Run: ``python -m benchmarks.sending``. Both ways fill the same two templates, sign 26 links in the HTML and the same
ones in the text, and end in bytes; rounds are interleaved, and the figures are mails per second of process CPU time.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import re
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import quote

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from abmail.events import Signer
from abmail.recipient import Recipient
from abmail.render import Renderer
from abmail.spec import Cell, Experiment

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TRACKER = "https://t.example.com"
SECRET = b"a secret of 24 bytes ..."
GOAL = 6.0  # times the standard library's way
_ITEM = """<tr><td style="padding:8px 16px;font-family:Arial,Helvetica,sans-serif;font-size:15px;color:#1f2329">
<a href="https://shop.example.com/{kind}/{number}?utm_source=mail&amp;utm_campaign=spring"
style="color:#0b5cad">Offer {number}</a>
Save {number} % on {kind} this week, {{{{ recipient.name }}}}. Delivered to your door, free of charge.
</td></tr>
"""
_KINDS = ("garden", "kitchen", "office", "travel", "reading")
_ITEMS = [(_KINDS[number % len(_KINDS)], number) for number in range(1, 26)]
HTML = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{{ subject }}</title>\n'
    "<style>@media (max-width: 620px) { .card { padding: 24px 20px !important; } }</style></head>\n"
    '<body style="margin:0;padding:0">\n<!--[if mso]><table width="600"><tr><td><![endif]-->\n'
    '<p style="margin:0 0 16px">Dear {{ recipient.name }},</p><table role="presentation" width="100%">\n'
    + "".join(_ITEM.format(kind=kind, number=number) for kind, number in _ITEMS)
    + '</table>\n<p><a href="https://shop.example.com/all">{{ cta }}</a></p>\n'
    "<!--[if mso]></td></tr></table><![endif]-->\n"
    '<p style="font-size:12px">This mail was sent to {{ recipient.email }}. '
    '<a href="{{ unsubscribe_url }}">Unsubscribe</a></p>\n</body></html>\n'
)
TEXT = (
    "Dear {{ recipient.name }},\n\n"
    + "".join(
        f"Offer {number}: https://shop.example.com/{kind}/{number}?utm_source=mail&utm_campaign=spring\n"
        for kind, number in _ITEMS
    )
    + "\n{{ cta }}: https://shop.example.com/all\n\nUnsubscribe: {{ unsubscribe_url }}\n"
)
Maker = Callable[[Cell, Recipient, str], bytes]


def definition() -> Experiment:
    """Two subjects and two buttons over one template."""
    return Experiment.from_dict({
        "spec": 1,
        "name": "spring",
        "factors": {
            "subject": {"plain": "Our spring offers", "name": "{{ recipient.name }}, our spring offers"},
            "cta": {"all": "See all offers", "now": "Save now"},
        },
        "control": {"subject": "plain", "cta": "all"},
        "message": {"template": "spring.html.j2", "text_template": "spring.txt.j2", "from": "Shop <news@example.com>"},
    })  # fmt: skip


def ours(experiment: Experiment, signer: Signer, *, text: str | None) -> Maker:
    """The way of this package; without ``text`` the text part is made from the HTML."""
    renderer = Renderer(experiment=experiment, template=HTML, text_template=text, tracker_url=TRACKER, signer=signer)
    return lambda cell, person, ident: renderer.render(cell=cell, recipient=person, message_id=ident, now=NOW).raw


class Usual:
    """jinja2, a regular expression over the links, HMAC tokens and EmailMessage, as a careful sender writes it."""

    _LINK = re.compile(r'href="(https?://[^"]+)"|(?<!")(https?://\S+)')

    def __init__(self, experiment: Experiment) -> None:
        html = ImmutableSandboxedEnvironment(autoescape=True, undefined=jinja2.StrictUndefined)
        text = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
        self._html, self._text = html.from_string(HTML), text.from_string(TEXT)
        self._subjects = {cell.name: text.from_string(cell.content["subject"]) for cell in experiment.cells}

    def __call__(self, cell: Cell, person: Recipient, ident: str) -> bytes:
        """Make one mail."""
        leave = f"{TRACKER}/u/{self._token('u', ident, '')}"
        given = {"recipient": {**person.attributes, "email": person.email}, "cta": cell.content["cta"]}
        subject = self._subjects[cell.name].render(given)
        values = {**given, "subject": subject, "unsubscribe_url": leave}
        mail = EmailMessage(policy=SMTP)
        mail["From"], mail["To"], mail["Subject"] = "Shop <news@example.com>", person.email, subject
        mail["Date"], mail["Message-ID"] = format_datetime(NOW), f"<{ident}@example.com>"
        mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"] = f"<{leave}>", "List-Unsubscribe=One-Click"
        mail["List-Id"], mail["Feedback-ID"] = "<news.example.com>", f"{cell.name}:spring:mail:example"
        mail.set_content(self._tracked(self._text.render(values), ident), cte="quoted-printable")
        pixel = f'<img src="{TRACKER}/o/{self._token("o", ident, "")}.gif" width=1 height=1 alt=""></body>'
        html = self._tracked(self._html.render(values), ident).replace("</body>", pixel)
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        return mail.as_bytes()

    def _tracked(self, content: str, ident: str) -> str:
        def swap(found: re.Match[str]) -> str:
            target = (found[1] or found[2]).replace("&amp;", "&")
            if target.startswith(TRACKER):
                return found[0]
            url = f"{TRACKER}/c/{self._token('c', ident, target)}?u={quote(target, safe='')}"
            return f'href="{url}"' if found[1] else url

        return self._LINK.sub(swap, content)

    @staticmethod
    def _token(kind: str, ident: str, target: str) -> str:
        tag = hmac.digest(SECRET, f"{kind}{ident}{target}".encode(), hashlib.sha256)[:16]
        return urlsafe_b64encode(kind.encode() + bytes.fromhex(ident) + tag).decode().rstrip("=")


def signer() -> Signer:
    """Signs the tokens."""
    return Signer(SECRET)


def people(n: int) -> list[tuple[Recipient, str]]:
    """Recipients with the ids of their mails; names of several scripts."""
    names, ids = ("Ann", "Bob Smith", "Çelik", "山田 太郎", "Zoë"), signer()
    return [
        (
            Recipient(id=str(i), email=f"u{i}@example.com", attributes={"name": names[i % 5]}),
            ids.message_id("s", str(i)),
        )
        for i in range(n)
    ]


def rate(make: Maker, experiment: Experiment, people: Sequence[tuple[Recipient, str]]) -> float:
    """Mails per second of CPU time."""
    start = time.process_time()
    for index, (person, ident) in enumerate(people):
        make(experiment.cells[index % 4], person, ident)
    return len(people) / (time.process_time() - start)


def main() -> int:
    """Measure and print; 1 where the goal was missed."""
    parser = argparse.ArgumentParser(description="making mails")
    parser.add_argument("--mails", type=int, default=200, help="mails in each round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    experiment = definition()
    crowd = people(options.mails)
    ways: dict[str, Maker] = {
        "jinja2 + EmailMessage": Usual(experiment),
        "abmail": ours(experiment, signer(), text=TEXT),
        "abmail, text made from the HTML": ours(experiment, signer(), text=None),
    }
    sizes = {name: len(make(experiment.cells[0], *crowd[0])) for name, make in ways.items()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, make in ways.items():
            found[name].append(rate(make, experiment, crowd))
    usual = found["jinja2 + EmailMessage"]
    print(f"{options.rounds} rounds of {options.mails} mails; mails per CPU second, times the first within a round")
    for name, rates in found.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(rates, usual, strict=True))
        print(
            f"{name:34} {sizes[name]:6} B  median {sorted(rates)[len(rates) // 2]:6.0f}  best {max(rates):6.0f}"
            f"  ratio {ratios[len(ratios) // 2]:5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    ratios = sorted(mine / theirs for mine, theirs in zip(found["abmail"], usual, strict=True))
    return int(ratios[len(ratios) // 2] < GOAL)


if __name__ == "__main__":
    sys.exit(main())
