"""Providers' HTTP APIs against a local server that speaks their protocol: what is sent, and what each answer means."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from abmail._ses import sign
from abmail.errors import (
    ConfigError,
    MissingExtra,
    PermanentSendError,
    SendError,
    TransientSendError,
    UncertainSendError,
)
from abmail.project import Project
from abmail.render import RenderedMessage
from abmail.send import SES, SMTP, Resend, Transport, transport_from_url

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def message(number: int = 1, *, attachment: bytes | None = None) -> RenderedMessage:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = "営業部 <news@example.com>", "hanako@example.jp", "春の🌸"
    mail["Date"], mail["Message-ID"] = f"Mon, 02 Mar 2026 09:0{number}:00 +0000", f"<{number:032x}@example.com>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content("こんにちは")
    mail.add_alternative("<p>こんにちは</p>", subtype="html")
    if attachment is not None:
        mail.add_attachment(attachment, maintype="text", subtype="calendar", filename="招待.ics")
    return RenderedMessage(
        message_id=f"{number:032x}",
        header_id=f"<{number:032x}@example.com>",
        sender="news@example.com",
        recipient="hanako@example.jp",
        subject="春の🌸",
        html="<p>こんにちは</p>",
        text="こんにちは",
        raw=mail.as_bytes(),
    )


Answer = tuple[int, dict[str, str], Any] | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Provider:
    """What was asked, and what is to be answered: (status, headers, body), or a deed on the raw connection."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    url: str = ""

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]


