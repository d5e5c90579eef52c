"""Pools described by what a desk knows, and the scenarios."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from glasspool.configs.errors import UserError
from glasspool.configs.loading import find_config, load_market, market_data
from glasspool.configs.market import MarketConfig
from glasspool.configs.pool_knowledge import notes, resolved_kappas, reversion_to_gammas
from glasspool.envs.market import Market

LARGE = load_market("base").stocks[0]
SCENARIOS = {
    "volatile": {"stocks", "noise"}, "toxic": {"randomisation"}, "thin": {"stocks", "noise"},
    "one_tick": {"stocks", "noise"}, "wide_spread": {"stocks"}, "outage": {"events"}, "dark_drought": {"randomisation"},
    "leaky": {"randomisation"}, "news_shock": {"events"},
}  # fmt: skip


def base_with_pool(**pool: object) -> MarketConfig:
    data = market_data(find_config("base", "markets"))
    data["stocks"] = [{**data["stocks"][0], "probability": 1.0}]
    data["dark_slots"] = []
    data["dark_pools"] = [{"name": "OURS", "supply_frac": 0.01, **pool}]
    return MarketConfig.model_validate(data)


def test_two_horizons_give_both_toxicities() -> None:
    fast, slow = reversion_to_gammas({10.0: -0.35, 300.0: -0.80}, LARGE)
    assert (fast, slow) == pytest.approx((0.3071, 0.5370), abs=5e-5)
    market = base_with_pool(reversion_bps={10: -0.35, 300: -0.80})
    assert resolved_kappas(market.dark_pools[0], LARGE) == pytest.approx((0.614, 0.269), abs=5e-4)
    assert Market(market).rules.dark_kappa[0, 0] == pytest.approx((0.614, 0.269), abs=5e-4)


@given(st.floats(0, 1), st.floats(0, 1.5), st.lists(st.sampled_from([1, 10, 30, 60, 300]), min_size=2, unique=True))
def test_the_inversion_undoes_the_law(fast: float, slow: float, horizons: list[int]) -> None:
    law = {
        float(h): -fast * -math.expm1(-h / LARGE.tau_fast_s) - slow * -math.expm1(-h / LARGE.tau_slow_s)
        for h in horizons
    }
    got = reversion_to_gammas(law, LARGE)
    again = [-got[0] * -math.expm1(-h / LARGE.tau_fast_s) - got[1] * -math.expm1(-h / LARGE.tau_slow_s) for h in law]
    assert again == pytest.approx(list(law.values()), abs=1e-6)


def test_one_horizon_is_fast_or_slow_and_the_choice_is_told() -> None:
    short, long = base_with_pool(reversion_bps={1: -0.3}), base_with_pool(reversion_bps={60: -0.3})
    fast, none = resolved_kappas(short.dark_pools[0], LARGE)
    assert none == 0 and fast == pytest.approx(0.3 / -math.expm1(-1) / 0.5)
    none, slow = resolved_kappas(long.dark_pools[0], LARGE)
    assert none == 0 and slow == pytest.approx(0.3 / -math.expm1(-0.5) / 2.0)
    assert "taken as the fast alpha" in notes(short)[0] and "taken as the slow alpha" in notes(long)[0]
    assert notes(load_market("base")) == []
    (one_shot,) = notes(load_market("base", ["oracle.one_shot_arrivals=true"]))
    assert "supply_frac does nothing" in one_shot
    (large,) = notes(base_with_pool(supply_frac=5))
    assert "more than all of the market's volume" in large


@pytest.mark.parametrize(
    ("pool", "words"),
    [({"reversion_bps": {10: 0.2}}, ("reversion_bps", "less than or equal to 0")),
     ({"reversion_bps": {10: -2.0, 300: -0.1}}, ("misses", "0.1")),
     ({"reversion_bps": {1: -1.2}}, ("toxicity", "2.5")),
     ({"reversion_bps": {}}, ("empty",)),
     ({"reversion_bps": {10: -0.2}, "kappa_fast": 0.1}, ("both", "one of them")),
     ({"informed_frac": 0.2, "kappa_fast": 0.6}, ("informed_frac", "2.5"))],
)  # fmt: skip
def test_descriptions_that_cannot_be_are_refused(pool: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        base_with_pool(**pool)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_differs_from_base_only_where_it_says(name: str) -> None:
    base, scenario = load_market("base"), load_market(name)
    differing = {f for f in MarketConfig.model_fields if getattr(base, f) != getattr(scenario, f)} - {"name"}
    assert differing == SCENARIOS[name]
    assert [r.name for r in Market(base).routes] == [r.name for r in Market(scenario).routes]


@pytest.mark.parametrize(
    ("override", "words"),
    [("events.outage_prob=1.5", ("outage_prob",)), ("events.outage_minutes=[9, 3]", ("shortest",)),
     ("events.outage_venues=[XQZZ]", ("XQZZ", "XQLA")), ("events.shock_vol_factor=0.5", ("shock_vol_factor",)),
     ("ping_fallback=cancel", ("ping_fallback",)), ("oracle.fill_copula=0.3", ("one_shot_arrivals",))],
)  # fmt: skip
def test_events_out_of_range_are_refused(override: str, words: tuple[str, ...]) -> None:
    with pytest.raises((ValidationError, UserError)) as caught:
        load_market("base", [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)
