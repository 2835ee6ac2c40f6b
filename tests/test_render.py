"""Mails: templates, links, parts, headers and bytes."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abmail import _links, _mime, _page
from abmail.errors import ConfigError, RenderError
from abmail.events import HONEYPOT_LINK, Signer
from abmail.recipient import Recipient, normalise_email
from abmail.render import MAX_OUTPUT, RenderedMessage, Renderer, read_template, readable_text, starter_template
from abmail.spec import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TRACKER = "https://t.example.com"
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SIGNER = Signer(b"a secret of 24 bytes ...")
MESSAGE_ID = SIGNER.message_id("spring", "u-1")
UNSUBSCRIBE = f"{TRACKER}/u/{SIGNER.sign('u', MESSAGE_ID)}"
CLICK = re.compile(re.escape(TRACKER) + r"/c/([\w-]+)\?u=([\w.~%-]*\w)", re.ASCII)
PIXEL = re.compile(rf'<img src="{re.escape(TRACKER)}/o/([\w-]+)\.gif" width=1 height=1 alt="">')
FORBIDDEN = [*map(chr, range(0x20)), "\x7f", "\x85", "\u2028", "\u2029"]

any_text = st.text(st.characters(exclude_categories=["Cs"]))
header_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=FORBIDDEN)).map(
    lambda t: t.strip(" ")
)


def experiment(
    factors: Mapping[str, Mapping[str, str]] | None = None,
    sender: str = "Sales <news@example.com>",
    **message: str | bool,
) -> Experiment:
    chosen = factors or {"subject": {"plain": "News", "other": "Other news"}}
    mail = {"template": "mails/spring.html.j2", "from": sender, **message}
    if "subject" not in chosen:
        mail = {"subject": "News", **mail}
    control = {factor: next(iter(levels)) for factor, levels in chosen.items()}
    return Experiment.from_dict({"spec": 1, "name": "spring", "factors": chosen, "control": control, "message": mail})


def person(email: str = "ann@example.com", **attributes: str) -> Recipient:
    return Recipient(id="u-1", email=email, attributes=attributes)


def render(
    template: str = "<p>Hello</p>",
    *,
    text_template: str | None = None,
    factors: Mapping[str, Mapping[str, str]] | None = None,
    recipient: Recipient | None = None,
    cell: int = 0,
    mailto: str | None = None,
    sender: str = "Sales <news@example.com>",
    **message: str | bool,
) -> RenderedMessage:
    definition = experiment(factors, sender, **message)
    renderer = Renderer(
        experiment=definition,
        template=template,
        text_template=text_template,
        tracker_url=TRACKER,
        signer=SIGNER,
        unsubscribe_mailto=mailto,
    )
    return renderer.render(
        cell=definition.cells[cell], recipient=recipient or person(name="Ann"), message_id=MESSAGE_ID, now=NOW
    )


def parsed(raw: bytes) -> EmailMessage:
    message = BytesParser(policy=policy.default).parsebytes(raw)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert isinstance(part, EmailMessage)
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def targets(html: str) -> list[str]:
    """Where the tracked links lead, each proven by its token; numbered from 1 in order."""
    found = []
    for number, (token, query) in enumerate(CLICK.findall(html), start=1):
        target = parse_qs(f"u={query}")["u"][0]
        verified = SIGNER.verify("c", token, target=target)
        assert verified is not None
        assert (verified.message_id, verified.link) == (MESSAGE_ID, number)
        found.append(target)
    return found


def without_additions(html: str) -> str:
    """The HTML without pixel and appended footer."""
    return PIXEL.sub("", re.sub(rf'<p style="[^"]*"><a href="{re.escape(UNSUBSCRIBE)}">[^<]*</a></p>', "", html))


# --- links ------------------------------------------------------------------------------------------------------------

NEWSLETTER = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/x.dtd">\r
<HTML xmlns="http://www.w3.org/1999/xhtml"><head><title>A <a href="http://no.example/title"> &amp; B</title>
<base target=_blank><link rel="stylesheet" href="https://fonts.example/css?family=A&amp;b">
<style>a[href="https://no.example/css"]{color:red} td > a::after{content:"<a href='http://no.example/s'>"}</style>
<script>if (a<b) document.write("<a href='http://no.example/script'>")</script>
<!-- <a href="http://no.example/comment"> --></head>
<body bgcolor=#ffffff>
<!--[if mso]><v:roundrect xmlns:v="urn:schemas-microsoft-com:vml" href="https://shop.example/vml?a=1&amp;b=2"
arcsize="8%"><w:anchorlock/><center>Buy</center></v:roundrect><![endif]-->
<!--[if !mso]><!--><A  CLASS='btn "big"' HREF = 'https://shop.example/?q=1&amp;copy=2&reg=3&amp;amp;x'
   title="a > b">Buy &nbsp;&copy; &eacute;</A><!--<![endif]-->
<table><tr>{% for row in [1, 2] %}<td><a href=https://shop.example/p/{{ row }}/>No {{ row }}</a></td>{% endfor %}
</tr></table>
<img alt="see <a href='http://no.example/alt'>" src=https://img.example/a.png usemap=#m>
<map name=m><area shape=rect coords="0,0,1,1" href="https://shop.example/area"></map>
<a href="mailto:info@example.com?subject=a&amp;b">Write</a> <a href="tel:+81-3-1234">Call</a> <a href=#top>Top</a>
<a href="cid:part1">Part</a> <a href="/relative">Here</a> <a name=top>Anchor</a> <a href="">Empty</a>
<a data-abmail-notrack href="https://shop.example/private">Private</a>
<a href="
  https://shop.example/wrapped\t?x=1
">Wrapped</a>
<a href="https://shop.example/two" href="https://no.example/second">First counts</a>
<a href="https://bücher.example/straße?q=日本 語">IDN</a><a href='https://shop.example/two'>Again</a>
<noscript><a href="HTTPS://shop.example/noscript">Seen in mail</a></noscript>
5 < 6 && 7 > 6 <3 &lt; &unknown; </ > <?php echo "<a href='http://no.example/php'" ?>
<a href="{{ unsubscribe_url }}">Bye</a>
</body></HTML>
"""


def test_every_web_link_of_a_nasty_newsletter_is_tracked_with_the_address_a_browser_would_open() -> None:
    assert targets(render(NEWSLETTER).html) == [
        "https://shop.example/vml?a=1&b=2",
        "https://shop.example/?q=1&copy=2&reg=3&amp;x",
        "https://shop.example/p/1/",
        "https://shop.example/p/2/",
        "https://shop.example/area",
        "https://shop.example/wrapped?x=1",
        "https://shop.example/two",
        "https://xn--bcher-kva.example/stra%C3%9Fe?q=%E6%97%A5%E6%9C%AC%20%E8%AA%9E",
        "https://shop.example/two",
        "HTTPS://shop.example/noscript",
    ]


def test_nothing_but_the_links_changes_in_a_nasty_newsletter() -> None:
    page = _page.Page.of(NEWSLETTER)
    changed = page.html(dict.fromkeys(range(len(page.links)), "\ue000"))
    kept = re.fullmatch(re.escape(changed).replace("\ue000", "([^>]*?)"), NEWSLETTER)
    assert kept is not None
    assert len(kept.groups()) == len(page.links) == 17
    assert page.html({}) == NEWSLETTER


