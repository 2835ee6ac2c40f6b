"""Makes a mail for one recipient: sandboxed templates, signed links, open pixel, unsubscribe headers, MIME bytes.

Pure: the same definition, template, cell, recipient, message id and time give the same bytes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup, escape

from abmail._guard import MAX_OUTPUT
from abmail._layout import is_mjml, layout
from abmail._links import TextCutter, link_target
from abmail._mime import address_header, boundary, message_bytes, structured_header, text_header
from abmail._page import Page, PageCutter
from abmail._preview import Previewed, preview_page
from abmail._sources import attached_parts, included, inline_parts, read_files, read_template
from abmail._templates import Attributes, Templates, readable_text
from abmail._tokens import HONEYPOT_LINK
from abmail.errors import ConfigError, RenderError
from abmail.recipient import email_domain, normalise_email

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from abmail._tokens import MessageSigner, Signer
    from abmail.recipient import Recipient
    from abmail.spec import Cell, Experiment

__all__ = [
    "MAX_OUTPUT", "Previewed", "Proof", "RenderedMessage", "Renderer", "preview_page", "read_files", "read_template",
    "readable_text", "starter_template",
]  # fmt: skip

_TRACKER = re.compile(r"(?i:https?)://[A-Za-z0-9.\-_:\[\]]+(?:/[A-Za-z0-9._~\-/%]*)?")
_MAILTO = re.compile(r"[A-Za-z0-9!#$&'*+\-./=^_`{|}~]+@[A-Za-z0-9.\-]+")
_MAILBOX = re.compile(
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"\s*|(?P<name>[^<>]*))<(?P<address>[^<>@\s]+@[^<>@\s]+)>|(?P<alone>[^<>@\s]+@[^<>@\s]+)'
)
_LABEL = re.compile(r"[A-Za-z0-9_+.\-]+")
_TAG = re.compile(r"</?[A-Za-z]")
_FOOTERS = {"en": "Unsubscribe", "ja": "配信停止"}
# Filled up so that mail programs don't go on with the first words of the mail.
_PREHEADER = (
    '<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">{}' + "&#8199;&#65279;&#847; " * 40 + "</div>"
)
_SHOWN_CID = re.compile(
    r"""(?:src|background)\s*=\s*["']?cid:([A-Za-z0-9._\-]+)|url\(["']?cid:([A-Za-z0-9._\-]+)""", re.IGNORECASE
)
_CID = re.compile(r"(?<=[\"'(=])cid:([A-Za-z0-9._\-]+)")
_FOOTER = '<p style="margin:24px 0;font-size:12px;text-align:center"><a href="{url}">{label}</a></p>'
_HONEYPOT = (
    '<a href="{url}" aria-hidden="true" tabindex="-1" style="display:block;width:0;height:0;overflow:hidden;'
    'font-size:0;line-height:0;opacity:0;mso-hide:all">&#8203;</a>'
)
_SHOWN_LINK = 80  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedMessage:
    """A finished mail for one recipient.

    Attributes:
        message_id: Our id of the message, 32 hexadecimal digits.
        header_id: Value of the Message-ID header, with angle brackets.
        sender: Envelope sender, an address.
        recipient: Envelope recipient, an address.
        subject: Subject as people read it.
        html: HTML part with tracked links and pixel.
        text: Plain part with the same links.
        raw: The whole message as bytes (RFC 5322), CRLF line ends, dots not stuffed.
        links: Number of tracked links.
    """

    message_id: str
    header_id: str
    sender: str
    recipient: str
    subject: str
    html: str
    text: str
    raw: bytes
    links: int = 0


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a mail says, before its links are tracked.

    Attributes:
        cell: Name of the variant.
        from_name: Display name of the sender.
        subject: Subject as people read it.
        preheader: Text that mail programs show behind the subject; empty where there is none.
        page: The HTML page, cut at its links.
        page_text: What the page says, whatever the text part does.
        text: The text part, links as written.
        links: Where the page's links lead, those for unsubscribing and viewing the mail in a browser left out.
        offers_leave: Whether the page shows a link for unsubscribing.
    """

    cell: str
    from_name: str
    subject: str
    preheader: str
    page: Page = field(repr=False)
    page_text: str
    text: str
    links: tuple[str, ...]
    offers_leave: bool

    @property
    def html(self) -> str:
        """The HTML page, links as written."""
        return self.page.html({})

    @cached_property
    def bare(self) -> str:
        """The same without where its links lead."""
        return self.page.html(dict.fromkeys(range(len(self.page.links)), ""))


class Renderer:
    """Makes the mails of one experiment; templates are compiled once.

    Templates see `subject`, `cta`, `preheader`, `from_name` and `body` where the definition has them, `recipient`
    (`recipient.email`, and any column of the list: `recipient.name`, `recipient["会社名"]`), `unsubscribe_url`,
    `view_url` (the mail in a browser), `conversion_token` (for a shop's `/k/`), `language`, and the names `experiment`
    and `cell`. A name that is not defined is an error unless guarded by `is defined` or `default`. Factor texts may use
    all but the first five themselves. Texts are
    escaped in HTML; only a `body` that holds tags is taken as HTML (what it inserts is escaped), any other as
    paragraphs of text. A preheader that no template writes is put at the beginning of the mail.

    Args:
        experiment: The definition.
        template: Source of the HTML template.
        text_template: Source of the template of the text part; without it, the text is made from the HTML.
        tracker_url: Public http or https address of the tracker, such as `https://t.example.com`.
        signer: Signs the tokens in links.
        files: What the templates include, the attachments and pictures, see `read_files`.
        unsubscribe_mailto: Address that takes unsubscribe requests by mail, offered beside the link.
        clock: Seconds of processor time that the calling thread has used, such as `time.thread_time`, for a time limit
            on templates; without it, only what they do is counted.
        sign: Signs the finished bytes at a time, such as `abmail.dkim.Dkim.sign`.
        return_path: Our id of a message -> envelope sender, to which its bounces go; the sender's address by default.

    Raises:
        RenderError: A template cannot be compiled, or the sender's address not be written.
        ConfigError: `tracker_url` or `unsubscribe_mailto` cannot be used.
    """

    def __init__(
        self,
        *,
        experiment: Experiment,
        template: str,
        text_template: str | None = None,
        tracker_url: str,
        signer: Signer,
        files: Mapping[str, bytes] | None = None,
        unsubscribe_mailto: str | None = None,
        clock: Callable[[], float] | None = None,
        sign: Callable[[bytes, datetime], bytes] | None = None,
        return_path: Callable[[str], str] | None = None,
    ) -> None:
        message = experiment.message
        self._name = experiment.name
        self._control = experiment.control
        self._signer = signer
        self._sign = sign
        self._return_path = return_path
        self._tracker_url = _tracker(tracker_url)
        self._mailto = _mailto(unsubscribe_mailto)
        self._language = message.language or "en"
        self._from_name, self._sender = _mailbox("message.from", message.sender)
        self._reply_to = _mailbox("message.reply_to", message.reply_to) if message.reply_to else None
        self._attached = attached_parts(files or {}, message)
        self._images = inline_parts(files or {}, message)
        self._honeypot = bool(message.honeypot)
        self._layout = layout(mjml=is_mjml(message.template), inline_css=bool(message.inline_css))
        includes = included(files or {}, message)
        self._templates = templates = Templates(includes, clock=clock)
        self._html = templates.html(template, message.template)
        self._text = None if text_template is None else templates.text(text_template, message.text_template or "text")
        self._fixed = {
            name: templates.text(source or "", f"message.{name}")
            for name, source in (("subject", message.subject), ("preheader", message.preheader))
        }
        self._factors = {
            (factor, level): (templates.html if _is_markup(factor, source) else templates.text)(
                source, f"factors.{factor}.{level}"
            )
            for factor, levels in experiment.factors.items()
            for level, source in levels.items()
        }
        used = [self._html, *(templates.html(source, name) for name, source in includes.items())]
        self._shows_preheader = any("preheader" in each.variables for each in used)
        self._require_images(template, *includes.values())
        self._page_cutter = _page_cutter(self._html.fixed)
        self._text_cutter = TextCutter(self._text.fixed if self._text else ())

    @property
    def sender_domain(self) -> str:
        """Domain of the sender's address, in ASCII."""
        return email_domain(self._sender)

    def render(
        self,
        *,
        cell: Cell,
        recipient: Recipient,
        message_id: str,
        now: datetime,
        tracked: bool = True,
        crowd: str | None = None,
    ) -> RenderedMessage:
        """Make the mail that a recipient gets.

        Args:
            cell: One of the experiment's cells.
            recipient: Who gets it.
            message_id: Our id of the message, see `Signer.message_id`.
            now: For the Date header; aware UTC datetime.
            tracked: Whether it gets a pixel, and links by way of the tracker.
            crowd: What pixel and links tell instead of the message: see `abmail.events.crowd_id`.

        Raises:
            RenderError: A template fails, a link cannot be tracked, or a header would hold a control character.
            ValueError: `now` has no zone, `message_id` is none, or the cell is another experiment's.
        """
        if now.tzinfo is None:
            raise ValueError("now has no time zone, must be an aware UTC datetime")
        followed = None if crowd is None else self._signer.of(crowd, crowd=True)
        links = _Links(self._signer.of(message_id), self._tracker_url, tracked=tracked, followed=followed)
        self._templates.start()
        shared = self._shared(cell, recipient, links)
        texts = self._texts(cell, shared)
        try:
            html, text = self._parts(cell, {**shared, **texts}, links)
            return self._message(cell, recipient, links, now, texts, html, text)
        except ValueError as error:
            raise self._failed(cell, error) from error

    def hosted(self, *, cell: Cell, recipient: Recipient, message_id: str, tracked: bool = True) -> str:
        """The HTML of a mail for a browser: without the open pixel, its pictures inside.

        Args:
            cell: The cell that the recipient got.
            recipient: Who got it.
            message_id: Our id of the message.
            tracked: Whether its links lead by way of the tracker.

        Raises:
            RenderError: A template fails, or a link cannot be tracked.
        """
        links = _Links(self._signer.of(message_id), self._tracker_url, tracked=tracked)
        self._templates.start()
        shared = self._shared(cell, recipient, links)
        try:
            page, hrefs = self._page(cell, {**shared, **self._texts(cell, shared)}, links)
        except ValueError as error:
            raise self._failed(cell, error) from error
        return _CID.sub(self._as_data, page.html(hrefs))

    def preview(
        self, *, cell: Cell, recipient: Recipient, message_id: str, now: datetime
    ) -> tuple[RenderedMessage, Previewed]:
        """Make the mail of a cell, and how a reader would meet it; see `render`."""
        mail = self.render(cell=cell, recipient=recipient, message_id=message_id, now=now)
        texts = self._texts(cell, self._shared(cell, recipient, _Links(self._signer.of(message_id), self._tracker_url)))
        return mail, Previewed(
            cell=cell.name,
            control=cell.levels == self._control,
            from_name=texts["from_name"],
            subject=mail.subject,
            preheader=texts["preheader"],
            html=self.hosted(cell=cell, recipient=recipient, message_id=message_id),
            text=mail.text,
            size=len(mail.html.encode()),
        )

    def proof(self, *, cell: Cell, recipient: Recipient, message_id: str, with_text: bool = True) -> Proof:
        """Make what the mail of a cell says, its text part on demand; see `render`."""
        links = _Links(self._signer.of(message_id), self._tracker_url)
        self._templates.start()
        shared = self._shared(cell, recipient, links)
        try:
            variables = {**shared, **self._texts(cell, shared)}
            page, _ = self._page(cell, variables, links)
            text = page.text({}) if with_text else ""
            if with_text and self._text is not None:
                text = self._text.fill({**variables, **_as_text(variables.get("body"))}, cell.name)
        except ValueError as error:
            raise self._failed(cell, error) from error
        own = (links.unsubscribe_url, links.view_url)
        page_text = text
        if with_text and self._text is not None:
            page_text = page.text(dict.fromkeys(range(len(page.links)), ""))
        return Proof(
            cell=cell.name,
            **{name: str(variables[name]).strip() for name in ("from_name", "subject", "preheader")},
            page=page,
            page_text=page_text,
            text=text,
            links=tuple(link.href for link in page.links if not link.href.startswith(own)),
            offers_leave=links.offered,
        )

    def _as_data(self, found: re.Match[str]) -> str:
        kind, content, _ = self._images.get(found[1], ("", b"", b""))
        return f"data:{kind};base64,{b64encode(content).decode()}" if kind else found[0]

    def _failed(self, cell: Cell, error: ValueError) -> RenderError:
        name = self._html.name
        return RenderError(f"{name}, variant {cell.name!r}: {error}", template=name, variant=cell.name)

    def _require_images(self, *sources: str) -> None:
        for source in sources:
            if "cid:" not in source.lower():  # a quick test that most pass
                continue
            for found in _SHOWN_CID.finditer(source):
                name = found[1] or found[2]
                if name not in self._images:
                    near = get_close_matches(name, list(self._images), 1)
                    hint = f"did you mean cid:{near[0]}?" if near else "list the picture in message.images"
                    raise RenderError(f"{self._html.name}: there is no picture for cid:{name}", hint=hint)

    def _shared(self, cell: Cell, recipient: Recipient, links: _Links) -> dict[str, object]:
        return {
            "recipient": Attributes({"id": recipient.id, "email": recipient.email, **recipient.attributes}),
            "unsubscribe_url": links.unsubscribe_url,
            "view_url": links.view_url,
            "conversion_token": links.conversion_token,
            "language": self._language,
            "experiment": self._name,
            "cell": cell.name,
        }

    def _texts(self, cell: Cell, shared: Mapping[str, object]) -> dict[str, str]:
        texts = {"from_name": self._from_name}
        for name, template in self._fixed.items():
            texts[name] = template.fill(shared, cell.name)
        for factor, level in cell.levels.items():
            if (factor, level) not in self._factors:
                raise ValueError(f"cell {cell.name!r} has {factor} {level!r}, which experiment {self._name!r} has not")
            texts[factor] = self._factors[factor, level].fill(shared, cell.name)
            if factor == "body" and self._factors[factor, level].autoescape:
                texts[factor] = Markup(texts[factor])  # noqa: S704 - rendered with escaping just before
        return texts

    def _page(self, cell: Cell, variables: Mapping[str, object], links: _Links) -> tuple[Page, dict[int, str]]:
        """The filled HTML template, and its links."""
        pieces = self._html.pieces({**variables, **_as_html(variables.get("body"))}, cell.name)
        page = self._page_cutter.cut(pieces) if self._layout is None else Page.of(self._layout("".join(pieces)))
        return page, links.in_page(page)

    def _parts(self, cell: Cell, variables: Mapping[str, object], links: _Links) -> tuple[str, str]:
        """The HTML and the text part, links tracked, with footer and pixel."""
        page, hrefs = self._page(cell, variables, links)
        if self._text is None:
            text = page.text(hrefs)
        else:
            pieces = self._text.pieces({**variables, **_as_text(variables.get("body"))}, cell.name)
            text = self._text_cutter.replace(pieces, links.in_text())
        label = _FOOTERS[self._language]
        if links.unsubscribe_url not in text:
            text = f"{text.rstrip()}\n\n{label}: {links.unsubscribe_url}\n"
        footer = "" if links.offered else _FOOTER.format(url=links.unsubscribe_url, label=label)
        preheader = "" if self._shows_preheader else str(variables["preheader"])
        first = _PREHEADER.format(escape(preheader)) if preheader else ""
        trap = links.honeypot if self._honeypot else ""
        return page.html(hrefs, first=first, last=trap + footer + links.pixel), text

    def _message(
        self,
        cell: Cell,
        recipient: Recipient,
        links: _Links,
        now: datetime,
        texts: Mapping[str, str],
        html: str,
        text: str,
    ) -> RenderedMessage:
        from email.utils import format_datetime  # slow to load, and a check writes no header

        subject = texts["subject"].strip(" ")
        if not subject:
            raise ValueError("the subject is empty; write `message.subject` or a factor `subject`")
        sender = self._return_path(links.message_id) if self._return_path else self._sender
        # Who unsubscribes by mail writes to where bounces are read, at an address that names the mail.
        leave_by_mail = self._mailto or (_mailto(sender) if self._return_path else ())
        header_id = f"<{links.message_id}@{email_domain(self._sender)}>"
        to = _ascii_domain(recipient.email)
        headers = [
            address_header("From", self._sender, texts["from_name"].strip(" ")),
            address_header("To", to),
            text_header("Subject", subject),
            structured_header("Date", format_datetime(now.astimezone(UTC))),
            structured_header("Message-ID", header_id),
            *([address_header("Reply-To", self._reply_to[1], self._reply_to[0])] if self._reply_to else []),
            structured_header("List-Unsubscribe", f"<{links.unsubscribe_url}>", *leave_by_mail),
            structured_header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            structured_header("List-Id", _list_id(self._sender)),
            structured_header("Feedback-ID", _feedback_id(cell, self._name, self._sender)),
            structured_header("X-Abmail-Message", links.message_id),
        ]
        images = tuple(part for _, _, part in self._images.values())
        raw = message_bytes(
            headers, text=text, html=html, separator=boundary(links.message_id), images=images, attached=self._attached
        )
        return RenderedMessage(
            message_id=links.message_id,
            header_id=header_id,
            sender=sender,
            recipient=to,
            subject=subject,
            html=html,
            text=text,
            raw=raw if self._sign is None else self._sign(raw, now),
            links=links.count,
        )


def starter_template() -> str:
    """The HTML template that a new definition starts with."""
    from importlib.resources import files  # slow to load

    return (files("abmail") / "templates" / "mail.html.j2").read_text(encoding="utf-8")


class _Links:
    """The addresses in one message: each tracked link is numbered, from 1, in the order of the HTML, then the text."""

    __slots__ = ("_clicks", "_kept", "_signer", "_tracked", "_tracker_url", "count", "message_id", "offered",
                 "unsubscribe_url", "view_url")  # fmt: skip

    def __init__(
        self, signer: MessageSigner, tracker_url: str, *, tracked: bool = True, followed: MessageSigner | None = None
    ) -> None:
        self._signer = followed or signer
        self._tracked = tracked
        self._tracker_url = tracker_url
        self._clicks: dict[str, str] = {}
        self._kept: set[str] = set()
        self.count = 0
        self.message_id = signer.message_id
        self.unsubscribe_url = f"{tracker_url}/u/{signer.sign('u')}"
        self.view_url = f"{tracker_url}/v/{signer.sign('v')}"
        self.offered = False  # whether the HTML shows the unsubscribe link

    @property
    def conversion_token(self) -> str:
        """What a landing page hands back to say that its visitor bought something."""
        return self._signer.sign("k") if self._tracked else ""

    @property
    def honeypot(self) -> str:
        """A link that no reader sees or reaches; who follows it anyhow gets to the mail in a browser."""
        if not self._tracked:
            return ""
        token = self._signer.click(HONEYPOT_LINK, self.view_url)
        return _HONEYPOT.format(url=f"{self._tracker_url}/c/{token}?u={quote(self.view_url, safe='')}")

    @property
    def pixel(self) -> str:
        if not self._tracked:
            return ""
        return f'<img src="{self._tracker_url}/o/{self._signer.pixel()}.gif" width=1 height=1 alt="">'

    def in_page(self, page: Page) -> dict[int, str]:
        """Number of a web link in the HTML -> its tracked address.

        Raises:
            ValueError: A link cannot be tracked.
        """
        hrefs = {}
        for number, link in enumerate(page.links):
            if link.href.startswith(self.unsubscribe_url):
                self.offered |= link.shown
            elif not link.tracked or link.href.startswith(self.view_url):
                self._kept.add(link.href)
            elif (found := _target(link.href)) and self._tracked:
                hrefs[number] = self._click(*found)
        return hrefs

    def in_text(self) -> Callable[[str], str]:
        """What stands in a link's place in the text: by the HTML's number where the same address stands there.

        The function raises a ValueError where a link cannot be tracked.
        """
        if not self._tracked:
            return str
        clicks, kept, leave, view = self._clicks, self._kept, self.unsubscribe_url, self.view_url

        def replaced(url: str) -> str:
            if url in clicks:
                return clicks[url]
            if url.startswith((leave, view)) or url in kept or (found := _target(url)) is None:
                return url
            return clicks.get(found[0]) or self._click(*found)

        return replaced

    def _click(self, target: str, quoted: str) -> str:
        self.count += 1
        url = f"{self._tracker_url}/c/{self._signer.click(self.count, target)}?u={quoted}"
        self._clicks.setdefault(target, url)
        return url


@lru_cache(maxsize=16)
def _page_cutter(fixed: frozenset[str]) -> PageCutter:
    """One for all experiments whose template writes the same pieces."""
    return PageCutter(fixed)


def _is_markup(factor: str, source: str) -> bool:
    return factor == "body" and _TAG.search(source) is not None


def _as_html(body: object) -> dict[str, Markup]:
    if body is None or isinstance(body, Markup):
        return {} if body is None else {"body": body}
    paragraphs = re.split(r"\n\s*\n", str(body).strip())
    return {"body": Markup("\n").join(Markup("<p>{}</p>").format(_broken(each)) for each in paragraphs)}


def _broken(paragraph: str) -> Markup:
    return Markup("<br>\n").join(paragraph.split("\n"))


def _as_text(body: object) -> dict[str, str]:
    return {"body": Page.of(str.__str__(body)).text({}).rstrip("\n")} if isinstance(body, Markup) else {}


@lru_cache(maxsize=1024)
def _target(href: str) -> tuple[str, str] | None:
    """Where a web link leads and its form inside a query; most links of a template are the same in each mail."""
    try:
        target = link_target(href)
    except ValueError as error:
        shown = re.sub("//[^/?#]*@", "//***@", href.partition("?")[0])[:_SHOWN_LINK]
        raise ValueError(
            f"the link {shown!r} cannot be tracked: {error}; correct it or mark it data-abmail-notrack"
        ) from error
    return None if target is None else (target, quote(target, safe=""))


def _tracker(url: str) -> str:
    if not _TRACKER.fullmatch(url):
        raise ConfigError(
            f"the tracker's address is {url!r}, must be http:// or https:// with a host and no query",
            hint="set ABMAIL_TRACKER_URL to the public address of `abmail serve`, such as https://t.example.com",
        )
    return url.rstrip("/")


def _mailto(address: str | None) -> tuple[str, ...]:
    if address is None:
        return ()
    if not _MAILTO.fullmatch(address):
        raise ConfigError(f"the mailbox for unsubscribing is {address!r}, must be a plain ASCII address")
    return (f"<mailto:{quote(address, safe='@!$&*+/=')}?subject=unsubscribe>",)


def _mailbox(place: str, text: str) -> tuple[str, str]:
    """Display name and address of `Name <address>`; people write names with commas and no quotes."""
    match = _MAILBOX.fullmatch(text.strip())
    if match is None:
        raise RenderError(f"{place} is {text!r}, must be an address or `Name <address>`", variable=place)
    quoted = match["quoted"]
    name = (match["name"] or "").strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return name, _ascii_domain(match["address"] or match["alone"])


def _ascii_domain(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return address if domain.isascii() else f"{local}@{email_domain(normalise_email(f'a@{domain}'))}"


def _list_id(sender: str) -> str:
    """One list for each sender address (RFC 2919): filters that people make last longer than an experiment."""
    local, _, domain = sender.rpartition("@")
    return f"<{re.sub(r'[^A-Za-z0-9]+', '-', local).strip('-') or 'mail'}.{domain}>"


def _feedback_id(cell: Cell, experiment: str, sender: str) -> str:
    """Variant, campaign, stream and a constant sender id of 12 characters: Gmail reports complaints for each."""
    variant = cell.name if _LABEL.fullmatch(cell.name) else f"cell{cell.index}"
    sender_id = blake2b(email_domain(sender).encode(), digest_size=6).hexdigest()
    return f"{variant}:{experiment}:abmail:{sender_id}"
