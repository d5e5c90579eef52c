"""Estimators of the calibration: what is planted comes back, and real days give the published numbers."""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.configs.loading import load_market
from glasspool.configs.market import ImpactConfig
from glasspool.envs.alpha_fit import fit_alphas, signal_r2
from glasspool.envs.calibration import CalibratedClass, calibrate
from glasspool.envs.class_averages import law_shape
from glasspool.envs.generated_days import generated_statistics
from glasspool.envs.market_data import SESSION_OPEN_NS, MarketDay, read_day
from glasspool.envs.market_fit import fit_market, post_pnl_bps
from glasspool.envs.markout_law import LawShape, MarkoutLaw, fit_markout_law
from glasspool.envs.midpoint_share import mean_supply_frac, midpoint_share
from glasspool.envs.net_flow import kernel_slope_bps, net_flow_impact, transient_weights
from glasspool.envs.quote_noise import spread_noise, vol_noise
from glasspool.envs.trade_sizes import fit_beta, law_mean_shares, trade_sizes
from glasspool.envs.venue_groups import venue_groups
from glasspool.envs.volume_noise import slot_log_sd, step_concentration, volume_noise

DATA = os.environ.get("GLASSPOOL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GLASSPOOL_DATA is not set")
SHAPE = LawShape(tau_fast_s=1.0, tau_slow_s=120.0, back_fast=0.0, back_slow=0.05, eps_sd_bps=2.0, slot_s=10.0)


# Alphas --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("products", "taus_s"), [((0.15, 0.9), (1.0, 120.0)), ((0.3, 2.0), (2.0, 60.0))])
def test_a_signal_comes_back_with_its_horizons(products: tuple[float, float], taus_s: tuple[float, float]) -> None:
    n_seconds, n_days = 228_000, 10
    r2 = {h: signal_r2(products, taus_s, h) + h * n_days / n_seconds for h in (1, 10, 60)}
    fit = fit_alphas(r2, n_seconds, n_days)
    again = fit.signal_fast * fit.sigma_fast, fit.signal_slow * fit.sigma_slow
    for h in (1, 10, 60):
        assert signal_r2(again, (fit.tau_fast_s, fit.tau_slow_s), h) == pytest.approx(
            r2[h] - h * n_days / n_seconds, rel=0.15
        )


@given(st.floats(0, 0.1), st.floats(0, 0.2), st.floats(0, 0.3))
def test_alphas_always_leave_the_mid_a_martingale(one: float, ten: float, sixty: float) -> None:
    fit = fit_alphas({1: one, 10: ten, 60: sixty}, 68_400, 3)
    rate = fit.sigma_fast**2 / (2 * fit.tau_fast_s) + fit.sigma_slow**2 / (2 * fit.tau_slow_s)
    assert rate <= fit.vol_floor_frac**2 * (1 + 1e-9)
    assert fit.signal_fast**2 + fit.signal_slow**2 <= 0.8 + 1e-9
    assert 0 < fit.scaled <= 1 + 1e-9


def test_an_imbalance_that_tells_nothing_leaves_the_reference_classes() -> None:
    fit = fit_alphas({1: 1 / 22_800, 10: 10 / 22_800, 60: 60 / 22_800}, 68_400, 3)  # the R2 of pure noise
    assert not fit.identified and (fit.tau_fast_s, fit.tau_slow_s) == (1.0, 120.0)
    assert fit.signal_fast == fit.signal_slow == 0


def test_one_imbalance_adds_covariances_before_it_is_squared() -> None:
    both, fast, slow = (signal_r2(p, (1.0, 120.0), 10.0) for p in ((0.2, 1.0), (0.2, 0.0), (0.0, 1.0)))
    assert math.sqrt(both) == pytest.approx(math.sqrt(fast) + math.sqrt(slow))


# Markouts ------------------------------------------------------------------------------------------------------------


def test_a_planted_markout_law_comes_back() -> None:
    law = MarkoutLaw(run_bps=0.4, fast_bps=0.8, slow_bps=0.6)
    loss = {h: law.loss_bps(h, SHAPE) for h in (1, 10, 60, 300)}
    fit = fit_markout_law(loss, dict.fromkeys(loss, 0.1), SHAPE, max_run_bps=1.0, max_slow_bps=2.0)
    assert (fit.run_bps, fit.fast_bps, fit.slow_bps) == pytest.approx((0.4, 0.8, 0.6), abs=1e-6)


