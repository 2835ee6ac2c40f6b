"""Bounces and complaints: reads what mail servers send back, tells hard, soft and policy apart, and finds our message.

Pure: bytes in, notices and events out. Reports after the standards (RFC 3464 with RFC 6522, RFC 5965) are read by their
fields; all others by their words. ``5.x.x`` alone does not make a bounce hard: most permanent refusals are about the
message, the sender or a full mailbox, and say nothing against the address.
"""

from __future__ import annotations

import base64
import binascii
import email
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import getaddresses, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from abmail._refusals import reading_of
from abmail.errors import MissingExtra
from abmail.events import Event, EventType, Signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from email.message import Message

__all__ = [
    "SOFT_BOUNCES", "SOFT_DAYS", "Notice", "NoticeKind", "events_of", "message_of_return_path",
    "read_report", "return_path",
]  # fmt: skip

NoticeKind = Literal["hard", "soft", "policy", "delayed", "delivered", "complaint", "unsubscribe", "report", "unknown"]
"""What a report says: ``report`` is a feedback report that no person sent (such as ``auth-failure``)."""

SOFT_BOUNCES: Final = 3  # so many soft bounces of one address, of different messages,
SOFT_DAYS: Final = 30  # within so many days, and it is mailed no more

_MAX_REPORT: Final = 10_000_000  # octets
_MAX_WORDS: Final = 50_000  # characters that a report says to people
_MAX_TEXT: Final = 2_000  # characters of a diagnostic
_ID = re.compile(r"[0-9a-f]{32}")
_OUR_HEADER: Final = "X-Abmail-Message"
_OUR_ID = re.compile(r"^(?:X-Abmail-Message:[ \t]*|Message-ID:\s*<)([0-9a-f]{32})\b", re.MULTILINE | re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]@]{1,64}+@[A-Za-z0-9\-]{1,63}+(?:\.[A-Za-z0-9\-]{1,63}+){1,20}+")
_MBOX_LINE = re.compile(rb"\A>?From [^\r\n]*\r?\n")
_ORIGINAL = re.compile(
    r"^(?:-{2,}+[^\n]{0,80}?(?:original message|message (?:header|follows)|copy of (?:the|your) message|"
    r"included is a copy|return(?:ed)? message|below this line)|this is a copy of|a copy of the original|"
    r"original message (?:headers|follows)|元のメッセージ|return-path:\s|received:\s)",
    re.IGNORECASE | re.MULTILINE,
)
_RETURNED: Final = frozenset({"message/rfc822", "text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers"})
_NOT_BY_PEOPLE: Final = frozenset({"auth-failure", "dmarc", "virus"})
_LOCAL_PART: Final = 64  # octets, RFC 5321 section 4.5.3.1.1
_HEAD: Final = bytes((1, ord("b")))  # of a token: version and kind, which need not travel


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a report says of one recipient.

    Attributes:
        kind: See `NoticeKind`.
        recipient: Address, in lower case; empty where the report names none.
        status: Enhanced status code (RFC 3463), such as ``5.1.1``; empty where there is none.
        code: Reply code of the server, such as 550; None where there is none.
        reason: The words from which the kind was told, for people.
        feedback_type: Of a feedback report, such as ``abuse``.
        message_id: Our id of the message, 32 hexadecimal digits; empty where the report holds none.
        at: When the report was written, aware UTC; None where it does not say.
        report: Digest of the report: the same for the same report, whenever it is read.
    """

    kind: NoticeKind
    recipient: str
    status: str = ""
    code: int | None = None
    reason: str = ""
    feedback_type: str = ""
    message_id: str = ""
    at: datetime | None = None
    report: str = ""


# --- return path ------------------------------------------------------------------------------------------------------


def return_path(signer: Signer, message_id: str, mailbox: str) -> str:
    """Where the bounces of one message go (VERP): the mailbox with a signed token, in letters that survive lower case.

    Args:
        signer: Signs the token, so that nobody can invent a bounce.
        message_id: 32 hexadecimal digits.
        mailbox: Address that takes bounces, with subaddresses after "+", such as ``bounces@example.com``.

    Raises:
        ValueError: The mailbox is no address, or its name is longer than 10 characters.

    >>> signer = Signer(b"sixteen bytes or more")
    >>> address = return_path(signer, "0" * 32, "bounces@example.com")
    >>> address.startswith("bounces+"), len(address.partition("@")[0]) <= 64
    (True, True)
    >>> message_of_return_path(signer, address.upper()) == "0" * 32
    True
    """
    name, at, domain = mailbox.rpartition("@")
    token = signer.sign("b", message_id)
    whole = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    local = f"{name}+{_base32(whole[2:])}"
    if not at or not _ADDRESS.fullmatch(mailbox) or "+" in name or len(local) > _LOCAL_PART:
        raise ValueError(
            f"the mailbox for bounces is {mailbox!r}, must be an address with a name of 1 to 10 characters"
        )
    return f"{local}@{domain}"


def message_of_return_path(signer: Signer, address: str) -> str:
    """The id of the message whose bounces go to an address; empty where it is none of ours.

    Args:
        signer: With the key that signed it.
        address: Where a report was delivered to.
    """
    token = address.rpartition("@")[0].rpartition("+")[2].upper()
    try:
        whole = _HEAD + base64.b32decode(token + "=" * (-len(token) % 8))
    except (binascii.Error, ValueError):
        return ""
    if _base32(whole[2:]).upper() != token:  # the last character has a spare bit
        return ""
    found = signer.verify("b", base64.urlsafe_b64encode(whole).rstrip(b"=").decode())
    return found.message_id if found else ""


def _base32(octets: bytes) -> str:
    return base64.b32encode(octets).decode().rstrip("=").lower()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_report(raw: bytes, *, signer: Signer | None = None) -> tuple[Notice, ...]:
    """Read a mail that came back.

    Args:
        raw: The whole mail; a leading ``From `` line of an mbox is skipped.
        signer: Finds our message by the address to which the report went; None looks into the returned mail alone.

    Returns:
        A notice for each recipient that the mail reports on; none where it is no report at all.

    Raises:
        MissingExtra: The report follows no standard, and flufl.bounce is not installed.
        ValueError: It is larger than 10 MB, or nested too deeply.
    """
    if len(raw) > _MAX_REPORT:
        raise ValueError(f"a report has {len(raw)} bytes, at most {_MAX_REPORT} are read")
    try:
        return tuple(_Report(_MBOX_LINE.sub(b"", raw, count=1), signer).notices())
    except RecursionError:
        raise ValueError("the parts of a report are nested too deeply") from None


def events_of(notices: Iterable[Notice], *, now: datetime) -> Iterator[Event]:
    """The events that notices are, of those that name one of our messages.

    Args:
        notices: As `read_report` gives them.
        now: When they were read, aware UTC: for reports without a date, or with one that lies in the future.

    Yields:
        Events whose keys are the same whenever the same report is read again.
    """
    for notice in notices:
        type_ = _TYPES.get(notice.kind)
        if type_ is None or not notice.message_id:
            continue
        yield Event(
            type=type_,
            at=min(notice.at or now, now),
            message_id=notice.message_id,
            source="bounce",
            key=f"{notice.report}-{type_.value}-{notice.message_id}",
            detail=f"{notice.kind}: {notice.reason or notice.feedback_type}"[:_MAX_TEXT],
            hard=notice.kind == "hard",
        )


_TYPES: Final[Mapping[str, EventType]] = {
    "hard": EventType.BOUNCED,
    "soft": EventType.BOUNCED,
    "policy": EventType.BOUNCED,
    "delayed": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "complaint": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
}


class _Report:
    """One mail, cut into what the report says and what of our mail came back with it."""

    def __init__(self, raw: bytes, signer: Signer | None) -> None:
        self._signer = signer
        self._mail = email.message_from_bytes(raw)
        self._statuses: list[Message] = []
        self._feedback: list[Message] = []
        self._texts: list[str] = []
        self._returned: list[str] = []
        self._sort(self._mail)
        self._start = raw[:_MAX_WORDS]
        self._digest = hashlib.blake2b(raw, digest_size=16).hexdigest()

    def notices(self) -> Iterator[Notice]:
        feedback = self._feedback_type()
        self._statuses = self._statuses or list(_fields_in("\n".join(self._texts)[:_MAX_WORDS]))
        if feedback:
            yield from self._complaints(feedback)
        elif found := _amazon(self._texts):
            yield from self._from_amazon(found)
        elif self._statuses:
            yield from self._bounces()
        else:
            yield from self._told()

    def _sort(self, part: Message) -> None:
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            self._statuses += _field_groups(part)
        elif kind == "message/feedback-report":
            self._feedback += _field_groups(part)
        elif kind in _RETURNED:
            self._returned.append(_whole(part))
        elif part.is_multipart():
            for each in part.get_payload():
                if not isinstance(each, str):
                    self._sort(each)
        elif kind.startswith(("text/", "multipart/")):  # a multipart without parts is broken, and still says something
            self._texts.append(_text(part))

    # -- complaints --

    def _feedback_type(self) -> str:
        for group in self._feedback:
            if group["Feedback-Type"]:
                return str(group["Feedback-Type"]).strip().lower()
        if self._feedback or _param(self._mail, "report-type") == "feedback-report":
            return "abuse"
        # Outlook.com sends the mail itself, with the complaint in its headers and subject.
        subject = str(self._mail["Subject"] or "").lower()
        if self._returned and (
            "x-hmxmroriginalrecipient" in self._returned[0].lower()
            or subject.startswith("complaint about message from")
        ):
            return "abuse"
        # Apple and others write to the mailto of List-Unsubscribe.
        return "opt-out" if subject.strip() == "unsubscribe" and not self._returned else ""

    def _complaints(self, feedback: str) -> Iterator[Notice]:
        kind: NoticeKind = (
            "unsubscribe" if feedback.startswith("opt-out") else "report" if feedback in _NOT_BY_PEOPLE else "complaint"
        )
        named = [
            str(value)
            for group in self._feedback
            for field in ("Original-Rcpt-To", "Removal-Recipient", "Redacted-Address")
            for value in group.get_all(field, ())
        ]
        if self._returned:
            headers = email.message_from_string(self._returned[0])
            named += [str(v) for field in ("X-HmXmrOriginalRecipient", "To") for v in headers.get_all(field, ())]
        people = dict.fromkeys(address for text in named for address in _addresses(text))
        for address in people or [""]:
            yield self._notice(kind, address, reason=feedback, feedback_type=feedback)

    # -- bounces --

    def _bounces(self) -> Iterator[Notice]:
        envelope = next((str(g["Original-Envelope-Id"]) for g in self._statuses if g["Original-Envelope-Id"]), "")
        words = self._words()
        groups = [g for g in self._statuses if g["Final-Recipient"] or g["Original-Recipient"] or g["Status"]]
        for group in groups:
            address = _recipient(group)
            action = str(group["Action"] or "").strip().lower()
            diagnostic = " ".join(str(group["Diagnostic-Code"] or "").split())
            reading = reading_of(
                recipient=address,
                status=str(group["Status"] or ""),
                diagnostic=diagnostic,
                words=words if len(groups) == 1 else _about(words, address),
                action=action,
            )
            yield self._notice(
                reading.kind,
                address,
                status=reading.status,
                code=reading.code,
                reason=reading.reason,
                envelope=envelope,
            )
        if not groups:
            yield self._notice("unknown", "", reason="the report names no recipient", envelope=envelope)

    def _told(self) -> Iterator[Notice]:
        """A report in words alone."""
        words = self._words()
        if not self._is_bounce():
            return
        for address in self._failed():
            reading = reading_of(recipient=address, status="", diagnostic="", words=words, action="")
            yield self._notice(reading.kind, address, status=reading.status, code=reading.code, reason=reading.reason)

    def _from_amazon(self, told: Mapping[str, Any]) -> Iterator[Notice]:
        """What Amazon SES tells of a mail, in JSON."""
        kind = str(told["notificationType"]).lower()
        about = told[kind] if isinstance(told.get(kind), dict) else {}
        ours = next((str(h.get("value")) for h in _dicts(told["mail"], "headers") if h.get("name") == _OUR_HEADER), "")
        feedback = str(about.get("complaintFeedbackType") or "abuse")
        for person in _dicts(about, "complainedRecipients"):
            yield self._notice("complaint", _address(person), reason=feedback, feedback_type=feedback, envelope=ours)
        delivered = about.get("recipients") if kind == "delivery" else None
        for address in delivered if isinstance(delivered, list) else ():
            reason = str(about.get("smtpResponse", ""))
            yield self._notice("delivered", str(address).lower(), reason=reason, envelope=ours)
        for person in _dicts(about, "bouncedRecipients"):
            status, words, action = (str(person.get(key, "")) for key in ("status", "diagnosticCode", "action"))
            to = _address(person)
            reading = reading_of(recipient=to, status=status, diagnostic=words, words="", action=action)
            yield self._notice(reading.kind, to, status=status, code=reading.code, reason=words, envelope=ours)

    def _is_bounce(self) -> bool:
        sender = f"{self._mail['From'] or ''} {self._mail['Return-Path'] or ''}".lower()
        subject = str(self._mail["Subject"] or "").lower()
        return bool(
            _param(self._mail, "report-type") == "delivery-status"
            or self._mail["X-Failed-Recipients"]
            or re.search(r"mailer-daemon|postmaster|mail delivery|<>", sender)
            or re.search(r"undeliver|deliver.{0,80}(?:fail|status|problem|delay)|returned mail|failure notice", subject)
        )

    def _failed(self) -> list[str]:
        """The addresses that a report in words is about."""
        named = [a for value in self._mail.get_all("X-Failed-Recipients", ()) for a in _addresses(str(value))]
        if named:
            return list(dict.fromkeys(named))
        found = _failed_by_words(self._start)
        return found or list(dict.fromkeys(_addresses(self._words())))[:1] or [""]

    def _words(self) -> str:
        """What the report says in words, without the mail that it returns."""
        text = "\n".join(self._texts)[:_MAX_WORDS]
        original = _ORIGINAL.search(text)
        return text[: original.start()] if original else text

    # -- our message --

    def _notice(
        self,
        kind: NoticeKind,
        address: str,
        *,
        status: str = "",
        code: int | None = None,
        reason: str = "",
        feedback_type: str = "",
        envelope: str = "",
    ) -> Notice:
        return Notice(
            kind=kind,
            recipient=address,
            status=status,
            code=code,
            reason=reason[:_MAX_TEXT],
            feedback_type=feedback_type,
            message_id=self._message_id(envelope),
            at=_date(self._mail),
            report=self._digest,
        )

    def _message_id(self, envelope: str) -> str:
        """Our id of the message: of the signed return path, the envelope id, or the returned headers."""
        if self._signer:
            for field in ("To", "Delivered-To", "X-Original-To", "Envelope-To"):
                for value in self._mail.get_all(field, ()):
                    for address in _addresses(str(value)):
                        if found := message_of_return_path(self._signer, address):
                            return found
        if _ID.fullmatch(envelope.strip()):
            return envelope.strip()
        for text in (*self._returned, *self._texts):
            if match := _OUR_ID.search(text):
                return match[1].lower()
        return ""


def _failed_by_words(raw: bytes) -> list[str]:
    """The addresses of which flufl.bounce, which knows the wordings of many servers, says that they failed."""
    try:
        from flufl.bounce import all_failures
    except ModuleNotFoundError as error:
        raise MissingExtra("reading a bounce that follows no standard", "bounces") from error
    try:
        temporary, permanent = all_failures(email.message_from_bytes(raw))
    except Exception:  # its readers trust the form of what they read
        return []
    return sorted(each.decode("utf-8", "replace").lower() for each in {*temporary, *permanent})


def _field_groups(part: Message) -> list[Message]:
    """The groups of fields of a report; the parser of the standard library has cut them where it knows the type."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [group for each in payload if not isinstance(each, str) for group in _regrouped(each)]
    return _groups(_text(part))