def test_a_honeypot_is_a_link_that_nobody_sees_and_no_other_link_changes() -> None:
    template = '<body><p><a href="https://example.com/a">A</a></p></body>'
    plain, trapped = render(template), render(template, honeypot=True)
    (tag,) = re.findall(r'<a [^>]*aria-hidden="true"[^>]*>', trapped.html)
    assert 'tabindex="-1"' in tag
    assert "width:0" in tag
    token, query = CLICK.findall(tag)[0]
    target = parse_qs(f"u={query}")["u"][0]
    verified = SIGNER.verify("c", token, target=target)
    assert verified is not None
    assert verified.link == HONEYPOT_LINK
    assert target.startswith(f"{TRACKER}/v/")
    assert trapped.html.replace(f"{tag}&#8203;</a>", "") == plain.html
    assert (trapped.text, trapped.links) == (plain.text, plain.links) == (plain.text, 1)


def test_the_same_address_twice_is_two_links() -> None:
    html = render('<a href="https://a.example/">1</a><a href="https://a.example/">2</a>').html
    first, second = CLICK.findall(html)
    assert first != second
    assert targets(html) == ["https://a.example/"] * 2


def test_a_tracked_link_needs_no_escaping_in_any_quotes() -> None:
    html = render("""<a href="https://a.example/?x='&quot;&lt;>">1</a><a href='https://a.example/?"'>2</a>""").html
    assert targets(html) == ["https://a.example/?x='%22%3C%3E", "https://a.example/?%22"]
    assert html.startswith('<a href="https://t.example.com/c/')


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("https://user:pass@a.example/", "user name or password"),
        ("https://a.example\\@b.example/", "backslash"),
        ("https://a.example/\x01x", "control character"),
        ("https:///path", "host"),
        ("https://a..ü.example/", "not a usable"),
        ("https://a.example/" + "x" * 2_000, "2018 characters"),
    ],
)
def test_a_link_that_cannot_be_a_redirect_is_an_error_that_shows_it(href: str, reason: str) -> None:
    with pytest.raises(RenderError, match=reason) as caught:
        render(f'<a href="{href}">x</a>')
    assert "data-abmail-notrack" in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")
    assert (caught.value.template, caught.value.variant) == ("mails/spring.html.j2", "plain")


def test_a_link_that_cannot_be_tracked_may_be_left_alone() -> None:
    html = '<a data-abmail-notrack href="https://user:pass@a.example/">x</a>'
    assert without_additions(render(html).html) == html


FRAGMENTS = [
    "<a href=",
    '"',
    "'",
    "https://a.example/",
    ">",
    "<",
    "</a>",
    "<!--",
    "-->",
    "--!>",
    "<!--[if mso]>",
    "<![endif]-->",
    "<p title=",
    " x=1 ",
    "<script>",
    "</script>",
    "<style>",
    "</STYLE >",
    "<title>",
    "</title>",
    "&amp;",
    "&copy=1",
    "/",
    "=",
    "\n",
    "\r\n",
    "text",
    "é",
    "<?",
    "<!",
    "</",
    "<area/href='https://b.example/'>",
    '<v:rect href="https://c.example/">',
    "</body>",
    "\x00",
]
soup = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)


@given(soup)
def test_any_html_comes_back_as_it_was(html: str) -> None:
    page = _page.Page.of(html)
    assert page.html({}) == html
    marked = page.html(dict.fromkeys(range(len(page.links)), "\ue000"))
    assert marked.count("\ue000") == len(page.links)
    assert re.fullmatch(re.escape(marked).replace("\ue000", ".*?"), html, re.DOTALL)
    page.text({})


@given(soup, st.lists(st.integers(0, 200)), st.sampled_from([1, 2, 40]))
@example("<a href='" + "x" * 60 + "'>5 < 6</a>", list(range(80)), 1)
@example("<!--" + ">" * 60 + "--><b>x</b></body>", list(range(80)), 1)
@example("<style>a</style", [9, 14], 1)
@example("</>>", [1, 3], 40)
@example("<title>News</title><p hidden>x</p><p>a &am" + "p; b</p>", [7, 11, 40, 43], 1)
def test_where_a_page_is_cut_into_pieces_changes_nothing(html: str, cuts: list[int], times: int) -> None:
    html *= times
    borders = sorted({0, len(html), *(cut for cut in cuts if cut < len(html))})
    pieces = [html[begin:end] for begin, end in pairwise(borders)]
    whole, cutter = _page.Page.of(html), _page.PageCutter(pieces[::2])
    # From the second time on the pieces are remembered, and how they read as text as well; a link reads differently
    # where there is no address to show, or where it is the label.
    for address in ("https://t.example/{}", "https://t.example/{}", "https://t.example/1{}", "text", "#", "mailto:x"):
        page = cutter.cut(pieces)
        hrefs = {number: address.format(number) for number in range(len(whole.links))}
        assert page.links == whole.links
        assert page.html(hrefs, first="[first]", last="[last]") == whole.html(hrefs, first="[first]", last="[last]")
        assert page.text(hrefs) == whole.text(hrefs)


WORDS = (
    "Ann", "Ann Lee", " Ann", "Ann ", "", " ", "-", "&amp;", "a &amp; b", "&am", "p;", "&", "amp;x", "&nbsp;", "\xa0",
    "\u3000", "山田", "a  b", "a\nb", "\v", "\ue000w0\ue001", "\ue000", "https://a.example/", "5 <", "<b>", "#",
    "<a href='https://a.example/'>",
)  # fmt: skip


@given(
    st.lists(st.sampled_from([*FRAGMENTS, "<p>", "</p>", " ", "&", "&am", "p;", "-"]), min_size=1, max_size=12),
    st.lists(st.lists(st.sampled_from(WORDS), min_size=12, max_size=12), min_size=4, max_size=6),
)
@example(["<a href='https://a.example/'>", "</a>"], [[each, *[""] * 11] for each in ("x", "y", "https://a.example/")])
@example(["<p>a", "b &am", "<i>c"], [[each, other, *["y"] * 10] for each in ("x", *WORDS) for other in ("x", "p; z")])
@example(["<ul><li>", "<p>", "</ul>"], [[each, "x", *["y"] * 10] for each in ("x", "y", "-")])
def test_a_text_with_other_words_in_it_reads_as_if_told_from_the_beginning(
    fixed: list[str], mails: list[list[str]]
) -> None:
    cutter = _page.PageCutter(fixed)
    for words in (mails[0], *mails):
        pieces = [piece for pair in zip(fixed, words, strict=False) for piece in pair]
        page = cutter.cut(pieces)
        for hrefs in ({}, dict.fromkeys(range(len(page.links)), "https://t.example/c")):
            assert page.text(hrefs) == _page.Page.of("".join(pieces)).text(hrefs)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "<!DOCTYPE html>",
        "<!doctype html>\n<html lang='en'>\n<head><meta charset=utf-8><title>a > b</title></head>",
        "<!DOCTYPE html><title>News</title><style>p > a { color: red }</style><link href='a>b'>",
        "<!-- made by hand --><!DOCTYPE html><html><HEAD></HEAD>",
    ],
)
def test_without_a_body_tag_the_preheader_stands_behind_the_head(head: str) -> None:
    message = render(f"{head}\n<p>Hello</p>", preheader="Look inside")
    assert message.html.startswith(f'{head}<div style="display:none')
    assert "</div>\n<p>Hello</p>" in message.html
    assert _page.Page.of(f"{head}<p>x").html({}, first="[first]", last="[last]") == f"{head}[first]<p>x[last]"


