"""What an episode is made of before its tape: stock, parent order, venues; streams of an episode's random numbers.

Signed noise is drawn for a buyer and multiplied by the side, so a mirrored episode is mirrored exactly.
"""

from __future__ import annotations

import math

import numpy as np

from ..configs.session import N_CURVE_BINS, SESSION_S
from .compiled import compiled, leaf
from .counter_rng import derive, log_uniform, normal, uniform
from .scorecard import open_scorecards
from .state import Batch, Row
from .venues import BETA_STEPS, Rules

STREAM_ORDER, STREAM_STOCK, STREAM_VENUE, STREAM_MID, STREAM_VOLUME, STREAM_NOISE, STREAM_SHUFFLE = range(7)
STREAM_EVENT = 8  # 7 deals the days of a replay
EVENT_OUTAGE, EVENT_HALT, EVENT_SHOCK, EVENT_QUOTE = range(4)  # places in it
_VENUE_STOCK, _VENUE_FLOW = 20, 21
_BIN_S = SESSION_S / N_CURVE_BINS


@compiled
def draw_episode(rules: Rules, stream_key: np.uint64, number: int, b: Batch, e: int) -> None:
    """Fill episode, venues, size laws and opening scorecards of row `e`; the tape comes after."""
    ep = b.episode[e]
    ep.key = derive(stream_key, number)
    ep.number = number
    ep.replayed, ep.day = 0, 0
    draw_stock(rules, ep, -1)
    draw_order(rules, ep)
    draw_venues(rules, b, e)


@compiled
def draw_stock(rules: Rules, ep: Row, given: int) -> None:
    """The episode's stock class, drawn or `given`, and its spread and volatility."""
    settings = rules.settings[0]
    key = derive(ep.key, STREAM_STOCK)
    u = uniform(key, 0, 0)
    index = 0
    while index < rules.stock.shape[0] - 1 and u >= rules.stock[index].cum_prob:
        index += 1
    if given >= 0:
        index = given
    stock = rules.stock[index]
    spread_factor, vol_factor = 1.0, 1.0
    if settings.randomise:
        spread_factor = math.exp(settings.spread_log_sd * normal(key, 0, 1))
        vol_factor = math.exp(settings.vol_log_sd * normal(key, 0, 2))
    ep.stock = index
    ep.price_usd = stock.price_usd
    ep.tick_usd = stock.tick_usd
    ep.adv_shares = stock.adv_shares
    ep.half_spread_bps = stock.half_spread_bps * spread_factor
    ep.daily_vol_bps = stock.daily_vol_bps * vol_factor
    ep.vol_bps = ep.daily_vol_bps / math.sqrt(float(SESSION_S))
    ep.depth_shares = stock.depth_shares
    ep.permanent_coef = settings.gamma * ep.daily_vol_bps * stock.outstanding_over_adv**0.25
    ep.sigma_fast_bps = stock.sigma_fast_bps * vol_factor
    ep.tau_fast_s = stock.tau_fast_s
    ep.sigma_slow_bps = stock.sigma_slow_bps * vol_factor
    ep.tau_slow_s = stock.tau_slow_s
    ep.signal_fast = stock.signal_fast
    ep.signal_slow = stock.signal_slow
    ep.vol_floor_frac = stock.vol_floor_frac
    ep.nbbo_moves_per_10s = stock.nbbo_moves_per_10s
    ep.size_scale = stock.size_scale
    ep.n_sub, ep.fast_in_slot = stock.n_sub, stock.fast_in_slot


@compiled
def draw_order(rules: Rules, ep: Row) -> None:
    """Side, horizon, start and size of the parent."""
    settings = rules.settings[0]
    key = derive(ep.key, STREAM_ORDER)
    dt = settings.interval_s
    if settings.side == 0:
        ep.side = 1.0 if uniform(key, 0, 0) < 0.5 else -1.0
    else:
        ep.side = float(settings.side)
    if rules.slot_volumes.shape[0] > 0:
        ep.n_slots = rules.slot_volumes.shape[0]
        ep.start_s = 0.0
        ep.expected_volume = rules.slot_volumes.sum()
        ep.shares = settings.fixed_shares
        return
    u = uniform(key, 0, 1)
    index = 0
    while index < rules.horizon_s.shape[0] - 1 and u >= rules.horizon_cum[index]:
        index += 1
    ep.n_slots = int(round(rules.horizon_s[index] / dt))
    latest = int(round(SESSION_S / dt)) - ep.n_slots
    if settings.fixed_start_s >= 0.0:
        ep.start_s = settings.fixed_start_s
    else:
        ep.start_s = dt * math.floor(uniform(key, 0, 2) * (latest + 1))
    ep.expected_volume = expected_volume(rules, ep, ep.start_s, ep.start_s + ep.n_slots * dt)
    if settings.fixed_shares > 0:
        ep.shares = settings.fixed_shares
    else:
        part = log_uniform(uniform(key, 0, 3), settings.participation[0], settings.participation[1])
        ep.shares = max(settings.lot_shares, int(part * ep.expected_volume))


