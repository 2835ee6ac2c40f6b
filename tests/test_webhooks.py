"""Every provider's webhooks: whole events from published payloads, and what each adapter must stand."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webhooks.harness import DIGEST, NOW, OURS, Provider, Request, Seen, as_json, mutated, payloads, provider

from abmail.errors import ConfigError, WebhookError
from abmail.events import Event, EventType, Signer
from abmail.webhooks import Batch, adapter_class, configure, parse, providers

DATA = Path(os.environ.get("ABMAIL_DATA", Path(__file__).parents[1].parent / "shared" / "data")) / "webhooks"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="ABMAIL_DATA names no folder with the published payloads")


def published(name: str) -> list[tuple[str, Any]]:
    file = DATA / f"{name}.json"
    return [(row["case"], row["payload"]) for row in json.loads(file.read_text())] if file.is_file() else []


CASES = [(name, case, payload) for name in providers() for case, payload in published(name)]


def assert_events(name: str, batch: Batch, expected: list[Seen] | tuple[Seen, ...]) -> None:
    assert not batch.problems
    assert list(batch.events) == [
        seen.event(name, found.key) for seen, found in zip(expected, batch.events, strict=True)
    ]
    digests = [found.key for seen, found in zip(expected, batch.events, strict=True) if seen.key == DIGEST]
    assert len(set(digests)) == len(digests)
    assert name == "standard" or all(len(key) == len(name) + 33 and key.startswith(f"{name}:") for key in digests)


@needs_data
@pytest.mark.parametrize(("name", "case", "payload"), CASES, ids=[f"{name}-{case}" for name, case, _ in CASES])
def test_a_published_payload_gives_a_whole_event(name: str, case: str, payload: Any) -> None:
    assert_events(name, parse(name, as_json(payload), now=NOW), list(provider(name).expected[case]))


@needs_data
def test_there_are_130_published_payloads_and_no_expectation_without_one() -> None:
    assert len(CASES) == 130
    for name in providers():
        assert set(provider(name).expected) == {case for case, _ in published(name)}


DOCUMENTED = [(name, *row) for name in providers() for row in provider(name).documented]


@pytest.mark.parametrize(("name", "payload", "expected"), DOCUMENTED)
def test_a_documented_kind_of_event_gives_a_whole_event(name: str, payload: Any, expected: list[Seen]) -> None:
    assert_events(name, parse(name, as_json(payload), now=NOW), list(expected))


@needs_data
@pytest.mark.parametrize(("name", "case", "payload"), CASES, ids=[f"{name}-{case}" for name, case, _ in CASES])
def test_no_event_holds_an_address(name: str, case: str, payload: Any) -> None:
    for event in parse(name, as_json(payload), now=NOW).events:
        for address in ("jane@example.com", "recipient@example.com", "noreply@example.com", "bounce@example.com"):
            assert address not in json.dumps(event.to_dict())


# --- what every provider must stand -----------------------------------------------------------------------------------


def refused(found: Provider, request: Request, *, at: datetime = NOW, **changes: Any) -> bool:
    request = replace(request, **changes)
    try:
        found.adapter.verify(request.headers, request.body, now=at)
    except WebhookError as error:
        return is_clean(error)
    return False


def is_clean(error: WebhookError) -> bool:
    """Whether an error is the sender's, in words."""
    if not 400 <= error.context["status"] < 500 or not error.message:
        raise AssertionError(error)
    return True


@pytest.fixture(params=providers())
def found(request: pytest.FixtureRequest) -> Provider:
    return provider(request.param)


