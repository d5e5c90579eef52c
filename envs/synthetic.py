"""The calibrated generator: the tape of an episode that `episode_draw` has drawn, slot by slot.

Mid and alphas follow the market model, section 1: a slot has K sub-steps, each with its own alpha node. In the in-slot
form the fast alpha of a node is spent inside its sub-step, so the price base of fills there is B = M + A_f (1 - E_f).
Signed noise is drawn for a buyer and multiplied by the side, so a mirrored episode is mirrored exactly.
"""

from __future__ import annotations

import math

import numpy as np

from ..configs.session import N_CURVE_BINS, SESSION_S
from .compiled import compiled, leaf
from .counter_rng import derive, gamma, normal, uniform
from .episode_draw import (
    EVENT_HALT,
    EVENT_QUOTE,
    EVENT_SHOCK,
    STREAM_EVENT,
    STREAM_MID,
    STREAM_NOISE,
    STREAM_VOLUME,
    volume_between,
)
from .state import QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, QUOTE_NORMAL, Batch, Row
from .venues import Rules

_BIN_S = SESSION_S / N_CURVE_BINS
_RATIO_ERROR = 1.0 / math.sqrt(600.0)  # relative sampling error of a volatility measured on 300 one-second returns


@compiled
def generate_tape(rules: Rules, b: Batch, e: int) -> None:
    """Fill the tape of row `e`: volume, then mid and signals, then benchmark and schedule."""
    settings = rules.settings[0]
    if rules.slot_volumes.shape[0] > 0:
        _fixed_rows(rules, b, e)
        if b.episode[e].vol_bps > 0.0 and not settings.expected_accounting:
            _draw_mid(rules, b, e, False)
    else:
        _draw_volume(rules, b, e)
        _draw_mid(rules, b, e, True)
    if settings.halt_prob + settings.locked_prob + settings.crossed_prob > 0.0:
        _draw_quote_states(rules, b, e)
    finish_tape(rules, b, e)


@compiled
def _fixed_rows(rules: Rules, b: Batch, e: int) -> None:
    """A motionless market with stated volumes: problems with a known optimum."""
    settings = rules.settings[0]
    ep = b.episode[e]
    for n in range(ep.n_slots + settings.n_after):
        row = b.tape[e, n]
        row.half_spread_bps = ep.half_spread_bps
        row.volume_shares = rules.slot_volumes[min(n, ep.n_slots - 1)]
        row.forecast_shares = row.volume_shares
        row.vol_bps = ep.vol_bps
        row.vol_curve, row.vol_ratio, row.eps_var = 1.0, 1.0, 1.0
        row.toxicity_factor, row.dark_flow_shares = 1.0, row.volume_shares


@compiled
def _draw_volume(rules: Rules, b: Batch, e: int) -> None:
    """Dirichlet over five-minute bins, shared among the slots of a bin log-normally; forecast = ADV x curve.

    Bins outside the order's window are one gamma draw: a Dirichlet whose parts are added up is a Dirichlet.
    """
    settings = rules.settings[0]
    ep, dt, tape = b.episode[e], settings.interval_s, b.tape
    stock = rules.stock[ep.stock]
    key = derive(ep.key, STREAM_VOLUME)
    sd = settings.day_volume_log_sd
    day = ep.adv_shares * math.exp(sd * normal(key, 0, 0) - 0.5 * sd * sd)
    first_bin = int(ep.start_s / _BIN_S)
    last_bin = min(N_CURVE_BINS - 1, int((ep.start_s + ep.n_slots * dt - 1e-6) / _BIN_S))
    shares = np.zeros(last_bin - first_bin + 1)
    rest, total = 1.0, 0.0
    for k in range(first_bin, last_bin + 1):
        shares[k - first_bin] = gamma(key, 1 + k, max(1e-9, settings.volume_concentration * stock.volume_curve[k]))
        total += shares[k - first_bin]
        rest -= stock.volume_curve[k]
    if rest > 1e-12:
        total += gamma(key, 1 + N_CURVE_BINS, settings.volume_concentration * rest)
    first = int(round(ep.start_s / dt))
    per_bin = max(1, int(round(_BIN_S / dt)))
    supply_key = derive(key, 1)
    sd_g, rho = settings.supply_noise[0], settings.supply_noise[1]
    load, own = settings.supply_volume_load, math.sqrt(1.0 - settings.supply_volume_load**2)
    fresh = math.sqrt(1.0 - rho * rho)
    slot_sd = settings.slot_volume_log_sd
    state = normal(supply_key, 0, 0)
    surprises, weights = np.zeros(per_bin), np.zeros(per_bin)
    weight_bin, weight_total = -1, 1.0
    for n in range(ep.n_slots):
        start = ep.start_s + n * dt
        k = min(N_CURVE_BINS - 1, int(start / _BIN_S))
        row = tape[e, n]
        if dt <= _BIN_S:
            if k != weight_bin:
                weight_bin, weight_total = k, 0.0
                for j in range(per_bin):
                    surprises[j] = normal(key, 1000 + k * per_bin + j, 0)
                    weights[j] = math.exp(slot_sd * surprises[j])
                    weight_total += weights[j]
                weight_total *= total / day
            j = first + n - k * per_bin
            surprise = surprises[j]
            row.volume_shares = shares[k - first_bin] * weights[j] / weight_total
            row.forecast_shares = stock.volume_curve[k] * ep.adv_shares / per_bin
        else:
            surprise = normal(key, 1000 + first + n, 0)
            row.volume_shares = shares[k - first_bin : k - first_bin + int(round(dt / _BIN_S))].sum() * day / total
            row.forecast_shares = volume_between(stock, start, start + dt) * ep.adv_shares
        state = rho * state + fresh * normal(supply_key, 1 + n, 0)
        row.dark_flow_shares = sd_g * (load * surprise + own * state) - 0.5 * sd_g * sd_g  # its log, for `_draw_mid`


