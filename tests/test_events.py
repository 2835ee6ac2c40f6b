"""Events, signed tokens and verdicts on machine traffic."""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmail.events import (
    HUMAN_LIKELY,
    Agent,
    Event,
    EventType,
    Judgement,
    RequestFacts,
    Signer,
    Token,
    TokenKind,
    Verdict,
    judge,
)

AT = datetime(2026, 3, 1, 10, 0, 0, 5, tzinfo=UTC)
NOW = AT + timedelta(hours=1)
MESSAGE = "0133420b2dfbda985f36d5e43c726f0e"
TARGET = "https://example.com/a?b=c#d"
SIGNER = Signer(b"0123456789abcdef0123456789abcdef")
KINDS: tuple[TokenKind, ...] = ("o", "c", "u")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

DATA = Path(os.environ.get("ABMAIL_DATA", Path(__file__).parents[1].parent / "shared" / "data")) / "user_agents"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no user-agent data in {DATA}; set ABMAIL_DATA to have them")

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 "
    "Safari/537.36 Edge/12.246 Mozilla/5.0"
)


def token_of(kind: TokenKind, *, signer: Signer = SIGNER) -> str:
    return signer.sign(kind, MESSAGE, link=258, target=TARGET) if kind == "c" else signer.sign(kind, MESSAGE)


def verified(kind: TokenKind, token: str, *, signer: Signer = SIGNER, target: str = TARGET) -> Token | None:
    return signer.verify(kind, token, target=target if kind == "c" else None)


def opened(**fields: object) -> dict[str, object]:
    return {"type": "opened", "at": "2026-03-01T10:00:00Z", "message_id": MESSAGE, **fields}


def read_one(line: str) -> Event:
    return Event.from_dict(json.loads(line))


# --- events -----------------------------------------------------------------------------------------------------------


def test_an_event_names_its_message_by_id_or_by_experiment_and_recipient() -> None:
    assert Event(type=EventType.OPENED, at=AT, message_id=MESSAGE).message_id == MESSAGE
    assert Event(type=EventType.OPENED, at=AT, experiment="spring", recipient="17").recipient == "17"
    for experiment, recipient in (("", ""), ("spring", ""), ("", "17")):
        with pytest.raises(ValueError, match="names its message"):
            Event(type=EventType.OPENED, at=AT, experiment=experiment, recipient=recipient)


@pytest.mark.parametrize("at", [datetime(2026, 3, 1), AT.astimezone(timezone(timedelta(hours=9)))])  # noqa: DTZ001
def test_a_time_that_is_not_aware_utc_is_refused(at: datetime) -> None:
    with pytest.raises(ValueError, match="aware UTC"):
        Event(type=EventType.OPENED, at=at, message_id=MESSAGE)


def test_utc_by_another_name_is_utc() -> None:
    at = AT.astimezone(ZoneInfo("Etc/UTC"))
    assert Event(type=EventType.OPENED, at=at, message_id=MESSAGE).to_dict()["at"] == "2026-03-01T10:00:00.000005+00:00"


@pytest.mark.parametrize("link", [-1, 65_536])
def test_a_link_number_out_of_range_is_refused(link: int) -> None:
    with pytest.raises(ValueError, match=f"link is {link}"):
        Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=link)


def test_keys_are_frozen_because_stored_events_are_found_again_by_them() -> None:
    click = Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=2)
    bounce = Event(type=EventType.BOUNCED, at=AT, experiment="spring", recipient="17", source="smtp")
    assert click.key == "03c33b6b33c4641583eda6b12e02cb39"
    assert bounce.key == "33993012e0adf9678fc0561931835e37"


def test_two_hits_in_one_second_are_one_event() -> None:
    first, again = (Event(type=EventType.OPENED, at=AT + timedelta(seconds=s), message_id=MESSAGE) for s in (0, 0.9))
    later = Event(type=EventType.OPENED, at=AT + timedelta(seconds=1), message_id=MESSAGE)
    assert first.key == again.key != later.key


def test_the_key_tells_source_type_message_and_link_apart() -> None:
    events = [
        Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=1),
        Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=2),
        Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE),
        Event(type=EventType.OPENED, at=AT, message_id=MESSAGE),
        Event(type=EventType.OPENED, at=AT, message_id=MESSAGE, source="sendgrid"),
        Event(type=EventType.OPENED, at=AT, experiment="ab", recipient="c"),
        Event(type=EventType.OPENED, at=AT, experiment="a", recipient="bc"),
    ]
    assert len({event.key for event in events}) == len(events)


