"""Mutated requests to the tracker; ``python -m benchmarks.fuzz_tracker`` tries a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_tracker import SIGNER, Ledger, Target, corpus, request_of, run


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


def test_two_thousand_mutated_requests_do_no_harm_and_reach_every_place() -> None:
    seen = run(2_000, seed=11).seen
    assert {"redirects", "unsubscribes", "GET /o/", "GET /c/", "POST /u/", "GET /v/", "POST /w/"} <= set(seen)
    assert {"status 200", "status 302", "status 404", "status 405", "status 413", "status 414"} <= set(seen)


TAILED = st.sampled_from(corpus()).flatmap(lambda seed: st.binary(max_size=40).map(seed.__add__))


@given(st.binary(max_size=200) | TAILED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_do_harm(target: Target, data: bytes) -> None:
    target.try_one(data)


@pytest.mark.parametrize(("method", "said"), [("GET", "changed something"), ("POST", "unsubscribed by")])
def test_the_check_notices_what_is_unsubscribed_by_something_else(
    method: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target()
    monkeypatch.setattr(Ledger, "message", lambda self, _: setattr(self, "unsubscribed", self.unsubscribed + 1))
    other = SIGNER.sign("u", SIGNER.message_id("a", "b"))
    with pytest.raises(AssertionError, match=said):
        target.try_one(f"{method}\n/u/{other}\n\n".encode())
    target.close()


def test_the_check_notices_a_redirect_to_a_foreign_host(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    monkeypatch.setattr("benchmarks.fuzz_tracker.HOST", "other.example")
    with pytest.raises(AssertionError, match=r"example\.com"):
        target.try_one(next(data for data in corpus() if data.startswith(b"GET\n/c/")))
    target.close()


def test_every_request_of_the_corpus_is_answered_as_it_should_be(target: Target) -> None:
    assert SIGNER.verify("u", request_of(corpus()[9])[0]["path"][3:]) is not None
    statuses = [target.try_one(data) for data in corpus()]
    assert statuses == [200] * 3 + [302] * 3 + [200] * 15 + [404] * 3 + [302] * 3
