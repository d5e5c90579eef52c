"""The venue scorecard: what every router knows of a venue, from a noisy history and its own fills.

Rows per venue: ping, rest, post. A child order with a fill counts as filled; a markout is the mid's move from the
print's midpoint over 10 s, in half spreads of the day, + = the price went our way. Everybody reads the same numbers.
"""

from __future__ import annotations

import math

import numpy as np

from ..configs.session import N_CURVE_BINS, SESSION_S
from .compiled import compiled, leaf
from .counter_rng import binomial, derive, log_uniform, normal, uniform
from .state import CARD_OF_TYPE, Batch, Row
from .venues import Rules

_NODES, _WEIGHTS = (a for a in np.polynomial.hermite_e.hermegauss(21))
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
CARD_OF = np.array(CARD_OF_TYPE)
_HORIZON_S = 10.0
_EXACT_ATTEMPTS = 1_000_000
_STREAM_CARD = 77
KAPPA_CAP = 2.5

# Shrinkage of a row by its count: prior rate and weight in attempts, and weight in fills of a markout of 0.
FILL_PRIOR = (0.03, 0.06, 0.25)
FILL_PRIOR_WEIGHT = 100.0
MARKOUT_PRIOR_WEIGHT = 60.0


@leaf
def fill_prob(mean_arrivals: float, log_sd: float) -> float:
    """E[1 - exp(-m e^(s z - s^2/2))] over a standard normal z, by quadrature: m arrivals in the mean, log-normal
    noise."""
    prob = 0.0
    for i in range(_NODES.shape[0]):
        prob += _WEIGHTS[i] * -math.expm1(-mean_arrivals * math.exp(log_sd * _NODES[i] - 0.5 * log_sd * log_sd))
    return prob


@leaf
def size_tail(law: Row, lots: int) -> float:
    """Pr[S >= lots] of a contra order; 1 where sizes are unlimited."""
    if law.n_lots == 0 or lots <= 1:
        return 1.0
    return 1.0 - law.cdf[lots - 2] if lots <= law.n_lots else 0.0


@compiled
def typical_child_lots(rules: Rules, ep: Row) -> int:
    """The child order behind a scorecard: half of an average slice, at least one lot."""
    settings = rules.settings[0]
    return max(1, int(0.5 * ep.shares / ep.n_slots / settings.lot_shares))


@leaf
def normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@leaf
def queue_passed(settings: Row, ven: Row) -> tuple[float, float]:
    """(chance, mean slow alpha in standard deviations where it happens) of an exponential outflow, tilted by the slow
    alpha, that is more than the shares ahead of a one-shot post (market model, 2.5)."""
    if settings.outflow_mean_shares <= 0.0:
        return 0.0, 0.0
    ahead, kappa = settings.queue_shares / settings.outflow_mean_shares, ven.kappa_slow
    chance, moment = 0.0, 0.0
    for i in range(_NODES.shape[0]):
        passed = _WEIGHTS[i] * math.exp(-ahead * math.exp(kappa * _NODES[i] + 0.5 * kappa * kappa))
        chance += passed
        moment += passed * _NODES[i]
    return chance, moment / max(chance, 1e-300)


@compiled
def one_shot_chance(rules: Rules, ep: Row, ven: Row) -> float:
    """That a one-shot pool has a contra order, and one that reaches the minimum quantity."""
    lots = typical_child_lots(rules, ep)
    least = max(1, min(lots, int(ven.min_quantity_shares / rules.settings[0].lot_shares)))
    return (1.0 - ven.zero_prob) * size_tail(rules.size_law[ven.size_law], least)


@compiled
def probit_markout(chance: float, correlation: float) -> float:
    """E[A given a fill] in standard deviations, for a buy: -r phi(q) / p with Phi(q) = p (market model, 2.5)."""
    if chance <= 0.0 or chance >= 1.0:
        return 0.0
    low, high = -12.0, 12.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if normal_cdf(middle) < chance:
            low = middle
        else:
            high = middle
    return -correlation * math.exp(-0.5 * low * low) / math.sqrt(2.0 * math.pi) / chance


