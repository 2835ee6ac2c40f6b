"""What events give away together: the rules on one mail, on networks and on companies."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmail._company import company_of
from abmail._tokens import HONEYPOT_LINK
from abmail._verdict_around import (
    Delivery,
    Passing,
    company_reasons,
    follow_up,
    hasty_networks,
    is_soon,
    is_swift,
    nearest_reasons,
    network_reasons,
)
from abmail._verdict_reasons import given_reasons, is_strict, names_of, verdict_of
from abmail._verdict_rules import Sighting, echoes, judge_mail, near
from abmail.events import Agent, EventType, Reason, RequestFacts, Signer, Verdict, facts_of

CHROME = RequestFacts(agent=Agent.BROWSER, family="chrome/windows", network="n1")
PHONE = RequestFacts(agent=Agent.BROWSER, family="safari/ios", network="n2")
PROXY = RequestFacts(agent=Agent.IMAGE_PROXY)
NUMBERS = itertools.count()


def seen(kind: EventType, at: float, **fields: object) -> Sighting:
    known: dict[str, object] = {"mail": "m", "delivered": 0.0, "facts": CHROME, "company": "example.com"}
    return Sighting(key=f"k{next(NUMBERS):06d}", type=kind, at=at, **{**known, **fields})  # type: ignore[arg-type]


def click(at: float, link: int = 1, **fields: object) -> Sighting:
    return seen(EventType.CLICKED, at, link=link, **fields)


def opened(at: float, **fields: object) -> Sighting:
    return seen(EventType.OPENED, at, **fields)


def verdicts(*sightings: Sighting, links: int | None = None) -> list[str]:
    judged = judge_mail(sightings, links=links)
    return [judged[one.key].verdict.value for one in sightings]


def reasons(*sightings: Sighting, links: int | None = None) -> list[tuple[str, ...]]:
    judged = judge_mail(sightings, links=links)
    return [names_of(judged[one.key].reasons) for one in sightings]


# --- one mail ---------------------------------------------------------------------------------------------------------


def test_three_links_within_ten_seconds_are_a_machines_and_a_click_hours_later_is_a_persons() -> None:
    assert verdicts(click(43, 1), click(47, 2), click(52, 3), click(9_000, 1)) == ["machine"] * 3 + ["human"]


def test_three_links_over_a_longer_time_are_a_persons() -> None:
    assert verdicts(click(3_600, 1), click(3_606, 2), click(3_611, 3)) == ["human"] * 3


def test_the_same_link_again_and_again_is_no_burst() -> None:
    assert verdicts(*(click(3_600 + s, 1) for s in range(5))) == ["human"] * 5


@pytest.mark.parametrize(("links", "verdict"), [(None, "human"), (2, "machine"), (4, "machine"), (5, "human")])
def test_two_links_within_five_seconds_are_a_machines_in_a_short_mail(links: int | None, verdict: str) -> None:
    assert verdicts(click(900, 1), click(905, 2), links=links) == [verdict] * 2
    assert verdicts(click(900, 1), click(905.1, 2), links=links) == ["human"] * 2


def test_haste_an_hour_after_delivery_is_a_persons_unless_a_scanner_was_here() -> None:
    tabs = [click(4_000 + 2 * number, number) for number in range(1, 4)]
    assert verdicts(*tabs) == ["human"] * 3
    assert reasons(*tabs)[0] == ("link_burst", "late")
    crawler = click(40, 1, facts=RequestFacts(agent=Agent.MACHINE))
    assert verdicts(crawler, *tabs) == ["machine"] * 4


def test_tabs_opened_at_a_stretch_were_decided_on_with_the_first_of_them() -> None:
    tabs = [click(906 + 4 * number, number) for number in range(5)]
    assert verdicts(opened(900), *tabs)[1:] == ["machine"] * 5
    assert verdicts(opened(895), *tabs)[1:] == ["human"] * 5


def test_one_click_in_a_mail_with_one_link_is_no_burst() -> None:
    assert verdicts(click(900, 1), links=1) == ["human"]


def test_two_links_within_a_second_are_a_machines_even_after_reading() -> None:
    assert verdicts(opened(100), click(900, 1), click(900.9, 2)) == ["human", "machine", "machine"]
    assert verdicts(opened(100), click(900, 1), click(901.1, 2)) == ["human", "human", "human"]


def test_who_read_the_mail_first_may_open_many_links_at_a_stretch() -> None:
    tabs = [click(930 + 2 * number, number) for number in range(1, 5)]
    assert verdicts(*tabs) == ["machine"] * 4
    assert verdicts(opened(900), *tabs) == ["human"] * 5
    assert verdicts(opened(900, facts=PHONE), *tabs) == ["human"] + ["machine"] * 4
    assert verdicts(opened(900, facts=PROXY), *tabs) == ["proxy"] + ["human"] * 4


def test_a_rendering_scanner_that_loads_the_pixel_with_the_burst_has_not_read() -> None:
    found = verdicts(opened(42), click(44, 1), click(46, 2), click(48, 3))
    assert found == ["machine"] * 4


def test_a_link_that_nobody_sees_gives_all_clicks_within_ten_seconds_away() -> None:
    trap = click(3_600, HONEYPOT_LINK)
    found = reasons(opened(3_000), click(3_590, 1), trap, click(3_610, 2), click(3_621, 3))
    assert found[2] == ("honeypot", "read_first")
    assert "near_honeypot" in found[1]
    assert "near_honeypot" in found[3]
    assert found[4] == ("read_first",)
    assert verdicts(opened(3_000), click(3_590, 1), trap, click(3_621, 3)) == ["human", "machine", "machine", "human"]


def test_hints_alone_make_nobody_suspected() -> None:
    assert reasons(click(60, 1)) == [("early", "unread")]
    assert verdicts(click(60, 1)) == ["human"]


def test_what_was_suspected_is_a_persons_once_a_person_answers() -> None:
    quick = click(3, 1)
    assert verdicts(quick) == ["suspected"]
    assert verdicts(quick, click(7_200, 1)) == ["human", "human"]
    assert verdicts(quick, seen(EventType.REPLIED, 7_200, facts=None)) == ["human", "human"]
    assert verdicts(quick, click(30, 1)) == ["suspected", "human"]


def test_no_later_sign_makes_a_sure_machine_a_person() -> None:
    crawler = RequestFacts(agent=Agent.MACHINE)
    assert verdicts(click(30, 1, facts=crawler), click(9_000, 1)) == ["machine", "human"]


def test_an_open_is_confirmed_by_what_follows_it_and_only_then_strict() -> None:
    alone, with_click = opened(600), (opened(600), click(660, 1))
    assert reasons(alone) == [("unconfirmed",)]
    assert reasons(*with_click) == [("confirmed",), ("early",)] or reasons(*with_click)[0] == ("confirmed",)
    judged = judge_mail(with_click)
    assert all(is_strict(judged[one.key].verdict, judged[one.key].reasons) for one in with_click)
    lone = judge_mail([alone])[alone.key]
    assert not is_strict(lone.verdict, lone.reasons)


def test_a_provider_that_saw_the_delivery_later_moves_the_clock() -> None:
    delivered = seen(EventType.DELIVERED, 50.0, facts=None)
    assert verdicts(click(53, 1)) == ["human"]
    assert verdicts(delivered, click(53, 1)) == ["human", "suspected"]


def test_an_event_without_facts_is_taken_at_its_sources_word() -> None:
    told = [click(43 + s, s, facts=None, verdict=Verdict.HUMAN) for s in range(4)]
    assert verdicts(*told) == ["human"] * 4
    assert verdicts(click(43, 1, facts=None, verdict=Verdict.MACHINE)) == ["machine"]


# --- networks and companies -------------------------------------------------------------------------------------------


def test_one_network_in_three_peoples_mails_within_half_a_minute_is_a_burst() -> None:
    three = [click(1_000 + 14 * n, mail=f"m{n}") for n in range(3)]
    assert {names_of(bits) for bits in network_reasons(three).values()} == {("network_burst",)}
    assert not network_reasons(three[:2])
    assert not network_reasons([replace(one, at=one.at * 1.1) for one in three])
    assert not network_reasons([replace(one, mail="m") for one in three])
    assert not network_reasons([replace(one, facts=replace(CHROME, network="")) for one in three])


def test_people_behind_one_address_who_read_before_they_click_stay_people() -> None:
    group = [click(1_000 + 9 * n, mail=f"m{n}") for n in range(3)]
    found = network_reasons(group)
    for one in group:
        marked = replace(one, around=found[one.key])
        assert verdicts(opened(one.at - 20, mail=one.mail), marked) == ["human", "human"]
        assert verdicts(marked) == ["suspected"]
    early = replace(group[0], at=50.0, around=found[group[0].key])
    assert verdicts(early) == ["machine"]


def test_a_network_that_follows_several_links_in_three_mails_is_a_robots() -> None:
    robots = [click(100 + 20 * mail + link, link, mail=f"m{mail}") for mail in range(3) for link in (1, 2)]
    single = [click(at, mail="other") for at in (742, 744)]
    found = network_reasons([*robots, *single])
    assert [Reason.NETWORK_ROBOT in found.get(one.key, Reason(0)) for one in single] == [False, False]
    near_by = [click(at, mail="other") for at in (300, 740)]
    found = network_reasons([*robots, *near_by])
    assert [Reason.NETWORK_ROBOT in found.get(one.key, Reason(0)) for one in near_by] == [True, False]
    assert all(Reason.NETWORK_ROBOT in found[one.key] for one in robots)
    assert not any(Reason.NETWORK_ROBOT in bits for bits in network_reasons(robots[:4]).values())


def test_one_network_at_three_companies_within_a_minute_is_suspected() -> None:
    across = [click(1_000 + 29 * n, mail=f"m{n}", company=f"c{n}") for n in range(3)]
    assert all(Reason.NETWORK_ACROSS in bits for bits in network_reasons(across).values())
    assert len(network_reasons(across)) == 3
    assert not network_reasons([replace(one, company="") for one in across])


def bits(mails: list[Delivery], reason: Reason) -> set[str]:
    return {mail for mail, found in company_reasons(mails).items() if reason in found}


def test_a_quarter_of_a_companys_mails_clicked_as_they_come_in_are_a_sweep() -> None:
    mails = [Delivery(10.0 * n, f"m{n:02d}", swift=n < 3, soon=n < 3) for n in range(12)]
    assert bits(mails, Reason.COMPANY_SWEEP) == {"m00", "m01", "m02"}
    before = [Delivery(-10.0 - n, f"n{n:02d}") for n in range(9)]
    assert bits([*mails, *before], Reason.COMPANY_SWEEP) == {"m00", "m01", "m02"}
    assert not company_reasons([*mails, *before, Delivery(-30.0, "o")])
    assert not company_reasons([Delivery(10.0 * n, f"m{n}", swift=n % 5 == 4) for n in range(15)])


def test_beside_mails_that_were_swept_the_others_are_to_be_followed_up() -> None:
    mails = [Delivery(100.0 * n, f"m{n}", swift=n in {0, 2, 3}, soon=n != 4) for n in range(12)]
    assert bits(mails, Reason.COMPANY_SCANNED) == {"m0", "m1", "m2", "m3"}  # what is delivered later changes nothing
    swept = company_reasons(mails)["m0"]
    assert follow_up(click(1_799), swept, links=1) == Reason.COMPANY_SCANNED
    assert follow_up(click(1_800), swept, links=1) == follow_up(click(1_799), swept, links=2) == Reason(0)
    assert follow_up(click(179), swept, links=1) == follow_up(click(179), swept, links=2) == Reason.COMPANY_SWEEP


def test_half_of_a_companys_mails_and_five_clicked_within_half_an_hour_are_a_scanners_round() -> None:
    mails = [Delivery(10.0 * n, f"m{n}", soon=n % 2 == 0) for n in range(9)]
    assert bits(mails, Reason.COMPANY_ROUND) == {"m0", "m2", "m4", "m6", "m8"}
    assert not company_reasons(mails[:8])
    assert not company_reasons([*mails, *(Delivery(-1.0 - n, f"n{n}") for n in range(2))])


def test_who_comes_after_the_scanner_with_another_program_is_another() -> None:
    around = Reason.COMPANY_SWEEP | Reason.NETWORK_ROBOT
    scanner = click(40, around=around)
    edge = replace(CHROME, family="edge/windows")
    assert verdicts(scanner, click(170, around=around)) == ["machine", "machine"]
    assert verdicts(scanner, click(170, around=around, facts=edge)) == ["machine", "human"]
    assert verdicts(scanner, click(99, around=around, facts=edge)) == ["machine", "machine"]
    elsewhere = replace(edge, network="n9")
    assert verdicts(scanner, click(170, around=around, facts=elsewhere)) == ["machine", "machine"]


def test_two_mails_are_a_sweep_only_if_they_are_all() -> None:
    both = [Delivery(0.0, "a", swift=True), Delivery(30.0, "b", swift=True)]
    assert bits(both, Reason.COMPANY_SWEEP) == {"a", "b"}
    assert not company_reasons([*both[:1], Delivery(20.0, "c"), *both[1:]])
    assert not company_reasons(both[:1])
    assert not company_reasons([both[0], replace(both[1], at=601.0)])


def followed(*, companies: int = 3, mails: int = 4, **fields: Any) -> list[Sighting]:
    return [click(4_000.0 * n, mail=f"m{n}", company=f"c{n % companies}", **fields) for n in range(1, mails + 1)]


def told(sightings: list[Sighting], reason: Reason) -> set[str]:
    """The mails in which a click has a reason by its network's nearest clicks."""
    found = nearest_reasons(sightings)
    return {one.mail for one in sightings if reason in found.get(one.key, Reason(0))}


