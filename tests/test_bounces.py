"""Bounces and complaints: real reports, the standards' examples, our message in them, and where they lie."""

from __future__ import annotations

import csv
import imaplib
import mailbox
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flufl.bounce import all_failures
from hypothesis import given, settings
from hypothesis import strategies as st
from mailserver import free_port

from abmail._mailboxes import open_mailbox
from abmail.bounces import (
    Notice,
    events_of,
    message_of_return_path,
    read_report,
    return_path,
)
from abmail.cli import cli
from abmail.engine import Engine
from abmail.errors import ConfigError
from abmail.events import EventType, Signer
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(os.environ.get("ABMAIL_DATA", "../shared/data")) / "bounces"
SIGNER = Signer(b"sixteen bytes or more")
ID = SIGNER.message_id("spring", "u-1")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

real_reports = pytest.mark.skipif(not DATA.is_dir(), reason="no reports in ABMAIL_DATA")


def report(
    *, status: str = "5.1.1", diagnostic: str = "550 5.1.1 user unknown", action: str = "failed", words: str = "",
    ident: str = ID, to: str = "news@example.com", recipient: str = "ann@example.org", envelope: str = "",
) -> bytes:  # fmt: skip
    envid = f"Original-Envelope-Id: {envelope}\r\n" if envelope else ""
    lines = f"""From: MAILER-DAEMON@mx.example.org
To: {to}
Date: Sun, 01 Mar 2026 10:00:00 +0000
Subject: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

{words}
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
{envid}
Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {diagnostic}

--b
Content-Type: text/rfc822-headers

From: news@example.com
To: {recipient}
Message-ID: <{ident}@example.com>

--b--
"""
    return lines.replace("\n", "\r\n").encode()


FULL = report(status="5.2.2", diagnostic="552 5.2.2 mailbox full")


def only(raw: bytes, signer: Signer | None = None) -> Notice:
    (notice,) = read_report(raw, signer=signer)
    return notice


# --- real reports -----------------------------------------------------------------------------------------------------


