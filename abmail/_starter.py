"""The commented definition that a new experiment starts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from abmail._fields import listed
from abmail._spec_types import require_name
from abmail._values import BadValue, shown

__all__ = ["starter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    question: str
    hypothesis: str
    factors: str
    control: str
    subject: str = ""
    times: str = ""


_SUBJECT: Final = """\
  subject:
    plain: "Join our spring webinar"
    number: "3 ways to cut reporting time by 40 %"
"""
_CTA: Final = """\
  cta:                                  # {{ cta }} in the template: the text on the button
    register: "Register now"
    seats: "See free seats"
"""
_HOURS: Final = """\
  mode: test                            # compare these hours; learn sends at each one's best hour instead
  slots: ["09:00", "13:00", "18:00"]    # each is the hour from then on, by the recipients' own clocks
"""
_STARTS: Final[Mapping[str, _Start]] = {
    "subject": _Start(
        question="Which subject line brings more clicks?",
        hypothesis="A concrete number in the subject line raises clicks.",
        factors=_SUBJECT,
        control="{subject: plain}",
    ),
    "cta": _Start(
        question="Which call to action brings more clicks?",
        hypothesis="Naming the free seats raises clicks.",
        factors=_CTA,
        control="{cta: register}",
        subject='  subject: "Join our spring webinar"\n',
    ),
    "factorial": _Start(
        question="Which subject line and which call to action bring more clicks, and do they go together?",
        hypothesis="A concrete number in the subject line and free seats on the button raise clicks.",
        factors=_SUBJECT + _CTA,
        control="{subject: plain, cta: register}",
    ),
    "send-time": _Start(
        question="At which hour are mails clicked most? Two subject lines share the mails of every hour evenly.",
        hypothesis="Mails that arrive after the morning's work are clicked more.",
        factors=_SUBJECT,
        control="{subject: plain}",
        times=_HOURS,
    ),
}
_TEXT: Final = """\
# yaml-language-server: $schema=../experiment.schema.json
# (`abmail schema -o experiment.schema.json` writes that file; with it your editor completes and explains each key.)
#
# @QUESTION@
# Edit the texts, then run: abmail check, abmail preview @NAME@, abmail plan @NAME@
spec: 1
name: @NAME@
hypothesis: @HYPOTHESIS@

# What varies. A level is a name of your choice and its text. Each further one needs its share of the list.
factors:
@FACTORS@
# What the others are compared with: what you would send without a test.
control: @CONTROL@

message:
  template: mails/@NAME@.html.j2
  from: "Sales <news@example.com>"
@SUBJECT@  preheader: "30 minutes, live"         # the line that mail programs show behind the subject

audience:
  # segment: "stage in ['warm', 'hot'] and industry == 'manufacturing'"    # everybody without it
  holdout: 0                            # 0.05: five in a hundred get no mail, to see what mailing them brings

send_time:
@TIMES@  # mode: learn                       # each one's best hour, learned from past mails; a tenth keeps a fixed hour
  # between: "08:00-20:00"              # mails wait for these hours and days, by each recipient's own clock
  # days: [mon, tue, wed, thu, fri]
  # holidays: [JP, 2026-12-29]          # no mail on a country's holidays and days of your own; or a file of days
  # caps: {per_week: 2, gap: 20h}       # how often one person gets mail, all experiments together
  default_zone: UTC                     # for recipients whose time zone is not known

# uniform: an even split that goes out at once.
# thompson: goes out in waves, and each wave shifts mail to what works. To use it, write the commented lines instead.
allocation:
  policy: uniform
  # policy: thompson
  # goal: balance                       # learn proves more, earn gains more while sending
  # first_wave: 20 %                    # of the list, evenly split; the rest follows in the other waves
  # every: 1h
  # waves: 8

metrics:
  primary: clicked                      # opens are reported beside it, but machines open mail, too
  window: 72h                           # how long after its mail a click counts
  guardrails: {unsubscribed: 0.005, complained: 0.001, bounced: 0.05}
  # value: {event: converted, unit: EUR, winsorize: 500}    # what mails bring in, at most 500 a mail

# alpha: chance of a false alarm. mde: smallest difference worth finding, here 4 % against 5 %, found with chance power.
analysis: {alpha: 0.05, mde: 0.01, power: 0.8, baseline: 0.04}

# too_small: what a list gets that could never name a winner; send_control would send it the control alone.
stop: {after: 14d, when: [winner], then: send_winner, inconclusive: send_control, too_small: keep_going}
"""


def starter(name: str, kind: str = "subject") -> str:
    """Write the definition that a new experiment starts with: commented, valid, and ready to be sent as it is.

    Args:
        name: Of the experiment; its mail template is ``mails/NAME.html.j2``.
        kind: ``subject``, ``cta``, ``factorial`` or ``send-time``.

    Returns:
        YAML with comments.

    Raises:
        ValueError: The name cannot be used, or there is no such kind.
    """
    if kind not in _STARTS:
        raise ValueError(f"no kind of experiment {shown(kind)}; known: {listed(tuple(_STARTS))}")
    try:
        require_name(name)
    except BadValue as problem:
        raise ValueError(f"{problem}; {problem.hint}") from None
    start = _STARTS[kind]
    blanks = {
        "QUESTION": start.question,
        "HYPOTHESIS": start.hypothesis,
        "FACTORS": start.factors,
        "CONTROL": start.control,
        "SUBJECT": start.subject,
        "TIMES": start.times,
        "NAME": name,
    }
    text = _TEXT
    for blank, filling in blanks.items():
        text = text.replace(f"@{blank}@", filling)
    return text