class TestEveryProvider:
    def test_has_its_module_s_name(self, found: Provider) -> None:
        assert adapter_class(found.adapter.name) is type(found.adapter)

    def test_verifies_its_own_requests_with_either_secret_and_no_stranger_s(self, found: Provider) -> None:
        for payload in payloads(found.adapter.name):
            assert not refused(found, found.sign(payload, at=NOW, secret=0))
            assert not refused(found, found.sign(payload, at=NOW, secret=1))
            assert refused(found, found.sign(payload, at=NOW, secret=2))

    def test_reads_what_it_signed(self, found: Provider) -> None:
        for payload, expected in found.documented:
            request = found.sign(payload, at=NOW)
            read = found.adapter.parse(request.body, now=NOW)
            assert [event.type for event in read.events] == [seen.type for seen in expected]

    def test_finds_headers_in_any_case(self, found: Provider) -> None:
        request = found.sign(found.unknown[0], at=NOW)
        for change in (str.lower, str.upper):
            assert not refused(found, request, headers={change(name): value for name, value in request.headers.items()})

    def test_refuses_every_other_header(self, found: Provider) -> None:
        request = found.sign(found.unknown[0], at=NOW)
        for name, value in request.headers.items():
            for wrong in (*BAD_HEADERS, value[:-2], value[1:], value.swapcase() + "=", f"{value}\0"):
                assert refused(found, request, headers={**request.headers, name: wrong}), wrong[:60]
            assert refused(found, request, headers={n: v for n, v in request.headers.items() if n != name})

    def test_refuses_a_body_of_which_one_bit_was_changed(self, found: Provider) -> None:
        if found.covers != "all":
            return
        request = found.sign(found.documented[0][0], at=NOW)
        for place in range(len(request.body)):
            changed = bytearray(request.body)
            changed[place] ^= 1 << (place % 7)
            assert refused(found, request, body=bytes(changed)), place

    def test_refuses_the_same_json_written_in_another_way(self, found: Provider) -> None:
        if found.covers != "all" or found.adapter.name == "mandrill":
            return
        request = found.sign(found.documented[0][0], at=NOW)
        assert refused(found, request, body=json.dumps(json.loads(request.body), indent=1).encode())

    def test_refuses_what_is_too_old_or_from_the_future(self, found: Provider) -> None:
        tolerance = getattr(found.adapter, "tolerance", None)
        if tolerance is None:
            return
        request, limit = found.sign(found.unknown[0], at=NOW), timedelta(seconds=tolerance)
        for away in (limit, -limit):
            assert not refused(found, request, at=NOW + away)
            assert refused(found, request, at=NOW + away * 1.1)

    def test_never_fails_for_a_bad_body(self, found: Provider) -> None:
        for body in BAD_BODIES:
            assert refused(found, Request(body=body))
            self.reads_or_refuses(found, body)

    def test_never_fails_for_half_a_body(self, found: Provider) -> None:
        body = found.sign(found.documented[0][0], at=NOW).body
        for end in range(len(body)):
            self.reads_or_refuses(found, body[:end])

    @staticmethod
    def reads_or_refuses(found: Provider, body: bytes) -> Batch | None:
        try:
            return found.adapter.parse(body, now=NOW)
        except WebhookError as error:
            is_clean(error)
            return None

    def test_gives_a_repeated_event_the_same_key(self, found: Provider) -> None:
        for payload, _ in found.documented:
            first = parse(found.adapter.name, as_json(payload), now=NOW)
            again = parse(
                found.adapter.name, json.dumps(payload, sort_keys=True).encode(), now=NOW + timedelta(hours=9)
            )
            assert [event.key for event in first.events] == [event.key for event in again.events]

    def test_keeps_the_good_items_of_a_batch_with_bad_ones(self, found: Provider) -> None:
        good = found.unknown[0]
        inner = as_items(good)
        bad: list[Any] = ["text", 7, None, [], True]
        batch = parse(found.adapter.name, as_json(rewrapped(good, [*inner, *bad, *inner])), now=NOW)
        assert len(batch.events) == 2
        assert [json.loads(problem.raw) for problem in batch.problems] == bad
        assert [problem.message for problem in batch.problems] == ["the item is no JSON object"] * len(bad)
        assert all(f"item {n}" in problem.place for n, problem in enumerate(batch.problems, start=2))

    def test_keeps_a_bad_item_as_an_event_of_unknown_kind(self, found: Provider) -> None:
        batch = parse(found.adapter.name, as_json(["one of jane@example.com", 7]), now=NOW)
        kept = [problem.to_event(found.adapter.name, at=NOW) for problem in batch.problems]
        assert [event.type for event in kept] == [EventType.UNKNOWN] * 2
        assert len({event.key for event in kept}) == 2
        assert "item 1: the item is no JSON object" in kept[0].detail
        assert "j***@example.com" in kept[0].detail

    def test_makes_a_problem_of_a_time_that_is_none(self, found: Provider) -> None:
        wrong_ones: tuple[Any, ...] = ("yesterday", -5, 1e300, [], {}, True)
        for wrong in wrong_ones:
            batch = parse(found.adapter.name, as_json(with_time(timed(found), wrong)), now=NOW)
            assert not batch.events
            assert len(batch.problems) == 1

    def test_makes_a_problem_of_an_event_of_the_day_after_tomorrow(self, found: Provider) -> None:
        later = (NOW + timedelta(days=2)).isoformat()
        batch = parse(found.adapter.name, as_json(with_time(timed(found), later)), now=NOW)
        assert "more than a day in the future" in batch.problems[0].message

    def test_keeps_an_unknown_kind_of_event_with_its_name(self, found: Provider) -> None:
        payload, kind = found.unknown
        (event,) = parse(found.adapter.name, as_json(payload), now=NOW).events
        assert event.type is EventType.UNKNOWN
        assert event.detail == kind

    def test_shows_no_secret(self, found: Provider) -> None:
        secrets = getattr(found.adapter, "secrets", ())
        assert not any(secret in repr(found.adapter) for secret in secrets)

    def test_refuses_everybody_where_it_has_no_secret(self, found: Provider) -> None:
        if not any(each.name == "secrets" and each.default is MISSING for each in fields(found.adapter)):  # type: ignore[arg-type]
            return
        for empty in ((), ("",)):
            adapter = replace(found.adapter, secrets=empty)  # type: ignore[type-var]  # every adapter is a dataclass
            for secret in (0, 1, 2):
                assert refused(replace(found, adapter=adapter), found.sign(found.unknown[0], at=NOW, secret=secret))
            assert refused(replace(found, adapter=adapter), Request(body=as_json(found.unknown[0])))