@given(soup)
def test_what_is_put_into_any_page_leaves_the_rest_as_it_was(html: str) -> None:
    put = _page.Page.of(html).html({}, first="\ue000", last="\ue001")
    assert put.count("\ue000") == put.count("\ue001") == 1
    assert put.replace("\ue000", "").replace("\ue001", "") == html


text_soup = st.lists(
    st.sampled_from(
        ["https://a.example/(x)", "http", "s://b.example/?q=1&r=2", ".", ")", " ", "日本", "\n", "x", "HTTPS://c/"]
    )
).map("".join)


@given(text_soup, st.lists(st.integers(0, 200)))
def test_where_a_text_is_cut_into_pieces_changes_nothing(text: str, cuts: list[int]) -> None:
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[begin:end] for begin, end in pairwise(borders)]
    whole = _links.TextCutter().replace([text], lambda url: f"[{url}]")
    cutter = _links.TextCutter(pieces)
    assert [cutter.replace(pieces, lambda url: f"[{url}]") for _ in range(2)] == [whole, whole]
    assert whole.replace("[", "").replace("]", "") == text


class Reader(HTMLParser):
    """What the standard library's parser sees: tags with attributes, and texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.seen: list[object] = []
        self.links: list[str | None] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(reversed(attrs)).get("href"))
        self.seen.append((tag, [(name, None if name == "href" else value) for name, value in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen.append(("text", data))

    def handle_comment(self, data: str) -> None:
        self.seen.append(("comment", data))

    def handle_entityref(self, name: str) -> None:
        self.seen.append(("entity", name))


attribute = st.sampled_from(["title", "CLASS", "data-x", "style"]).flatmap(
    lambda name: st.sampled_from(
        [f"{name}", f"{name}=x", f'{name}="a > b"', f"{name}='<a href=\"https://no.example/\">'"]
    )
)
url = st.text(st.sampled_from("abz/?=&#%+;:@!*'()[]. ~-_é日"), max_size=20).map("https://host.example/".__add__)


@st.composite
def link_tags(draw: st.DrawFn) -> tuple[str, str]:
    """An `a` tag written in one of many ways, and its address."""
    address = draw(url)
    written = escape(address, quote=True)
    href = draw(st.sampled_from([f'href="{written}"', f"HREF = '{written}'", f"href\n=\t'{written}'"]))
    before, after = draw(st.lists(attribute, max_size=2)), draw(st.lists(attribute, max_size=2))
    return f"<a {' '.join([*before, href, *after])}>", address


@given(st.lists(st.one_of(link_tags(), st.sampled_from(["text", "<br/>", "<b x='>'>", "&eacute;", "<!-- <a> -->"]))))
def test_however_a_link_is_written_its_address_is_the_browsers_and_all_else_stays(
    pieces: list[tuple[str, str] | str],
) -> None:
    html = "".join(piece if isinstance(piece, str) else piece[0] for piece in pieces)
    expected = [piece[1] for piece in pieces if not isinstance(piece, str)]
    page = _page.Page.of(html)
    assert [link.href for link in page.links] == [address.strip() for address in expected]
    changed = page.html(dict.fromkeys(range(len(page.links)), "https://t.example/x"))
    before, after = Reader(html), Reader(changed)
    assert after.seen == before.seen
    assert after.links == ["https://t.example/x"] * len(expected)


@given(url)
def test_a_redirects_target_is_ascii_and_means_the_same_address(address: str) -> None:
    target = _links.link_target(address)
    assert target is not None
    assert target.isascii()
    assert quote(target, safe="!#$%&'()*+,/:;=?@[]~") == target
    for part in ("path", "query", "fragment"):
        assert getattr(urlsplit(target), part) == quote(
            getattr(urlsplit(address.rstrip(" ")), part), safe="!$%&'()*+,/:;=?@[]~#"
        )


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", '<a href="', "<a b='", "<!--", "<!--[if", "<script>", "</", "<a href=x", "&", "<a>x", "<p hidden>"],
)
def test_hostile_html_takes_linear_time(piece: str) -> None:
    html = piece * 40_000
    start = time.process_time()
    page = _page.Page.of(html)
    page.text({})
    assert page.html({}) == html
    assert time.process_time() - start < 10.0


# --- the text part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("one   two\n three", "one two three\n"),
        ("<h1>Head</h1><p>One</p><p>Two<br>Three</p>", "Head\n\nOne\n\nTwo\nThree\n"),
        ("<p>a <b>bold</b>, <i>italic</i>!</p>", "a bold, italic!\n"),
        ("<ul><li>One</li><li><p>Two</p></li></ul>After", "- One\n- Two\n\nAfter\n"),
        ("<table><tr><td>A</td><td>B</td></tr><tr><td>C</td></tr></table>", "A\nB\nC\n"),
        ("<a href='https://a.example/?x=1&amp;y=2'>Go</a>", "Go <https://a.example/?x=1&y=2>\n"),
        ("<a href='https://a.example/'>https://a.example/</a>", "https://a.example/\n"),
        ("<a href='https://a.example/'><img src=x alt='Our &amp; logo'></a>", "Our & logo <https://a.example/>\n"),
        ("<a href='https://a.example/'><img src=x></a>", "https://a.example/\n"),
        ("<a href='mailto:a@b.example'>a@b.example</a> <a href='tel:+81-3'>Call</a>", "a@b.example Call <+81-3>\n"),
        ("<a href=#top>Top</a> <a name=x>Anchor</a>", "Top Anchor\n"),
        ("<a href=https://a.example/>one <a href=https://b.example/>two", "one <https://a.example/> two\n"),
        ("<head><title>T</title><style>p{}</style></head><body><script>x</script>Seen", "Seen\n"),
        ("<div style='DISPLAY : none'>no<div>no</div>no</div><p hidden>no</p><p style='overflow:hidden'>yes", "yes\n"),
        ("<template><p>no</p></template><span style='visibility:hidden'>no</span>yes", "yes\n"),
        ("<!-- no --><!--[if mso]>no<![endif]--><!--[if !mso]><!-->yes<!--<![endif]-->", "yes\n"),
        ("&lt;b&gt; &copy 5 &nbsp;&nbsp; x", "<b> © 5    x\n"),
        ("<p>日本語の<br/>メール</p>", "日本語の\nメール\n"),
        ("a<br><br><br><br>b<hr>c", "a\n\nb\nc\n"),
        ("5 < 6 <unfinished", "5 < 6\n"),
    ],
)  # fmt: skip
def test_html_is_told_as_plain_text(html: str, text: str) -> None:
    assert _page.Page.of(html).text({}) == text


def test_without_a_text_template_the_text_has_the_same_links_as_the_html() -> None:
    message = render('<p><a href="https://a.example/">Go</a></p><p><a href="{{ unsubscribe_url }}">Bye</a></p>')
    (link,) = CLICK.finditer(message.html)
    assert message.text == f"Go <{link[0]}>\n\nBye <{UNSUBSCRIBE}>\n"


def test_the_authors_text_gets_the_htmls_links_and_its_own_are_numbered_after_them() -> None:
    message = render(
        '<a href="https://a.example/?x=1&amp;y=2">Go</a><a data-abmail-notrack href="https://kept.example/">x</a>',
        text_template="Go: https://a.example/?x=1&y=2. (See https://b.example/(c).)\n詳細はhttps://c.example/をどうぞ。"
        "https://kept.example/ nohttps://d.example/\n{{ unsubscribe_url }}\n",
    )
    (in_html,) = CLICK.finditer(message.html)
    _, second, third = CLICK.finditer(message.text)
    assert message.text == (
        f"Go: {in_html[0]}. (See {second[0]}.)\n詳細は{third[0]}をどうぞ。https://kept.example/ nohttps://d.example/\n{UNSUBSCRIBE}"
    )
    for number, match in ((2, second), (3, third)):
        target = parse_qs(f"u={match[2]}")["u"][0]
        token = SIGNER.verify("c", match[1], target=target)
        assert token is not None
        assert (token.link, target) == (number, ["https://b.example/(c)", "https://c.example/"][number - 2])


def test_the_authors_text_is_not_escaped_and_leaves_no_lines_of_tags_behind() -> None:
    text = "Dear {{ recipient.name }},\n{% if true %}\n  A & B\n{% endif %}\nEnd"
    message = render(text_template=text, recipient=person(name="O'Hara <x>"))
    assert message.text.startswith("Dear O'Hara <x>,\n  A & B\nEnd\n")


# --- pixel, footer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "before"),
    [
        ("<html><body><p>x</p></BODY ></html>", "</BODY ></html>"),
        ("<p>x</p></html>", "</html>"),
        ("<p>x</p>", ""),
        ("</body><!-- </body> --><p></body></html>", "</body></html>"),
    ],
)
def test_pixel_and_footer_stand_at_the_end_of_the_body(html: str, before: str) -> None:
    rendered = render(html).html
    assert without_additions(rendered) == html
    (pixel,) = PIXEL.finditer(rendered)
    assert rendered[pixel.end() :] == before
    token = SIGNER.verify("o", pixel[1])
    assert token is not None
    assert token.message_id == MESSAGE_ID


@pytest.mark.parametrize(("language", "label"), [("en", "Unsubscribe"), ("ja", "配信停止")])
def test_a_mail_without_unsubscribe_link_gets_one_in_its_language(language: str, label: str) -> None:
    message = render("<p>x</p><!-- {{ unsubscribe_url }} -->", text_template="Hello", language=language)
    assert f'<a href="{UNSUBSCRIBE}">{label}</a>' in message.html
    assert message.text == f"Hello\n\n{label}: {UNSUBSCRIBE}\n"


def test_a_mail_with_an_unsubscribe_link_gets_no_second_one() -> None:
    message = render('<a href="{{ unsubscribe_url }}">Bye</a>', text_template="Bye: {{ unsubscribe_url }}")
    assert message.html.count(UNSUBSCRIBE) == message.text.count(UNSUBSCRIBE) == 1
    token = SIGNER.verify("u", UNSUBSCRIBE.rpartition("/")[2])
    assert token is not None
    assert token.message_id == MESSAGE_ID


# --- templates --------------------------------------------------------------------------------------------------------


def test_texts_of_the_cell_reach_the_template_escaped_and_with_their_own_variables_filled() -> None:
    factors = {
        "subject": {"a": "For {{ recipient.name }} & you"},
        "cta": {"x": "Go >", "y": "Now"},
        "from_name": {"n": "{{ recipient.company }} desk"},
    }
    message = render(
        "{{ subject }}|{{ cta }}|{{ from_name }}|{{ preheader }}|{{ experiment }}|{{ cell }}|{{ language }}",
        factors=factors,
        recipient=person(name="<b>", company="ACME"),
        preheader="30 min, {{ recipient.name }}",
        language="ja",
    )
    assert without_additions(message.html) == (
        "For &lt;b&gt; &amp; you|Go &gt;|ACME desk|30 min, &lt;b&gt;|spring|a+x+n|ja"
    )
    assert message.subject == "For <b> & you"
    assert parsed(message.raw)["From"].addresses[0].display_name == "ACME desk"


def test_without_factors_the_fixed_texts_of_the_definition_are_used() -> None:
    factors = {"cta": {"a": "Go", "b": "Now"}}
    message = render("{{ from_name }}|{{ preheader }}", factors=factors, subject="Hi {{ recipient.name }}")
    assert message.subject == "Hi Ann"
    assert without_additions(message.html) == "Sales|"


@pytest.mark.parametrize(
    ("source", "html", "text"),
    [
        (
            "One & two\n\nthree\nfour {{ recipient.name }}",
            "<p>One &amp; two</p>\n<p>three<br>\nfour &lt;i&gt;</p>",
            "One & two\n\nthree\nfour <i>",
        ),
        (
            "<p>One &amp; {{ recipient.name }}</p><b>x</b>",
            "<p>One &amp; &lt;i&gt;</p><b>x</b>",
            "One & <i>\n\nx",
        ),
    ],
)
def test_a_body_is_html_when_it_has_tags_and_text_when_it_has_none(source: str, html: str, text: str) -> None:
    message = render(
        "[{{ body }}]",
        text_template="[{{ body }}]",
        factors={"body": {"a": source, "b": "x"}},
        recipient=person(name="<i>"),
    )
    assert without_additions(message.html) == f"[{html}]"
    assert message.text.startswith(f"[{text}]\n")


def test_links_of_a_body_are_tracked_in_both_parts() -> None:
    factors = {"body": {"a": '<p><a href="https://a.example/">Go</a></p>', "b": "x"}}
    message = render("{{ body }}", text_template="{{ body }}", factors=factors)
    (in_html,), (in_text,) = CLICK.finditer(message.html), CLICK.finditer(message.text)
    assert in_html[0] == in_text[0]


def test_recipients_columns_are_reached_by_name_or_as_items() -> None:
    recipient = Recipient(
        id="u-1",
        email="ann@example.com",
        attributes={"name": "Ann", "会社名": "山田", "job title": "CEO", "items": "7"},
    )
    template = "{{ recipient.name }} {{ recipient.会社名 }} {{ recipient['job title'] }} {{ recipient.items }}"
    assert without_additions(render(template, recipient=recipient).html) == "Ann 山田 CEO 7"


@pytest.mark.parametrize(
    "guarded",
    ["{{ recipient.x | default('') }}", "{% if recipient.x is defined %}no{% endif %}", "{{ cta | default('') }}"],
)
def test_a_guarded_name_may_be_missing(guarded: str) -> None:
    assert without_additions(render(f"<p>{guarded}</p>").html) == "<p></p>"


@pytest.mark.parametrize(
    ("template", "line", "variable", "message"),
    [
        ("<p>\n{{ recipient.nmae }}", 2, "recipient.nmae", "recipient.nmae is not defined; there is recipient.name"),
        (
            "{% if recipient.zip %}{% endif %}",
            1,
            "recipient.zip",
            "there is recipient.email, recipient.id, recipient.name",
        ),
        ("{{ recipient['job title'] }}", 1, "recipient['job title']", "is not defined"),
        ("\n\n{{ subjct }}", 3, "subjct", "subjct is not defined; there is subject"),
        ("{{ cta ~ 'x' }}", 1, "cta", "cta is not defined; there is body, cell"),
    ],
)
def test_a_missing_name_is_an_error_with_line_variant_and_the_nearest_names(
    template: str, line: int, variable: str, message: str
) -> None:
    with pytest.raises(RenderError) as caught:
        render(template, factors={"subject": {"plain": "x", "other": "y"}, "body": {"only": "z"}})
    error = caught.value
    assert str(error).startswith(f"mails/spring.html.j2, line {line}, variant 'plain+only': {variable} is not defined")
    assert message in str(error)
    assert (error.template, error.line, error.variant, error.variable) == (
        "mails/spring.html.j2",
        line,
        "plain+only",
        variable,
    )
    assert f"{{{{ {variable} | default('') }}}}" in error.hint


def test_an_error_in_a_text_of_the_definition_names_the_text() -> None:
    with pytest.raises(RenderError, match=r"^factors\.subject\.other, line 1, variant 'other': recipient\.naem"):
        render(factors={"subject": {"plain": "x", "other": "Hi {{ recipient.naem }}"}}, cell=1)
    with pytest.raises(RenderError, match=r"^factors\.subject\.other, line 1: "):
        render(factors={"subject": {"plain": "x", "other": "Hi {% if %}"}})
    with pytest.raises(RenderError, match=r"^message\.preheader, line 1, variant 'plain': x is not defined"):
        render(preheader="{{ x }}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{% include 'b' %}", "line 2, variant 'plain': there is no template 'b' beside it"),
        ("{% extends 'b' %}", "line 1, variant 'plain': there is no template 'b' beside it"),
        ("a\n{% include subject %}", "line 2: the name of another template must be a text in quotes"),
        ("{% from cta import b %}", "line 1: the name of another template must be a text in quotes"),
        ("\n{% for %}", "line 2: "),
        ("{{ x | random }}", "No filter named 'random'"),
        ("{{ ''.__class__.__mro__ }}", "line 1, variant 'plain': SecurityError"),
        ("{{ recipient._values }}", "SecurityError"),
        ("{% set x = [] %}{{ x.append(1) }}", "SecurityError"),
        ("{% for i in range(999999999) %}{% endfor %}", "OverflowError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ lipsum() }}", "lipsum is not defined"),
        (f"{{{{ 'é' * {MAX_OUTPUT // 2 + 1} }}}}", "more than 1000000 octets"),
        ("{% for i in range(9000) %}{{ 'x' * 199 }}{% endfor %}", "more than 1000000 octets"),
    ],
)
def test_a_template_cannot_load_loop_reach_out_or_fail_without_a_clear_error(template: str, message: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(template)
    assert message in str(caught.value)
    assert caught.value.template == "mails/spring.html.j2"
    assert caught.value.hint


BOMBS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% block b %}{% endblock %}{% for i in range(99999) %}{{ self.b() }}{{ self.b() }}{{ self.b() }}{% endfor %}",
    "{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = '%s%s' % (n.x, n.x) %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{{ 'x' * 9999999999 }}",
    "{{ [1] * 9999999999 }}",
    "{{ 10 ** 9999999999 }}",
    "{% set n = namespace(x=9999) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (9999999999, 1) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, '9999999999') }}",
    "{{ 'x'.center(9999999999) }}",
    "{{ ('\t' * 99999).expandtabs(99999) }}",
    "{{ 'x' | center(9999999999) }}",
    "{{ 'x\nx' | indent(9999999999) }}",
    "{{ [] | slice(9999999999) | list }}",
    "{{ ('x' * 999999) | replace('x', 'y' * 999999) }}",
    "{{ ('x' * 999999).replace('x', 'y' * 999999) }}",
    "{{ range(99999) | map('center', 99999) | list }}",
    "{{ ('x' * 99999).join(range(99999) | map('string')) }}",
    "{% set x = 'x' * 999999 %}{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}",
    "{% set y %}{% for i in range(99999) %}" + "x" * 99_999 + "{% endfor %}{% endset %}",
    "{% filter upper %}{% for i in range(99999) %}" + "x" * 99_999 + "{% endfor %}{% endfilter %}",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:60])
def test_no_template_holds_a_worker_up_or_fills_its_memory(bomb: str) -> None:
    start = time.thread_time()
    with pytest.raises(RenderError, match=r"more than|RecursionError"):
        render(bomb)
    assert time.thread_time() - start < 10.0


def test_a_template_that_takes_too_long_is_stopped_in_any_thread_and_the_next_mail_has_its_own_time() -> None:
    slow = "{% set x = 'ab' * 99999 %}{% for i in range(99999) %}{% set y = x | replace('a', 'b') %}{% endfor %}"
    definition = experiment()
    ticks = iter(range(1_000_000))
    renderer = Renderer(
        experiment=definition, template=f"{{% if recipient.name == 'Ann' %}}{slow}{{% endif %}}ok", tracker_url=TRACKER,
        signer=SIGNER, clock=lambda: next(ticks) / 10,
    )  # fmt: skip

    def made(name: str) -> str:
        return renderer.render(
            cell=definition.cells[0], recipient=person(name=name), message_id=MESSAGE_ID, now=NOW
        ).text.partition("\n")[0]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(made, "Ann"), pool.submit(made, "Bob")
        with pytest.raises(RenderError, match="more than 2 seconds; does a loop never end"):
            first.result()
        assert second.result() == made("Bob") == "ok"


@pytest.mark.parametrize(
    ("source", "english", "japanese"),
    [
        ("'2026-11-27' | date", "27 November 2026", "2026年11月27日"),
        ("'2026/3/1' | date(weekday=true)", "Sunday, 1 March 2026", "2026年3月1日(日)"),
        ("'2026-11-27' | date(weekday=true)", "Friday, 27 November 2026", "2026年11月27日(金)"),
        ("'2026-11-27T09:30' | date(era=true)", "27 November 2026", "令和8年11月27日"),
        ("'2019年4月30日' | date(era=true)", "30 April 2019", "平成31年4月30日"),
        ("'2019-05-01' | date(era=true)", "1 May 2019", "令和元年5月1日"),
        ("'1900-01-01' | date(era=true)", "1 January 1900", "1900年1月1日"),
        ("'2026-11-27' | short_date(weekday=true)", "Friday, 27 November", "11月27日(金)"),
        ("'2026-11-27' | short_date", "27 November", "11月27日"),
        ("'2026-11-27' | date(language='ja')", "2026年11月27日", "2026年11月27日"),
        ("'2026-11-27 09:05' | time", "09:05", "9時05分"),
        ("'2026-11-27T18:00:00+09:00' | time", "18:00", "18時"),
        ("'山田 太郎' | honorific", "山田 太郎", "山田 太郎 様"),
        ("'山田' | honorific('さん')", "さん 山田", "山田さん"),
        ("'山田様 ' | honorific", "山田様", "山田様"),
        ("'株式会社山田' | honorific('御中')", "御中 株式会社山田", "株式会社山田 御中"),
        ("' ' | honorific(missing='お客様')", "お客様", "お客様"),
        ("'Ann Lee' | honorific('Dr')", "Dr Ann Lee", "Ann Lee Dr"),
        ("'山田　太郎' | family_name", "太郎", "山田"),
        ("'山田　太郎' | given_name", "山田", "太郎"),
        ("'' | family_name ~ '' | given_name", "", ""),
        ("'1234567' | number", "1,234,567", "1,234,567"),
        ("'-1,234.50' | number", "-1,234.50", "-1,234.50"),
        ("1234 | number(2)", "1,234.00", "1,234.00"),
    ],
)
def test_dates_names_and_numbers_are_written_as_the_mails_language_does(
    source: str, english: str, japanese: str
) -> None:
    for language, written in (("en", english), ("ja", japanese)):
        assert without_additions(render(f"{{{{ {source} }}}}", language=language).html) == written


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("'2026-02-30' | date", "'2026-02-30' is no date: day is out of range for month"),
        ("'next week' | date", "'next week' is no date such as 2026-11-27"),
        ("'2026-02-03' | time", "'2026-02-03' has no time of day"),
        ("'many' | number", "'many' is no number"),
        ("'1' | number(99)", "'1' is no number"),
    ],
)
def test_a_value_that_a_filter_cannot_write_is_an_error_that_shows_it(source: str, message: str) -> None:
    with pytest.raises(RenderError, match=re.escape(message)):
        render(f"{{{{ {source} }}}}")


def test_an_output_at_the_limit_is_written() -> None:
    assert without_additions(render(f"{{{{ 'x' * {MAX_OUTPUT} }}}}").html) == "x" * MAX_OUTPUT


def test_a_subject_is_required() -> None:
    with pytest.raises(RenderError, match="subject is empty"):
        render(factors={"subject": {"a": "{{ '' }}", "b": "x"}})


def test_a_cell_of_another_experiment_is_a_wrong_argument() -> None:
    other = experiment({"subject": {"elsewhere": "x", "b": "y"}})
    renderer = Renderer(experiment=experiment(), template="", tracker_url=TRACKER, signer=SIGNER)
    with pytest.raises(ValueError, match="cell 'elsewhere'"):
        renderer.render(cell=other.cells[0], recipient=person(), message_id=MESSAGE_ID, now=NOW)


def test_a_time_without_zone_is_a_wrong_argument() -> None:
    definition = experiment()
    renderer = Renderer(experiment=definition, template="", tracker_url=TRACKER, signer=SIGNER)
    with pytest.raises(ValueError, match="time zone"):
        renderer.render(cell=definition.cells[0], recipient=person(), message_id=MESSAGE_ID, now=datetime(2026, 3, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "tracker",
    ["t.example.com", "ftp://t.example", "https://", "https://t.example/?a=1", "https://a'b/", "https://t.example/ x"],
)
def test_a_tracker_address_that_cannot_carry_links_is_refused(tracker: str) -> None:
    with pytest.raises(ConfigError, match="tracker") as caught:
        Renderer(experiment=experiment(), template="", tracker_url=tracker, signer=SIGNER)
    assert "ABMAIL_TRACKER_URL" in caught.value.hint


def test_a_path_and_a_closing_slash_of_the_tracker_are_kept_in_order() -> None:
    definition = experiment()
    renderer = Renderer(experiment=definition, template="", tracker_url="http://localhost:8000/mail/", signer=SIGNER)
    message = renderer.render(cell=definition.cells[0], recipient=person(), message_id=MESSAGE_ID, now=NOW)
    assert 'src="http://localhost:8000/mail/o/' in message.html


# --- template files ---------------------------------------------------------------------------------------------------


def test_a_template_is_read_from_the_project_folder(tmp_path: Path) -> None:
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "a.html.j2").write_bytes("\ufeff日本語\r\n".encode())
    assert read_template(tmp_path, "mails/a.html.j2") == "日本語\r\n"


def test_a_template_that_cannot_be_read_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "spring.html.j2").write_bytes(b"ok\n\xff")
    (tmp_path / "large.html.j2").write_bytes(b"x" * (MAX_OUTPUT + 1))
    with pytest.raises(RenderError, match="cannot be read") as caught:
        read_template(tmp_path, "sprnig.html.j2")
    assert caught.value.hint == "did you mean spring.html.j2?"
    with pytest.raises(RenderError, match="not UTF-8") as caught:
        read_template(tmp_path, "spring.html.j2")
    assert caught.value.line == 2
    with pytest.raises(RenderError, match="1000001 bytes"):
        read_template(tmp_path, "large.html.j2")
    with pytest.raises(RenderError, match="cannot be read"):
        read_template(tmp_path, "")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_template_outside_the_project_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RenderError, match="outside the project folder"):
        read_template(tmp_path, name)


def test_a_link_that_leads_out_of_the_project_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a.j2").symlink_to(tmp_path / "secret")
    with pytest.raises(RenderError, match="outside the project folder"):
        read_template(tmp_path / "project", "a.j2")


class Balance(HTMLParser):
    """Collects what a well-kept HTML mail must have; fails on tags that don't match."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("name", [None, "", "Ann <b>"])
