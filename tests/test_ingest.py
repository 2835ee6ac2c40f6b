"""Events from providers' exports: every shape, encoding and fault, streamed, and safe to repeat."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail import Experiment, Recipient, SpecError
from abmail._json_items import JsonProblem, items
from abmail._table import records, streamed
from abmail._text_file import TextFile
from abmail.cli import _run
from abmail.cli._rejects import Rejects
from abmail.engine import Engine, Ingested
from abmail.errors import AudienceError
from abmail.events import Event, EventType, Verdict
from abmail.ingest import Draft, Export, Refused, providers
from abmail.send import Memory

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=2)
OURS = "0133420b2dfbda985f36d5e43c726f0e"


class Account:
    """A database in which an experiment went out to ten people, of whom each has an id beside the address."""

    def __init__(self, url: str) -> None:
        self.engine = Engine(url, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: NOW)

    def send(self) -> None:
        experiment = Experiment.from_dict({
            "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
            "allocation": {"policy": "uniform"},
        })  # fmt: skip
        people = [Recipient(id=f"r{i}", email=f"p{i}@example.com") for i in range(10)]
        self.engine.apply(self.engine.plan(experiment, people, template="<p>Hi</p>"))
        self.engine.tick(now=NOW)

    def message(self, number: int) -> str:
        return self.engine.signer.message_id("spring", f"r{number}")

    def ingest(self, path: Path, **options: Any) -> tuple[Ingested, list[Refused]]:
        refused: list[Refused] = []
        done = self.engine.ingest(Export.open(path, **options), refused=refused.append, now=LATER)
        return done, refused

    def events(self) -> list[Event]:
        return [event for event in self.engine.store.events("spring") if event.source != "smtp"]

    def counted(self, metric: str) -> int:
        return int(self.engine.store.tally("spring", n_cells=2).matrix(metric).sum())


@pytest.fixture
def account(store_url: str) -> Iterator[Account]:
    opened = Account(store_url)
    opened.send()
    yield opened
    opened.engine.close()


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "mail.db"
    account = Account(f"sqlite:///{path}")
    account.send()
    account.engine.close()
    return path


@pytest.fixture
def lite(sent: Path, tmp_path: Path) -> Iterator[Account]:
    """The same on SQLite, quickly."""
    opened = Account(f"sqlite:///{shutil.copy(sent, tmp_path / 'lite.db')}")
    yield opened
    opened.engine.close()


def written(path: Path, content: object, *, encoding: str = "utf-8") -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode(encoding))
    return path


def drafts(path: Path, **options: Any) -> list[Any]:
    return list(Export.open(path, **options).rows(now=LATER))


# --- the providers' shapes; values as their documentation writes them -------------------------------------------------

AT = "2026-03-02T10:30:00Z"
EPOCH = 1_772_447_400
SHAPES: dict[str, tuple[str, object]] = {
    "sendgrid webhook payloads": ("sendgrid", [
        {"email": "p1@example.com", "timestamp": EPOCH, "smtp-id": f"<{OURS}@example.com>", "event": "open",
         "sg_machine_open": True, "sg_event_id": "e1", "sg_message_id": "14c5d75ce93.filter0001", "useragent": "x"},
        {"email": "p1@example.com", "timestamp": EPOCH, "smtp-id": f"<{OURS}@example.com>", "event": "click",
         "sg_event_id": "e2", "url": "https://example.com/"},
        {"email": "p1@example.com", "timestamp": EPOCH, "smtp-id": f"<{OURS}@example.com>", "event": "bounce",
         "type": "bounce", "reason": "550 no such user", "sg_event_id": "e3"},
        {"email": "p1@example.com", "timestamp": EPOCH, "event": "group_resubscribe", "sg_event_id": "e4"},
    ]),
    "sendgrid activity csv": ("sendgrid", (
        "processed,message_id,event,api_key_id,recv_message_id,subject,from,email,reason,attempt,url,user_agent,type\n"
        "2026-03-02 10:30:00.000,x.filter1,open,k,r,Hello,news@example.com,p1@example.com,,0,,Mozilla,\n"
        "2026-03-02 10:30:00.000,x.filter1,click,k,r,Hello,news@example.com,p1@example.com,,0,https://example.com/,,\n"
        "2026-03-02 10:30:00.000,x.filter1,bounce,k,r,Hello,news@example.com,p1@example.com,550 unknown,0,,,bounce\n"
    )),
    "sendgrid activity api": ("sendgrid", {
        "from_email": "news@example.com", "msg_id": "x.filter1", "subject": "Hello", "to_email": "p1@example.com",
        "status": "delivered", "events": [
            {"event_name": "opened", "processed": AT, "http_user_agent": "x"},
            {"event_name": "clicked", "processed": AT, "url": "https://example.com/"},
            {"event_name": "bounced", "processed": AT, "bounce_type": "hard", "reason": "550"},
        ],
    }),
    "mailgun events": ("mailgun", {"paging": {"next": "https://api.mailgun.net/x"}, "items": [
        {"event": "opened", "id": "a", "timestamp": EPOCH + 0.25, "recipient": "p1@example.com",
         "client-info": {"bot": "apple", "client-type": "mobile browser"}, "user-variables": {},
         "message": {"headers": {"message-id": f"{OURS}@example.com"}}},
        {"event": "clicked", "id": "b", "timestamp": EPOCH, "recipient": "p1@example.com",
         "client-info": {"bot": ""}, "url": "https://example.com/", "user-variables": {"abmail_message": OURS},
         "message": {"headers": {"message-id": "other@example.com"}}},
        {"event": "failed", "severity": "permanent", "id": "c", "timestamp": EPOCH, "recipient": "p1@example.com",
         "delivery-status": {"message": "5.1.1", "code": 550}, "message": {"headers": {"message-id": f"{OURS}@e.com"}}},
    ]}),
    "postmark opens": ("postmark", {"TotalCount": 2, "Opens": [
        {"RecordType": "Open", "FirstOpen": True, "ReceivedAt": AT, "Recipient": "p1@example.com",
         "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483", "MessageStream": "outbound"}]}),
    "postmark clicks": ("postmark", {"TotalCount": 1, "Clicks": [
        {"RecordType": "Click", "ClickLocation": "HTML", "ReceivedAt": AT, "Recipient": "p1@example.com",
         "OriginalLink": "https://example.com/", "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483"}]}),
    "postmark bounces": ("postmark", {"TotalCount": 1, "Bounces": [
        {"RecordType": "Bounce", "ID": 692560173, "Type": "HardBounce", "TypeCode": 1, "Details": "smtp;550 5.1.1",
         "Email": "p1@example.com", "From": "news@example.com", "BouncedAt": AT, "MessageID": "2c1b63fe-43f2-4db5"}]}),
    "brevo events": ("brevo", {"events": [
        {"email": "p1@example.com", "date": "2026-03-02T11:30:00.000+01:00", "messageId": "<1@smtp-relay.mailin.fr>",
         "event": "loadedByProxy", "tag": "spring", "from": "news@example.com"},
        {"email": "p1@example.com", "date": "2026-03-02T11:30:00.000+01:00", "messageId": "<1@smtp-relay.mailin.fr>",
         "event": "clicks", "link": "https://example.com/"},
        {"email": "p1@example.com", "date": "2026-03-02T11:30:00.000+01:00", "messageId": "<1@smtp-relay.mailin.fr>",
         "event": "hardBounces", "reason": "550"},
    ]}),
    "mailchimp email activity": ("mailchimp", {"campaign_id": "42694e9e57", "total_items": 1, "emails": [
        {"campaign_id": "42694e9e57", "email_id": "8a25ff1d98", "email_address": "p1@example.com",
         "activity": [{"action": "open", "timestamp": "2026-03-02T10:30:00+00:00", "ip": "198.51.100.7"},
                      {"action": "click", "timestamp": "2026-03-02T10:30:00+00:00", "url": "https://example.com/"},
                      {"action": "bounce", "type": "hard", "timestamp": "2026-03-02T10:30:00+00:00"}]},
        {"campaign_id": "42694e9e57", "email_id": "99", "email_address": "p2@example.com", "activity": []}]}),
    "mailchimp unsubscribes": ("mailchimp", {"unsubscribes": [
        {"email_id": "1", "email_address": "p1@example.com", "timestamp": "2026-03-02T10:30:00+00:00",
         "reason": "No longer interested", "campaign_id": "42694e9e57", "list_id": "f3"}]}),
    "hubspot email events": ("hubspot", {"hasMore": False, "offset": "x", "events": [
        {"id": "u1", "type": "OPEN", "created": EPOCH * 1000, "recipient": "p1@example.com", "emailCampaignId": 7,
         "filteredEvent": True, "userAgent": "x"},
        {"id": "u2", "type": "CLICK", "created": EPOCH * 1000, "recipient": "p1@example.com", "emailCampaignId": 7,
         "url": "https://example.com/"},
        {"id": "u3", "type": "BOUNCE", "created": EPOCH * 1000, "recipient": "p1@example.com", "emailCampaignId": 7,
         "category": "UNKNOWN_USER", "response": "550"}]}),
    "a table of events": ("file", "日時,イベント,メールアドレス,実験\n2026/03/02 19:30,opened,p1@example.com,spring\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_is_recognised_by_its_columns_and_its_events_reach_the_mail(
    name: str, lite: Account, tmp_path: Path
) -> None:
    provider, content = SHAPES[name]
    text = content if isinstance(content, str) else json.dumps(content)
    path = written(tmp_path / "export", text.replace(OURS, lite.message(1)))
    export = Export.open(path)
    assert export.shape is not None
    assert export.shape.source == provider
    done, refused = lite.ingest(path, experiment="spring")
    assert refused == []
    events = lite.events()
    assert done.new == len(events) > 0
    for event in events:
        assert event.message_id == lite.message(1)
        assert event.source == provider
        expected = datetime(2026, 3, 2, 10, 30, tzinfo=UTC) if name != "a table of events" else event.at
        assert event.at.replace(microsecond=0) == expected
    kinds = {event.type for event in events}
    if EventType.BOUNCED in kinds:
        assert [event.hard for event in events if event.type is EventType.BOUNCED] == [True]
        assert lite.engine.store.suppressed() == {"p1@example.com": "bounced"}
    machine = {"sendgrid webhook payloads", "mailgun events", "brevo events", "hubspot email events"}
    opened = [event for event in events if event.type is EventType.OPENED]
    assert all((event.verdict is Verdict.MACHINE) == (name in machine) for event in opened)
    assert lite.ingest(path, experiment="spring")[0].known == done.new
    assert len(lite.events()) == done.new


def test_pages_of_an_api_one_answer_a_line_or_one_after_another_are_all_read(tmp_path: Path) -> None:
    page = SHAPES["mailgun events"][1]
    for text in (f"{json.dumps(page)}\n{json.dumps(page)}\n", json.dumps(page, indent=2) * 2, json.dumps(page)):
        found = drafts(written(tmp_path / "pages", text))
        assert [draft.message_id for draft in found] == [OURS] * (3 if text == json.dumps(page) else 6)


def test_the_parent_of_a_mailchimp_test_is_not_counted_beside_its_children(lite: Account, tmp_path: Path) -> None:
    def campaign(ident: str, people: range) -> dict[str, object]:
        did = [{"action": "open", "timestamp": AT}, {"action": "click", "timestamp": AT, "url": "https://example.com/"}]
        emails = [{"campaign_id": ident, "email_address": f"p{i}@example.com", "activity": did} for i in people]
        return {"emails": emails, "campaign_id": ident}

    parent, first, second = (
        campaign("parent", range(8)),
        campaign("child-a", range(4)),
        campaign("child-b", range(4, 8)),
    )
    for number, one in enumerate((parent, first, second)):
        path = written(tmp_path / f"{number}.json", one)
        done, refused = lite.ingest(path, experiment="spring")
        assert (done.new, done.known, refused) == ((16, 0, []) if number == 0 else (0, 8, []))
    assert (lite.counted("opened"), lite.counted("clicked")) == (8, 8)


# --- matching ---------------------------------------------------------------------------------------------------------


def test_a_row_belongs_to_our_message_id_else_to_its_experiment_and_person(account: Account, tmp_path: Path) -> None:
    rows = [
        f"opened,{AT},<{account.message(0)}@example.com>,,,",
        f"opened,{AT},,spring,r1,",
        f"opened,{AT},,spring,,P2@Example.COM",
        f"opened,{AT},{OURS},spring,,p3@example.com",  # an id of elsewhere: the person decides
        f"opened,{AT},,spring,,stranger@example.com",
        f"opened,{AT},,sprnig,,p4@example.com",
        f"opened,{AT},,,,p4@example.com",
        f"opened,{AT},,spring,,",
        f"opened,{AT},{OURS},,,",
    ]
    path = written(tmp_path / "t.csv", "type,at,message_id,experiment,recipient,email\n" + "\n".join(rows) + "\n")
    done, refused = account.ingest(path)
    assert {event.message_id for event in account.events()} == {account.message(i) for i in range(4)}
    assert (done.new, done.refused) == (4, 5)
    assert {each.line: each.message for each in refused} == {
        6: "spring has no mail to s***@example.com",
        7: "no experiment 'sprnig' was applied; did you mean spring?",
        8: "the row names neither our message nor an experiment; --experiment says which one it is",
        9: "the row does not say whose mail it is",
        10: "no message of this id is in the ledger",
    }


def test_mails_of_others_in_a_whole_accounts_export_are_counted_and_not_kept(lite: Account, tmp_path: Path) -> None:
    page: Any = SHAPES["mailgun events"][1]
    done, refused = lite.ingest(written(tmp_path / "log.json", page))
    assert (done.foreign, done.new, done.rows, refused) == (3, 0, 3, [])
    assert lite.events() == []


def test_two_links_in_one_second_are_two_clicks_and_the_same_one_is_one(lite: Account, tmp_path: Path) -> None:
    rows = [f"clicked,{AT},spring,r1,https://example.com/{page}" for page in ("a", "b", "a")]
    path = written(tmp_path / "t.csv", "type,at,experiment,recipient,url\n" + "\n".join(rows))
    assert lite.ingest(path)[0].new == 2
    assert lite.counted("clicked") == 1


def test_an_event_that_says_too_much_or_too_little_is_refused_with_its_reason(tmp_path: Path) -> None:
    bad = {
        "gone,2026-03-02,r1,,": "'gone' is no event that is known; a mapping can say under `types` what it means",
        ",2026-03-02,r1,,": "the row does not say what happened",
        "opened,,r1,,": "the time is missing",
        "opened,soon,r1,,": "the time 'soon' is no time; write it as 2026-03-01 09:00",
        "opened,03/04/2026 9:00,r1,,": "the time '03/04/2026 9:00' can be read in two ways: day first or month first",
        "opened,2026-13-02 9:00,r1,,": "the time '2026-13-02 9:00' month must be in 1..12",
        "opened,2027-03-02,r1,,": (
            "'at' is 2027-03-02T00:00:00+00:00, more than a day in the future; check the sender's clock"
        ),
        "converted,2026-03-02,r1,much,": "the value is 'much', which is no number",
        "opened,2026-03-02,r1,,robot": "the verdict is 'robot', must be one of human, proxy, suspected, machine",
        "opened,2026-03-02,r1,,,x": "the row has 6 cells, the header 5; put cells that hold the delimiter in quotes",
        "opened,2026-03-02,r\x001,,": "cell 3 holds the control character U+0000; the row may be damaged",
    }  # fmt: skip
    path = written(tmp_path / "t.csv", "type,at,recipient,value,verdict\n" + "\n".join(bad) + "\n")
    found = drafts(path, experiment="spring")
    assert [each.message for each in found] == list(bad.values())
    assert [each.line for each in found] == list(range(2, len(bad) + 2))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON: "),
        ("[1]", "a line must be a JSON object, not a list"),
        ("null", "a line must be a JSON object, not null"),
        ("[" * 100_000, "nested too deeply"),
        ('{"n": ' + "9" * 5_000 + "}", "a number has too many digits"),
        ('{"type": "opened", "at": "2027-03-02T10:00:00Z", "message_id": "a"}', "more than a day in the future"),
    ],
    ids=["broken", "list", "null", "deep", "digits", "future"],
)
def test_a_line_that_holds_no_event_is_refused_and_the_good_rest_goes_through(
    tmp_path: Path, line: str, says: str
) -> None:
    good = '{"type": "opened", "at": "2026-03-02T10:00:00Z", "message_id": "a"}'
    first, refused, last = drafts(written(tmp_path / "x.jsonl", f"\ufeff{good}\r\n{line}\n\n{good}\n"))
    assert isinstance(refused, Refused)
    assert (refused.line, says in refused.message) == (2, True)
    assert first == last == Event.from_dict(json.loads(good))


# --- files as they come -----------------------------------------------------------------------------------------------

TABLE = "日時,イベント,メールアドレス,実験\n2026/03/02 19:30,opened,p1@example.com,spring\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_delimiters_and_gzip_are_found_out(
    encoding: str, delimiter: str, packed: bool, tmp_path: Path
) -> None:
    content = TABLE.replace(",", delimiter).encode(encoding)
    if encoding in {"utf-16-le", "utf-16-be"}:  # without a mark, what tells it are the zeros of Western text
        content = "type,at,email,experiment\nopened,2026-03-02 19:30,p1@example.com,spring\n".encode(encoding)
    path = tmp_path / "table"
    path.write_bytes(gzip.compress(content) if packed else content)
    (found,) = drafts(path)
    assert isinstance(found, Draft)
    assert (found.email, found.experiment, found.fields["type"]) == ("p1@example.com", "spring", "opened")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "is a spreadsheet or an archive"),
        (b"type,at\nM\xfcller,x\n", "is neither UTF-8 (byte 0xfc in line 2) nor Shift_JIS (byte 0xfc in line 2)"),
        (b"type,at\nAndr\xe9a,Andr\xe9a\n", "is not UTF-8 (byte 0xe9 in line 2) and does not look like Shift_JIS"),
        (gzip.compress(b"type,at\n" * 900, mtime=0)[:-12], "cannot be unpacked"),
        (b"name,city\nx,y\n", "nobody knows what the columns"),
        (b"Title,Total Recipients,Unique Opens\nA,9,3\n", "holds totals (total recipients, unique opens) and not"),
        (b"Email Address,Opens,Clicks\na@b.jp,3,1\n", "says how often each person did something (clicks, opens)"),
        (b'{"reports": [{"id": "1", "emails_sent": 9, "opens": 3, "clicks": 2}]}', "holds totals"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_events_is_refused_with_what_to_do(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(AudienceError) as caught:
        drafts(path)
    assert words in str(caught.value)
    assert caught.value.hint


def test_an_unknown_provider_or_one_whose_export_it_is_not_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", TABLE)
    with pytest.raises(ValueError, match=r"there is no provider 'sendgird'; known are amazon_ses, brevo, hubspot"):
        Export.open(path, provider="sendgird")
    for provider in providers():
        with pytest.raises(AudienceError, match=f"no export of {provider} that is known"):
            Export.open(path, provider=provider)


def test_broken_json_keeps_what_came_before_it(tmp_path: Path) -> None:
    good = json.dumps({"type": "opened", "at": AT, "message_id": OURS})
    lines = drafts(written(tmp_path / "x.jsonl", f"{{nonsense\n{good}\n[1]\n\n{good}"))
    assert [type(each) for each in lines] == [Refused, Event, Refused, Event]
    assert [each.line for each in lines if isinstance(each, Refused)] == [1, 3]
    listed = drafts(written(tmp_path / "x.json", f"[{good},\n {good},\n {{broken"))
    assert [type(each) for each in listed] == [Event, Event, Refused]
    assert (listed[2].line, "what follows is not read" in listed[2].message) == (3, True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    listed=st.lists(st.dictionaries(st.text(max_size=8), json_values, min_size=1, max_size=4), min_size=1, max_size=6),
    indent=st.sampled_from([None, 1, 3]), cut=st.integers(1, 40), plain=st.booleans(),
)  # fmt: skip
def test_a_list_cut_anywhere_gives_the_same_items(
    listed: list[dict[str, object]], indent: int | None, cut: int, plain: bool
) -> None:
    text = json.dumps(listed, indent=indent, ensure_ascii=plain)
    found = list(items(text[i : i + cut] for i in range(0, len(text), cut)))
    assert [item for _, item in found] == listed
    lines = [line for line, _ in found]
    assert lines == sorted(lines)
    assert lines[0] == (1 if indent is None else 2)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='[]{}",:\n\\ 0a', max_size=60), cut=st.integers(1, 7))
def test_no_text_breaks_the_reader_of_json(text: str, cut: int) -> None:
    found = list(items(text[i : i + cut] for i in range(0, len(text), cut)))
    assert all(isinstance(item, (dict, JsonProblem)) for _, item in found)


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet='a",\n\r', max_size=400), cut=st.integers(1, 90))
def test_rows_of_a_text_in_pieces_are_those_of_the_whole(text: str, cut: int) -> None:
    import abmail._table as table

    margin, table._MARGIN = table._MARGIN, 401  # type: ignore[misc]
    try:
        whole = "x,y\n" * 500 + text + '\n"a\nb",c\n' * 200
        pieces = [whole[i : i + cut * 37] for i in range(0, len(whole), cut * 37)]
        assert list(streamed(pieces, ",")) == list(records(whole, ","))
    finally:
        table._MARGIN = margin  # type: ignore[misc]


def test_memory_stays_flat_however_long_the_file_is(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("type,at,recipient,filler\n")
            file.writelines(f"opened,2026-03-02T10:30:00Z,r{i},{'x' * 2_000}\n" for i in range(rows))
        export = Export.open(path, experiment="spring")
        tracemalloc.start()
        seen = sum(isinstance(row, Draft) for row in export.rows(now=LATER))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == rows
        return most

    small, large = peak(2_500), peak(7_500)
    assert large < small * 1.2


# --- mapping ----------------------------------------------------------------------------------------------------------

MAPPING = """\
source: acme
columns: {type: Aktion, at: Wann, email: [Mail, Adresse], experiment: Kampagne, kind: Art}
types: {Geöffnet: opened, Geklickt: clicked, Rückläufer: bounced, Angelegt: ignore}
hard: [endgültig]
experiments: {"4711": spring}
time: {zone: Asia/Tokyo, format: "%d.%m.%Y %H:%M"}
"""


def test_a_mapping_says_what_columns_words_and_times_mean(lite: Account, tmp_path: Path) -> None:
    table = (
        "Aktion;Wann;Mail;Adresse;Kampagne;Art\nGeöffnet;02.03.2026 19:30;p1@example.com;;4711;\n"
        "GEKLICKT;02.03.2026 19:31;;p2@example.com;4711;\nRückläufer;02.03.2026 19:32;p3@example.com;;4711;Endgültig\n"
        "Angelegt;02.03.2026 19:32;p3@example.com;;4711;\nopened;2026-03-02;p3@example.com;;4711;\n"
    )
    mapping = written(tmp_path / "acme.yaml", MAPPING)
    done, refused = lite.ingest(written(tmp_path / "t.csv", table), mapping=mapping)
    assert (done.new, done.nothing, done.refused) == (3, 1, 1)
    assert refused[0].message == "the time '2026-03-02' is not written as %d.%m.%Y %H:%M"
    assert {(e.type, e.at.hour, e.message_id, e.hard, e.source) for e in lite.events()} == {
        ("opened", 10, lite.message(1), False, "acme"), ("clicked", 10, lite.message(2), False, "acme"),
        ("bounced", 10, lite.message(3), True, "acme"),
    }  # fmt: skip


def test_constants_stand_in_for_what_no_column_says(tmp_path: Path) -> None:
    mapping = written(
        tmp_path / "m.yaml", f"columns: {{email: Mail}}\nconstants: {{type: opened, at: '{AT}', experiment: spring}}\n"
    )
    (found,) = drafts(written(tmp_path / "t.csv", "Mail,Opens\np1@example.com,3\n"), mapping=mapping)
    assert (found.email, found.experiment, found.fields["type"]) == ("p1@example.com", "spring", "opened")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("columns: {type: A, at: B, mail: C}", ":1:27:", "did you mean 'email'?"),
        ("columns: {type: A, at: B, email: C}\ntypes: {x: open}", ":2:12:", "'open' is no event"),
        ("columns: {type: A, email: C}", ":1:1:", "no column says the at"),
        ("columns: {type: A, at: B}", ":1:1:", "no column says whose mail it is"),
        ("columns: {type: A, at: B, email: C}\ntime: {zone: Asia/Tokio}", ":2:14:", "Asia/Tokyo"),
        ("columns: {type: A, at: B, email: C}\ntime: {format: '%H:%M'}", ":2:16:", "leaves out the day"),
        ("columns: {type: A, at: B, email: C}\ntime: {format: '%Q'}", ":2:16:", "cannot be read"),
        ("columns: {type: A, at: B, email: C}\ntypo: 1", ":2:1:", "did you mean 'type"),
        ("columns: [type]", ":1:10:", "expected keys with values"),
        ("types: {x: opened}", "", "the key is missing"),
        ("", "", "the file is empty"),
        ("columns: {type: A", ":1:10:", ""),
    ],
)
def test_every_slip_of_a_mapping_is_told_at_its_place(text: str, place: str, words: str, tmp_path: Path) -> None:
    mapping = written(tmp_path / "m.yaml", text)
    with pytest.raises(SpecError) as caught:
        Export.open(written(tmp_path / "t.csv", TABLE), mapping=mapping)
    told = "\n".join(f"{each} {each.hint}" for each in caught.value.diagnostics)
    assert place in told
    assert words in told


def test_a_mapping_that_names_a_column_which_is_not_there_is_refused(tmp_path: Path) -> None:
    mapping = written(tmp_path / "m.yaml", "columns: {type: Action, at: When, email: To}")
    with pytest.raises(AudienceError, match=r"the mapping names a column 'when', which .* lacks") as caught:
        Export.open(written(tmp_path / "t.csv", "Action,Time,To\nopened,x,y\n"), mapping=mapping)
    assert "'Action', 'Time', 'To'" in caught.value.hint


# --- crash and command line -------------------------------------------------------------------------------------------


def test_a_crash_in_the_middle_is_mended_by_ingesting_again(account: Account, tmp_path: Path) -> None:
    rows = [f"opened,2026-03-02T10:{i // 60:02d}:{i % 60:02d}Z,r{j},spring" for i in range(600) for j in range(10)]
    path = written(tmp_path / "t.csv", "type,at,recipient,experiment\n" + "\n".join(rows) + "\n")
    export = Export.open(path)

    class Broken(Export):
        def rows(self, **options: Any) -> Iterator[Any]:
            for number, row in enumerate(export.rows(**options)):
                if number == 5_500:
                    raise OSError("the disk is gone")
                yield row

    with pytest.raises(OSError, match="the disk is gone"):
        account.engine.ingest(Broken(export.file, export.shape, export.header, export.delimiter), now=LATER)
    assert len(account.events()) == 5_000
    done, refused = account.ingest(path)
    assert (done.known, done.new, refused) == (5_000, 1_000, [])
    assert account.counted("opened") == 10
    tally = account.engine.store.tally("spring", n_cells=2)
    again = account.engine.store.recount("spring", n_cells=2)
    assert Counter(zip(tally.metric, tally.bin, tally.n, strict=True)) == Counter(
        zip(again.metric, again.bin, again.n, strict=True)
    )


def test_refused_rows_are_written_with_the_reason_corrected_and_ingested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str, status: int = 0) -> str:
        assert _run(arguments) == status
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out + said.err

    monkeypatch.chdir(tmp_path)
    command("init", ".")
    Path("leads.csv").write_text("email\n" + "".join(f"p{i}@example.com\n" for i in range(4)), encoding="utf-8")
    for words in (("new", "spring"), ("audience", "import", "leads.csv"), ("apply", "spring")):
        command(*words)
    command("send", "spring", "--yes")
    at = datetime.now(UTC).isoformat()
    table = f'Type;At;Email;Note\nopened;{at};p0@example.com;"a;b"\nopend;{at};p1@example.com;"c;d"\nopened;{at};"x\n'
    written(Path("t.csv"), table, encoding="utf-16")
    first = command("ingest", "t.csv", "--experiment", "spring", "--rejects", "refused.csv", status=1)
    assert "1 new events, 0 known before, 0 of unknown messages, 2 lines refused\n" in first
    assert "t.csv:3: 'opend' is no event" in first
    refused = Path("refused.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(refused.splitlines(), delimiter=";"))
    assert rows[0] == ["Type", "At", "Email", "Note", "reject_reason"]
    assert rows[1][:4] == ["opend", at, "p1@example.com", "c;d"]
    assert "is no event" in rows[1][4]
    assert rows[2][0] == f'opened;{at};"x'
    written(Path("refused.csv"), refused.replace("opend;", "opened;").rsplit('"opened;', 1)[0])
    second = command("ingest", "refused.csv", "--experiment", "spring")
    assert "1 new events, 0 known before, 0 of unknown messages, 0 lines refused\n" in second
    again = command("ingest", "t.csv", "--experiment", "spring", status=1)
    assert "0 new events, 1 known before, 0 of unknown messages, 2 lines refused\n" in again
    for wrong in (
        ("t.csv", "--rejects", "t.csv"),
        ("t.csv", "--provider", "none"),
        ("--bounces", "x", "--map", "t.csv"),
    ):
        command("ingest", *wrong, status=2)


def test_refused_items_of_json_are_ingested_again_too(lite: Account, tmp_path: Path) -> None:
    page: dict[str, Any] = json.loads(json.dumps(SHAPES["mailchimp email activity"][1]))
    page["emails"][0]["activity"][0]["action"] = "opne"
    export = Export.open(written(tmp_path / "a.json", page), experiment="spring")
    with Rejects(tmp_path / "r.json", export) as rejects:
        done = lite.engine.ingest(export, refused=rejects.add, now=LATER)
    assert (done.new, done.refused) == (2, 1)
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert '"reject_reason": "\'opne\' is no event' in text
    assert lite.ingest(written(tmp_path / "r.json", text.replace("opne", "open")), experiment="spring")[0].new == 1


def test_the_codec_of_a_large_file_is_that_of_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"type,at\n" + b"opened,x\n" * 200_000 + "開封,日\n".encode("cp932"))
    assert TextFile.open(path).encoding == "cp932"
