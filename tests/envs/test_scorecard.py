"""The venue scorecard: a noisy history, own fills after their horizon, and the shrinkage that routers see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool.envs.market import Market, restart_row, stream_key
from glasspool.envs.scorecard import FILL_PRIOR, FILL_PRIOR_WEIGHT, MARKOUT_PRIOR_WEIGHT
from glasspool.envs.state import CARDS, IN_SLOT, NODE, Batch

MarketWith = Callable[..., Market]
PING, REST, POST = (CARDS.index(c) for c in ("ping", "rest", "post"))


def drawn(market: Market, n: int, seed: int = 1) -> Batch:
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    return b


def law_hs(market: Market, b: Batch, card: int) -> NDArray[np.float64]:
    """Law (3) at 10 s in half spreads of the day, (E, V): - = adverse."""
    ep, v = b.episode[:, None], b.venue
    slow = v["kappa_slow"] * ep["sigma_slow_bps"] * -np.expm1(-10 / ep["tau_slow_s"])
    if card == POST:
        return np.asarray(-(v["gamma_run_bps"] + v["gamma_fast_bps"] + slow) / ep["half_spread_bps"])
    fast = v["kappa_fast"] * ep["sigma_fast_bps"] * -np.expm1(-10 / ep["tau_fast_s"])
    return np.asarray(-(fast + slow) / ep["half_spread_bps"])


@pytest.fixture(scope="module")
def quarter_hours(market_with: MarketWith) -> Market:
    return market_with({"orders": {"horizon_minutes": {15.0: 1.0}}})


def test_only_rows_that_a_venue_can_have_are_filled(quarter_hours: Market) -> None:
    b, lit = drawn(quarter_hours, 200), quarter_hours.rules.n_lit
    assert not b.card[:, :lit, [PING, REST]]["attempts"].any()
    assert not b.card[:, lit:, POST]["attempts"].any()
    for rows in (b.card[:, :lit, POST], b.card[:, lit:, PING], b.card[:, lit:, REST]):
        assert (rows["filled"] <= rows["attempts"]).all() and (rows["markouts"] == rows["filled"]).all()


def test_history_is_empty_as_often_as_stated(quarter_hours: Market) -> None:
    """Probability 0.15, per venue and row. 4 standard errors; false alarm 6 in 100,000."""
    b = drawn(quarter_hours, 1_500)
    empty = b.card[:, quarter_hours.rules.n_lit :, PING]["attempts"] == 0
    assert abs(empty.mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / empty.size)


@pytest.mark.parametrize("card", [PING, REST, POST], ids=CARDS)
def test_history_markout_is_the_law_plus_noise_of_its_sample(quarter_hours: Market, card: int) -> None:
    """Error / (sigma sqrt(10 s / fills)) is standard normal: mean and variance at 4 SE. False alarm: 1 in 10,000."""
    b, lit = drawn(quarter_hours, 1_500), quarter_hours.rules.n_lit
    venues = slice(0, lit) if card == POST else slice(lit, None)
    rows, law = b.card[:, venues, card], law_hs(quarter_hours, b, card)[:, venues]
    noise = b.episode["vol_bps"] / b.episode["half_spread_bps"] * np.sqrt(10.0)
    known = rows["markouts"] > 0
    error = rows["markout_hs_sum"] / np.maximum(rows["markouts"], 1) - law
    z = (error * np.sqrt(rows["markouts"]) / noise[:, None])[known]
    assert z.size > 3_000
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1.0) < 4 * np.sqrt(2 / z.size)


def test_without_randomisation_the_history_is_the_law(market_with: MarketWith, plain: dict[str, Any]) -> None:
    market = market_with(plain)
    b = drawn(market, 1)
    for card in (PING, REST, POST):
        venues = [v for v in range(len(market.venues)) if (v < market.rules.n_lit) == (card == POST)]
        rows, law = b.card[0, venues, card], law_hs(market, b, card)[0, venues]
        assert rows["markout_hs_sum"] / rows["markouts"] == pytest.approx(law, rel=1e-12)


def test_own_child_orders_move_the_card(market_with: MarketWith, run_router: Any, fixed_router: Any) -> None:
    """Attempts count children, `filled` those with a fill; takes are on no card."""
    market = market_with({"orders": {"horizon_minutes": {15.0: 1.0}}})
    n, names = 40, ("XQLA:post", "XQDA:ping", "XQDB:rest")
    before, sent, hits = drawn(market, n).card.copy(), np.zeros((n, 3)), np.zeros((n, 3))
    at = [[r.name for r in market.routes].index(name) for name in names]
    last = np.full(n, -1)

    def record(b: Batch) -> None:
        new = b.order["slot"] > last
        sent[new] += b.child_shares[new][:, at] > 0
        hits[new] += b.fill_shares[new][:, at].sum(2) > 0
        last[:] = b.order["slot"]

    b = run_router(market, fixed_router({name: 1 / 3 for name in names}, 300.0), n, each_slot=record)
    assert sent.sum(0).min() > 100 and hits.sum(0).min() > 10
    for k, (name, card) in enumerate(zip(names, (POST, PING, REST), strict=True)):
        v = market.venues.index(name.split(":")[0])
        assert (b.card[:, v, card]["attempts"] - before[:, v, card]["attempts"] == sent[:, k]).all()
        assert (b.card[:, v, card]["filled"] - before[:, v, card]["filled"] == hits[:, k]).all()
    untouched = market.venues.index("XQDC")
    assert b.card[:, untouched].tobytes() == before[:, untouched].tobytes()


@pytest.mark.parametrize(("route", "card"), [("XQDA:ping", PING), ("XQDB:rest", REST), ("XQLA:post", POST)])
def test_a_markout_enters_after_its_horizon_with_the_mid_of_that_time(
    market_with: MarketWith, run_router: Any, fixed_router: Any, route: str, card: int
) -> None:
    """Recomputed from recorded fills: known one slot (10 s) after a node fill, two after a fill inside a slot."""
    market = market_with({"orders": {"horizon_minutes": {15.0: 1.0}}})
    n, at = 40, [r.name for r in market.routes].index(route)
    v = market.venues.index(route.split(":")[0])
    before = drawn(market, n).card[:, v, card].copy()
    expected, late = np.zeros((n, 95)), np.zeros((n, 95), np.int64)  # by the slot in which they become known
    count = 0

    def record(b: Batch) -> None:
        nonlocal count
        for e in np.flatnonzero(b.order["slot"] > seen):
            slot, fills, mids = int(b.order[e]["slot"]) - 1, b.fill_shares[e, at], b.fill_mid_bps[e, at]
            if fills.sum():
                due = slot + (2 if fills[IN_SLOT] else 1)
                print_mid = (fills * mids).sum() / fills.sum()
                move = b.episode[e]["side"] * (b.tape[e, due]["mid_bps"] - print_mid)
                expected[e, due] += move / b.episode[e]["half_spread_bps"]
                late[e, due] += 1
                count += 1
            if b.order[e]["active"]:
                now = slot + 1
                row = b.card[e, v, card]
                assert row["markouts"] - before[e]["markouts"] == late[e, : now + 1].sum()
                total = row["markout_hs_sum"] - before[e]["markout_hs_sum"]
                assert total == pytest.approx(expected[e, : now + 1].sum(), abs=1e-6)
        seen[:] = b.order["slot"]

    seen = np.zeros(n, np.int64)
    run_router(market, fixed_router({route: 1.0}, 200.0), n, each_slot=record)
    assert count > 50
    assert NODE == 0 and IN_SLOT == 1


def test_routers_see_shrunk_numbers(base_market: Market) -> None:
    """No sample: the prior rate of the order type and a markout of 0. A large sample: itself."""
    b, obs = base_market.batch(1)
    base_market.reset(stream_key(1, "test"), [0], [0], b, obs)
    at = {r.name: 13 + 6 * i for i, r in enumerate(base_market.routes)}
    pool, lit = base_market.venues.index("XQDA"), base_market.venues.index("XQLA")
    for v in (pool, lit):
        for field in ("attempts", "filled", "markouts", "markout_hs_sum"):
            b.card[0, v][field] = 0
    restart_row(base_market.rules, b, 0, obs)
    for name, card in (("XQDA:ping", PING), ("XQDA:rest", REST), ("XQLA:post", POST)):
        assert obs[0, at[name] : at[name] + 2] == pytest.approx([np.log10(FILL_PRIOR[card]), 0.0])
    row = b.card[0, pool, PING]
    row["attempts"], row["filled"], row["markouts"], row["markout_hs_sum"] = 10**6, 10**5, 10**5, -0.7 * 10**5
    restart_row(base_market.rules, b, 0, obs)
    rate, markout = obs[0, at["XQDA:ping"]], obs[0, at["XQDA:ping"] + 1]
    assert rate == pytest.approx(np.log10((10**5 + FILL_PRIOR_WEIGHT * 0.03) / (10**6 + FILL_PRIOR_WEIGHT)))
    assert markout == pytest.approx(-0.7 * 10**5 / (10**5 + MARKOUT_PRIOR_WEIGHT))
    assert rate == pytest.approx(-1.0, abs=1e-3) and markout == pytest.approx(-0.7, abs=1e-3)


@pytest.mark.parametrize("noisy", [False, True], ids=["usual volume", "noisy volume"])
@pytest.mark.parametrize(("card", "order_type"), [(PING, "ping"), (REST, "rest"), (POST, "post")])
def test_history_fill_rates_are_those_a_router_then_meets(
    market_with: MarketWith, plain: dict[str, Any], run_router: Any, fixed_router: Any, card: int, order_type: str,
    noisy: bool,
) -> None:  # fmt: skip
    """Children of the size that the card assumes, in every slot: rates agree within 12 %, those of the block pool
    within 20 %.

    A bound for a stationary approximation, not a test of chance: standard errors are below 4 % of the rate. Spread and
    volatility stay usual, since the card knows only the order's expected volume.
    """
    quiet = {"supply_log_sd": 0.0, "slot_volume_log_sd": 0.0, "day_volume_log_sd": 0.0, "volume_concentration": 1e6}
    still = {"toxicity_vol_exponent": 0.0, "supply_spread_exponent": 0.0, "supply_vol_exponent": 0.0}
    market = market_with(
        plain,
        {"noise": still | ({} if noisy else quiet), "controls": {"toxicity_limit_hs": -99.0},
         "orders": {"participation_frac": [0.05, 0.05], "start_s": 10_800.0}},
    )  # fmt: skip
    for venue in market.venues:
        if f"{venue}:{order_type}" not in [r.name for r in market.routes]:
            continue
        at = [r.name for r in market.routes].index(f"{venue}:{order_type}")
        tries, hits = 0, 0

        def record(b: Batch, at: int = at) -> None:
            nonlocal tries, hits
            going = b.child_shares[:, at] > 0
            tries += int(going.sum())
            hits += int((b.fill_shares[going, at].sum(1) > 0).sum())

        child = 100.0 * round(0.5 * 0.05 * _slot_volume(market) / 100)
        b = run_router(market, fixed_router({f"{venue}:{order_type}": 1.0}, child), 1_500, each_slot=record)
        row = drawn(market, 1).card[0, market.venues.index(venue), card]
        rate = row["filled"] / row["attempts"]
        assert hits > 600
        within = (
            0.2 if venue == "block" else 0.12
        )  # one order of its sizes can fill children for the rest of the parent
        assert hits / tries == pytest.approx(rate, rel=within), (venue, hits / tries, rate)
        assert (b.order["active"] == 0).all()


def _slot_volume(market: Market) -> float:
    b = drawn(market, 1)
    return float(b.episode[0]["expected_volume"] / b.episode[0]["n_slots"])