@pytest.mark.parametrize("factor", ["subject", "cta", "preheader", "from_name", "body"])
def test_the_starter_template_makes_a_sound_mail_for_every_kind_of_experiment(
    language: str, name: str | None, factor: str
) -> None:
    recipient = person() if name is None else person(name=name)
    message = render(
        starter_template(), factors={factor: {"a": "A & B", "b": "C"}}, recipient=recipient, language=language
    )
    page = Balance(message.html)
    assert not page.open
    assert page.tags[0] == ("html", page.tags[0][1])
    assert page.tags[0][1]["lang"] == language
    assert all("alt" in attrs for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("role") == "presentation" for tag, attrs in page.tags if tag == "table")
    assert len(targets(message.html)) == 1
    assert message.html.count(UNSUBSCRIBE) == 1
    assert "utm_campaign=spring&utm_content=a" in targets(message.html)[0]
    greeting = {"en": ("Ann <b>,", "Hello,"), "ja": ("Ann <b> 様", "こんにちは。")}[language][0 if name else 1]
    assert message.text.startswith(greeting + "\n\n")
    assert len(message.html.encode()) < 20_000


# --- headers and bytes ------------------------------------------------------------------------------------------------


def headers_of(raw: bytes) -> dict[str, str]:
    head = raw.partition(b"\r\n\r\n")[0].decode()
    return dict(line.split(": ", 1) for line in re.sub(r"\r\n[ \t]", " ", head).split("\r\n"))


