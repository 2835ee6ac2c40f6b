"""What a request says of itself, in the few features that verdicts are made of, and what these alone give away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from abmail._event_types import EventType
from abmail._tokens import HONEYPOT_LINK
from abmail._verdict_reasons import NO_REASON, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["JUDGED_HEADERS", "Agent", "RequestFacts", "facts_of", "own_reasons"]


class Agent(StrEnum):
    """What kind of program asked, by its User-Agent."""

    NONE = "none"  # it named no program
    APPLE_PRIVACY = "apple_privacy"
    GMAIL_PREFETCH = "gmail_prefetch"
    IMAGE_PROXY = "image_proxy"
    MACHINE = "machine"
    BROWSER = "browser"
    OTHER = "other"
    UNKNOWN = "unknown"  # nobody told


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What is kept of a request so that its verdict can be made anew: neither its address nor its User-Agent.

    Attributes:
        head: Whether it was a HEAD request.
        prefetch: Whether a header said that nobody is looking.
        agent: What kind of program asked.
        family: Browser and system in broad terms, such as ``chrome/windows``; empty where not known.
        network: Keyed hash of the network that it came from, see `Signer.network`; empty where not known.
    """

    head: bool = False
    prefetch: bool = False
    agent: Agent = Agent.UNKNOWN
    family: str = ""
    network: str = ""

    def to_dict(self) -> dict[str, object]:
        """The facts as JSON values; those that say nothing are left out."""
        every = {
            "head": self.head, "prefetch": self.prefetch, "agent": self.agent.value, "family": self.family,
            "network": self.network,
        }  # fmt: skip
        return {name: value for name, value in every.items() if value and value != Agent.UNKNOWN.value}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**{**known, "agent": Agent(known.get("agent", Agent.UNKNOWN))})


def facts_of(
    *, method: str = "GET", user_agent: str | None, headers: Mapping[str, str] | None = None, network: str = ""
) -> RequestFacts:
    """Reduce a request to what its verdict is made of.

    Args:
        method: HTTP method.
        user_agent: The request's User-Agent, empty where it had none; None where nobody told.
        headers: Its other headers; names in any case.
        network: What `Signer.network` makes of its address.
    """
    agent = None if user_agent is None else user_agent[:_MAX_AGENT].strip()
    return RequestFacts(
        head=method.upper() == "HEAD",
        prefetch=_says_prefetch(headers or {}),
        agent=Agent.UNKNOWN if agent is None else _kind_of(agent),
        family=_family_of(agent or ""),
        network=network,
    )


def own_reasons(type_: EventType, facts: RequestFacts, *, age: float | None, link: int | None = None) -> Reason:
    """What speaks for a machine in one request alone.

    Args:
        type_: The event; only opens and clicks are judged.
        facts: What the request says of itself.
        age: Seconds from the mail's delivery to the request; None where not known.
        link: Number of the link that was followed.
    """
    if type_ not in (EventType.OPENED, EventType.CLICKED):
        return NO_REASON
    if facts.head:
        return Reason.HEAD_REQUEST
    if facts.prefetch:
        return Reason.PREFETCH_HEADER
    if facts.agent is Agent.IMAGE_PROXY:
        return _of_proxy(type_, age)
    if (known := _DECISIVE.get(facts.agent)) is not None:
        return known
    return _of_click(facts, age, link) if type_ is EventType.CLICKED else NO_REASON


_DECISIVE: Final = {
    Agent.NONE: Reason.NO_USER_AGENT,
    Agent.APPLE_PRIVACY: Reason.APPLE_PRIVACY,
    Agent.GMAIL_PREFETCH: Reason.GMAIL_PREFETCH,
    Agent.MACHINE: Reason.KNOWN_MACHINE,
}
_EARLY_PROXY_SECONDS: Final = 10.0
_FAST_CLICK_SECONDS: Final = 5.0
_EARLY_SECONDS: Final = 120.0


def _of_proxy(type_: EventType, age: float | None) -> Reason:
    if type_ is EventType.CLICKED:
        return Reason.IMAGE_PROXY_CLICK
    return Reason.IMAGE_PROXY_EARLY if age is not None and age < _EARLY_PROXY_SECONDS else Reason.IMAGE_PROXY