@compiled
def expected_volume(rules: Rules, ep: Row, from_s: float, to_s: float) -> float:
    """ADV times the volume curve between two times of the session, shares."""
    return volume_between(rules.stock[ep.stock], from_s, to_s) * ep.adv_shares


@leaf
def volume_between(stock: Row, from_s: float, to_s: float) -> float:
    """Share of the day's volume that the curve puts between two times of the session."""
    first, last = int(from_s / _BIN_S), min(N_CURVE_BINS - 1, int(to_s / _BIN_S))
    if first >= last:
        return stock.volume_curve[min(first, N_CURVE_BINS - 1)] * (to_s - from_s) / _BIN_S
    total = stock.volume_curve[first] * ((first + 1) - from_s / _BIN_S)
    for k in range(first + 1, last):
        total += stock.volume_curve[k]
    return total + stock.volume_curve[last] * (to_s / _BIN_S - last)


@compiled
def draw_venues(rules: Rules, b: Batch, e: int) -> None:
    """Venue quality of the episode: archetypes permuted over the venue names, then jittered (market model, 7)."""
    settings = rules.settings[0]
    ep = b.episode[e]
    n_dark = settings.n_venues - settings.n_lit
    order = np.arange(max(1, rules.dark.shape[0]))
    if settings.permute:
        key = derive(ep.key, STREAM_SHUFFLE)
        for i in range(order.shape[0] - 1):
            j = i + int(uniform(key, 0, i) * (order.shape[0] - i))
            order[i], order[j] = order[j], order[i]
    for v in range(settings.n_venues):
        ven = b.venue[e, v]
        ven.key = derive(ep.key, STREAM_VENUE) ^ rules.venue_key[v]
        ven.stock_key, ven.flow_key = derive(ven.key, _VENUE_STOCK), derive(ven.key, _VENUE_FLOW)
        if v < settings.n_lit:
            _draw_lit(rules, ep, ven, v)
        else:
            _draw_dark(rules, ep, ven, order[v - settings.n_lit] if n_dark > 0 else 0)
        _draw_outage(rules, ep, ven, v)
    open_scorecards(rules, b, e)


@compiled
def _draw_outage(rules: Rules, ep: Row, ven: Row, v: int) -> None:
    """A spell in which the venue is down: starts uniformly in the order, uniform length; independent of all else."""
    settings = rules.settings[0]
    key = derive(ven.key, STREAM_EVENT)
    ven.down_from, ven.down_until = 0, 0
    if rules.outage_venue[v] and uniform(key, EVENT_OUTAGE, 0) < settings.outage_prob:
        ven.down_from = int(uniform(key, EVENT_OUTAGE, 1) * ep.n_slots)
        shortest, longest = settings.outage_s[0], settings.outage_s[1]
        length_s = shortest + uniform(key, EVENT_OUTAGE, 2) * (longest - shortest)
        ven.down_until = ven.down_from + max(1, int(round(length_s / settings.interval_s)))


@compiled
def _mils_to_bps(mils: float, price_usd: float) -> float:
    return mils / price_usd  # $0.0001 over dollars, in 1e-4


