"""Recipient: the unit that gets one variant, and the one spelling of an e-mail address that identifies it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from abmail.errors import mask_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recipient", "email_domain", "normalise_email"]

_MAX_ADDRESS = 254  # octets; RFC 5321 section 4.5.3.1.3 less the angle brackets
_MAX_SHOWN = 80
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+(?:\.[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+)*")


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
    """The identity where a plain local part and a known domain suffice to know the verdict; None: ask the library."""
    local, _, domain = address.partition("@")
    if not _PLAIN_LOCAL.fullmatch(local):
        return None
    known = _known_domain(domain.lower() if domain.isascii() else domain)
    if known is None or len(local) + 1 + known[1] > _MAX_ADDRESS:
        return None
    return f"{local.lower()}@{known[0]}"


@lru_cache(maxsize=65_536)
def _known_domain(domain: str) -> tuple[str, int] | None:
    """A domain that the library takes: its A-labels, and the octets of its longest form. Lists repeat their domains."""
    from email_validator import EmailNotValidError, validate_email  # slow to load, and few addresses need it

    try:
        found = validate_email(f"a@{domain}", check_deliverability=False)
    except EmailNotValidError:
        return None
    forms = (domain, found.domain, found.ascii_domain)
    return found.ascii_domain, max(len(form.encode()) for form in forms)


def _checked_address(address: str) -> str:
    from email_validator import EmailNotValidError, validate_email

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