def _of_click(facts: RequestFacts, age: float | None, link: int | None) -> Reason:
    found = Reason.HONEYPOT if link == HONEYPOT_LINK else NO_REASON
    if facts.agent is Agent.OTHER:
        found |= Reason.NOT_A_BROWSER
    if age is not None and age < _EARLY_SECONDS:
        found |= Reason.FAST_CLICK if age < _FAST_CLICK_SECONDS else Reason.EARLY
    return found


# --- headers and agents ---------------------------------------------------------------------------------------------

_MAX_AGENT: Final = 1_000  # characters looked at; real ones have a tenth of it
_PREFETCH_HEADERS: Final = ("purpose", "sec-purpose", "x-purpose", "x-moz")
JUDGED_HEADERS: Final = ("user-agent", *_PREFETCH_HEADERS)
"""The headers of a request that its verdict is made of."""
_IMAGE_PROXY = re.compile(r"GoogleImageProxy|YahooMailProxy", re.IGNORECASE)
# Gmail's prefetcher poses as Edge 12 on Chrome 42, a browser of 2015.
_GMAIL_PREFETCH = re.compile(r"Chrome/42\..* Edge/12\.246")
_MACHINE = re.compile(
    r"(?<!cu)bots?(?![a-z])|crawl|spider|slurp|scan(?:ner)?\b|scrap(?:er|y)|fetch|monitor|preview|unfurl|prefetch"
    r"|headless|phantomjs|puppeteer|playwright|selenium|lighthouse|validator|link-?check|check-?link|archive|feed"
    r"|barracuda|proofpoint|mimecast|fireeye|symantec|messagelabs|ironport|trendmicro|sophos|forcepoint|zscaler"
    r"|facebookexternalhit|^whatsapp|skypeuri|slack-imgproxy|mediapartners-google|appengine-google|google-safety"
    r"|https?://|^Mozilla/5\.0 \(compatible(?:\)|; (?!MSIE|Konqueror))"  # a browser never names its home page
    r"|libwww|^(?:curl|wget|python|libwww|java|go-http|apache-httpclient|axios|node|ruby|php|guzzle|perl|aiohttp|httpx)\b",
    re.IGNORECASE,
)
_BROWSER = re.compile(r"(?:Mozilla|Opera)/\d")
_APPLE_PRIVACY: Final = "Mozilla/5.0"
# The first that matches names the family: Edge and Opera also say Chrome, and Chrome also says Safari.
_BROWSERS: Final = (
    ("outlook", re.compile(r"Microsoft Outlook|MSOffice")), ("thunderbird", re.compile(r"Thunderbird/")),
    ("edge", re.compile(r"Edge?(?:A|iOS)?/")), ("opera", re.compile(r"OPR/|Opera")),
    ("firefox", re.compile(r"Firefox/|FxiOS/")), ("chrome", re.compile(r"Chrom(?:e|ium)/|CriOS/")),
    ("safari", re.compile(r"AppleWebKit/")), ("explorer", re.compile(r"MSIE |Trident/")),
)  # fmt: skip
_SYSTEMS: Final = (
    ("ios", re.compile(r"iPhone|iPad|iPod")), ("android", re.compile(r"Android")),
    ("windows", re.compile(r"Windows")), ("mac", re.compile(r"Mac ?OS X|Macintosh")),
    ("linux", re.compile(r"Linux|X11")),
)  # fmt: skip


def _says_prefetch(headers: Mapping[str, str]) -> bool:
    given = [value.lower() for name, value in headers.items() if name.lower() in _PREFETCH_HEADERS]
    return any(word in value for value in given for word in ("prefetch", "preview", "prerender"))


@lru_cache(4_096)  # the same few programs ask again and again
def _kind_of(agent: str) -> Agent:
    if not agent:
        return Agent.NONE
    if agent == _APPLE_PRIVACY:
        return Agent.APPLE_PRIVACY
    if _GMAIL_PREFETCH.search(agent):
        return Agent.GMAIL_PREFETCH
    if _IMAGE_PROXY.search(agent):
        return Agent.IMAGE_PROXY
    if _MACHINE.search(agent):
        return Agent.MACHINE
    return Agent.BROWSER if _BROWSER.match(agent) else Agent.OTHER


@lru_cache(4_096)
def _family_of(agent: str) -> str:
    named = [next((name for name, sign in signs if sign.search(agent)), "") for signs in (_BROWSERS, _SYSTEMS)]
    return "/".join(named) if any(named) else ""