def test_verdict_reasons_and_detail_are_no_part_of_an_events_identity() -> None:
    plain = Event(type=EventType.OPENED, at=AT, message_id=MESSAGE)
    judged = Event(
        type=EventType.OPENED, at=AT, message_id=MESSAGE, verdict=Verdict.MACHINE, reasons=("x",), detail="y"
    )
    assert plain.key == judged.key


def test_a_given_key_is_kept() -> None:
    assert Event(type=EventType.OPENED, at=AT, message_id=MESSAGE, key="provider-77").key == "provider-77"


@pytest.mark.parametrize("name", ["message_id", "experiment", "recipient", "source", "key", "reasons"])
@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_an_identifier_that_no_database_takes_is_refused(name: str, bad: str) -> None:
    value: object = [bad] if name == "reasons" else bad
    with pytest.raises(ValueError, match=f"{name} holds a NUL"):
        Event.from_dict(opened(**{name: value}))


def test_a_detail_is_kept_and_only_what_cannot_be_stored_is_replaced() -> None:
    event = Event(type=EventType.BOUNCED, at=AT, message_id=MESSAGE, detail="550 ü\0 山\ud800 😀")
    assert event.detail == "550 ü\ufffd 山\ufffd 😀"


def test_an_event_is_a_value_that_pickles() -> None:
    event = Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=2, reasons=("fast_click",))
    assert pickle.loads(pickle.dumps(event)) == event
    assert len({event, Event(type=EventType.CLICKED, at=AT, message_id=MESSAGE, link=2, reasons=("fast_click",))}) == 1


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
events = st.builds(
    Event,
    type=st.sampled_from(EventType),
    at=st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1), max_value=datetime(2025, 1, 1)),  # noqa: DTZ001
    message_id=st.just(MESSAGE),
    experiment=texts,
    recipient=texts,
    verdict=st.sampled_from(Verdict),
    reasons=st.lists(texts, max_size=3).map(tuple),
    link=st.none() | st.integers(0, 65_535),
    source=texts,
    key=texts,
    detail=texts,
    hard=st.booleans(),
    facts=st.none()
    | st.builds(RequestFacts, head=st.booleans(), agent=st.sampled_from(Agent), family=texts, network=texts),
)


@given(events)
def test_what_is_written_as_json_is_read_back_the_same(event: Event) -> None:
    assert read_one(json.dumps(event.to_dict())) == event


# --- events as JSON ---------------------------------------------------------------------------------------------------


