"""How many contra orders a pool brings at a time of day (docs/market_model.md, equation 2), and how often one comes.

What varies around the time of day is taken as log-normal: its mean is in the rate, its scatter stands beside it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from .session import N_CURVE_BINS, SESSION_S, VOLUME_BIN_S, curves

if TYPE_CHECKING:
    from .market import MarketConfig
    from .stock import StockConfig
    from .venue import DarkPoolConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
KAPPA_MAX = 2.5  # a toxicity beyond would have its fills come from a few extreme moments
_LAGS, _LAG_WEIGHTS = np.polynomial.legendre.leggauss(16)
_LAGS, _LAG_WEIGHTS = 0.5 * (_LAGS + 1.0), 0.5 * _LAG_WEIGHTS  # on (0, 1)
_SLOT_S = 10.0  # the slot that `noise.slot_volume_log_sd` is stated for


class Supply(NamedTuple):
    """Supply at some times of day, one entry each."""

    per_s: FloatArray  # mean fresh contra orders a second that reach the minimum, were supply all of the volume
    toxicity_level: FloatArray  # mean of (sigma / usual sigma)^nu, a factor on every kappa


def supply_at(
    market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig, at_s: FloatArray, least_lots: IntArray
) -> Supply:
    """At `at_s` seconds after the open, for children that fill `least_lots` or not at all."""
    noise, (volume, spread, vol) = market.noise, curves(stock)
    place = (at_s / SESSION_S * N_CURVE_BINS).astype(int)
    match, mean_lots = size_tail(pool, stock, least_lots)
    per_s = stock.adv_shares * volume[place] * N_CURVE_BINS / SESSION_S / (mean_lots * market.lots_of_shares) * match
    # a bin's volume is given
    per_s *= math.exp(
        noise.supply_volume_load * noise.supply_log_sd * _slot_sd(market) * (1.0 - 1.0 / _slots_of_bin(market))
    )
    for level, power, sd, centre in (
        (spread, noise.supply_spread_exponent, noise.spread_log_sd, 0.5),  # mean 1
        (vol, noise.supply_vol_exponent, noise.vol_log_sd, 1.0),  # root mean square 1
    ):
        per_s *= level[place] ** power * math.exp(0.5 * (power * sd) ** 2 - centre * power * sd * sd)
    nu, sd = noise.toxicity_vol_exponent, noise.vol_log_sd
    of_noise = math.exp((0.5 * nu * nu - nu + nu * noise.supply_vol_exponent) * sd * sd)
    return Supply(per_s, vol[place] ** nu * of_noise)


def log_scatter(market: MarketConfig, over_s: FloatArray) -> FloatArray:
    """Log-normal scatter of what comes over `over_s` seconds each, tilts apart: the longer, the less is left of the
    noise of slots."""
    noise = market.noise
    lasting = noise.day_volume_log_sd**2 + float(polygamma(1, noise.volume_concentration / N_CURVE_BINS))  # a log gamma
    lasting += (noise.supply_spread_exponent * noise.spread_log_sd) ** 2
    lasting += (noise.supply_vol_exponent * noise.vol_log_sd) ** 2
    slots, of = np.unique(np.maximum(1, np.round(over_s / market.interval_s)).astype(int), return_inverse=True)
    return np.sqrt([lasting + _slot_noise_var(market, int(n)) for n in slots])[of]


def _slot_sd(market: MarketConfig) -> float:
    return math.sqrt(math.log1p(math.expm1(market.noise.slot_volume_log_sd**2) * _SLOT_S / market.interval_s))


def _slots_of_bin(market: MarketConfig) -> float:
    return max(1.0, VOLUME_BIN_S / market.interval_s)


def _slot_noise_var(market: MarketConfig, n: int) -> float:
    """Of the logarithm of supply over `n` slots: volume's own noise, fresh in every slot but for the sum over its
    five-minute bin, which is given, and the slow part of the pools' common factor."""
    noise, of_bin = market.noise, _slots_of_bin(market)
    loaded = noise.supply_volume_load * noise.supply_log_sd  # supply moves with the slot's volume
    fresh = math.expm1((_slot_sd(market) + loaded) ** 2)
    fresh = fresh / n - (fresh - math.expm1(loaded**2)) / max(n, of_bin)
    lags = np.arange(1, n)
    correlation = noise.supply_persistence_300s ** (lags * market.interval_s / VOLUME_BIN_S)
    kept = (n + 2.0 * float(((n - lags) * correlation).sum())) / n**2
    return math.log1p(fresh) + (noise.supply_log_sd**2 - loaded**2) * kept


