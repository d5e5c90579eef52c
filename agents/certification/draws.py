"""Whether episodes are drawn as the config says: orders, classes, and the venue quality that a router must infer.

The laws are computed from the config, not from the compiled parameters. Each is judged by itself: that draws are
independent of each other is not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...configs.chance import RandomisationConfig
from ...configs.market import MarketConfig
from ...configs.pool_knowledge import resolved_kappas, resolved_supply_frac
from ...configs.session import SESSION_S
from ...configs.venue import DarkPoolConfig, LitVenueConfig
from ...envs.market import Market, stream_key
from ...envs.state import CARDS, Batch
from ...envs.venues import BETA_STEPS
from .check import Check, Floats
from .draw_laws import DrawLaws

Records = NDArray[np.void]


def draws(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Two lines: orders with their classes, and venues with their scorecards, as `n` episodes draw them."""
    market = Market(config)
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    return [_orders(config, b, seed), _venues(config, market, b)]


def _orders(config: MarketConfig, b: Batch, seed: int) -> Check:
    laws, ep, orders, drawn = DrawLaws(), b.episode, config.orders, config.randomisation
    within = np.random.default_rng(seed).random(len(ep))  # where in its whole share or slot a draw fell
    laws.counts("class", ep["stock"].astype(np.int64), [s.probability for s in config.stocks])
    for name in ("adv_shares", "depth_shares", "price_usd", "tau_fast_s", "tau_slow_s"):
        laws.equal(
            name, ep[name].astype(float), np.array([getattr(s, name) for s in config.stocks], float)[ep["stock"]]
        )
    by_slots: dict[int, float] = {}
    for minutes, probability in orders.horizon_minutes.items():
        slots = round(minutes * 60 / config.interval_s)
        by_slots[slots] = by_slots.get(slots, 0.0) + probability
    known = np.array(sorted(by_slots))
    laws.holds("horizon", np.isin(ep["n_slots"], known))
    if np.isin(ep["n_slots"], known).all():
        laws.counts("horizon", np.searchsorted(known, ep["n_slots"]), [by_slots[k] for k in known])
    if orders.side == "both":
        laws.counts("side", (ep["side"] > 0).astype(np.int64), [0.5, 0.5])
    else:
        laws.equal("side", ep["side"], 1.0 if orders.side == "buy" else -1.0)
    latest = round(SESSION_S / config.interval_s) - ep["n_slots"]
    if orders.start_s is not None:
        laws.equal("start", ep["start_s"], orders.start_s)
    else:
        laws.uniform("start", ((ep["start_s"] / config.interval_s + within) / (latest + 1))[latest > 0])
        laws.equal("start of the day's longest", ep["start_s"][latest == 0], 0.0)
    if orders.shares is not None:
        laws.equal("size", ep["shares"].astype(float), orders.shares)
    else:
        _sizes(laws, config, ep, within)
    for name, field, sd, usual in (
        ("spread", "half_spread_bps", drawn.spread_log_sd if drawn else 0.0, [s.spread_bps / 2 for s in config.stocks]),
        ("volatility", "daily_vol_bps", drawn.vol_log_sd if drawn else 0.0, [s.daily_vol_bps for s in config.stocks]),
    ):
        stated = np.array(usual)[ep["stock"]]
        some = stated > 0.0
        laws.holds(f"{name} above 0", ep[field][some] > 0.0)
        laws.equal(f"{name} of 0", ep[field][~some], 0.0)
        laws.normal(name, np.log(np.maximum(ep[field][some], 1e-300) / stated[some]), sd)
    return laws.check(
        "orders as drawn", "class, side, start, horizon, size, spread and volatility follow the config's laws"
    )


def _sizes(laws: DrawLaws, config: MarketConfig, ep: Records, within: Floats) -> None:
    """Log-uniform participation times expected volume, cut to whole shares, a lot at least: a size of k shares stands
    for all of [k, k + 1), within which it is put at random."""
    (lo, hi), lot, shares = config.orders.participation_frac, config.lots_of_shares, ep["shares"]
    least, most = (
        np.maximum(lot, np.floor(f * ep["expected_volume"] * (1 + e))) for f, e in ((lo, -1e-12), (hi, 1e-12))
    )
    laws.holds("size within its range", (shares >= least) & (shares <= most))
    if hi > lo:

        def place(x: Floats) -> Floats:
            part = np.maximum(x, 1e-300) / ep["expected_volume"]
            return np.asarray(np.clip(np.log(part / lo) / math.log(hi / lo), 0.0, 1.0))

        below, above = np.where(shares <= lot, 0.0, place(shares)), place(shares + 1.0)
        laws.uniform("size", below + within * (above - below))