@leaf
def slot_factors(settings: Row, ep: Row, row: Row, log_supply: float) -> None:
    """What a slot's spread, volatility and volume do to all venues: toxicity, and the flow of contra orders (2)."""
    log_vol = math.log(max(row.vol_bps / max(ep.vol_bps, 1e-12), 1e-12))
    log_spread = 0.0
    if ep.half_spread_bps > 0.0:
        log_spread = math.log(max(row.half_spread_bps / ep.half_spread_bps, 1e-3))
    set_factors(settings, row, log_vol, math.exp(log_vol), log_spread, log_supply)


@leaf
def set_factors(
    settings: Row, row: Row, log_vol: float, vol_ratio: float, log_spread: float, log_supply: float
) -> None:
    """`slot_factors` from volatility and spread over their class means and their logarithms."""
    nu = settings.toxicity_vol_exponent
    row.toxicity_factor = vol_ratio if nu == 1.0 else math.exp(nu * log_vol)  # the default needs no exponential
    elasticity = settings.supply_vol_exponent * log_vol + settings.supply_spread_exponent * log_spread
    row.dark_flow_shares = row.volume_shares * math.exp(log_supply + elasticity)


@compiled
def _shock(rules: Rules, ep: Row) -> tuple[int, float]:
    """Slot of the news shock, -1 for none, and the jump of the mid in bps (drawn for a buyer)."""
    settings = rules.settings[0]
    key = derive(ep.key, STREAM_EVENT)
    if settings.shock_prob <= 0.0 or uniform(key, EVENT_SHOCK, 0) >= settings.shock_prob:
        return -1, 0.0
    return int(uniform(key, EVENT_SHOCK, 1) * ep.n_slots), settings.shock_move_bps * normal(key, EVENT_SHOCK, 2)


