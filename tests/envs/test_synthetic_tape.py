"""The tape: a function of market, seed and episode alone, with the laws of the reference market."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from glasspool.agents.router import RandomRouter
from glasspool.agents.rule_based import RuleSor
from glasspool.envs.counter_rng import derive, normal
from glasspool.envs.episode_draw import STREAM_VOLUME
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.state import Batch
from glasspool.envs.synthetic import finish_tape

MarketWith = Callable[..., Market]
# What a router cannot know when it decides at a slot: the rest of that slot, the alphas, and what derives from them.
HIDDEN = (
    "base_bps", "eps_bps", "eps_var", "slot_vwap_bps", "volume_shares", "vol_bps", "vol_curve", "fast_z", "slow_z",
    "dark_flow_shares", "volume_left_frac", "benchmark_left", "martingale_left",
)  # fmt: skip


def drawn(market: Market, numbers: list[int], seed: int = 1, stream: str = "test") -> Batch:
    b, obs = market.batch(len(numbers))
    market.reset(stream_key(seed, stream), np.arange(len(numbers)), np.array(numbers), b, obs)
    return b


def tape_of(b: Batch, e: int) -> Any:
    """The rows of the order's own slots, and the mids after it (for late markouts)."""
    n = int(b.episode[e]["n_slots"])
    return b.tape[e, :n].tobytes(), b.tape[e, n : n + 31]["mid_bps"].tobytes()


def same_episode(a: Batch, i: int, b: Batch, j: int) -> bool:
    same = all(getattr(a, f)[i].tobytes() == getattr(b, f)[j].tobytes() for f in ("episode", "venue", "card"))
    return same and bool(tape_of(a, i) == tape_of(b, j))


def test_an_episode_is_the_same_in_any_row_and_batch(base_market: Market) -> None:
    """Also in a row that held a longer order before."""
    numbers = [5, 2, 11, 0, 7]
    together = drawn(base_market, numbers)
    again, obs = base_market.batch(2)
    longest = numbers[int(np.argmax(together.episode["n_slots"]))]
    for row, number in enumerate(numbers):
        base_market.reset(stream_key(1, "test"), [1, 0], [longest, number], again, obs)
        base_market.reset(stream_key(1, "test"), [1], [number], again, obs)
        assert same_episode(together, row, again, 0)
        assert same_episode(together, row, again, 1)


def test_streams_and_seeds_are_different_episodes(base_market: Market) -> None:
    keys = [
        drawn(base_market, [k], seed, stream).episode[0]["key"]
        for k in range(20)
        for seed in (0, 1)
        for stream in ("train", "validation", "test")
    ]
    assert len(set(keys)) == len(keys)


def test_another_venue_changes_nothing_for_the_rest(market_with: MarketWith, plain: dict[str, Any]) -> None:
    full = market_with(plain, {"randomisation": {}})
    pools, lit = list(full.config.dark_pools), list(full.config.lit_venues)
    fewer = market_with(
        plain,
        {"randomisation": {}},
        {"dark_pools": [p.model_dump() for p in pools if p.name != "open"]},
        {"lit_venues": [v.model_dump() for v in lit if v.name != "XQLA"]},
    )
    a, b = drawn(full, list(range(40))), drawn(fewer, list(range(40)))
    for field in ("mid_bps", "volume_shares", "half_spread_bps", "dark_flow_shares", "imbalance", "vol_ratio"):
        assert a.tape[field].tobytes() == b.tape[field].tobytes()
    rows = ("archetype", "size_law", "informed_law")  # places in the market's own tables
    fields = [f for f in a.venue.dtype.names or () if f not in rows]
    for name in fewer.venues:
        i, j = full.venues.index(name), fewer.venues.index(name)
        assert all(a.venue[:, i][f].tobytes() == b.venue[:, j][f].tobytes() for f in fields)
        assert a.card[:, i].tobytes() == b.card[:, j].tobytes()
        laws = [m.rules.size_law[v[:, k]["size_law"]] for m, v, k in ((full, a.venue, i), (fewer, b.venue, j))]
        assert laws[0].tobytes() == laws[1].tobytes()


