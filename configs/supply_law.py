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
    from .market import DarkPoolConfig, MarketConfig, StockConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
KAPPA_MAX = 2.5  # a toxicity beyond would have its fills come from a few extreme moments
_LAGS, _LAG_WEIGHTS = np.polynomial.legendre.leggauss(16)
_LAGS, _LAG_WEIGHTS = 0.5 * (_LAGS + 1.0), 0.5 * _LAG_WEIGHTS  # on (0, 1)
_SLOT_S = 10.0  # the slot that `noise.slot_volume_log_sd` is stated for


class Supply(NamedTuple):
    """Supply at some times of day, one entry each."""

    per_s: FloatArray  # mean fresh contra orders a second that reach the minimum, were supply all of the volume
    toxicity_level: FloatArray  # mean of (sigma / usual sigma)^nu, a factor on every kappa
    log_sd: float  # scatter of the rate, tilts apart


def supply_at(
    market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig, at_s: FloatArray, least_lots: IntArray,
    over_s: float,
) -> Supply:  # fmt: skip
    """At `at_s` seconds after the open, for children that fill `least_lots` or not at all, over `over_s` seconds each.

    The longer a child stays, the less is left of the noise of slots.
    """
    noise, (volume, spread, vol) = market.noise, curves(stock)
    place = (at_s / SESSION_S * N_CURVE_BINS).astype(int)
    match, mean_lots = size_tail(pool, stock, least_lots)
    slot_sd = math.sqrt(math.log1p(math.expm1(noise.slot_volume_log_sd**2) * _SLOT_S / market.interval_s))
    loaded = noise.supply_volume_load * noise.supply_log_sd  # supply moves with the slot's volume
    var = noise.day_volume_log_sd**2 + float(polygamma(1, noise.volume_concentration / N_CURVE_BINS))  # of a log gamma
    var += _slot_noise_var(market, slot_sd, loaded, max(1, round(over_s / market.interval_s)))
    per_s = stock.adv_shares * volume[place] * N_CURVE_BINS / SESSION_S / (mean_lots * market.lots_of_shares) * match
    per_s *= math.exp(loaded * slot_sd * (1.0 - 1.0 / _slots_of_bin(market)))  # a bin's volume is given
    for level, power, sd, centre in (
        (spread, noise.supply_spread_exponent, noise.spread_log_sd, 0.5),  # mean 1
        (vol, noise.supply_vol_exponent, noise.vol_log_sd, 1.0),  # root mean square 1
    ):
        per_s *= level[place] ** power * math.exp(0.5 * (power * sd) ** 2 - centre * power * sd * sd)
        var += (power * sd) ** 2
    nu, sd = noise.toxicity_vol_exponent, noise.vol_log_sd
    of_noise = math.exp((0.5 * nu * nu - nu + nu * noise.supply_vol_exponent) * sd * sd)
    return Supply(per_s, vol[place] ** nu * of_noise, math.sqrt(var))


def _slots_of_bin(market: MarketConfig) -> float:
    return max(1.0, VOLUME_BIN_S / market.interval_s)


def _slot_noise_var(market: MarketConfig, slot_sd: float, loaded: float, n: int) -> float:
    """Of the logarithm of supply over `n` slots: volume's own noise, fresh in every slot but for the sum over its
    five-minute bin, which is given, and the slow part of the pools' common factor."""
    noise = market.noise
    of_bin = _slots_of_bin(market)
    fresh = math.expm1((slot_sd + loaded) ** 2)
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


def rest_fill_rate(
    market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig, supply_frac: float, kappas: tuple[float, float],
    resting_s: float,
) -> float:  # fmt: skip
    """Share of child orders, sent to a pool not visited lately and resting there `resting_s`, that fill at all.

    They come at times spread over the day, meet what stands there and what comes, and are of a round lot, so that no
    minimum quantity keeps a contra order out. `kappas`: fast and slow.
    """
    at_s = (np.arange(N_CURVE_BINS) + 0.5) * SESSION_S / N_CURVE_BINS
    least = np.ones(N_CURVE_BINS, np.int64)
    met = supply_at(market, stock, pool, at_s, least, resting_s)
    tilted = pool.informed_frac or 1.0  # share of the orders that the alphas tilt, by the whole toxicity of the pool
    fast, slow = (np.minimum(kappa / tilted * met.toxicity_level, KAPPA_MAX)[:, None] for kappa in kappas)
    # While it rests the slow alpha moves on, and the fast one averages out but where slots are too short to hold it:
    # relative variance of the mean tilt over lags, (bins,) from (bins, lags).
    log_tilt = slow**2 * np.exp(-_LAGS * resting_s / stock.tau_slow_s)
    if market.interval_s < 5 * stock.tau_fast_s:
        log_tilt = log_tilt + fast**2 * np.exp(-_LAGS * resting_s / stock.tau_fast_s)
    var = met.log_sd**2 + np.log1p(tilted**2 * (np.expm1(log_tilt) @ (2.0 * (1.0 - _LAGS) * _LAG_WEIGHTS)))
    sd = np.sqrt(var)[:, None, None]
    standing_s = pool.life_s * (1.0 - tilted + tilted * np.exp(fast * _NODES - 0.5 * fast**2))  # (bins, fast nodes)
    arrivals = (supply_frac * met.per_s[:, None] * (standing_s + resting_s))[:, :, None]
    chance = -np.expm1(-arrivals * np.exp(sd * _NODES - 0.5 * sd * sd)) @ _WEIGHTS @ _WEIGHTS
    return float(chance.mean())