@compiled
def _draw_mid(rules: Rules, b: Batch, e: int, with_spread: bool) -> None:
    """Volatility, spread, the two alphas, the mid and what of them can be seen."""
    settings = rules.settings[0]
    ep, dt, tape, nodes = b.episode[e], settings.interval_s, b.tape, b.nodes
    stock = rules.stock[ep.stock]
    n_sub = ep.n_sub
    delta = dt / n_sub
    key, noise_key = derive(ep.key, STREAM_MID), derive(ep.key, STREAM_NOISE)
    sd_h, rho_h = settings.spread_noise[0], settings.spread_noise[1]
    sd_v, rho_v = settings.vol_noise[0], settings.vol_noise[1]
    fresh_h, fresh_v = math.sqrt(1.0 - rho_h * rho_h), math.sqrt(1.0 - rho_v * rho_v)
    e_f, e_s = math.exp(-delta / ep.tau_fast_s), math.exp(-delta / ep.tau_slow_s)
    new_f, new_s = math.sqrt(1.0 - e_f * e_f), math.sqrt(1.0 - e_s * e_s)
    cov_f = ep.sigma_fast_bps * e_f * math.sqrt((1 - e_f) / (1 + e_f))
    cov_s = ep.sigma_slow_bps * e_s * math.sqrt((1 - e_s) / (1 + e_s))
    spent_f, spent_s = ep.sigma_fast_bps * (1.0 - e_f), ep.sigma_slow_bps * (1.0 - e_s)
    alpha_var, cov_var = spent_f * spent_f + spent_s * spent_s, cov_f * cov_f + cov_s * cov_s
    zeta_f = math.exp(-dt / ep.tau_fast_s)
    zeta_new = math.sqrt(1.0 - zeta_f * zeta_f)
    white = math.sqrt(max(0.0, 1.0 - ep.signal_fast**2 - ep.signal_slow**2))
    history = int(math.ceil(300.0 / dt))
    recent = np.zeros(history)
    recent_sum, last_vol = 0.0, 0.0
    log_floor = math.log(max(ep.vol_floor_frac, 1e-9))
    no_vol = ep.vol_bps <= 0.0
    moves_per_vol = ep.nbbo_moves_per_10s / max(ep.vol_bps, 1e-12)
    usual_vol = math.exp(-sd_v * sd_v)
    shock_slot, jump = _shock(rules, ep)
    shock_decay = 0.5 ** (dt / settings.shock_half_life_s)
    shock_left = 0.0
    log_v, log_h = normal(noise_key, 0, 0), normal(noise_key, 0, 1)
    z_f, z_s, zeta = normal(key, 0, 0), normal(key, 0, 1), normal(key, 0, 2)
    mid, side = 0.0, ep.side
    for n in range(-history, ep.n_slots + settings.n_after):
        k = min(N_CURVE_BINS - 1, max(0, int((ep.start_s + n * dt) / _BIN_S)))
        at = n + history + 1
        log_v = rho_v * log_v + fresh_v * normal(noise_key, at, 0)
        log_vol = stock.log_vol_curve[k] + sd_v * (log_v - sd_v)
        if n == shock_slot:
            shock_left = 1.0
        if shock_left > 0.0:
            log_vol += math.log(1.0 + (settings.shock_factors[0] - 1.0) * shock_left)
        log_vol = max(log_floor, log_vol)
        vol_ratio = math.exp(log_vol)
        vol = ep.vol_bps * vol_ratio
        if n >= 0:
            row = tape[e, n]
            row.mid_bps, row.vol_bps = mid * side, vol
            row.fast_z, row.slow_z = z_f * side, z_s * side
            if n < ep.n_slots:
                reference = ep.vol_bps * max(ep.vol_floor_frac, stock.vol_curve[k] * usual_vol)
                measured = math.sqrt(recent_sum / history) * (1.0 + _RATIO_ERROR * normal(noise_key, at, 2))
                row.vol_ratio = 1.0 if no_vol else max(0.0, measured) / reference
                mean_moves = moves_per_vol * last_vol
                moves = mean_moves + math.sqrt(mean_moves) * normal(noise_key, at, 3)
                row.nbbo_moves = max(0.0, math.floor(moves + 0.5))
                row.vol_curve, row.quote_state = stock.vol_curve[k], float(QUOTE_NORMAL)
                if with_spread:
                    log_h = rho_h * log_h + fresh_h * normal(noise_key, at, 1)
                    log_spread = stock.log_spread_curve[k] + sd_h * (log_h - 0.5 * sd_h)
                    if shock_left > 0.0:
                        log_spread += math.log(1.0 + (settings.shock_factors[1] - 1.0) * shock_left)
                        row.volume_shares *= 1.0 + (settings.shock_factors[2] - 1.0) * shock_left
                    row.half_spread_bps = ep.half_spread_bps * math.exp(log_spread)
                    set_factors(settings, row, log_vol, vol_ratio, log_spread, row.dark_flow_shares)
                else:
                    slot_factors(settings, ep, row, 0.0)
                seen = ep.signal_fast * z_f + ep.signal_slow * z_s + white * zeta
                row.imbalance = math.erf(seen * side / math.sqrt(2.0))
                zeta = zeta_f * zeta + zeta_new * normal(key, n + 1, 3)
            vwap = 0.0
            for i in range(n_sub):
                x_f, x_s = normal(key, n + 1, 4 * i), normal(key, n + 1, 4 * i + 1)
                x_m = normal(key, n + 1, 4 * i + 2)
                eps_var = vol * vol * delta - alpha_var
                eps = math.sqrt(max(0.0, eps_var - cov_var)) * x_m - cov_f * x_f - cov_s * x_s
                if n == shock_slot and i == 0:
                    eps += jump
                    eps_var += settings.shock_move_bps * settings.shock_move_bps
                base = mid + spent_f * z_f
                after = base + spent_s * z_s + eps
                vwap += 0.5 * (mid + after)
                if n_sub == 1:
                    row.eps_var, row.eps_bps, row.base_bps = eps_var, eps * side, base * side
                else:
                    node = nodes[e, n * n_sub + i]
                    node.mid_bps, node.base_bps, node.eps_bps, node.eps_var = (
                        mid * side,
                        base * side,
                        eps * side,
                        eps_var,
                    )
                    node.fast_z, node.slow_z = z_f * side, z_s * side
                mid = after
                z_f = e_f * z_f + new_f * x_f
                z_s = e_s * z_s + new_s * x_s
            row.slot_vwap_bps = vwap * side / n_sub
        at = n % history
        recent_sum += vol * vol - recent[at]
        recent[at] = vol * vol
        last_vol = vol
        shock_left *= shock_decay


