"""Kratz and Schoeneborn, Quantitative Finance 14(9), 2014, and Kratz, arXiv 1204.2498: lit and dark together.

Each slot the recursion of O1/O2 is solved again from the current position, for a market of the parameters that can be
read off the scorecards and public features:

    V_n(X) = min lam x^2 + p [gamma y + V_{n+1}(X - x - y)] + (1 - p) V_{n+1}(X - x),   b = (V'_{n+1})^-1(gamma)
    k = X - x,   k + W(k)+ / (2 lam) = X,   W(k) = p min(V'_{n+1}(k), gamma) + (1 - p) V'_{n+1}(k),   y = (k - b)+

- n_slots: slices of the current size that the schedule has still to do: in volume time it is even, so that without a
  pool x follows it. More than PERIODS are grouped into PERIODS equal ones.
- lam: eta sigma_d (x/V)^b / x at the even slice x and the slot's forecast volume V, plus half of a share's own mark.
- p: the model's pool fills the whole order or nothing; real ones fill parts. p is set so that p X, what it expects to
  fill in a slot, is the sum over the pools used of what a child order there fills: at first the scorecard's fill rate
  times the child order behind it, then more and more the mean over own child orders.
- gamma: pool fee - scorecard markout (shrunk) - half spread - take fee, the pools' mean by what they should fill.

The dark order is split by what the pools should fill, as rests, over the best max_routes - 1; the lit part is rounded
to whole lots without bias. The router remembers nothing but what the batch holds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...envs.compiled import compiled
from ...envs.counter_rng import derive, key_of, uniform
from ...envs.market import Market
from ...envs.scorecard import CARD_OF, shrunk_fill_rate, shrunk_markout_hs, typical_child_lots
from ...envs.state import Batch
from ...envs.venues import Rules
from ..rule_based import best_take
from .rounding import keep_largest
from .router import pool_routes

Floats = NDArray[np.float64]
PERIODS = 24  # of the recursion: it costs their square
_PRIOR_CHILDREN = 20.0  # own child orders that weigh as much as the opening guess of what one fills
_LEAST_LIT = 1.0 / 18.0  # of the dark order: below 5 % of a decision the controls cut a route away


@compiled
def lit_and_dark(lam: float, p: float, gamma: float, n_slots: int, x0: float) -> tuple[float, float]:
    """The optimal (lit x, dark y) in the first of `n_slots` slots with `x0` left; the last slot takes all.

    V' is increasing and piecewise linear: `at`, `value` are its knots and values there, `tail` its slope beyond.
    The recursion of `agents/oracles/fill_recursion.py` (60 digits there) with q = 0 and one lam.
    """
    if n_slots <= 1:
        return x0, 0.0
    at, value = np.zeros(3 * n_slots + 3), np.zeros(3 * n_slots + 3)
    n, tail = 1, 2.0 * lam
    threshold, kept, upto = 0.0, 0.0, np.zeros(at.shape[0])
    for _ in range(n_slots - 1):
        n = _knot(at, value, n, tail, gamma)
        threshold = math.inf
        if value[0] >= gamma:
            threshold = 0.0
        else:
            for i in range(1, n):
                if value[i] == gamma:
                    threshold = at[i]
        for i in range(n):
            value[i] = p * min(value[i], gamma) + (1.0 - p) * value[i]
        tail *= 1.0 - p if threshold < math.inf else 1.0
        n = _knot(at, value, n, tail, 0.0)
        for i in range(n):
            upto[i] = at[i] + max(value[i], 0.0) / (2.0 * lam)  # the position X at which k = at[i] is kept
        i = n - 1
        while i > 0 and upto[i] > x0:
            i -= 1
        lit_tail = tail if value[n - 1] >= 0.0 else 0.0
        if i == n - 1:
            kept = at[i] + (x0 - upto[i]) / (1.0 + lit_tail / (2.0 * lam))
        else:
            kept = at[i] + (at[i + 1] - at[i]) * (x0 - upto[i]) / max(upto[i + 1] - upto[i], 1e-300)
        for j in range(n):
            at[j] = upto[j]
        tail = tail / (1.0 + lit_tail / (2.0 * lam))
    kept = min(max(kept, 0.0), x0)
    return x0 - kept, max(kept - threshold, 0.0)


@compiled
def _knot(at: np.ndarray, value: np.ndarray, n: int, tail: float, level: float) -> int:
    """Insert the point where the function first reaches `level`, unless it is past it at 0 or never gets there."""
    if value[0] >= level:
        return n
    i = 1
    while i < n and value[i] < level:
        i += 1
    if i < n:
        where = at[i - 1] + (at[i] - at[i - 1]) * (level - value[i - 1]) / (value[i] - value[i - 1])
        if value[i] == level:
            return n
    elif tail > 0.0:
        where = at[n - 1] + (level - value[n - 1]) / tail
    else:
        return n
    for j in range(n, i, -1):
        at[j], value[j] = at[j - 1], value[j - 1]
    at[i], value[i] = where, level
    return n + 1


@compiled
def lit_slope_bps(rules: Rules, b: Batch, e: int, slice_shares: float) -> float:
    """lam, bps a share: what x lit shares a slot cost beyond spread and fee is lam x^2 at x = `slice_shares`."""
    settings, ep, row = rules.settings[0], b.episode[e], b.tape[e, b.order[e].slot]
    volume = max(row.forecast_shares, float(settings.lot_shares))
    instant = settings.eta * ep.daily_vol_bps * row.vol_curve * (slice_shares / volume) ** settings.exponent
    own = (settings.weight_1 + settings.weight_2) * ep.daily_vol_bps + ep.permanent_coef
    return instant / slice_shares + 0.5 * own / ep.adv_shares


@compiled
def _propose(
    rules: Rules, b: Batch, route: np.ndarray, own_key: np.uint64, work: np.ndarray, weights: np.ndarray
) -> None:
    settings = rules.settings[0]
    lot, expected, net = settings.lot_shares, np.zeros(route.shape[0]), np.zeros(route.shape[0])
    for e in range(b.order.shape[0]):
        order, ep = b.order[e], b.episode[e]
        if order.active == 0:
            continue
        weights[e, :] = 0.0
        work[e] = 0.0
        take_route = best_take(rules, b, e)
        if take_route < 0:
            continue
        weights[e, take_route] = 1.0
        row, left = b.tape[e, order.slot], float(order.remaining_shares)
        slots_left = ep.n_slots - order.slot
        n_slots = min(max(1.0, row.schedule_now / max(row.schedule_now - row.schedule_next, 1e-9)), 10.0 * slots_left)
        take_fee = b.venue[e, rules.route_venue[take_route]].take_fee_bps
        any_fill, gamma, total = 0.0, 0.0, 0.0
        for i in range(route.shape[0]):
            expected[i] = 0.0
            if b.masked[e, route[i]]:
                continue
            v, which = rules.route_venue[route[i]], CARD_OF[rules.route_type[route[i]]]
            card, own = b.card[e, v, which], b.total[e, route[i]]
            guess = float(typical_child_lots(rules, ep) * lot)
            guess *= shrunk_fill_rate(card, which) * _PRIOR_CHILDREN
            expected[i] = (guess + own.filled_shares) / (_PRIOR_CHILDREN + own.attempts)
            charge = b.venue[e, v].take_fee_bps - shrunk_markout_hs(card) * ep.half_spread_bps
            net[i] = charge - row.half_spread_bps - take_fee
        keep_largest(expected, settings.max_routes - 1)  # one route is the lit one's
        for i in range(route.shape[0]):
            gamma += expected[i] * net[i]
            total += expected[i]
        if total > 0.0:
            any_fill, gamma = min(1.0, total / left), gamma / total
        per_period = max(1.0, n_slots / PERIODS)
        periods = int(math.ceil(n_slots / per_period - 1e-9))
        lam = max(lit_slope_bps(rules, b, e, left / n_slots), 1e-12)
        p = 1.0 - (1.0 - any_fill) ** (per_period * slots_left / n_slots)
        lit, dark = lit_and_dark(lam / per_period, p, gamma, periods, left)
        u = uniform(derive(ep.key, 0) ^ own_key, order.slot, 0)
        lit = min(left, lot * math.floor(lit / (per_period * lot) + u))
        dark = min(dark, left - lit) if total > 0.0 else 0.0
        if lit > 0.0:
            dark = min(dark, lit / _LEAST_LIT)
        work[e] = lit
        for i in range(route.shape[0]):  # within the cap of a child order: the controls would move what is over to lit
            expected[i] *= dark / total if total > 0.0 else 0.0
            expected[i] = min(expected[i], float(rules.route_cap[route[i]]))
            work[e] += expected[i]
        if work[e] > 0.0:
            weights[e, take_route] = lit / work[e]
            for i in range(route.shape[0]):
                weights[e, route[i]] = expected[i] / work[e]


class KratzSchoeneborn:
    """Lit and dark by the recursion, solved anew every slot; the head of this file tells how."""

    name = "kratz_schoeneborn"

    def __init__(self) -> None:
        self._key = key_of("glasspool/kratz_schoeneborn")

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        _propose(market.rules, b, pool_routes(market), self._key, work, weights)
