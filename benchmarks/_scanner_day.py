"""A made-up day of one mailing in B2B: readers at companies and at home, and machines in front of a part of them.

The world knows nothing of the rules that are to judge it. Its figures are rough readings of what operators of mail
tools report: scanners that come 20-60 s after the mail and later, that follow all links or a sample, with browsers'
names, from a vendor's networks or from the company's own; readers behind one address, who click soon, in several tabs,
or all at once because somebody said so in the corridor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIDDEN", "Day", "Request", "play_day"]

Floats = NDArray[np.float64]

_WINDOWS: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
_WEBKIT: Final = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME: Final = f"{_WINDOWS}) {_WEBKIT} Chrome/126.0.0.0 Safari/537.36"
EDGE: Final = f"{CHROME} Edg/126.0.0.0"
FIREFOX: Final = f"{_WINDOWS}; rv:127.0) Gecko/20100101 Firefox/127.0"
MAC: Final = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/17.5 Safari/605.1.15"
IPHONE: Final = f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_WEBKIT} Mobile/15E148"
ANDROID: Final = f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_WEBKIT} Chrome/126.0.0.0 Mobile Safari/537.36"
OUTLOOK: Final = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/7.0; Microsoft Outlook 16.0.17)"
GMAIL: Final = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_PREFETCH: Final = f"{_WINDOWS}) {_WEBKIT} Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
APPLE: Final = "Mozilla/5.0"
CRAWLERS: Final = ("python-requests/2.32.3", "Mozilla/5.0 (compatible; SafeLinkScanner/2.1)", "Barracuda Sentinel (EE)")

PROGRAMS: Final = ((OUTLOOK, EDGE), (OUTLOOK, CHROME), (CHROME, CHROME), (EDGE, EDGE), (FIREFOX, FIREFOX), (MAC, MAC),
                   (IPHONE, IPHONE), (ANDROID, ANDROID))  # fmt: skip
"""What a person reads with, and what a link then opens in."""
COMMON: Final = (0.22, 0.13, 0.15, 0.1, 0.05, 0.1, 0.17, 0.08)

HIDDEN: Final = 0xFFFF
"""Number of the link that people don't see."""

MINUTE, HOUR = 60.0, 3_600.0
BLOCKED: Final = 0.35  # share of people at companies who see no pictures
QUICK: Final = 0.03  # of clickers: within minutes of delivery, whatever they do
TABS: Final = 0.01  # of clickers: three links and more, in tabs
TWO: Final = 0.03  # of clickers: two links within seconds
SCANNED: Final = 0.3  # of recipients
RESCANNED: Final = 0.03  # of these: once more hours later
FREEMAIL: Final = ("gmail.com", "yahoo.co.jp", "icloud.com", "outlook.com")
VENDORS: Final = {"follows_all": 0.3, "spreads": 0.12, "samples": 0.18, "announces": 0.12, "gateway": 0.16,
                  "detonates": 0.09, "at_click": 0.03}  # fmt: skip
SLOW: Final = {"slow": 1.0}
"""A link every one to ten minutes."""
BROWSERS: Final = {"browses": 1.0}
"""Real browsers: they load the pictures, wait as a reader does, and follow some links at a reader's pace."""


class Request(NamedTuple):
    """One request to the tracker."""

    at: float  # seconds after the first mail
    mail: int
    link: int  # 0 for the pixel
    agent: str
    address: str
    method: str
    human: bool


@dataclass(frozen=True, slots=True)
class Day:
    """A mailing and all that it set off.

    Attributes:
        domains: Of each recipient.
        arms: Of each mail.
        sent: When each was handed over, seconds after the first.
        requests: In the order of time.
        clicked: Whether a person clicked.
        touched: Whether a machine followed a link.
        scanners: The kind of scanner in front of each; empty where none is.
    """

    domains: tuple[str, ...]
    arms: NDArray[np.int64]
    sent: Floats
    requests: tuple[Request, ...]
    clicked: NDArray[np.bool_]
    touched: NDArray[np.bool_]
    scanners: tuple[str, ...]


