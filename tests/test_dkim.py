"""DKIM: the RFCs' own keys and signatures, and dkimpy as the judge of ours."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import dkim as dkimpy
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from abmail import _mime
from abmail.cli import cli
from abmail.dkim import Dkim, body_hash, header_input
from abmail.engine import Engine
from abmail.errors import ConfigError
from abmail.project import Project
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment

AT = datetime(2018, 6, 10, 13, 38, 29, tzinfo=UTC)


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


# RFC 8463, appendix A: keys and message
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
RSA = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""
MESSAGE = b"""From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
SIGNED = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
""".replace(b"\n", b"\r\n")
KEYS = {"ed25519": pem(ED25519), "rsa": RSA}

# RFC 6376, appendices A.2 and C, with errata 3192 (one blank before "Are") and 4926 (how far the lines are indented)
RSA_6376 = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXwIBAAKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFC
jxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gb
to/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB
AoGBALmn+XwWk7akvkUlqb+dOxyLB9i5VBVfje89Teolwc9YJT36BGN/l4e0l6QX
/1//6DWUTB3KI6wFcm7TWJcxbS0tcKZX7FsJvUz1SbQnkS54DJck1EZO/BLa5ckJ
gAYIaqlA9C0ZwM6i58lLlPadX/rtHb7pWzeNcZHjKrjM461ZAkEA+itss2nRlmyO
n1/5yDyCluST4dQfO8kAB3toSEVc7DeFeDhnC1mZdjASZNvdHS4gbLIA1hUGEF9m
3hKsGUMMPwJBAPW5v/U+AWTADFCS22t72NUurgzeAbzb1HWMqO4y4+9Hpjk5wvL/
eVYizyuce3/fGke7aRYw/ADKygMJdW8H/OcCQQDz5OQb4j2QDpPZc0Nc4QlbvMsj
7p7otWRO5xRa6SzXqqV3+F0VpqvDmshEBkoCydaYwc2o6WQ5EBmExeV8124XAkEA
qZzGsIxVP+sEVRWZmW6KNFSdVUpk3qzK0Tz/WjQMe5z0UunY9Ax9/4PVhp/j61bf
eAYXunajbBSOLlx4D+TunwJBANkPI5S9iylsbLs6NkaMHV6k5ioHBBmgCak95JGX
GMot/L2x0IYyMLAz6oLWh2hm7zwtb0CgOrPo1ke44hFYnfc=
-----END RSA PRIVATE KEY-----
"""
SIGNED_6376 = (
    b"""DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
""".replace(b"\n", b"\r\n")
    + MESSAGE.replace(b".  Are", b". Are")
)


def verified(raw: bytes, signer: Dkim) -> bool:
    name, record = signer.record

    def dns(asked: bytes, timeout: int = 5) -> bytes:
        assert asked.decode().rstrip(".") == name
        return record.encode()

    return bool(dkimpy.verify(raw, dnsfunc=dns))


@pytest.mark.parametrize(("kind", "number", "selector"), [("ed25519", 0, "brisbane"), ("rsa", 1, "test")])
def test_the_signatures_of_rfc_8463_come_out_to_the_letter(kind: str, number: int, selector: str) -> None:
    field = re.split(rb"(?=DKIM-Signature:)", SIGNED)[number + 1].removesuffix(b"\r\n")
    start, b = re.split(rb"(?<=b=)(?=[^;]*\Z)", field)
    head, _, body = MESSAGE.partition(b"\r\n\r\n")
    fields = [(line.partition(b":")[0].lower(), line) for line in head.split(b"\r\n")]
    names = [b"from", b"to", b"subject", b"date", b"message-id", b"from", b"subject", b"date"]
    signer = Dkim(KEYS[kind], selector=selector, domain="football.example.com")
    assert body_hash(body) == "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    made = signer._sign(header_input(fields, names, start))
    assert base64.b64encode(made) == re.sub(rb"\s", b"", b)


