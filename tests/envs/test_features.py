"""The feature table: ranges, names, side-normalised values, and hand-made values of each formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasspool.agents.router import RandomRouter
from glasspool.envs.features import (
    FEATURES,
    GLOBAL_FEATURES,
    N_GLOBAL,
    N_ROUTE,
    ROUTE_FEATURES,
    observation_bounds,
    observation_names,
    observe_rows,
    schema_sha256,
)
from glasspool.envs.market import Market, restart_row, step_proposals, stream_key
from glasspool.envs.routing_state import RoutingState
from glasspool.envs.vector_env import EpisodeBatch, spaces_of

MarketWith = Callable[..., Market]
FACTORS = {"size", "liquidity", "volatility", "venue", "schedule", "signal"}


@given(seed=st.integers(0, 2**32), temperature=st.sampled_from([0.1, 3.0, 20.0]))
@settings(max_examples=20)
def test_observations_stay_inside_their_ranges(quarter_hours: Market, seed: int, temperature: float) -> None:
    low, high = observation_bounds(len(quarter_hours.routes))
    core, draw, box = EpisodeBatch(quarter_hours, 8, seed), np.random.default_rng(seed), spaces_of(quarter_hours)[0]
    core.reset()
    for _ in range(40):
        assert ((core.obs >= low) & (core.obs <= high)).all()
        assert all(box.contains(o.astype(np.float32)) for o in core.obs)
        _, done = core.step(np.clip(draw.normal(0, temperature, (8, 1 + len(quarter_hours.routes))), -20, 20))
        core.replace(np.flatnonzero(done))


@pytest.fixture(scope="module")
def quarter_hours(market_with: MarketWith) -> Market:
    return market_with({"orders": {"horizon_minutes": {15.0: 1.0}}})


def test_names_match_columns(base_market: Market) -> None:
    names = observation_names(base_market.routes)
    assert len(names) == base_market.n_obs == len(set(names)) == N_GLOBAL + 14 * N_ROUTE
    assert names[:N_GLOBAL] == [f.name for f in GLOBAL_FEATURES]
    assert names[N_GLOBAL] == "XQLA:take.log_fill_rate"
    assert names[-1] == f"XQDD:rest.{ROUTE_FEATURES[-1].name}"
    core = EpisodeBatch(base_market, 1, 5)
    core.reset()
    state = RoutingState.from_batch(base_market, core.batch, 0, core.obs[0])
    by_name = dict(zip(names, core.obs[0], strict=True))
    assert all(by_name[k] == v for k, v in state.features.items())
    assert all(by_name[f"{r}.{k}"] == v for r, values in state.route_features.items() for k, v in values.items())
    assert len(state.features) + sum(len(v) for v in state.route_features.values()) == len(names)


def test_every_feature_has_a_factor_a_unit_and_a_range() -> None:
    assert {f.factor for f in FEATURES} == FACTORS
    assert all(f.low < f.high and f.unit and f.formula for f in FEATURES)
    assert len({f.name for f in FEATURES}) == len(FEATURES)
    assert {f.name: f.monotone for f in ROUTE_FEATURES if f.monotone} == {
        "log_fill_rate": 1, "markout_hs": 1, "fee_hs": -1,
    }  # fmt: skip


def test_schema_hash_is_stable() -> None:
    """Golden: a change of the table is a change for every bundle, so it must be on purpose."""
    assert schema_sha256() == "5f117d90941e3972313ec38316c175a7f0b4e226f3cb44ee72540629b3e13128"


def test_mirrored_orders_see_the_same_numbers(market_with: MarketWith, run_router: Any) -> None:
    """Buy and mirrored sell, random play: observations equal bit for bit in every slot."""
    seen: dict[str, list[bytes]] = {"buy": [], "sell": []}

    class Spy(RandomRouter):
        def __init__(self, side: str) -> None:
            super().__init__()
            self.side = side

        def propose(self, market: Market, b: Any, obs: Any, work: Any, weights: Any) -> None:
            seen[self.side].append(obs.tobytes())
            super().propose(market, b, obs, work, weights)

    for side in ("buy", "sell"):
        run_router(market_with({"orders": {"side": side, "horizon_minutes": {15.0: 1.0}}}), Spy(side), 40)
    assert seen["buy"] == seen["sell"]
    assert len(set(seen["buy"])) > 80


def test_values_by_hand(base_market: Market) -> None:
    """One state set by hand; every formula of the table worked out here. One slice is due: log2(1 + 1) = 1."""
    b, obs = base_market.batch(1)
    base_market.reset(stream_key(1, "test"), [0], [0], b, obs)
    ep, row = b.episode[0], b.tape[0, 0:1]
    ep["shares"], ep["adv_shares"], ep["expected_volume"], ep["side"] = 50_000, 1_000_000, 500_000.0, -1.0
    ep["half_spread_bps"], ep["vol_bps"] = 4.0, 1.5
    row["schedule_now"], row["schedule_next"] = 1.0, 0.992  # 400 shares, 4 lots
    row["half_spread_bps"], row["vol_ratio"], row["imbalance"] = 5.0, 0.5, 0.3
    v = base_market.venues.index("XQDB")
    b.venue[0, v]["take_fee_bps"] = 0.5
    card = b.card[0, v, 0]
    card["attempts"], card["filled"], card["markouts"], card["markout_hs_sum"] = 900, 97, 90, -75.0
    restart_row(base_market.rules, b, 0, obs)
    seen = dict(zip(observation_names(base_market.routes), obs[0], strict=True))
    expected = {
        "time_left_frac": 1.0,
        "remaining_frac": 1.0,
        "gap_frac": 0.0,
        "log_due_slices": 1.0,
        "log_pct_adv": math.log10(5.0),
        "log_participation_pct": 1.0,
        "log_slice_lots": math.log10(4.0),
        "log_spread_bps": 1.0,
        "log_spread_ratio": math.log2(1.25),
        "log_adv_shares": 6.0,
        "log_vol_ratio": -1.0,
        "log_move_per_spread": math.log2(1.5 * math.sqrt(10.0) / 5.0),
        "imbalance_signed": -0.3,
        "XQDB:ping.log_fill_rate": math.log10((97 + 3) / (900 + 100)),
        "XQDB:ping.markout_hs": -75.0 / (90 + 60),
        "XQDB:ping.fee_hs": 0.1,
        "XQDB:ping.log_evidence": math.log10(91.0),
        "XQDB:ping.visit_age": 1.0,
        "XQDB:ping.last_filled_frac": 0.0,
        "XQLA:take.log_fill_rate": 0.0,
        "XQLA:take.markout_hs": 0.0,
    }
    assert {k: seen[k] for k in expected} == pytest.approx(expected, abs=1e-9)


def test_behind_schedule_is_positive(base_market: Market) -> None:
    core = EpisodeBatch(base_market, 1, 5)
    core.reset()
    b = core.batch
    b.tape["schedule_now"][0, 0], b.tape["schedule_next"][0, 0] = 0.97, 0.96
    restart_row(base_market.rules, b, 0, core.obs)
    assert core.obs[0, :4] == pytest.approx([1.0, 1.0, 0.03, math.log2(1 + 4)], abs=1e-9)


def test_what_is_kept_of_a_scorecard_is_what_it_says(base_market: Market) -> None:
    """Features of a row are computed again only when it changes: forgetting all of them must change nothing."""
    b, obs = base_market.batch(30)
    base_market.reset(stream_key(4, "test"), np.arange(30), np.arange(30), b, obs)
    work, weights = np.full(30, 300.0), np.zeros((30, len(base_market.routes)))
    rng = np.random.default_rng(1)
    for _ in range(60):
        weights[:] = rng.random(weights.shape)
        step_proposals(base_market.rules, b, work, weights, obs)
        again, active = obs.copy(), b.order["active"] == 1
        b.card["shown"] = 0
        observe_rows(base_market.rules, b, 0, 30, again, 0)
        assert (again[active] == obs[active]).all()
    assert (b.card["attempts"] > 0).any()
