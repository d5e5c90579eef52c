"""From statistics to a market in YAML: what is copied, what is assumed; the packaged markets are what it writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from glasspool.configs.errors import UserError
from glasspool.configs.loading import PACKAGED, load_market
from glasspool.configs.market import SESSION_S
from glasspool.envs.calibration import CalibratedClass, ImbalanceFit, Markout, calibrate
from glasspool.envs.market import Market, stream_key
from glasspool.envs.market_data import read_day
from glasspool.envs.market_writer import (
    FAST_SIGNAL,
    SLOW_SIGNAL,
    alphas_of,
    calibrate_files,
    imbalance_r2,
    mean_contra_shares,
    post_pnl_hs,
    stock_class,
    write_market,
)

DATA = os.environ.get("GLASSPOOL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GLASSPOOL_DATA is not set")
IBM = [f"taq_2013/2013100{day}_ibm_Trade_Tick.csv.gz" for day in (7, 8, 9)]
BAC = ["taq_2013/20131007_bac_Trade_Tick.csv.gz"]
AAPL, AMZN = ([f"lobster/{name}_2012-06-21_34200000_57600000_message_1.csv.gz"] for name in ("AAPL", "AMZN"))


def pnl(group: str, n: int, value: float) -> Markout:
    """One row of markouts at 10 s: `n` executions whose resting side earned `value` half spreads."""
    return Markout(group, 10, n, 1.0, 0.1, 1.0, 1.0, value, value)


def make_class(**changes: Any) -> CalibratedClass:
    curve = np.linspace(2.0, 1.0, 13)
    made = CalibratedClass(
        name="xyz_2013", symbol="XYZ", source="taq", dates=("2013-10-07",), price_usd=50.123, adv_shares=1_234_567.4,
        half_spread_bps=1.50042, daily_vol_bps=153.0 * 1.0001, touch_depth_shares=250.0, touch_depth_mean_shares=400.0,
        volume_curve=curve / curve.sum(), spread_curve=curve / curve.mean(),
        vol_curve=curve / np.sqrt(np.mean(curve**2)), nbbo_moves_per_10s=3.456,
        imbalance=(ImbalanceFit(1, 0.1, 0.006, 68_000), ImbalanceFit(10, 0.2, 0.004, 68_000),
                   ImbalanceFit(60, 0.2, 0.001, 68_000)),
        mean_trade_shares=111.5, n_trades=9_999, off_exchange_share=0.3,
        markouts=(pnl("all", 1_000, 0.1), pnl("visible", 700, -0.1), pnl("hidden", 300, 0.5), pnl("D", 300, 0.9),
                  pnl("N", 200, -0.3), pnl("Q", 200, -0.2), pnl("Z", 150, 0.0), pnl("J", 100, 0.4), pnl("C", 5, 2.0)),
    )  # fmt: skip
    return replace(made, **changes)


def test_measured_numbers_are_copied() -> None:
    stock = stock_class(make_class())
    assert (stock.price_usd, stock.adv_shares, stock.spread_bps) == (50.12, 1_234_567, 3.001)
    assert (stock.daily_vol_bps, stock.depth_shares, stock.nbbo_moves_per_10s) == (153.0, 250, 3.46)
    assert stock.volume_curve == pytest.approx(make_class().volume_curve, abs=5e-5)
    assert stock.size_scale == 0.5  # 111.5 / 223


def test_alphas_keep_their_share_of_the_variance_whatever_the_volatility() -> None:
    shares = []
    for vol_bps in (30.0, 150.0, 700.0):
        s = stock_class(make_class(daily_vol_bps=vol_bps))
        rate = s.sigma_fast_bps**2 / (2 * s.tau_fast_s) + s.sigma_slow_bps**2 / (2 * s.tau_slow_s)
        shares.append(rate / (s.vol_floor_frac * vol_bps) ** 2 * SESSION_S)
    assert shares == pytest.approx([0.893] * 3, abs=0.01)  # under 1: the mid stays a martingale at the quietest moment


def test_a_signal_that_grows_with_the_horizon_gets_the_slow_alphas() -> None:
    growing = (ImbalanceFit(1, 0.1, 0.01, 68_000), ImbalanceFit(10, 1, 0.05, 68_000), ImbalanceFit(60, 3, 0.09, 68_000))
    assert alphas_of(make_class()) is FAST_SIGNAL
    assert alphas_of(make_class(imbalance=growing)) is SLOW_SIGNAL
    noise = (*growing[:2], replace(growing[2], n=1_000))  # 120 / 1000 seconds: 0.09 is what no signal gives
    assert alphas_of(make_class(imbalance=noise)) is FAST_SIGNAL
    stock = stock_class(make_class(imbalance=growing))
    assert stock.signal_fast**2 + stock.signal_slow**2 < 1


def test_signal_is_fitted_to_the_imbalance_at_one_second() -> None:
    assert imbalance_r2(stock_class(make_class()), 1.0) == pytest.approx(0.006, rel=0.05)  # two digits of a loading


def test_post_pnl_is_the_lowest_the_highest_and_the_median_exchange() -> None:
    # C has 5 of 700 visible executions, D prints off exchange: neither counts.
    assert post_pnl_hs(make_class()) == {"XQLA": -0.3, "XQLB": 0.4, "XQLC": -0.1}


def test_one_exchange_gives_its_visible_pnl_to_the_most_quoted_venue_only() -> None:
    one = (pnl("all", 900, 0.2), pnl("visible", 700, -0.15), pnl("hidden", 200, 0.6), pnl("Q", 900, 0.2))
    assert post_pnl_hs(make_class(markouts=one)) == {"XQLA": -0.15}


def test_no_print_leaves_the_archetypes() -> None:
    assert post_pnl_hs(make_class(markouts=())) == {}
    assert "post_pnl_hs: {}" in write_market(make_class(markouts=()))


def test_mean_contra_order_is_that_of_the_size_law() -> None:
    assert mean_contra_shares(0.04) == pytest.approx(100 * (1 + 2 * 2**-2.2) / (1 + 2**-2.2))  # 2 lots at most
    assert mean_contra_shares(1.0) == pytest.approx(223, abs=0.5)  # market model, section 3


def test_written_market_loads_and_holds_the_class(tmp_path: Path) -> None:
    path = tmp_path / "xyz.yaml"
    path.write_text(write_market(make_class(), name="xyz"))
    got = load_market(path)
    assert (got.name, got.stocks) == ("xyz", (stock_class(make_class()),))
    assert got.lit_venues == load_market("base").lit_venues and got.dark_pools == load_market("base").dark_pools


def test_comments_say_how_far_the_market_is_from_what_was_measured() -> None:
    text = write_market(make_class(adv_shares=1_000_000.0, price_usd=1.126))
    assert "#   price_usd                       1.126           1.13               +0.36%" in text.splitlines()
    assert "#   adv_shares                    1000000        1000000               +0.00%" in text.splitlines()
    assert "LOBSTER" not in text


def test_a_lobster_market_says_that_its_volume_is_one_exchanges() -> None:
    assert "ADV is that exchange's continuous volume" in write_market(make_class(source="lobster"))


def test_a_class_that_does_not_suit_the_base_is_refused() -> None:
    """Under a dollar the access fee cap is 0.3 % of the price, which the base market's fees break."""
    with pytest.raises(UserError, match=r"the class does not fit market (?s:.)* above the access fee cap of 3.9 mils"):
        write_market(make_class(price_usd=0.126))


