"""Where mails come back to: a file, an mbox, a folder of mails, a maildir, or a mailbox on an IMAP server."""

from __future__ import annotations

import imaplib
import mailbox
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from abmail.errors import ConfigError, bad_certificate

__all__ = ["Returned", "open_mailbox"]

_SCHEMES: Final = {"imap": 143, "imap+starttls": 143, "imaps": 993}
_URL_HINT: Final = "write imaps://user@host/folder (or imap+starttls://), and the password into ABMAIL_IMAP_PASSWORD"
_MAX_MAIL: Final = 10_000_000  # octets; a larger mail is no report
_SIZE = re.compile(rb"RFC822\.SIZE (\d{1,18})")
_TIMEOUT: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """One mail that came back.

    Attributes:
        place: Where it lies, for messages: a file, or its number in the mailbox.
        raw: The whole mail; empty where it is too large to be a report.
        settle: To be called once its events are stored: an IMAP server then marks it as read. Other places are left
            as they are.
    """

    place: str
    raw: bytes
    settle: Callable[[], None] = lambda: None


def open_mailbox(
    source: str, *, password: str = "", context: ssl.SSLContext | None = None
) -> AbstractContextManager[Iterator[Returned]]:
    """Open a place where mails come back; the mails are read one by one.

    Args:
        source: Path of a mail, an mbox, a maildir or a folder of ``.eml`` files, or an IMAP URL such as
            ``imaps://bounces%40example.com@imap.example.com/INBOX``, of which the unread mails are taken.
        password: For IMAP.
        context: TLS settings; by default certificates are checked against the system's authorities.

    Raises:
        ConfigError: There is no such place, or it cannot be read.
    """
    if "://" in source:
        return _imap(source, password, context or ssl.create_default_context())
    return _files(Path(source))


@contextmanager
def _files(path: Path) -> Iterator[Iterator[Returned]]:
    if not path.exists():
        raise ConfigError(f"there is no file or folder {path}", hint="give a mail, an mbox, a maildir or an IMAP URL")
    yield _mails_of(path)


def _mails_of(path: Path) -> Iterator[Returned]:
    try:
        if path.is_dir():
            yield from _folder(path)
        elif _begins(path, b"From "):
            yield from _mbox(path)
        else:
            yield _mail(path)
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def _folder(path: Path) -> Iterator[Returned]:
    """A maildir's mails, old and new; of another folder all files that end in .eml."""
    if (path / "cur").is_dir() and (path / "new").is_dir():
        found = [each for name in ("cur", "new") for each in (path / name).iterdir() if not each.name.startswith(".")]
    else:
        found = [each for each in path.iterdir() if each.suffix == ".eml"]
    for each in sorted(found):
        if each.is_file():
            yield _mail(each)


def _mail(path: Path) -> Returned:
    return Returned(place=str(path), raw=b"" if path.stat().st_size > _MAX_MAIL else path.read_bytes())


def _begins(path: Path, octets: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(octets)) == octets


def _mbox(path: Path) -> Iterator[Returned]:
    box = mailbox.mbox(path, create=False)
    try:
        for number, key in enumerate(box.iterkeys(), start=1):
            yield Returned(place=f"{path}, mail {number}", raw=box.get_bytes(key))
    finally:
        box.close()


@contextmanager
def _imap(url: str, password: str, context: ssl.SSLContext) -> Iterator[Iterator[Returned]]:
    scheme, user, host, port, folder = _parts(url)
    place = f"{host}:{port}"
    if not password:
        raise ConfigError(f"there is no password for {place}", hint=_URL_HINT)
    with _failures(place):
        client = _connect(scheme, host, port, context)
        try:
            client.login(user, password)
            status, answer = client.select(f'"{folder}"')
            if status != "OK":
                raise ConfigError(f"{place} has no folder {folder!r}: {_words(answer)}", hint=_URL_HINT)
            yield _unread(client, f"{place}/{folder}")
        finally:
            with suppress(imaplib.IMAP4.error, OSError):
                client.logout()


def _parts(url: str) -> tuple[str, str, str, int, str]:
    try:
        parts = urlsplit(url)
        scheme, host, port, user = parts.scheme, parts.hostname or "", parts.port, unquote(parts.username or "")
    except ValueError:
        raise ConfigError("the IMAP URL cannot be read: its host or port is malformed", hint=_URL_HINT) from None
    folder = unquote(parts.path.strip("/")) or "INBOX"
    if scheme not in _SCHEMES or not host or not user or parts.query:
        raise ConfigError("the address of the mailbox is no IMAP URL with a user and a host", hint=_URL_HINT)
    if parts.password is not None:
        raise ConfigError("the IMAP URL holds a password, which others could read on this machine", hint=_URL_HINT)
    if not folder.isascii() or not folder.isprintable() or set('"\\') & set(folder):
        raise ConfigError(f"the IMAP folder is {folder!r}, must be printable ASCII without quotes")
    return scheme, user, host, _SCHEMES[scheme] if port is None else port, folder


def _connect(scheme: str, host: str, port: int, context: ssl.SSLContext) -> imaplib.IMAP4:
    if scheme == "imaps":
        return imaplib.IMAP4_SSL(host, port, ssl_context=context, timeout=_TIMEOUT)
    client = imaplib.IMAP4(host, port, timeout=_TIMEOUT)
    if scheme == "imap+starttls":
        try:
            client.starttls(context)
        except BaseException:
            client.shutdown()
            raise
    return client


def _unread(client: imaplib.IMAP4, place: str) -> Iterator[Returned]:
    _, found = client.uid("SEARCH", "UNSEEN")
    for uid in (found[0] or b"").decode().split():
        raw = _fetched(client, uid)
        yield Returned(place=f"{place}, mail {uid}", raw=raw, settle=partial(_mark, client, uid))


def _fetched(client: imaplib.IMAP4, uid: str) -> bytes:
    """The whole mail, without marking it as read."""
    _, sizes = client.uid("FETCH", uid, "(RFC822.SIZE)")
    told = next((found for each in sizes if isinstance(each, bytes) and (found := _SIZE.search(each))), None)
    size = int(told[1]) if told else 0
    if size > _MAX_MAIL:
        return b""
    _, answer = client.uid("FETCH", uid, "(BODY.PEEK[])")
    return next((bytes(each[1]) for each in answer if isinstance(each, tuple)), b"")


def _mark(client: imaplib.IMAP4, uid: str) -> None:
    client.uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)")


@contextmanager
def _failures(place: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise bad_certificate(place, error) from error
    except imaplib.IMAP4.error as error:
        raise ConfigError(f"{place} refuses: {_words(error.args)}", hint="check user, password and folder") from error
    except OSError as error:
        raise ConfigError(f"no connection to {place}: {error}", hint="check host and port, and the network") from error


def _words(answer: object) -> str:
    parts = answer if isinstance(answer, (list, tuple)) else [answer]
    return " ".join(p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in parts)[:200]