def test_the_relaxed_forms_are_those_of_rfc_6376s_example() -> None:
    """Section 3.4.5."""
    fields = [(b"a", b"A: X"), (b"b", b"B : Y\t\r\n\tZ  ")]
    assert header_input(fields, [b"a", b"b"], b"DKIM-Signature: b=") == b"a:X\r\nb:Y Z\r\ndkim-signature:b="
    assert body_hash(b" C \r\nD \t E\r\n\r\n\r\n") == base64.b64encode(sha256(b" C\r\nD E\r\n").digest()).decode()


def test_the_signed_mail_of_rfc_6376_verifies_by_our_record_and_its_signature_is_what_our_key_makes() -> None:
    """Appendix A.2. It is in simple form, which we don't write: there each field is signed as it stands."""
    signer = Dkim(RSA_6376, selector="brisbane", domain="example.com")
    assert verified(SIGNED_6376, signer)
    assert not verified(SIGNED_6376.replace(b"dinner", b"supper"), signer)
    assert not verified(SIGNED_6376.replace(b"lost", b"won"), signer)
    head, _, body = SIGNED_6376.partition(b"\r\n\r\n")
    assert body_hash(body).encode() in head  # nothing in this body is different in relaxed form
    signature, *fields = re.split(rb"\r\n(?! )", head)
    start, b = re.split(rb"(?<= b=)", signature)
    order = (b"Received", b"From", b"To", b"Subject", b"Date", b"Message-ID")
    named = {field.partition(b":")[0]: field for field in fields}
    made = signer._sign(b"".join(named[name] + b"\r\n" for name in order) + start + b";")
    assert base64.b64encode(made) == re.sub(rb"[\s;]", b"", b)


def test_the_public_key_of_rfc_8463_is_what_we_publish() -> None:
    name, record = Dkim(KEYS["ed25519"], selector="brisbane", domain="Football.example.com").record
    assert name == "brisbane._domainkey.football.example.com"
    assert record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


# --- our mails --------------------------------------------------------------------------------------------------------


def definition() -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": "test", "factors": {"subject": {"a": "日本語 🌸", "b": "B"}}, "control": {"subject": "a"},
        "message": {"template": "x", "from": "Sales <news@mail.example.com>"}, "allocation": {"policy": "uniform"},
    })  # fmt: skip


def sent(signer: Dkim) -> bytes:
    transport = Memory()
    with Engine("sqlite://", transport=transport, secret=b"sixteen bytes or more", dkim=signer) as engine:
        person = Recipient(id="u-1", email="ann@example.org", attributes={"name": "Ann"})
        html = "<p>Hello {{ recipient.name }}, <a href='https://example.com/'>see</a></p>"
        engine.apply(engine.plan(definition(), [person], template=html), now=AT)
        engine.tick(now=AT)
    return transport.messages[0].raw


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_sent_mail_verifies_and_covers_both_unsubscribe_headers(kind: str) -> None:
    signer = Dkim(KEYS[kind], selector="abmail", domain="example.com")
    raw = sent(signer)
    assert verified(raw, signer)
    names = re.sub(rb"\s", b"", re.search(rb"h=([^;]*);", raw)[1]).split(b":")  # type: ignore[index]
    assert names.count(b"list-unsubscribe") == names.count(b"list-unsubscribe-post") == 2
    assert max(map(len, raw.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 998
    for old, new in (
        (b"/u/", b"/v/"),
        (b"One-Click", b"One-click"),
        (b"From: Sales", b"From: Other"),
        (b"\r\n\r\n", b"\r\n\r\nx"),
        (b"\r\nTo:", b"\r\nFrom: other@example.net\r\nTo:"),
        (b"\r\nTo:", b"\r\nList-Unsubscribe: <https://other.example/>\r\nTo:"),
    ):
        assert old in raw
        assert not verified(raw.replace(old, new, 1), signer)
    # A relay may fold and space anew without harm.
    assert verified(raw.replace(b"\r\nSubject: ", b"\r\nSUBJECT:\r\n\t ", 1), signer)


text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


@given(text, st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["ed25519", "rsa"]))
def test_any_mail_that_we_write_verifies(subject: str, body: str, kind: str) -> None:
    headers = [_mime.address_header("From", "news@example.com", subject), _mime.text_header("Subject", subject)]
    raw = _mime.message_bytes(headers, text=body, html=body, separator=_mime.boundary("x"))
    signer = Dkim(KEYS[kind], selector="s", domain="example.com")
    assert verified(signer.sign(raw, AT), signer)


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b" \r\n\r\n", b"a", b"a \t\r\n b\t c \r\n\r\n\r\n", b"a\r\n \r\n", b"\t", b"a "]
)
def test_the_hash_of_any_body_is_dkimpys(body: bytes) -> None:
    raw = b"From: news@example.com\r\n\r\n" + body
    signer = Dkim(KEYS["ed25519"], selector="s", domain="example.com")
    assert verified(signer.sign(raw, AT), signer)


