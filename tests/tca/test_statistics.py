"""Intervals: exact small cases, coverage on simulated data, and the A/A test. False-alarm rates stand beside each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from glasspool.configs.errors import UserError
from glasspool.tca.statistics import mean_interval, minimum_detectable_effect, paired_interval, tail_mean

DRAWS = 600  # enough for a coverage study; the default of 10,000 is for reports


def _covers(interval: object, truth: float) -> bool:
    return interval.lo <= truth <= interval.hi  # type: ignore[attr-defined]


# --- cases done by hand --------------------------------------------------------------------------------------------


def test_under_20_values_it_is_the_t_interval_and_says_so() -> None:
    # 1, 2, 3: mean 2, sd 1, se 1/sqrt(3) = 0.577350; t(0.975, 2) = 4.302653; half width 2.484138.
    got = mean_interval([1.0, 2.0, 3.0], seed=0)
    assert (got.mean, got.lo, got.hi) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-6)
    assert got.n == 3
    assert got.method.startswith("95 % t interval on 3 values (fewer than 20")


def test_few_clusters_give_a_t_interval_on_cluster_means() -> None:
    # Cluster means 1, 2, 3 again, however many values lie inside a cluster.
    values = [0.0, 2.0, 1.5, 2.5, 3.0, 3.0]
    got = mean_interval(values, ["mon", "mon", "tue", "tue", "wed", "wed"], seed=0)
    assert (got.mean, got.lo, got.hi) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-6)
    assert got.n == 3
    assert "t interval on the means of 3 clusters" in got.method


def test_clusters_of_unequal_size_keep_the_mean_of_all_values() -> None:
    got = mean_interval([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"], seed=0)
    assert got.mean == 2.0
    assert got.lo < 2.0 < got.hi


def test_two_seeds_by_hand() -> None:
    # Seed means 1 and 3: variance 2, /2 = 1. Episode means 1, 2, 3: variance 1, /3.
    # Degrees of freedom (4/3)^2 / (1/1 + (1/9)/2) = 32/19.
    got = paired_interval([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]], seeds=[11, 12], seed=0)
    half = stats.t.ppf(0.975, 32 / 19) * np.sqrt(4 / 3)
    assert (got.mean, got.lo, got.hi) == pytest.approx((2.0, 2 - half, 2 + half))
    assert got.n == 3
    assert "2 training seeds (outer) crossed with 3 episodes (inner)" in got.method


def test_one_seed_is_the_interval_over_its_episodes() -> None:
    x = np.random.default_rng(5).normal(size=200)
    assert paired_interval(x[None, :], seed=3).lo == mean_interval(x, seed=3).lo
    assert "bootstrap over 200 episodes" in paired_interval(x, seed=3).method


def test_minimum_detectable_effect_of_half_a_bp_is_1_40_bps() -> None:
    assert minimum_detectable_effect(0.5) == pytest.approx(1.4007925)
    assert minimum_detectable_effect(1.0) == pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8), abs=1e-6)


def test_the_tail_is_the_largest_costs() -> None:
    assert tail_mean(np.arange(100.0)) == 97.0  # 95 to 99
    assert tail_mean([3.0, -1.0, 2.0]) == 3.0  # at least one
    assert tail_mean(np.arange(101.0)) == 97.5  # 5.05 values are rounded up to 6


# --- laws ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    x = np.random.default_rng(0).exponential(size=50)
    assert mean_interval(x, seed=0) == mean_interval(x, seed=0)
    assert mean_interval(x, seed=0).lo != mean_interval(x, seed=1).lo


def test_a_sign_change_mirrors_the_interval() -> None:
    x = np.random.default_rng(1).normal(size=(5, 30))
    a, b = paired_interval(x, seed=0), paired_interval(-x, seed=0)
    assert (a.lo, a.hi) == pytest.approx((-b.hi, -b.lo))


def test_from_1000_units_on_the_t_interval_is_what_the_bootstrap_gives() -> None:
    # Skewed costs (lognormal): both ends agree to 5 % of the half width (bootstrap noise at 10,000 draws: 1 to 2 %).
    x = np.random.default_rng(2).lognormal(size=1_000)
    fast = mean_interval(x, seed=0)
    slow_means = x[np.random.default_rng(0).integers(0, 1_000, (10_000, 1_000))].mean(axis=1)
    half = (fast.hi - fast.lo) / 2
    assert fast.method.startswith("95 % t interval on 1,000 values")
    assert np.quantile(slow_means, [0.025, 0.975]) == pytest.approx([fast.lo, fast.hi], abs=0.15 * half)
    assert np.diff(np.quantile(slow_means, [0.025, 0.975]))[0] == pytest.approx(2 * half, rel=0.05)


def test_pairing_shrinks_the_interval_by_what_the_routers_share() -> None:
    rng = np.random.default_rng(3)
    market = rng.normal(scale=10.0, size=400)  # both routers meet the same market
    router, baseline = market + rng.normal(size=400) - 0.5, market + rng.normal(size=400)
    paired = paired_interval(router - baseline, seed=0)
    unpaired_half = 1.96 * np.sqrt(router.var(ddof=1) / 400 + baseline.var(ddof=1) / 400)
    # sqrt(2) against sqrt(2) * sqrt(101): a tenth; false alarm below 1e-6.
    assert (paired.hi - paired.lo) / 2 < 0.15 * unpaired_half
    assert paired.excludes_zero


def test_clustered_values_are_not_counted_as_independent() -> None:
    day = np.repeat(np.random.default_rng(4).normal(size=40), 25)  # 1,000 parents, 40 days, one shock a day
    plain, clustered = mean_interval(day, seed=0), mean_interval(day, np.repeat(np.arange(40), 25), seed=0)
    assert clustered.n == 40
    assert (clustered.hi - clustered.lo) > 4 * (plain.hi - plain.lo)  # truth: sqrt(25) = 5


# --- coverage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 25])
def test_the_interval_covers_the_truth_95_times_in_100(n: int) -> None:
    """1,500 repetitions, normal values; share in 0.95 +- 4 se = +- 0.0225 (false alarm 6 in 100,000 each)."""
    rng = np.random.default_rng(6)
    hits = [_covers(mean_interval(rng.normal(size=n), seed=i, draws=DRAWS), 0.0) for i in range(1_500)]
    # The plain percentile bootstrap reaches 0.934 at n = 25 and 0.909 at n = 10.
    assert abs(np.mean(hits) - 0.95) < 0.0225


@pytest.mark.parametrize("seed_sd", [0.0, 0.1, 0.5])
def test_five_training_seeds_are_covered_whether_seeds_matter_or_not(seed_sd: float) -> None:
    """1,500 repetitions of 5 seeds x 200 episodes; share at least 0.95 - 4 se = 0.9275, at most 0.98.

    False alarm 3 in 100,000 on the low side. A bootstrap of the five seeds gives 0.84 at seed_sd = 0.5.
    """
    rng = np.random.default_rng(7)
    hits = []
    for i in range(1_500):
        noise = rng.normal(size=(1, 200)) + 0.7 * rng.normal(size=(5, 200))
        hits.append(_covers(paired_interval(seed_sd * rng.normal(size=(5, 1)) + noise, seed=i), 0.0))
    assert 0.9275 < np.mean(hits) < 0.98


def test_from_20_training_seeds_on_both_levels_are_resampled() -> None:
    """200 repetitions of 25 seeds x 40 episodes; share above 0.95 - 4 se = 0.888 (false alarm 3 in 100,000).

    Resampling episodes alone covers 0.62 here.
    """
    rng = np.random.default_rng(8)
    hits = []
    for i in range(200):
        d = 0.5 * rng.normal(size=(25, 1)) + 0.3 * rng.normal(size=(1, 40)) + rng.normal(size=(25, 40))
        hits.append(_covers(got := paired_interval(d, seed=i, draws=300), 0.0))
    assert "crossed bootstrap over 25 training seeds" in got.method
    assert np.mean(hits) > 0.888


@pytest.mark.parametrize(("n", "clustered"), [(12, False), (30, False), (60, True)])
def test_two_copies_of_one_router_differ_significantly_5_times_in_100(n: int, clustered: bool) -> None:
    """A/A: 1,000 repetitions at 5 %, share in [0.0365, 0.0635] (binomial 95 % range: a right program fails 5 in 100).

    The seeds are fixed, so it fails always or never; a plain percentile bootstrap gives 0.106, 0.064 and 0.074.
    """
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(n // 2), 2) if clustered else None
    hits = 0
    for i in range(1_000):
        market = rng.normal(scale=5.0, size=n)  # the same episodes for both copies
        shock = np.zeros(n) if labels is None else rng.normal(size=n // 2)[labels]
        a, b = market + rng.normal(size=n) + shock, market + rng.normal(size=n)
        hits += paired_interval(a - b, clusters=labels, seed=i, draws=DRAWS).excludes_zero
    assert 0.0365 <= hits / 1_000 <= 0.0635


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mean_interval([1.0], seed=0), "at least two independent units"),
        (lambda: mean_interval([1.0, float("nan")], seed=0), r"value \(1,\) is nan"),
        (lambda: mean_interval([1.0, 2.0], ["a"], seed=0), "one label per value"),
        (lambda: mean_interval([1.0, 2.0], level=95, seed=0), "pass 0.95"),
        (lambda: mean_interval([1.0, 2.0], draws=1, seed=0), "at least 100"),
        (lambda: mean_interval([], seed=0), "filled array"),
        (lambda: paired_interval([[1.0, 2.0], [3.0, 4.0]], seeds=[1, 1], seed=0), "seed 1 appears twice"),
        (lambda: paired_interval([[1.0, 2.0], [3.0, 4.0]], seeds=[1], seed=0), "one label per row"),
        (lambda: tail_mean([1.0], frac=5), "pass 0.05"),
        (lambda: minimum_detectable_effect(-1.0), "not negative"),
    ],
)
def test_bad_input_is_refused_with_the_place_and_the_mend(call: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()  # type: ignore[operator]