BAD_HEADERS = (
    "", " ", "x", "v1", "v1,", ",", "=", "====", "\0", "Basic", "Basic ", "Basic ====", "Bearer ", "é", "\ud800", "٣",
    "-1", "1e400", "9" * 5_000, "A" * 100_000, "00", "v1,AAAA v1a,AAAA", "v1,é",
)  # fmt: skip
BAD_BODIES = (
    b"", b" ", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"7", b'"text"', b"true", b"{}", b"[]", b"[[]]",
    b"[" * 200_000, b'{"a":' * 200_000, b"[" * 60_000 + b"]" * 60_000, b"1" * 10_000,
    b'[{"timestamp":' + b"9" * 5_000 + b"}]", b'[{"timestamp":1e400,"time":1e400,"ts":1e400}]', b'{"timestamp":NaN}',
    b'[{"event":Infinity}]', b"\xe9", b"a=b&a", b"%ff=%ff", b"mandrill_events=%5B", b"mandrill_events=%7B%7D",
    b'{"event-data":7}', b'{"signature":[],"event-data":{}}', b'{"events":7}', b'{"events":{}}',
    b'{"events_by_user":7}', b'{"events_by_user":[7]}', b'{"events_by_user":[{"events":7}]}', b'{"payload":[]}',
    b'{"msys":7}', b'[{"msys":{"a":7}}]', b'{"mail":7,"eventType":"Bounce"}', b'{"event":"\\ud800","timestamp":1}',
    b'{"sg_event_id":"\\u0000","_id":"\\u0000","id":"\\u0000","uuid":"\\u0000","ID":"\\u0000"}',
    b'{"Type":"Notification","TopicArn":7}', b'{"Type":"Notification","TopicArn":"a","Message":"["}',
    b'{"Type":"SubscriptionConfirmation","TopicArn":"a","SubscribeURL":"https://[::1"}', b'{"data":7,"type":[]}',
    b'{"auth":"0"}',
)  # fmt: skip


def as_items(payload: Any) -> list[Any]:
    """The items of a payload of a single event."""
    if isinstance(payload, list):
        return payload
    if isinstance(payload, dict) and "events" in payload:
        return list(payload["events"])
    if isinstance(payload, dict) and "events_by_user" in payload:
        return list(payload["events_by_user"][0]["events"])
    return [payload]


def rewrapped(payload: Any, items: list[Any]) -> Any:
    """The payload with other items in it."""
    if isinstance(payload, dict) and "events" in payload:
        return {**payload, "events": items}
    if isinstance(payload, dict) and "events_by_user" in payload:
        return {"events_by_user": [{**payload["events_by_user"][0], "events": items}]}
    return items


TIMES = (
    "at",
    "timestamp",
    "time",
    "ts",
    "ts_epoch",
    "event_time",
    "BouncedAt",
    "ReceivedAt",
    "ChangedAt",
    "created_at",
)


def timed(found: Provider) -> Any:
    """A payload of a single event that tells its time."""
    return next(p for p, events in found.documented if len(events) == 1 and with_time(p, None) != p)