def _venues(config: MarketConfig, market: Market, b: Batch) -> Check:
    laws, ep, drawn = DrawLaws(), b.episode, config.randomisation
    lit = sorted(config.lit_venues, key=lambda v: v.name)
    pools = list(config.dark_pools) if config.dark_slots else sorted(config.dark_pools, key=lambda p: p.name)
    for v, venue in enumerate(lit):
        _lit(laws, config, venue, b.venue[:, v], ep)
    dark = b.venue[:, len(lit) :]
    for place, name in enumerate(market.venues[len(lit) :]):
        archetype = dark[:, place]["archetype"].astype(np.int64)
        laws.counts(f"{name}, archetype", archetype,
                    [1 / len(pools)] * len(pools) if config.dark_slots else np.eye(len(pools))[place])  # fmt: skip
    if dark.shape[1] > 1:
        dealt = np.sort(dark["archetype"], axis=1)
        laws.holds("a pool dealt once", np.asarray((np.diff(dealt, axis=1) > 0).all(1)))
    for a, pool in enumerate(pools):
        rows, places = np.nonzero(dark["archetype"] == a)
        _pool(laws, config, pool, dark[rows, places], ep[rows])
    if dark.shape[1]:
        regime = dark["has_regime"].astype(np.int64)
        laws.holds("one regime for all pools", (regime == regime[:, :1]).all(1))
        share = drawn.regime_prob if drawn is not None else 0.0
        laws.counts("hidden regime", regime[:, 0], [1 - share, share])
    for v, name in enumerate(market.venues):
        _outage(laws, config, name, b.venue[:, v], ep)
    if drawn is not None:
        _scorecards(laws, config, drawn, b, len(lit))
    return laws.check(
        "venues as drawn",
        "fill rates, toxicity, leakage, sizes, fees, outages and scorecards' errors follow the config's ranges",
    )


def _lit(laws: DrawLaws, config: MarketConfig, venue: LitVenueConfig, drawn: Records, ep: Records) -> None:
    """Flow, fees, and what a post earns at 10 s with its parts: half spread - Gamma_r - Gamma_f - the slow alpha's."""
    r, name = config.randomisation, venue.name
    stated = venue.flow_frac * venue.queue_place
    if stated > 0.0:
        laws.ranged(f"{name}, flow", drawn["supply_frac"] / stated, r.flow_factor if r else (1.0, 1.0), log=True)
    else:
        laws.equal(f"{name}, flow", drawn["supply_frac"], 0.0)
    laws.equal(f"{name}, slow toxicity", drawn["kappa_slow"], venue.kappa_slow)
    laws.equal(f"{name}, size exponent", drawn["size_beta"], venue.size_beta)
    usual = np.array([s.post_pnl_hs.get(name, venue.post_pnl_hs) for s in config.stocks])[ep["stock"]]
    slow = venue.kappa_slow * ep["sigma_slow_bps"] * -np.expm1(-10.0 / ep["tau_slow_s"])
    told = drawn["gamma_fast_bps"] > 0.0  # else what run and slow part lose may be more than what is stated
    loss = drawn["gamma_run_bps"] + drawn["gamma_fast_bps"] + slow
    if venue.run_share > 0.0:
        told, loss = np.ones(len(ep), bool), drawn["gamma_run_bps"] / venue.run_share
    fast = np.maximum(0.0, loss - venue.run_share * loss - slow)
    laws.equal(f"{name}, fast part of a post's loss", drawn["gamma_fast_bps"][told], fast[told])
    told &= ep["half_spread_bps"] > 0.0
    if told.all() or r is None:  # where some are not told, the others are no sample of all
        pnl = 1.0 - loss[told] / ep["half_spread_bps"][told]
        jitter = r.post_pnl_jitter_hs if r is not None else 0.0
        laws.ranged(f"{name}, post P&L", pnl - usual[told], (-jitter, jitter))
    _fee(laws, f"{name}, take fee", config, venue.take_fee_mils, drawn["take_fee_bps"], ep)
    _fee(laws, f"{name}, post fee", config, venue.post_fee_mils, drawn["post_fee_bps"], ep)