def test_the_fills_of_a_pool_do_not_depend_on_other_venues(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """Half the work goes to the pool either way; the other half goes elsewhere in the same slot."""
    market = market_with(plain)
    pool = [r.name for r in market.routes].index("screened:rest")
    seen: list[list[bytes]] = []
    for other in ("XQLA:post", "open:ping"):
        fills: list[bytes] = []
        router = fixed_router({"screened:rest": 0.5, other: 0.5}, work_shares=400.0)
        run_router(market, router, 30, each_slot=lambda b, f=fills: f.append(b.fill_shares[:, pool].tobytes()))
        seen.append(fills[:10])  # later slots differ when an order is done earlier
    assert seen[0] == seen[1]


# --- laws of the mid


@pytest.fixture(scope="module")
def quarter_hours(market_with: MarketWith, plain: dict[str, Any]) -> Batch:
    """6,000 tapes of 90 slots (and 30 after) of the large class."""
    return drawn(market_with(plain), list(range(6_000)))


def z_of_mean(per_episode: Any) -> float:
    """Mean over its standard error; episodes are the independent unit."""
    return float(per_episode.mean() / (per_episode.std() / np.sqrt(len(per_episode))))


def test_slot_returns_have_the_stated_variance_and_no_memory(quarter_hours: Batch) -> None:
    """Var = sigma_n^2 Delta and autocorrelations at lags 1 to 5 are 0, in standardised returns.

    Six tests at 4 standard errors: false alarm 4 in 10,000. With 540,000 returns the standard error is 0.0014, so a
    memory of 0.01 is seen.
    """
    tape = quarter_hours.tape[:, :91]
    r = np.diff(tape["mid_bps"], axis=1) / (tape["vol_bps"][:, :-1] * np.sqrt(10.0))
    assert abs(z_of_mean((r**2).mean(1) - 1.0)) < 4
    for lag in range(1, 6):
        product = (r[:, :-lag] * r[:, lag:]).mean(1)
        assert product.std() / np.sqrt(len(product)) < 0.002
        assert abs(z_of_mean(product)) < 4


def test_noise_is_never_clipped(quarter_hours: Batch) -> None:
    """What the alphas do not explain of eps has a variance above 0 in the quietest slot (rho^2 sum below 1)."""
    ep, tape = quarter_hours.episode[0], quarter_hours.tape[:, :90]
    explained = 0.0
    for sigma, tau in ((ep["sigma_fast_bps"], ep["tau_fast_s"]), (ep["sigma_slow_bps"], ep["tau_slow_s"])):
        decay = np.exp(-10.0 / tau)
        explained += sigma**2 * decay**2 * (1 - decay) / (1 + decay)
    assert (tape["eps_var"] > explained).all()
    assert tape["vol_bps"].min() >= ep["vol_floor_frac"] * ep["vol_bps"] * (1 - 1e-12)


@pytest.mark.parametrize("slots", [1, 6, 30])
def test_mid_moves_as_the_alphas_say(quarter_hours: Batch, slots: int) -> None:
    """E[M(t+h) - M(t) | A_f, A_s] = A_f (1 - e^(-h/tau_f)) + A_s (1 - e^(-h/tau_s)), equation (1).

    The residual has mean 0 given either alpha: three tests at 4 standard errors. False alarm: 2 in 10,000.
    """
    ep, tape, h = quarter_hours.episode[0], quarter_hours.tape, 10.0 * slots
    move = tape["mid_bps"][:, slots : slots + 90] - tape["mid_bps"][:, :90]
    fast, slow = tape["fast_z"][:, :90], tape["slow_z"][:, :90]
    expected = ep["sigma_fast_bps"] * fast * -np.expm1(-h / ep["tau_fast_s"])
    expected = expected + ep["sigma_slow_bps"] * slow * -np.expm1(-h / ep["tau_slow_s"])
    for weight in (1.0, fast, slow):
        assert abs(z_of_mean(((move - expected) * weight).mean(1))) < 4
    assert abs(z_of_mean((move * slow).mean(1))) > 8  # the test can see an alpha of this size


def test_alphas_are_standard_independent_and_forget_at_their_own_pace(quarter_hours: Batch) -> None:
    """Eight tests at 4 standard errors. False alarm: 5 in 10,000."""
    tape, ep = quarter_hours.tape[:, :90], quarter_hours.episode[0]
    fast, slow = tape["fast_z"], tape["slow_z"]
    for z, tau in ((fast, ep["tau_fast_s"]), (slow, ep["tau_slow_s"])):
        assert abs(z_of_mean(z.mean(1))) < 4
        assert abs(z_of_mean((z**2).mean(1) - 1.0)) < 4
        for lag in (1, 6):
            decay = np.exp(-10.0 * lag / tau)
            assert abs(z_of_mean((z[:, lag:] * z[:, :-lag]).mean(1) - decay)) < 4
    assert abs(z_of_mean((fast * slow).mean(1))) < 4


def test_imbalance_shows_the_alphas_with_the_stated_loadings(quarter_hours: Batch) -> None:
    """imbalance = 2 Phi(c_f z_f + c_s z_s + white) - 1. Three tests at 4 standard errors. False alarm: 2 in 10,000."""
    tape, ep = quarter_hours.tape[:, :90], quarter_hours.episode[0]
    seen = ndtri(0.5 * (1.0 + np.clip(tape["imbalance"], -1 + 1e-15, 1 - 1e-15)))
    assert abs(z_of_mean((seen**2).mean(1) - 1.0)) < 4
    assert abs(z_of_mean((seen * tape["fast_z"]).mean(1) - ep["signal_fast"])) < 4
    assert abs(z_of_mean((seen * tape["slow_z"]).mean(1) - ep["signal_slow"])) < 4


def test_supply_factor_has_mean_one_and_follows_volume(quarter_hours: Batch) -> None:
    """Two tests at 4 standard errors. False alarm: 1 in 10,000."""
    tape, ep = quarter_hours.tape[:, :90], quarter_hours.episode[0]
    elastic = (tape["half_spread_bps"] / ep["half_spread_bps"]) ** -0.5 * (tape["vol_bps"] / ep["vol_bps"]) ** -0.3
    g = tape["dark_flow_shares"] / (tape["volume_shares"] * elastic)
    assert abs(z_of_mean(g.mean(1) - 1.0)) < 4
    surprise = np.log(quarter_hours.tape[:, :90]["volume_shares"] / quarter_hours.tape[:, :90]["forecast_shares"])
    assert z_of_mean(((surprise - surprise.mean()) * np.log(g)).mean(1)) > 4


# --- volume and schedule


@pytest.fixture(scope="module")
def days(market_with: MarketWith, plain: dict[str, Any]) -> Batch:
    """400 whole days of 2,340 slots."""
    return drawn(market_with(plain, {"orders": {"horizon_minutes": {390.0: 1.0}}}), list(range(400)))


def test_volume_is_positive_and_the_day_adds_up_to_adv(days: Batch) -> None:
    """Mean of the day over ADV is 1, log standard deviation 0.4. False alarm: 1 in 10,000."""
    volume, adv = days.tape[:, :2_340]["volume_shares"], days.episode["adv_shares"]
    assert volume.min() > 0.0
    total = volume.sum(1) / adv
    assert abs(z_of_mean(total - 1.0)) < 4
    assert abs(np.log(total).std() - 0.4) < 4 * 0.4 / np.sqrt(2 * len(total))
    assert days.episode["market_volume"] == pytest.approx(volume.sum(1), rel=1e-12)


def test_volume_follows_the_curve(days: Batch, base_market: Market) -> None:
    """Share of each half hour in the day's volume. 13 tests at 4 standard errors. False alarm: 8 in 10,000."""
    volume = days.tape[:, :2_340]["volume_shares"].reshape(400, 13, 180).sum(2)
    curve = np.array(base_market.config.stocks[0].volume_curve)
    share = volume / volume.sum(1, keepdims=True)
    for k in range(13):
        assert abs(z_of_mean(share[:, k] - curve[k] / curve.sum())) < 4
    forecast = days.tape[0, :2_340]["forecast_shares"].reshape(13, 180).sum(1)
    assert forecast == pytest.approx(curve / curve.sum() * days.episode["adv_shares"][0], rel=1e-12)


@pytest.mark.parametrize("interval_s", [5.0, 10.0, 30.0, 50.0, 60.0])
def test_volume_agrees_with_its_forecast_at_any_slot_length(
    market_with: MarketWith, plain: dict[str, Any], interval_s: float
) -> None:
    """Also where slots do not divide five minutes. Mean ratio within 4 standard errors. False alarm: 6 in 100,000."""
    market = market_with(plain, {"interval_s": interval_s, "orders": {"horizon_minutes": {390.0: 1.0}}})
    b = drawn(market, list(range(150)))
    volume = b.tape[:, : market.n_slots]["volume_shares"].sum(1)
    forecast = b.tape[:, : market.n_slots]["forecast_shares"].sum(1)
    ratio = volume / forecast / _day_factor(market, b)
    assert forecast == pytest.approx(b.episode["adv_shares"].astype(float))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(ratio)) + 1e-9


