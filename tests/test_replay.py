"""Estimates from a log of random mails: right on average, with honest intervals, whatever the chances were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abmail.bandit import Thompson, Uniform
from abmail.simulate import Log, replay

RATES = np.array([[0.10, 0.20, 0.15], [0.30, 0.10, 0.15]])  # of three arms in two contexts
SHARE = 0.4  # of the second context
LOGGED = np.array([0.6, 0.3, 0.1])
NEW = np.array([0.1, 0.3, 0.6])
TRUE = float(NEW @ ((1 - SHARE) * RATES[0] + SHARE * RATES[1]))
METHODS = ("rejection", "ips", "snips", "dr")


def synthetic(n: int, seed: int, chances: Any = LOGGED) -> Log:
    rng = np.random.default_rng(seed)
    group = (rng.random(n) < SHARE).astype(np.int64)
    arm = rng.choice(3, size=n, p=chances)
    return Log(
        arms=("a", "b", "c"),
        arm=arm,
        reward=(rng.random(n) < RATES[group, arm]).astype(np.float64),
        propensity=np.asarray(chances, dtype=np.float64)[arm],
        context=np.array(["cold", "warm"])[group],
    )


@pytest.mark.parametrize("method", METHODS)
def test_estimates_hit_the_known_value_and_their_intervals_hold_it(method: Any) -> None:
    found = [replay(synthetic(1_500, seed), NEW, method=method, rng=seed + 1_000) for seed in range(400)]
    values = np.array([f.value for f in found])
    assert abs(values.mean() - TRUE) < 5 * values.std() / math.sqrt(400)
    held = sum(f.ci_lower <= TRUE <= f.ci_upper for f in found)
    assert held >= 352  # of 400; a true 95 % falls below less than once in a million
    assert np.mean([f.se for f in found]) == pytest.approx(values.std(), rel=0.15)


def test_a_model_of_the_rewards_makes_it_more_certain() -> None:
    log = synthetic(20_000, 1)
    spread = {method: replay(log, NEW, method=method).se for method in METHODS}  # type: ignore[arg-type]
    assert spread["dr"] < spread["snips"] < spread["rejection"]
    assert spread["dr"] < spread["ips"]


def test_the_estimators_are_their_formulas() -> None:
    log = Log(
        arms=("a", "b"), arm=np.array([0, 1, 1, 0]), reward=np.array([1.0, 0.0, 1.0, 0.0]),
        propensity=np.array([0.5, 0.5, 0.25, 0.8]), context=np.array([""] * 4),
    )  # fmt: skip
    ratio = np.array([0.2 / 0.5, 0.8 / 0.5, 0.8 / 0.25, 0.2 / 0.8])
    ips, snips = (replay(log, [0.2, 0.8], method=method) for method in ("ips", "snips"))
    assert ips.value == pytest.approx((ratio[0] + ratio[2]) / 4)
    assert snips.value == pytest.approx((ratio[0] + ratio[2]) / ratio.sum())
    assert ips.used == pytest.approx(ratio.sum() ** 2 / (ratio**2).sum())
    assert ips.se == pytest.approx(np.std(ratio * log.reward, ddof=1) / 2)


def test_shares_may_differ_from_mail_to_mail() -> None:
    log = synthetic(40_000, 3)
    warm = log.context == "warm"
    best = np.where(warm[:, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    true = (1 - SHARE) * 0.2 + SHARE * 0.3
    for method in METHODS:
        found = replay(log, best, method=method, rng=1)  # type: ignore[arg-type]
        assert abs(found.value - true) < 5 * found.se


def test_a_policy_that_learns_is_replayed_on_the_mails_that_it_agrees_with() -> None:
    log = synthetic(60_000, 4, chances=np.full(3, 1 / 3))
    learned = replay(log, Thompson(min_weight=0.02), method="rejection", every=500, rng=2)
    even = replay(log, Uniform(), method="rejection", rng=2)
    overall = (1 - SHARE) * RATES[0] + SHARE * RATES[1]
    assert learned.weights[-1][0] > 0.9  # 0.18 against 0.16 and 0.15
    assert learned.value > even.value
    assert abs(even.value - overall.mean()) < 5 * even.se
    assert even.used == pytest.approx(60_000, rel=0.01)  # an even log agrees with an even policy throughout
    assert 60_000 / 3 * 0.9 < learned.used < 60_000


@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_a_policy_that_learns_is_weighed_by_what_it_knew(method: Any) -> None:
    log = synthetic(30_000, 5)
    found = replay(log, Thompson(min_weight=0.02), method=method, every=1_000)
    overall = (1 - SHARE) * RATES[0] + SHARE * RATES[1]
    true = float((found.weights @ overall).mean())
    assert found.weights.shape == (30, 3)
    assert found.weights[0] == pytest.approx(np.full(3, 1 / 3), abs=1e-5)
    assert abs(found.value - true) < 5 * found.se


def test_a_log_is_read_from_a_file_with_columns_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("variant,clicked,chance,industry,stage\nb,1,0.5,it,hot\na,0,0.5,it,cold\n", encoding="utf-8-sig")
    columns = {"arm": "variant", "reward": "clicked", "propensity": "chance", "context": ("industry", "stage")}
    log = Log.from_csv(path, **columns)
    assert (log.arms, log.arm.tolist(), log.reward.tolist()) == (("a", "b"), [1, 0], [1.0, 0.0])
    assert log.context.tolist() == ["it / hot", "it / cold"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"arm": "a", "reward": "x", "propensity": "0.5"}, "reward of row 2 is 'x'"),
        ({"arm": "a", "reward": "1"}, "row 2 has no column 'propensity'"),
        ({"arm": "a", "reward": "1", "propensity": "0"}, "propensity of row 2 is 0.0, must be in"),
        ({"arm": "a", "reward": "nan", "propensity": "0.5"}, "reward of row 2 is nan"),
        ({"arm": "a", "reward": "1", "propensity": "1.5"}, "propensity of row 2 is 1.5"),
    ],
)
def test_a_faulty_row_is_named(row: dict[str, str], message: str) -> None:
    good = {"arm": "a", "reward": "0", "propensity": "0.5"}
    with pytest.raises(ValueError, match=message):
        Log.from_rows([good, row])


def test_what_nothing_is_known_of_is_refused() -> None:
    log = synthetic(100, 1, chances=[0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="never chose"):
        replay(log, [0.3, 0.3, 0.4], method="ips")
    with pytest.raises(ValueError, match="sum to 1"):
        replay(log, [0.3, 0.3, 0.3])
    with pytest.raises(ValueError, match="shares have shape"):
        replay(log, [0.5, 0.5])
    with pytest.raises(ValueError, match="method is 'magic'"):
        replay(log, [0.5, 0.5, 0.0], method="magic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        Log.from_rows([])
    money = Log.from_rows([{"arm": "a", "reward": "12.5", "propensity": "1"}])
    with pytest.raises(ValueError, match="0 or 1"):
        replay(money, Uniform())
    assert replay(money, [1.0], method="ips").value == 12.5