def test_headers_are_complete_and_in_order() -> None:
    message = render(mailto="leave@example.com", reply_to='"Help, desk" <help@example.com>')
    headers = headers_of(message.raw)
    assert list(headers) == [
        "From", "To", "Subject", "Date", "Message-ID", "Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post",
        "List-Id", "Feedback-ID", "X-Abmail-Message", "MIME-Version", "Content-Type",
    ]  # fmt: skip
    assert headers["From"] == "Sales <news@example.com>"
    assert headers["To"] == "ann@example.com"
    assert headers["Date"] == "Sun, 01 Mar 2026 09:30:00 +0000"
    assert headers["Message-ID"] == message.header_id == f"<{MESSAGE_ID}@example.com>"
    assert headers["Reply-To"] == '"Help, desk" <help@example.com>'
    assert headers["List-Unsubscribe"] == f"<{UNSUBSCRIBE}>, <mailto:leave@example.com?subject=unsubscribe>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["List-Id"] == "<news.example.com>"
    assert headers["X-Abmail-Message"] == message.message_id == MESSAGE_ID
    assert (message.sender, message.recipient) == ("news@example.com", "ann@example.com")


def test_the_unsubscribe_address_stands_whole_in_the_bytes() -> None:
    assert f"List-Unsubscribe: <{UNSUBSCRIBE}>\r\n".encode() in render().raw


