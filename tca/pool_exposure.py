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

from ..configs.market import MarketConfig
from ..configs.session import SESSION_S
from ..configs.stock import StockConfig
from ..configs.supply_law import KAPPA_MAX, chance_to_fill, log_scatter, size_tail, supply_at
from ..configs.venue import DarkPoolConfig
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
    venue = fills.venue[first]
    for k in (POST, REST):  # a child that filled whole would have rested as long as those there, or any, that did not
        left, whole = (kind == k) & (filled < routed), (kind == k) & (filled >= routed)
        for v in np.unique(venue[whole]):
            alike = left & (venue == v) if (left & (venue == v)).any() else left
            if alike.any():
                life[whole & (venue == v)] = np.median(life[alike])
    order = np.argsort(sent, kind="stable")
    c = Children(
        fills.child[first][order], kind[order], venue[order], fills.parent[first][order], routed[order],
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


class Exposure(NamedTuple):
    """What the children sent to one pool could meet, one entry each."""

    child: IntArray  # code in the file
    sent_ns: IntArray
    parent: IntArray
    filled: BoolArray
    standing: FloatArray  # mean arrivals that stand there when it comes, at a supply of the whole volume
    coming: FloatArray  # ... that come while it rests
    resting_s: FloatArray  # 0 for a ping
    left: FloatArray  # chance that a contra order met before still stands there
    level: FloatArray  # mean of (sigma / usual sigma)^nu at the time of day, a factor on toxicity
    sd: FloatArray  # log-normal scatter of arrivals, tilts apart

    def kappas(self, usual: FloatArray) -> FloatArray:
        """(n, 2) toxicity that each child met, of the pool's `usual` one; the model caps it."""
        return np.minimum(usual[None, :] * self.level[:, None], KAPPA_MAX)


def exposure_of(
    c: Children, own: BoolArray, market: MarketConfig, stock: StockConfig, pool: DarkPoolConfig
) -> Exposure:
    """Exposure of the children chosen by `own`, (n,) of all, to a pool of which life, sizes and minimum are known."""
    lot = market.lots_of_shares
    least = np.maximum(1, np.minimum(np.maximum(1, c.routed[own] // lot), pool.min_quantity_lots))
    age, life = c.age_s[own], c.life_s[own]
    standing = pool.life_s * -np.expm1(-age / pool.life_s)
    supply = supply_at(market, stock, pool, session_s(c.sent_ns[own]), least)
    # what the contra of a child that filled whole left behind, if it is still there
    before = c.after_full[own] // lot
    over, reached = (size_tail(pool, stock, lots)[0] for lots in (before + least, np.maximum(1, before)))
    stays = np.exp(-np.where(before > 0, age, 0.0) / pool.life_s)
    left = np.where(before > 0, stays * np.divide(over, reached, out=np.zeros_like(over), where=reached > 0), 0.0)
    return Exposure(
        c.child[own], c.sent_ns[own], c.parent[own], c.filled[own] > 0, supply.per_s * standing, supply.per_s * life,
        life, left, supply.toxicity_level, log_scatter(market, life),
    )  # fmt: skip


def fill_chance(
    met: Exposure, supply: float, kappas: FloatArray, market: MarketConfig, stock: StockConfig
) -> FloatArray:
    """By child: chance that a fresh contra order fills it. `kappas`: usual toxicity, fast and slow."""
    fast, slow = met.kappas(kappas).T
    return chance_to_fill(market, stock, supply * met.standing, supply * met.coming, met.resting_s, (fast, slow))


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


__all__ = [
    "PING", "POST", "REST", "TAKE", "Children", "Exposure", "children_of", "exposure_of", "fill_chance", "kept_tilt",
    "session_s",
]  # fmt: skip