def expected() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with (DATA / "expected.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["file"], []).append(row)
    return found


@real_reports
def test_real_reports_are_told_hard_in_95_of_100_and_complaints_always() -> None:
    right = total = 0
    for name, rows in expected().items():
        notices = read_report((DATA / "eml" / name).read_bytes())
        assert notices, name
        complaint = rows[0]["reason"] == "feedback"
        assert all(bool(n.feedback_type) == complaint for n in notices), name
        for number, row in enumerate(rows):
            notice = notices[min(number, len(notices) - 1)]
            right += (notice.kind == "hard") == (row["hard_bounce"] == "true")
            total += 1
    assert total >= 252
    assert right >= 0.95 * total


@real_reports
def test_the_kinds_of_real_reports_follow_their_reasons() -> None:
    """Of each group of reasons, most reports are of the kind that fits it."""
    kinds = {
        "expired": {"soft", "delayed"}, "mailboxfull": {"soft"}, "networkerror": {"soft", "hard"},
        "spamdetected": {"policy"}, "blocked": {"policy", "soft"}, "authfailure": {"policy"},
        "policyviolation": {"policy", "soft"}, "delivered": {"delivered"}, "userunknown": {"hard"},
    }  # fmt: skip
    fits: dict[str, list[bool]] = {reason: [] for reason in kinds}
    for name, rows in expected().items():
        notices = read_report((DATA / "eml" / name).read_bytes())
        for row, notice in zip(rows, notices, strict=False):
            if row["reason"] in kinds:
                fits[row["reason"]].append(notice.kind in kinds[row["reason"]])
    for reason, found in fits.items():
        assert len(found) >= 3, reason
        assert sum(found) >= 0.8 * len(found), (reason, sum(found), len(found))


@real_reports
def test_a_second_reader_finds_the_same_recipients_in_most_reports() -> None:
    """flufl.bounce 6.0 names recipients alone; where both name some, they should be the same."""
    import email

    same = both = 0
    for name in expected():
        raw = (DATA / "eml" / name).read_bytes()
        ours = {n.recipient for n in read_report(raw) if n.recipient and not n.feedback_type}
        temporary, permanent = all_failures(email.message_from_bytes(raw))
        theirs = {each.decode().lower() for each in (*temporary, *permanent)}
        if ours and theirs:
            both += 1
            same += ours == theirs
    assert both > 100
    assert same >= 0.9 * both


# --- the standards' examples ------------------------------------------------------------------------------------------

RFC3464_E1 = b"""Date: Thu, 7 Jul 1994 17:16:05 -0400
From: Mail Delivery Subsystem <MAILER-DAEMON@CS.UTK.EDU>
Message-Id: <199407072116.RAA14128@CS.UTK.EDU>
Subject: Returned mail: Cannot send message for 5 days
To: <owner-info-mime@cs.utk.edu>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
      boundary="RAA14128.773615765/CS.UTK.EDU"

--RAA14128.773615765/CS.UTK.EDU

The original message was received at Sat, 2 Jul 1994 17:10:28 -0400
from root@localhost

   ----- The following addresses had delivery problems -----
<louisl@larry.slip.umd.edu>  (unrecoverable error)

--RAA14128.773615765/CS.UTK.EDU
content-type: message/delivery-status

Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;louisl@larry.slip.umd.edu
Final-Recipient: rfc822;louisl@larry.slip.umd.edu
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; 426 connection timed out
Last-Attempt-Date: Thu, 7 Jul 1994 17:15:49 -0400

--RAA14128.773615765/CS.UTK.EDU
content-type: message/rfc822

[original message goes here]

--RAA14128.773615765/CS.UTK.EDU--
"""
RFC3464_E2 = b"""Date: Fri, 8 Jul 1994 09:21:47 -0400
From: Mail Delivery Subsystem <MAILER-DAEMON@CS.UTK.EDU>
Subject: Returned mail: User unknown
To: <owner-ups-mib@CS.UTK.EDU>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
      boundary="JAA13167.773673707/CS.UTK.EDU"

--JAA13167.773673707/CS.UTK.EDU
content-type: text/plain; charset=us-ascii

----- The following addresses had delivery problems -----
<arathib@vnet.ibm.com>  (unrecoverable error)
<wsnell@sdcc13.ucsd.edu>  (unrecoverable error)

--JAA13167.773673707/CS.UTK.EDU
content-type: message/delivery-status

Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;arathib@vnet.ibm.com
Final-Recipient: rfc822;arathib@vnet.ibm.com
Action: failed
Status: 5.0.0 (permanent failure)
Diagnostic-Code: smtp;
  550 'arathib@vnet.IBM.COM' is not a registered gateway user
Remote-MTA: dns; vnet.ibm.com

Original-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Final-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Action: delayed
Status: 4.0.0 (hpnjld.njd.jp.com: host name lookup failure)

Original-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Final-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550 user unknown
Remote-MTA: dns; sdcc13.ucsd.edu

--JAA13167.773673707/CS.UTK.EDU
content-type: message/rfc822

[original message goes here]

--JAA13167.773673707/CS.UTK.EDU--
"""
RFC5965_B1 = b"""From: <abusedesk@example.com>
Date: Thu, 8 Mar 2005 17:40:36 EDT
Subject: FW: Earn money
To: <abuse@example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP
192.0.2.1 on Thu, 8 Mar 2005 14:00:00 EDT.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

Received: from mailserver.example.net
     (mailserver.example.net [192.0.2.1])
     by example.com with ESMTP id M63d4137594e46;
     Thu, 08 Mar 2005 14:00:00 -0400
From: <somespammer@example.net>
To: <Undisclosed Recipients>
Subject: Earn money
MIME-Version: 1.0
Content-type: text/plain
Message-ID: 8787KJKJ3K4J3K4J3K4J3.mail@example.net
Date: Thu, 02 Sep 2004 12:31:03 -0500

Spam Spam Spam
--part1_13d.2e68ed54_boundary--
"""


def test_the_examples_of_rfc_3464_are_read_with_their_recipients_and_states() -> None:
    first = only(RFC3464_E1)
    assert (first.kind, first.recipient, first.status, first.code) == (
        "soft", "louisl@larry.slip.umd.edu", "4.0.0", 426,
    )  # fmt: skip
    assert first.at == datetime(1994, 7, 7, 21, 16, 5, tzinfo=UTC)
    assert [(n.kind, n.recipient, n.status) for n in read_report(RFC3464_E2)] == [
        ("soft", "arathib@vnet.ibm.com", "5.0.0"),
        ("delayed", "johnh@hpnjld.njd.hp.com", "4.0.0"),
        ("hard", "wsnell@sdcc13.ucsd.edu", "5.0.0"),
    ]


def test_the_report_of_a_foreign_gateway_and_of_a_delay_are_read_as_rfc_3464_means_them() -> None:
    """Appendices E.3 and E.4: a recipient who is no internet address, and a mail that is still on its way."""
    envelope, _, rest = RFC3464_E1.partition(b"Reporting-MTA:")
    end = b"\n--RAA" + rest.partition(b"\n--RAA")[2]
    gateway = only(
        envelope
        + b"""Reporting-MTA: mailbus; SYS30

Final-Recipient: unknown; nair_s
Status: 5.0.0 (unknown permanent failure)
Action: failed
"""
        + end
    )
    assert (gateway.recipient, gateway.status, gateway.kind) == ("", "5.0.0", "soft")  # kills no address
    delayed = only(
        envelope
        + b"""Reporting-MTA: dns; sun2.nsfnet-relay.ac.uk

Final-Recipient: rfc822;thomas@de-montfort.ac.uk
Status: 4.0.0 (unknown temporary failure)
Action: delayed
"""
        + end
    )
    assert (delayed.recipient, delayed.status, delayed.kind) == ("thomas@de-montfort.ac.uk", "4.0.0", "delayed")


def test_the_examples_of_rfc_5965_are_complaints_and_with_our_headers_one_of_ours() -> None:
    notice = only(RFC5965_B1)
    assert (notice.kind, notice.feedback_type, notice.message_id) == ("complaint", "abuse", "")
    ours = RFC5965_B1.replace(b"8787KJKJ3K4J3K4J3K4J3.mail@example.net", f"<{ID}@example.net>".encode())
    (event,) = events_of(read_report(ours), now=NOW)
    assert (event.type, event.message_id) == (EventType.COMPLAINED, ID)
    fields = b"""abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.net>
Original-Rcpt-To: <user@example.com>
Arrival-Date: Thu, 8 Mar 2005 14:00:00 EDT
Reporting-MTA: dns; mail.example.com
Source-IP: 192.0.2.1
Authentication-Results: mail.example.com;
               spf=fail
               smtp.mail=somespammer@example.com
Reported-Domain: example.net
Reported-Uri: http://example.net/earn_money.html
Reported-Uri: mailto:user@example.com
Removal-Recipient: user@example.com
"""
    second = only(RFC5965_B1.replace(b"abuse\nUser-Agent: SomeGenerator/1.0\nVersion: 1\n", fields))
    assert (second.kind, second.recipient) == ("complaint", "user@example.com")
    for kind, wanted in (("opt-out", "unsubscribe"), ("auth-failure", "report"), ("fraud", "complaint")):
        assert only(RFC5965_B1.replace(b"abuse\nUser-Agent", kind.encode() + b"\nUser-Agent")).kind == wanted


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "diagnostic"),
    [
        ("hard", "5.1.1", "550 5.1.1 <ann@example.org>: User unknown"),
        ("hard", "5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found"),
        ("hard", "5.1.2", "550 5.1.2 Host unknown"),
        ("hard", "5.0.0", "550 No such user here"),
        ("hard", "5.4.1", "550 5.4.1 Recipient address rejected: Access denied"),
        ("hard", "5.7.27", "556 5.7.27 example.org does not accept mail"),
        ("soft", "5.2.2", "552 5.2.2 Mailbox full"),
        ("soft", "5.2.2", "552 5.2.2 <ann@example.org> user is over quota"),
        ("soft", "4.2.1", "450 4.2.1 try again later"),
        ("soft", "5.2.1", "550 5.2.1 This account is disabled"),
        ("policy", "5.7.1", "554 5.7.1 Message rejected as spam"),
        ("policy", "5.7.26", "550 5.7.26 unauthenticated mail: DMARC"),
        ("policy", "5.1.8", "553 5.1.8 Domain of sender address does not exist"),
        ("policy", "5.0.0", "550 Your host 192.0.2.1 is blacklisted"),
    ],
)
def test_a_dead_address_a_full_mailbox_and_an_unwanted_mail_are_told_apart(
    kind: str, status: str, diagnostic: str
) -> None:
    notice = only(report(status=status, diagnostic=diagnostic))
    assert (notice.kind, notice.status) == (kind, status)