def blind(sightings: list[Sighting]) -> set[str]:
    return told(sightings, Reason.NETWORK_BLIND)


def test_a_network_that_follows_links_for_three_companies_and_never_reads_is_blind() -> None:
    clicks = followed()
    assert blind(clicks) == {one.mail for one in clicks}
    assert not blind(followed(companies=2))
    assert not blind(followed(facts=PHONE))
    assert not blind([replace(one, at=one.at * 30) for one in clicks])
    pixel_with_the_click = [opened(one.at - 9, mail=one.mail) for one in clicks]
    assert len(blind([*clicks, *pixel_with_the_click])) == 4
    assert len(blind([*followed(mails=9), opened(100, mail="m1")])) == 0
    assert len(blind([*followed(mails=10), opened(100, mail="m1")])) == 9
    apple = [opened(5, mail=one.mail, facts=RequestFacts(agent=Agent.APPLE_PRIVACY)) for one in clicks]
    assert not blind([*clicks, *apple])


def test_of_a_network_only_the_nearest_clicks_tell() -> None:
    clicks = [click(100.0 * n, mail=f"m{n:03d}", company=f"c{n % 3}") for n in range(1, 61)]
    readers = [opened(100.0 * n - 20, mail=f"m{n:03d}") for n in range(1, 21)]
    found = sorted(blind([*clicks, *readers]))
    assert found[0] == "m031"  # of its neighbours m019 to m043, two read
    assert found[-1] == "m060"


