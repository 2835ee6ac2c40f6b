"""Every policy keeps the same promises; each also does what its name says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import abmail as ab
from abmail.bandit import (
    POLICIES,
    WEIGHT_UNIT,
    ChanceToBeBest,
    Contextual,
    EpsilonGreedy,
    ExplorationSampling,
    Factorial,
    Fixed,
    Hierarchical,
    Policy,
    Sharpened,
    TestThenSend,
    Thompson,
    TopTwo,
    Uniform,
    policy_from_dict,
    weights_over,
)
from abmail.stats import Counts

UNIT = 1 / WEIGHT_UNIT

EXAMPLES: dict[str, list[Policy]] = {
    "thompson": [Thompson(), Thompson(min_weight=None, prior=(2.0, 8.0), level_sd=0.1)],
    "sharpened": [Sharpened(), Sharpened(planned=9_000, power=3.0, min_weight=0.0), Sharpened(planned=1, power=50.0)],
    "top_two": [TopTwo(), TopTwo(beta=1.0, min_weight=0.0), TopTwo(beta=0.2, prior=(1.0, 30.0))],
    "exploration": [ExplorationSampling(), ExplorationSampling(min_weight=None)],
    "epsilon_greedy": [EpsilonGreedy(), EpsilonGreedy(epsilon=0.0), EpsilonGreedy(epsilon=1.0)],
    "uniform": [Uniform()],
    "fixed": [Fixed(shares=(0.2, 0.5, 0.3)), Fixed(shares=(0.0, 0.0, 1.0))],
    "test_then_send": [TestThenSend(), TestThenSend(share=0.5, wait=0.0, planned=2_000)],
    "hierarchical": [Hierarchical(), Hierarchical(rule=Sharpened(prior=(2.0, 30.0), planned=9_000, level_sd=0.1))],
    "contextual": [Contextual.of(categories={"role": ["it"]}), Contextual.of(numbers={"days": [30]}, rule=Sharpened())],
    "factorial": [Factorial.of({"subject": "abc"}), Factorial.of({"cta": "abc", "body": "x"}, rule=TopTwo())],
}
STRUCTURED = Hierarchical | Factorial | Contextual
ALL = [policy for examples in EXAMPLES.values() for policy in examples]
RISES = [  # top-two and exploration give to the rivals of a clear leader; structured models draw, and share successes
    policy for policy in ALL if not isinstance(policy, TopTwo | ExplorationSampling | STRUCTURED)
]


def floor_of(policy: Policy, n_arms: int) -> float:
    """The share that no active arm may fall under."""
    if isinstance(policy, EpsilonGreedy):
        return policy.epsilon / n_arms
    if isinstance(policy, ChanceToBeBest):
        return min(0.10, 0.4 / n_arms) if policy.min_weight is None else policy.min_weight
    if isinstance(policy, STRUCTURED):
        return floor_of(policy.rule, n_arms)
    return 0.0


@st.composite
def three_arms(draw: st.DrawFn) -> Counts:
    """Some epochs of three arms, with pending mails, now and then with planned looks or without any mail."""
    epochs = draw(st.integers(1, 4))
    numbers = st.lists(st.integers(0, 2_000), min_size=3 * epochs, max_size=3 * epochs)
    parts = st.lists(st.floats(0, 1), min_size=3 * epochs, max_size=3 * epochs)
    n, part = np.array(draw(numbers)).reshape(-1, 3), np.array(draw(parts)).reshape(-1, 3)
    k = (n * part**3).astype(int)
    return Counts(n, k, exposure=np.maximum(k, n * part), looks=draw(st.none() | st.integers(epochs, 9)))


def test_every_policy_has_examples_here() -> None:
    assert EXAMPLES.keys() == POLICIES.keys()
    for name, examples in EXAMPLES.items():
        assert all(type(policy) is POLICIES[name] for policy in examples)


@pytest.mark.parametrize("policy", ALL, ids=repr)
class TestEveryPolicy:
    """What holds for all of them."""

    @settings(deadline=None, max_examples=25)
    @given(counts=three_arms(), seed=st.integers(0, 3))
    def test_weights_are_exact_shares_above_the_floor_and_the_same_bits_again(
        self, policy: Policy, counts: Counts, seed: int
    ) -> None:
        weights = policy.weights(counts, rng=seed)
        assert weights.shape == (3,)
        assert weights.sum() == 1.0
        assert (weights * WEIGHT_UNIT == np.rint(weights * WEIGHT_UNIT)).all()
        assert weights.min() >= floor_of(policy, 3) - UNIT
        again = policy_from_dict(json.loads(json.dumps(policy.to_dict()))).weights(counts, rng=seed)
        assert again.tobytes() == weights.tobytes()

    @settings(deadline=None, max_examples=25)
    @given(counts=three_arms(), order=st.permutations([0, 1, 2]))
    def test_the_order_of_the_arms_does_not_matter(self, policy: Policy, counts: Counts, order: list[int]) -> None:
        moved = Fixed(shares=tuple(policy.shares[i] for i in order)) if isinstance(policy, Fixed) else policy
        close = 0.04 if isinstance(policy, STRUCTURED) else 3 * UNIT  # arms that are level: draws
        assert moved.weights(counts.arms(order)) == pytest.approx(policy.weights(counts)[order], abs=close)

    @settings(deadline=None, max_examples=25)
    @given(counts=three_arms(), stopped=st.integers(0, 2))
    def test_a_stopped_arm_gets_nothing_and_the_rest_everything(
        self, policy: Policy, counts: Counts, stopped: int
    ) -> None:
        active = [arm != stopped for arm in range(3)]
        if isinstance(policy, Fixed) and not any(s for s, on in zip(policy.shares, active, strict=True) if on):
            with pytest.raises(ValueError, match="shares"):
                policy.weights(counts, active=active)
            return
        weights = policy.weights(counts, active=active)
        assert weights[stopped] == 0
        assert weights.sum() == 1.0
        assert weights[active].min() >= floor_of(policy, 2) - UNIT

    @pytest.mark.parametrize("active", [[False, False, False], [True], [True] * 4])
    def test_a_mask_that_does_not_fit_is_refused(self, policy: Policy, active: list[bool]) -> None:
        with pytest.raises(ValueError, match="active"):
            policy.weights(Counts([1, 1, 1], [0, 0, 0]), active=active)

    def test_it_comes_back_from_json(self, policy: Policy) -> None:
        assert isinstance(policy, Policy)
        assert policy_from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
        assert policy.to_dict()["name"] == policy.name

    def test_a_field_that_it_does_not_have_is_refused(self, policy: Policy) -> None:
        with pytest.raises(ValueError, match=f"policy {policy.name} has no field 'nonsense'"):
            policy_from_dict(policy.to_dict() | {"nonsense": 1})

    def test_absurd_counts_still_give_shares(self, policy: Policy) -> None:
        for n, k in (
            ([10**15, 10**15, 1], [10**14, 10**14 + 1, 1]),
            ([10**12] * 3, [0, 10**12, 10**12 - 1]),
            ([0, 0, 1], [0, 0, 0]),
        ):
            weights = policy.weights(Counts(n, k))
            assert np.isfinite(weights).all()
            assert weights.sum() == 1.0


@settings(deadline=None, max_examples=100)
@given(
    counts=three_arms(), policy=st.sampled_from(RISES), epoch=st.integers(0, 3), arm=st.integers(0, 2),
    more=st.integers(1, 60),
)  # fmt: skip
def test_more_successes_never_lower_an_arms_weight(
    counts: Counts, policy: Policy, epoch: int, arm: int, more: int
) -> None:
    successes = counts.successes.copy()
    epoch %= counts.n_epochs
    successes[epoch, arm] = min(successes[epoch, arm] + more, counts.n[epoch, arm])
    better = Counts(counts.n, successes, exposure=counts.exposure, looks=counts.looks)
    assert policy.weights(better)[arm] >= policy.weights(counts)[arm] - 1e-5


def test_a_policy_that_nobody_knows_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"policy is 'top-two'.*did you mean top_two"):
        policy_from_dict({"name": "top-two"})
    with pytest.raises(ValueError, match="did you mean min_weight"):
        policy_from_dict({"name": "thompson", "min_wieght": 0.1})
    with pytest.raises(ValueError, match="fixed cannot be read"):
        policy_from_dict({"name": "fixed"})
    with pytest.raises(ValueError, match="thompson cannot be read"):
        policy_from_dict({"name": "thompson", "min_weight": "much"})


@pytest.mark.parametrize(
    ("build", "values", "fault"),
    [
        (Sharpened, {"power": 0.5}, "power is 0.5"),
        (Sharpened, {"power": math.nan}, "power is nan"),
        (Sharpened, {"planned": 0}, "planned is 0"),
        (Sharpened, {"min_weight": -0.1}, "min_weight is -0.1"),
        (TopTwo, {"beta": 0.0}, "beta is 0"),
        (TopTwo, {"prior": (1.0, math.inf)}, "prior"),
        (Thompson, {"prior": (1.0,)}, "prior"),
        (EpsilonGreedy, {"epsilon": 1.5}, "epsilon is 1.5"),
        (EpsilonGreedy, {"level_sd": -1.0}, "level_sd is -1"),
        (TestThenSend, {"share": 1.0}, "share is 1"),
        (TestThenSend, {"wait": -1.0}, "wait is -1"),
        (TestThenSend, {"planned": -5}, "planned is -5"),
    ],
)
def test_nonsense_is_refused_in_words(build: Any, values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        build(**values)


@pytest.mark.parametrize(
    ("chances", "active", "fault"),
    [([0.5, 0.5], None, "chances"), ([0.5, -0.1, 0.6], None, "chances"), ([math.nan, 1, 0], None, "chances"),
     ([1.0, 0.0, 0.0], [False, True, True], "no active arm")],
)  # fmt: skip
def test_chances_that_are_none_are_refused(chances: list[float], active: list[bool] | None, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Thompson().weights_from(chances, Counts([1, 1, 1], [0, 0, 0]), active=active)


# -- sharpened -------------------------------------------------------------------------------------------------------


def sharpened_by_hand(chances: NDArray[np.float64], g: float) -> NDArray[np.float64]:
    raised = chances**g
    return np.asarray(raised / raised.sum())


@pytest.mark.parametrize(("planned", "g"), [(10_000_000, 1.0), (2_400, 2.5), (1_200, 4.0), (1_000, 4.0)])
def test_the_power_rises_with_the_share_of_the_list_that_was_sent(planned: int, g: float) -> None:
    counts = Counts([400, 300, 500], [40, 36, 44])
    chances = Thompson().chances(counts)
    weights = Sharpened(planned=planned, min_weight=0.0).weights(counts)
    assert weights == pytest.approx(sharpened_by_hand(chances, g), abs=1e-3 if planned > 5_000 else 2 * UNIT)


def test_without_planned_mails_the_planned_epochs_count_and_without_both_nothing_is_sharpened() -> None:
    n, k = [[200, 150, 250], [200, 150, 250]], [[20, 18, 22], [20, 18, 22]]
    chances = Thompson().chances(Counts(n, k))
    half = Sharpened(min_weight=0.0).weights(Counts(n, k, looks=4))
    assert half == pytest.approx(sharpened_by_hand(chances, 2.5), abs=2 * UNIT)
    assert (
        Sharpened(min_weight=0.0).weights(Counts(n, k)).tolist()
        == Thompson(min_weight=0.0).weights(Counts(n, k)).tolist()
    )
    strata = Counts(n, k, looks=4, strata=["a", "b"], epochs=[0, 0])
    assert Sharpened().exponent(strata) == 1.75


# -- top two, exploration --------------------------------------------------------------------------------------------


def test_top_two_gives_what_russos_draws_give() -> None:
    counts = Counts([400, 300, 500, 400], [40, 36, 44, 46])
    chances = Thompson().chances(counts)
    rng = np.random.default_rng(5)
    first, again = rng.choice(4, size=200_000, p=chances), rng.choice(4, size=(200_000, 60), p=chances)
    other = again[np.arange(len(again)), (again != first[:, None]).argmax(axis=1)]
    drawn = np.where(rng.random(len(first)) < 0.3, first, other)
    weights = TopTwo(beta=0.3, min_weight=0.0).weights(counts)
    assert weights == pytest.approx(np.bincount(drawn, minlength=4) / len(drawn), abs=0.006)


def test_top_two_splits_between_the_best_two_when_it_is_sure() -> None:
    sure = Counts([10_000] * 4, [1_900, 2_000, 2_300, 3_000])
    assert TopTwo(min_weight=0.0).weights(sure) == pytest.approx([0, 0, 0.5, 0.5], abs=1e-6)
    assert ExplorationSampling(min_weight=0.0).weights(sure) == pytest.approx([0, 0, 0.5, 0.5], abs=1e-6)


def test_exploration_sampling_goes_by_the_chance_times_its_complement() -> None:
    counts = Counts([400, 300, 500], [40, 36, 44])
    p = Thompson().chances(counts)
    by_hand = p * (1 - p) / (p * (1 - p)).sum()
    assert ExplorationSampling(min_weight=0.0).weights(counts) == pytest.approx(by_hand, abs=2 * UNIT)


@pytest.mark.parametrize("policy", [TopTwo(), ExplorationSampling(), Sharpened(), EpsilonGreedy(), TestThenSend()])
def test_one_arm_gets_everything(policy: Policy) -> None:
    assert policy.weights(Counts([10], [3])).tolist() == [1.0]


# -- baselines -------------------------------------------------------------------------------------------------------


def test_epsilon_greedy_divides_the_leaders_share_among_arms_that_are_level() -> None:
    assert EpsilonGreedy(epsilon=0.3).weights(Counts([10, 10, 10], [1, 4, 4])) == pytest.approx(
        [0.1, 0.45, 0.45], abs=UNIT
    )
    pending = Counts([[100, 100], [100, 100]], [[20, 25], [1, 9]], exposure=[[100, 100], [5, 60]])
    assert EpsilonGreedy(epsilon=0.0).weights(pending).tolist() == [0.0, 1.0]


def test_the_classical_test_is_even_until_its_share_is_out_and_then_sends_the_winner() -> None:
    policy = TestThenSend(share=0.2, wait=14_400, planned=10_000)
    early = Counts([[500, 500]], [[80, 120]])
    assert policy.weights(early).tolist() == [0.5, 0.5]
    assert (policy.room(early), policy.pause(early, age=0.0)) == (1_000, 0.0)
    tested = Counts([[500, 500], [500, 500]], [[80, 120], [10, 20]])
    assert policy.weights(tested).tolist() == [0.0, 1.0]
    assert policy.room(tested) is None
    assert policy.pause(tested, age=3_600) == 10_800
    assert policy.pause(tested, age=20_000) == 0


def test_the_classical_choice_stands_whatever_comes_in_later() -> None:
    policy = TestThenSend(planned=5_000)
    chosen = Counts([[500, 500], [1_000, 0]], [[90, 200], [100, 0]])
    assert policy.weights(chosen).tolist() == [1.0, 0.0]
    logged = Counts([[500, 500], [1_000, 3]], [[90, 200], [100, 0]], weights=[[0.5, 0.5], [1.0, 0.0]])
    assert policy.weights(logged).tolist() == [1.0, 0.0]
    assert policy.pause(chosen, age=0.0) == 0
    assert policy.weights(chosen, active=[False, True]).tolist() == [0.0, 1.0]


def test_the_classical_test_without_a_planned_list_is_a_part_of_the_planned_epochs_or_the_first_one() -> None:
    n, k = [[50, 50], [50, 50]], [[4, 9], [4, 9]]
    policy = TestThenSend(share=0.5)
    assert policy.weights(Counts(n, k, looks=5)).tolist() == [0.5, 0.5]
    assert policy.weights(Counts(n, k, looks=4)).tolist() == [0.0, 1.0]
    assert policy.weights(Counts(n[:1], k[:1])).tolist() == [0.0, 1.0]
    assert policy.weights(Counts([0, 0], [0, 0])).tolist() == [0.5, 0.5]
    assert policy.room(Counts([0, 0], [0, 0])) is None
    strata = Counts(n, k, looks=2, strata=["a", "b"], epochs=[0, 0])
    assert policy.weights(strata).tolist() == [0.0, 1.0]


def test_a_classical_test_that_ends_level_divides_the_rest() -> None:
    policy = TestThenSend(planned=1_000)
    assert policy.weights(Counts([60, 60, 80], [6, 6, 1])).tolist() == [0.5, 0.5, 0.0]
    assert policy.weights(Counts([60, 60, 80], [0, 0, 0])) == pytest.approx([1 / 3] * 3, abs=UNIT)


# -- uncertain delays ------------------------------------------------------------------------------------------------


def test_over_uncertain_delays_the_chances_are_averaged_before_the_policy_acts() -> None:
    counts = Counts([[400, 300, 500]], [[40, 36, 44]])
    exposures = np.stack([counts.exposure, counts.exposure * [0.8, 1.0, 0.9]])
    chances = np.array([0.25, 0.75])
    mixed = sum(
        c * Thompson().chances(Counts(counts.n, counts.successes, e)) for c, e in zip(chances, exposures, strict=True)
    )
    for policy in (TopTwo(), Sharpened(planned=2_000), ExplorationSampling()):
        weights = weights_over(policy, counts, exposures, chances)
        assert weights == pytest.approx(policy.weights_from(mixed, counts), abs=2 * UNIT)


@pytest.mark.parametrize("active", [None, [True, False, True, True]])
def test_chances_in_several_pictures_of_the_delays_are_those_of_each(active: list[bool] | None) -> None:
    rng = np.random.default_rng(8)
    n = rng.integers(50, 300, (6, 4))
    counts = Counts(n, rng.binomial(n, 0.1))
    exposures = counts.successes + (n - counts.successes) * rng.random((9, 6, 4))
    exposures[3] = 0.0  # a picture in which no answer can have come in yet
    together = Thompson().chances(counts, active=active, exposures=exposures)
    for chances, exposure in zip(together, exposures, strict=True):
        assert chances == pytest.approx(Thompson().chances(counts.exposed(exposure), active=active), abs=1e-13)


def test_the_public_names_are_the_policies() -> None:
    for kind in POLICIES.values():
        assert getattr(ab, kind.__name__) is kind