@pytest.mark.parametrize("minutes", [15.0, 60.0, 120.0])
def test_a_windows_share_of_the_day_knows_nothing_of_the_days_volume(
    market_with: MarketWith, plain: dict[str, Any], minutes: float
) -> None:
    """So that the mean of their product, the window's volume, is its forecast. False alarm: 4 in 10,000 in all."""
    market = market_with(plain, {"orders": {"horizon_minutes": {minutes: 1.0}}})
    b = drawn(market, list(range(2_000)))
    n, day = int(b.episode["n_slots"][0]), _day_factor(market, b)
    ratio = b.tape[:, :n]["volume_shares"].sum(1) / b.tape[:, :n]["forecast_shares"].sum(1)
    assert abs(np.corrcoef(np.log(day), np.log(ratio / day))[0, 1]) < 4 / np.sqrt(len(day))
    assert abs(z_of_mean(ratio / day - 1.0)) < 4


def _day_factor(market: Market, b: Batch) -> Any:
    """The day's total over ADV, drawn again from its own counter: only the split among slots is left to test."""
    sd = market.rules.day_volume_log_sd
    keys = [np.uint64(derive(np.uint64(k), STREAM_VOLUME)) for k in b.episode["key"]]
    return np.exp([sd * normal(k, 0, 0) - 0.5 * sd * sd for k in keys])