@pytest.mark.parametrize("length", [30, 78, 250, 800])
@pytest.mark.parametrize("mailto", [None, "leave@example.com", "leave+" + "x" * 50 + "@example.com"])
def test_the_list_headers_are_addresses_in_angle_brackets_however_long_they_are(
    length: int, mailto: str | None
) -> None:
    """RFC 2369, section 2, and RFC 2919, section 3, read strictly; the standard library would encode the long ones."""
    tracker = "https://t.example.com/".ljust(length, "p")
    definition = experiment()
    renderer = Renderer(
        experiment=definition, template="", tracker_url=tracker, signer=SIGNER, unsubscribe_mailto=mailto
    )
    raw = renderer.render(cell=definition.cells[0], recipient=person(), message_id=MESSAGE_ID, now=NOW).raw
    address = f"{tracker}/u/{SIGNER.sign('u', MESSAGE_ID)}"
    assert f"<{address}>".encode() in raw
    head = raw.partition(b"\r\n\r\n")[0]
    found = re.search(rb"\r\nList-Unsubscribe: ([^\r\n]*(?:\r\n[ \t]+[^\r\n]+)*)", head)
    assert found is not None
    items = re.fullmatch(r"<([!-;=?-~]+)>(?:,(?:\r\n)?[ \t]+<([!-;=?-~]+)>)?", found[1].decode("ascii"))
    assert items is not None
    assert items.groups() == (address, mailto and f"mailto:{mailto}?subject=unsubscribe")
    assert re.search(rb"\r\nList-Id: <[A-Za-z0-9.\-]+>\r\n", head)
    assert max(map(len, head.split(b"\r\n"))) <= 998