def play_day(
    rng: np.random.Generator,
    *,
    n: int,
    rates: tuple[float, ...],
    links: tuple[int, ...],
    hidden: bool = False,
    per_second: float = 4.0,
    scanned: float = SCANNED,
    vendors: Mapping[str, float] = VENDORS,
    crowded: bool = False,
) -> Day:
    """Draw a day.

    Args:
        rng: The only source of chance.
        n: Mails.
        rates: Chance that a person clicks, by arm.
        links: Links in the mails of each arm: scanners that follow some of them find more in some arms.
        hidden: Whether each mail has a link beside, which people don't see.
        per_second: Mails that leave in a second.
        scanned: Share of the recipients that are behind a scanner.
        vendors: Kinds of scanners, and their shares.
        crowded: Whether nearly everybody is at a company with dozens of others, as lists in Japan have it.
    """
    sizes = _companies(rng, n, crowded=crowded)
    vendor = _vendors(rng, sizes, scanned, vendors)
    world = _World(
        rng, n=n, rates=rates, links=links, hidden=hidden, per_second=per_second, companies=sizes, vendor=vendor
    )
    requests = sorted((*world.people(), *world.machines()), key=lambda one: (one.at, one.mail, one.link))
    clicked, touched = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for one in requests:
        if one.link:
            (clicked if one.human else touched)[one.mail] = True
    return Day(tuple(world.domains), world.arms, world.sent, tuple(requests), clicked, touched, tuple(world.vendor))


