"""Values worked out when they are first read, and the answers that hold such values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import abmail.stats
from abmail._later import Later
from abmail.stats import Comparison, Counts, MeansComparison, Moments, compare, compare_means, expected_loss, p_best

N, K = [500, 500, 500], [100, 125, 90]


def counted() -> Comparison:
    return compare(Counts(N, K))


def valued() -> MeansComparison:
    return compare_means(Moments.from_summary(N, [4.1, 4.4, 4.0], [9.0, 9.6, 9.2]))


def test_a_value_is_worked_out_once_and_only_when_it_is_read() -> None:
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return 7

    later = Later(work)
    assert calls == []
    assert (later.value, later.value, repr(later), hash(later)) == (7, 7, "7", hash(7))
    assert calls == [1]


def test_a_value_that_waits_is_the_value() -> None:
    assert Later(lambda: 7) == Later(lambda: 3 + 4) != Later(lambda: 8)
    assert Later(lambda: 7) != 7
    for again in (pickle.loads(pickle.dumps(Later(lambda: 7))), copy.deepcopy(Later(lambda: 7))):
        assert again == Later(lambda: 7)


def test_posteriors_that_nobody_reads_are_not_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("nobody asked for a posterior")

    with monkeypatch.context() as patched:
        patched.setattr(abmail.stats, "p_best", unwanted)
        result = counted()
        assert result.arms[1].ci_lower is not None
        assert result.decision.state == "leading"
    a, b = np.add(K, 1), np.subtract(N, K) + 1

    # Chances and losses read together come from one sum, each alone from its own: equal but for the last digits.
    assert [arm.p_best for arm in result.arms] == pytest.approx(p_best(a, b).tolist(), rel=1e-9)
    assert [arm.expected_loss for arm in result.arms] == pytest.approx(expected_loss(a, b).tolist(), rel=1e-9)


@pytest.mark.parametrize("answer", [counted, valued])
def test_an_answer_is_the_same_value_whether_it_was_read_or_not(
    answer: Callable[[], Comparison | MeansComparison],
) -> None:
    fresh, read = answer(), answer()
    written = read.to_dict()

    assert answer() == read
    assert (repr(answer()), hash(answer().arms)) == (repr(read), hash(read.arms))
    for back in (pickle.loads(pickle.dumps(fresh)), copy.deepcopy(fresh)):
        assert back == read
        assert back.to_dict() == written


def test_rows_hold_every_figure_in_the_usual_order() -> None:
    assert list(counted().rows()[1]) == [
        "name", "index", "n", "successes", "rate", "effect", "lift", "ci_lower", "ci_upper", "lift_lower", "lift_upper",
        "p_value", "p_best", "expected_loss", "credible_lower", "credible_upper", "weight", "status",
    ]  # fmt: skip
    assert list(valued().rows()[1]) == [
        "name", "index", "n", "mean", "effect", "lift", "ci_lower", "ci_upper", "lift_lower", "lift_upper", "p_value",
        "status",
    ]  # fmt: skip


def test_what_is_worked_out_later_cannot_be_set() -> None:
    for arm, name in ((counted().arms[1], "p_best"), (valued().arms[1], "lift_lower")):
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            setattr(arm, name, 0.5)