def test_a_japanese_carriers_unknown_user_may_be_a_filter_and_kills_no_address() -> None:
    told = "550 Unknown user"
    assert only(report(status="5.0.0", diagnostic=told, recipient="taro@docomo.ne.jp")).kind == "policy"
    assert only(report(status="5.0.0", diagnostic=told, recipient="taro@ezweb.ne.jp")).kind == "policy"
    named = "550 <taro@ezweb.ne.jp>: User unknown"
    assert only(report(status="5.0.0", diagnostic=named, recipient="taro@ezweb.ne.jp")).kind == "hard"
    assert only(report(status="5.0.0", diagnostic=told)).kind == "hard"
    after = "host mx said: 550 Unknown user (in reply to end of DATA command)"
    assert only(report(status="5.0.0", diagnostic=told, words=after)).kind == "policy"


def test_a_delivery_and_a_delay_are_no_bounces() -> None:
    assert only(report(status="2.1.5", action="delivered", diagnostic="250 ok")).kind == "delivered"
    (event,) = events_of([only(report(status="4.4.1", action="delayed", diagnostic="451 timed out"))], now=NOW)
    assert event.type == EventType.DEFERRED


def test_a_mail_that_is_no_report_gives_nothing() -> None:
    assert read_report(b"From: ann@example.org\r\nTo: news@example.com\r\nSubject: Re: News\r\n\r\nThanks!\r\n") == ()
    assert read_report(b"") == ()