@given(st.lists(st.floats(-2, 6), min_size=4, max_size=4), st.floats(0.05, 2), st.floats(0.05, 2))
def test_parts_of_a_loss_stay_within_their_bounds(losses: list[float], run: float, slow: float) -> None:
    loss = dict(zip((1, 10, 60, 300), losses, strict=True))
    fit = fit_markout_law(loss, dict.fromkeys(loss, 0.1), SHAPE, max_run_bps=run, max_slow_bps=slow)
    assert 0 <= fit.run_bps <= run + 1e-6 and fit.fast_bps >= 0 and 0 <= fit.slow_bps <= slow + 1e-6


def test_groups_are_the_runs_with_the_least_variance_inside() -> None:
    pnl = {"A": -0.30, "B": -0.25, "C": 0.05, "D": 0.40, "E": 0.50, "F": 0.45}
    volume = {"A": 0.3, "B": 0.2, "C": 0.04, "D": 0.05, "E": 0.01, "F": 0.02}
    assert venue_groups(pnl, volume) == {"lowest": ("A", "B"), "middle": ("C",), "highest": ("D", "F", "E")}
    assert venue_groups({"A": 0.1, "B": 0.2}, volume) == {}
    assert venue_groups(pnl | {"C": float("nan")}, volume)["lowest"] == ("A",)


# Noise ---------------------------------------------------------------------------------------------------------------


def ar1(rng: np.random.Generator, n_days: int, n: int, coefficient: float) -> np.ndarray:
    out = np.empty((n_days, n))
    out[:, 0] = rng.normal(size=n_days)
    for k in range(1, n):
        out[:, k] = coefficient * out[:, k - 1] + math.sqrt(1 - coefficient**2) * rng.normal(size=n_days)
    return out


def test_spread_and_volatility_noise_come_back_from_their_slots() -> None:
    """60 days of 10 s slots with planted AR(1) noise around a curve and a level a day.

    Bounds are five standard errors or more (60 days x 78 bins; the log of a 15-return volatility has a sd of 0.2).
    """
    rng = np.random.default_rng(4)
    curve = np.linspace(2, 1, 78)
    level = np.exp(0.3 * rng.normal(size=(60, 1)))
    spread = np.exp(0.2 * ar1(rng, 60, 2_340, 0.6 ** (1 / 30)))
    fit = spread_noise(level * curve * spread.reshape(60, 78, 30).mean(axis=2))
    assert fit is not None
    assert fit.log_sd == pytest.approx(0.2, abs=0.015) and fit.persistence_300s == pytest.approx(0.6, abs=0.06)
    vol = np.exp(0.4 * ar1(rng, 60, 2_340, 0.9 ** (1 / 30)))
    fit = vol_noise(level * np.repeat(curve, 30) * vol * rng.normal(size=(60, 2_340)))
    assert fit is not None
    assert fit.log_sd == pytest.approx(0.4, abs=0.05) and fit.persistence_300s == pytest.approx(0.9, abs=0.05)


def test_one_day_or_a_mid_that_stands_still_tells_no_noise() -> None:
    rng = np.random.default_rng(1)
    assert spread_noise(rng.uniform(1, 2, (1, 78))) is None
    assert vol_noise(rng.normal(size=(1, 2_340))) is None
    assert vol_noise(rng.normal(size=(3, 2_340)) * (rng.uniform(size=(3, 2_340)) < 0.05)) is None


def test_slot_noise_and_concentration_around_a_curve_of_steps_come_back() -> None:
    """100 days as the generator makes them: 5-minute Dirichlet shares, cut among 10 s slots log-normally."""
    rng = np.random.default_rng(2)
    steps = np.repeat(np.linspace(2, 1, 13), 6)
    bins = rng.dirichlet(300 * steps / steps.sum(), 100)
    assert step_concentration(bins) == pytest.approx(300, rel=0.08)  # 1300 half hours x 5: a standard error of 2 %
    slots = np.exp(0.8 * rng.normal(size=(100, 78, 30)))
    volume = (bins[:, :, None] * slots / slots.sum(axis=2, keepdims=True)).reshape(100, 390, 6).sum(axis=2)
    assert volume_noise(volume, 60.0).slot_log_sd == pytest.approx(0.8, rel=0.06)  # log of a sum is not quite normal
    assert slot_log_sd(0.0) == 0