def test_a_minimal_line_is_enough() -> None:
    event = read_one(
        '{"type": "clicked", "at": "2026-03-01T19:00:00+09:00", "experiment": "spring", "recipient": "17"}'
    )
    assert (event.at, event.verdict, event.source, event.hard) == (
        datetime(2026, 3, 1, 10, tzinfo=UTC),
        "human",
        "own",
        False,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (json.dumps({"at": "2026-03-01T10:00:00Z", "message_id": "a"}), "'type' is missing"),
        (json.dumps({"type": "opened", "message_id": "a"}), "'at' is missing"),
        (json.dumps(opened(message_id="")), "names its message"),
        (json.dumps(opened(type="clikced")), "did you mean 'clicked'?"),
        (json.dumps(opened(type=3)), "'type' must be text, not a number"),
        (json.dumps(opened(mesage_id="a")), "unknown field 'mesage_id'; did you mean 'message_id'?"),
        (json.dumps(opened(verdict="robot")), "'verdict' is 'robot', must be one of human, proxy"),
        (json.dumps(opened(at="yesterday")), "not a time such as"),
        (json.dumps(opened(at="2026-03-01T10:00:00")), "no UTC offset; write for instance 2026-03-01T10:00:00Z"),
        (json.dumps(opened(at="0001-01-01T00:00:00+23:00")), "not a time such as"),
        (json.dumps(opened(at=1_700_000_000)), "'at' must be text, not a number"),
        (json.dumps(opened(link="2")), "'link' must be a whole number or null, not text"),
        (json.dumps(opened(link=True)), "'link' must be a whole number or null, not true or false"),
        (json.dumps(opened(link=70_000)), "link is 70000"),
        (json.dumps(opened(reasons="x")), "'reasons' must be a list of texts"),
        (json.dumps(opened(reasons=[1])), "'reasons' must be text, not a number"),
        (json.dumps(opened(hard="yes")), "'hard' must be true or false, not text"),
    ],
)
def test_a_bad_event_is_refused_in_words(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_one(line)


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_are_frozen_because_mails_in_inboxes_carry_them() -> None:
    assert SIGNER.message_id("spring-webinar", "u-1017") == MESSAGE
    assert SIGNER.message_id("spring-webinar", "u-1017", 3) == "662b59e0da3094fab5eab66cef47c826"
    assert token_of("o") == "AW_SATNCCy372phfNtXkPHJvDsF6yruZsXHvGMaU3PleaSk"
    assert token_of("c") == "AWPSATNCCy372phfNtXkPHJvDgECHT_pMUyseorRMbCiQUmgog"
    assert token_of("u") == "AXXSATNCCy372phfNtXkPHJvDhOfpj_DIJoKx63eCJYKa2E"


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_says_what_was_signed(kind: TokenKind) -> None:
    assert verified(kind, token_of(kind)) == Token(kind=kind, message_id=MESSAGE, link=258 if kind == "c" else None)


@given(st.sampled_from(KINDS), st.binary(min_size=16, max_size=16), st.integers(0, 65_535), st.text())
def test_every_signed_token_is_verified(kind: TokenKind, identity: bytes, link: int, target: str) -> None:
    message = identity.hex()
    if kind == "c":
        token = SIGNER.sign(kind, message, link=link, target=target)
        assert SIGNER.verify(kind, token, target=target) == Token(kind=kind, message_id=message, link=link)
    else:
        assert SIGNER.verify(kind, SIGNER.sign(kind, message)) == Token(kind=kind, message_id=message)


def test_ten_thousand_tokens_with_one_character_changed_are_refused() -> None:
    rng = random.Random(7)
    for number in range(10_000):
        kind = KINDS[number % 3]
        token = token_of(kind)
        place = rng.randrange(len(token))
        other = rng.choice(ALPHABET.replace(token[place], ""))
        assert verified(kind, token[:place] + other + token[place + 1 :]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_single_flipped_bit_is_refused(kind: TokenKind) -> None:
    raw = token_of(kind).encode()
    flipped = [
        bytes(b ^ (1 << bit) if n == at else b for n, b in enumerate(raw)) for at in range(len(raw)) for bit in range(8)
    ]
    assert [each for each in flipped if verified(kind, each.decode("latin-1")) is not None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_has_one_spelling_only(kind: TokenKind) -> None:
    token = token_of(kind)
    padded = [
        token + "=",
        token + "==",
        token + "\n",
        " " + token,
        token[:-1] + "==",
        token.replace("_", "/").replace("-", "+"),
    ]
    last = [token[:-1] + letter for letter in ALPHABET]
    assert [each for each in padded + last if each != token and verified(kind, each) is not None] == []


@given(st.sampled_from(KINDS), st.text() | st.text(alphabet=ALPHABET, min_size=47, max_size=50), st.text())
def test_garbage_is_refused_without_an_exception(kind: TokenKind, token: str, target: str) -> None:
    assert SIGNER.verify(kind, token, target=target) is None
    assert SIGNER.verify(kind, token) is None


@pytest.mark.parametrize("target", [None, "", TARGET + "#", "https://example.org/", "\ud800"])
def test_a_click_with_another_target_is_refused(target: str | None) -> None:
    assert SIGNER.verify("c", token_of("c"), target=target) is None


def test_a_token_of_one_kind_is_none_of_another() -> None:
    assert SIGNER.verify("u", token_of("o")) is None
    assert SIGNER.verify("o", token_of("u")) is None


def test_an_older_secret_verifies_but_no_longer_signs() -> None:
    old = Signer(b"an older secret, 16 or more bytes")
    rotated = Signer(b"0123456789abcdef0123456789abcdef", previous=[b"an older secret, 16 or more bytes"])
    assert verified("c", token_of("c", signer=old), signer=rotated) is not None
    assert verified("c", token_of("c", signer=old)) is None
    assert token_of("c", signer=rotated) == token_of("c")


def test_the_same_recipient_gets_the_same_message_id_and_no_other_shares_it() -> None:
    named = [("a", "bc", 0), ("ab", "c", 0), ("a", "bc", 1), ("a", "b", 0), ('a", "b', "c", 0)]
    ids = [SIGNER.message_id(*each) for each in named]
    assert len(set(ids)) == len(named)
    assert ids == [SIGNER.message_id(*each) for each in named]
    assert Signer(b"another secret of ours").message_id("a", "bc") != ids[0]


def test_what_does_not_fit_a_token_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        SIGNER.sign("o", "17")
    with pytest.raises(ValueError, match="link is None"):
        SIGNER.sign("c", MESSAGE, target=TARGET)
    with pytest.raises(ValueError, match="link is 65536"):
        SIGNER.sign("c", MESSAGE, link=65_536, target=TARGET)
    with pytest.raises(ValueError, match="needs a target"):
        SIGNER.sign("c", MESSAGE, link=1)
    with pytest.raises(ValueError, match="takes no target"):
        SIGNER.sign("o", MESSAGE, target=TARGET)
    with pytest.raises(ValueError, match="takes no link"):
        SIGNER.sign("u", MESSAGE, link=1)
    with pytest.raises(ValueError, match="UTF-8"):
        SIGNER.sign("c", MESSAGE, link=1, target="\ud800")


def test_a_short_secret_is_refused_and_no_secret_is_shown() -> None:
    with pytest.raises(ValueError, match="7 bytes, must have at least 16") as caught:
        Signer(b"hush-hu")
    assert "hush" not in str(caught.value)
    assert "0123" not in repr(SIGNER)


def test_a_signer_goes_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(SIGNER)).sign("o", MESSAGE) == token_of("o")


# --- verdicts ---------------------------------------------------------------------------------------------------------


def judged(
    user_agent: str = CHROME,
    *,
    type: EventType = EventType.OPENED,  # noqa: A002 - as `judge` calls it
    method: str = "GET",
    headers: dict[str, str] | None = None,
    seconds: float | None = 600.0,
) -> Judgement:
    return judge(type=type, method=method, user_agent=user_agent, headers=headers or {}, seconds_since_sent=seconds)


HUMANS = [
    CHROME,
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Linux; Android 10; CUBOT X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537",
    "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari Line/14",
    "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18",
]


@pytest.mark.parametrize("user_agent", HUMANS)
@pytest.mark.parametrize("type_", [EventType.OPENED, EventType.CLICKED])
def test_browsers_are_people(user_agent: str, type_: EventType) -> None:
    assert judged(user_agent, type=type_) == Judgement(verdict=Verdict.HUMAN)


@pytest.mark.parametrize("user_agent", [GMAIL, YAHOO])
def test_an_image_proxy_fetches_because_a_person_opened(user_agent: str) -> None:
    found = judged(user_agent)
    assert found == Judgement(verdict=Verdict.PROXY, reasons=("image_proxy",))
    assert found.verdict in HUMAN_LIKELY
    assert judged(user_agent, seconds=None) == found
    assert judged(user_agent, seconds=10.0) == found


def test_an_image_proxy_is_a_machine_right_after_sending_and_on_a_link() -> None:
    assert judged(GMAIL, seconds=9.9) == Judgement(verdict=Verdict.MACHINE, reasons=("image_proxy_early",))
    assert judged(GMAIL, type=EventType.CLICKED).reasons == ("image_proxy_click",)


@pytest.mark.parametrize(
    ("user_agent", "reason"),
    [
        ("Mozilla/5.0", "apple_privacy"),
        (" Mozilla/5.0 ", "apple_privacy"),
        ("", "no_user_agent"),
        (GMAIL_PREFETCH, "gmail_prefetch"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "known_machine"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/126.0 Safari/537.36", "known_machine"),
        ("BarracudaCentral/1.0", "known_machine"),
        ("python-requests/2.32.3", "known_machine"),
        ("curl/8.8.0", "known_machine"),
        ("facebookexternalhit/1.1", "known_machine"),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "known_machine"),
    ],
)
@pytest.mark.parametrize("type_", [EventType.OPENED, EventType.CLICKED])
def test_prefetchers_and_scanners_are_machines(user_agent: str, reason: str, type_: EventType) -> None:
    assert judged(user_agent, type=type_) == Judgement(verdict=Verdict.MACHINE, reasons=(reason,))


@pytest.mark.parametrize("method", ["HEAD", "head"])
def test_a_head_request_is_a_machine(method: str) -> None:
    assert judged(method=method) == Judgement(verdict=Verdict.MACHINE, reasons=("head_request",))


@pytest.mark.parametrize(
    "headers",
    [
        {"Purpose": "prefetch"},
        {"sec-purpose": "prefetch;prerender"},
        {"X-Purpose": "Preview"},
        {"X-Moz": "prefetch"},
    ],
)
def test_a_prefetch_header_is_a_machine(headers: dict[str, str]) -> None:
    assert judged(headers=headers) == Judgement(verdict=Verdict.MACHINE, reasons=("prefetch_header",))


@pytest.mark.parametrize("headers", [{"Accept": "prefetch"}, {"Purpose": ""}, {"Sec-Fetch-Dest": "image"}])
def test_other_headers_tell_nothing(headers: dict[str, str]) -> None:
    assert judged(headers=headers).verdict is Verdict.HUMAN


@pytest.mark.parametrize(
    ("user_agent", "seconds", "verdict", "reasons"),
    [
        (CHROME, 4.9, Verdict.SUSPECTED, ("fast_click",)),
        (CHROME, -1.0, Verdict.SUSPECTED, ("fast_click",)),
        (CHROME, 5.0, Verdict.HUMAN, ("early",)),
        (CHROME, 119.9, Verdict.HUMAN, ("early",)),
        (CHROME, 120.0, Verdict.HUMAN, ()),
        (CHROME, None, Verdict.HUMAN, ()),
        ("Superhuman", 600.0, Verdict.SUSPECTED, ("not_a_browser",)),
        ("Superhuman", 1.0, Verdict.MACHINE, ("fast_click", "not_a_browser")),
    ],
)
def test_one_suspicion_is_suspected_and_two_are_a_machine(
    user_agent: str, seconds: float | None, verdict: Verdict, reasons: tuple[str, ...]
) -> None:
    found = judged(user_agent, type=EventType.CLICKED, seconds=seconds)
    assert found == Judgement(verdict=verdict, reasons=reasons)


def test_a_fast_open_by_a_browser_is_no_sign() -> None:
    assert judged(seconds=1.0).verdict is Verdict.HUMAN


def test_only_opens_and_clicks_are_judged() -> None:
    assert judged("curl/8.8.0", type=EventType.UNSUBSCRIBED).verdict is Verdict.HUMAN


@given(
    st.text(), st.sampled_from(["GET", "HEAD", "POST"]), st.dictionaries(st.text(), st.text(), max_size=3), st.floats()
)
def test_any_request_gets_a_verdict(agent: str, method: str, headers: dict[str, str], seconds: float) -> None:
    found = judged(agent, type=EventType.CLICKED, method=method, headers=headers, seconds=seconds)
    assert bool(found.reasons) == (found.verdict is not Verdict.HUMAN)


@needs_data
def test_real_mail_clients_are_people_and_real_bots_are_not() -> None:
    wanted = {
        "mail_client": Verdict.HUMAN,
        "browser": Verdict.HUMAN,
        "image_proxy": Verdict.PROXY,
        "bot_or_scanner": Verdict.MACHINE,
        "link_preview": Verdict.MACHINE,
    }
    with (DATA / "mail_user_agents_apache.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 30
    assert [row for row in rows if judged(row["user_agent"]).verdict is not wanted[row["kind"]]] == []


@needs_data
def test_most_of_the_worlds_crawlers_are_seen_and_none_of_them_is_a_clicking_person() -> None:
    patterns = json.loads((DATA / "crawler-user-agents.json").read_text(encoding="utf-8"))
    agents = [agent for each in patterns for agent in each["instances"] if judged(agent).verdict is not Verdict.PROXY]
    machines = [agent for agent in agents if judged(agent).verdict is Verdict.MACHINE]
    people = [agent for agent in agents if judged(agent, type=EventType.CLICKED).verdict is Verdict.HUMAN]
    assert len(machines) > 0.8 * len(agents)
    assert len(people) < 0.04 * len(agents)