def test_statistics_that_make_no_class_are_refused_with_the_field() -> None:
    with pytest.raises(UserError, match=r"xyz_2013: the days do not make a stock class .*(?s:.)*price_usd"):
        stock_class(make_class(price_usd=0.001))


def test_calibrating_to_a_folder_that_is_not_there_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glasspool.envs.market_writer.read_day", lambda paths: [])
    monkeypatch.setattr("glasspool.envs.market_writer.calibrate", lambda days: make_class())
    with pytest.raises(UserError, match="cannot be written"):
        calibrate_files([], tmp_path / "nowhere" / "xyz.yaml")
    assert not list(tmp_path.iterdir())
    rows = {row["statistic"]: row for row in calibrate_files([], tmp_path / "xyz.yaml")[0]}
    assert [p.name for p in tmp_path.iterdir()] == ["xyz.yaml"]
    assert rows["daily_vol_bps"]["difference"] == pytest.approx(0.0153)
    assert "reference" not in rows["off_exchange_share"]


def test_a_target_that_cannot_be_replaced_leaves_no_part_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasspool.envs.market_writer.read_day", lambda paths: [])
    monkeypatch.setattr("glasspool.envs.market_writer.calibrate", lambda days: make_class())
    (tmp_path / "xyz.yaml").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        calibrate_files([], tmp_path / "xyz.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["xyz.yaml"]


def test_generated_days_have_the_class_spread_volume_and_volatility(tmp_path: Path) -> None:
    """400 generated days against 16 targets; false alarm 1 in 1,000 (four standard errors each)."""
    path = tmp_path / "xyz.yaml"
    path.write_text(write_market(make_class()))
    market = Market(load_market(path, ["orders.horizon_minutes={390: 1.0}", "randomisation=null"]))
    stock, n = stock_class(make_class()), 400
    batch, obs = market.batch(n)
    market.reset(stream_key(0, "test"), range(n), range(n), batch, obs)
    spread_bps = 2 * batch.tape["half_spread_bps"][:, :2_340].mean(axis=1)
    volume = batch.tape["volume_shares"][:, :2_340].reshape(n, 13, -1).sum(axis=2)
    variance = np.diff(batch.tape["mid_bps"][:, :2_341:6], axis=1).var(axis=1) * 390
    shares = volume / volume.sum(axis=1, keepdims=True)
    for sample, target in (
        (spread_bps, stock.spread_bps),
        (volume.sum(axis=1), stock.adv_shares),
        (variance, stock.daily_vol_bps**2),
        *zip(shares.T, stock.volume_curve, strict=True),
    ):
        assert abs(sample.mean() - target) < 4 * sample.std() / n**0.5 + 2e-4 * target


@needs_data
@pytest.mark.parametrize(("files", "name"), [(IBM, "ibm_2013"), (AAPL, "aapl_2012")])
def test_packaged_market_is_exactly_what_calibrate_writes(files: list[str], name: str, tmp_path: Path) -> None:
    calibrate_files([f"{DATA}/{file}" for file in files], tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (PACKAGED / "markets" / f"{name}.yaml").read_text()


@needs_data
@pytest.mark.parametrize(("files", "name"), [(BAC, "replay_bac_20131007"), (AMZN, "replay_amzn_20120621")])
def test_packaged_replay_holds_the_class_that_calibrate_writes(files: list[str], name: str) -> None:
    calibrated = calibrate(read_day([f"{DATA}/{file}" for file in files]))
    assert write_market(calibrated, name=name) in (PACKAGED / "markets" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", ["ibm_2013", "aapl_2012"])
def test_packaged_market_loads_with_one_class_and_no_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLASSPOOL_DATA", raising=False)
    market = load_market(name)
    assert len(market.stocks) == 1 and market.replay is None
    assert yaml.safe_load((PACKAGED / "markets" / f"{name}.yaml").read_text()).keys() == {"base", "name", "stocks"}
