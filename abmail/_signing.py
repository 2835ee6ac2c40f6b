"""The signing key of links and message ids: where it comes from, and how a new one is put in its place."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from abmail.errors import ConfigError
from abmail.events import Signer

__all__ = ["default_secret", "secret_file", "signer_of"]


def signer_of(secret: bytes, *, place: str = "", hint: str = "set ABMAIL_SECRET to a longer random text") -> Signer:
    try:
        return Signer(secret)
    except ValueError as error:
        raise ConfigError(f"the signing key{place} cannot be used: {error}", hint=hint) from error


def default_secret(url: str) -> bytes:
    if secret := os.environ.get("ABMAIL_SECRET"):
        return secret.encode()
    kind, _, path = url.partition(":///")
    if kind == "sqlite" and path and path != ":memory:":
        return secret_file(Path(path.partition("?")[0] + ".secret"))
    raise ConfigError("there is no signing key", hint="pass secret=... or set ABMAIL_SECRET to at least 16 characters")


def secret_file(path: Path) -> bytes:
    """Read a signing key from a file, which is made with mode 600 when absent.

    Raises:
        ConfigError: The file cannot be read or made, or holds too short a key.
    """
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"the signing key in {path} cannot be used: {error.strerror}") from error
    signer_of(secret, place=f" in {path}", hint="remove the file, unless mails were sent with that key, and run again")
    return secret


def _make_secret(path: Path) -> None:
    """Put a new key in its place whole, so that another process sees all of it or none; the first one stays."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 600
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            _put(new, path)
    finally:
        new.unlink()


def _put(new: Path, path: Path) -> None:
    """Give a file its name unless something has it; where links are not supported, by a copy."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            copy.write(new.read_bytes())