def _pool(laws: DrawLaws, config: MarketConfig, pool: DarkPoolConfig, drawn: Records, ep: Records) -> None:
    r, name = config.randomisation, pool.name
    supply = np.array([resolved_supply_frac(pool, s, config) for s in config.stocks])[ep["stock"]]
    if (supply > 0.0).all():
        bounds = r.supply_factor if r is not None else (1.0, 1.0)
        laws.ranged(f"{name}, supply", drawn["supply_frac"] / supply, bounds, log=True)
    else:
        laws.equal(f"{name}, supply", drawn["supply_frac"], 0.0)
    laws.equal(f"{name}, life", drawn["life_s"], pool.life_s)
    laws.equal(f"{name}, informed share", drawn["informed_frac"], pool.informed_frac or 0.0)
    _fee(laws, f"{name}, fee", config, pool.fee_mils, drawn["take_fee_bps"], ep)
    kappas = np.array([resolved_kappas(pool, s) for s in config.stocks])[ep["stock"]]
    lots = drawn["min_quantity_shares"] / config.lots_of_shares
    if r is None:
        laws.equal(f"{name}, toxicity", np.stack([drawn["kappa_fast"], drawn["kappa_slow"]], 1), kappas)
        laws.equal(f"{name}, leakage", drawn["leak_weight"], pool.leak_weight)
        laws.equal(f"{name}, size exponent", drawn["size_beta"], pool.size_beta)
        laws.equal(f"{name}, minimum quantity", lots, pool.min_quantity_lots)
        return
    for i, (kind, bounds) in enumerate((("fast", r.kappa_fast), ("slow", r.kappa_slow))):
        _toxicity(laws, f"{name}, {kind} toxicity", r, drawn[f"kappa_{kind}"], kappas[:, i], bounds)
    leaks = drawn["leak_weight"]
    laws.counts(f"{name}, leaks", (leaks != 0.0).astype(np.int64), [r.leak_zero_prob, 1 - r.leak_zero_prob])
    laws.ranged(f"{name}, leakage", leaks[leaks != 0.0], r.leak_weight, log=True)
    moved = drawn["size_beta"] - pool.size_beta
    if r.size_beta_jitter > 0.0:
        steps = (moved / r.size_beta_jitter + 1.0) / 2.0 * (BETA_STEPS - 1)
        laws.equal(f"{name}, steps of the size exponent", steps, np.rint(steps))
        laws.counts(f"{name}, size exponent", np.rint(steps).astype(np.int64), [1 / BETA_STEPS] * BETA_STEPS)
    else:
        laws.equal(f"{name}, size exponent", moved, 0.0)
    choices = sorted(set(r.min_quantity_lots))
    laws.holds(f"{name}, minimum quantity", np.isin(lots, choices))
    if np.isin(lots, choices).all():
        shares = [r.min_quantity_lots.count(k) / len(r.min_quantity_lots) for k in choices]
        laws.counts(f"{name}, minimum quantity", np.searchsorted(choices, lots), shares)


def _toxicity(
    laws: DrawLaws, name: str, r: RandomisationConfig, drawn: Floats, usual: Floats, bounds: tuple[float, float]
) -> None:
    """With `independent_toxicity_prob` from the range, else around the pool's own; either may be one value only."""
    q, jitter, (lo, hi) = r.independent_toxicity_prob, r.toxicity_jitter_frac, bounds
    for own in np.unique(usual):  # a pool described by its reversion has other values in other classes
        x, name_here = drawn[usual == own], name if len(np.unique(usual)) == 1 else f"{name} around {own:.3g}"
        low, high = own * (1 - jitter), own * (1 + jitter)
        if hi > lo and high > low:
            in_range, around = (x >= lo - 1e-9) & (x <= hi + 1e-9), (x >= low - 1e-9) & (x <= high + 1e-9)
            laws.holds(name_here, (in_range & (q > 0)) | (around & (q < 1)))
            mixed = q * np.clip((x - lo) / (hi - lo), 0.0, 1.0) + (1 - q) * np.clip((x - low) / (high - low), 0.0, 1.0)
            laws.uniform(name_here, mixed)
            continue
        from_range = np.abs(x - own) > 1e-12 if high <= low else np.abs(x - lo) <= 1e-12
        if hi > lo or high > low or own != lo:
            laws.counts(f"{name_here}, from the range", from_range.astype(np.int64), [1 - q, q])
        laws.ranged(name_here, x[from_range], bounds)
        laws.ranged(f"{name_here}, its own", x[~from_range], (low, high))