class _World:
    def __init__(
        self,
        rng: np.random.Generator,
        *,
        n: int,
        rates: tuple[float, ...],
        links: tuple[int, ...],
        hidden: bool,
        per_second: float,
        companies: NDArray[np.int64],
        vendor: list[str],
    ) -> None:
        self.rng, self.n, self.hidden = rng, n, hidden
        self.companies, self.vendor = companies, vendor
        self.domains = [f"c{c}.example" if c >= 0 else FREEMAIL[-c - 1] for c in self.companies.tolist()]
        self.arms = rng.permutation(np.arange(n) % len(rates))
        self.links = np.array(links)[self.arms]
        self.rates = np.array(rates)[self.arms]
        self.sent = np.sort(rng.uniform(0, n / per_second, n))
        self.mobile = [_address(rng) for _ in range(400)]
        self.home = [_address(rng) for _ in range(n)]
        self.offices = {c: _address(rng) for c in set(self.companies.tolist())}
        self.clouds = {v: [_address(rng) for _ in range(6)] for v in (*VENDORS, *SLOW, *BROWSERS)}

    # -- people ------------------------------------------------------------------------------------------------------

    def people(self) -> Iterator[Request]:
        """What persons do, and what their mailbox providers fetch for them."""
        rng, together = self.rng, self._together()
        for mail in range(self.n):
            if self.companies[mail] < 0:
                yield from self._prefetched(mail)
            clicks = rng.random() < self.rates[mail] or mail in together
            if not clicks and rng.random() > 0.22:
                continue
            at = together.get(mail, self.sent[mail] + self._delay(quick=clicks and rng.random() < QUICK))
            yield from self._reads(mail, at, clicks)

    def _delay(self, *, quick: bool) -> float:
        return float(self.rng.uniform(8, 240) if quick else self.rng.lognormal(np.log(2.5 * HOUR), 1.6))

    def _together(self) -> dict[int, float]:
        """Colleagues who click within minutes of one another, some of them soon after delivery."""
        rng, found = self.rng, {}
        for company in set(self.companies[self.companies >= 0].tolist()):
            own = np.flatnonzero(self.companies == company)
            if len(own) < 3 or rng.random() > 0.03:
                continue
            who = rng.choice(own, size=min(len(own), int(rng.integers(2, 6))), replace=False)
            begin = self.sent[who].max() + (rng.uniform(30, 300) if rng.random() < 0.2 else self._delay(quick=False))
            found.update({int(mail): float(begin + rng.uniform(0, 150)) for mail in who})
        return found

    def _reads(self, mail: int, at: float, clicks: bool) -> Iterator[Request]:
        rng = self.rng
        reads, opens_links = PROGRAMS[rng.choice(len(PROGRAMS), p=COMMON)]
        provider = self.companies[mail]
        address = self._place(mail, mobile=opens_links in {IPHONE, ANDROID})
        if provider in (-1, -2):
            yield Request(at, mail, 0, GMAIL, "66.249.84.7", "GET", human=True)
        elif provider != -3 and rng.random() > BLOCKED:
            yield Request(at, mail, 0, reads, address, "GET", human=True)
        if clicks:
            begin = at + max(3.0, rng.lognormal(np.log(25), 0.8))
            yield from self._clicks(mail, begin, opens_links, address)

    def _clicks(self, mail: int, at: float, agent: str, address: str) -> Iterator[Request]:
        rng, links = self.rng, int(self.links[mail])
        kind = rng.random()
        if kind < TABS and links >= 3:
            gaps, n = rng.uniform(0.8, 4.0, links), int(rng.integers(3, links + 1))
        elif kind < TABS + TWO and links >= 2:
            gaps, n = rng.uniform(1.5, 10.0, links), 2
        else:
            gaps, n = rng.lognormal(np.log(180), 1.2, 4), int(min(rng.geometric(0.6), 4))
        for number in range(n):
            link = 1 + number % links if kind < TABS + TWO else int(rng.integers(1, links + 1))
            yield Request(at, mail, link, agent, address, "GET", human=True)
            if self.vendor[mail] == "at_click":
                yield self._machine(mail, link, at + rng.uniform(0.2, 2.0), self._cloud("at_click"))
            at += float(gaps[number])

    def _place(self, mail: int, *, mobile: bool) -> str:
        if mobile and self.rng.random() < 0.6:
            return str(self.rng.choice(self.mobile))
        company = int(self.companies[mail])
        return self.offices[company] if company >= 0 and self.rng.random() < 0.75 else self.home[mail]

    def _prefetched(self, mail: int) -> Iterator[Request]:
        """Pictures that providers load although nobody looks."""
        rng, provider = self.rng, self.companies[mail]
        if provider == -3:
            yield Request(self.sent[mail] + rng.exponential(HOUR), mail, 0, APPLE, "17.58.1.1", "GET", human=False)
        elif provider == -1 and rng.random() < 0.1:
            at = self.sent[mail] + rng.uniform(0.5, 30)
            yield Request(at, mail, 0, GMAIL_PREFETCH, "66.249.84.9", "GET", human=False)

    # -- machines ----------------------------------------------------------------------------------------------------

    def machines(self) -> Iterator[Request]:
        """What scanners do with each mail to a company that has one."""
        for mail in range(self.n):
            if self.vendor[mail]:
                if self.vendor[mail] != "at_click":  # which comes only when a person does, see `_clicks`
                    yield from getattr(self, f"_{self.vendor[mail]}")(mail)
                if self.rng.random() < RESCANNED:
                    yield from self._rescans(mail)

    def _cloud(self, vendor: str) -> str:
        return str(self.rng.choice(self.clouds[vendor]))

    def _machine(self, mail: int, link: int, at: float, address: str, agent: str = CHROME) -> Request:
        return Request(at, mail, link, agent, address, "GET", human=False)

    def _arrival(self, mail: int) -> float:
        """20 to 60 s after sending as a rule, and sometimes much later."""
        rng = self.rng
        late = rng.random() < 0.15
        return float(self.sent[mail] + (rng.uniform(60, 1_200) if late else rng.lognormal(np.log(40), 0.35)))

    def _walk(
        self, mail: int, *, gap: tuple[float, float], links: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[int, float]]:
        at = self._arrival(mail)
        wanted = self._every_link(mail) if links is None else links
        for link in wanted.tolist():
            yield link, at
            at += float(self.rng.uniform(*gap))

    def _every_link(self, mail: int) -> NDArray[np.int64]:
        """Those in the mail's text, those that only a program sees among them."""
        numbers = np.arange(1, self.links[mail] + 1)
        return np.insert(numbers, len(numbers) // 2 + 1, HIDDEN) if self.hidden else numbers

    def _follows_all(self, mail: int) -> Iterator[Request]:
        address, pixel = self._cloud("follows_all"), self.rng.random() < 0.3
        for link, at in self._walk(mail, gap=(0.1, 3.0)):
            if pixel and link == 1:
                yield self._machine(mail, 0, at - self.rng.uniform(0, 1.5), address)
            yield self._machine(mail, link, at, address)

    def _spreads(self, mail: int) -> Iterator[Request]:
        """Each link from another network and with another browser's name."""
        agents = (CHROME, EDGE, FIREFOX, MAC)
        for link, at in self._walk(mail, gap=(0.2, 4.0)):
            yield self._machine(mail, link, at, _address(self.rng), str(self.rng.choice(agents)))

    def _samples(self, mail: int) -> Iterator[Request]:
        """A third of the links of each mail: in short mails one link, or none."""
        every = self._every_link(mail)
        chosen = every[self.rng.random(len(every)) < 0.33]
        address = self._cloud("samples")
        for link, at in self._walk(mail, gap=(0.3, 5.0), links=chosen):
            yield self._machine(mail, link, at, address)

    def _announces(self, mail: int) -> Iterator[Request]:
        """HEAD, then GET, under its own name."""
        agent, address = str(self.rng.choice(CRAWLERS)), self._cloud("announces")
        for link, at in self._walk(mail, gap=(0.2, 2.0)):
            yield Request(at, mail, link, agent, address, "HEAD", human=False)
            yield self._machine(mail, link, at + 0.1, address, agent)

    def _gateway(self, mail: int) -> Iterator[Request]:
        """An appliance in the company's own network, with the browser that its people have."""
        for link, at in self._walk(mail, gap=(0.3, 4.0)):
            yield self._machine(mail, link, at, self.offices[int(self.companies[mail])], EDGE)

    def _detonates(self, mail: int) -> Iterator[Request]:
        """Opens the mail in a browser minutes later, and then clicks."""
        at, address = self.sent[mail] + self.rng.uniform(2 * MINUTE, 30 * MINUTE), self._cloud("detonates")
        yield self._machine(mail, 0, at, address)
        at += self.rng.uniform(0.5, 6.0)
        for link in range(1, self.links[mail] + 1):  # it looks at the page as a person would
            yield self._machine(mail, link, at, address)
            at += self.rng.uniform(0.2, 3.0)

    def _slow(self, mail: int) -> Iterator[Request]:
        """A link every one to ten minutes, from one of its networks each."""
        at = self.sent[mail] + self.rng.uniform(MINUTE, 10 * MINUTE)
        for link in self._every_link(mail).tolist():
            yield self._machine(mail, link, at, self._cloud("slow"))
            at += self.rng.uniform(MINUTE, 10 * MINUTE)

    def _browses(self, mail: int) -> Iterator[Request]:
        """A real browser that reads for half a minute and then follows one to three links."""
        rng, address = self.rng, self._cloud("browses")
        agent = str(rng.choice((CHROME, EDGE, FIREFOX, MAC)))
        at = self._arrival(mail)
        yield self._machine(mail, 0, at, address, agent)
        at += float(rng.uniform(5, 40))
        for link in rng.permutation(np.arange(1, self.links[mail] + 1))[: int(rng.integers(1, 4))].tolist():
            yield self._machine(mail, link, at, address, agent)
            at += float(rng.uniform(3, 20))

    def _rescans(self, mail: int) -> Iterator[Request]:
        """The verdict on a site was renewed: hours later all links once more, without any haste."""
        at, address = self.sent[mail] + self.rng.uniform(HOUR, 10 * HOUR), self._cloud(self.vendor[mail])
        for link in self._every_link(mail).tolist():
            yield self._machine(mail, link, at, address)
            at += self.rng.uniform(0.3, 5.0)


def _companies(rng: np.random.Generator, n: int, *, crowded: bool) -> NDArray[np.int64]:
    """A company for each mail, most of them small and some large; below 0 one of the mailboxes that all can have."""
    sizes: list[int] = []
    while sum(sizes) < (0.95 if crowded else 0.7) * n:
        size = rng.lognormal(np.log(30), 1.0) if crowded else 1 + rng.pareto(1.1)
        sizes.append(int(min(float(size) + crowded, 0.05 * n)))
    named = np.repeat(np.arange(len(sizes)), sizes)
    free = -1 - rng.choice(len(FREEMAIL), size=max(n - len(named), 0), p=(0.45, 0.2, 0.2, 0.15))
    return rng.permutation(np.concatenate([named, free]))[:n]


def _vendors(
    rng: np.random.Generator, companies: NDArray[np.int64], scanned: float, shares: Mapping[str, float]
) -> list[str]:
    """The scanner in front of each mail: whole companies have one, until so many recipients do."""
    found: dict[int, str] = {}
    behind = 0
    for company in rng.permutation(np.unique(companies[companies >= 0])).tolist():
        if behind >= scanned * len(companies):
            break
        found[company] = str(rng.choice(list(shares), p=list(shares.values())))
        behind += int((companies == company).sum())
    return [found.get(company, "") for company in companies.tolist()]


def _address(rng: np.random.Generator) -> str:
    return ".".join(map(str, rng.integers(11, 223, size=4)))
