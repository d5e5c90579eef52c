"""The slot grid: hand-made days, conservation of the day's totals, and published totals of real days."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.configs.errors import UserError
from glasspool.envs.day_slots import (
    QUOTE_CROSSED,
    QUOTE_LOCKED,
    QUOTE_NONE,
    QUOTE_NORMAL,
    day_volume,
    day_vwap,
    slot_grid,
    time_weighted_spread_bps,
    time_weighted_spread_ticks,
)
from glasspool.envs.market_data import MarketDay, read_day

OPEN_S = 34_200.0
DATA = os.environ.get("GLASSPOOL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GLASSPOOL_DATA is not set")

Quote = tuple[float, int, int, int, int]  # seconds after the open, bid, ask (x 10000), bid and ask shares
Trade = tuple[float, int, int]  # seconds after the open, price x 10000, shares


def make_day(quotes: list[Quote], trades: list[Trade] = [], halts: list[tuple[float, float]] = []) -> MarketDay:  # noqa: B006
    def ns(seconds: Any) -> Any:
        return np.rint((OPEN_S + np.array(seconds, dtype=float)) * 1e9).astype(np.int64)

    q = [np.array(column, dtype=np.int64) for column in list(zip(*quotes, strict=True))[1:]]
    prices, shares = (np.array([trade[i] for trade in trades], dtype=np.int64) for i in (1, 2))
    none = np.zeros(len(trades), dtype=np.int64)
    return MarketDay(
        symbol="XYZ", date="2013-10-07", source="taq",
        trade_time_ns=ns([trade[0] for trade in trades]), trade_price_e4=prices, trade_shares=shares,
        trade_venue=np.full(none.size, "N"), trade_hidden=none.astype(bool), trade_side=none.astype(np.int8),
        trade_quote_row=none, quote_time_ns=ns([quote[0] for quote in quotes]),
        bid_e4=q[0], ask_e4=q[1], bid_shares=q[2], ask_shares=q[3], halt_ns=ns(halts).reshape(-1, 2),
    )  # fmt: skip


def test_boundaries_see_the_quote_in_force_and_no_later_one() -> None:
    day = make_day([(-5, 100_000, 100_200, 1, 1), (10, 100_100, 100_300, 1, 1), (20.001, 100_200, 100_400, 1, 1)])
    grid = slot_grid(day, 10)
    assert grid.mid_usd[:4] == pytest.approx([10.01, 10.02, 10.02, 10.03])
    assert grid.mid_usd.size == 2_341
    assert grid.half_spread_usd[:3] == pytest.approx([0.01, 0.01, 0.01])


def test_the_mean_half_spread_weighs_each_quote_by_its_time() -> None:
    day = make_day([(-1, 100_000, 100_200, 1, 1), (7.5, 100_000, 100_600, 1, 1)])
    grid = slot_grid(day, 10)
    assert grid.mean_half_spread_usd[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.03)
    assert grid.mean_half_spread_bps[0] == pytest.approx(0.75 * 100 / 10.01 + 0.25 * 300 / 10.03)
    assert grid.quoted_s.tolist() == [10.0] * 2_340


def test_volume_and_vwap_of_a_slot_are_those_of_its_trades() -> None:
    day = make_day(
        [(-1, 1, 3, 1, 1)], [(0, 100_000, 100), (9.999, 100_300, 200), (10, 100_100, 50), (23_399.999, 1, 7)]
    )
    grid = slot_grid(day, 10)
    assert grid.volume_shares[[0, 1, 2, -1]].tolist() == [300, 50, 0, 7]
    assert grid.vwap_usd[0] == pytest.approx(10.02)
    assert np.isnan(grid.vwap_usd[2])


def test_quote_states_are_those_at_the_slot_start() -> None:
    quotes: list[Quote] = [
        (-1, 100_000, 100_200, 1, 1), (5, 100_200, 100_200, 1, 1), (15, 100_300, 100_200, 1, 1),
        (25, 0, 100_200, 0, 1), (35, 100_000, 100_400, 30, 10), (45, 100_000, 100_200, 1, 1),
    ]  # fmt: skip
    grid = slot_grid(make_day(quotes, halts=[(44, 52)]), 10)
    expected = [QUOTE_NORMAL, QUOTE_LOCKED, QUOTE_CROSSED, QUOTE_NONE, QUOTE_NORMAL, QUOTE_NONE]
    assert grid.quote_state[:6].tolist() == expected
    assert grid.half_spread_usd[:3] == pytest.approx([0.01, 0, -0.005])
    assert grid.mid_usd[3] == pytest.approx(10.025)  # the last two-sided quote is repeated
    assert grid.quoted_s[:4] == pytest.approx([5, 0, 0, 5])
    assert np.isnan(grid.mean_half_spread_usd[[1, 2]]).all()


def test_imbalance_and_depth_of_the_touch() -> None:
    grid = slot_grid(make_day([(-1, 100_000, 100_200, 300, 100), (15, 100_000, 100_200, 300, 300)]), 10)
    assert grid.touch_imbalance[:3] == pytest.approx([0.5, 0.5, 0.0])
    assert grid.depth_shares[:3] == pytest.approx([200, 250, 300])


def test_nbbo_moves_count_mid_changes_of_the_ten_seconds_before() -> None:
    mids = [(-1.0, 0), (2.0, 100), (3.0, 0), (3.5, 0), (10.0, 100), (10.001, 200), (21.0, 0)]
    quotes: list[Quote] = [(t, 100_000 + up, 100_200 + up, 1, 1) for t, up in mids]
    assert slot_grid(make_day(quotes), 5).nbbo_moves[:6].tolist() == [0, 2, 3, 2, 1, 1]


def test_rms_looks_back_three_hundred_seconds_and_no_further() -> None:
    # One jump of 20 bps at 100.5 s: seen in the return that ends at 101 s.
    day = make_day([(-1, 99_990, 100_010, 1, 1), (100.5, 100_190, 100_210, 1, 1)])
    rms = slot_grid(day, 1).rms_1s_bps
    assert np.isnan(rms[0])
    assert rms[[100, 101, 300, 400, 401]] == pytest.approx([0, 20 / 101**0.5, 20 / 300**0.5, 20 / 300**0.5, 0])


def test_a_first_quote_within_a_second_of_the_open_counts_from_the_open() -> None:
    early, late = (slot_grid(make_day([(t, 100_000, 100_200, 1, 1)]), 10) for t in (0.9, 1.1))
    assert (early.mid_usd[0], early.quote_state[0], early.quoted_s[0]) == (pytest.approx(10.01), QUOTE_NORMAL, 10)
    assert (late.quote_state[0], late.quoted_s[0]) == (QUOTE_NONE, pytest.approx(8.9))
    assert np.isnan(late.mid_usd[0]) and np.isnan(late.half_spread_usd[0]) and np.isnan(late.touch_imbalance[0])


def test_updates_of_one_time_stamp_count_as_their_last() -> None:
    quotes: list[Quote] = [(-1, 100_000, 100_200, 1, 1), (5, 100_100, 100_300, 1, 1), (5, 100_000, 100_200, 1, 1)]
    assert slot_grid(make_day(quotes), 10).nbbo_moves.sum() == 0


@pytest.mark.parametrize("slot_s", [0, -10, 7, 23_401, float("nan"), float("inf")])
def test_a_slot_length_that_does_not_divide_the_session_is_refused(slot_s: float) -> None:
    with pytest.raises(UserError, match="does not divide the session of 23400 s"):
        slot_grid(make_day([(-1, 1, 3, 1, 1)]), slot_s)


def test_a_day_without_a_two_sided_quote_is_refused() -> None:
    with pytest.raises(UserError, match="XYZ 2013-10-07: no two-sided quote"):
        slot_grid(make_day([(5, 0, 100_200, 0, 1)]), 10)


times = st.lists(st.floats(-10, 23_399.99), min_size=1, max_size=30).map(sorted)


@given(times, times, st.sampled_from([1.0, 10.0, 7.5, 900.0, 23_400.0]), st.integers(0, 2**32))
def test_slots_add_to_the_day(quote_s: list[float], trade_s: list[float], slot_s: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # The first quote is two-sided and normal; later ones may be one-sided, locked or crossed.
    quotes: list[Quote] = [(-20, 100_000, 100_100, 1, 1)]
    quotes += [(t, int(rng.choice([0, 99_900, 100_100])), int(rng.choice([100_000, 100_500])), 5, 9) for t in quote_s]
    trades = [(max(t, 0.0), int(rng.integers(1, 10**6)), int(rng.integers(1, 10**6))) for t in trade_s]
    day = make_day(quotes, trades)
    grid = slot_grid(day, slot_s)
    assert grid.volume_shares.sum() == day_volume(day)
    assert np.nansum(grid.vwap_usd * grid.volume_shares) / day_volume(day) == pytest.approx(day_vwap(day), rel=1e-12)
    if grid.quoted_s.sum() > 0:
        ticks, bps = (
            2 * np.nansum(column * grid.quoted_s) / grid.quoted_s.sum()
            for column in (grid.mean_half_spread_usd * 100, grid.mean_half_spread_bps)
        )
        assert ticks == pytest.approx(time_weighted_spread_ticks(day), rel=1e-9)
        assert bps == pytest.approx(time_weighted_spread_bps(day), rel=1e-9)


@cache
def real_day(folder: str, pattern: str) -> MarketDay:
    return read_day(sorted((Path(str(DATA)) / folder).glob(pattern)))[0]


@needs_data
@pytest.mark.parametrize(
    ("folder", "pattern"),
    [("lobster", "AAPL*"), ("lobster", "AMZN*_1*"), ("taq_2013", "20131007_ibm*"), ("taq_2013", "20131007_bac*")],
)
def test_totals_of_real_days_are_the_published_ones(folder: str, pattern: str) -> None:
    day = real_day(folder, pattern)
    facts = json.loads((Path(str(DATA)) / "facts.json").read_text())
    if day.source == "lobster":
        fact, prefix, vwap = facts["lobster_2012_06_21"][day.symbol], "", "vwap"
    else:
        fact = facts["taq_2013_10_07_to_09"][day.symbol]["days"][day.date.replace("-", "")]
        prefix, vwap = "nbbo_", "vwap_continuous"
    rounding = 6e-6  # the facts carry six digits
    grid = slot_grid(day, 10)
    weight = grid.quoted_s / grid.quoted_s.sum()
    assert day_volume(day) == grid.volume_shares.sum() == fact["volume_continuous"]
    assert day_vwap(day) == pytest.approx(fact[vwap], rel=rounding)
    assert np.nansum(grid.vwap_usd * grid.volume_shares) / day_volume(day) == pytest.approx(day_vwap(day), rel=1e-12)
    ticks, bps = time_weighted_spread_ticks(day), time_weighted_spread_bps(day)
    assert ticks == pytest.approx(fact[f"{prefix}spread_ticks_twmean"], rel=rounding)
    assert bps == pytest.approx(fact[f"{prefix}spread_bps_twmean"], rel=rounding)
    assert 200 * (grid.mean_half_spread_usd * weight).sum() == pytest.approx(ticks, rel=1e-9)
    assert 2 * (grid.mean_half_spread_bps * weight).sum() == pytest.approx(bps, rel=1e-9)
    assert np.isfinite(grid.mid_usd).all()
