"""Recipients and the one spelling of an address."""

from __future__ import annotations

import pickle

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from abmail.recipient import Recipient, email_domain, normalise_email

LOCALS = st.text(alphabet="abzAZ019._+-'\"!@ <>\\(),:;İßéü山か\u0307\u200b\n", min_size=0, max_size=70)
DOMAINS = st.one_of(
    st.from_regex(r"[a-zA-Z0-9-]{1,12}(\.[a-zA-Z0-9-]{1,12}){0,3}\.?", fullmatch=True),
    st.sampled_from(["example.com", "EXAMPLE.com", "münchen.de", "xn--mnchen-3ya.de", "例え.jp", "b。com"]),
    st.sampled_from(
        ["localhost", "x.invalid", "1.2.3.4", "[1.2.3.4]", "a_b.com", "a..b.com", "xn--zz.com", "ab--c.de"]
    ),
)
ADDRESSES = st.builds(lambda local, domain: f"{local}@{domain}", LOCALS, DOMAINS)


def library_accepts(address: str) -> bool:
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return False
    return True


def ours(address: str) -> str | None:
    try:
        return normalise_email(address)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("typed", "identity"),
    [
        ("hanako@example.jp", "hanako@example.jp"),
        ("  Hanako@Example.JP\t", "hanako@example.jp"),
        ("\u3000hanako@example.jp\u3000", "hanako@example.jp"),
        ("a+tag@gmail.com", "a+tag@gmail.com"),
        ("user@MÜNCHEN.de", "user@xn--mnchen-3ya.de"),
        ("user@xn--MNCHEN-3YA.de", "user@xn--mnchen-3ya.de"),
        ("JOSE\u0301@example.com", "jos\u00e9@example.com"),
        ("a@b。com", "a@b.com"),
    ],
)
def test_an_address_has_one_spelling(typed: str, identity: str) -> None:
    assert normalise_email(typed) == identity


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "hanako",
        "@example.com",
        "a@",
        "a b@example.com",
        "a@b",
        "a..b@example.com",
        "Hanako <h@example.com>",
        "a@example.com\nBcc: b@example.com",
        "a@localhost",
        "a@example.test",
        '"a"@example.com',
        "a＠example.com",
    ],
)
def test_what_is_no_address_is_refused_in_words(typed: str) -> None:
    with pytest.raises(ValueError, match=r"is not a usable e-mail address: \w+"):
        normalise_email(typed)


def test_the_refusal_hides_the_person_and_stays_short() -> None:
    with pytest.raises(ValueError, match="is not a usable") as caught:
        normalise_email("hanako.yamada@" + "x" * 5_000)
    assert "hanako" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(ADDRESSES)
def test_the_verdict_is_the_librarys(address: str) -> None:
    accepted = ours(address) is not None
    assert accepted == library_accepts(address.strip())


@given(st.from_regex(r"[A-Za-z0-9.+_-]{1,20}@[A-Za-z0-9.-]{1,20}", fullmatch=True))
def test_the_cheap_path_agrees_with_the_library(address: str) -> None:
    expected = None
    if library_accepts(address):
        found = validate_email(address, check_deliverability=False)
        expected = f"{found.local_part.lower()}@{found.ascii_domain}"
    assert ours(address) == expected


@pytest.mark.parametrize("length", [240, 241, 242, 243, 244])
def test_the_length_limit_is_the_librarys(length: int) -> None:
    address = "a" * length + "@example.com"
    assert (ours(address) is not None) == library_accepts(address)


@given(ADDRESSES)
def test_normalising_twice_changes_nothing(address: str) -> None:
    once = ours(address)
    if once is not None:
        assert normalise_email(once) == once


@given(st.text(max_size=60))
def test_any_text_gives_an_address_or_a_value_error(text: str) -> None:
    found = ours(text)
    assert found is None or email_domain(found)


def test_the_domain_of_an_address_is_what_follows_the_at() -> None:
    assert email_domain("hanako@mail.example.jp") == "mail.example.jp"
    with pytest.raises(ValueError, match="has no @"):
        email_domain("hanako")


@pytest.mark.parametrize("email", ["Hanako@example.jp", "a b@example.jp", "a@b.jp\n", "example.jp", "@b.jp", "a@", ""])
def test_a_recipient_takes_only_a_normalised_address(email: str) -> None:
    with pytest.raises(ValueError, match="normalise_email"):
        Recipient(id="1", email=email)


def test_a_recipient_needs_an_id() -> None:
    with pytest.raises(ValueError, match="id is empty"):
        Recipient(id="", email="a@example.com")


def test_a_recipient_is_a_value() -> None:
    one = Recipient(id="1", email="a@example.com", attributes={"stage": "hot"}, zone="Asia/Tokyo")
    same = Recipient(id="1", email="a@example.com", attributes={"stage": "hot"}, zone="Asia/Tokyo")
    assert one == same
    assert len({one, same}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.id = "2"  # type: ignore[misc]
