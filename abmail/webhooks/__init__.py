"""Webhooks: what the mail providers tell us, checked and read. One provider a module; bytes in, values out.

Pure: no framework, no clock, no network. A module of this package whose name has no underscore is a provider, and its
``ADAPTER`` the class; nothing else has to be registered.

>>> from datetime import UTC, datetime
>>> body = b'[{"event": "open", "timestamp": 1461095250, "sg_event_id": "a1", "sg_message_id": "m1"}]'
>>> batch = parse("sendgrid", body, now=datetime(2026, 3, 1, tzinfo=UTC))
>>> batch.events[0].type.value, batch.events[0].at.year
('opened', 2016)
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from abmail.errors import ConfigError
from abmail.webhooks._item import OUR_KEY
from abmail.webhooks._reading import Batch, Problem

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["OUR_KEY", "Adapter", "Batch", "Problem", "adapter_class", "configure", "parse", "providers"]


class Adapter(Protocol):
    """Understands the webhooks of one provider. Frozen: its fields are the settings.

    Attributes:
        name: The provider's name: the module's, the URL's and the events' ``source``.
    """

    @property
    def name(self) -> str:
        """See above."""

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """Check that a request comes from the provider, over the raw bytes of its body.

        Args:
            headers: Names in any case.
            body: As it came over the wire.
            now: Aware UTC datetime, for the age of what is signed with its time.

        Raises:
            WebhookError: It does not, or that cannot be told.
        """
        ...

    @classmethod
    def parse(cls, body: bytes, *, now: datetime) -> Batch:
        """Read a body, of a request or of a file; whether it is genuine is not asked.

        Args:
            body: The raw bytes.
            now: When it came, aware UTC; the time of events that tell none.

        Raises:
            WebhookError: The body cannot be read at all; single bad items become problems.
        """
        ...


@cache
def providers() -> tuple[str, ...]:
    """Names of all providers, sorted."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def adapter_class(provider: str) -> type[Adapter]:
    """The class that understands a provider.

    Raises:
        ConfigError: There is no such provider; the message names the nearest.
    """
    if provider not in providers():
        near = difflib.get_close_matches(provider, providers(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"the providers are: {', '.join(providers())}"
        raise ConfigError(f"there is no provider {provider!r}", hint=hint)
    found: type[Adapter] = importlib.import_module(f"{__name__}.{provider}").ADAPTER
    return found


def parse(provider: str, body: bytes, *, now: datetime) -> Batch:
    """Read the body of a provider's webhook, such as one that was kept in a file; see `Adapter.parse`.

    Raises:
        ConfigError: There is no such provider.
        WebhookError: The body cannot be read.
    """
    return adapter_class(provider).parse(body, now=now)


def configure(
    provider: str, settings: Mapping[str, object], *, place: str = "", given: Mapping[str, object] | None = None
) -> Adapter:
    """Make a provider's adapter from settings.

    Args:
        provider: Its name.
        settings: By the names of the adapter's fields: texts, numbers, lists of texts, true or false.
        place: Where the settings were read, for messages.
        given: Further fields that no file can hold, such as the secrets; those that the adapter lacks are left out.

    Raises:
        ConfigError: A setting is unknown, missing, or of the wrong kind.
    """
    kind = adapter_class(provider)
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # every adapter is a dataclass
    own = {name: each for name, each in known.items() if not each.metadata.get("given")}
    where = f"{place}: " if place else ""
    for name in settings:
        if name not in own:
            raise ConfigError(
                f"{where}'{name}' is no setting of {provider}", hint=f"its settings are: {', '.join(own) or 'none'}"
            )
    read: dict[str, Any] = {name: _setting(own[name], value, where) for name, value in settings.items()}
    read |= {name: value for name, value in (given or {}).items() if name in known}
    for each in known.values():
        if each.name not in read and each.default is MISSING and each.default_factory is MISSING:
            raise ConfigError(f"{where}{provider} needs the setting '{each.name}'", hint="see docs/webhooks.md")
    return kind(**read)


_KINDS: Final = {str: "a text", float: "a number", bool: "true or false", tuple: "a list of texts"}


def _setting(each: Field[Any], value: object, where: str) -> object:
    wanted: type = each.metadata.get("kind", type(each.default))
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if wanted is tuple and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    if wanted in (str, bool) and isinstance(value, wanted):
        return value
    raise ConfigError(f"{where}{each.name} is {value!r}, must be {_KINDS[wanted]}")