def with_time(payload: Any, value: Any) -> Any:
    """The payload with another time, wherever it has one; a mail's own time stays."""
    if isinstance(payload, list):
        return [with_time(each, value) for each in payload]
    if isinstance(payload, dict):
        return {
            key: value if key in TIMES else each if key == "mail" else with_time(each, value)
            for key, each in payload.items()
        }
    return payload


def test_whatever_is_changed_in_a_payload_no_adapter_fails() -> None:
    rng = random.Random(7)
    for name in providers():
        samples = list(payloads(name))
        for _ in range(300):
            body = as_json(mutated(rng.choice(samples), rng))
            batch = TestEveryProvider.reads_or_refuses(provider(name), body)
            for event in () if batch is None else batch.events:
                assert Event.from_dict(event.to_dict()) == event


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=80) | JSON.map(as_json), st.dictionaries(st.text(max_size=9), st.text(max_size=30), max_size=3)
)
def test_no_garbage_makes_an_adapter_fail(body: bytes, headers: Mapping[str, str]) -> None:
    for name in providers():
        found = provider(name)
        assert refused(found, Request(body=body, headers=headers))
        TestEveryProvider.reads_or_refuses(found, body)


# --- which message, which link ----------------------------------------------------------------------------------------

SIGNER = Signer(b"sixteen bytes or more")


def followed(url: str) -> Event:
    body = as_json(
        {"RecordType": "Click", "MessageID": "m1", "OriginalLink": url, "ReceivedAt": "2026-03-01T10:00:00Z"}
    )
    return parse("postmark", body, now=NOW).events[0]


def test_a_link_of_our_tracker_tells_the_message_and_the_number_of_the_link() -> None:
    url = f"https://t.example.com/c/{SIGNER.sign('c', OURS, link=7, target='https://x.example/')}?u=https%3A%2F%2Fx.example"
    event = followed(url)
    assert (event.type, event.message_id, event.link, event.detail) == (EventType.CLICKED, OURS, 7, url)


@pytest.mark.parametrize("kind", ["u", "v"])
def test_who_follows_our_link_to_unsubscribe_or_to_the_hosted_copy_has_not_clicked(kind: Any) -> None:
    url = f"https://t.example.com/{kind}/{SIGNER.sign(kind, OURS)}"
    event = followed(url)
    assert (event.type, event.message_id, event.link, event.detail) == (EventType.UNKNOWN, OURS, None, url)


@pytest.mark.parametrize("path", ["/c/short", "/c/" + "A" * 50, "/u/" + "é" * 47, "/c/" + "A" * 51, "/", ""])
def test_any_other_link_is_only_kept(path: str) -> None:
    event = followed(f"https://example.com{path}")
    assert (event.type, event.message_id, event.link) == (EventType.CLICKED, "postmark:m1", None)


@pytest.mark.parametrize(
    "header_id", [f"<{OURS}@news.example.com>", f"<{OURS}.2@news.example.com>", OURS, OURS.upper(), f" {OURS} "]
)
def test_our_message_id_is_recognised_in_any_of_its_forms(header_id: str) -> None:
    (event,) = parse("sendgrid", as_json([{"event": "open", "smtp-id": header_id}]), now=NOW).events
    assert event.message_id == OURS


@pytest.mark.parametrize("header_id", [f"{OURS}0@x.example", OURS[1:], "g" * 32, f"x{OURS}", f"<{OURS}@x>y", ""])
def test_what_only_looks_like_our_message_id_is_the_provider_s(header_id: str) -> None:
    (event,) = parse("sendgrid", as_json([{"event": "open", "smtp-id": header_id}]), now=NOW).events
    assert event.message_id == f"sendgrid:{header_id.strip('<>')}"


# --- published vectors and each proof's own traps ---------------------------------------------------------------------


def test_the_vector_of_the_standard_webhooks_is_accepted() -> None:
    adapter = configure("standard", {}, given={"secrets": ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",)})
    at = datetime.fromtimestamp(1614265330, tz=UTC)
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,AAAA v2,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    adapter.verify(headers, body, now=at)
    with pytest.raises(WebhookError, match="does not fit"):
        adapter.verify(headers, body.replace(b" ", b""), now=at)


SENDGRID_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglS"
    "I8eNEc6wEA3F+g=="
)
SENDGRID_SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
SENDGRID_BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)