def test_who_read_the_mail_elsewhere_has_not_read_for_a_blind_network() -> None:
    clicks = followed()
    elsewhere = replace(CHROME, network="n9")
    assert len(blind([*clicks, *(opened(100, mail=one.mail, facts=elsewhere) for one in clicks)])) == 4
    assert not blind([*clicks, *(opened(100, mail=one.mail, facts=PROXY) for one in clicks)])
    read = opened(100, facts=elsewhere)
    assert verdicts(read, click(4_000)) == ["human", "human"]
    assert verdicts(read, click(4_000, around=Reason.NETWORK_BLIND)) == ["human", "suspected"]


def test_who_follows_a_link_with_the_pictures_has_not_read_for_what_comes_later() -> None:
    scanned = [each for n in range(1, 10) for each in (opened(40, mail=f"m{n}"), click(42, mail=f"m{n}"))]
    assert len(blind([*followed(mails=9), *scanned])) == 9
    slower = [each for n in range(1, 10) for each in (opened(40, mail=f"m{n}"), click(51, mail=f"m{n}"))]
    assert not blind([*followed(mails=9), *slower])


def passed(*, swift: int, n: int, companies: int = 3) -> list[Passing]:
    ages = [179.0] * swift + [180.0] * (n - swift)
    return [Passing(1_000.0 * i, f"k{i:02d}", "n", f"c{i % companies}", age) for i, age in enumerate(ages)]


