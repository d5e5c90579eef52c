"""Outside what training saw the rule SOR decides, and says for which feature; inside, the policy alone decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasspool.agents.additive import route_kinds
from glasspool.agents.evaluation import run_router
from glasspool.agents.fallback import FallbackRouter, FeatureRanges, fallback_entry, seen_ranges
from glasspool.agents.router import ScoreRouter
from glasspool.agents.rule_based import RuleSor
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.configs.errors import UserError
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, N_GLOBAL, N_ROUTE, measure_rows, observation_bounds
from glasspool.envs.market import Market, stream_key

NAMES = [f.name for f in FEATURES]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))


@pytest.fixture(scope="module")
def router(market: Market) -> ScoreRouter:
    kind, names = route_kinds(market.rules.route_type, True)
    rng = np.random.default_rng(1)
    table = rng.integers(-5 * 10**8, 5 * 10**8, (len(names), len(FEATURES), 9))
    return ScoreRouter(AdditiveRuntime(table, rng.integers(-(10**9), 10**9, len(names)), kind, tuple(names)))


@pytest.fixture(scope="module")
def ranges(market: Market, router: ScoreRouter) -> FeatureRanges:
    return seen_ranges(market, router, seed=1, episodes=300)


def without(ranges: FeatureRanges, feature: str) -> FeatureRanges:
    """The ranges with one that no value lies in."""
    low, high = ranges.low.copy(), ranges.high.copy()
    low[NAMES.index(feature)] = high[NAMES.index(feature)] = 1e6
    return FeatureRanges(low, high)


def test_the_observation_is_what_is_measured_within_its_ranges(market: Market) -> None:
    b, obs = market.batch(200)
    market.reset(stream_key(3, "test"), np.arange(200), np.arange(200), b, obs)
    measured = np.zeros_like(obs)
    measure_rows(market.rules, b, 0, 200, measured, 0)
    assert np.array_equal(np.clip(measured, *observation_bounds(len(market.routes))), obs)
    assert (measured != obs).any()  # some values do lie outside


def test_episodes_of_the_range_itself_never_fall_back(market: Market, router: ScoreRouter) -> None:
    seen = seen_ranges(market, router, seed=1, episodes=60)
    guarded = FallbackRouter(router, seen)
    run_router(market, guarded, 60, 1, "train")
    assert guarded.decisions > 60 * 30 and guarded.fallbacks == 0


def test_held_out_episodes_seldom_fall_back(market: Market, router: ScoreRouter, ranges: FeatureRanges) -> None:
    guarded = FallbackRouter(router, ranges)
    run_router(market, guarded, 300, 1, "test")
    entry = fallback_entry([guarded])
    assert entry["decisions"] == guarded.decisions and entry["fallback_frac"] <= 0.01, entry


def test_inside_the_ranges_nothing_changes(market: Market, router: ScoreRouter, ranges: FeatureRanges) -> None:
    plain = run_router(market, router, 40, 2, "train")
    guarded = run_router(market, FallbackRouter(router, FeatureRanges.unlimited()), 40, 2, "train")
    assert np.array_equal(plain.cost_bps, guarded.cost_bps)


@pytest.mark.parametrize("feature", ["log_adv_shares", "fee_hs"])
def test_outside_them_the_rule_sor_decides_and_the_feature_is_counted(
    market: Market, router: ScoreRouter, ranges: FeatureRanges, feature: str
) -> None:
    guarded = FallbackRouter(router, without(ranges, feature))
    sor = run_router(market, RuleSor(), 40, 1, "test")
    fell = run_router(market, guarded, 40, 1, "test")
    assert np.array_equal(sor.cost_bps, fell.cost_bps)
    assert guarded.fallbacks == guarded.decisions > 0
    assert guarded.by_feature[feature] == guarded.decisions
    assert set(guarded.by_feature) <= {feature, *NAMES} and len(guarded.by_feature) < len(NAMES)


def test_only_the_rows_outside_fall_back(market: Market, router: ScoreRouter, ranges: FeatureRanges) -> None:
    b, obs = market.batch(6)
    market.reset(stream_key(1, "train"), np.arange(6), np.arange(6), b, obs, "train")
    work, weights = np.zeros(6), np.zeros((6, len(market.routes)))
    own_work, own_weights, sor_work, sor_weights = work.copy(), weights.copy(), work.copy(), weights.copy()
    for e, odd in ((1, np.nan), (4, np.inf)):
        b.tape["imbalance"][e, 0] = odd
    router.propose(market, b, obs, own_work, own_weights)
    RuleSor().propose(market, b, obs, sor_work, sor_weights)
    guarded = FallbackRouter(router, ranges)
    guarded.propose(market, b, obs, work, weights)
    odd = np.isin(np.arange(6), [1, 4])
    assert np.array_equal(weights[odd], sor_weights[odd]) and np.array_equal(work[odd], sor_work[odd])
    assert np.array_equal(weights[~odd], own_weights[~odd]) and np.array_equal(work[~odd], own_work[~odd])
    assert (guarded.decisions, guarded.fallbacks, dict(guarded.by_feature)) == (6, 2, {"imbalance_signed": 2})


@pytest.mark.parametrize("column", [*range(N_GLOBAL), *range(N_GLOBAL, N_GLOBAL + N_ROUTE)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300])
def test_any_feature_that_is_no_number_or_far_off_is_outside_alone(
    ranges: FeatureRanges, column: int, value: float
) -> None:
    middle = (ranges.low + ranges.high) / 2
    row = np.concatenate([middle[:N_GLOBAL], np.tile(middle[N_GLOBAL:], 3)])
    assert not ranges.outside(row[None]).any()
    at = column if column < N_GLOBAL else column + N_ROUTE  # of the second route
    row[at] = value
    assert np.flatnonzero(ranges.outside(row[None])[0]).tolist() == [column]


def test_ranges_survive_the_manifest(ranges: FeatureRanges) -> None:
    again = FeatureRanges.read(ranges.body(), Path("manifest.json"))
    assert np.array_equal(again.low, ranges.low) and np.array_equal(again.high, ranges.high)
    assert np.isfinite([ranges.low, ranges.high]).all() and (ranges.low <= ranges.high).all()


@pytest.mark.parametrize(
    "odd", [["nan", "1"], ["2", "1"], ["0", "inf"], ["0"], ["0", "1", "2"], "01", None, 3, [None, "1"], ["x", "1"], {}]
)
def test_ranges_that_are_none_are_refused(ranges: FeatureRanges, odd: Any) -> None:
    with pytest.raises(UserError, match=r"m.json: feature_ranges.*Export the run again"):
        FeatureRanges.read(ranges.body() | {"gap_frac": odd}, Path("m.json"))
    with pytest.raises(UserError, match="does not name the features"):
        FeatureRanges.read({"gap_frac": ["0", "1"]}, Path("m.json"))
