"""Whether machines came to all variants alike."""

from __future__ import annotations

import numpy as np
import pytest

from abmail.stats import balance


def test_two_arms_agree_with_mantel_and_haenszel() -> None:
    from statsmodels.stats.contingency_tables import StratifiedTable  # 0.14

    n = np.array([[400, 600], [900, 100], [50, 70]])
    k = np.array([[30, 70], [80, 15], [3, 9]])
    tables = [np.array([[k[e, 0], k[e, 1]], [n[e, 0] - k[e, 0], n[e, 1] - k[e, 1]]]) for e in range(3)]
    expected = StratifiedTable(tables).test_null_odds(correction=False)
    found = balance(n, k)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.status == "ok"
    assert found.shares == pytest.approx((113 / 1350, 94 / 770))


def test_equal_arms_raise_the_alarm_as_often_as_its_level_whatever_the_weights() -> None:
    rng = np.random.default_rng(4)
    runs, level = 2_000, 0.05
    weights = rng.dirichlet(np.ones(3) * 4, size=6)
    alarms = 0
    for _ in range(runs):
        n = np.stack([rng.multinomial(400, w) for w in weights])
        rate = rng.uniform(0.02, 0.5, size=(6, 1))  # machines come unevenly over the waves
        found = balance(n, rng.binomial(n, rate))
        assert found.p_value is not None
        alarms += found.p_value < level
    assert 55 < alarms < 149  # a true 5 %: outside with a chance under one in a million


def test_few_machines_are_no_answer_and_an_arm_without_mails_is_left_out() -> None:
    assert balance(np.array([[100, 100]]), np.array([[2, 3]])).status == "too_few"
    three = balance(np.array([[500, 500, 0]]), np.array([[20, 60, 0]]))
    two = balance(np.array([[500, 500]]), np.array([[20, 60]]))
    assert three.p_value == pytest.approx(two.p_value)
    assert balance(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2), dtype=np.int64)).p_value is None