def test_a_network_that_comes_within_minutes_of_delivery_at_three_companies_is_hasty() -> None:
    assert len(hasty_networks(passed(swift=3, n=12))) == 12
    assert not hasty_networks(passed(swift=3, n=13))
    assert not hasty_networks(passed(swift=3, n=12, companies=2))
    away = Passing(1e6, "k99", "n", "c0", 400.0)
    assert "k99" not in hasty_networks([*passed(swift=3, n=12), away])
    homes = [one._replace(company="" if one.key > "k03" else one.company) for one in passed(swift=4, n=12)]
    assert hasty_networks(homes) == {"k00", "k01", "k02", "k03"}
    assert verdicts(opened(140), click(160, around=Reason.NETWORK_HASTY)) == ["human", "suspected"]


def returned(*, companies: int, before: float = 40.0, at: float = 3_600.0) -> list[Sighting]:
    """Mails that somebody followed from elsewhere before; one network comes again to each."""
    scanner = replace(CHROME, network="n7")
    mails: list[dict[str, Any]] = [{"mail": f"m{n}", "company": f"c{n % companies}"} for n in range(2)]
    return [each for one in mails for each in (click(before, facts=scanner, **one), click(at, **one))]


def test_a_network_that_comes_to_two_companies_hours_after_the_scanner_returns() -> None:
    def returns(sightings: list[Sighting]) -> set[str]:
        return told(sightings, Reason.NETWORK_RETURNS)

    assert returns(returned(companies=2)) == {"m0", "m1"}
    assert not returns(returned(companies=1))
    assert not returns(returned(companies=2, at=3_599.0))
    assert not returns(returned(companies=2, before=1_800.0))
    assert not returns([one for one in returned(companies=2) if one.network == "n1"])
    assert not returns([*returned(companies=2), opened(1_000, mail="m0", company="c0")])
    assert verdicts(click(4_000, around=Reason.NETWORK_RETURNS)) == ["suspected"]


