"""The venue scorecard: what every router knows of a venue, from a noisy history and its own fills.

Rows per venue: ping, rest, post. A child order with a fill counts as filled; a markout is the mid's move from the
print's midpoint over 10 s, in half spreads of the day, + = the price went our way. Everybody reads the same numbers.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled
from .counter_rng import binomial, derive, log_uniform, normal, uniform
from .state import CARD_OF_TYPE, Batch, Row
from .venues import Rules

_NODES, _WEIGHTS = (a for a in np.polynomial.hermite_e.hermegauss(15))
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
CARD_OF = np.array(CARD_OF_TYPE)
_HORIZON_S = 10.0
_EXACT_ATTEMPTS = 1_000_000
_STREAM_CARD = 77

# Shrinkage of a row by its count: prior rate and weight in attempts, and weight in fills of a markout of 0.
FILL_PRIOR = (0.03, 0.06, 0.25)
FILL_PRIOR_WEIGHT = 100.0
MARKOUT_PRIOR_WEIGHT = 60.0


@compiled
def _tilted_fill_prob(mean_arrivals: float, kappa: float) -> float:
    """E[1 - exp(-m e^(-kappa z - kappa^2/2))] over a standard normal z, by quadrature."""
    prob = 0.0
    for i in range(_NODES.shape[0]):
        prob += _WEIGHTS[i] * -math.expm1(-mean_arrivals * math.exp(-kappa * _NODES[i] - 0.5 * kappa * kappa))
    return prob


@compiled
def expected_fill_rate(rules: Rules, b: Batch, e: int, v: int, card: int) -> float:
    """Long-run share of 10 s child orders with a fill, at average volume, spread and volatility.

    A pool visited every slot holds fresh orders plus, after a fill, the leftover of the contra met last; the rate
    solves f = m + f rho (1 - m) with m the chance of a fresh order and rho that of a leftover.
    """
    ep, ven, dt = b.episode[e], b.venue[e, v], rules.interval_s
    if rules.one_shot:
        return 1.0 - ven.zero_prob
    rate = ven.supply_frac * ep.expected_volume / (ep.n_slots * dt) / ven.mean_size_shares
    if card == 2:
        return _tilted_fill_prob(rate * dt, ven.kappa_slow)
    both = math.sqrt(ven.kappa_fast**2 + ven.kappa_slow**2)
    child = max(1.0, 0.5 * ep.shares / ep.n_slots / rules.lot_shares)
    larger = 1.0 - b.sizes[e, v, min(ven.n_sizes - 1, int(child) - 1)]
    fresh = _tilted_fill_prob(rate * ven.life_s * -math.expm1(-dt / ven.life_s), both)
    if card == 1:
        fresh = 1.0 - (1.0 - fresh) * (1.0 - _tilted_fill_prob(rate * dt, ven.kappa_slow))
    stays = larger * math.exp(-(dt if card == 0 else 0.0) / ven.life_s)
    return fresh / (1.0 - stays * (1.0 - fresh))


@compiled
def expected_markout_bps(rules: Rules, b: Batch, e: int, v: int, card: int) -> float:
    """Law (3) at 10 s (market model): - = adverse. For a post the mid's move alone: -Gamma_10."""
    ep, ven = b.episode[e], b.venue[e, v]
    if rules.expected_accounting:
        return -ven.adverse_charge_bps
    slow = ven.kappa_slow * ep.sigma_slow_bps * -math.expm1(-_HORIZON_S / ep.tau_slow_s)
    if card == 2:
        return -(ven.gamma_run_bps + ven.gamma_fast_bps + slow)
    fast = ven.kappa_fast * ep.sigma_fast_bps * -math.expm1(-_HORIZON_S / ep.tau_fast_s)
    return -(fast + slow)


