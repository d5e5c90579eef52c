"""What each child order could have met in a pool: who came before it, how long it stood there, at what time of day.

Exposure is counted by the market's own equations (docs/market_model.md, sections 2 and 3), so that the share of
children that filled can be turned into contra supply.
"""

from __future__ import annotations

import datetime
import math
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from ..configs.market import N_CURVE_BINS, SESSION_S, DarkPoolConfig, MarketConfig, StockConfig
from ..configs.pool_knowledge import KAPPA_MAX
from .fills import UNKNOWN, Fills
from .venue_estimates import order_types

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
TAKE, POST, PING, REST = range(4)
_NEW_YORK = ZoneInfo("America/New_York")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Children(NamedTuple):
    """Child orders, one entry each, in order of routing."""

    child: IntArray  # code in the file
    kind: IntArray  # TAKE, POST, PING, REST
    venue: IntArray
    parent: IntArray
    routed: IntArray
    filled: IntArray  # shares
    sent_ns: IntArray
    life_s: FloatArray  # how long it may rest; 0 for a ping
    age_s: FloatArray  # since the parent's last visit to the venue; inf for the first
    after_full: IntArray  # shares of the last child there if it filled whole, else 0
    usable: BoolArray  # sent in the session, and for a rest it is known when


def children_of(fills: Fills) -> Children:
    """Children in order of routing, with their parent's visits to the venue before."""
    _, first, child, count = np.unique(fills.child, return_index=True, return_inverse=True, return_counts=True)
    n = len(count)
    kind = order_types(fills)[first]
    filled = np.bincount(child, fills.shares, n).astype(np.int64)
    last_ns = np.zeros(n, np.int64)
    np.maximum.at(last_ns, child, fills.ts_ns)
    recv = fills.recv_ts_ns[first]
    sent = np.where(recv == UNKNOWN, fills.ts_ns[first], recv)
    routed = np.where(fills.routed_shares[first] > 0, fills.routed_shares[first], filled)
    rests = (kind == REST) | (kind == POST)
    usable = in_session(sent) & ((kind != REST) | (recv != UNKNOWN))
    life = np.where(rests, (last_ns - sent) / 1e9, 0.0)
    for k in (POST, REST):  # a child that filled whole would have rested as long as those that did not
        left = (kind == k) & (filled < routed)
        if left.any():
            life[(kind == k) & (filled >= routed)] = np.median(life[left])
    order = np.argsort(sent, kind="stable")
    c = Children(
        fills.child[first][order], kind[order], fills.venue[first][order], fills.parent[first][order], routed[order],
        filled[order], sent[order], life[order], np.full(n, math.inf), np.zeros(n, np.int64), usable[order],
    )  # fmt: skip
    visit: dict[tuple[int, int], tuple[float, int]] = {}
    for i in np.flatnonzero(c.kind >= PING):
        place = (int(c.venue[i]), int(c.parent[i]))
        now = c.sent_ns[i] / 1e9
        if place in visit:
            c.age_s[i], c.after_full[i] = max(0.0, now - visit[place][0]), visit[place][1]
        whole = int(c.filled[i]) if c.filled[i] >= c.routed[i] else 0
        visit[place] = (now + c.life_s[i], whole)
    return c


def in_session(ns: IntArray) -> BoolArray:
    """Whether a time is between 09:30 and 16:00 New York."""
    at = _clock_s(ns)
    return np.asarray((at >= 0) & (at < SESSION_S))


def session_s(ns: IntArray) -> FloatArray:
    """Seconds after 09:30 New York, cut to the session."""
    return np.clip(_clock_s(ns), 0.0, SESSION_S - 1e-6)


def _clock_s(ns: IntArray) -> FloatArray:
    days = ns // 86_400_000_000_000
    out = np.zeros(len(ns))
    for day in np.unique(days):
        noon = datetime.datetime.fromtimestamp(int(day) * 86_400 + 43_200, datetime.UTC)
        shift = noon.astimezone(_NEW_YORK).utcoffset() or datetime.timedelta()
        on = days == day
        out[on] = ns[on] / 1e9 - int(day) * 86_400 + shift.total_seconds() - 34_200
    return out


def on_curve(values: tuple[float, ...], at_s: FloatArray) -> FloatArray:
    curve = np.asarray(values, float)
    return np.asarray(curve[(at_s / SESSION_S * len(curve)).astype(int)], float)


def _volume_per_s(stock: StockConfig, at_s: FloatArray) -> FloatArray:
    curve = np.asarray(stock.volume_curve, float)
    return stock.adv_shares * on_curve(tuple(curve / curve.sum()), at_s) * len(curve) / SESSION_S


def _tail(pool: DarkPoolConfig, stock: StockConfig, lots: IntArray) -> tuple[FloatArray, float]:
    """(Pr[S >= lots], mean of S) of contra sizes in lots."""
    most = max(1, round((pool.size_max_lots or 1) * stock.size_scale))
    k = np.arange(1.0, most + 1.0)
    weights = k**-pool.size_beta
    weights /= weights.sum()
    tail = np.concatenate([[1.0], 1.0 - np.cumsum(weights)])  # tail[j] = Pr[S > j]
    return np.where(lots - 1 > most, 0.0, tail[np.clip(lots - 1, 0, most)]), float((k * weights).sum())


class Exposure(NamedTuple):
    """What the children sent to one pool could meet, one entry each."""

    child: IntArray  # code in the file
    sent_ns: IntArray
    parent: IntArray
    filled: BoolArray
    standing: FloatArray  # mean arrivals that stand there when it comes, at a supply of the whole volume
    coming: FloatArray  # ... that come while it rests
    left: FloatArray  # chance that a contra order met before still stands there
    level: FloatArray  # mean of (sigma / usual sigma)^nu at the time of day, a factor on toxicity
    sd: float  # log-normal scatter of arrivals, tilts apart

    def kappas(self, usual: FloatArray) -> FloatArray:
        """(n, 2) toxicity that each child met, of the pool's `usual` one; the model caps it."""
        return np.minimum(usual[None, :] * self.level[:, None], KAPPA_MAX)