# --- our message ------------------------------------------------------------------------------------------------------


def test_a_return_path_comes_back_in_any_case_and_no_other_address_is_one() -> None:
    address = return_path(SIGNER, ID, "bounces@example.com")
    assert message_of_return_path(SIGNER, address) == message_of_return_path(SIGNER, address.upper()) == ID
    assert message_of_return_path(Signer(b"another secret key"), address) == ""
    for position in range(len("bounces+"), address.index("@")):
        changed = "a" if address[position] != "a" else "b"
        assert message_of_return_path(SIGNER, address[:position] + changed + address[position + 1 :]) == ""
    for other in ("bounces@example.com", "bounces+@example.com", "bounces+ü@example.com", "", "@", "bounces+x y@e.com"):
        assert message_of_return_path(SIGNER, other) == ""


@pytest.mark.parametrize("mailbox_name", ["bounces", "bounces+x@example.com", "much-too-long@example.com", "a b@e.com"])
def test_a_mailbox_that_cannot_take_bounces_is_refused(mailbox_name: str) -> None:
    with pytest.raises(ValueError, match="the mailbox for bounces"):
        return_path(SIGNER, ID, mailbox_name)


def test_our_message_is_found_by_return_path_envelope_id_message_id_and_our_header() -> None:
    address = return_path(SIGNER, ID, "bounces@example.com")
    assert only(report(ident="none", to=f"<{address}>"), SIGNER).message_id == ID
    assert only(report(ident="none", to=f"<{address}>")).message_id == ""
    assert only(report(ident="none", envelope=ID)).message_id == ID
    assert only(report()).message_id == ID
    renamed = report(ident="changed-by-the-relay").replace(
        b"From: news@", f"X-Abmail-Message: {ID}\r\nFrom: news@".encode()
    )
    assert only(renamed).message_id == ID
    assert only(report(ident="none")).message_id == ""


def test_the_same_report_gives_the_same_event_and_one_from_the_future_counts_from_now() -> None:
    first, again = (tuple(events_of(read_report(report()), now=NOW + timedelta(hours=h))) for h in (0, 5))
    assert first == again
    assert (first[0].hard, first[0].source, first[0].at) == (True, "bounce", datetime(2026, 3, 1, 10, tzinfo=UTC))
    late = report().replace(b"01 Mar 2026", b"01 Mar 2036")
    assert next(events_of(read_report(late), now=NOW)).at == NOW


# --- bad input --------------------------------------------------------------------------------------------------------