def test_sendgrid_s_published_vector_is_accepted_and_nothing_else() -> None:
    adapter = configure("sendgrid", {}, given={"secrets": (SENDGRID_KEY,)})
    at = datetime.fromtimestamp(1600112502, tz=UTC)
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": SENDGRID_SIGNATURE,
        "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502",
    }
    adapter.verify(headers, SENDGRID_BODY, now=at)
    for changed in (
        SENDGRID_BODY.rstrip(), SENDGRID_BODY.replace(b"\r\n", b"\n"), json.dumps(json.loads(SENDGRID_BODY)).encode(),
        SENDGRID_BODY.replace(b"1600112492", b"1600112493"),
    ):  # fmt: skip
        with pytest.raises(WebhookError, match="does not fit"):
            adapter.verify(headers, changed, now=at)
    with pytest.raises(WebhookError, match="does not fit"):
        adapter.verify({**headers, "X-Twilio-Email-Event-Webhook-Timestamp": "1600112503"}, SENDGRID_BODY, now=at)


@pytest.mark.parametrize("name", ["key", "message_id", "experiment", "recipient", "source"])
def test_a_name_that_no_index_takes_is_a_problem_of_our_own_events(name: str) -> None:
    told = {"type": "opened", "at": "2026-03-01T10:00:00Z", "message_id": OURS, name: "x" * 501}
    assert parse("standard", as_json(told), now=NOW).problems[0].message == f"{name!r} is longer than 500 characters"


def test_another_event_under_a_used_token_of_mailgun_is_the_same_event() -> None:
    found = provider("mailgun")
    one, other = (found.sign({"event": kind, "timestamp": 1534109600}, at=NOW) for kind in ("opened", "complained"))
    keys = {found.adapter.parse(request.body, now=NOW).events[0].key for request in (one, other)}
    assert len(keys) == 1


def test_mailgun_s_form_of_before_2018_is_verified_and_read() -> None:
    from urllib.parse import urlencode

    found = provider("mailgun")
    proof = json.loads(found.sign({}, at=NOW).body)["signature"]
    fields = [
        ("event", "opened"),
        ("token", "the mail's own"),
        ("event", "complained"),
        ("abmail_message", OURS),
        *proof.items(),
    ]
    body = urlencode(fields).encode()
    found.adapter.verify({}, body, now=NOW)
    (event,) = found.adapter.parse(body, now=NOW).events
    assert (event.type, event.message_id, event.key) == (EventType.OPENED, OURS, f"mailgun:{proof['token']}")
    assert refused(found, Request(body=body.replace(proof["token"].encode(), b"another")))


def test_mailgun_s_form_in_parts_is_verified_and_read_without_the_files_in_it() -> None:
    found = provider("mailgun")
    proof = json.loads(found.sign({}, at=NOW).body)["signature"]
    named = {"event": "bounced", "abmail_message": OURS, "error": "550 5.1.1 No such user", "code": "550", **proof}
    lines = [
        f'--b1\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in named.items()
    ]
    attached = (
        '--b1\r\nContent-Disposition: form-data; name="event"; filename="a.eml"\r\n'
        "Content-Type: message/rfc822\r\n\r\nopened\r\n"
    )
    body = "".join([attached, *lines, "--b1--\r\n"]).encode()
    found.adapter.verify({}, body, now=NOW)
    (event,) = found.adapter.parse(body, now=NOW).events
    assert (event.type, event.message_id, event.hard) == (EventType.BOUNCED, OURS, True)
    assert refused(found, Request(body=body.replace(proof["token"].encode(), b"another")))
    for bad in (body.removesuffix(b"--\r\n"), b"--", b"--b1", b"--\x00\r\n--\x00--"):
        with pytest.raises(WebhookError):
            found.adapter.parse(bad, now=NOW)


def test_an_event_of_a_subaccount_is_proved_by_the_key_of_the_account_above_it() -> None:
    found = provider("mailgun")
    whole = json.loads(found.sign(found.unknown[0], at=NOW).body)
    above = {**whole["signature"], "parent-signature": whole["signature"]["signature"], "signature": "00" * 32}
    assert not refused(found, Request(body=as_json({**whole, "signature": above})))
    assert refused(found, Request(body=as_json({**whole, "signature": {**above, "token": "another"}})))