def test_the_feedback_id_tells_variant_campaign_stream_and_sender_and_no_person() -> None:
    factors = {"subject": {"number-3": "x", "数字": "y"}}
    first, second = (headers_of(render(factors=factors, cell=cell).raw)["Feedback-ID"] for cell in (0, 1))
    assert re.fullmatch(r"number-3:spring:abmail:[0-9a-f]{12}", first)
    assert second == first.replace("number-3", "cell1")


def test_dates_of_other_zones_are_written_in_utc() -> None:
    definition = experiment()
    renderer = Renderer(experiment=definition, template="", tracker_url=TRACKER, signer=SIGNER)
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    made = [
        renderer.render(cell=definition.cells[0], recipient=person(), message_id=MESSAGE_ID, now=now).raw
        for now in (NOW, tokyo)
    ]
    assert made[0] == made[1]


def test_the_same_message_is_made_of_the_same_bytes() -> None:
    assert render(NEWSLETTER) == render(NEWSLETTER)


def test_domains_go_out_as_a_labels() -> None:
    message = render(recipient=person(normalise_email("ann@bücher.example")), sender="Sales <news@straße.example>")
    assert message.recipient == "ann@xn--bcher-kva.example"
    assert message.sender == "news@xn--strae-oqa.example"
    assert message.header_id == f"<{MESSAGE_ID}@xn--strae-oqa.example>"
    assert message.raw.isascii()


def test_a_local_part_outside_ascii_is_written_raw() -> None:
    message = render(recipient=person(normalise_email("用户@example.com")))
    assert "To: 用户@example.com\r\n".encode() in message.raw


def test_a_japanese_mail_uses_base64_and_an_english_one_stays_readable() -> None:
    japanese, english = (
        render("<p>" + "日本語のメールです。" * 30 + "</p>"),
        render("<p>" + "Hello you. " * 30 + "</p>"),
    )
    assert japanese.raw.count(b"Content-Transfer-Encoding: base64") == 2
    assert english.raw.count(b"Content-Transfer-Encoding: quoted-printable") == 2
    assert b"Hello you." in english.raw


def test_subject_and_names_in_japanese_with_emoji_arrive() -> None:
    subject = "【無料】春のウェビナー🌸👩‍💻に今すぐ参加しませんか? 3つの方法でレポート時間を40%短縮します"
    message = render(factors={"subject": {"a": subject, "b": "x"}}, sender="営業部 🌸 <news@example.com>")
    assert message.subject == subject
    read = parsed(message.raw)
    assert read["Subject"] == subject
    assert read["From"].addresses[0].display_name == "営業部 🌸"
    assert message.raw.isascii()


@given(any_text, any_text)
@example("--=_", ".\n..\n.")
@example(_mime.boundary("x"), f"--{_mime.boundary('x')}--\n--{_mime.boundary('x')}")
@example("trailing \t\n space ", "\r lone \r\r\n")
@example("x" * 3000, "=" * 3000)
def test_any_text_and_html_come_back_from_the_bytes(text: str, html: str) -> None:
    raw = _mime.message_bytes([], text=text, html=html, separator=_mime.boundary("x"))
    message = parsed(raw)
    assert not message.defects
    for kind, original in (("plain", text), ("html", html)):
        assert body(message, kind) == original.replace("\r\n", "\n").replace("\r", "\n")
    assert raw.isascii()
    assert raw.count(b"\r\n") == raw.count(b"\r") == raw.count(b"\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 78


@given(header_text)
@example("=?utf-8?b?SGVsbG8=?=")
@example("a  b")
@example(("word " * 40).strip())
@example("x" * 2000)
@example(("word " * 250).strip() + "x" * 900)
@example("\u3000全角\u3000" * 20)
@example("👩‍👩‍👧‍👦" * 30)
@example("If you can read this you understand the example.")  # this and the next three: RFC 2047, section 8
@example("Keld Jørn Simonsen, André Pirard")
@example("Nathaniel Borenstein (םולש ןב ילטפנ)")
@example("(a b)")
def test_any_subject_comes_back_in_lines_and_words_of_legal_length(text: str) -> None:
    raw = _mime.text_header("Subject", text)
    assert parsed(raw + b"\r\n")["Subject"] == text
    assert raw.isascii()
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= (76 if b"=?" in line else 998) for line in lines)
    assert all(line.strip() for line in lines)
    words = re.findall(rb"=\?utf-8\?b\?[^?]*\?=", raw)
    assert all(len(word) <= 75 for word in words)
    decoded = [decode_header(word.decode())[0] for word in words]
    assert all(isinstance(part, bytes) and part.decode(charset or "") is not None for part, charset in decoded)


@given(header_text)
@example('Sales, "the" team \\ <x@y>')
@example("a.b")
@example("O'Hara")
@example("x" * 200)
@example("=?utf-8?q?x?=")
def test_any_display_name_comes_back_beside_its_address(name: str) -> None:
    raw = _mime.address_header("From", "news@example.com", name)
    if raw.count(b"=?") > 1:  # the newer parser of Python 3.11 puts spaces between the words of a phrase
        phrase = raw.decode().removeprefix("From: ").partition("<")[0]
        assert str(make_header(decode_header(phrase.strip()))) == name
    else:
        (address,) = parsed(raw + b"\r\n")["From"].addresses
        assert (address.display_name, address.addr_spec) == (name, "news@example.com")
    assert re.search(rb"[ <]news@example\.com>?\r\n$", raw)
    assert all(len(line) <= (76 if b"=?" in line else 998) for line in raw.split(b"\r\n"))


