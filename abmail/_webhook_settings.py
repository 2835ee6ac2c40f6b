"""Whose webhooks a project takes: the tables ``[webhooks.…]`` of abmail.toml, and their secrets from elsewhere."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from abmail.errors import ConfigError
from abmail.webhooks import Adapter, adapter_class, configure, providers

__all__ = ["read_webhooks"]

_FILE: Final = "secret_file"
_VARIABLE: Final = "ABMAIL_WEBHOOK_{}_SECRET"
_NEVER: Final = frozenset({"secret", "secrets", "key", "password", "token"})


def read_webhooks(
    root: Path, environ: Mapping[str, str], *, tracker_url: str, fetch: Callable[[str], bytes]
) -> dict[str, Adapter]:
    """The adapters of the providers that have a table or a secret.

    Args:
        root: The project's folder.
        environ: Where ``ABMAIL_WEBHOOK_PROVIDER_SECRET`` is looked for.
        tracker_url: Public address of the tracker, which some providers sign.
        fetch: Gets the certificates of Amazon.

    Raises:
        ConfigError: A setting cannot be used, or a provider has no secret.
    """
    file = root / "abmail.toml"
    tables = _tables(file)
    wanted = {*tables, *(name for name in providers() if environ.get(_VARIABLE.format(name.upper())))}
    return {
        name: _adapter(name, tables.get(name, {}), file, environ, {"tracker_url": tracker_url, "fetch": fetch})
        for name in sorted(wanted)
    }


def _tables(file: Path) -> dict[str, dict[str, Any]]:
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("webhooks", {})
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not isinstance(written, dict) or not all(isinstance(table, dict) for table in written.values()):
        raise ConfigError(f"{file}: webhooks must be tables, one a provider", hint="write [webhooks.sendgrid]")
    return written


def _adapter(
    name: str, table: Mapping[str, Any], file: Path, environ: Mapping[str, str], given: Mapping[str, Any]
) -> Adapter:
    place = f"{file}, [webhooks.{name}]"
    kind = adapter_class(name)
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # every adapter is a dataclass
    settings = {key: value for key, value in table.items() if key != _FILE}
    if found := sorted(_NEVER & settings.keys()):
        raise ConfigError(
            f"{place} holds a {found[0]}, which belongs into no file that is shared",
            hint=f"set {_VARIABLE.format(name.upper())}, or name a file of your own in {_FILE}",
        )
    if "url" in known:
        settings.setdefault("url", f"{str(given['tracker_url']).rstrip('/')}/w/{name}")
    own = {"fetch": given["fetch"]}
    if "secrets" in known:
        needed = known["secrets"].default is MISSING
        own["secrets"] = _secrets(name, table.get(_FILE), file, environ, needed=needed)
    return configure(name, settings, place=place, given=own)


def _secrets(name: str, path: object, file: Path, environ: Mapping[str, str], *, needed: bool) -> tuple[str, ...]:
    """The secrets: one a line in a file, or with blanks between in the environment, which wins; a PEM is one."""
    variable = _VARIABLE.format(name.upper())
    text = environ.get(variable, "")
    if not text and path is not None:
        if not isinstance(path, str):
            raise ConfigError(f"{file}, [webhooks.{name}]: {_FILE} is {path!r}, must be a text")
        try:
            text = (file.parent / path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the secrets of {name} in {file.parent / path} cannot be read: {error}") from error
    found = (text.strip(),) if "-----BEGIN" in text else tuple(text.split())
    if needed and not found:
        raise ConfigError(
            f"there is no secret for the webhooks of {name}",
            hint=f"set {variable}, or name a file in {_FILE} under [webhooks.{name}]; several are all accepted",
        )
    return found