def _regrouped(group: Message) -> list[Message]:
    """A group of fields whose body holds more of them is what the parser makes of an unknown type."""
    rest = group.get_payload()
    return [group, *(_groups(rest) if isinstance(rest, str) else ())]


def _groups(text: str) -> list[Message]:
    return [email.message_from_string(block) for block in re.split(r"\r?\n[ \t]*\r?\n", text) if block.strip()]


_FIELDS = re.compile(
    r"^(?:(?:Original|Final)-Recipient|Action|Status|Diagnostic-Code|Remote-MTA): ?\S", re.IGNORECASE | re.MULTILINE
)


def _fields_in(text: str) -> Iterator[Message]:
    """The groups of fields in a report whose parts are broken, or that was forwarded."""
    unquoted = re.sub(r"^(?:> ?)+", "", text, flags=re.MULTILINE)
    for block in re.split(r"\r?\n[ \t]*\r?\n", unquoted):
        first = _FIELDS.search(block)
        if first and re.search(r"^Final-Recipient:", block, re.IGNORECASE | re.MULTILINE):
            yield email.message_from_string(block[first.start() :])


def _amazon(texts: Iterable[str]) -> Mapping[str, Any] | None:
    """The notification of Amazon SES in a mail of Amazon SNS."""
    for text in texts:
        begin = text.find("{")
        if begin < 0 or "notificationType" not in text:
            continue
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(text.replace("!\n ", ""), text.find("{"))
            if isinstance(found, dict) and "Message" in found:
                found = json.loads(str(found["Message"]), strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("mail"), dict) and "notificationType" in found:
            return found
    return None