@compiled
def open_scorecards(rules: Rules, b: Batch, e: int) -> None:
    """History before the parent's day: binomial fills, normal markout error sigma^2 10 s / fills."""
    ep = b.episode[e]
    unit = max(ep.half_spread_bps, 1e-9)
    for v in range(rules.n_venues):
        key = derive(b.venue[e, v].key, _STREAM_CARD)
        for card in range(3):
            row = b.card[e, v, card]
            row.attempts, row.filled, row.markouts, row.markout_hs_sum = 0, 0, 0, 0.0
            if (card == 2) != (v < rules.n_lit):
                continue
            rate = expected_fill_rate(rules, b, e, v, card)
            mean_hs = expected_markout_bps(rules, b, e, v, card) / unit
            if not rules.randomise:
                row.attempts, row.filled = _EXACT_ATTEMPTS, int(round(rate * _EXACT_ATTEMPTS))
                row.markouts, row.markout_hs_sum = row.filled, mean_hs * row.filled
                continue
            if uniform(key, card, 0) < rules.card_empty_prob:
                continue
            fills = log_uniform(uniform(key, card, 1), rules.card_fills_range[0], rules.card_fills_range[1])
            row.attempts = max(1, int(min(fills / max(rate, 1e-6), 1e9)))
            row.filled = binomial(key, 100 + card, row.attempts, rate)
            row.markouts = row.filled
            if row.filled > 0:
                error_hs = ep.vol_bps * math.sqrt(_HORIZON_S / row.filled) / unit
                row.markout_hs_sum = row.filled * (mean_hs + error_hs * normal(key, card, 2))


@compiled
def shrunk_fill_rate(row: Row, card: int) -> float:
    return (row.filled + FILL_PRIOR_WEIGHT * FILL_PRIOR[card]) / (row.attempts + FILL_PRIOR_WEIGHT)


@compiled
def shrunk_markout_hs(row: Row) -> float:
    return row.markout_hs_sum / (row.markouts + MARKOUT_PRIOR_WEIGHT)


@compiled
def record_fills(rules: Rules, b: Batch, e: int, n: int) -> None:
    """Count this slot's child orders; their markouts wait in the ring until 10 s have passed."""
    ring = b.pending.shape[3]
    for r in range(rules.route_venue.shape[0]):
        sent = b.child_shares[e, r]
        card = CARD_OF[rules.route_type[r]]
        if sent == 0 or card < 0:
            continue
        v = rules.route_venue[r]
        row = b.card[e, v, card]
        row.attempts += 1
        node, inside = b.fill_shares[e, r, 0], b.fill_shares[e, r, 1]
        if node + inside == 0:
            continue
        row.filled += 1
        due = n + rules.markout_lag + (1 if inside > 0 else 0)
        wait = b.pending[e, v, card, due % ring]
        wait.count += 1
        wait.mid_bps_sum += (node * b.fill_mid_bps[e, r, 0] + inside * b.fill_mid_bps[e, r, 1]) / (node + inside)


@compiled
def settle_markouts(rules: Rules, b: Batch, e: int, n: int) -> None:
    """At the start of slot n, the markouts that have become known enter the scorecard.

    A fill is valued at the first node at least 10 s after it: exactly 10 s for a node fill, 10 to 20 s for a fill
    inside a slot of 10 s, which shows up to 8 % more of the slow alpha. No markout is used before its time.
    """
    ring = b.pending.shape[3]
    ep = b.episode[e]
    now = b.tape[e, n].mid_bps
    unit = max(ep.half_spread_bps, 1e-9)
    for v in range(rules.n_venues):
        for card in range(3):
            wait = b.pending[e, v, card, n % ring]
            if wait.count > 0:
                row = b.card[e, v, card]
                row.markouts += wait.count
                row.markout_hs_sum += ep.side * (wait.count * now - wait.mid_bps_sum) / unit
                wait.count = 0
                wait.mid_bps_sum = 0.0


__all__ = ["CARD_OF", "expected_fill_rate", "expected_markout_bps", "open_scorecards", "record_fills",
           "settle_markouts", "shrunk_fill_rate", "shrunk_markout_hs"]  # fmt: skip
