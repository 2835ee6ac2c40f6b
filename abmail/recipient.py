"""Recipient: the unit that gets one variant, and the one spelling of an e-mail address that identifies it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from email_validator import EmailNotValidError, validate_email

from abmail.errors import mask_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recipient", "email_domain", "normalise_email"]

_MAX_ADDRESS = 254  # octets; RFC 5321 section 4.5.3.1.3 less the angle brackets
_MAX_SHOWN = 80
_PLAIN = re.compile(r"([a-z0-9_!#$%&'*+\-/=?^`{|}~]+(?:\.[a-z0-9_!#$%&'*+\-/=?^`{|}~]+)*)@([a-z0-9.\-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A person (or mailbox) on a list.

    Attributes:
        id: Stable identity, never empty; what assignment hashes and the ledger is unique by.
        email: Address as `normalise_email` returns it.
        attributes: Column name -> text as in the file, stripped; without the columns of id, address and zone.
            Treat it as read-only.
        zone: IANA time zone name, None where unknown.

    Raises:
        ValueError: The id is empty, or the address is not in its normalised spelling.

    >>> Recipient(id="17", email=normalise_email("Hanako@Example.JP"), attributes={"stage": "hot"}).email
    'hanako@example.jp'
    """

    id: str
    email: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    zone: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a recipient's id is empty; give each recipient a stable, unique text")
        local, at, domain = self.email.rpartition("@")
        written = self.email.lower() == self.email and self.email.isprintable() and " " not in self.email
        if not (local and at and domain and written):
            raise ValueError(
                f"{_shown(self.email)!r} is not a normalised address; pass it through normalise_email first"
            )


def normalise_email(text: str) -> str:
    """The spelling of an address that stands for its mailbox: lower case, domain as IDNA A-labels, local part in NFC.

    Surrounding white space is dropped. The verdict is email-validator's (syntax and reserved names; no DNS query).
    Idempotent. Case of the local part is dropped although RFC 5321 section 2.4 lets a server tell cases apart: no
    provider of note does, and two mails to one person are worse.

    Args:
        text: An address without display name.

    Returns:
        The address, at most 254 octets.

    Raises:
        ValueError: No usable address; the message says why, with the person's part masked.

    >>> normalise_email(" Hanako.Yamada@MÜNCHEN.de ")
    'hanako.yamada@xn--mnchen-3ya.de'
    """
    address = text.strip()
    return _plain_address(address) or _checked_address(address)


def email_domain(email: str) -> str:
    """The domain of a normalised address.

    Raises:
        ValueError: There is no ``@``.

    >>> email_domain("hanako@example.jp")
    'example.jp'
    """
    _, at, domain = email.rpartition("@")
    if not at:
        raise ValueError(f"{_shown(email)!r} is not an e-mail address: it has no @")
    return domain


def _plain_address(address: str) -> str | None:
    """The address itself where the cheap rules suffice to know the library's verdict; None means: ask the library."""
    if not address.isascii() or len(address) > _MAX_ADDRESS:
        return None
    lowered = address.lower()
    match = _PLAIN.fullmatch(lowered)
    return lowered if match and _is_plain_domain(match[2]) else None


@lru_cache(maxsize=16_384)
def _is_plain_domain(domain: str) -> bool:
    """Whether the library takes this lower-case ASCII domain as it is (lists have few domains and many addresses)."""
    try:
        return validate_email(f"a@{domain}", check_deliverability=False).domain == domain
    except EmailNotValidError:
        return False


def _checked_address(address: str) -> str:
    try:
        found = validate_email(address, check_deliverability=False)
        local = unicodedata.normalize("NFC", found.local_part.lower())
        identity = f"{local}@{found.ascii_domain}"
        # Lower case and A-labels can be longer than what was typed: the identity itself has to be an address.
        validate_email(identity, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"{_shown(address)!r} is not a usable e-mail address: {error}") from None
    return identity


def _shown(address: str) -> str:
    masked = mask_address(address)
    return masked if len(masked) <= _MAX_SHOWN else f"{masked[:_MAX_SHOWN]}…"