def test_the_ping_of_mandrill_is_accepted_under_its_published_key_and_nothing_else_is() -> None:
    import hashlib
    import hmac
    from base64 import b64encode
    from urllib.parse import urlencode

    def signed(events: str) -> Request:
        message = f"https://t.example.com/w/mandrillmandrill_events{events}".encode()
        digest = hmac.new(b"test-webhook", message, hashlib.sha1).digest()
        body = urlencode({"mandrill_events": events}).encode()
        return Request(body=body, headers={"X-Mandrill-Signature": b64encode(digest).decode()})

    found = provider("mandrill")
    assert not refused(found, signed("[]"))
    assert found.adapter.parse(signed("[]").body, now=NOW) == Batch()
    assert refused(found, signed('[{"event": "unsub"}]'))


def test_what_amazon_does_not_sign_needs_a_secret_and_what_it_signs_is_not_proved_by_one() -> None:
    mail = {"messageId": "m1", "destination": ["a@example.com"], "headers": [], "timestamp": "2026-03-01T09:00:00.000Z"}
    told = {"eventType": "Delivery", "mail": mail, "delivery": {"timestamp": "2026-03-01T10:00:00.000Z"}}
    bridged = {
        "version": "0", "id": "e-1", "detail-type": "Email Delivered", "source": "aws.ses", "detail": told,
        "time": "2026-03-01T10:00:01Z",
    }  # fmt: skip
    made = configure("amazon_ses", {"topics": []}, given={"secrets": ("user:secret", "key")})
    without = configure("amazon_ses", {"topics": []})
    for payload in (told, bridged):
        made.verify({"X-Webhook-Secret": "key"}, as_json(payload), now=NOW)
        for adapter, headers in (
            (made, {}),
            (made, {"X-Webhook-Secret": "no"}),
            (without, {"X-Webhook-Secret": "key"}),
        ):
            with pytest.raises(WebhookError):
                adapter.verify(headers, as_json(payload), now=NOW)
    forged = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:x", "Message": "{}"}
    with pytest.raises(WebhookError, match="not listened to"):
        made.verify({"X-Webhook-Secret": "key"}, as_json(forged), now=NOW)
    (bare,), (event,) = (made.parse(as_json(payload), now=NOW).events for payload in (told, bridged))
    assert replace(bare, key="") == replace(event, key="") != event
    assert (event.key, event.type, event.at.hour) == ("amazon_ses:e-1", EventType.DELIVERED, 10)
    stream = as_json(told) + as_json({**told, "eventType": "Send"}) + b"\n" + as_json(bridged)
    assert [each.type.value for each in made.parse(stream, now=NOW).events] == ["delivered", "sent", "delivered"]
    for torn in (stream[:-3], b"{} x", b"", b"\xff{}{}"):
        with pytest.raises(WebhookError):
            made.parse(torn, now=NOW)


@pytest.mark.parametrize("part", ["timestamp", "token", "signature"])
def test_what_mailgun_signs_cannot_be_changed(part: str) -> None:
    found = provider("mailgun")
    whole = json.loads(found.sign(found.unknown[0], at=NOW).body)
    wrong_ones: tuple[Any, ...] = ("", "0", 0, None, [], {}, whole["signature"][part] + "0")
    for wrong in wrong_ones:
        assert refused(found, Request(body=as_json({**whole, "signature": {**whole["signature"], part: wrong}})))
    assert refused(found, Request(body=as_json({"event-data": whole["event-data"]})))
    assert refused(found, Request(body=as_json({**whole, "signature": whole["signature"]["signature"]})))


def test_a_secret_may_come_as_password_token_or_header() -> None:
    from base64 import b64encode

    found = configure("brevo", {}, given={"secrets": ("user:pässword", "token")})
    basic = b64encode("user:pässword".encode()).decode()
    for headers in (
        {"Authorization": f"Basic {basic}"},
        {"authorization": "bearer token"},
        {"x-webhook-secret": "token"},
    ):
        found.verify(headers, b"", now=NOW)
    for headers in ({"Authorization": f"Bearer {basic}"}, {"Authorization": "token"}, {"X-Webhook-Secret": basic}, {}):
        with pytest.raises(WebhookError, match="carries no secret"):
            found.verify(headers, b"", now=NOW)


def test_the_ping_of_mailersend_is_accepted_under_its_published_secret_and_nothing_else_is() -> None:
    import hashlib
    import hmac

    def signed(payload: Any) -> Request:
        body, key = as_json(payload), b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"
        return Request(body=body, headers={"Signature": hmac.new(key, body, hashlib.sha256).hexdigest()})

    found = provider("mailersend")
    assert not refused(found, signed({"type": "webhook.test", "message": "This is a ping test message"}))
    assert refused(found, signed({"type": "activity.unsubscribed", "data": {"type": "unsubscribed"}}))
    assert found.adapter.parse(signed({"type": "webhook.test", "data": {"type": "opened"}}).body, now=NOW) == Batch()