@compiled
def expected_fill_rate(rules: Rules, b: Batch, e: int, v: int, card: int) -> float:
    """Share of 10 s child orders with a fill over many orders like this one, sent in every slot, at the order's
    expected volume.

    Arrivals are Poisson given alphas and slot volume, which are log-normal factors on the rate; only contra orders that
    reach the minimum quantity count. A pinged pool is visited every slot, so what stands there is what came since; a
    rest leaves nothing unmet behind, so it meets arrivals of its own slot. The leftover of the contra met last fills
    later children too, while it lasts and stays: a run of J children on average, cut off by the end of the order (a run
    starts in a uniform slot of N, so its k-th child counts 1 - k/N). Runs start in idle slots with probability m, that
    of a fresh match, so the rate is m J / (1 + m (J - 1)).
    """
    settings = rules.settings[0]
    ep, ven, dt = b.episode[e], b.venue[e, v], settings.interval_s
    if settings.one_shot:
        return queue_passed(settings, ven)[0] if card == 2 else one_shot_chance(rules, ep, ven)
    rate = ven.supply_frac * ep.expected_volume / (ep.n_slots * dt) / ven.mean_size_shares
    bins = max(1.0, ep.n_slots * dt * N_CURVE_BINS / SESSION_S)
    in_bin = settings.volume_concentration * ep.expected_volume / ep.adv_shares / bins  # 1 / relative variance
    noise_var = settings.slot_volume_log_sd**2 + settings.day_volume_log_sd**2 + math.log1p(1.0 / in_bin)
    if card == 2:
        run_var = (2.0 * ven.gamma_run_bps) ** 2 / max(ep.vol_bps**2 * dt, 1e-12)  # of the factor for the price's run
        return fill_prob(rate * dt, math.sqrt(ven.kappa_slow**2 + noise_var + run_var))
    sd_g, load = settings.supply_noise[0], settings.supply_volume_load
    joint = load * sd_g * settings.slot_volume_log_sd  # supply moves with the slot's volume
    rate *= math.exp(joint)
    noise_var += sd_g * sd_g + 2.0 * joint
    lots = typical_child_lots(rules, ep)
    least = max(1, min(lots, int(ven.min_quantity_shares / settings.lot_shares)))
    law, informed = rules.size_law[ven.size_law], rules.size_law[ven.informed_law]
    p = ven.informed_frac
    match = p * size_tail(informed, least) + (1.0 - p) * size_tail(law, least)
    slow_var, both_var = ven.kappa_slow**2, ven.kappa_fast**2 + ven.kappa_slow**2
    if card == 0:
        fresh = fill_prob(rate * match * ven.life_s * -math.expm1(-dt / ven.life_s), math.sqrt(both_var + noise_var))
        stays = math.exp(-dt / ven.life_s)
    else:
        fresh = fill_prob(rate * match * dt, math.sqrt(slow_var + noise_var))
        stays = 1.0
    run, staying = 0.0, 1.0  # children that one contra order fills before it, or the order, is used up or gone
    for k in range(min(max(1, law.n_lots, informed.n_lots), ep.n_slots)):
        tail = p * size_tail(informed, k * lots + least) + (1.0 - p) * size_tail(law, k * lots + least)
        run += staying * tail / max(match, 1e-12) * (1.0 - k / ep.n_slots)
        staying *= stays
        if staying * tail < 1e-4:
            break
    return fresh * run / (1.0 + fresh * (run - 1.0))