@pytest.mark.parametrize("follow", [True, False])
def test_schedule_falls_from_one_to_zero(market_with: MarketWith, follow: bool) -> None:
    market = market_with({"schedule": {"follow_volume": follow}})
    b = drawn(market, list(range(200)))
    for e in range(200):
        n = int(b.episode[e]["n_slots"])
        now, after = b.tape[e, :n]["schedule_now"], b.tape[e, :n]["schedule_next"]
        assert now[0] == pytest.approx(1.0, abs=1e-12)
        assert after[-1] == 0.0
        assert (np.diff(now) < 0).all()
        assert (after < now).all()
        assert (after >= 0).all() and (now <= 1 + 1e-12).all()
        if not follow:
            assert after[:-1] == pytest.approx(now[1:], abs=1e-12)


def test_schedule_of_the_static_curve_is_the_forecast(market_with: MarketWith) -> None:
    b = drawn(market_with({"schedule": {"follow_volume": False}}), [3])
    n = int(b.episode[0]["n_slots"])
    forecast = b.tape[0, :n]["forecast_shares"]
    assert b.tape[0, :n]["schedule_next"] == pytest.approx(1 - np.cumsum(forecast) / forecast.sum(), abs=1e-12)


def test_benchmark_is_the_volume_weighted_slot_price(quarter_hours: Batch) -> None:
    tape = quarter_hours.tape[:50]
    price = 0.5 * (tape["mid_bps"][:, :90] + tape["mid_bps"][:, 1:91])
    volume = tape["volume_shares"][:, :90]
    vwap = (price * volume).sum(1) / volume.sum(1)
    assert quarter_hours.episode[:50]["market_vwap_bps"] == pytest.approx(vwap, rel=1e-10)


# --- randomisation of episodes