LINES = [
    b"\r\n", b"--b\r\n", b"--b--\r\n", b"Content-Type: multipart/report; boundary=b\r\n", b"\xff\xfe", b"From: <>\r\n",
    b"Content-Type: message/delivery-status\r\n", b"Content-Type: message/feedback-report\r\n", b"Status: 5.1.1\r\n",
    b"Final-Recipient: rfc822; a@b.example\r\n", b"Content-Type: text/plain; charset=klingon\r\n", b"user unknown\r\n",
    b"Content-Type: message/rfc822\r\n", b"Date: Thu, 99 Foo 20000\r\n", b"Feedback-Type: abuse\r\n",
    b"=?x?q?=?=: \r\n", b"{",
    b'{"notificationType": "Bounce", "mail": {}, "bounce": {"bouncedRecipients": [1, {}]}}',
    b"Subject: failure notice\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: \x00/\r\n",
]  # fmt: skip
HOSTILE = [
    b"-" * 400_000, b"a" * 400_000, b"<" * 400_000, b"user unknown " * 30_000, b"a@b.c " * 60_000, b"\n> " * 100_000,
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=30)), max_size=30).map(b"".join))
def test_no_mail_however_broken_stops_the_reading(raw: bytes) -> None:
    for notice in read_report(raw, signer=SIGNER):
        assert notice.recipient == notice.recipient.lower()
        list(events_of([notice], now=NOW))


@pytest.mark.parametrize("filling", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_reports_are_read_in_no_time(filling: bytes) -> None:
    start = time.process_time()
    read_report(report(words="@@").replace(b"@@", filling))
    read_report(b"From: MAILER-DAEMON@x.example\r\nX-Failed-Recipients: " + filling + b"\r\n\r\n" + filling)
    assert time.process_time() - start < 5.0


def test_a_report_too_large_or_too_deep_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="at most 10000000"):
        read_report(b"x" * 10_000_001)
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(3_000))
    with pytest.raises(ValueError, match="nested too deeply"):
        read_report(deep)


# --- where they lie ---------------------------------------------------------------------------------------------------


def read_all(source: str, password: str = "", context: ssl.SSLContext | None = None) -> list[bytes]:
    with open_mailbox(source, password=password, context=context) as mails:
        found = []
        for mail in mails:
            found.append(mail.raw)
            mail.settle()
    return found