def test_a_network_half_of_whose_clicks_are_plainly_a_programs_is_known() -> None:
    def known(sightings: list[Sighting]) -> set[str]:
        return told(sightings, Reason.NETWORK_KNOWN)

    named = click(40, mail="m1", facts=replace(CHROME, agent=Agent.MACHINE))
    assert known([named, click(9_000, mail="m2")]) == {"m1", "m2"}
    assert not known([named, click(9_000, mail="m2"), click(9_000, mail="m3")])
    assert known([named, opened(8_000, mail="m2"), click(9_000, mail="m2")]) == set()
    behind = [click(5_000, mail="m1", facts=PHONE), click(5_002, mail="m1")]
    assert known([*behind, click(9_000, mail="m2")]) == {"m1", "m2"}
    loaded = [each for n in range(3) for each in with_pictures(n, company=f"c{n % 2}")]
    assert known([*loaded, *(click(9_000, mail=f"n{n}") for n in range(3))]) >= {"m0", "m1", "m2", "n0", "n1", "n2"}
    assert not known([*loaded, *(click(9_000, mail=f"n{n}") for n in range(4))])
    assert not known([*loaded[:4], click(9_000, mail="n")])
    assert not known([each for n in range(3) for each in with_pictures(n, company="c")])
    assert verdicts(click(4_000, around=Reason.NETWORK_KNOWN)) == ["suspected"]