def test_orders_follow_the_stated_distribution(base_market: Market) -> None:
    """Class and horizon frequencies, participation range and its log-uniform mean. False alarm: 6 in 10,000."""
    n = 1_000
    b, orders = drawn(base_market, list(range(n))), base_market.config.orders
    for k, stock in enumerate(base_market.config.stocks):
        p = stock.probability
        assert abs((b.episode["stock"] == k).mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    for minutes, p in orders.horizon_minutes.items():
        assert abs((b.episode["n_slots"] == minutes * 6).mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    assert abs(b.episode["side"].mean()) < 4 / np.sqrt(n)
    part = b.episode["shares"] / b.episode["expected_volume"]
    lo, hi = orders.participation_frac
    big = b.episode["shares"] > 200  # below, whole shares and the one-lot minimum blur the fraction
    assert part[big].min() > lo * 0.99 and part[big].max() <= hi
    log = np.log(part[b.episode["shares"] > 5_000])
    assert abs(log.mean() - 0.5 * np.log(lo * hi)) < 0.05 * np.log(hi / lo)
    assert (b.episode["start_s"] + b.episode["n_slots"] * 10 <= 23_400).all()


def test_archetypes_are_dealt_out_without_repetition(market_with: MarketWith) -> None:
    """Four of five archetypes an episode, each equally often in a slot. 20 tests at 4 SE. False alarm: 13 in 10,000."""
    n, market = 3_000, market_with({"orders": {"horizon_minutes": {15.0: 1.0}}})
    dealt = drawn(market, list(range(n))).venue[:, market.rules.n_lit :]["archetype"]
    assert all(len(set(row)) == 4 for row in dealt)
    for slot in range(4):
        for archetype in range(5):
            assert abs((dealt[:, slot] == archetype).mean() - 0.2) < 4 * np.sqrt(0.16 / n)


# --- no look-ahead


def test_the_schedule_knows_only_volume_already_seen(base_market: Market) -> None:
    """Fault injection: other volumes from slot 40 on leave the schedule up to slot 40 as it was, not that after."""
    b = drawn(base_market, list(range(10)))
    before = b.tape[["schedule_now", "schedule_next"]].copy()
    b.tape["volume_shares"][:, 40:] *= 7.0
    for e in range(10):
        finish_tape(base_market.rules, b, e)
        for field in ("schedule_now", "schedule_next"):
            assert b.tape[field][e, :41].tobytes() == before[field][e, :41].tobytes()
        assert b.tape["schedule_now"][e, 41] < before["schedule_now"][e, 41]


def test_measured_volatility_looks_back_only(quarter_hours: Batch, base_market: Market) -> None:
    """vol_ratio = RMS of the 30 slots before over the usual, times noise of 600 returns' standard deviation.

    Mean and variance of that noise at 4 standard errors (a window one slot later adds 2 %). False alarm: 1 in 10,000.
    """
    ep, tape, sd = quarter_hours.episode[0], quarter_hours.tape, base_market.config.noise.vol_log_sd
    square = np.cumsum(tape["vol_bps"][:, :90] ** 2, 1)
    past = np.sqrt((square[:, 30:89] - square[:, :59]) / 30)
    floor = ep["vol_floor_frac"] * ep["vol_bps"]
    usual = np.maximum(floor, ep["vol_bps"] * tape["vol_curve"][:, 31:90] * np.exp(-(sd**2)))
    noise = (tape["vol_ratio"][:, 31:90] * usual / past - 1.0) * np.sqrt(600.0)
    assert abs(z_of_mean(noise.mean(1))) < 4
    assert abs(z_of_mean((noise**2).mean(1) - 1.0)) < 4
    assert (noise**2).mean(1).std() / np.sqrt(len(noise)) < 0.004


@pytest.mark.parametrize("router", [RuleSor(), RandomRouter()], ids=lambda r: r.name)
def test_nothing_after_a_decision_changes_it(base_market: Market, router: Any) -> None:
    """Fault injection: later rows of the tape, and what is hidden of the current one, are overwritten with noise."""
    rules, n, stop, key = base_market.rules, 60, 40, stream_key(4, "test")
    (true, obs), (false, false_obs) = base_market.batch(n), base_market.batch(n)
    for batch, o in ((true, obs), (false, false_obs)):
        base_market.reset(key, np.arange(n), np.arange(n), batch, o)
    noise = np.random.default_rng(0)
    for field in false.tape.dtype.names or ():
        first = stop if field in HIDDEN else stop + 1
        false.tape[field][:, first:] = noise.uniform(0.01, 3.0, false.tape[field][:, first:].shape)
    shape = (n, len(base_market.routes))
    proposals = [(np.zeros(n), np.zeros(shape)) for _ in range(2)]
    for _ in range(stop + 1):
        for (batch, o), (work, weights) in zip(((true, obs), (false, false_obs)), proposals, strict=True):
            router.propose(base_market, batch, o, work, weights)
        assert true.order["slot"].tobytes() == false.order["slot"].tobytes()
        assert obs.tobytes() == false_obs.tobytes()
        assert (true.masked == false.masked).all()
        going = true.order["active"] == 1
        assert proposals[0][0][going].tobytes() == proposals[1][0][going].tobytes()
        assert proposals[0][1][going].tobytes() == proposals[1][1][going].tobytes()
        if (true.order["slot"] == stop).any():
            break
        for (batch, o), (work, weights) in zip(((true, obs), (false, false_obs)), proposals, strict=True):
            step_proposals(rules, batch, work, weights, o)
    assert (true.order["slot"][true.order["active"] == 1] == stop).all()
    assert (true.order["active"] == 1).sum() > n // 2
