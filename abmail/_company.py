"""Which company an address belongs to: its domain, unless everybody can have a mailbox there."""

from __future__ import annotations

from typing import Final

from abmail.recipient import email_domain

__all__ = ["company_of", "home_of"]

_EVERYBODYS: Final = frozenset(
    """
    gmail.com googlemail.com outlook.com hotmail.com hotmail.co.uk hotmail.fr hotmail.de live.com live.jp msn.com
    outlook.jp yahoo.com yahoo.co.jp yahoo.co.uk yahoo.de yahoo.fr ymail.com rocketmail.com aol.com icloud.com me.com
    mac.com proton.me protonmail.com pm.me gmx.de gmx.net gmx.com gmx.at gmx.ch web.de t-online.de freenet.de
    mail.com mail.ru yandex.ru yandex.com bk.ru inbox.ru list.ru rambler.ru qq.com 163.com 126.com sina.com sohu.com
    foxmail.com naver.com daum.net hanmail.net nate.com docomo.ne.jp ezweb.ne.jp au.com softbank.ne.jp i.softbank.jp
    ymobile.ne.jp rakuten.jp nifty.com biglobe.ne.jp ocn.ne.jp so-net.ne.jp plala.or.jp orange.fr wanadoo.fr free.fr
    sfr.fr laposte.net libero.it virgilio.it alice.it tiscali.it hotmail.it hotmail.es terra.com.br uol.com.br
    bol.com.br comcast.net verizon.net att.net sbcglobal.net bellsouth.net cox.net charter.net btinternet.com sky.com
    virginmedia.com rogers.com shaw.ca bigpond.com optusnet.com.au xtra.co.nz rediffmail.com seznam.cz wp.pl o2.pl
    onet.pl interia.pl zoho.com fastmail.com hey.com tutanota.com
    """.split()  # noqa: SIM905  # a list of words, as people keep it
)


def company_of(domain: str) -> str:
    """The domain where it is a company's, else nothing.

    >>> company_of("example.com"), company_of("gmail.com")
    ('example.com', '')
    """
    return "" if domain in _EVERYBODYS else domain


def home_of(email: str) -> str:
    """What colleagues have in common: the company's domain, the whole address where everybody can have a mailbox.

    >>> home_of("hanako@example.com"), home_of("hanako@gmail.com")
    ('example.com', 'hanako@gmail.com')
    """
    return company_of(email_domain(email)) or email