def with_pictures(number: int, *, company: str) -> tuple[Sighting, Sighting]:
    where: dict[str, Any] = {"mail": f"m{number}", "company": company}
    return opened(4_000, **where), click(4_003, **where)


def test_a_click_right_behind_anothers_to_the_same_link_is_its_echo() -> None:
    person = click(5_000, facts=PHONE)
    assert reasons(person, click(5_003)) == [(), ("echo",)]
    assert verdicts(person, click(5_003)) == ["human", "suspected"]
    for other in (click(5_003.1), click(5_003, link=2), click(5_003, facts=PHONE), click(5_003, facts=PROXY)):
        assert "echo" not in reasons(person, other)[1]


def test_a_mail_is_followed_up_where_half_of_those_around_it_were_swept() -> None:
    mails = [Delivery(0.0, "a", swift=True, soon=True), Delivery(3_600.0, "b", soon=True)]
    assert bits(mails, Reason.COMPANY_SCANNED) == {"b"}
    assert not company_reasons([mails[0], replace(mails[1], at=3_601.0)])
    assert not company_reasons([mails[0], replace(mails[1], soon=False)])
    assert bits([*mails, Delivery(1.0, "c")], Reason.COMPANY_SCANNED) == {"b"}
    assert not company_reasons([*mails, Delivery(1.0, "c"), Delivery(2.0, "d")])
    far = [Delivery(3_600.0 - n, f"n{n}") for n in range(1, 7)]
    assert not company_reasons([*mails, *far])


def test_early_and_unread_is_enough_where_a_mail_has_a_single_link() -> None:
    assert verdicts(click(60), links=1) == ["suspected"]
    assert verdicts(click(60), links=2) == verdicts(click(121), links=1) == ["human"]
    assert verdicts(opened(40), click(60), links=1) == ["human", "human"]


def test_what_apple_loads_ahead_hides_whether_somebody_read() -> None:
    apple = opened(20, facts=RequestFacts(agent=Agent.APPLE_PRIVACY))
    assert reasons(apple, click(600, facts=PHONE))[1] == ()
    assert reasons(apple, click(600))[1] == ("unread",)


def test_mailboxes_that_everybody_can_have_are_no_company() -> None:
    assert [company_of(each) for each in ("gmail.com", "docomo.ne.jp", "acme.example")] == ["", "", "acme.example"]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4), st.integers(0, 3)), max_size=40))
def test_network_bursts_are_what_their_definition_says(drawn: list[tuple[int, int, int]]) -> None:
    clicks = [click(float(at), mail=f"m{who}", company=f"c{firm}") for at, who, firm in drawn]
    found = network_reasons(clicks)
    for one in clicks:
        windows = [[o for o in clicks if s <= o.at <= s + 30] for s in {o.at for o in clicks} if s <= one.at <= s + 30]
        burst = any(len({o.mail for o in window}) >= 3 for window in windows)
        assert (Reason.NETWORK_BURST in found.get(one.key, Reason(0))) == burst


@given(st.lists(st.tuples(st.integers(0, 1_500), st.sampled_from(["swift", "soon", "never"])), max_size=30))
def test_sweeps_are_what_their_definition_says(drawn: list[tuple[int, str]]) -> None:
    mails = sorted(
        Delivery(float(at), f"m{n:02d}", swift=how == "swift", soon=how != "never") for n, (at, how) in enumerate(drawn)
    )
    expected: dict[str, Reason] = dict.fromkeys((one.mail for one in mails), Reason(0))
    for last in range(len(mails)):
        window = [one for one in mails[: last + 1] if mails[last].at - one.at <= 600]
        swift, soon = [one for one in window if one.swift], [one for one in window if one.soon]
        if mails[last].swift and (
            (len(swift) >= 3 and 4 * len(swift) >= len(window)) or len(swift) == len(window) >= 2
        ):
            for one in window:
                expected[one.mail] |= Reason.COMPANY_SCANNED
            for one in swift:
                expected[one.mail] |= Reason.COMPANY_SWEEP
        if mails[last].soon and len(soon) >= 5 and 2 * len(soon) >= len(window):
            for one in soon:
                expected[one.mail] |= Reason.COMPANY_ROUND
    for number, one in enumerate(mails):
        others = [*mails[max(number - 6, 0) : number], *mails[number + 1 : number + 7]]
        if one.soon and sum(other.swift for other in others) >= max(len(others) / 2, 1):
            expected[one.mail] |= Reason.COMPANY_SCANNED
    assert company_reasons(mails) == {mail: found for mail, found in expected.items() if found}