def exposure_of(
    c: Children, own: BoolArray, market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig
) -> Exposure:
    """Exposure of the children chosen by `own`, (n,) of all, to a pool of which life, sizes and minimum are known."""
    lot = market.lots_of_shares
    least = np.maximum(1, np.minimum(np.maximum(1, c.routed[own] // lot), pool.min_quantity_lots))
    match, mean_lots = _tail(pool, stock, least)
    age, life, at = c.age_s[own], c.life_s[own], session_s(c.sent_ns[own])
    standing = pool.life_s * -np.expm1(-age / pool.life_s)
    per_s = _volume_per_s(stock, at) / (mean_lots * lot) * match * _elasticity(market, stock, at)
    # what the contra of a child that filled whole left behind, if it is still there
    before = c.after_full[own] // lot
    over, reached = _tail(pool, stock, before + least)[0], _tail(pool, stock, np.maximum(1, before))[0]
    stays = np.exp(-np.where(before > 0, age, 0.0) / pool.life_s)
    left = np.where(before > 0, stays * np.divide(over, reached, out=np.zeros_like(over), where=reached > 0), 0.0)
    noise = market.noise
    slot_var = math.log1p(math.expm1(noise.slot_volume_log_sd**2) * 10 / market.interval_s)
    bin_var = float(polygamma(1, noise.volume_concentration / N_CURVE_BINS))  # of the logarithm of a gamma
    var = slot_var + bin_var + noise.day_volume_log_sd**2 + noise.supply_log_sd**2
    loading = (
        noise.supply_volume_load * noise.supply_log_sd * math.sqrt(slot_var)
    )  # supply moves with the slot's volume
    var += 2.0 * loading + (noise.supply_spread_exponent * noise.spread_log_sd) ** 2
    var += (noise.supply_vol_exponent * noise.vol_log_sd) ** 2
    per_s *= math.exp(loading)
    return Exposure(c.child[own], c.sent_ns[own], c.parent[own], c.filled[own] > 0, per_s * standing, per_s * life,
                     left, _level(market, stock, at), math.sqrt(var))  # fmt: skip


def _level(market: MarketConfig, stock: StockConfig, at_s: FloatArray) -> FloatArray:
    noise = market.noise
    curve = np.asarray(stock.vol_curve, float)
    curve = curve / math.sqrt((curve**2).mean())
    nu, sd = noise.toxicity_vol_exponent, noise.vol_log_sd
    return on_curve(tuple(curve), at_s) ** nu * math.exp(
        (0.5 * nu * nu - nu + nu * noise.supply_vol_exponent) * sd * sd
    )


def fill_chance(met: Exposure, supply: float, kappas: FloatArray) -> FloatArray:
    """By child: chance that a fresh contra order fills it. Both tilts act on what stands there, the slow one on what
    comes. `kappas`: usual toxicity, fast and slow."""
    fast, slow = met.kappas(kappas).T
    sd = np.hypot(met.sd, slow)
    empty = np.zeros(len(met.sent_ns))
    for z, w in zip(_NODES, _WEIGHTS, strict=True) if kappas[0] > 0 else ((0.0, 1.0),):
        arrivals = supply * (met.standing * np.exp(fast * z - 0.5 * fast**2) + met.coming)
        for y, v in zip(_NODES, _WEIGHTS, strict=True):
            empty += w * v * np.exp(-arrivals * np.exp(sd * y - 0.5 * sd * sd))
    return np.asarray(1.0 - empty)


def kept_tilt(arrivals: FloatArray, sd: FloatArray) -> FloatArray:
    """How much of an alpha's tilt is left in the fills of children that the first arrival completes.

    Such a child cannot fill more than once where arrivals are many, so its fills come less from tilted moments than
    arrivals do: of the tilt stays E[y g] / (S E g), g = 1 - exp(-L e^(S y - S^2/2)), y standard normal, S the scatter
    of arrivals with the tilts in it (market model, section 2: what the law is about).
    """
    chance, moment = np.zeros(len(arrivals)), np.zeros(len(arrivals))
    for y, w in zip(_NODES, _WEIGHTS, strict=True):
        g = -np.expm1(-arrivals * np.exp(sd * y - 0.5 * sd * sd))
        chance += w * g
        moment += w * y * g
    return np.divide(moment, sd * chance, out=np.ones_like(chance), where=chance * sd > 0)


def _elasticity(market: MarketConfig, stock: StockConfig, at_s: FloatArray) -> FloatArray:
    """Mean factor of spread and volatility on supply at the time of day (market model, equation 2)."""
    noise = market.noise
    out = np.ones(len(at_s))
    for curve, power, sd, centre in (
        (stock.spread_curve, noise.supply_spread_exponent, noise.spread_log_sd, 0.5),
        (stock.vol_curve, noise.supply_vol_exponent, noise.vol_log_sd, 1.0),
    ):
        level = np.asarray(curve, float)
        level = level / (level.mean() if centre == 0.5 else math.sqrt((level**2).mean()))
        out *= on_curve(tuple(level), at_s) ** power * math.exp(0.5 * (power * sd) ** 2 - centre * power * sd * sd)
    return out


__all__ = [
    "PING", "POST", "REST", "TAKE", "Children", "Exposure", "children_of", "exposure_of", "fill_chance", "kept_tilt",
    "on_curve", "session_s",
]  # fmt: skip