def _dicts(told: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = told.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _address(person: Mapping[str, Any]) -> str:
    return str(person.get("emailAddress", "")).lower()


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    octets = payload if isinstance(payload, bytes) else b""
    try:
        text = octets.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # a charset that nobody knows
        text = octets.decode("utf-8", "replace")
    return re.sub(r"<[^<>@]{1,400}>", " ", text) if part.get_content_subtype() == "html" else text


def _whole(part: Message) -> str:
    payload = part.get_payload()
    if isinstance(payload, list) and payload and not isinstance(payload[0], str):
        return payload[0].as_bytes().decode("utf-8", "replace")
    return _text(part)


def _param(mail: Message, name: str) -> str:
    value = mail.get_param(name)
    return str(value).lower() if value else ""


def _recipient(group: Message) -> str:
    for field in ("Final-Recipient", "Original-Recipient", "X-Actual-Recipient"):
        value = str(group[field] or "").rpartition(";")[2]
        for address in _addresses(value):
            return address
    return ""


def _addresses(text: str) -> list[str]:
    text = text[:_MAX_WORDS]
    named = [address for _, address in getaddresses([text[:_MAX_TEXT]])] if "<" in text else []
    found = [a for a in named if _ADDRESS.fullmatch(a)] or _ADDRESS.findall(text)
    return [address.lower().rstrip(".") for address in found]


def _about(words: str, address: str) -> str:
    """Of a report on several recipients, the paragraphs that name one of them."""
    return "\n\n".join(p for p in re.split(r"\n\s*\n", words) if address and address in p.lower())


def _date(mail: Message) -> datetime | None:
    try:
        at = parsedate_to_datetime(str(mail["Date"]))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