@compiled
def expected_markout_bps(rules: Rules, b: Batch, e: int, v: int, card: int, horizon_s: float) -> float:
    """Law (3) (market model): - = adverse. For a post the mid's move alone: -Gamma. With two contra types a minimum
    quantity thins the informed one: pi(m) kappa_informed. One-shot pools have the probit law, their posts the queue's.
    """
    settings = rules.settings[0]
    ep, ven = b.episode[e], b.venue[e, v]
    if settings.expected_accounting:
        return -ven.adverse_charge_bps
    fast_frac = -math.expm1(-horizon_s / ep.tau_fast_s)
    slow_frac = -math.expm1(-horizon_s / ep.tau_slow_s)
    if settings.one_shot:
        if card == 2:
            since_print_s = horizon_s + settings.interval_s  # it prints at the slot's first mid, known at its end
            whole = -math.expm1(-since_print_s / ep.tau_slow_s)
            return queue_passed(settings, ven)[1] * ep.sigma_slow_bps * whole
        drop = probit_markout(one_shot_chance(rules, ep, ven), settings.probit_correlation)
        return drop * ep.sigma_fast_bps * fast_frac
    slow = ven.kappa_slow * ep.sigma_slow_bps * slow_frac
    if card == 2:
        return -(ven.gamma_run_bps + ven.gamma_fast_bps + slow)
    fast = ven.kappa_fast * ep.sigma_fast_bps * fast_frac
    p = ven.informed_frac
    if p > 0.0:
        lots = max(1, min(typical_child_lots(rules, ep), int(ven.min_quantity_shares / settings.lot_shares)))
        kept = p * size_tail(rules.size_law[ven.informed_law], lots)
        kept /= max(kept + (1.0 - p) * size_tail(rules.size_law[ven.size_law], lots), 1e-12)
        return -(fast + slow) * kept / p
    return -(fast + slow)


@compiled
def open_scorecards(rules: Rules, b: Batch, e: int) -> None:
    """History before the parent's day: binomial fills, normal markout error sigma^2 10 s / fills, the market's bias."""
    settings = rules.settings[0]
    ep = b.episode[e]
    unit = max(ep.half_spread_bps, 1e-9)
    for v in range(settings.n_venues):
        key = derive(b.venue[e, v].key, _STREAM_CARD)
        for card in range(3):
            row = b.card[e, v, card]
            row.attempts, row.filled, row.markouts, row.markout_hs_sum = 0, 0, 0, 0.0
            if (card == 2) != (v < settings.n_lit):
                continue
            rate = expected_fill_rate(rules, b, e, v, card)
            mean_hs = expected_markout_bps(rules, b, e, v, card, _HORIZON_S) / unit
            if not settings.randomise:
                row.attempts, row.filled = _EXACT_ATTEMPTS, int(round(rate * _EXACT_ATTEMPTS))
                row.markouts, row.markout_hs_sum = row.filled, mean_hs * row.filled
                continue
            if uniform(key, card, 0) < settings.card_empty_prob:
                continue
            rate = min(1.0, rate * settings.card_fill_factor)
            fills = log_uniform(uniform(key, card, 1), settings.card_fills_range[0], settings.card_fills_range[1])
            row.attempts = max(1, int(min(fills / max(rate, 1e-6), 1e9)))
            row.filled = binomial(key, 100 + card, row.attempts, rate)
            row.markouts = row.filled
            if row.filled > 0:
                error_hs = ep.vol_bps * math.sqrt(_HORIZON_S / row.filled) / unit
                row.markout_hs_sum = row.filled * (mean_hs + settings.card_bias_hs + error_hs * normal(key, card, 2))


@leaf
def shrunk_fill_rate(row: Row, card: int) -> float:
    return (row.filled + FILL_PRIOR_WEIGHT * FILL_PRIOR[card]) / (row.attempts + FILL_PRIOR_WEIGHT)


@leaf
def shrunk_markout_hs(row: Row) -> float:
    return row.markout_hs_sum / (row.markouts + MARKOUT_PRIOR_WEIGHT)


@leaf
def show(row: Row, card: int) -> None:
    """Compute the row's features, if it changed: logarithms cost more than all else of an observation."""
    if row.shown == 0:
        row.log_fill_rate = math.log10(shrunk_fill_rate(row, card))
        row.shrunk_markout_hs = shrunk_markout_hs(row)
        row.log_evidence = math.log10(1.0 + row.markouts)
        row.shown = 1


@leaf
def settle(card: Row, side: float, mid_bps: float, print_mid_bps: float, unit_bps: float) -> None:
    """A markout has become known: the mid's move since the print, signed, in half spreads of the day."""
    card.markouts += 1
    card.shown = 0
    card.markout_hs_sum += side * (mid_bps - print_mid_bps) / unit_bps


__all__ = ["CARD_OF", "KAPPA_CAP", "expected_fill_rate", "expected_markout_bps", "open_scorecards", "settle",
           "shrunk_fill_rate", "shrunk_markout_hs", "size_tail", "typical_child_lots"]  # fmt: skip