@contextlib.contextmanager
def provider(
    *answers: tuple[int, dict[str, str], Any] | Callable[[BaseHTTPRequestHandler], None],
) -> Iterator[Provider]:
    known = Provider(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            known.connections.add(self.client_address)
            answer = known.answers.pop(0)
            if callable(answer):
                answer(self)
                return
            status, headers, content = answer
            octets = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(octets)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield known
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Take the request and close without an answer."""
    handler.close_connection = True
    handler.connection.close()


def stay_silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.4)
    handler.close_connection = True


@contextlib.contextmanager
def ses(at: Provider, **settings: Any) -> Iterator[SES]:
    transport = SES(
        "eu-west-1", access_key=KEYS[0], secret_key=KEYS[1], endpoint=at.url, timeout=0.2, now=lambda: NOW, **settings
    )
    with contextlib.closing(transport):
        yield transport


@contextlib.contextmanager
def resend(at: Provider) -> Iterator[Resend]:
    with contextlib.closing(Resend(api_key="re_secret", endpoint=at.url, timeout=0.2)) as transport:
        yield transport


# --- AWS Signature Version 4 ------------------------------------------------------------------------------------------


# From AWS's published test suite: get-vanilla, post-vanilla, get-vanilla-query-order-key, get-utf8,
# post-x-www-form-urlencoded, post-header-value-case, get-header-value-trim.
@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "signature"),
    [
        ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET", "/?Param2=value2&Param1=value1", {}, b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", "/%E1%88%B4", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "POST", "/", {"My-Header1": "VALUE1"}, b"",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    ],
)  # fmt: skip
def test_signatures_are_those_of_awss_own_examples(
    method: str, target: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = sign(
        method, f"https://example.amazonaws.com{target}", headers, body, credentials=KEYS, region="us-east-1",
        service="service", now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )  # fmt: skip
    assert signed["Authorization"].endswith(f"Signature={signature}")
    assert signed["X-Amz-Date"] == "20150830T123600Z"


signed_text = st.text("abz019-_.", min_size=1, max_size=8)


@given(
    st.sampled_from(["GET", "POST"]),
    st.lists(st.text("abz019-_~", min_size=1, max_size=8), max_size=3).map(lambda names: "/" + "/".join(names)),
    st.dictionaries(signed_text, signed_text, max_size=4),
    st.dictionaries(signed_text.map("X-".__add__), st.text("aZ9 =;,", max_size=9), max_size=3),
    st.binary(max_size=40),
    st.sampled_from(["ses", "service"]),
)
def test_botocore_signs_any_request_alike(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes, service: str
) -> None:
    written = "&".join(f"{name}={value}" for name, value in query.items())
    url = f"https://email.eu-west-1.amazonaws.com{path}{'?' if written else ''}{written}"
    theirs = AWSRequest(method, url, headers=headers, data=body)
    SigV4Auth(Credentials(*KEYS), service, "eu-west-1").add_auth(theirs)
    now = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    ours = sign(method, url, headers, body, credentials=KEYS, region="eu-west-1", service=service, now=now)
    assert ours["Authorization"] == theirs.headers["Authorization"]


def is_signed(request: tuple[str, dict[str, str], bytes]) -> bool:
    """Check a request as the service does: from the bytes that came, by the header's own list of names."""
    path, headers, body = request
    fields = dict(part.split("=", 1) for part in headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    access, day, region, service, end = fields["Credential"].split("/")
    lines = "".join(f"{name}:{headers[name]}\n" for name in fields["SignedHeaders"].split(";"))
    canonical = f"POST\n{path}\n\n{lines}\n{fields['SignedHeaders']}\n{hashlib.sha256(body).hexdigest()}"
    text = (
        f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{day}/{region}/{service}/{end}\n"
        f"{hashlib.sha256(canonical.encode()).hexdigest()}"
    )
    key = f"AWS4{KEYS[1]}".encode()
    for part in (day, region, service, end, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return access == KEYS[0] and key.hex() == fields["Signature"]


# --- Amazon SES -------------------------------------------------------------------------------------------------------


def test_ses_gets_the_mail_as_it_was_made_with_our_id_as_a_tag() -> None:
    with (
        provider((200, {}, {"MessageId": "0102018f"})) as known,
        ses(known, configuration_set="abmail", session_token="temporary") as transport,
    ):
        assert transport.send(sent := message()) == "200 0102018f"
    ((path, headers, _),) = known.requests
    (body,) = known.bodies()
    assert path == "/v2/email/outbound-emails"
    assert headers["x-amz-security-token"] == "temporary"
    assert "x-amz-security-token" in headers["authorization"]
    assert is_signed(known.requests[0])
    assert b64decode(body["Content"]["Raw"]["Data"]) == sent.raw
    assert body["Destination"] == {"ToAddresses": ["hanako@example.jp"]}
    assert body["EmailTags"] == [{"Name": "abmail_message", "Value": sent.message_id}]
    assert body["ConfigurationSetName"] == "abmail"


TYPE = "x-amzn-ErrorType"


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected", "fields"),
    [
        (429, {TYPE: "TooManyRequestsException"}, {"message": "Maximum sending rate exceeded."}, TransientSendError,
         {"throttled": "relay"}),
        (400, {TYPE: "LimitExceededException:http://internal.amazon.com/"}, {}, TransientSendError,
         {"throttled": "relay"}),
        (400, {}, {"__type": "com.amazonaws.sesv2#TooManyRequestsException"}, TransientSendError,
         {"throttled": "relay"}),
        (503, {"Retry-After": "30"}, b"<html>busy</html>", TransientSendError, {"retry_after": 30.0}),
        (500, {TYPE: "InternalServiceErrorException"}, {}, TransientSendError, {"throttled": ""}),
        (400, {TYPE: "MessageRejected"}, {"message": "Email address is on the suppression list"}, PermanentSendError,
         {"kind": "policy"}),
        (400, {TYPE: "MessageRejected"}, {"message": "Email address is not verified."}, ConfigError, {}),
        (400, {TYPE: "BadRequestException"}, {"message": "Illegal address"}, PermanentSendError, {"kind": "other"}),
        (400, {TYPE: "SendingPausedException"}, {}, ConfigError, {}),
        (400, {TYPE: "AccountSuspendedException"}, {}, ConfigError, {}),
        (400, {TYPE: "MailFromDomainNotVerifiedException"}, {}, ConfigError, {}),
        (403, {TYPE: "InvalidSignatureException"}, {"message": "The request signature ..."}, ConfigError, {}),
        (504, {}, b"", UncertainSendError, {}),
    ],
)  # fmt: skip
def test_each_answer_of_ses_says_what_to_do(
    status: int, headers: dict[str, str], body: Any, expected: type[Exception], fields: dict[str, object]
) -> None:
    with (
        provider((status, headers, body)) as known,
        ses(known) as transport,
        pytest.raises((SendError, ConfigError)) as caught,
    ):
        transport.send(message())
    assert type(caught.value) is expected
    assert {name: getattr(caught.value, name) for name in fields} == fields
    assert KEYS[1] not in str(caught.value)


@pytest.mark.parametrize("deed", [hang_up, stay_silent])
def test_a_request_to_ses_without_an_answer_is_uncertain_and_made_once(
    deed: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    with provider(deed, (200, {}, {"MessageId": "2"})) as known, ses(known) as transport:
        with pytest.raises(UncertainSendError, match=r"h\*\*\*@example\.jp"):
            transport.send(message(1))
        assert transport.send(message(2)) == "200 2"
    assert [body["EmailTags"][0]["Value"] for body in known.bodies()] == [f"{n:032x}" for n in (1, 2)]


# --- Resend -----------------------------------------------------------------------------------------------------------


def test_resend_gets_the_parts_of_the_mail_under_an_idempotency_key() -> None:
    with provider((200, {}, {"id": "49a3999c"})) as known, resend(known) as transport:
        assert transport.send(message(attachment=b"BEGIN:VCALENDAR\r\n")) == "200 49a3999c"
    ((path, headers, _),) = known.requests
    (body,) = known.bodies()
    assert path == "/emails"
    assert headers["authorization"] == "Bearer re_secret"
    assert headers["idempotency-key"] == f"{1:032x}"
    assert body.pop("attachments") == [
        {"filename": "招待.ics", "content": "QkVHSU46VkNBTEVOREFSDQo=", "content_type": "text/calendar"}
    ]
    assert body == {
        "from": "営業部 <news@example.com>",
        "to": ["hanako@example.jp"],
        "subject": "春の🌸",
        "html": "<p>こんにちは</p>",
        "text": "こんにちは",
        "headers": {
            "Message-ID": f"<{1:032x}@example.com>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        "tags": [{"name": "abmail_message", "value": f"{1:032x}"}],
    }


@pytest.mark.parametrize("deed", [hang_up, stay_silent, (504, {}, b"")])
def test_a_request_to_resend_without_an_answer_is_repeated_under_the_same_key(deed: Any) -> None:
    with provider(deed, (200, {}, {"id": "49a3999c"})) as known, resend(known) as transport:
        assert transport.send(message()) == "200 49a3999c"
    assert known.requests[0][1]["idempotency-key"] == known.requests[1][1]["idempotency-key"]
    assert known.requests[0][2] == known.requests[1][2]


def test_two_requests_to_resend_without_an_answer_leave_the_mail_uncertain() -> None:
    with (
        provider(hang_up, hang_up) as known,
        resend(known) as transport,
        pytest.raises(UncertainSendError, match="no answer came"),
    ):
        transport.send(message())


@pytest.mark.parametrize(
    ("status", "headers", "name", "expected", "fields"),
    [
        (429, {"retry-after": "2"}, "rate_limit_exceeded", TransientSendError,
         {"throttled": "relay", "retry_after": 2.0}),
        (429, {}, "daily_quota_exceeded", ConfigError, {}),
        (429, {}, "monthly_quota_exceeded", ConfigError, {}),
        (409, {}, "concurrent_idempotent_requests", TransientSendError, {"throttled": ""}),
        (409, {}, "invalid_idempotent_request", UncertainSendError, {}),
        (500, {}, "internal_server_error", TransientSendError, {}),
        (401, {}, "missing_api_key", ConfigError, {}),
        (403, {}, "validation_error", ConfigError, {}),
        (422, {}, "invalid_from_address", ConfigError, {}),
        (422, {}, "validation_error", PermanentSendError, {"kind": "other", "code": 422}),
        (451, {}, "security_error", PermanentSendError, {"kind": "policy"}),
    ],
)  # fmt: skip
def test_each_answer_of_resend_says_what_to_do(
    status: int, headers: dict[str, str], name: str, expected: type[Exception], fields: dict[str, object]
) -> None:
    body = {"statusCode": status, "name": name, "message": "hanako@example.jp is in these words\x07"}
    with (
        provider((status, headers, body)) as known,
        resend(known) as transport,
        pytest.raises((SendError, ConfigError)) as caught,
    ):
        transport.send(message())
    assert type(caught.value) is expected
    assert {key: getattr(caught.value, key) for key in fields} == fields
    assert str(caught.value) == f"Resend answered {status} {name} h***@example.jp is in these words"


# --- what they share --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ses, resend])
def test_one_connection_carries_many_mails_and_another_transport_has_its_own(make: Any) -> None:
    good: Answer = (200, {}, {"id": "1", "MessageId": "1"})
    with provider(*[good] * 6) as known, make(known) as transport:
        with contextlib.closing(transport.another()) as second:
            for each in (transport, transport, second, second):
                each.send(message())
        assert len(known.connections) == 2
        transport.close()
        transport.close()
        transport.send(message())
    assert len(known.connections) == 3


@pytest.mark.parametrize("make", [ses, resend])
def test_a_provider_that_cannot_be_reached_is_tried_again_later(make: Any) -> None:
    with provider() as known:
        pass
    with make(known) as transport, pytest.raises(TransientSendError, match="no connection to"):
        transport.send(message())


ENVIRON = {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1], "RESEND_API_KEY": "re_secret"}


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ses://eu-west-1", SES),
        ("ses://ap-northeast-1/abmail", SES),
        ("resend://", Resend),
        ("smtp://localhost:1025", SMTP),
        ("smtps://u:p@localhost", SMTP),
    ],
)
def test_a_url_names_the_transport(url: str, kind: type[Transport]) -> None:
    with contextlib.closing(transport_from_url(url, environ=ENVIRON)) as transport:
        assert isinstance(transport, kind)
        assert KEYS[1] not in repr(transport)
        assert "re_secret" not in repr(transport)


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("ses://", ""),
        ("ses://europe", ""),
        ("ses://AKID:topsecret@eu-west-1", ""),
        ("ses://eu-west-1/a b", ""),
        ("ses://eu-west-1?set=x", ""),
        ("ses://eu-west-1", "AWS_SECRET_ACCESS_KEY"),
        ("resend://topsecret", ""),
        ("resend://", "RESEND_API_KEY"),
        ("sendgrid://", ""),
        ("", ""),
    ],
)
def test_a_url_or_a_key_that_cannot_be_used_is_said_without_the_secret(url: str, without: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != without}
    with pytest.raises(ConfigError) as caught:
        transport_from_url(url, environ=environ)
    assert "topsecret" not in f"{caught.value} {caught.value.hint}"


def test_a_project_takes_its_transport_from_the_setting_before_the_mail_server(tmp_path: Path) -> None:
    environ = {"ABMAIL_SMTP_URL": "smtp://u:topsecret@localhost", "ABMAIL_TRANSPORT": "smtp://u:secret@127.0.0.1:1025"}
    project = Project.find(tmp_path, environ=environ)
    assert project.has_mail_server
    assert project.mail_server.shown == "smtp://u:***@127.0.0.1:1025"
    assert repr(project.transport()) == "<SMTP 127.0.0.1:1025 none>"


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match="needs the extra 'api'"):
        transport_from_url("resend://", environ=ENVIRON)