@compiled
def _draw_lit(rules: Rules, ep: Row, ven: Row, v: int) -> None:
    settings = rules.settings[0]
    arch = rules.lit[v]
    pnl_hs = rules.post_pnl_hs[ep.stock, v]
    flow, take_mils, post_mils = 1.0, arch.take_fee_mils, arch.post_fee_mils
    if settings.randomise:
        pnl_hs += settings.pnl_jitter_hs * (2.0 * uniform(ven.key, 0, 0) - 1.0)
        flow = log_uniform(uniform(ven.key, 0, 1), settings.flow_range[0], settings.flow_range[1])
        shift = settings.fee_jitter_mils * (2.0 * uniform(ven.key, 0, 2) - 1.0)
        cap = rules.stock[ep.stock].fee_cap_mils
        take_mils, post_mils = min(cap, take_mils + shift), min(cap, post_mils + shift)
    ven.archetype = v
    ven.supply_frac = arch.post_flow_frac * flow
    ven.kappa_slow = arch.kappa_slow
    ven.kappa_fast = 0.0
    gamma_10 = ep.half_spread_bps * (1.0 - pnl_hs)
    slow_10 = arch.kappa_slow * ep.sigma_slow_bps * -math.expm1(-10.0 / ep.tau_slow_s)
    ven.gamma_run_bps = arch.run_share * gamma_10
    ven.gamma_fast_bps = max(0.0, gamma_10 - ven.gamma_run_bps - slow_10)
    ven.size_beta = arch.size_beta
    ven.size_law = rules.lit_law[ep.stock, v]
    ven.mean_size_shares = rules.size_law[ven.size_law].mean_shares
    ven.informed_frac = 0.0
    ven.take_fee_bps = _mils_to_bps(take_mils, ep.price_usd)
    ven.post_fee_bps = _mils_to_bps(post_mils, ep.price_usd)
    ven.min_quantity_shares = 0
    ven.leak_weight = 0.0
    ven.has_regime = 0


@compiled
def _draw_dark(rules: Rules, ep: Row, ven: Row, a: int) -> None:
    settings = rules.settings[0]
    arch = rules.dark[a]
    key = ven.key
    ven.archetype = a
    ven.life_s = arch.life_s
    ven.supply_frac = rules.dark_supply_frac[ep.stock, a]
    ven.size_beta, ven.leak_weight = arch.size_beta, arch.leak_weight
    ven.kappa_fast, ven.kappa_slow = rules.dark_kappa[ep.stock, a, 0], rules.dark_kappa[ep.stock, a, 1]
    ven.informed_frac = arch.informed_frac
    law, step = rules.dark_law[ep.stock, a], 0
    fee_mils, lots = arch.take_fee_mils, arch.min_quantity_lots
    ven.has_regime = 0
    if settings.randomise:
        ven.supply_frac *= log_uniform(uniform(key, 0, 0), settings.supply_range[0], settings.supply_range[1])
        if uniform(key, 0, 1) < settings.independent_prob:
            fast, slow = settings.kappa_fast_range, settings.kappa_slow_range
            ven.kappa_fast = fast[0] + uniform(key, 0, 2) * (fast[1] - fast[0])
            ven.kappa_slow = slow[0] + uniform(key, 0, 3) * (slow[1] - slow[0])
        else:
            ven.kappa_fast *= 1.0 + settings.toxicity_jitter * (2.0 * uniform(key, 0, 2) - 1.0)
            ven.kappa_slow *= 1.0 + settings.toxicity_jitter * (2.0 * uniform(key, 0, 3) - 1.0)
        ven.leak_weight = 0.0
        if uniform(key, 0, 4) >= settings.leak_zero_prob:
            ven.leak_weight = log_uniform(uniform(key, 0, 5), settings.leak_range[0], settings.leak_range[1])
        step = int(uniform(key, 0, 6) * BETA_STEPS)
        ven.size_beta += settings.beta_jitter * (2.0 * step / (BETA_STEPS - 1) - 1.0)
        n = rules.min_quantity_lots.shape[0]
        lots = rules.min_quantity_lots[min(n - 1, int(uniform(key, 0, 7) * n))]
        fee_mils = min(
            rules.stock[ep.stock].fee_cap_mils, fee_mils + settings.fee_jitter_mils * (2.0 * uniform(key, 0, 8) - 1.0)
        )
        ven.has_regime = 1 if uniform(derive(ep.key, STREAM_STOCK), 0, 3) < settings.regime_prob else 0
    ven.min_quantity_shares = lots * settings.lot_shares
    ven.size_law, ven.informed_law = law + step, rules.informed_law[ep.stock, a]
    p = ven.informed_frac
    mean_of_rest = rules.size_law[ven.size_law].mean_shares
    ven.mean_size_shares = p * rules.size_law[ven.informed_law].mean_shares + (1.0 - p) * mean_of_rest
    ven.take_fee_bps = _mils_to_bps(fee_mils, ep.price_usd)
    ven.post_fee_bps = 0.0
    ven.gamma_run_bps = 0.0
    ven.gamma_fast_bps = 0.0
    ven.zero_prob = arch.zero_prob
    ven.adverse_charge_bps = arch.adverse_charge_bps
