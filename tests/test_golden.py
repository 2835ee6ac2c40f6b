"""Published values: tables, textbook examples and other libraries' own tests, to the digits that they print.

Values that belong to one module alone stand in its own tests (SAS's Pocock design in `tests/test_power.py`, say). Not
here, because abmail has no such method: exact unconditional tests, continuity corrections, confseq's one-sided normal,
gamma-exponential, gamma-Poisson and beta-binomial mixtures (a guardrail's mixture has another centre), stitched and
betting sequences, multinomial sample ratios, and the normal-approximation Bayes test of gbstats. Boundaries that spend
alpha belong to the simulations' rivals (`tests/test_significance.py`).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2

from abmail._boundary import mixture_bound, normal_tail
from abmail._conditional import breslow_day
from abmail._drift import drift_crossing
from abmail._exact import exact
from abmail._fixed import ScoreTest
from abmail._hypergeometric import _log_central, log_mgf
from abmail._multiple import benjamini_hochberg, holm
from abmail._sequential import Pair, mix
from abmail.stats import Counts, compare, newcombe_interval, obrien_fleming, sample_size, srm


def pair_of(*rows: tuple[int, int, int, int]) -> Pair:
    """Rows of successes and sends of arm b, then of arm a."""
    k_b, n_b, k_a, n_a = np.array(rows, dtype=np.float64).T
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


# --- One look: Newcombe 1998, Stat Med 17:873, table II, contrasts (a) to (h) -----------------------------------------

CONTRASTS = {  # successes and sizes; methods 3 (Mee), 4 (Miettinen-Nurminen) and 10 (hybrid score)
    (56, 70, 48, 80): ((0.0533, 0.3377), (0.0528, 0.3382), (0.0524, 0.3339)),
    (9, 10, 3, 10): ((0.1821, 0.8370), (0.1700, 0.8406), (0.1705, 0.8090)),
    (6, 7, 2, 7): ((0.0544, 0.8478), (0.0342, 0.8534), (0.0582, 0.8062)),
    (5, 56, 0, 29): ((-0.0313, 0.1926), (-0.0326, 0.1933), (-0.0381, 0.1926)),
    (0, 10, 0, 20): ((-0.1611, 0.2775), (-0.1658, 0.2844), (-0.1611, 0.2775)),
    (0, 10, 0, 10): ((-0.2775, 0.2775), (-0.2879, 0.2879), (-0.2775, 0.2775)),
    (10, 10, 0, 20): ((0.7225, 1.0), (0.7156, 1.0), (0.6791, 1.0)),
    (10, 10, 0, 10): ((0.6777, 1.0), (0.6636, 1.0), (0.6075, 1.0)),
}


@pytest.mark.parametrize(("contrast", "intervals"), CONTRASTS.items())
def test_intervals_of_a_difference_are_those_of_the_eleven_methods(
    contrast: tuple[int, int, int, int], intervals: tuple[tuple[float, float], ...]
) -> None:
    k_b, n_b, k_a, n_a = contrast
    for corrected, published in zip((False, True), intervals[:2], strict=True):
        low, high = ScoreTest(pair_of(contrast), corrected).difference(0.05)
        assert (low[0], high[0]) == pytest.approx(published, abs=5.1e-5)
    assert newcombe_interval((k_a, n_a), (k_b, n_b)) == pytest.approx(intervals[2], abs=5.1e-5)


def test_the_score_interval_of_a_ratio_is_koopmans() -> None:
    low, high = ScoreTest(pair_of((36, 40, 16, 80)), corrected=False).lift(0.05)

    assert (low[0] + 1, high[0] + 1) == pytest.approx((2.94, 7.15), abs=0.005)  # Koopman 1984, Biometrics 40:513


# --- Many looks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(  # Jennison & Turnbull 2000, table 2.3: 1 to 10 looks, and 20
    ("alpha", "constants"),
    [
        (0.01, (2.576, 2.580, 2.595, 2.609, 2.621, 2.631, 2.640, 2.648, 2.654, 2.660, 2.695)),
        (0.05, (1.960, 1.977, 2.004, 2.024, 2.040, 2.053, 2.063, 2.072, 2.080, 2.087, 2.126)),
        (0.10, (1.645, 1.678, 1.710, 1.733, 1.751, 1.765, 1.776, 1.786, 1.794, 1.801, 1.842)),
    ],
)
def test_obrien_fleming_constants_are_those_of_the_table(alpha: float, constants: tuple[float, ...]) -> None:
    ours = [obrien_fleming(looks, alpha) for looks in (*range(1, 11), 20)]

    assert ours == pytest.approx(constants, abs=6e-4)


RPACT: tuple[tuple[float, tuple[float, ...], tuple[float, ...], tuple[float, ...]], ...] = (
    (0.24, (0.3, 0.8, 1.0), (3.2029374, 2.4819703, 2.3420706), ()),
    (0.48, (0.3, 0.6, 0.8, 1.0), (2.6416137, 2.6052458, 2.5902992, 2.5787648), (0.27985915, 0.63939135, 0.80444921)),
    (0.18, (0.3, 0.6, 0.8, 1.0), (3.4563925, 2.7688119, 2.5253005, 2.3512665), (0.067932398, 0.50628745, 0.76237915)),
)


@pytest.mark.parametrize(("shape", "clock", "bounds", "powers"), RPACT)
def test_wang_tsiatis_bounds_at_uneven_looks_and_their_power_are_rpacts(
    shape: float, clock: tuple[float, ...], bounds: tuple[float, ...], powers: tuple[float, ...]
) -> None:
    # rpact's tests of getDesignGroupSequential: two-sided alpha .025; power .9 at the last look, before it as here
    c, times = obrien_fleming(clock, 0.025, shape=shape), np.array(clock)

    assert c * times ** (shape - 0.5) == pytest.approx(bounds, abs=1e-7)

    def found_by(drift: float) -> np.ndarray:
        crossing = drift_crossing(c * times**shape, clock, drift)
        return (crossing.upper + crossing.lower).cumsum()

    if powers:
        drift = brentq(lambda d: found_by(d)[-1] - 0.9, 1, 6)
        assert found_by(drift)[:-1] == pytest.approx(powers, abs=2e-6)


def test_sample_sizes_are_rs() -> None:
    # R: power.prop.test(p1 = .10, p2 = .12, power = .80): n = 3840.847; its own regression test for PR#15792:
    # power.prop.test(p1 = .5, p2 = .501, sig.level = .001, power = .90): n = 10451937 within 1e-7 of it
    assert sample_size(baseline=0.10, effect=0.02, power=0.80, method="fixed").n == 2 * 3_841
    large = sample_size(baseline=0.5, effect=0.001, power=0.90, alpha=0.001, method="fixed").n
    assert large is not None
    assert large / 2 == pytest.approx(10_451_937, rel=1e-7)


def test_the_sequential_interval_of_gbstats_is_the_mixture_boundary() -> None:
    # gbstats unit tests: 1396 of 3000 against 2422 of 3461, relative, tuning parameter 5,000
    n_a, n_b = 3_000, 3_461
    p_a, p_b = 1_396 / n_a, 2_422 / n_b
    sd = np.sqrt(p_b * (1 - p_b) / n_b / p_a**2 + p_a * (1 - p_a) / n_a * p_b**2 / p_a**4)
    log = -2 * np.log(0.05)
    rho = 5_000 / (log + np.log1p(log))  # its approximate tuning
    half = sd / np.sqrt(n_a + n_b) * mixture_bound(np.array([float(n_a + n_b)]), rho, 0.05)[0]
    lift = p_b / p_a - 1

    assert (lift, lift - half, lift + half) == pytest.approx((0.50386, 0.40098, 0.60675), abs=6e-6)


# --- Strata: R, mantelhaen.test ---------------------------------------------------------------------------------------

UCB_ADMISSIONS = pair_of(
    (89, 108, 512, 825), (17, 25, 353, 560), (202, 593, 120, 325),
    (131, 375, 138, 417), (94, 393, 53, 191), (24, 341, 22, 373),
)  # fmt: skip
RABBITS = pair_of((0, 6, 0, 5), (3, 6, 0, 6), (6, 6, 2, 6), (5, 6, 6, 6), (2, 2, 5, 5))


@pytest.mark.parametrize(
    ("table", "corrected", "p_value", "plain"),
    [(UCB_ADMISSIONS, 1.4269, 0.2323, 1.5246), (RABBITS, 3.9286, 0.0475, 5.6571)],
    ids=["UCBAdmissions", "Rabbits"],
)
def test_the_stratified_sum_and_its_variance_give_the_published_chi_squares(
    table: Pair, corrected: float, p_value: float, plain: float
) -> None:
    mixture = mix(table, 0.05, None)
    s, v = abs(float(mixture.score.sum[-1])), float(mixture.v[-1])

    assert s**2 / v == pytest.approx(plain, abs=5e-5)
    assert (s - 0.5) ** 2 / v == pytest.approx(corrected, abs=5e-5)  # with the continuity correction that R makes
    assert normal_tail((s - 0.5) / np.sqrt(v)) == pytest.approx(p_value, abs=5e-5)


def test_the_likeliest_common_odds_ratios_are_the_published_ones() -> None:
    assert exact(RABBITS, 0.05, None).odds_ratio[-1] == pytest.approx(10.36102, abs=5e-5)
    # 0.9047 is the Mantel-Haenszel estimate of men against women; the conditional one differs in the fourth digit
    assert 1 / exact(UCB_ADMISSIONS, 0.05, None).odds_ratio[-1] == pytest.approx(0.9047, abs=5e-4)


def test_the_likeliest_odds_ratios_of_a_single_table_are_those_of_rs_fisher_test() -> None:
    # R, ?fisher.test: Fisher's convictions of twins, odds ratio .04693661, p-value .0005367 (.0004652 one-sided), and
    # his tea, 6.408309; R's root is good to about 2e-6 of it
    twins, tea = pair_of((2, 17, 10, 13)), pair_of((3, 4, 1, 4))
    for table, published in ((twins, 0.04693661), (tea, 6.408309)):
        assert exact(table, 0.05, None).odds_ratio[-1] == pytest.approx(published, rel=3e-6)
    chance = np.exp(_log_central(twins.n_a, twins.n_b, twins.k, np.zeros(1), np.array([12]))[0])

    assert chance[chance <= chance[2] * (1 + 1e-9)].sum() == pytest.approx(0.0005367, abs=5e-8)
    assert chance[:3].sum() == pytest.approx(0.0004652, abs=5e-8)


@pytest.mark.parametrize(("tarone", "chi_square", "p_value"), [(False, 1.4929, 0.2218), (True, 1.4905, 0.2221)])
def test_women_and_men_with_migraine_do_not_differ_as_breslow_and_day_say(
    tarone: bool, chi_square: float, p_value: float
) -> None:
    # R, DescTools, ?BreslowDayTest: better under the drug and under placebo, women and men
    rows = pair_of((16, 27, 5, 25), (12, 28, 7, 26))
    segments = Pair(**{name: getattr(rows, name)[:, None] for name in ("n_a", "k_a", "n_b", "k_b")})
    found = breslow_day(segments, tarone=tarone)
    assert found is not None

    assert found[0] == pytest.approx(chi_square, abs=5e-5)
    assert chi2.sf(*found) == pytest.approx(p_value, abs=5e-5)


# --- Many p-values: Benjamini & Hochberg 1995, JRSS B 57:289 ----------------------------------------------------------

INFARCTION = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0
]  # fmt: skip


def test_fifteen_p_values_keep_as_many_rejections_as_published() -> None:
    adjusted = holm(np.array(INFARCTION))

    assert int((adjusted <= 0.05).sum()) == 3
    assert (np.diff(adjusted) >= 0).all()
    assert int((benjamini_hochberg(INFARCTION) <= 0.05).sum()) == 4
    assert int((benjamini_hochberg(INFARCTION, dependent=True) <= 0.05).sum()) == 3  # Benjamini & Yekutieli 2001


# --- Several proportions, and Fisher's test ---------------------------------------------------------------------------


def test_smokers_among_four_groups_differ_as_rs_prop_test_says() -> None:
    # R, ?prop.test: 83 of 86, 90 of 93, 129 of 136, 70 of 82: X-squared = 12.6004, df = 3, p-value = 0.005585. The
    # sample ratio asks whether successes fall to groups by their sizes; its variance lacks the factor 1 - rate.
    smokers, patients = np.array([83, 90, 129, 70]), np.array([86, 93, 136, 82])
    found = srm(Counts(smokers, smokers, weights=patients / patients.sum())).p_value
    assert found is not None
    chi_square = chi2.isf(found, 3) / (1 - smokers.sum() / patients.sum())

    assert chi_square == pytest.approx(12.6004, abs=5e-5)
    assert chi2.sf(chi_square, 3) == pytest.approx(0.005585, abs=5e-7)


def test_the_chances_of_the_exact_comparison_make_fishers_test() -> None:
    # tea-tasting's tests: 13 of 47 against 19 of 53, two-sided p-value .399995
    n_a, n_b, k = np.array([53.0]), np.array([47.0]), np.array([32.0])
    chance = np.exp(_log_central(n_a, n_b, k, np.zeros(1), np.array([32]))[0])

    assert chance[chance <= chance[13] * (1 + 1e-9)].sum() == pytest.approx(0.399995, abs=5e-7)
    # and those are the chances behind the e-process
    theta = np.array([-0.7, 0.4])
    assert log_mgf(n_a, n_b, k, theta)[0] == pytest.approx(
        [np.log(chance @ np.exp(t * np.arange(33))) for t in theta], abs=1e-12
    )


# --- Whole experiments ------------------------------------------------------------------------------------------------

# Hillstrom 2008, MineThatData e-mail challenge: sends, visits and purchases of no e-mail, men's and women's
SENDS, VISITS, PURCHASES = [21_306, 21_307, 21_387], [2_262, 3_894, 3_238], [122, 267, 189]


@pytest.mark.parametrize(("arm", "none"), [(1, 0), (2, 0), (1, 2)])
def test_hillstroms_visits_differ_by_the_exact_method_as_by_the_score_test(arm: int, none: int) -> None:
    table = pair_of((VISITS[arm], SENDS[arm], VISITS[none], SENDS[none]))
    got, once = exact(table, 0.05, None), ScoreTest(table)
    low, high = got.difference(0.05)
    inner_low, inner_high = once.difference(0.05)

    assert got.effect[0] == pytest.approx(once.effect[0], abs=5e-6)
    assert got.proved(0.05)[0] == 1
    assert 0 < low[0] < inner_low[0] < inner_high[0] < high[0]  # looking often has its price
    if (arm, none) == (1, 0):
        assert round(100 * float(got.effect[0]), 2) == 7.66


def test_hillstroms_purchases_are_told_apart_although_they_are_few() -> None:
    men, women = (exact(pair_of((PURCHASES[arm], SENDS[arm], PURCHASES[0], SENDS[0])), 0.05, 40_000) for arm in (1, 2))

    assert men.odds_ratio[0] == pytest.approx(267 * (21_306 - 122) / (122 * (21_307 - 267)), rel=1e-3)
    assert men.proved(0.05)[0] == 1
    assert women.proved(0.05)[0] == 1
    assert women.p_value() > men.p_value()


@pytest.mark.parametrize(  # Udacity, free-trial experiment, first 23 days: control, then trial screen
    ("successes", "effect", "interval", "proved"),
    [([3_785, 3_423], -0.0206, (-0.0291, -0.0120), -1), ([2_033, 1_945], -0.0049, (-0.0116, 0.0019), 0)],
    ids=["enrolments", "payments"],
)
def test_udacitys_experiment_compares_as_published_once_and_likewise_at_any_look(
    successes: list[int], effect: float, interval: tuple[float, float], proved: int
) -> None:
    once = compare(Counts([17_293, 17_260], successes)).arms[1]
    always = exact(pair_of((successes[1], 17_260, successes[0], 17_293)), 0.05, 34_553)

    assert (once.effect, once.ci_lower, once.ci_upper) == pytest.approx((effect, *interval), abs=6e-5)
    assert always.effect[0] == pytest.approx(effect, abs=6e-5)
    assert always.proved(0.05)[0] == proved
    assert always.difference(0.05)[0][0] < interval[0] < interval[1] < always.difference(0.05)[1][0]