# Sizes, impact, midpoints --------------------------------------------------------------------------------------------


@given(st.floats(0.5, 5.0), st.integers(10, 200))
def test_a_size_law_has_the_mean_it_was_fitted_to(beta: float, max_lots: int) -> None:
    mean = law_mean_shares(beta, max_lots)
    assert law_mean_shares(fit_beta(mean, max_lots), max_lots) == pytest.approx(mean, rel=1e-6)
    assert fit_beta(50.0, max_lots) == 6.0  # no law of round lots has a mean below one


def day(**changes: Any) -> MarketDay:
    n = changes.pop("n", 6)
    empty = {
        "symbol": "XYZ", "date": "2013-10-07", "source": "taq",
        "trade_time_ns": SESSION_OPEN_NS + np.arange(n) * 10**9, "trade_price_e4": np.full(n, 1_000_100),
        "trade_shares": np.full(n, 100), "trade_venue": np.full(n, "N"), "trade_hidden": np.zeros(n, bool),
        "trade_side": np.ones(n, np.int8), "trade_quote_row": np.zeros(n, int),
        "quote_time_ns": np.array([SESSION_OPEN_NS]), "bid_e4": np.array([1_000_000]), "ask_e4": np.array([1_000_200]),
        "bid_shares": np.array([100]), "ask_shares": np.array([100]), "halt_ns": np.empty((0, 2), np.int64),
    }  # fmt: skip
    return MarketDay(**(empty | changes))


def test_executions_of_one_time_and_side_are_one_marketable_order() -> None:
    second = np.array([0, 0, 0, 1, 1, 2]) * 10**9 + SESSION_OPEN_NS
    side = np.array([1, 1, -1, -1, -1, -1], np.int8)
    sizes = trade_sizes([day(source="lobster", trade_time_ns=second, trade_side=side)])
    assert sizes is not None and (sizes.n, sizes.mean_shares) == (4, 150.0)  # 200, 100, 200, 100
    as_tape = trade_sizes([day(trade_hidden=np.array([True, False] * 3))], on_exchange=True)
    assert as_tape is not None and as_tape.n == 3


def test_a_planted_slope_and_the_kernel_that_carries_it() -> None:
    rng = np.random.default_rng(3)
    net = rng.normal(0, 1_000, 390)
    fit = net_flow_impact([4.0 * net / 2_000 + rng.normal(0, 1.0, 390)], [net], [2_000.0])
    assert fit is not None and fit.slope_bps == pytest.approx(4.0, abs=4 * fit.slope_se_bps)
    assert net_flow_impact([rng.normal(size=390)], [np.zeros(390)], [1.0]) is None
    impact = ImpactConfig()
    weights = transient_weights(4.0, impact, 90.0, 200.0)
    assert kernel_slope_bps(impact.model_copy(update={"transient_weights": weights}), 90.0, 200.0) == pytest.approx(4.0)


def test_a_tape_in_cents_shows_midpoints_at_even_spreads_only() -> None:
    bid = np.array([1_000_000, 1_000_000])
    quotes = {"quote_time_ns": SESSION_OPEN_NS + np.array([0, 1]), "bid_e4": bid, "ask_e4": bid + [200, 300],
              "bid_shares": np.full(2, 100), "ask_shares": np.full(2, 100)}  # fmt: skip
    rows = np.array([0, 0, 0, 1, 1, 1])
    off = np.array([True, False, False, True, False, False])
    got = midpoint_share([day(**quotes, trade_quote_row=rows, trade_hidden=off, trade_price_e4=np.full(6, 1_000_100))])
    assert got.seen_frac == pytest.approx(1 / 6)  # the print at the odd spread cannot be seen
    assert got.even_spread_frac == pytest.approx(1 / 3) and got.even_volume_frac == pytest.approx(0.5)
    base = load_market("base")
    assert mean_supply_frac(base, base.stocks[0]) == pytest.approx(0.04 * 4 / 5)


# The whole -----------------------------------------------------------------------------------------------------------


