"""What the words of a mail give away: an address by post, the tricks of spam. Hints, in English and Japanese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["has_postal_address", "readable_letters", "spam_hints"]

_STREETS: Final = (
    r"street|st|road|rd|avenue|ave|lane|ln|boulevard|blvd|drive|dr|way|square|sq|court|place|plaza|quay|parkway|pkwy|"
    r"highway|hwy|terrace|crescent|close|row|wharf|floor"
)
_ADDRESSES: Final = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"〒\s*[0-9０-９]{3}", 0),
        (r"(?:東京都|北海道|京都府|大阪府|\w{2,3}県)\s*\w{1,8}?[市区町村郡]", 0),
        (rf"\b\d+[a-z]?,?\s+(?:[\w'.-]+\s+){{0,3}}(?:{_STREETS})\b", re.IGNORECASE),
        (
            r"\b(?:rue|via|viale|piazza|calle|rua|avenida|avenue|plaza|place|ulica|ul\.)\s+[^\n,]{2,40},?\s+\d+",
            re.IGNORECASE,
        ),
        (r"\b\d+[a-z]?,?\s+(?:bis\s+)?(?:rue|avenue|boulevard|place|quai|chemin)\s+\w", re.IGNORECASE),
        (
            r"\w(?:straße|strasse|str\.|weg|platz|gasse|allee|ring|damm|ufer|laan|straat|gade|gatan|vej)\s+\d+",
            re.IGNORECASE,
        ),
        (r"\b(?:P\.?\s*O\.?\s*Box|Postfach|Boîte postale|B\.?P\.?|Apartado|Casella postale)\s+\d+", re.IGNORECASE),
        (r"\b[A-Z]{2},?\s+\d{5}(?:-\d{4})?\b", 0),  # a state and a ZIP code
        (r"\b[A-Z]{1,2}\d[A-Z\d]?\s+\d[A-Z]{2}\b", 0),  # a British postcode
        (r"\b[A-Z]\d[A-Z]\s?\d[A-Z]\d\b", 0),  # a Canadian one
        (r"\b(?:[A-Z]{1,2}-)?\d{5}\s+[A-ZÄÖÜÉ]\w{2,}", 0),  # a code before the town, as on the Continent
        (r"\b[1-9]\d{3}\s?[A-Z]{2}\s+[A-Z]\w+", 0),  # a Dutch one
    )
)
_SHOUT_LETTERS: Final = 8
_SHOUT_SHARE: Final = 0.7
_PHRASES: Final = re.compile(
    r"\b(?:100\s?% free|act now|buy now|cash bonus|click here|double your (?:income|money)|"
    r"earn (?:extra )?(?:cash|money)|free money|get rich|guaranteed (?:income|results?)|make money fast|no risk|"
    r"order now|risk[- ]free|satisfaction guaranteed|you(?:'ve| have) been selected|you(?:'ve| have) won)\b|"
    r"完全無料|今すぐクリック|ここをクリック|必ず儲か|絶対に?儲か|大儲け|当選おめでとう|ご当選|簡単に稼|楽して稼|"
    r"副業で月|高収入|現金プレゼント|最後のチャンス",
    re.IGNORECASE,
)
_ANSWER: Final = re.compile(r"\s*(?:re|fwd?|aw|wg|返信|転送)\s*[:：]", re.IGNORECASE)
_CRIES: Final = re.compile(r"[!！]")
_MONEY: Final = re.compile(r"[$€£¥￥]{2,}")
_ADDRESS_LINK: Final = re.compile(r"<?\b(?:https?://|mailto:)\S+")


def has_postal_address(text: str) -> bool:
    """Whether a text seems to hold an address by post; a guess that rather takes something for one than overlooks it.

    >>> has_postal_address("Example GmbH, Lange Straße 5, 80331 München"), has_postal_address("© 2027 Example GmbH")
    (True, False)
    """
    return any(pattern.search(text) for pattern in _ADDRESSES)


def readable_letters(text: str) -> int:
    """Letters and digits of a text that are not part of an address of a link."""
    return sum(each.isalnum() for each in _ADDRESS_LINK.sub("", text))


def spam_hints(text: str) -> Iterator[str]:
    """What in a subject or preview text spam filters and readers take for spam, in words.

    >>> list(spam_hints("Re: ACT NOW and double your money!!!"))
    ['it claims to be an answer', "the words 'ACT NOW', 'double your money'", '3 exclamation marks']
    """
    if _ANSWER.match(text):
        yield "it claims to be an answer"
    letters = [each for each in text if each.isascii() and each.isalpha()]
    if len(letters) >= _SHOUT_LETTERS and sum(each.isupper() for each in letters) > _SHOUT_SHARE * len(letters):
        yield "it is written in capitals"
    if phrases := dict.fromkeys(found[0] for found in _PHRASES.finditer(text)):
        yield f"the words {', '.join(map(repr, phrases))}"
    if (cries := len(_CRIES.findall(text))) > 1:
        yield f"{cries} exclamation marks"
    if _MONEY.search(text):
        yield "signs of money in a row"