def test_two_signatures_of_two_keys_stand_side_by_side() -> None:
    first, second = (Dkim(KEYS[kind], selector=kind, domain="example.com") for kind in ("rsa", "ed25519"))
    records = {name.encode() + b".": record.encode() for name, record in (first.record, second.record)}
    raw = second.sign(first.sign(MESSAGE, AT), AT + timedelta(seconds=1))
    for number in (0, 1):
        assert dkimpy.DKIM(raw).verify(number, dnsfunc=lambda name, timeout=5: records[name])


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "no unencrypted private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----", "no unencrypted private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
        (
            ED25519.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"x"),
            ),
            "no unencrypted private key",
        ),
    ],
)
def test_a_key_that_cannot_sign_is_refused_and_never_shown(key: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Dkim(key, selector="s", domain="example.com")
    assert "openssl genpkey" in caught.value.hint
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a..b", "-a", "x" * 64, "日本", "a;b"])
def test_a_selector_or_domain_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="the DKIM selector"):
        Dkim(KEYS["ed25519"], selector=name, domain="example.com")
    with pytest.raises(ConfigError, match="the DKIM domain"):
        Dkim(KEYS["ed25519"], selector="s", domain=name)


@pytest.mark.parametrize("domain", ["example.org", "other.mail.example.com", "ample.com"])
def test_a_key_does_not_vouch_for_another_domain(domain: str) -> None:
    with pytest.raises(ConfigError, match="cannot be signed for"):
        sent(Dkim(KEYS["ed25519"], selector="s", domain=domain))


def test_the_key_comes_from_a_file_or_the_environment_and_its_record_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Project.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Project.find(tmp_path, environ={}).dkim() is None
    settings = 'dkim_key = "keys.pem"\ndkim_selector = "abmail"\n'
    (tmp_path / "abmail.toml").write_text(settings, encoding="utf-8")
    with pytest.raises(ConfigError, match="no dkim_domain"):
        Project.find(tmp_path, environ={}).dkim()
    (tmp_path / "abmail.toml").write_text(settings + 'dkim_domain = "example.com"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"keys\.pem .* cannot be read"):
        Project.find(tmp_path, environ={}).dkim()
    (tmp_path / "keys.pem").write_bytes(RSA)
    shown = CliRunner().invoke(cli, ["config", "dkim"])
    assert shown.output.startswith('abmail._domainkey.example.com. IN TXT "v=DKIM1; k=rsa; p=MIGf')
    project = Project.find(tmp_path, environ={"ABMAIL_DKIM_KEY": KEYS["ed25519"].decode()})
    assert project.settings["dkim_key"].shown == "(set)"
    assert repr(project.dkim()) == "<Dkim ed25519-sha256 abmail._domainkey.example.com>"
    assert "*.pem" in (tmp_path / ".gitignore").read_text(encoding="utf-8")