def _fee(laws: DrawLaws, name: str, config: MarketConfig, usual: float, drawn_bps: Floats, ep: Records) -> None:
    """Below the access fee cap a fee is uniform from its lowest to its highest or the cap."""
    mils = drawn_bps * ep["price_usd"]
    if config.randomisation is None:
        laws.equal(name, mils, usual)
        return
    cap = np.array([config.fee_cap_mils(s) for s in config.stocks])[ep["stock"]]
    laws.holds(f"{name} within the access fee cap", mils <= cap + 1e-9)
    below, jitter = mils < cap - 1e-9, config.randomisation.fee_jitter_mils
    low, high = usual - jitter, np.minimum(cap, usual + jitter)
    if jitter == 0.0:
        laws.equal(name, mils, np.minimum(cap, usual))
    else:
        laws.uniform(name, (mils[below] - low) / (high[below] - low))


def _outage(laws: DrawLaws, config: MarketConfig, name: str, drawn: Records, ep: Records) -> None:
    """Of a venue that may go down: how often, and for how many slots at least and at most."""
    events, slots = config.events, drawn["down_until"] - drawn["down_from"]
    share = events.outage_prob if not events.outage_venues or name in events.outage_venues else 0.0
    down = slots > 0
    laws.counts(f"{name}, outage", down.astype(np.int64), [1 - share, share])
    least, most = (max(1, round(60 * minutes / config.interval_s)) for minutes in events.outage_minutes)
    laws.holds(f"{name}, length of outages", (slots[down] >= least) & (slots[down] <= most))
    laws.holds(f"{name}, start of outages", drawn["down_from"][down] < ep["n_slots"][down])


def _scorecards(laws: DrawLaws, config: MarketConfig, r: RandomisationConfig, b: Batch, n_lit: int) -> None:
    """How often a history is empty, and the error of its markouts; fill rates and counts are not judged."""
    ep = b.episode
    for v in range(b.venue.shape[1]):
        ven = b.venue[:, v]
        for c, kind in enumerate(CARDS):
            if (kind == "post") != (v < n_lit):
                continue
            card, name = b.card[:, v, c], f"{'lit venues' if v < n_lit else 'pools'}, {kind}"
            empty = (card["attempts"] == 0).astype(np.int64)
            laws.counts(f"{name}, place {v}, history", empty, [1 - r.scorecard_empty_prob, r.scorecard_empty_prob])
            told = (card["markouts"] > 0) & (ven["informed_frac"] == 0.0) & (ep["half_spread_bps"] > 0.0)
            fast = ven["kappa_fast"] * ep["sigma_fast_bps"] * -np.expm1(-10.0 / ep["tau_fast_s"])
            slow = ven["kappa_slow"] * ep["sigma_slow_bps"] * -np.expm1(-10.0 / ep["tau_slow_s"])
            loss = slow + (ven["gamma_run_bps"] + ven["gamma_fast_bps"] if kind == "post" else fast)
            fills = np.maximum(card["markouts"], 1)
            off = (
                card["markout_hs_sum"] / fills
                - r.scorecard_markout_bias_hs
                + loss / np.maximum(ep["half_spread_bps"], 1e-9)
            )
            error = ep["vol_bps"] * np.sqrt(10.0 / fills) / np.maximum(ep["half_spread_bps"], 1e-9)
            told &= error > 0.0
            laws.normal(f"{name}, place {v}, markouts", off[told] / error[told], 1.0)