@compiled
def _draw_quote_states(rules: Rules, b: Batch, e: int) -> None:
    """Locked and crossed quotes, slot by slot; and a halt: no quote and no trade for a spell of the order."""
    settings = rules.settings[0]
    ep, tape = b.episode[e], b.tape
    key = derive(ep.key, STREAM_EVENT)
    for n in range(ep.n_slots):
        u = uniform(key, 1000 + n, EVENT_QUOTE)
        if u < settings.locked_prob:
            tape[e, n].quote_state = float(QUOTE_LOCKED)
        elif u < settings.locked_prob + settings.crossed_prob:
            tape[e, n].quote_state = float(QUOTE_CROSSED)
    if uniform(key, EVENT_HALT, 0) >= settings.halt_prob:
        return
    first = int(uniform(key, EVENT_HALT, 1) * ep.n_slots)
    shortest, longest = settings.halt_s[0], settings.halt_s[1]
    length_s = shortest + uniform(key, EVENT_HALT, 2) * (longest - shortest)
    last = first + max(1, int(round(length_s / settings.interval_s)))
    # an order that is halted throughout would have no VWAP: one slot of it trades
    for n in range(max(first, 1 if last >= ep.n_slots else 0), min(last, ep.n_slots)):
        row = tape[e, n]
        row.quote_state, row.volume_shares, row.dark_flow_shares = float(QUOTE_NONE), 0.0, 0.0


@compiled
def finish_tape(rules: Rules, b: Batch, e: int) -> None:
    """Benchmark weights, suffix sums and the schedule; needs volumes, mids and forecasts (synthetic or replayed)."""
    settings = rules.settings[0]
    ep, tape = b.episode[e], b.tape
    n_slots = ep.n_slots
    total, value, forecast = 0.0, 0.0, 0.0
    for n in range(n_slots):
        row = tape[e, n]
        total += row.volume_shares
        value += row.volume_shares * row.slot_vwap_bps
        forecast += row.forecast_shares
    ep.market_volume = total
    ep.market_vwap_bps = value / total
    left, price_left, mart_left = 0.0, 0.0, 0.0
    for n in range(n_slots, n_slots + settings.n_after):
        row = tape[e, n]
        row.volume_left_frac, row.benchmark_left, row.martingale_left = 0.0, 0.0, 0.0
    for n in range(n_slots - 1, -1, -1):
        row = tape[e, n]
        frac = row.volume_shares / total if settings.vwap_benchmark else 0.0
        left += frac
        price_left += frac * row.slot_vwap_bps
        mart_left += row.eps_bps * (0.5 * frac - left) if ep.n_sub == 1 else 0.0
        row.volume_left_frac, row.benchmark_left, row.martingale_left = left, price_left, mart_left
    _write_schedule(rules, b, e, forecast)


@compiled
def _write_schedule(rules: Rules, b: Batch, e: int, to_come: float) -> None:
    """Share of the order still to do now and after the slot: forecast volume `to_come` over seen plus to come.

    With `follow_volume` the forecast of what is to come is scaled by seen over expected, shrunk to 1 with the weight of
    15 % of the horizon's volume; only volume before the slot enters.
    """
    settings = rules.settings[0]
    ep, tape = b.episode[e], b.tape
    prior = 0.15 * to_come
    seen, expected = 0.0, 0.0
    follow = settings.follow_volume
    for n in range(ep.n_slots):
        row = tape[e, n]
        after = to_come - row.forecast_shares
        share = 1.0 / (expected + to_come)
        if follow:
            scale = (seen + prior) / (expected + prior)
            share = scale / (seen + to_come * scale)
        row.schedule_now = to_come * share
        row.schedule_next = max(0.0, after * share) if n < ep.n_slots - 1 else 0.0
        to_come = after
        seen += row.volume_shares
        expected += row.forecast_shares
    for n in range(ep.n_slots, ep.n_slots + settings.n_after):
        tape[e, n].schedule_now = 0.0
        tape[e, n].schedule_next = 0.0