def test_mails_are_read_from_a_file_a_folder_an_mbox_and_a_maildir(tmp_path: Path) -> None:
    one, two = report(), FULL
    (tmp_path / "one.eml").write_bytes(one)
    (tmp_path / "two.eml").write_bytes(two)
    (tmp_path / "notes.txt").write_text("x")
    assert read_all(str(tmp_path / "one.eml")) == [one]
    assert read_all(str(tmp_path)) == [one, two]
    box, maildir = mailbox.mbox(tmp_path / "box"), mailbox.Maildir(tmp_path / "maildir")
    for raw in (one, two):
        box.add(raw)
        maildir.add(raw)
    box.close()
    for source in ("box", "maildir"):
        kinds = sorted(n.kind for raw in read_all(str(tmp_path / source)) for n in read_report(raw))
        assert kinds == ["hard", "soft"]
    (tmp_path / "large.eml").write_bytes(b"x" * 10_000_001)
    assert read_all(str(tmp_path / "large.eml")) == [b""]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "there is no file or folder"),
        ("imaps://imap.example.com/", "no IMAP URL with a user"),
        ("pop3://ann@example.com/", "no IMAP URL"),
        ("imaps://ann:secret@imap.example.com/", "holds a password"),
        ("imaps://ann@imap.example.com:no/", "malformed"),
        ("imaps://ann@imap.example.com/a%22b", "without quotes"),
        ("imaps://ann@imap.example.com/", "there is no password"),
        ("imap://ann@127.0.0.1:1/", "no connection to 127.0.0.1:1"),
    ],
)
def test_a_place_that_cannot_be_read_is_an_error_that_says_what_to_do(source: str, message: str) -> None:
    password = "x" if "127.0.0.1" in source else ""
    with pytest.raises(ConfigError, match=message) as caught:
        read_all(source, password=password)
    assert "secret" not in str(caught.value)


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Write a certificate for 127.0.0.1 and its key; returns client settings that trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "abmail tests")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
    ).add_extension(address, critical=False).sign(key, hashes.SHA256())  # fmt: skip
    (folder / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return ssl.create_default_context(cafile=str(folder / "server.pem"))


@contextmanager
def imap_server(folder: Path) -> Iterator[int]:
    """pymap, a real IMAP server, on a port of its own; its user is demouser."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "pymap"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--cert", str(folder / "server.pem"), "--key", str(folder / "key.pem"), "dict", "--demo-data"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


@contextmanager
def tls_in_front(port: int, folder: Path) -> Iterator[int]:
    """A port that speaks TLS at once and hands everything on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def pump_both_ways(outside: socket.socket) -> None:
        with outside, socket.create_connection(("127.0.0.1", port)) as inside:
            back = threading.Thread(target=pump, args=(inside, outside))
            back.start()
            pump(outside, inside)
            back.join()

    def serve() -> None:
        while True:
            try:
                plain = listener.accept()[0]
            except OSError:
                return
            with suppress(ssl.SSLError, ConnectionError):
                pump_both_ways(context.wrap_socket(plain, server_side=True))

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join(5)


def fill(port: int, *mails: bytes) -> None:
    """Put mails into a new folder of the server."""
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login("demouser", "demopass")
        client.create('"Bounced mail"')
        for raw in mails:
            client.append('"Bounced mail"', "", imaplib.Time2Internaldate(0.0), raw)


def test_unread_mails_are_taken_from_a_real_imap_server_and_marked_once_they_are_settled(tmp_path: Path) -> None:
    trusting = make_certificate(tmp_path)
    with imap_server(tmp_path) as port, tls_in_front(port, tmp_path) as tls_port:
        fill(port, report(), FULL)
        url = f"imap+starttls://demouser@127.0.0.1:{port}/Bounced%20mail"
        with open_mailbox(url, password="demopass", context=trusting) as mails:
            assert [only(mail.raw).kind for mail in mails] == ["hard", "soft"]  # looked at, not settled
        assert read_all(url, "demopass", trusting) == [report(), FULL]
        assert read_all(url, "demopass", trusting) == []
        fill(port, report(status="5.7.1", diagnostic="554 5.7.1 spam"))
        safe = f"imaps://demouser@127.0.0.1:{tls_port}/Bounced%20mail"
        assert [only(raw).kind for raw in read_all(safe, "demopass", trusting)] == ["policy"]
        for wrong, password, message in (
            (url, "wrong", "refuses"),
            (url.replace("Bounced", "Other"), "demopass", "has no folder 'Other mail'"),
        ):
            with pytest.raises(ConfigError, match=message):
                read_all(wrong, password, trusting)
        with pytest.raises(ConfigError, match="certificate"):
            read_all(safe, "demopass")


# --- what becomes of them ---------------------------------------------------------------------------------------------


def definition(name: str) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": name, "factors": {"subject": {"a": "A", "b": "B"}}, "control": {"subject": "a"},
        "message": {"template": "x", "from": "news@example.com"}, "allocation": {"policy": "uniform"},
    })  # fmt: skip


def sent(engine: Engine, name: str, *people: Recipient, at: datetime) -> dict[str, str]:
    """Send an experiment; recipient -> our id of the message."""
    engine.apply(engine.plan(definition(name), people, template="<p>Hello</p>"), now=at)
    engine.tick(now=at, only=name)
    return {each.id: engine.signer.message_id(name, each.id) for each in people}


def test_an_address_that_is_dead_or_complains_is_never_mailed_again_and_one_that_is_full_after_three(
    store_url: str,
) -> None:
    people = [Recipient(id=n, email=f"{n}@example.org") for n in ("dead", "angry", "full", "unwanted", "slow")]
    with Engine(store_url, transport=Memory(), secret=b"sixteen bytes or more") as engine:
        for number in range(4):
            at = NOW + timedelta(days=9 * number)
            # "slow" is full as often, but with more than 30 days between the first and the third time
            ids = sent(engine, f"test-{number}", *people, at=at)
            answers = {"dead": report(ident=ids["dead"])} if number == 0 else {}
            if number < 3:
                answers["full"] = report(ident=ids["full"], status="5.2.2", diagnostic="552 5.2.2 mailbox full")
                answers["unwanted"] = report(ident=ids["unwanted"], status="5.7.1", diagnostic="554 5.7.1 spam")
            if number != 2:
                days = {0: 0, 1: 9, 3: 31}[number]
                late = report(ident=ids["slow"], status="4.2.2", diagnostic="452 4.2.2 mailbox full")
                answers["slow"] = late.replace(
                    b"01 Mar 2026", (NOW + timedelta(days=days)).strftime("%d %b %Y").encode()
                )
            if number == 0:
                answers["angry"] = RFC5965_B1.replace(b"8787KJKJ3K4J3K4J3K4J3.mail@", f"<{ids['angry']}@".encode())
            for raw in answers.values():
                moved = raw.replace(b"01 Mar 2026", at.strftime("%d %b %Y").encode())
                for _ in range(2):  # the same report again changes nothing
                    engine.record_all(events_of(read_report(moved), now=NOW + timedelta(days=40)), now=at)
        assert engine.store.suppressed() == {
            "dead@example.org": "bounced",
            "angry@example.org": "complained",
            "full@example.org": "soft-bounced",
        }