def test_posts_of_generated_days_earn_what_the_law_says() -> None:
    """P&L of every lit venue of ibm_2013 at 10, 60 and 300 s against `post_pnl_bps`.

    256 days: a standard error of about 0.01 bps, mostly of the slow alpha; the bound is 0.05. Fixed seed.
    """
    market = load_market("ibm_2013")
    achieved = generated_statistics(market, n_days=256)
    for venue in market.lit_venues:
        for h in (10, 60, 300):
            by_law = post_pnl_bps(market.stocks[0], venue, market.noise, h)
            assert achieved[f"passive_pnl_bps:{venue.name}@{h}s"] == pytest.approx(by_law, abs=0.05), (venue.name, h)
    assert law_shape(market.stocks[0], market.noise).back_slow > 0


@cache
def real(symbol: str) -> tuple[CalibratedClass, dict[str, Any]]:
    root = Path(str(DATA))
    facts = json.loads((root / "facts.json").read_text())
    if symbol in ("AAPL", "AMZN"):
        days = read_day(sorted((root / "lobster").glob(f"{symbol}*_1.*")))
        return calibrate(days), facts["lobster_2012_06_21"][symbol]
    days = read_day(sorted((root / "taq_2013").glob(f"*_{symbol.lower()}_*Tick*")))
    return calibrate(days), facts["taq_2013_10_07_to_09"][symbol]["mean_over_days"]


@needs_data
@pytest.mark.parametrize("symbol", ["IBM", "BAC", "AIG"])
def test_noise_sizes_and_impact_of_real_tape_days_are_the_published_ones(symbol: str) -> None:
    got, facts = real(symbol)
    assert got.volume_noise.minute_log_sd == pytest.approx(facts["log_volume_1min_sd"], rel=1e-3)
    assert got.volume_noise.minute_log_acf1 == pytest.approx(facts["log_volume_1min_acf1"], rel=1e-3)
    assert got.late_vol_bps == pytest.approx(facts["vol_1min_bps_ex_first30"] * 390**0.5, rel=5e-3)
    for p, shares in zip((50, 75, 90, 95, 99), got.sizes.percentiles_shares, strict=True):
        assert shares == pytest.approx(facts["trade_size"][f"p{p}"], rel=1e-3)
    assert got.net_flow is not None  # the facts leave out prints far off the quote: 5 % of AIG's slope
    assert got.net_flow.slope_bps == pytest.approx(facts["impact_1min_bps_per_avg_minute_volume"]["beta"], rel=0.05)
    if symbol == "IBM":
        published = facts["off_exchange_midpoint"]["share_of_total_continuous_volume"]
        assert got.midpoint.seen_frac == pytest.approx(published, rel=1e-3)


@needs_data
@pytest.mark.parametrize("symbol", ["AAPL", "AMZN"])
def test_orders_and_impact_of_real_event_days_are_the_published_ones(symbol: str) -> None:
    got, facts = real(symbol)
    assert got.sizes.n == facts["n_marketable_orders_agg"]
    assert got.sizes.mean_shares == pytest.approx(facts["marketable_order_size"]["mean"], rel=1e-5)
    assert got.net_flow is not None
    assert got.net_flow.slope_bps == pytest.approx(facts["impact_1min_bps_per_avg_minute_volume"]["beta"], rel=1e-4)
    assert got.net_flow.r2 == pytest.approx(facts["impact_1min_bps_per_avg_minute_volume"]["r2"], rel=1e-4)


@needs_data
@pytest.mark.parametrize("symbol", ["IBM", "BAC", "AIG", "AAPL", "AMZN"])
def test_a_fitted_market_states_the_measured_markouts_at_ten_seconds(symbol: str) -> None:
    got, _ = real(symbol)
    base = load_market("base")
    fit = fit_market(got, base)
    groups = {"XQLA": "lowest", "XQLC": "middle", "XQLB": "highest"} if got.venue_groups else {"XQLA": "visible"}
    pnl = {m.group: m.passive_pnl_bps for m in got.markouts if m.horizon_s == 10}
    for venue in fit.lit_venues:
        if venue.name in groups:
            by_law = post_pnl_bps(fit.stock, venue, fit.noise, 10)
            assert by_law == pytest.approx(pnl[groups[venue.name]], abs=0.02)
