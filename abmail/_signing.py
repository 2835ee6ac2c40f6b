"""The signing key of links and message ids: where it comes from, and how a new one is put in its place."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from abmail.errors import ConfigError
from abmail.events import Signer

__all__ = ["default_secret", "key_file", "keys_of", "rotate", "secret_file", "signer_of"]


_TOO_SHORT: Final = "set ABMAIL_SECRET to a longer random text"


def signer_of(keys: bytes | Sequence[bytes], *, place: str = "", hint: str = _TOO_SHORT) -> Signer:
    """The signer of one key, or of several of which the first one signs."""
    first, *older = [keys] if isinstance(keys, bytes) else keys
    try:
        return Signer(first, older)
    except ValueError as error:
        raise ConfigError(f"the signing key{place} cannot be used: {error}", hint=hint) from error


def keys_of(text: bytes) -> tuple[bytes, ...]:
    """Keys, one a line: the first one signs, what the others signed stays valid."""
    return tuple(line.strip() for line in text.splitlines() if line.strip()) or (b"",)


def default_secret(url: str) -> tuple[bytes, ...]:
    if secret := os.environ.get("ABMAIL_SECRET"):
        return keys_of(secret.encode())
    kind, _, path = url.partition(":///")
    if kind == "sqlite" and path and path != ":memory:":
        return key_file(Path(path.partition("?")[0] + ".secret"))
    raise ConfigError("there is no signing key", hint="pass secret=... or set ABMAIL_SECRET to at least 16 characters")


def secret_file(path: Path) -> bytes:
    """Read the key that signs from a file; see `key_file`."""
    return key_file(path)[0]


def key_file(path: Path) -> tuple[bytes, ...]:
    """Read signing keys from a file, one a line, which is made with mode 600 when absent.

    Raises:
        ConfigError: The file cannot be read or made, or holds too short a key.
    """
    try:
        if not path.exists():
            _make_secret(path)
        keys = keys_of(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the signing key in {path} cannot be used: {error.strerror}") from error
    signer_of(keys, place=f" in {path}", hint="remove the file, unless mails were sent with that key, and run again")
    return keys


def rotate(path: Path) -> int:
    """Put a new key before those of a file, whole and at once; returns how many there are now.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    keys = key_file(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 600
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join((secrets.token_urlsafe(32).encode(), *keys, b"")))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise ConfigError(f"the new key cannot be written to {path}: {error.strerror}") from error
    return len(keys) + 1


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
