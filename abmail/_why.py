"""Reasons in English and Japanese, and why a method was chosen."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["LAST_LOOK", "NO_END", "ONE_LOOK", "ONE_WELCH", "PLANNED", "Why", "asked_for"]


class Why(NamedTuple):
    """A reason in English and in Japanese; ``{name}`` in both stands for a value."""

    en: str
    ja: str

    def values(self, text: str) -> dict[str, str] | None:
        """The values in a text that this reason gave in English; None where it is another text.

        >>> Why("{n} mails wait", "{n}通が待っています").values("7 mails wait")
        {'n': '7'}
        """
        found = _pattern(self.en).fullmatch(text)
        return found.groupdict() if found else None


PLANNED: Final = Why(
    "the number of epochs is planned: an O'Brien-Fleming boundary allows a look after each",
    "ウェーブの数が決まっているため、オブライエン・フレミング境界により各ウェーブの後に結果を確認できます",
)
ONE_LOOK: Final = Why(
    "one epoch and one look: the score test needs no allowance for looking often",
    "ウェーブも確認も1回だけなので、スコア検定を補正なしで使えます",
)
ONE_WELCH: Final = Why(
    "one epoch and one look: Welch's test needs no allowance for looking often",
    "ウェーブも確認も1回だけなので、ウェルチの検定を補正なしで使えます",
)
LAST_LOOK: Final = Why(
    "one look is planned: the epochs are combined with equal weights and tested once",
    "確認は1回の予定なので、各ウェーブを同じ重みでまとめて1回だけ検定します",
)
NO_END: Final = Why(
    "several epochs and no planned end: a time-uniform boundary allows any number of looks",
    "ウェーブが複数あり終わりが決まっていないため、何度確認しても有効な境界を使います",
)


@lru_cache(maxsize=256)
def _pattern(template: str) -> re.Pattern[str]:
    """What a template writes, with its values as groups; one that stands twice is the same twice."""
    parts = re.split(r"\{(\w+)\}", template)
    names, written = set[str](), re.escape(parts[0])
    for name, behind in zip(parts[1::2], parts[2::2], strict=True):
        written += f"(?P={name})" if name in names else f"(?P<{name}>.+?)"
        written += re.escape(behind)
        names.add(name)
    return re.compile(written, re.DOTALL)


def asked_for(method: str) -> Why:
    """The method was named by whoever asked."""
    return Why(f"{method} was asked for", f"{method}が指定されました")