def size_tail(pool: DarkPoolConfig, stock: StockConfig, lots: IntArray) -> tuple[FloatArray, float]:
    """(Pr[S >= lots], mean of S) of contra sizes in lots, over both contra types where there are two."""
    p = pool.informed_frac or 0.0
    rest, mean_of_rest = _tail_of_type(pool, stock, pool.size_beta, lots)
    informed, mean_of_informed = _tail_of_type(pool, stock, pool.informed_size_beta, lots)
    return (1.0 - p) * rest + p * informed, (1.0 - p) * mean_of_rest + p * mean_of_informed


def _tail_of_type(pool: DarkPoolConfig, stock: StockConfig, beta: float, lots: IntArray) -> tuple[FloatArray, float]:
    most = max(1, round((pool.size_max_lots or 1) * stock.size_scale))
    k = np.arange(1.0, most + 1.0)
    prob = k**-beta / (k**-beta).sum()
    tail = np.concatenate([[1.0], 1.0 - np.cumsum(prob)])  # tail[j] = Pr[S > j]
    return np.where(lots - 1 > most, 0.0, tail[np.clip(lots - 1, 0, most)]), float((k * prob).sum())


def chance_to_fill(
    market: MarketConfig, stock: StockConfig, standing: FloatArray, coming: FloatArray, resting_s: FloatArray,
    kappas: tuple[FloatArray, FloatArray], tilted: float = 1.0,
) -> FloatArray:  # fmt: skip
    """(n,) chance that any contra order fills a child, one entry each.

    Args:
        standing: mean contra orders that stand there when it comes.
        coming: mean contra orders that come while it rests.
        resting_s: how long it rests; 0 for a ping.
        kappas: toxicity that it meets, fast and slow, capped.
        tilted: share of the contra orders that the alphas tilt.
    """
    fast, slow = kappas
    # While it rests the slow alpha moves on, and the fast one averages out but where slots are too short to hold it:
    # relative variance of the mean tilt over lags, (n,) from (n, lags).
    lags_s = resting_s[:, None] * _LAGS
    log_tilt = slow[:, None] ** 2 * np.exp(-lags_s / stock.tau_slow_s)
    if market.interval_s < 5 * stock.tau_fast_s:
        log_tilt += np.where(resting_s > 0, fast, 0.0)[:, None] ** 2 * np.exp(-lags_s / stock.tau_fast_s)
    var = np.log1p(tilted**2 * (np.expm1(log_tilt) @ (2.0 * (1.0 - _LAGS) * _LAG_WEIGHTS)))
    sd = np.sqrt(log_scatter(market, resting_s) ** 2 + var)
    empty = np.zeros(len(standing))
    for z, w in zip(_NODES, _WEIGHTS, strict=True) if fast.any() else ((0.0, 1.0),):
        arrivals = standing * (1.0 - tilted + tilted * np.exp(fast * z - 0.5 * fast**2)) + coming
        for y, v in zip(_NODES, _WEIGHTS, strict=True):
            empty += w * v * np.exp(-arrivals * np.exp(sd * y - 0.5 * sd * sd))
    return np.asarray(1.0 - empty)


def rest_fill_rate(
    market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig, supply_frac: float, kappas: tuple[float, float],
    resting_s: float,
) -> float:  # fmt: skip
    """Share of child orders, sent to a pool not visited lately and resting there `resting_s`, that fill at all.

    They come at times spread over the day, meet what stands there and what comes, and are of a round lot, so that no
    minimum quantity keeps a contra order out. `kappas`: fast and slow.
    """
    at_s = (np.arange(N_CURVE_BINS) + 0.5) * SESSION_S / N_CURVE_BINS
    met = supply_at(market, stock, pool, at_s, np.ones(N_CURVE_BINS, np.int64))
    tilted = pool.informed_frac or 1.0  # share of the orders that the alphas tilt, by the whole toxicity of the pool
    fast, slow = (np.minimum(kappa / tilted * met.toxicity_level, KAPPA_MAX) for kappa in kappas)
    per_s, resting = supply_frac * met.per_s, np.full(N_CURVE_BINS, float(resting_s))
    return float(
        chance_to_fill(market, stock, per_s * pool.life_s, per_s * resting_s, resting, (fast, slow), tilted).mean()
    )