@given(header_text, st.sampled_from(FORBIDDEN), header_text)
def test_no_control_character_gets_into_any_header(before: str, control: str, after: str) -> None:
    value = before + control + after
    attempts: list[Callable[[], bytes]] = [
        lambda: _mime.text_header("Subject", value),
        lambda: _mime.address_header("From", "news@example.com", value),
        lambda: _mime.address_header("To", f"ann{value}@example.com"),
        lambda: _mime.structured_header("List-Id", value),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match=r"control character|ASCII"):
            attempt()


@pytest.mark.parametrize("control", FORBIDDEN)
@pytest.mark.parametrize("place", ["subject", "from_name"])
def test_a_recipients_attribute_cannot_inject_a_header(place: str, control: str) -> None:
    factors = {place: {"a": "Hi {{ recipient.name }}", "b": "x"}}
    for name in (f"Ann{control}Bcc: all@example.com", f"Ann{control}", f"{control}Ann"):
        with pytest.raises(RenderError, match="control character") as caught:
            render(factors=factors, recipient=person(name=name))
        assert caught.value.variant == "a"
        assert "Bcc" not in str(caught.value)


def test_half_a_surrogate_pair_is_a_clear_error() -> None:
    with pytest.raises(RenderError, match="half of a surrogate pair"):
        render("{{ recipient.name }}", recipient=person(name="\ud83d"))
    with pytest.raises(RenderError, match="Subject holds half of a surrogate pair"):
        render(factors={"subject": {"a": "{{ recipient.name }}", "b": "x"}}, recipient=person(name="\ud83d"))


@pytest.mark.parametrize(
    "address", ["no-at", "a b@c.example", "a@b, c@d.example", "a@日本.example", "<a@b.example>", "@b"]
)
def test_an_address_that_cannot_be_written_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="To holds no address"):
        _mime.address_header("To", address)


@pytest.mark.parametrize("item", ["日本", "x" * 1_000])
def test_a_structured_header_is_never_encoded_nor_cut(item: str) -> None:
    with pytest.raises(ValueError, match="List-Id must be ASCII and fit"):
        _mime.structured_header("List-Id", item)


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("Acme, Inc. <news@example.com>", "Acme, Inc."),
        ('"Acme, \\"Inc\\"" <news@example.com>', 'Acme, "Inc"'),
        ('The "real" Acme <news@example.com>', 'The "real" Acme'),
        ("Sales (Japan): news <news@example.com>", "Sales (Japan): news"),
        ("<news@example.com>", ""),
        ("news@example.com", ""),
    ],
)
def test_the_senders_name_arrives_as_it_is_written(sender: str, name: str) -> None:
    (address,) = parsed(render(sender=sender).raw)["From"].addresses
    assert (address.display_name, address.addr_spec) == (name, "news@example.com")


def test_a_sender_that_is_no_mailbox_is_refused() -> None:
    definition = experiment()
    broken = replace(definition, message=replace(definition.message, sender="Sales"))
    with pytest.raises(RenderError, match=r"message\.from is 'Sales'"):
        Renderer(experiment=broken, template="", tracker_url=TRACKER, signer=SIGNER)


@pytest.mark.parametrize("mailto", ["a@b.example\r\nBcc: x@y.example", "a@b.example>, <x", "日本@b.example", "a"])
def test_an_unsubscribe_mailbox_that_is_no_plain_address_is_refused(mailto: str) -> None:
    with pytest.raises(ConfigError, match="mailbox for unsubscribing"):
        render(mailto=mailto)


def test_a_whole_mail_is_read_back_by_the_standard_library() -> None:
    message = render(NEWSLETTER, text_template="日本語 & <b>\n.\n..\nhttps://a.example/\n")
    read = parsed(message.raw)
    assert read.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in read.iter_parts()] == ["text/plain", "text/html"]
    assert body(read, "plain") == message.text
    assert body(read, "html") == message.html.replace("\r\n", "\n")
    assert read["Subject"] == message.subject == "News"
    assert read["To"].addresses[0].addr_spec == "ann@example.com"


line = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=80)


@settings(max_examples=60, deadline=None)
@given(line, line, any_text, any_text)
@example("=?utf-8?q?=41?=", '"a" <b@c.example>', "\u0085\u2028 = =3D\n.\nFrom x", "<a href='https://a.example/'>")
@example("👩‍👩‍👧‍👦" * 20, "髙橋　はしご", "𠮷野家 ﾊﾝｶｸ ｱ", "\x00\x07\ufeff")
def test_a_whole_mail_of_any_characters_is_read_back_as_it_was_meant(
    subject: str, from_name: str, name: str, text: str
) -> None:
    definition = experiment(
        {"subject": {"a": "{{ recipient.subject }}", "b": "x"}, "from_name": {"n": "{{ recipient.from }}"}}
    )
    renderer = Renderer(
        experiment=definition, template="<p title='{{ recipient.name }}'>{{ recipient.text }}</p>",
        text_template="{{ recipient.text }}|{{ recipient.name }}", tracker_url=TRACKER, signer=SIGNER,
    )  # fmt: skip
    subject = subject.strip(" ") or "x"
    values = {"subject": subject, "from": from_name, "name": name, "text": text}
    message = renderer.render(
        cell=definition.cells[0], recipient=person("ann@example.com", **values), message_id=MESSAGE_ID, now=NOW
    )
    read = parsed(message.raw)
    assert not read.defects
    assert read["Subject"] == subject
    assert read["To"].addresses[0].addr_spec == "ann@example.com"
    assert body(read, "plain") == message.text.replace("\r\n", "\n").replace("\r", "\n")
    assert body(read, "html") == message.html.replace("\r\n", "\n").replace("\r", "\n")
    if CLICK.search(message.text) is None and "://" not in text:
        assert message.text.startswith(f"{text}|{name}".rstrip())
    # The slow way reads the same, so both mean the same.
    slow = EmailMessage(policy=policy.SMTP)
    slow.set_content(message.text, cte="base64")
    slow.add_alternative(message.html, subtype="html", cte="base64")
    again = parsed(slow.as_bytes())
    assert [body(again, kind).rstrip("\n") for kind in ("plain", "html")] == [
        body(read, kind).rstrip("\n") for kind in ("plain", "html")
    ]


@pytest.mark.parametrize(
    ("source", "readable"),
    [
        ("Join our webinar", "Join our webinar"),
        ("40 % off {{ recipient.name | default('you | me', true) }}!", "40 % off [recipient.name]!"),
        ("{{ recipient['会社名'] }} 様", "[recipient['会社名']] 様"),
        ("{%- if a -%} one {%- elif b -%} two {{ c }} {%- else -%} three {%- endif -%}", "one / two [c] / three"),
        ("{# a note #}Seen{% raw %} {% as it is %}{% endraw %}", "Seen {% as it is %}"),
        ("{% set x = 1 %}{{ x }}", "[x]"),
    ],
)
def test_a_text_that_is_a_template_is_shown_with_each_of_its_alternatives(source: str, readable: str) -> None:
    assert readable_text(source) == readable
