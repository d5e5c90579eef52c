"""Whether episodes are drawn as the config says: orders, classes, and the venue quality that a router must infer.

Each range is held to its law by the probability integral transform: a draw put through the law's distribution function
is uniform (Rosenblatt, Annals of Mathematical Statistics 23(3), 1952), which the Kolmogorov-Smirnov test judges; counts
go to a chi-square test. The laws are computed from the config, not from the compiled parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, chisquare, kstest, norm

from ...configs.market import DarkPoolConfig, LitVenueConfig, MarketConfig, RandomisationConfig
from ...configs.pool_knowledge import resolved_kappas
from ...envs.market import Market, stream_key
from ...envs.state import Batch
from ...envs.venues import BETA_STEPS
from .check import FALSE_ALARM, Check, Floats

Records = NDArray[np.void]
_LEAST = 40  # draws for a verdict on a law
_EXPECTED = 5.0  # least count of a chi-square test's cells
_LEAST_LOTS = 10  # an order's size is cut to whole shares, and to a lot at least: too coarse for a law below


class _Laws:
    """Collects p-values by law; a draw outside its range has none and fails at once."""

    def __init__(self) -> None:
        self.p: dict[str, float] = {}
        self.outside: list[str] = []

    def uniform(self, name: str, places: Floats) -> None:
        """Places in [0, 1], which the draws' law makes uniform."""
        if len(places) and (places.min() < -1e-6 or places.max() > 1 + 1e-6):
            worst = places[np.argmax(np.abs(places - 0.5))]
            self.outside.append(f"{name} lies outside its range, at {worst:.3f} of it")
        elif len(places) >= _LEAST:
            self.p[name] = float(kstest(places, "uniform").pvalue)

    def counts(self, name: str, seen: NDArray[np.int64], probabilities: Sequence[float]) -> None:
        """Outcomes 0..K-1 of stated probabilities."""
        counted = np.bincount(seen, minlength=len(probabilities))
        expected = np.asarray(probabilities, float) * len(seen)
        if (bad := [i for i, e in enumerate(expected) if e == 0.0 and counted[i]]) or len(counted) > len(expected):
            self.outside.append(f"{name}: outcome {bad[0] if bad else len(counted) - 1} cannot be, and was drawn")
        judged = expected > 0.0
        if judged.sum() > 1 and expected[judged].min() >= _EXPECTED:
            self.p[name] = float(chisquare(counted[judged], expected[judged]).pvalue)

    def equal(self, name: str, drawn: Floats, stated: Floats) -> None:
        """What is not drawn at all."""
        if len(drawn) and not np.allclose(drawn, stated, rtol=1e-9, atol=1e-12):
            self.outside.append(f"{name} is not what the config states")

    def check(self, name: str, claim: str) -> Check:
        if self.outside:
            return Check(name, claim, "; ".join(self.outside[:3]), False)
        if not self.p:
            return Check(name, claim, "nothing is left to chance here, and all is as stated", True)
        worst = min(self.p, key=lambda k: self.p[k])
        said = f"least p {self.p[worst]:.4f} of {len(self.p)} laws ({worst})"
        return Check(name, claim, said, self.p[worst] >= FALSE_ALARM, len(self.p) * FALSE_ALARM)


