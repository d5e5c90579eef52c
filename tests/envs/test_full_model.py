"""Sub-steps, two contra types, one-shot variants, quotes and venues that fail, news, ping fallback, privileged
columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from glasspool.agents.router import LitVwap, RandomRouter
from glasspool.configs.stock import StockConfig
from glasspool.envs import make_vec
from glasspool.envs.controls import MASK_CODES, mask_code
from glasspool.envs.features import observe
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.privileged import privileged_names
from glasspool.envs.routing_state import RoutingState
from glasspool.envs.scorecard import expected_markout_bps, size_tail
from glasspool.envs.state import IN_SLOT, NODE, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, Batch
from glasspool.envs.vector_env import EpisodeBatch
from glasspool.envs.venues import sub_steps

MarketWith = Callable[..., Market]
Floats = NDArray[np.float64]
ENDLESS: dict[str, Any] = {
    "orders": {"shares": 250_000, "max_participation_frac": 1.0},
    "noise": {"toxicity_vol_exponent": 0.0},
    "controls": {"max_routes": 20, "weight_cut": 0.0, "max_child_shares": 10**8, "max_dark_frac": 1.0,
                 "toxicity_limit_hs": -99.0},
}  # fmt: skip


def drawn(market: Market, n: int) -> Batch:
    b, obs = market.batch(n)
    market.reset(stream_key(1, "test"), np.arange(n), np.arange(n), b, obs)
    return b


def at(market: Market, name: str) -> int:
    return [r.name for r in market.routes].index(name)


# --- sub-steps of a slot


@pytest.mark.parametrize(
    ("interval_s", "tau_fast_s", "expected"),
    [(1, 1, (1, False)), (4, 1, (4, False)), (5, 1, (1, True)), (10, 1, (1, True)), (10, 3, (4, False)),
     (60, 1, (1, True)), (300, 1, (5, True)), (900, 1, (15, True)), (60, 10, (1, True))],
)  # fmt: skip
def test_sub_steps_follow_the_rule(
    plain: dict[str, Any], interval_s: float, tau_fast_s: float, expected: tuple[int, bool]
) -> None:
    """In the slot while it is 5 tau_fast long, then ceil(2 Delta/tau_slow) nodes; else ceil(Delta/tau_fast)."""
    stock = StockConfig(**{**plain["stocks"][0], "tau_fast_s": tau_fast_s, "sigma_fast_bps": 0.3})
    assert sub_steps(stock, interval_s) == expected


@pytest.mark.parametrize(("interval_s", "tau_fast_s"), [(300.0, 1.0), (10.0, 3.0)])
def test_nodes_are_one_path_with_the_slots_mids(
    market_with: MarketWith, plain: dict[str, Any], interval_s: float, tau_fast_s: float
) -> None:
    """The sub-steps of a slot lead from its mid to the next; variance as volatility says, no autocorrelation.

    Two tests at 4 standard errors over 300 tapes: false alarm 1 in 10,000 a case.
    """
    stock = {**plain["stocks"][0], "tau_fast_s": tau_fast_s}
    market = market_with(
        plain, {"stocks": [stock], "interval_s": interval_s, "orders": {"horizon_minutes": {120.0: 1.0}},
                "noise": {"vol_log_sd": 0.0}},
    )  # fmt: skip
    b = drawn(market, 300)
    k, n = market.rules.n_sub, market.n_slots
    assert k > 1 and (b.episode["n_sub"] == k).all()
    nodes = b.nodes[:, : (n + 1) * k].reshape(300, n + 1, k)
    tape = b.tape[:, : n + 1]
    for field in ("mid_bps", "fast_z", "slow_z"):
        assert (nodes[:, :n, 0][field] == tape[:, :n][field]).all()
    ep = b.episode[0]
    slow = ep["sigma_slow_bps"] * -np.expm1(-interval_s / k / ep["tau_slow_s"])
    spent = ep["sigma_fast_bps"] * -np.expm1(-interval_s / k / ep["tau_fast_s"])
    assert nodes["base_bps"] == pytest.approx(nodes["mid_bps"] + spent * nodes["fast_z"], abs=1e-9)
    after = nodes["base_bps"] + slow * nodes["slow_z"] + nodes["eps_bps"]
    assert after[:, :, :-1] == pytest.approx(nodes["mid_bps"][:, :, 1:], abs=1e-9)
    assert after[:, :n, -1] == pytest.approx(tape[:, 1 : n + 1]["mid_bps"], abs=1e-9)
    moves = np.diff(tape["mid_bps"], axis=1)
    scaled = moves / (tape[:, :n]["vol_bps"] * np.sqrt(interval_s))
    error = (scaled**2).mean(1).std() / np.sqrt(300)
    assert abs((scaled**2).mean() - 1.0) < 4 * error and error < 0.05
    lagged = (scaled[:, 1:] * scaled[:, :-1]).mean(1)
    assert abs(lagged.mean()) < 4 * lagged.std() / np.sqrt(300)


@pytest.mark.parametrize(("interval_s", "tau_fast_s"), [(300.0, 1.0), (10.0, 3.0)])
def test_rests_meet_every_node_of_a_slot_with_the_markout_law(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any, interval_s: float,
    tau_fast_s: float,
) -> None:  # fmt: skip
    """Mean of s (print - end of slot) a share of in-slot fills: the law at what is left of the slot, over its nodes.

    Inside the slot the fast alpha is all in the print; at nodes it plays out. 4 standard errors clustered by order,
    three
    pools a case; false alarm 2 in 10,000. Errors are below 0.1 bps against laws of 0.2 to 1.2.
    """
    stock = {**plain["stocks"][0], "tau_fast_s": tau_fast_s}
    hours = {"horizon_minutes": {120.0 if interval_s > 60 else 30.0: 1.0}}
    market = market_with(
        plain, ENDLESS, {"stocks": [stock], "interval_s": interval_s, "orders": {**ENDLESS["orders"], **hours}}
    )
    pools = ("speed_bump", "screened", "open")
    routes = [at(market, f"{p}:rest") for p in pools]
    shares: list[Floats] = []
    values: list[Floats] = []

    def record(b: Batch) -> None:
        n = b.order["slot"][0]
        shares.append(b.fill_shares[:, routes, IN_SLOT].astype(float))
        move = b.fill_mid_bps[:, routes, IN_SLOT] - b.tape[:, n]["mid_bps"][:, None]
        values.append(b.episode["side"][:, None] * move)

    router = fixed_router({f"{p}:rest": 1 / 3 for p in pools}, work_shares=10**8)
    b = run_router(market, router, 1_500 if interval_s > 60 else 700, each_slot=record)
    ep, k = b.episode[0], market.rules.n_sub
    left_s = interval_s - np.arange(k) * interval_s / k
    for i, pool in enumerate(pools):
        ven = b.venue[0, market.venues.index(pool)]
        fast = 1.0 if ep["fast_in_slot"] else -np.expm1(-left_s / tau_fast_s).mean()
        law = ven["kappa_fast"] * ep["sigma_fast_bps"] * fast
        law += ven["kappa_slow"] * ep["sigma_slow_bps"] * -np.expm1(-left_s / ep["tau_slow_s"]).mean()
        w, x = np.stack([s[:, i] for s in shares[:-1]], 1), np.stack([v[:, i] for v in values[:-1]], 1)
        mean = (w * x).sum() / w.sum()
        error = np.sqrt(((w * (x - mean)).sum(1) ** 2).sum()) / w.sum()
        assert abs(mean - law) < 4 * error, (pool, mean, law, error)


def test_a_long_slot_costs_a_taker_what_short_ones_do(market_with: MarketWith, plain: dict[str, Any]) -> None:
    """All-take cost at 10, 30 and 60 s: within 4 standard errors of each other. False alarm 2 in 10,000."""
    means, errors = [], []
    for interval_s in (10.0, 30.0, 60.0):
        market = market_with(
            plain,
            {"interval_s": interval_s, "orders": {"horizon_minutes": {60.0: 1.0}, "participation_frac": [0.1, 0.1]}},
        )
        core = EpisodeBatch(market, 500, 3, "test", reduce_variance=True)
        core.reset()
        work, weights = np.zeros(500), np.zeros((500, len(market.routes)))
        while core.batch.order["active"].any():
            LitVwap().propose(market, core.batch, core.obs, work, weights)
            step_proposals(market.rules, core.batch, work, weights, core.obs)
        cost = core.batch.order["cost_bps"] - core.batch.order["martingale_sum_bps"]
        means.append(cost.mean())
        errors.append(cost.std() / np.sqrt(500))
    assert max(means) - min(means) < 4 * np.hypot(errors[0], errors[2]), means
    assert max(errors) < 0.15


# --- two contra types and the minimum quantity


def test_a_minimum_quantity_thins_the_informed_type(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """pi = 0.5, kappa_informed 1.33, beta 3 and 1.2, 50 lots: m = 1, 2, 5, 10 keeps 100, 43, 22, 14 % at -1, -0.39,
    -0.09, -0.03."""
    stock = {**plain["stocks"][0], "sigma_fast_bps": 0.0, "sigma_slow_bps": 1.5, "tau_slow_s": 60.0}
    expected = {1: (1.0, -1.0), 2: (0.43, -0.39), 5: (0.22, -0.09), 10: (0.14, -0.03)}
    for m, (kept, markout) in expected.items():
        pool = {"name": "POOL", "supply_frac": 0.02, "kappa_slow": 0.665, "size_beta": 1.2, "informed_frac": 0.5,
                "informed_size_beta": 3.0, "min_quantity_lots": m}  # fmt: skip
        market = market_with(plain, ENDLESS, {"stocks": [stock], "dark_pools": [pool]})
        b = drawn(market, 1)
        v = market.venues.index("POOL")
        ven, law = b.venue[0, v], market.rules.size_law
        tails = [size_tail(law[ven[f]], m) for f in ("informed_law", "size_law")]
        assert np.mean(tails) == pytest.approx(kept, abs=0.006)
        limit = -tails[0] / (tails[0] + tails[1]) * 1.33 * 1.5  # pi(m) kappa sigma
        assert limit == pytest.approx(markout, abs=0.006)
        b.episode["shares"] = 10**7  # children larger than the minimum
        card = expected_markout_bps(market.rules, b, 0, v, 1, 1e9)
        assert card == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize("m", [1, 5])
def test_fills_of_two_types_have_the_thinned_markout(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any, m: int
) -> None:
    """Endless pings, markout at 300 s a share: -kappa sigma (1 - e^(-h/tau)) x the informed type's part of the shares.

    An order that no arrival completes has no saturation. One test at 4 standard errors a case: false alarm 6 in
    100,000.
    """
    stock = {**plain["stocks"][0], "sigma_fast_bps": 0.0, "sigma_slow_bps": 1.5, "tau_slow_s": 60.0}
    pool = {"name": "POOL", "supply_frac": 0.01, "life_s": 20.0, "kappa_slow": 0.665, "size_beta": 1.2,
            "informed_frac": 0.5, "informed_size_beta": 3.0, "min_quantity_lots": m}  # fmt: skip
    market = market_with(plain, ENDLESS, {"stocks": [stock], "dark_pools": [pool]})
    ping, v = at(market, "POOL:ping"), market.venues.index("POOL")
    hit: list[Floats] = []
    b = run_router(market, fixed_router({"POOL:ping": 1.0}, work_shares=10**8), 5_000,
                   each_slot=lambda b: hit.append(b.fill_shares[:, ping, NODE].astype(float)))  # fmt: skip
    shares_of = []
    for f in ("informed_law", "size_law"):
        law = market.rules.size_law[b.venue[0, v][f]]
        k = np.arange(1, law["n_lots"] + 1)
        shares_of.append((k * np.diff(law["cdf"][: law["n_lots"]], prepend=0.0))[k >= m].sum())
    law = -shares_of[0] / sum(shares_of) * 1.33 * 1.5 * -np.expm1(-300 / 60.0)
    w = np.stack(hit[:-1], 1)
    n = w.shape[1]
    noise = np.concatenate([np.zeros((len(w), 1)), np.cumsum(b.tape["eps_bps"], 1)], 1)
    mid = b.tape["mid_bps"] - noise[:, : b.tape.shape[1]]  # the mid's own noise is independent of what stands at a node
    x = b.episode["side"][:, None] * (mid[:, 30 : 30 + n] - mid[:, :n])
    mean = (w * x).sum() / w.sum()
    error = np.sqrt(((w * (x - mean)).sum(1) ** 2).sum()) / w.sum()
    assert error < 0.08
    assert abs(mean - law) < 4 * error, (mean, law, error)


# --- one-shot variants


def one_shot(market_with: MarketWith, plain: dict[str, Any], pools: int = 1, **oracle: Any) -> Market:
    stock = {**plain["stocks"][0], "sigma_fast_bps": 1.5, "tau_fast_s": 1.0, "sigma_slow_bps": 0.0,
             "daily_vol_bps": 400.0, "vol_floor_frac": 1.0}  # fmt: skip
    pool = {"size_max_lots": None, "zero_prob": 0.7}
    return market_with(
        plain, ENDLESS,
        {"stocks": [stock], "dark_pools": [{**pool, "name": f"P{i}"} for i in range(pools)],
         "noise": {"vol_log_sd": 0.0},
         "orders": {"shares": 10**6, "max_participation_frac": 1.0},
         "oracle": {"one_shot_arrivals": True, "slot_volumes": [1e6] * 40, **oracle}},
    )  # fmt: skip


def test_the_probit_fill_knows_the_alpha_as_the_formula_says(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """p = 0.3, r = 0.4, sigma_A = 1.5: E[A | fill] = -0.69539, E[A | no fill] = +0.29802 for a buy.

    Three tests at 4 standard errors: false alarm 2 in 10,000.
    """
    market = one_shot(market_with, plain, probit_correlation=0.4)
    ping, seen = at(market, "P0:ping"), []

    def record(b: Batch) -> None:
        n = b.order["slot"][0] - 1
        sent = b.child_shares[:, ping] > 0  # the last slot takes
        alpha = b.episode["side"] * 1.5 * b.tape[:, n]["fast_z"]
        seen.append((b.fill_shares[sent, ping, NODE] > 0, alpha[sent]))

    run_router(market, fixed_router({"P0:ping": 1.0}, work_shares=100.0), 2_000, each_slot=record)
    fill, alpha = (np.concatenate([s[i] for s in seen]) for i in (0, 1))
    n = fill.size
    assert abs(fill.mean() - 0.3) < 4 * np.sqrt(0.21 / n)
    d = norm.pdf(norm.ppf(0.3))
    assert -0.4 * 1.5 * d / 0.3 == pytest.approx(-0.69539, abs=1e-5)
    for chosen, law in ((fill, -0.69539), (~fill, 0.29802)):
        assert abs(alpha[chosen].mean() - law) < 4 * alpha[chosen].std() / np.sqrt(chosen.sum())


def test_fills_of_one_shot_pools_cluster_by_the_copula(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """Both of two pools fill with the bivariate normal probability. 4 standard errors: false alarm 6 in 100,000."""
    market = one_shot(market_with, plain, pools=2, fill_copula=0.3)
    pings, both = [at(market, "P0:ping"), at(market, "P1:ping")], []
    run_router(market, fixed_router({"P0:ping": 0.5, "P1:ping": 0.5}, work_shares=200.0), 2_000,
               each_slot=lambda b: both.append((b.fill_shares[:, pings, NODE] > 0).all(1)))  # fmt: skip
    got = np.concatenate(both)
    p = float(multivariate_normal([0, 0], [[1, 0.3], [0.3, 1]]).cdf([norm.ppf(0.3)] * 2))
    assert p > 0.11
    assert abs(got.mean() - p) < 4 * np.sqrt(p * (1 - p) / got.size)


def test_a_one_shot_post_waits_behind_the_queue(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """E fill = mean (e^(-Q/mean) - e^(-(Q+L)/mean)) for an exponential outflow. 4 standard errors: 6 in 100,000."""
    market = one_shot(market_with, plain, queue_shares=2_000.0, outflow_mean_shares=2_500.0)
    lit = {"name": "LIT", "flow_frac": 0.1, "kappa_slow": 0.0}
    market = Market(market.config.model_copy(update={"lit_venues": (type(market.config.lit_venues[0])(**lit),)}))
    post, got = at(market, "LIT:post"), []
    run_router(market, fixed_router({"LIT:post": 1.0}, work_shares=1_000.0), 1_000,
               each_slot=lambda b: got.append(b.fill_shares[:, post, IN_SLOT].astype(float)))  # fmt: skip
    x = np.concatenate(got[:20])
    law = 2_500 * (np.exp(-0.8) - np.exp(-1.2))
    assert abs(x.mean() - law) < 4 * x.std() / np.sqrt(x.size) + 0.5  # whole shares


def ratio_and_error(weights: NDArray[np.int64], values: Floats) -> tuple[float, float]:
    """Weighted mean of an episode's values, and its standard error clustered by episode."""
    mean = float((weights * values).sum() / weights.sum())
    return mean, float(np.sqrt(((weights * (values - mean)) ** 2).sum()) / weights.sum())


