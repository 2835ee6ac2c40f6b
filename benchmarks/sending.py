"""Making and sending mails beside jinja2 with the standard library's EmailMessage and smtplib.

Run: ``python -m benchmarks.sending``. Both ways fill the same two templates, sign 26 links in the HTML and the same
ones in the text, and end in bytes; the same offers with inlined styles and in MJML stand beside them. Rounds are
interleaved, and the figures are mails per second of process CPU time. Then the same mails go over SMTP to a sink in
another process (`benchmarks._wire`): sending alone, making and sending, and sending over a round trip of 20 ms with 16
connections, by the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import re
import smtplib
import statistics
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

import abmail
from abmail.events import Signer
from abmail.recipient import Recipient
from abmail.render import Renderer
from abmail.spec import Cell, Experiment
from benchmarks import _wire as wire

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TRACKER = "https://t.example.com"
SECRET = b"a secret of 24 bytes ..."
GOAL = 6.0  # times the standard library's way
SEND_GOAL, WHOLE_GOAL, FAR_GOAL = 2.5, 5.0, 1.8
ROUND_TRIP, CONNECTIONS = 0.02, 16
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
# The same offers with a style sheet to be written into the tags, and in MJML.
STYLED = HTML.replace("<style>", "<style>td { padding: 8px 16px } a { color: #0b5cad } .card p { margin: 0 }\n")
MJML = (
    "<mjml><mj-head><mj-title>{{ subject }}</mj-title></mj-head><mj-body>\n<mj-section><mj-column>"
    "<mj-text>Dear {{ recipient.name }},</mj-text>\n"
    + "".join(
        f'<mj-text><a href="https://shop.example.com/{kind}/{number}?utm_source=mail&amp;utm_campaign=spring">'
        f"Offer {number}</a> Save {number} % on {kind} this week, {{{{ recipient.name }}}}.</mj-text>\n"
        for kind, number in _ITEMS
    )
    + '<mj-button href="https://shop.example.com/all">{{ cta }}</mj-button>\n'
    '<mj-text>This mail was sent to {{ recipient.email }}. <a href="{{ unsubscribe_url }}">Unsubscribe</a></mj-text>\n'
    "</mj-column></mj-section></mj-body></mjml>\n"
)
Maker = Callable[[Cell, Recipient, str], bytes]


def definition(template: str = "spring.html.j2", *, inline_css: bool = False) -> Experiment:
    """Two subjects and two buttons over one template."""
    return Experiment.from_dict({
        "spec": 1,
        "name": "spring",
        "factors": {
            "subject": {"plain": "Our spring offers", "name": "{{ recipient.name }}, our spring offers"},
            "cta": {"all": "See all offers", "now": "Save now"},
        },
        "control": {"subject": "plain", "cta": "all"},
        "message": {
            "template": template, "text_template": "spring.txt.j2", "from": "Shop <news@example.com>",
            "inline_css": inline_css,
        },
    })  # fmt: skip


def ours(experiment: Experiment, signer: Signer, *, text: str | None, html: str = HTML) -> Maker:
    """The way of this package; without ``text`` the text part is made from the HTML."""
    renderer = Renderer(experiment=experiment, template=html, text_template=text, tracker_url=TRACKER, signer=signer)
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


def finished(experiment: Experiment, signer: Signer, people: Sequence[tuple[Recipient, str]]) -> list[wire.Mail]:
    """Mails that are ready to be sent."""
    renderer = Renderer(experiment=experiment, template=HTML, text_template=TEXT, tracker_url=TRACKER, signer=signer)
    return [
        renderer.render(cell=experiment.cells[i % 4], recipient=person, message_id=ident, now=NOW)
        for i, (person, ident) in enumerate(people)
    ]


def made_and_sent(
    experiment: Experiment, signer: Signer, people: Sequence[tuple[Recipient, str]], port: int
) -> tuple[wire.Sender, wire.Sender]:
    """Both ways from a recipient to the server's answer, over one connection; what they are given only counts."""
    renderer = Renderer(experiment=experiment, template=HTML, text_template=TEXT, tracker_url=TRACKER, signer=signer)
    usual = Usual(experiment)

    def our_way(mails: Sequence[wire.Mail]) -> None:
        transport = abmail.SMTP("127.0.0.1", port=port, local_hostname="client.example", max_per_connection=1_000_000)
        for i in range(len(mails)):
            person, ident = people[i]
            transport.send(renderer.render(cell=experiment.cells[i % 4], recipient=person, message_id=ident, now=NOW))
        transport.close()

    def usual_way(mails: Sequence[wire.Mail]) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example") as client:
            for i in range(len(mails)):
                person, ident = people[i]
                made = usual(experiment.cells[i % 4], person, ident)
                client.sendmail("news@example.com", [person.email], made)

    return our_way, usual_way


def say(name: str, found: tuple[float, float, list[float]], goal: float) -> bool:
    """Print a pair of rates and their ratio; whether the goal was reached."""
    better, worse, ratios = found
    middle = statistics.median(ratios)
    print(
        f"{name:52} {better:8,.0f} beside {worse:8,.0f}, ratio {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"goal {goal}",
        flush=True,
    )
    return middle >= goal


def send(experiment: Experiment, signer: Signer, people: Sequence[tuple[Recipient, str]], rounds: int) -> bool:
    """Measure the SMTP half; whether all goals were reached."""
    mails = finished(experiment, signer, people)
    many = mails * 10
    with wire.sink() as (port, name):
        print(f"\nto {name}, {len(mails[0].raw):,} octets a mail; mails per CPU second of the client")
        kept = say(
            "sending, one connection, beside smtplib",
            wire.median_ratio(wire.ours(port), wire.usual(port), many, rounds=rounds), SEND_GOAL,
        )  # fmt: skip
        ways = made_and_sent(experiment, signer, people, port)
        kept &= say("making and sending", wire.median_ratio(*ways, mails, rounds=rounds), WHOLE_GOAL)
        if (limit := wire.limit(port, len(many), len(mails[0].raw))) is not None:
            print(f"{'the limit: smtp-source, per CPU second':52} {limit[1]:8,.0f} ({limit[0]:,.0f} by the clock)")
        with wire.delayed(port, ROUND_TRIP) as far:
            ways = wire.in_threads(wire.ours(far), CONNECTIONS), wire.in_threads(wire.usual(far), CONNECTIONS)
            found = wire.median_ratio(*ways, many[:800], rounds=3, clock=time.perf_counter)
            kept &= say("20 ms round trip, 16 connections, by the clock", found, FAR_GOAL)
    return kept


def main() -> int:
    """Measure and print; 1 where the goal was missed."""
    parser = argparse.ArgumentParser(description="making and sending mails")
    parser.add_argument("--mails", type=int, default=200, help="mails in each round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    experiment = definition()
    crowd = people(options.mails)
    ways: dict[str, Maker] = {
        "jinja2 + EmailMessage": Usual(experiment),
        "abmail": ours(experiment, signer(), text=TEXT),
        "abmail, text made from the HTML": ours(experiment, signer(), text=None),
        "abmail, style sheet inlined": ours(definition(inline_css=True), signer(), text=TEXT, html=STYLED),
        "abmail, template in MJML": ours(definition("spring.mjml.j2"), signer(), text=TEXT, html=MJML),
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
    made = all(
        statistics.median(mine / theirs for mine, theirs in zip(found[name], usual, strict=True)) >= GOAL
        for name in ("abmail", "abmail, text made from the HTML")
    )
    return int(not (send(experiment, signer(), crowd, options.rounds) and made))


if __name__ == "__main__":
    sys.exit(main())