def draws(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Two lines: orders with their classes, and venues, as `n` episodes draw them."""
    market = Market(config)
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    return [_orders(config, b), _venues(config, market, b)]


def _orders(config: MarketConfig, b: Batch) -> Check:
    laws, ep, orders, drawn = _Laws(), b.episode, config.orders, config.randomisation
    stocks = config.stocks
    laws.counts("class", ep["stock"].astype(np.int64), [s.probability for s in stocks])
    minutes = sorted(orders.horizon_minutes)
    slots = np.rint(np.array(minutes) * 60 / config.interval_s)
    laws.counts("horizon", np.searchsorted(slots, ep["n_slots"]), [orders.horizon_minutes[m] for m in minutes])
    if orders.side == "both":
        laws.counts("side", (ep["side"] > 0).astype(np.int64), [0.5, 0.5])
    if orders.shares is None:
        lo, hi = orders.participation_frac
        large = lo * ep["expected_volume"] >= _LEAST_LOTS * config.lots_of_shares
        if hi > lo:
            part = (ep["shares"][large] + 0.5) / ep["expected_volume"][large]
            laws.uniform("participation", np.clip(np.log(part / lo) / math.log(hi / lo), -0.1, 1.0))
    if drawn is not None:
        for name, field, sd, usual in (
            ("spread", "half_spread_bps", drawn.spread_log_sd, [s.spread_bps / 2 for s in stocks]),
            ("volatility", "daily_vol_bps", drawn.vol_log_sd, [s.daily_vol_bps for s in stocks]),
        ):
            ratio = np.log(ep[field] / np.array(usual)[ep["stock"]])
            if sd > 0.0:
                laws.uniform(name, norm.cdf(ratio / sd))
                squares = float(((ratio / sd) ** 2).sum())  # of the width that test says little
                laws.p[f"{name}, its range"] = 2 * min(chi2.cdf(squares, len(ratio)), chi2.sf(squares, len(ratio)))
            else:
                laws.equal(name, ratio, np.zeros_like(ratio))
    return laws.check("orders as drawn", "class, side, horizon, size, spread and volatility follow the config's laws")


def _venues(config: MarketConfig, market: Market, b: Batch) -> Check:
    laws = _Laws()
    lit = sorted(config.lit_venues, key=lambda v: v.name)
    pools = list(config.dark_pools) if config.dark_slots else sorted(config.dark_pools, key=lambda p: p.name)
    for v, venue in enumerate(lit):
        _lit(laws, config, venue, b.venue[:, v], b.episode)
    dark = b.venue[:, len(lit) :]
    for place, name in enumerate(market.venues[len(lit) :]):
        if config.dark_slots:
            laws.counts(f"{name}, archetype", dark[:, place]["archetype"], [1 / len(pools)] * len(pools))
    for a, pool in enumerate(pools):
        rows, places = np.nonzero(dark["archetype"] == a)
        _pool(laws, config, pool, dark[rows, places], b.episode[rows])
    if config.randomisation is not None and dark.shape[1]:
        share = config.randomisation.regime_prob
        laws.counts("hidden regime", dark[:, 0]["has_regime"].astype(np.int64), [1 - share, share])
    return laws.check("venues as drawn", "fill rates, toxicity, leakage, sizes and fees follow the config's ranges")


def _lit(laws: _Laws, config: MarketConfig, venue: LitVenueConfig, drawn: Records, ep: Records) -> None:
    flow, r = drawn["supply_frac"] / (venue.flow_frac * venue.queue_place), config.randomisation
    usual = np.array([s.post_pnl_hs.get(venue.name, venue.post_pnl_hs) for s in config.stocks])[ep["stock"]]
    if r is None:
        laws.equal(f"{venue.name}, flow", flow, np.ones_like(flow))
        return
    laws.uniform(f"{venue.name}, flow", _log_place(flow, r.flow_factor))
    if venue.run_share > 0.0:  # of what a post loses, the run is a stated share
        pnl = 1.0 - drawn["gamma_run_bps"] / venue.run_share / ep["half_spread_bps"]
        laws.uniform(f"{venue.name}, post P&L", _place(pnl - usual, (-r.post_pnl_jitter_hs, r.post_pnl_jitter_hs)))
    _fee(laws, f"{venue.name}, take fee", config, venue.take_fee_mils, drawn["take_fee_bps"], ep)


def _pool(laws: _Laws, config: MarketConfig, pool: DarkPoolConfig, drawn: Records, ep: Records) -> None:
    r, name = config.randomisation, pool.name
    kappas = np.array([resolved_kappas(pool, s) for s in config.stocks])[ep["stock"]]
    supply = drawn["supply_frac"] / pool.supply_frac if pool.supply_frac > 0.0 else np.ones(0)
    if r is None:
        laws.equal(f"{name}, supply", supply, np.ones_like(supply))
        laws.equal(f"{name}, toxicity", np.stack([drawn["kappa_fast"], drawn["kappa_slow"]], 1), kappas)
        laws.equal(f"{name}, leakage", drawn["leak_weight"], np.full(len(drawn), pool.leak_weight))
        return
    laws.uniform(f"{name}, supply", _log_place(supply, r.supply_factor))
    for i, (kind, bounds) in enumerate((("fast", r.kappa_fast), ("slow", r.kappa_slow))):
        laws.uniform(f"{name}, {kind} toxicity", _toxicity_place(r, drawn[f"kappa_{kind}"], kappas[:, i], bounds))
    leaks = drawn["leak_weight"]
    laws.counts(f"{name}, leaks", (leaks > 0.0).astype(np.int64), [r.leak_zero_prob, 1 - r.leak_zero_prob])
    laws.uniform(f"{name}, leakage", _log_place(leaks[leaks > 0.0], r.leak_weight))
    if r.size_beta_jitter > 0.0:
        steps = np.rint(_place(drawn["size_beta"] - pool.size_beta, (-r.size_beta_jitter, r.size_beta_jitter))
                        * (BETA_STEPS - 1))  # fmt: skip
        laws.counts(f"{name}, size exponent", steps.astype(np.int64), [1 / BETA_STEPS] * BETA_STEPS)
    lots = sorted(set(r.min_quantity_lots))
    share = [r.min_quantity_lots.count(k) / len(r.min_quantity_lots) for k in lots]
    seen = drawn["min_quantity_shares"] // config.lots_of_shares
    if not np.isin(seen, lots).all():
        laws.outside.append(f"{name}, minimum quantity is none of the config's")
    else:
        laws.counts(f"{name}, minimum quantity", np.searchsorted(lots, seen), share)
    _fee(laws, f"{name}, fee", config, pool.fee_mils, drawn["take_fee_bps"], ep)


def _toxicity_place(r: RandomisationConfig, drawn: Floats, usual: Floats, bounds: tuple[float, float]) -> Floats:
    """A mixture: drawn from the range with `independent_toxicity_prob`, else jittered around the pool's own. A pool
    without toxicity of its own has an atom at 0, which is left out."""
    q, jitter = r.independent_toxicity_prob, r.toxicity_jitter_frac
    if not (usual * jitter > 0.0).all():
        return _place(drawn[drawn != usual], bounds)
    low, high = np.minimum(bounds[0], usual * (1 - jitter)), np.maximum(bounds[1], usual * (1 + jitter))
    around = np.clip((drawn - usual * (1 - jitter)) / (2 * jitter * usual), 0.0, 1.0)
    place = q * np.clip(_place(drawn, bounds), 0.0, 1.0) + (1 - q) * around
    beyond = (drawn < low - 1e-9) | (drawn > high + 1e-9)
    return np.where(beyond, 1.5, place)


def _fee(laws: _Laws, name: str, config: MarketConfig, usual: float, drawn_bps: Floats, ep: Records) -> None:
    """Below the access fee cap a fee is uniform from its lowest to its highest or the cap."""
    r = config.randomisation
    if r is None or r.fee_jitter_mils == 0.0:
        return
    mils = drawn_bps * ep["price_usd"]
    cap = np.array([config.fee_cap_mils(s) for s in config.stocks])[ep["stock"]]
    if (mils > cap + 1e-9).any():
        laws.outside.append(f"{name} is above the access fee cap")
    below = mils < cap - 1e-9
    low, high = usual - r.fee_jitter_mils, np.minimum(cap, usual + r.fee_jitter_mils)
    laws.uniform(name, (mils[below] - low) / (high[below] - low))


def _place(drawn: Floats, bounds: tuple[float, float]) -> Floats:
    lo, hi = bounds
    if hi <= lo:
        return np.zeros(0)
    return np.asarray((drawn - lo) / (hi - lo))


def _log_place(drawn: Floats, bounds: tuple[float, float]) -> Floats:
    if len(drawn) == 0:
        return np.zeros(0)
    return _place(np.log(drawn), (math.log(bounds[0]), math.log(bounds[1])))