def test_the_return_path_of_a_sent_mail_leads_back_to_it() -> None:
    transport = Memory()
    with Engine(
        "sqlite://", transport=transport, secret=b"sixteen bytes or more", bounce_mailbox="bounces@example.com"
    ) as engine:
        ids = sent(engine, "test", Recipient(id="u-1", email="ann@example.org"), at=NOW)
        (mail,) = transport.messages
        assert mail.sender.startswith("bounces+")
        assert b"From: news@example.com\r\n" in mail.raw
        assert only(report(ident="none", to=mail.sender), engine.signer).message_id == ids["u-1"]
    with pytest.raises(ConfigError, match="the mailbox for bounces") as caught:
        Engine("sqlite://", secret=b"sixteen bytes or more", bounce_mailbox="bounces")
    assert "bounce_mailbox" in caught.value.hint


def test_who_unsubscribes_by_mail_is_never_mailed_again() -> None:
    transport = Memory()
    with Engine(
        "sqlite://", transport=transport, secret=b"sixteen bytes or more", bounce_mailbox="bounces@example.com"
    ) as engine:
        sent(engine, "test", Recipient(id="u-1", email="ann@example.org"), at=NOW)
        head = transport.messages[0].raw.partition(b"\r\n\r\n")[0].decode()
        found = re.search(r"List-Unsubscribe: <https?://[^>]+>,\r\n <mailto:([^?>]+)\?subject=unsubscribe>\r\n", head)
        assert found is not None
        wish = f"From: Ann <other@example.net>\r\nTo: {unquote(found[1])}\r\nSubject: unsubscribe\r\n\r\n".encode()
        engine.record_all(events_of(read_report(wish, signer=engine.signer), now=NOW), now=NOW)
        assert engine.store.suppressed() == {"ann@example.org": "unsubscribed"}


def test_the_command_records_bounces_once_and_says_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABMAIL_SECRET", "sixteen bytes or more")
    url = f"sqlite:///{tmp_path}/abmail.db"
    with Engine(url, transport=Memory(), secret=b"sixteen bytes or more") as engine:
        ids = sent(engine, "test", Recipient(id="u-1", email="ann@example.org"), at=NOW)
    folder = tmp_path / "bounces"
    folder.mkdir()
    (folder / "1.eml").write_bytes(report(ident=ids["u-1"]))
    (folder / "2.eml").write_bytes(report(ident="somebody-elses"))
    (folder / "3.eml").write_bytes(b"From: ann@example.org\r\nSubject: Re: News\r\n\r\nThanks\r\n")
    first = CliRunner().invoke(cli, ["ingest", "--bounces", "bounces"])
    assert (first.exit_code, first.stdout) == (0, "1 new events, 0 known before, 0 of unknown messages\n")
    assert "3.eml: no report of a mail server; left as it is" in first.stderr
    assert "2 hard, 1 no report, 1 without our message" in first.stderr
    again = CliRunner().invoke(cli, ["ingest", "--bounces", "bounces"])
    assert again.stdout == "0 new events, 1 known before, 0 of unknown messages\n"
    with Engine(url, secret=b"sixteen bytes or more") as engine:
        assert engine.store.suppressed() == {"ann@example.org": "bounced"}
    for wrong in ([], ["bounces/1.eml", "--bounces", "bounces"], ["--bounces", "bounces", "--rejected", "x"]):
        assert CliRunner().invoke(cli, ["ingest", *wrong]).exit_code == 2
