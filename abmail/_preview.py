"""All variants of a mail side by side, on one self-contained page without scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from abmail._html import fill_page

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Previewed", "preview_page"]

CLIPPED: Final = 102_000  # octets of HTML after which Gmail hides the rest of a mail
_SUBJECT_ON_PHONE: Final = 40  # characters, about what a phone's list of mails shows

_WORDS: Final = {
    "en": {
        "title": "Preview of {}", "as": "as {} would get it", "desktop": "Desktop", "phone": "Phone", "both": "Both",
        "text": "Text", "control": "control", "clipped": "Gmail hides what comes after 102 kB",
        "long": "the subject may be cut off on phones",
        "note": "Links and pictures are as in the mail; opening this page counts nothing.",
    },
    "ja": {
        "title": "{} のプレビュー", "as": "{} 宛の場合", "desktop": "パソコン", "phone": "スマートフォン",
        "both": "両方",
        "text": "テキスト", "control": "対照", "clipped": "Gmail は 102 kB を超えた部分を表示しません",
        "long": "件名はスマートフォンでは途中で切れることがあります",
        "note": "リンクと画像はメールと同じです。このページを開いても集計されません。",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """One variant's mail as a reader would meet it.

    Attributes:
        cell: Name of the cell.
        control: Whether the others are compared with it.
        from_name: Who it seems to come from.
        subject: As people read it.
        preheader: What the list of mails shows behind the subject; empty for none.
        html: The HTML part for a browser, without open pixel, its pictures inside.
        text: The plain part.
        size: Octets of the HTML part.
    """

    cell: str
    control: bool
    from_name: str
    subject: str
    preheader: str
    html: str
    text: str
    size: int

    @property
    def clipped(self) -> bool:
        """Whether Gmail would hide the end."""
        return self.size > CLIPPED

    @property
    def long_subject(self) -> bool:
        """Whether a phone's list of mails may cut the subject; wide characters count twice."""
        return sum(2 if ord(c) > 0x2E7F else 1 for c in self.subject) > _SUBJECT_ON_PHONE


def preview_page(mails: Sequence[Previewed], *, experiment: str, recipient: str, language: str) -> str:
    """Write the page: each variant at the width of a desktop and of a phone, and as text.

    Args:
        mails: The variants, in order.
        experiment: Name of the experiment.
        recipient: Address of the one who would get them.
        language: ``en`` or ``ja``.
    """
    words = _WORDS[language]
    return fill_page(
        "preview.html.j2", mails=mails, words=words, language=language, title=words["title"].format(experiment),
        note=words["as"].format(recipient),
    )  # fmt: skip