@given(st.lists(st.integers(0, 100), max_size=20), st.lists(st.integers(0, 100), max_size=20))
def test_near_finds_what_lies_close_to_a_moment(group: list[int], moments: list[int]) -> None:
    found = list(near(sorted(group), sorted(map(float, moments)), key=float, within=7.0))
    assert found == [one for one in sorted(group) if any(abs(one - each) <= 7 for each in moments)]


@given(st.permutations(range(6)))
def test_the_order_in_which_events_are_given_changes_nothing(order: list[int]) -> None:
    events = [opened(30), click(33, 1), click(36, 2), click(40, 3), opened(4_000), click(4_030, 2)]
    assert judge_mail([events[i] for i in order]) == judge_mail(events)


# --- facts and reasons ------------------------------------------------------------------------------------------------


def test_facts_hold_neither_address_nor_agent_and_survive_json() -> None:
    signer = Signer(b"0123456789abcdef")
    agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Safari/604.1"
    facts = facts_of(user_agent=agent, network=signer.network("203.0.113.9"))
    assert facts == RequestFacts(agent=Agent.BROWSER, family="safari/ios", network=signer.network("203.0.113.200"))
    assert "203.0" not in str(facts.to_dict())
    assert RequestFacts(**{**facts.to_dict(), "agent": Agent(str(facts.to_dict()["agent"]))}) == facts  # type: ignore[arg-type]


def test_the_network_of_an_address_is_told_apart_by_24_or_48_bits() -> None:
    network = Signer(b"0123456789abcdef").network
    assert network("2001:db8:1::1") == network("2001:db8:1:ffff::1") != network("2001:db8:2::1")
    assert network("::ffff:203.0.113.9") == network("203.0.113.1") != network("203.0.114.1")
    assert network("unix:") == network("") == ""
    assert {network(each) for each in ("127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "fd00::1", "100.64.1.1")} == {""}
    assert Signer(b"another secret, 16+").network("203.0.113.1") != network("203.0.113.1")


def test_a_sources_words_become_bits_that_give_its_verdict_again() -> None:
    assert given_reasons(Verdict.MACHINE, ("apple_privacy",)) == Reason.APPLE_PRIVACY
    for verdict in Verdict:
        assert verdict_of(given_reasons(verdict, ("says who",))) is verdict


def test_only_a_click_soon_after_delivery_is_swift() -> None:
    assert is_swift(click(179))
    assert not is_swift(click(180))
    assert not is_swift(opened(10))
    assert not is_swift(click(10, delivered=None))
    assert is_soon(click(1_799))
    assert not is_soon(click(1_800))


def test_a_mail_that_is_opened_and_followed_ten_thousand_times_is_judged_in_linear_time() -> None:
    """No clock is asked: a search of all others for each would take minutes."""
    here, there = (RequestFacts(family="chrome/windows", network=name) for name in ("n1", "n2"))
    own = [opened(20.0 * i, facts=here) for i in range(10_000)]
    own += [click(20.0 * i + 15, link=i % 3, facts=there) for i in range(10_000)]
    own += [click(300_000 + i * 1e-4, facts=(here, there)[i == 9_999]) for i in range(10_000)]
    assert nearest_reasons(own[:20_000]) == {}
    assert nearest_reasons(own) == {own[-1].key: Reason.NETWORK_KNOWN}  # an echo, a day from all others
    assert list(echoes(own[20_000:])) == [own[-1].key]
    assert len(judge_mail(own, links=3)) == 30_000
