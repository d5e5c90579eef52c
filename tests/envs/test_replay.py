"""Recorded days as tapes: totals of the day, the tilt's law, and what the forward move must not reach."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from glasspool.agents.comparison import episodes_frame
from glasspool.agents.evaluation import run_router
from glasspool.agents.router import LitVwap
from glasspool.agents.rule_based import RuleSor
from glasspool.configs.errors import UserError
from glasspool.configs.loading import find_config, load_market, market_data
from glasspool.configs.market import MarketConfig
from glasspool.envs.features import observe
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.replay import exponential_tilt
from glasspool.envs.state import QUOTE_CROSSED, QUOTE_LOCKED, Batch
from glasspool.envs.vector_env import EpisodeBatch

DATA = os.environ.get("GLASSPOOL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GLASSPOOL_DATA is not set")
KEY = stream_key(0, "test")
OPEN_MS = 34_200_000
FULL_DAY = {"horizon_minutes": {390.0: 1.0}}
STOCK = {
    "name": "xyz", "price_usd": 100.0, "adv_shares": 700_000, "spread_bps": 3.0, "daily_vol_bps": 300.0,
    "depth_shares": 300, "sigma_fast_bps": 0.5, "sigma_slow_bps": 2.0,
}  # fmt: skip


def write_day(
    folder: Path, symbol: str = "xyz", *, date: str = "20131007", trade_s: float = 9.0, turn_s: int = 23_400
) -> Path:
    """A made-up day: a quote every 4 s, its mid walking in half cents, 2 to 5 cents wide; a trade every `trade_s`.

    From `turn_s` on the mid takes the opposite steps, twice as large.
    """
    rng = np.random.default_rng(int(date) + len(symbol) - 20131009)
    n = 23_400 // 4
    steps = rng.choice([-100, -50, 0, 50, 100], n, p=[0.15, 0.2, 0.3, 0.2, 0.15])
    steps[turn_s // 4 :] *= -2
    mid = 1_000_000 + np.append(0, np.cumsum(steps)[:-1])
    half = rng.choice([100, 200], n) + mid % 100  # quotes on whole cents, whatever the half cent
    half += (mid + half) % 100
    bid, ask = mid - half, mid + half
    ask[100] = bid[100]  # 400 s: locked
    ask[200] = bid[200] - 100  # 800 s: crossed
    rows = []
    for k in range(n):
        ms = OPEN_MS + 4_000 * k
        rows.append(f"{ms},{bid[k]},{rng.integers(1, 9) * 100},0,0,N,00000001,0")
        rows.append(f"{ms},0,0,{ask[k]},{rng.integers(1, 9) * 100},N,00000001,0")
    quotes = folder / f"{date}_{symbol}_Quote_Tick.csv"
    quotes.write_text("\n".join(rows) + "\n")
    at_s = np.arange(1.5, 23_400, trade_s)
    near = mid[np.minimum((at_s / 4).astype(int), n - 1)]
    trades = folder / f"{date}_{symbol}_Trade_Tick.csv"
    trades.write_text(
        "\n".join(
            f"{OPEN_MS + round(1000 * t)},{p + rng.choice([-100, 100])},{rng.integers(1, 6) * 100},N,00000001,0"
            for t, p in zip(at_s, near, strict=True)
        )
        + "\n"
    )
    return trades


@pytest.fixture(scope="module")
def day_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_day(tmp_path_factory.mktemp("day"))


def config_of(*paths: Path, stock: dict[str, Any] | None = None, **changes: Any) -> MarketConfig:
    data = market_data(find_config("base", "markets"))
    data |= {"name": "made_up", "stocks": [{**STOCK, **(stock or {})}], "replay": {"paths": [str(p) for p in paths]}}
    return MarketConfig.model_validate(data | {"orders": {"horizon_minutes": {15.0: 0.5, 30.0: 0.5}}} | changes)


@pytest.fixture(scope="module")
def market(day_path: Path) -> Market:
    return Market(config_of(day_path))


@pytest.fixture(scope="module")
def full_day(day_path: Path) -> tuple[Market, Batch]:
    market = Market(config_of(day_path, orders=FULL_DAY))
    return market, reset(market, range(5))[0]


def reset(market: Market, numbers: Sequence[int]) -> tuple[Batch, np.ndarray]:
    batch, obs = market.batch(len(numbers))
    market.reset(KEY, np.arange(len(numbers)), np.array(numbers), batch, obs)
    return batch, obs


def test_a_two_point_day_has_the_tilt_done_by_hand() -> None:
    # x = +1 or -1: the tilted mean is -tanh theta, and the mean of e^(-theta x) is cosh theta.
    theta, log_norm = exponential_tilt(np.array([1.0, -1.0, 0.0]), np.array([5.0, 5.0, 0.0]), 1.0, 1.0, -0.6)
    assert theta == pytest.approx(math.atanh(0.6), abs=1e-11)
    assert log_norm == pytest.approx(math.log(math.cosh(theta)), abs=1e-11)


def test_a_target_beyond_the_largest_move_has_no_tilt() -> None:
    moves, counts = np.array([1.0, -0.5]), np.array([1.0, 2.0])
    assert math.isnan(exponential_tilt(moves, counts, 1.0, 1.0, -0.5)[0])
    assert math.isfinite(exponential_tilt(moves, counts, 1.0, 1.0, -0.4999)[0])
    assert math.isfinite(exponential_tilt(moves, counts, -1.0, 1.0, -0.9)[0])  # a sell looks from the other side


def test_tilted_day_has_the_markout_of_the_law_and_the_mean_rate(full_day: tuple[Market, Batch]) -> None:
    market, b = full_day
    assert set(b.episode["side"]) == {-1.0, 1.0}
    for e in range(len(b.episode)):
        ep, x = b.episode[e], b.episode[e]["side"] * b.tape[e]["slow_z"][:2_340]
        for v in range(market.rules.n_venues):
            ven = b.venue[e, v]
            slow = -ven["kappa_slow"] * ep["sigma_slow_bps"] * (1 - math.exp(-10 / ep["tau_slow_s"]))
            node = slow - ven["kappa_fast"] * ep["sigma_fast_bps"] * (1 - math.exp(-10 / ep["tau_fast_s"]))
            slot = 2 * (slow - ven["gamma_run_bps"]) if v < market.rules.n_lit else slow
            for kind, target in (("node", node), ("slot", slot)):
                rate = np.exp(-ven[f"theta_{kind}"] * x - ven[f"log_norm_{kind}"])
                assert (x * rate).mean() == pytest.approx(target, abs=1e-9)
                assert rate.mean() == pytest.approx(1, abs=1e-9)
                assert target < -0.001


def test_full_day_tape_has_the_volume_and_the_vwap_of_the_trades(
    full_day: tuple[Market, Batch], day_path: Path
) -> None:
    _, b = full_day
    trades = np.loadtxt(day_path, delimiter=",", usecols=(1, 2))
    vwap_usd = (trades[:, 0] * trades[:, 1]).sum() / trades[:, 1].sum() / 1e4
    ep = b.episode[0]
    assert b.tape[0]["volume_shares"].sum() == ep["market_volume"] == trades[:, 1].sum()
    assert ep["price_usd"] * (1 + 1e-4 * ep["market_vwap_bps"]) == pytest.approx(vwap_usd, abs=1e-9)


def test_tape_starts_at_the_arrival_mid_and_follows_the_recorded_mids(market: Market) -> None:
    b, _ = reset(market, list(range(6)))
    assert market.replay is not None
    mids = market.replay.slots[0].mid_usd
    for e in range(6):
        ep, row = b.episode[e], b.tape[e]
        first = round(ep["start_s"] / 10)
        assert row[0]["mid_bps"] == 0 and ep["price_usd"] == mids[first] and ep["replayed"] == 1
        assert (ep["half_spread_bps"], ep["daily_vol_bps"]) == (1.5, 300)  # the class's: no draw on top of a real day
        n = min(ep["n_slots"], mids.size - first)
        got = ep["price_usd"] * (1 + 1e-4 * row["mid_bps"][:n])
        assert got == pytest.approx(mids[first : first + n], abs=1e-9)
        assert row["eps_bps"][:-1] == pytest.approx(row["slow_z"][:-1])


def test_locked_quotes_cost_nothing_and_crossed_ones_keep_the_last_spread(full_day: tuple[Market, Batch]) -> None:
    _, b = full_day
    tape = b.tape[0]
    assert tape["quote_state"][40] == QUOTE_LOCKED and tape["half_spread_bps"][40] == 0
    assert tape["quote_state"][80] == QUOTE_CROSSED
    assert tape["half_spread_bps"][80] == tape["half_spread_bps"][79] > 0


def test_after_the_close_the_mid_stands_still_and_nothing_trades(full_day: tuple[Market, Batch]) -> None:
    _, b = full_day
    after = b.tape[0][2_340:]
    assert after.size >= 30
    assert np.ptp(after["mid_bps"]) == 0 and not after["volume_shares"].any() and not after["slow_z"].any()


def test_an_episode_is_the_same_in_any_row_and_company(market: Market) -> None:
    alone, obs_alone = reset(market, [7])
    many, obs_many = reset(market, [3, 9, 7])
    for field in ("episode", "venue", "tape", "card"):
        assert getattr(alone, field)[0].tobytes() == getattr(many, field)[2].tobytes()
    assert (obs_alone[0] == obs_many[2]).all()


def test_buy_and_sell_of_an_episode_meet_the_same_prices(day_path: Path) -> None:
    buy, sell = (
        reset(Market(config_of(day_path, orders={"horizon_minutes": {15.0: 1.0}, "side": side})), [5])[0]
        for side in ("buy", "sell")
    )
    for field in ("mid_bps", "half_spread_bps", "volume_shares", "slot_vwap_bps", "imbalance"):
        assert (buy.tape[0][field] == sell.tape[0][field]).all()


def test_the_forward_move_reaches_neither_the_observation_nor_the_rule_sor(market: Market) -> None:
    b, obs = reset(market, list(range(20)))

    def seen() -> tuple[bytes, bytes, bytes]:
        work, weights = np.zeros(20), np.zeros((20, len(market.routes)))
        for e in range(20):
            observe(market.rules, b, e, obs[e])
        RuleSor().propose(market, b, obs, work, weights)
        return obs.tobytes(), work.tobytes(), weights.tobytes()

    before = seen()
    b.tape["slow_z"] += 25.0
    b.tape["eps_bps"] -= 25.0
    assert seen() == before


def test_what_comes_after_a_decision_changes_no_observation_before_it(tmp_path: Path) -> None:
    seen = []
    for name, turn_s in (("as_it_was", 23_400), ("turned", 4_048)):  # steps show from the quote at 4,052 s on
        (tmp_path / name).mkdir()
        path = write_day(tmp_path / name, turn_s=turn_s)
        market = Market(config_of(path, orders={"horizon_minutes": {15.0: 1.0}, "start_s": 3_600.0}))
        b, obs = reset(market, [0, 1])
        work, weights, rows = np.zeros(2), np.zeros((2, len(market.routes))), []
        for _ in range(80):
            rows.append(obs.copy())
            LitVwap().propose(market, b, obs, work, weights)
            step_proposals(market.rules, b, work, weights, obs)
        seen.append((np.array(rows), b.tape["mid_bps"][0].copy()))
    differs = (seen[0][0] != seen[1][0]).any(axis=(1, 2))
    assert not differs[:46].any()  # decisions up to 4,050 s
    assert differs[46:].any() and (seen[0][1] != seen[1][1]).any()


def test_fees_are_in_bps_of_the_days_price(day_path: Path) -> None:
    market = Market(config_of(day_path, stock={"price_usd": 10.0}, randomisation=None))
    b, _ = reset(market, [0])
    assert b.venue[0, 0]["take_fee_bps"] == pytest.approx(30 / b.episode[0]["price_usd"])  # 30 mils, about $100
    assert 90 < b.episode[0]["price_usd"] < 110


def test_fills_follow_the_forward_move(market: Market) -> None:
    # Rest in one pool: with a move of -5 bps for the client in every slot contra orders come more often than with +5.
    filled = []
    for move in (-5.0, 5.0):
        b, obs = reset(market, list(range(200)))
        b.tape["slow_z"] = move * b.episode["side"][:, None]
        weights = np.zeros((200, len(market.routes)))
        weights[:, [r.order_type == "rest" for r in market.routes].index(True)] = 1.0
        step_proposals(market.rules, b, np.full(200, 2_000.0), weights, obs)
        filled.append(int((b.order["dark_shares"] > 0).sum()))
    assert filled[0] > filled[1]  # the same draws, so never fewer; equal only if the tilt were gone


@pytest.mark.parametrize("router", [LitVwap(), RuleSor()], ids=lambda r: str(r.name))
def test_every_order_completes(market: Market, router: LitVwap | RuleSor) -> None:
    b, obs = reset(market, list(range(20)))
    work, weights = np.zeros(20), np.zeros((20, len(market.routes)))
    for _ in range(market.n_slots):
        router.propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
    assert not b.order["active"].any() and not b.order["remaining_shares"].any()
    assert np.isfinite(b.order["cost_bps"]).all()
    assert b.order["cost_bps"] == pytest.approx(b.cost_bps.sum(axis=1), abs=1e-9)


# --- several names, days and splits

NAMES = ("abc", "wxyz")
DATES = ("20131007", "20131008", "20131009")


@pytest.fixture(scope="module")
def six_days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("days")
    return [write_day(folder, name, date=date) for name in NAMES for date in DATES]


def split_config(paths: list[Path], **splits: Any) -> MarketConfig:
    data = config_of(*paths).model_dump()
    data["stocks"] = [{**STOCK, "name": f"{n}_2013", "probability": 0.5, "adv_shares": 700_000 + k}
                      for k, n in enumerate(NAMES)]  # fmt: skip
    data["replay"] = {"paths": [str(p) for p in paths], **splits}
    return MarketConfig.model_validate(data)


def met(market: Market, stream: str, n: int = 40) -> tuple[set[tuple[str, str]], Batch]:
    """Names and dates that the first episodes of a stream meet."""
    b, obs = market.batch(n)
    market.reset(stream_key(0, stream), np.arange(n), np.arange(n), b, obs, stream)
    assert market.replay is not None
    days = [market.replay.slots[int(d)] for d in b.episode["day"]]
    return {(day.symbol, day.date) for day in days}, b


def test_each_day_is_replayed_with_the_class_of_its_name(six_days: list[Path]) -> None:
    market = Market(split_config(six_days))
    seen, b = met(market, "test", 200)
    assert seen == {(n.upper(), f"2013-10-0{k}") for n in NAMES for k in (7, 8, 9)}
    assert market.replay is not None
    symbols = [market.replay.slots[int(d)].symbol for d in b.episode["day"]]
    assert [NAMES[int(s)].upper() for s in b.episode["stock"]] == symbols
    assert (b.episode["adv_shares"] == 700_000 + b.episode["stock"]).all()


def test_streams_meet_their_own_days(six_days: list[Path]) -> None:
    by_date = Market(split_config(six_days, train=["2013-10-07"], validation=["2013-10-08"], test=["2013-10-09"]))
    for stream, date in (("train", "2013-10-07"), ("validation", "2013-10-08"), ("test", "2013-10-09")):
        assert met(by_date, stream)[0] == {("ABC", date), ("WXYZ", date)}
    by_name = Market(split_config(six_days, train=["ABC 2013-10-07", "ABC 2013-10-08"], test=["WXYZ"]))
    assert met(by_name, "train")[0] == {("ABC", "2013-10-07"), ("ABC", "2013-10-08")}
    assert met(by_name, "test")[0] == {("WXYZ", f"2013-10-0{k}") for k in (7, 8, 9)}
    assert met(by_name, "validation")[0] == {("ABC", "2013-10-09")}  # what nobody names


def test_training_and_evaluation_use_their_streams(six_days: list[Path]) -> None:
    market = Market(split_config(six_days, train=["2013-10-07"], test=["2013-10-09"]))
    core = EpisodeBatch(market, 16, 1, "train")
    core.reset()
    assert market.replay is not None
    assert {market.replay.slots[int(d)].date for d in core.batch.episode["day"]} == {"2013-10-07"}
    result = run_router(market, LitVwap(), 24, 1, "test")
    dates = {day.date for day in market.replay.slots}
    assert set(result.block // 100) == {sorted(dates).index("2013-10-09")}  # both names: one date, one set of blocks
    frame = episodes_frame({"vwap_lit": result}, {}, [], market)
    assert (frame["block"] == result.block).all()  # so that a reader can make the intervals again


@pytest.mark.parametrize(
    ("splits", "words"),
    [({"train": ["2013-10-07"], "test": ["ABC"]}, ("both name ABC 2013-10-07", "trained on")),
     ({"test": ["IBM"]}, ("'IBM' names none", "WXYZ 2013-10-09")),
     ({"train": ["ABC"], "validation": ["WXYZ"]}, ("test has none",))],
)  # fmt: skip
def test_splits_that_leak_or_miss_are_refused(
    six_days: list[Path], splits: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        Market(split_config(six_days, **splits))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_name_without_a_class_and_a_class_without_days_are_refused(six_days: list[Path], day_path: Path) -> None:
    with pytest.raises(UserError, match="days of XYZ, but its stock classes stand for ABC, WXYZ"):
        Market(split_config([*six_days, day_path]))
    with pytest.raises(UserError, match="a stock class for WXYZ, but replay.paths hold no day of it"):
        Market(split_config(six_days[:3]))


def test_a_fixed_start_that_runs_past_the_close_is_refused(day_path: Path) -> None:
    with pytest.raises(ValidationError, match="runs past the close"):
        Market(config_of(day_path, orders={"horizon_minutes": {15.0: 1.0}, "start_s": 22_600.0}))


def test_a_window_without_a_trade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing traded in the 15 minutes from"):
        Market(config_of(write_day(tmp_path, trade_s=2_000.0)))


def test_a_law_beyond_the_days_moves_is_refused_with_the_venue(day_path: Path) -> None:
    wild = {"sigma_fast_bps": 40.0, "daily_vol_bps": 40_000.0}
    with pytest.raises(
        UserError, match=r"XYZ 2013-10-07: venue XQD. asks for a markout beyond the day's moves over 10 s"
    ):
        reset(Market(config_of(day_path, stock=wild)), [0, 1, 2])


def facts_of(symbol: str, date: str) -> tuple[float, float, float]:
    """Published volume, VWAP and time-weighted spread in bps of one day."""
    facts = json.loads((Path(DATA or "") / "facts.json").read_text())
    if date == "2012-06-21":
        day, prefix, vwap = facts["lobster_2012_06_21"][symbol], "", "vwap"
    else:
        day, prefix, vwap = (
            facts["taq_2013_10_07_to_09"][symbol]["days"][date.replace("-", "")],
            "nbbo_",
            "vwap_continuous",
        )
    return day["volume_continuous"], day[vwap], day[f"{prefix}spread_bps_twmean"]


@needs_data
@pytest.mark.parametrize("name", ["ibm_20131007", "bac_20131007", "aapl_20120621", "amzn_20120621"])
def test_packaged_replay_has_the_published_totals_of_its_day(name: str) -> None:
    market = Market(load_market(f"replay_{name}", ["orders.horizon_minutes={390: 1.0}"]))
    b, _ = reset(market, [0])
    assert market.replay is not None
    day, ep, tape = market.replay.slots[0], b.episode[0], b.tape[0][:2_340]
    volume, vwap_usd, fact_bps = facts_of(day.symbol, day.date)
    rounding = 6e-6  # the facts carry six digits
    assert tape["volume_shares"].sum() == volume
    assert ep["price_usd"] * (1 + 1e-4 * ep["market_vwap_bps"]) == pytest.approx(vwap_usd, rel=rounding)
    spread_bps = 2 * np.average(np.nan_to_num(day.mean_half_spread_bps), weights=day.quoted_s)
    assert spread_bps == pytest.approx(fact_bps, rel=rounding)
    # The tape holds the spread in force at each slot start, a sample of it: within 2 % on these days.
    mid = 1 + 1e-4 * tape["mid_bps"]
    assert 2 * (tape["half_spread_bps"] / mid).mean() == pytest.approx(fact_bps, rel=0.02)