def test_mandrill_s_signature_covers_the_url() -> None:
    found = provider("mandrill")
    other = replace(found.adapter, url="https://t.example.com/w/mandrill/")  # type: ignore[type-var]
    assert refused(replace(found, adapter=other), found.sign(found.unknown[0], at=NOW))


def test_postal_s_weaker_signature_counts_for_nothing_beside_the_stronger_one() -> None:
    found = provider("postal")
    old = found.sign(found.unknown[0], at=NOW, secret=1)
    assert refused(found, old, headers={**old.headers, "X-Postal-Signature-256": "AAAA"})


class TestAmazon:
    """Signatures, certificates and topics of Amazon SNS."""

    @staticmethod
    def adapter(**changes: Any) -> Provider:
        found = provider("amazon_ses")
        return replace(found, adapter=replace(found.adapter, **changes))  # type: ignore[type-var]

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("subject", [None, "Amazon SES Email Event Notification"])
    def test_both_versions_are_accepted_and_every_signed_field_is_covered(
        self, version: str, subject: str | None
    ) -> None:
        from webhooks import amazon_ses as amazon

        sns = {**amazon.envelope("{}", at=NOW), **({"Subject": subject} if subject else {})}
        request = amazon.signed(sns, version=version)
        assert not refused(self.adapter(), request)
        whole = json.loads(request.body)
        for name in ("Message", "MessageId", "Timestamp", "Type", "Signature", "SignatureVersion"):
            assert refused(self.adapter(), Request(body=as_json({**whole, name: f"{whole[name]}0"}))), name
        assert refused(self.adapter(), Request(body=as_json({**whole, "Subject": "another"})))
        assert refused(self.adapter(), Request(body=as_json({**whole, "TopicArn": amazon.OTHER_TOPIC})))

    def test_the_other_version_s_digest_does_not_fit(self) -> None:
        from webhooks import amazon_ses as amazon

        whole = json.loads(amazon.signed(amazon.envelope("{}", at=NOW), version="2").body)
        for version in ("1", "3", "", None):
            assert refused(self.adapter(), Request(body=as_json({**whole, "SignatureVersion": version})))

    def test_another_s_topic_is_neither_read_nor_confirmed_and_its_certificate_not_fetched(self) -> None:
        from webhooks import amazon_ses as amazon

        fetched: list[str] = []
        for kind in ("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"):
            request = amazon.signed(amazon.envelope("{}", at=NOW, kind=kind, topic=amazon.FOREIGN_TOPIC))
            assert refused(self.adapter(fetch=fetched.append), request)
        assert not fetched

    @pytest.mark.parametrize(
        "url",
        [
            "http://sns.eu-west-1.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
            "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/a.pem", "https://snsXeu-west-1.amazonaws.com/a.pem",
            "https://s3.eu-west-1.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com/a.crt", "https://[::1/a.pem",
            "https://evil.example\\@sns.eu-west-1.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com/a\n.pem",
            "https://sns.evil.example.amazonaws.com/a.pem", "file:///etc/a.pem", "", 7,
        ],
    )  # fmt: skip
    def test_no_certificate_is_fetched_from_anywhere_else(self, url: Any) -> None:
        from webhooks import amazon_ses as amazon

        fetched: list[str] = []
        request = amazon.signed({**amazon.envelope("{}", at=NOW), "SigningCertURL": url})
        assert refused(self.adapter(fetch=fetched.append), request)
        assert not fetched

    @pytest.mark.parametrize(
        "url", ["https://sns.cn-north-1.amazonaws.com.cn/a.pem", "https://sns.us-gov-west-1.amazonaws.com/a.pem"]
    )
    def test_amazon_s_other_partitions_are_amazon_s(self, url: str) -> None:
        from webhooks import amazon_ses as amazon

        assert not refused(self.adapter(), amazon.signed({**amazon.envelope("{}", at=NOW), "SigningCertURL": url}))

    def test_a_certificate_must_be_one_and_valid_now(self) -> None:
        from webhooks import amazon_ses as amazon

        request = amazon.signed(amazon.envelope("{}", at=NOW))
        assert refused(self.adapter(fetch=lambda url: b"no certificate"), request)
        assert refused(self.adapter(fetch=lambda url: amazon.certificate(days=30)), request)
        assert refused(self.adapter(fetch=lambda url: amazon.certificate(2)), request)

    def test_a_certificate_that_cannot_be_fetched_is_no_bad_signature(self) -> None:
        from webhooks import amazon_ses as amazon

        def away(url: str) -> bytes:
            raise TimeoutError(url)

        with pytest.raises(TimeoutError):
            self.adapter(fetch=away).adapter.verify({}, amazon.signed(amazon.envelope("{}", at=NOW)).body, now=NOW)

    def test_a_subscription_to_our_topic_is_to_be_confirmed_at_amazon_alone(self) -> None:
        from webhooks import amazon_ses as amazon

        sns = amazon.envelope("You have chosen to subscribe", at=NOW, kind="SubscriptionConfirmation")
        request = amazon.signed(sns)
        assert not refused(self.adapter(), request)
        assert parse("amazon_ses", request.body, now=NOW) == Batch(confirm=amazon.SUBSCRIBE)
        for url in ("https://evil.example/", "http://sns.eu-west-1.amazonaws.com/", "", None):
            with pytest.raises(WebhookError, match="not Amazon's"):
                parse("amazon_ses", as_json({**sns, "SubscribeURL": url}), now=NOW)

    def test_the_end_of_a_subscription_and_the_greeting_hold_no_events(self) -> None:
        from webhooks import amazon_ses as amazon

        end = amazon.envelope("You have chosen to deactivate", at=NOW, kind="UnsubscribeConfirmation")
        greeting = amazon.envelope("Successfully validated SNS topic for Amazon SES event publishing.", at=NOW)
        assert [parse("amazon_ses", as_json(sns), now=NOW) for sns in (end, greeting)] == [Batch(), Batch()]

    def test_a_notification_gives_its_events_its_id_and_where_they_have_none_its_time(self) -> None:
        from webhooks import amazon_ses as amazon

        told = {"notificationType": "Bounce", "mail": {"messageId": "m1"}, "bounce": {
            "bounceType": "Permanent",
            "bouncedRecipients": [{"emailAddress": "a@x.example"}, {"emailAddress": "b@x.example"}],
        }}  # fmt: skip
        at = NOW - timedelta(minutes=5)
        batch = parse("amazon_ses", as_json(amazon.envelope(json.dumps(told), at=at)), now=NOW)
        ident = "amazon_ses:8f6dee70-c885-558a-be7d-bd48bbf5335e"
        assert [(event.key, event.at) for event in batch.events] == [(f"{ident}-0", at), (f"{ident}-1", at)]

    def test_a_notification_that_holds_no_json_is_a_problem(self) -> None:
        from webhooks import amazon_ses as amazon

        batch = parse("amazon_ses", as_json(amazon.envelope("Hello", at=NOW)), now=NOW)
        assert batch.problems[0].message == "the message of Amazon SNS holds no JSON"


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_become_an_adapter() -> None:
    made = configure("resend", {"tolerance": 60}, given={"secrets": ("whsec_AAAA",), "fetch": None})
    assert (made.name, getattr(made, "tolerance")) == ("resend", 60.0)  # noqa: B009 - not of every adapter


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: adapter_class("sendgird"), "no provider 'sendgird'"),
        (lambda: adapter_class("_reading"), "no provider '_reading'"),
        (lambda: adapter_class("../events"), "no provider"),
        (lambda: configure("resend", {"tolerence": 60}), "'tolerence' is no setting of resend"),
        (lambda: configure("resend", {"secrets": ["x"]}), "'secrets' is no setting of resend"),
        (lambda: configure("resend", {}), "resend needs the setting 'secrets'"),
        (lambda: configure("resend", {"tolerance": "a minute"}), "tolerance is 'a minute', must be a number"),
        (lambda: configure("resend", {"tolerance": True}), "must be a number"),
        (lambda: configure("resend", {"tolerance": -1}), "must be a number"),
        (lambda: configure("mandrill", {}, given={"secrets": ("x",)}), "mandrill needs the setting 'url'"),
        (lambda: configure("mandrill", {"url": 7}), "url is 7, must be a text"),
        (lambda: configure("amazon_ses", {}), "amazon_ses needs the setting 'topics'"),
        (
            lambda: configure("amazon_ses", {"topics": "arn"}, place="abmail.toml"),
            "abmail.toml: topics is 'arn', must be a list",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_words(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        make()
