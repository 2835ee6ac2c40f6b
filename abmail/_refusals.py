"""What a server's refusal means for an address: told from its status, its reply code and its words."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

__all__ = ["Reading", "reading_of"]

_STATUS = re.compile(r"(?<![\d.])([245]\.[0-7]\.\d{1,3})(?![\d.])")
_REPLY = re.compile(r"(?<![\d.])([245][0-5]\d)(?=[ \-][^\d]|[ \-][245]\.\d)")


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL)


_NO_PERSON: Final = _any(
    r"unknown (?:user|recipient|local|address|account|mailbox)",
    r"(?:user|recipient|address|account|mailbox)\W{0,3}(?:name )?(?:is |was )?(?:unknown|not found|not known)",
    r"user doesn't have an? .{0,40} account",
    r"no (?:such|valid) (?:user|recipient|person|address|mailbox|account|local)",
    r"no (?:mailbox|account|user) (?:here|by that name|with that)",
    r"(?:user|recipient|address|account|mailbox|email).{0,80}(?:does not|doesn't|do not) exist",
    r"(?:user|recipient|address|account|mailbox).{0,40}not (?:exist|listed|present|be found)",
    r"(?:couldn't|could not) be found|wasn't found",
    r"invalid (?:recipient|mailbox|user|address)",
    r"(?:unroutea?ble|undeliverable) address",
    r"not a (?:valid|known) (?:mailbox|user|recipient)",
    r"recipient.{0,20}(?:not found|unknown)",
    r"(?:recipient|user).{0,40}(?:no longer|not) (?:valid|on server|here)",
    r"no longer (?:works|valid|with|available)",
    r"(?:delivery|mail) to .{0,80}not (?:allowed|possible).{0,40}unknown",
    r"addressee unknown|destination addresses were unknown|bad destination mailbox",
    r"has (?:moved|changed)|mailbox (?:has )?moved|user not local|please try <",
    r"5\.4\.1.{0,80}recipient address rejected: access denied",  # Exchange Online knows no such address
    r"recipient (?:address )?rejected\.?\s*(?:\(in reply to RCPT|\Z)",
)
_NO_PLACE: Final = _any(
    r"host (?:unknown|not found)|unknown host|no such domain",
    r"(?:host or )?domain (?:name )?(?:not found|does not exist|doesn't exist|unknown)",
    r"unroutea?ble (?:mail )?domain|all relevant mx records point to non-existent hosts",
    r"couldn't find any host|nxdomain|illegal host/domain",
    r"(?:does not|doesn't) accept (?:any )?(?:e-?)?mail|null mx|recipient address has a null mx",
)
_FULL: Final = _any(
    r"(?:mail)?box.{0,30}(?:is )?full|over ?quota|quota.{0,30}exceed|exceed.{0,30}(?:quota|storage|space)",
    r"(?:insufficient|not enough|no) (?:disk |system )?(?:storage|space)|disk full|mailbox size limit",
    r"too (?:large|big)|size limit|exceed.{0,30}(?:size|maximum)|message size",
)
_NOT_NOW: Final = _any(
    r"suspended|disabled|inactive|deactivated|too (?:many|much|fast)|rate limit|try again|temporar(?:y|ily)",
    r"malformed or unexpected|couldn't create|cannot create|i/o error",
    r"greylist|graylist|time[d ]?-?out|deferred|connection (?:refused|reset|lost|dropped)",
    r"retry time not reached|delivery time expired|could not be delivered for|loop|hop count|service unavailable",
)
_POLICY: Final = _any(
    r"spam|junk|unsolicited|blocked|block(?:ed)? ?(?:list|using)|black ?list|deny|denied|reputation|banned",
    r"\b(?:spf|dkim|dmarc|ptr|rdns|reverse (?:dns|host|lookup))\b|listed (?:in|at|by|on)",
    r"polic|prohibit|not (?:authori[sz]ed|permitted|allowed)|reject(?:ed)? (?:for|by|due|as)|refused (?:by|due)",
    r"authenticat|virus|malware|content|relay",
    r"sender (?:address )?(?:rejected|denied|not)|mail from|your (?:ip|host|server|domain|mail|message)|rfc ?\d{3,4}",
    r"administrat|filter|security|violat|insecure|tls required",
)
# A refusal after the whole mail was seen is about the mail, whatever it says of the user.
_AFTER_DATA: Final = _any(r"in reply to (?:end of )?DATA", r">>>\s*DATA\s*\W{0,4}<<<", r"after end of data")
# Servers of Japanese mobile carriers say "unknown user" also where a person's filter refuses the sender's domain;
# those of au leave the address out then.
_MOBILE: Final = re.compile(r"[@.](?:docomo\.ne\.jp|softbank\.(?:ne\.)?jp|vodafone\.ne\.jp)\Z")
_MOBILE_AU: Final = re.compile(r"[@.](?:ezweb\.ne\.jp|au\.com)\Z")
_DEAD: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10", "5.4.4", "5.7.27"})
_ABOUT_SENDER: Final = frozenset({"5.1.7", "5.1.8", "5.1.9"})

Kind = Literal["hard", "soft", "policy", "delayed", "delivered"]


class Reading(NamedTuple):
    """What a refusal means.

    Attributes:
        kind: ``hard``: the address is dead. ``policy``: the message or its sender is not wanted. ``soft``: not now.
        status: Enhanced status code.
        code: Reply code.
        reason: The words that decided.
    """

    kind: Kind
    status: str
    code: int | None
    reason: str


def reading_of(*, recipient: str, status: str, diagnostic: str, words: str, action: str) -> Reading:
    """Tell what a refusal means.

    Args:
        recipient: Whom it is about, an address in lower case.
        status: Enhanced status code that the report gives.
        diagnostic: What the other server said.
        words: What the report says to people.
        action: ``failed``, ``delayed``, ``delivered``, … (RFC 3464, section 2.3.3).
    """
    told = diagnostic if len(diagnostic) > 12 else f"{diagnostic} {words}"
    # The other server's own code says more than what a relay made of it.
    own = _STATUS.findall(diagnostic) or _STATUS.findall(told)
    given = _STATUS.search(status)
    found = own[-1] if own and own[-1][2:] != "0.0" else (given[1] if given else (own[-1] if own else ""))
    reply = _REPLY.search(told)
    code = int(reply[1]) if reply else None
    reason = " ".join(told.split())
    kind = _kind(found, code, told, action)
    if kind == "hard" and found not in _DEAD and _may_be_filter(recipient, told, words):
        kind = "policy"
    return Reading(kind, found, code, reason)


def _may_be_filter(recipient: str, told: str, words: str) -> bool:
    """Whether the "unknown user" of a server may be a filter's refusal of this mail."""
    if not re.search(r"unknown user|user unknown", told, re.IGNORECASE):
        return False
    au = _MOBILE_AU.search(recipient) and recipient not in told.lower()
    return bool(au or _MOBILE.search(recipient) or _AFTER_DATA.search(words))


def _kind(status: str, code: int | None, told: str, action: str) -> Kind:
    if action in {"delivered", "relayed", "expanded", "deliverable"} or status.startswith("2."):
        return "delivered"
    if action == "delayed":
        return "delayed"
    if status.startswith("4.") or (not status and code is not None and code < 500):
        return "soft"
    if status in _ABOUT_SENDER:
        return "policy"
    if _FULL.search(told):
        return "soft"
    if _NO_PLACE.search(told) or _NO_PERSON.search(told):
        return "policy" if status.startswith("5.7.") and status not in _DEAD else "hard"
    if status in _DEAD and not _NOT_NOW.search(told) and not _POLICY.search(told):
        return "hard"
    if _NOT_NOW.search(told):
        return "soft"
    return "policy" if _POLICY.search(told) or status.startswith("5.7.") else "soft"