def test_scorecards_of_one_shot_venues_tell_their_own_laws(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    """A pool's record is the probit law's, with its minimum quantity; a post's is what its own fills then settle to:
    share of children filled and mean markout, each at 4 standard errors (false alarm 2 in 10,000)."""
    market = one_shot(market_with, plain, probit_correlation=0.4, queue_shares=2_000.0, outflow_mean_shares=2_500.0)
    stock = market.config.stocks[0].model_copy(
        update={"sigma_fast_bps": 0.5, "sigma_slow_bps": 3.0, "tau_slow_s": 30.0, "daily_vol_bps": 150.0}
    )
    pools = ({"name": "ALL", "size_max_lots": None}, {"name": "SOME", "size_max_lots": 2, "size_beta": 0.0})
    lit, pool = type(market.config.lit_venues[0]), type(market.config.dark_pools[0])
    market = Market(
        market.config.model_copy(
            update={
                "stocks": (stock,), "lit_venues": (lit(name="LIT", kappa_slow=0.8),),
                "dark_pools": tuple(pool(zero_prob=0.7, min_quantity_lots=2, **p) for p in pools),
            }
        )
    )  # fmt: skip
    first, v = drawn(market, 4_000), market.venues.index("LIT")
    half_bps = first.episode["half_spread_bps"][0]
    for name, p in (("ALL", 0.3), ("SOME", 0.15)):
        drop = -0.4 * 0.5 * norm.pdf(norm.ppf(p)) / p * -np.expm1(-10.0)
        for card in first.card[0, market.venues.index(name), :2]:
            assert card["filled"] / card["attempts"] == pytest.approx(p, abs=1e-5), name
            assert card["markout_hs_sum"] / card["markouts"] * half_bps == pytest.approx(drop, rel=1e-4), name
    b = run_router(market, fixed_router({"LIT:post": 1.0}, work_shares=1_000.0), 4_000)
    told, later = first.card[:, v, 2], b.card[:, v, 2]
    own = {f: later[f] - told[f] for f in ("attempts", "filled", "markouts", "markout_hs_sum")}
    rate, drop = told["filled"][0] / told["attempts"][0], told["markout_hs_sum"][0] / told["markouts"][0]
    mean, error = ratio_and_error(own["attempts"], own["filled"] / own["attempts"])
    assert abs(mean - rate) < 4 * error
    some = own["markouts"] > 0
    mean, error = ratio_and_error(own["markouts"][some], own["markout_hs_sum"][some] / own["markouts"][some])
    assert error < 0.1 * -drop
    assert abs(mean - drop) < 4 * error


# --- quotes and venues that fail, news


def test_a_venue_that_is_down_gets_nothing_and_only_then(market_with: MarketWith, run_router: Any) -> None:
    """Outages hit the named share of orders, mask all routes of the venue for their spell, and orders still complete.

    The share is tested at 4 standard errors: false alarm 6 in 100,000.
    """
    market = market_with(
        {"events": {"outage_prob": 0.4, "outage_minutes": [5.0, 10.0], "outage_venues": ["XQLB", "XQDA"]}}
    )
    n = 1_500
    b = drawn(market, n)
    down = b.venue["down_until"] > b.venue["down_from"]
    hit = [market.venues.index(v) for v in ("XQLB", "XQDA")]
    assert not down[:, [v for v in range(len(market.venues)) if v not in hit]].any()
    assert abs(down[:, hit].mean() - 0.4) < 4 * np.sqrt(0.24 / (2 * n))
    length = (b.venue["down_until"] - b.venue["down_from"])[down]
    assert length.min() >= 30 and length.max() <= 60
    venue_of = market.rules.route_venue

    def check(b: Batch) -> None:
        n = b.order["slot"][:, None] - 1
        spell = (b.venue["down_from"] <= n) & (n < b.venue["down_until"])
        assert not (b.child_shares > 0)[spell[:, venue_of]].any()

    b = run_router(market, RandomRouter(), 60, each_slot=check)
    assert (b.order["remaining_shares"] == 0).all()
    e = int(np.flatnonzero(down[:, hit[0]] & (b.venue["down_from"][:1, hit[0]] >= 0))[0])
    fresh = drawn(market, e + 1)
    fresh.order["slot"][e] = fresh.venue[e, hit[0]]["down_from"]
    codes = {MASK_CODES[mask_code(market.rules, fresh, e, at(market, r))] for r in ("XQLB:take", "XQLB:post")}
    assert codes == {"MASKED_VENUE_DOWN"}


def test_the_cheapest_open_take_completes_an_order(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any
) -> None:
    """With the cheapest lit venue down to the end, another one takes what is left; nothing is stranded."""
    market = market_with(
        plain, {"events": {"outage_prob": 1.0, "outage_minutes": [60.0, 60.0], "outage_venues": ["XQLB"]}}
    )
    b = run_router(market, LitVwap(), 40)
    assert (b.order["remaining_shares"] == 0).all()
    down_at_end = b.venue[:, 1]["down_until"] >= b.episode["n_slots"]
    assert down_at_end.all() and (b.child_shares[:, at(market, "XQLC:take")] > 0).any()


def test_nothing_trades_in_a_halt(market_with: MarketWith, plain: dict[str, Any], run_router: Any) -> None:
    market = market_with(plain, {"events": {"halt_prob": 1.0, "halt_minutes": [5.0, 5.0]}})
    halted = []

    def check(b: Batch) -> None:
        n = b.order["slot"] - 1
        row = b.tape[np.arange(len(n)), n]
        closed = row["quote_state"] == QUOTE_NONE
        halted.append(closed)
        assert not b.child_shares[closed].any() and not row["volume_shares"][closed].any()

    b = run_router(market, RandomRouter(), 60, each_slot=check)
    assert 0.2 < np.mean(halted) < 0.4  # 30 of 90 slots, cut off at the end of the order
    ended = b.tape[np.arange(60), b.episode["n_slots"] - 1]["quote_state"] == QUOTE_NONE
    assert (b.order["remaining_shares"][~ended] == 0).all() and ended.any()
    assert b.cost_bps.sum(1) == pytest.approx(b.order["cost_bps"], abs=1e-9)


def test_locked_and_crossed_quotes_come_as_often_as_stated(market_with: MarketWith, plain: dict[str, Any]) -> None:
    """4 standard errors, slots are independent: false alarm 1 in 10,000."""
    market = market_with(plain, {"events": {"locked_prob": 0.02, "crossed_prob": 0.01}})
    state = drawn(market, 1_000).tape[:, :90]["quote_state"]
    for code, p in ((QUOTE_LOCKED, 0.02), (QUOTE_CROSSED, 0.01)):
        assert abs((state == code).mean() - p) < 4 * np.sqrt(p * (1 - p) / state.size)


def test_news_moves_the_mid_without_drift_and_wakes_the_market(market_with: MarketWith, plain: dict[str, Any]) -> None:
    """One jump an order of the stated size, either way; volatility, spread and volume jump with it and decay.

    Two tests at 4 standard errors: false alarm 1 in 10,000.
    """
    calm = market_with(plain)
    shocked = market_with(
        plain,
        {"events": {"shock_prob": 1.0, "shock_move_bps": 30.0, "shock_vol_factor": 3.0, "shock_spread_factor": 2.0,
                    "shock_volume_factor": 4.0, "shock_half_life_s": 60.0}},
    )  # fmt: skip
    n = 2_000
    a, b = drawn(calm, n), drawn(shocked, n)
    ratio = b.tape[:, :90]["volume_shares"] / a.tape[:, :90]["volume_shares"]
    at_shock = ratio.argmax(1)
    rows = np.arange(n)
    assert ratio[rows, at_shock] == pytest.approx(4.0, abs=1e-9)
    before = np.arange(90)[None, :] < at_shock[:, None]
    assert ratio[before] == pytest.approx(1.0, abs=1e-12)
    spread = b.tape[rows, at_shock]["half_spread_bps"] / a.tape[rows, at_shock]["half_spread_bps"]
    assert spread == pytest.approx(2.0, abs=1e-9)
    later = np.minimum(at_shock + 6, 89)  # one half-life on
    floor = 0.4 * a.episode["vol_bps"]
    inside = (at_shock + 6 <= 89) & (a.tape[rows, later]["vol_bps"] > 1.001 * floor)
    assert (b.tape[rows, later]["vol_bps"] / a.tape[rows, later]["vol_bps"])[inside] == pytest.approx(2.0, rel=1e-6)
    jump = b.tape[rows, at_shock]["eps_bps"] * b.episode["side"]
    assert abs(jump.mean()) < 4 * jump.std() / np.sqrt(n)
    own = b.tape[rows, at_shock]["eps_var"] - 900.0
    z2 = jump**2 / (900.0 + own)
    assert abs(z2.mean() - 1.0) < 4 * z2.std() / np.sqrt(n)


def test_an_unfilled_ping_may_be_taken_in_the_same_slot(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any
) -> None:
    market = market_with(plain, {"ping_fallback": "take"})
    ping, take = at(market, "open:ping"), at(market, "XQLB:take")  # the lowest take fee
    moved = 0

    def check(b: Batch) -> None:
        nonlocal moved
        early = b.order["slot"] < b.episode["n_slots"]
        sent, got = b.child_shares[early, ping], b.fill_shares[early, ping].sum(1)
        assert (b.fill_shares[early, take, NODE] == sent - got).all()
        moved += int((sent - got).sum())

    b = run_router(market, fixed_router({"open:ping": 1.0}), 50, each_slot=check)
    assert moved > 0 and (b.order["remaining_shares"] == 0).all()
    assert b.cost_bps.sum(1) == pytest.approx(b.order["cost_bps"], abs=1e-9)


# --- latents reach an observation only where they are asked for by name


def test_privileged_columns_tell_the_truth_and_come_last(base_market: Market) -> None:
    plain_batch, told = (EpisodeBatch(base_market, 32, 5, privileged=level) for level in ("none", "all"))
    o, p = plain_batch.reset(), told.reset()
    names = privileged_names(base_market.routes, "all")
    assert p.shape[1] == o.shape[1] + len(names)
    actions = np.zeros((32, 1 + len(base_market.routes)))
    for _ in range(40):
        plain_batch.step(actions)
        told.step(actions)
        assert (told.obs[:, : o.shape[1]] == plain_batch.obs).all()
    b = told.batch
    on = b.order["active"] == 1
    row = b.tape[np.arange(32), np.minimum(b.order["slot"], b.tape.shape[1] - 1)]
    seen = told.obs[:, o.shape[1] + names.index("alpha_slow_hs")]
    truth = b.episode["side"] * row["slow_z"] * b.episode["sigma_slow_bps"] / row["half_spread_bps"]
    assert seen[on] == pytest.approx(np.clip(truth[on], -8, 8))
    leak = told.obs[:, o.shape[1] + names.index("XQDA:ping.true_leak_weight")]
    assert (leak == b.venue[:, base_market.venues.index("XQDA")]["leak_weight"]).all()


def test_nothing_latent_is_in_observation_state_or_info(base_market: Market) -> None:
    """Change every latent of the slot to come: what a router sees stays the same."""
    core = EpisodeBatch(base_market, 1, 2)
    core.reset()
    before = RoutingState.from_batch(base_market, core.batch, 0, core.obs[0])
    b = core.batch
    for field in ("fast_z", "slow_z", "eps_bps", "base_bps", "toxicity_factor", "dark_flow_shares", "volume_shares"):
        b.tape[0, 0:][field] += 1.7
    b.tape[0, 1:]["mid_bps"] += 11.0
    for field in ("kappa_fast", "kappa_slow", "leak_weight", "supply_frac", "gamma_run_bps", "gamma_fast_bps"):
        b.venue[0][field] += 0.3
    b.venue_state[0]["regime"] = 1
    observe(base_market.rules, b, 0, core.obs[0])
    after = RoutingState.from_batch(base_market, b, 0, core.obs[0])
    for field in before.__slots__:
        assert np.array_equal(getattr(before, field), getattr(after, field)), field


def test_make_vec_takes_names_and_gives_named_columns() -> None:
    venv = make_vec("base", 4, 1, privileged="venue")
    obs, _ = venv.reset()
    assert venv.single_observation_space.contains(obs[0])
