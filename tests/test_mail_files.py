"""What a mail is made of beside its template: included files, attachments, pictures, MJML, style sheets, preheader."""

from __future__ import annotations

import base64
import re
import sys
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from abmail import _layout
from abmail.engine import Engine
from abmail.errors import MissingExtra, RenderError, SpecError, StoreError
from abmail.events import Signer
from abmail.recipient import Recipient
from abmail.render import Renderer, read_files, read_template
from abmail.send import Memory
from abmail.spec import Experiment

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SIGNER = Signer(b"a secret of 24 bytes ...")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def definition(factors: dict[str, dict[str, str]] | None = None, **message: Any) -> Experiment:
    chosen = factors or {"subject": {"a": "A", "b": "B"}}
    mail = {"template": "mails/spring/mail.html.j2", "from": "Sales <news@example.com>", **message}
    if "subject" not in chosen:
        mail = {"subject": "News", **mail}
    control = {factor: next(iter(levels)) for factor, levels in chosen.items()}
    plain = {"spec": 1, "name": "spring", "factors": chosen, "control": control, "message": mail}
    return Experiment.from_dict({**plain, "allocation": {"policy": "uniform"}})


def project(folder: Path, **files: str | bytes) -> Path:
    """Write files; ``__`` in a name is a slash, ``_dot_`` a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def renderer(folder: Path, experiment: Experiment) -> Renderer:
    message = experiment.message
    template = read_template(folder, message.template)
    factors = [(text, "factor") for levels in experiment.factors.values() for text in levels.values()]
    files = read_files(folder, message, [(template, message.template), *factors])
    return Renderer(
        experiment=experiment, template=template, files=files, tracker_url="https://t.example.com", signer=SIGNER
    )


def mail(folder: Path, experiment: Experiment | None = None, cell: int = 0) -> EmailMessage:
    experiment = experiment or definition()
    made = renderer(folder, experiment).render(
        cell=experiment.cells[cell],
        recipient=Recipient(id="u-1", email="ann@example.org", attributes={"name": "Ann"}),
        message_id=SIGNER.message_id("spring", "u-1"),
        now=NOW,
    )
    message = BytesParser(policy=policy.default).parsebytes(made.raw)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert isinstance(part, EmailMessage)
    return str(part.get_content())


# --- included files ---------------------------------------------------------------------------------------------------


def test_a_template_is_made_of_blocks_and_parts_that_lie_in_its_folder(tmp_path: Path) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="{% extends 'base.html.j2' %}{% block main %}<p>Main</p>{% endblock %}",
        mails__spring__base_dot_html_dot_j2="<html><body>{% block main %}{% endblock %}"
        "{% include 'parts/foot.html.j2' %}</body></html>",
        mails__spring__parts__foot_dot_html_dot_j2="{% from 'macros.j2' import shout %}"
        "<p>{{ shout(recipient.name) }}</p>",
        mails__spring__macros_dot_j2="{% macro shout(text) %}<a href='https://a.example/'>{{ text | upper }}</a>"
        "{% endmacro %}",
    )
    html = html_of(mail(tmp_path))
    assert html.startswith("<html><body><p>Main</p><p><a href='https://t.example.com/c/")
    assert ">ANN</a></p>" in html


def test_a_text_of_the_definition_may_include_a_part_too(tmp_path: Path) -> None:
    project(tmp_path, mails__spring__mail_dot_html_dot_j2="{{ body }}", mails__spring__long_dot_j2="A long text")
    experiment = definition({"body": {"long": "{% include 'long.j2' %}", "short": "Short"}})
    assert "<p>A long text</p>" in html_of(mail(tmp_path, experiment))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../other.j2", "lies outside the folder of the template"),
        ("/etc/hostname", "lies outside"),
        ("link.j2", "lies outside"),
        ("missing.j2", "cannot be read"),
        ("binary.j2", "not UTF-8"),
        ("broken.j2", r"broken\.j2, line 1"),
    ],
)
def test_a_part_outside_the_folder_or_broken_is_refused_before_anything_is_sent(
    tmp_path: Path, name: str, message: str
) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2=f"{{% include '{name}' %}}",
        mails__other_dot_j2="secret",
        mails__spring__binary_dot_j2=b"\xff\xfe",
        mails__spring__broken_dot_j2="{% if %}",
    )
    (tmp_path / "mails" / "spring" / "link.j2").symlink_to(tmp_path / "mails" / "other.j2")
    with pytest.raises(RenderError, match=message):
        mail(tmp_path)


def test_parts_that_include_each_other_without_end_fail_the_mail_alone(tmp_path: Path) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="{% include 'a.j2' %}",
        mails__spring__a_dot_j2="{% include 'b.j2' %}",
        mails__spring__b_dot_j2="{% include 'a.j2' %}",
    )
    with pytest.raises(RenderError, match=r"RecursionError|more than"):
        mail(tmp_path)


def test_an_error_in_a_part_names_the_part_and_its_line(tmp_path: Path) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="<p>\n{% include 'part.j2' %}",
        mails__spring__part_dot_j2="a\nb\n{{ recipient.nmae }}",
    )
    with pytest.raises(RenderError, match=r"^part\.j2, line 3, variant 'a': recipient\.nmae is not defined"):
        mail(tmp_path)


def test_a_running_experiment_is_made_of_what_was_applied_whatever_became_of_the_folder(
    tmp_path: Path, store_url: str
) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="<img src='cid:logo.png' alt=''>{% include 'part.j2' %}",
        mails__spring__part_dot_j2="<p>First</p>",
        mails__logo_dot_png=PNG,
        mails__terms_dot_pdf=b"%PDF first",
    )
    experiment = definition(attachments=["mails/terms.pdf"], images=["mails/logo.png"])
    transport = Memory()
    with Engine(store_url, transport=transport, secret=b"a secret of 24 bytes ...", project=tmp_path) as engine:
        person = Recipient(id="u-1", email="ann@example.org", attributes={})
        applied = engine.apply(engine.plan(experiment, [person]), now=NOW)
        project(tmp_path, mails__spring__part_dot_j2="<p>Second</p>", mails__terms_dot_pdf=b"%PDF second")
        again = engine.plan(experiment, [person])
        assert [c.path for c in again.risky] == ["file mails/spring/part.j2", "file mails/terms.pdf"]
        with pytest.raises(StoreError, match="changing file mails/spring/part"):
            engine.apply(again, now=NOW)
        engine.tick(now=NOW)
        (message,) = transport.messages
        assert "<p>First</p>" in message.html
        assert base64.b64encode(b"%PDF first") in message.raw
        ident = engine.signer.message_id("spring", "u-1")
        shown = engine.hosted(ident)
        assert shown is not None
        assert f"src='data:image/png;base64,{base64.b64encode(PNG).decode()}'" in shown
        assert "<p>First</p>" in shown
        assert "/o/" not in shown
        assert engine.hosted(engine.signer.message_id("spring", "nobody")) is None
        project(tmp_path, mails__spring__part_dot_j2="<p>First</p>", mails__terms_dot_pdf=b"%PDF first")
        assert not engine.apply(engine.plan(experiment, [person]), now=NOW + timedelta(hours=1)).new_version
    assert applied.version == 1


# --- attachments and pictures -----------------------------------------------------------------------------------------


def test_attachments_and_pictures_are_read_back_by_the_standard_library(tmp_path: Path) -> None:
    name = "資料 2026 (最新).pdf"
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="<p>日本語</p><img src='cid:logo.png' alt=''>",
        mails__logo_dot_png=PNG,
    )
    (tmp_path / "mails" / name).write_bytes(b"%PDF-1.7 \x00\xff")
    project(tmp_path, mails__list_dot_csv="a,b\r\n")
    message = mail(tmp_path, definition(attachments=[f"mails/{name}", "mails/list.csv"], images=["mails/logo.png"]))
    assert message.get_content_type() == "multipart/mixed"
    body, *attached = message.iter_parts()
    assert isinstance(body, EmailMessage)
    assert body.get_content_type() == "multipart/related"
    alternative, picture = body.iter_parts()
    assert [part.get_content_type() for part in alternative.iter_parts()] == ["text/plain", "text/html"]
    assert (picture["Content-ID"], picture.get_content(), picture.get_content_disposition()) == (
        "<logo.png>", PNG, "inline",
    )  # fmt: skip
    assert [(p.get_filename(), p.get_content_type(), p.get_content_disposition()) for p in attached] == [
        (name, "application/pdf", "attachment"),
        ("list.csv", "text/csv", "attachment"),
    ]
    assert attached[0].get_content() == b"%PDF-1.7 \x00\xff"
    assert "日本語" in html_of(message)
    raw = message.as_bytes()
    boundaries = re.findall(rb'boundary="([^"]+)"', raw)
    assert len(boundaries) == 3
    assert not any(a != b and a.startswith(b) for a in boundaries for b in boundaries)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"attachments": ["mails/run.EXE"]}, "mail programs refuse such files"),
        ({"attachments": ["mails/page.html"]}, "mail programs refuse such files"),
        ({"attachments": ["mails/big.pdf"]}, "at most 5000000"),
        ({"attachments": ["mails/half.pdf", "mails/rest.pdf"]}, "have 6000000 bytes, at most 5000000"),
        ({"attachments": ["mails/none.pdf"]}, "file 'mails/none.pdf' cannot be read"),
        ({"images": ["mails/list.pdf"]}, "no picture that mail programs show"),
        ({"images": ["mails/a b.png"]}, "cannot be named in a mail"),
        ({"images": ["mails/logo.png", "mails/spring/logo.png"]}, "cannot be named in a mail"),
    ],
)
def test_a_file_that_would_not_arrive_is_refused_with_the_reason(
    tmp_path: Path, message: dict[str, Any], error: str
) -> None:
    project(
        tmp_path, mails__spring__mail_dot_html_dot_j2="x", mails__run_dot_EXE=b"MZ", mails__page_dot_html=b"x",
        mails__big_dot_pdf=b"x" * 5_000_001, mails__half_dot_pdf=b"x" * 3_000_000, mails__rest_dot_pdf=b"x" * 3_000_000,
        mails__list_dot_pdf=b"x", mails__logo_dot_png=PNG, mails__spring__logo_dot_png=PNG,
    )  # fmt: skip
    (tmp_path / "mails" / "a b.png").write_bytes(PNG)
    with pytest.raises(RenderError, match=error):
        mail(tmp_path, definition(None, **message))


def test_a_picture_that_is_not_there_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    project(tmp_path, mails__spring__mail_dot_html_dot_j2="<img src='cid:lgo.png'>", mails__logo_dot_png=PNG)
    with pytest.raises(RenderError, match=r"no picture for cid:lgo\.png") as caught:
        mail(tmp_path, definition(images=["mails/logo.png"]))
    assert caught.value.hint == "did you mean cid:logo.png?"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"attachments": "mails/a.pdf"}, "expected a list"),
        ({"attachments": ["../a.pdf"]}, "not a path inside the project"),
        ({"attachments": ["mails/a.pdf", "mails/a.pdf"]}, "in the list twice"),
        ({"images": [1]}, "expected text"),
        ({"inline_css": "yes"}, "expected true or false"),
    ],
)
def test_the_definition_says_where_its_lists_of_files_are_wrong(message: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        definition(**message)


def test_definitions_without_files_keep_their_hash() -> None:
    assert "attachments" not in definition().resolved()["message"]
    assert definition().spec_hash != definition(attachments=["mails/a.pdf"]).spec_hash
    again = Experiment.from_dict(definition(attachments=["mails/a.pdf"], inline_css=True).resolved())
    assert again.message.attachments == ("mails/a.pdf",)


# --- layout -----------------------------------------------------------------------------------------------------------


def test_a_template_in_mjml_becomes_html_with_tracked_links_and_outlooks_comments(tmp_path: Path) -> None:
    source = (
        "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ recipient.name }}</mj-text>"
        "<mj-button href='https://shop.example/?a=1&amp;b=2'>Buy</mj-button></mj-column></mj-section></mj-body></mjml>"
    )
    project(tmp_path, mails__spring__mail_dot_mjml_dot_j2=source)
    html = html_of(mail(tmp_path, definition(template="mails/spring/mail.mjml.j2")))
    assert "Dear Ann" in html
    assert "<!--[if mso" in html
    assert "https://shop.example" not in html
    assert "u=https%3A%2F%2Fshop.example%2F%3Fa%3D1%26b%3D2" in html
    project(tmp_path, mails__spring__mail_dot_mjml_dot_j2="<mjml><mj-body>")
    with pytest.raises(RenderError, match="the MJML cannot be read"):
        mail(tmp_path, definition(template="mails/spring/mail.mjml.j2"))


def test_a_style_sheet_is_written_into_the_tags_and_media_rules_stay(tmp_path: Path) -> None:
    source = (
        "<html><head><style>.b { color: red } @media (max-width: 600px) { .b { color: blue } }</style></head><body>"
        "<!--[if mso]><table><tr><td><![endif]--><a class='b' href='https://a.example/'>日本 &amp; x</a></body></html>"
    )
    project(tmp_path, mails__spring__mail_dot_html_dot_j2=source)
    html = html_of(mail(tmp_path, definition(inline_css=True)))
    assert re.search(r'<a class="b" href="https://t\.example\.com/c/[^"]+" style="color: red;">日本 &amp; x</a>', html)
    assert "@media" in html
    assert "<!--[if mso]><table><tr><td><![endif]-->" in html
    assert ".b { color: red }" not in html


@pytest.mark.parametrize(("module", "extra"), [("mrml", "mjml"), ("css_inline", "html")])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=f"extra '{extra}'"):
        _layout.layout(mjml=module == "mrml", inline_css=module == "css_inline")


# --- preheader --------------------------------------------------------------------------------------------------------


def test_a_preheader_that_no_template_writes_is_put_at_the_beginning_of_the_body(tmp_path: Path) -> None:
    project(tmp_path, mails__spring__mail_dot_html_dot_j2="<html><body class='x'><p>Hello</p></body></html>")
    message = mail(tmp_path, definition(preheader="30 <minutes>, {{ recipient.name }}"))
    assert re.search(r"<body class='x'><div style=\"display:none[^>]*>30 &lt;minutes&gt;, Ann&#8199;", html_of(message))
    text = message.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    assert text.get_content().startswith("Hello\r\n")


def test_a_preheader_that_a_part_writes_is_not_put_in_twice(tmp_path: Path) -> None:
    project(
        tmp_path,
        mails__spring__mail_dot_html_dot_j2="<body>{% include 'head.j2' %}</body>",
        mails__spring__head_dot_j2="<div hidden>{{ preheader }}</div>",
    )
    assert html_of(mail(tmp_path, definition(preheader="Thirty minutes"))).count("Thirty minutes") == 1


def test_the_link_to_the_mail_in_a_browser_is_signed_and_not_tracked(tmp_path: Path) -> None:
    project(tmp_path, mails__spring__mail_dot_html_dot_j2="<a href='{{ view_url }}'>See it in a browser</a>")
    html = html_of(mail(tmp_path))
    token = re.search(r"<a href='https://t\.example\.com/v/([\w-]+)'>", html)
    assert token is not None
    assert SIGNER.verify("v", token[1]) is not None
    assert "/c/" not in html


# --- preview ----------------------------------------------------------------------------------------------------------


class Frames(HTMLParser):
    """The frames of a page, and every tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.frames: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            self.frames.append(dict(attrs))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_page_shows_each_variant_at_two_widths_and_as_text_in_frames_that_can_do_nothing(
    tmp_path: Path, language: str
) -> None:
    html = "<p>{{ recipient.name }}</p><img src='cid:logo.png'><script>x</script>"
    project(tmp_path, mails__spring__mail_dot_html_dot_j2=html, mails__logo_dot_png=PNG)
    experiment = definition(
        {"subject": {"短い": "<b>Short</b>", "長い": "とても長い件名をここに書いてみるとどうなるでしょうか"}},
        images=["mails/logo.png"], language=language, preheader="Hi {{ recipient.name }}",
    )  # fmt: skip
    with Engine("sqlite://", secret=b"a secret of 24 bytes ...", project=tmp_path) as engine:
        person = Recipient(id="u-1", email="ann@example.org", attributes={"name": '"><script>alert(1)</script>'})
        engine.store.import_recipients([person], now=NOW)
        page = engine.preview_page(experiment, now=NOW)
    found = Frames(page)
    assert "script" not in found.tags
    assert len(found.frames) == 4
    for frame in found.frames:
        assert frame["sandbox"] == "allow-popups"
        assert "&lt;script&gt;alert(1)" in str(frame["srcdoc"])
        assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in str(frame["srcdoc"])
        assert "/o/" not in str(frame["srcdoc"])
    assert "&lt;b&gt;Short&lt;/b&gt;" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert page.count({"en": "may be cut off on phones", "ja": "途中で切れること"}[language]) == 1
    assert page.count({"en": ">control<", "ja": ">対照<"}[language]) == 1


def test_a_mail_that_gmail_would_clip_is_marked(tmp_path: Path) -> None:
    project(tmp_path, mails__spring__mail_dot_html_dot_j2="{{ 'x' * 102001 }}")
    with Engine("sqlite://", secret=b"a secret of 24 bytes ...", project=tmp_path) as engine:
        engine.store.import_recipients([Recipient(id="u-1", email="ann@example.org", attributes={})], now=NOW)
        assert engine.preview_page(definition(), now=NOW).count("Gmail hides what comes after 102 kB") == 2
