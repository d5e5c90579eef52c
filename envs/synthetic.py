"""The calibrated generator: one episode's stock, venues, order and tape from (market, seed, episode number).

Mid and alphas follow the market model, section 1, in its in-slot form with one sub-step a slot (K = 1): the fast alpha
of a node is spent inside its slot, so the price base of in-slot fills is B = M + A_f (1 - E_f).
Signed noise is drawn for a buyer and multiplied by the side, so a mirrored episode is mirrored exactly.
"""

from __future__ import annotations

import math

import numpy as np

from ..configs.market import N_CURVE_BINS, SESSION_S
from .compiled import compiled
from .counter_rng import derive, gamma, log_uniform, normal, uniform
from .scorecard import open_scorecards
from .state import Batch, Row
from .venues import UNLIMITED_SHARES, Rules

STREAM_ORDER, STREAM_STOCK, STREAM_VENUE, STREAM_MID, STREAM_VOLUME, STREAM_NOISE, STREAM_SHUFFLE = range(7)
_BIN_S = 300.0
_MAX_VENUES = 64


@compiled
def draw_episode(rules: Rules, stream_key: np.uint64, number: int, b: Batch, e: int) -> None:
    """Fill episode, venues, size laws and opening scorecards of row `e`; the tape comes after."""
    ep = b.episode[e]
    ep.key = derive(stream_key, number)
    ep.number = number
    ep.replayed, ep.day = 0, 0
    _draw_stock(rules, ep)
    _draw_order(rules, ep)
    draw_venues(rules, b, e)


@compiled
def _draw_stock(rules: Rules, ep: Row) -> None:
    key = derive(ep.key, STREAM_STOCK)
    u = uniform(key, 0, 0)
    index = 0
    while index < rules.stock.shape[0] - 1 and u >= rules.stock[index].cum_prob:
        index += 1
    stock = rules.stock[index]
    spread_factor, vol_factor = 1.0, 1.0
    if rules.randomise:
        spread_factor = math.exp(rules.spread_log_sd * normal(key, 0, 1))
        vol_factor = math.exp(rules.vol_log_sd * normal(key, 0, 2))
    ep.stock = index
    ep.price_usd = stock.price_usd
    ep.tick_usd = stock.tick_usd
    ep.adv_shares = stock.adv_shares
    ep.half_spread_bps = stock.half_spread_bps * spread_factor
    ep.daily_vol_bps = stock.daily_vol_bps * vol_factor
    ep.vol_bps = ep.daily_vol_bps / math.sqrt(float(SESSION_S))
    ep.depth_shares = stock.depth_shares
    ep.permanent_coef = rules.gamma * ep.daily_vol_bps * stock.outstanding_over_adv**0.25
    ep.sigma_fast_bps = stock.sigma_fast_bps * vol_factor
    ep.tau_fast_s = stock.tau_fast_s
    ep.sigma_slow_bps = stock.sigma_slow_bps * vol_factor
    ep.tau_slow_s = stock.tau_slow_s
    ep.signal_fast = stock.signal_fast
    ep.signal_slow = stock.signal_slow
    ep.vol_floor_frac = stock.vol_floor_frac
    ep.nbbo_moves_per_10s = stock.nbbo_moves_per_10s
    ep.size_scale = stock.size_scale


@compiled
def _draw_order(rules: Rules, ep: Row) -> None:
    key = derive(ep.key, STREAM_ORDER)
    dt = rules.interval_s
    if rules.side == 0:
        ep.side = 1.0 if uniform(key, 0, 0) < 0.5 else -1.0
    else:
        ep.side = float(rules.side)
    if rules.slot_volumes.shape[0] > 0:
        ep.n_slots = rules.slot_volumes.shape[0]
        ep.start_s = 0.0
        ep.expected_volume = rules.slot_volumes.sum()
        ep.shares = rules.fixed_shares
        return
    u = uniform(key, 0, 1)
    index = 0
    while index < rules.horizon_s.shape[0] - 1 and u >= rules.horizon_cum[index]:
        index += 1
    ep.n_slots = int(round(rules.horizon_s[index] / dt))
    latest = int(round(SESSION_S / dt)) - ep.n_slots
    if rules.fixed_start_s >= 0.0:
        ep.start_s = rules.fixed_start_s
    else:
        ep.start_s = dt * math.floor(uniform(key, 0, 2) * (latest + 1))
    ep.expected_volume = expected_volume(rules, ep, ep.start_s, ep.start_s + ep.n_slots * dt)
    if rules.fixed_shares > 0:
        ep.shares = rules.fixed_shares
    else:
        part = log_uniform(uniform(key, 0, 3), rules.participation[0], rules.participation[1])
        ep.shares = max(rules.lot_shares, int(part * ep.expected_volume))


@compiled
def expected_volume(rules: Rules, ep: Row, from_s: float, to_s: float) -> float:
    """ADV times the volume curve between two times of the session, shares."""
    curve = rules.stock[ep.stock].volume_curve
    total = 0.0
    for k in range(int(from_s / _BIN_S), min(N_CURVE_BINS, int(math.ceil(to_s / _BIN_S)))):
        overlap = min(to_s, (k + 1) * _BIN_S) - max(from_s, k * _BIN_S)
        total += curve[k] * max(0.0, overlap) / _BIN_S
    return total * ep.adv_shares


@compiled
def draw_venues(rules: Rules, b: Batch, e: int) -> None:
    """Venue quality of the episode: archetypes permuted over the venue names, then jittered (market model, 7)."""
    ep = b.episode[e]
    n_dark = rules.n_venues - rules.n_lit
    order = np.arange(max(1, rules.dark.shape[0]))
    if rules.permute:
        key = derive(ep.key, STREAM_SHUFFLE)
        for i in range(order.shape[0] - 1):
            j = i + int(uniform(key, 0, i) * (order.shape[0] - i))
            order[i], order[j] = order[j], order[i]
    for v in range(rules.n_venues):
        ven = b.venue[e, v]
        ven.key = derive(ep.key, STREAM_VENUE) ^ rules.venue_key[v]
        if v < rules.n_lit:
            _draw_lit(rules, ep, ven, v)
        else:
            _draw_dark(rules, ep, ven, order[v - rules.n_lit] if n_dark > 0 else 0)
        _size_law(rules, ep, ven, b.sizes[e, v])
    open_scorecards(rules, b, e)


@compiled
def _mils_to_bps(mils: float, price_usd: float) -> float:
    return mils / price_usd  # $0.0001 over dollars, in 1e-4


@compiled
def _draw_lit(rules: Rules, ep: Row, ven: Row, v: int) -> None:
    arch = rules.lit[v]
    pnl_hs = rules.post_pnl_hs[ep.stock, v]
    flow, take_mils, post_mils, beta = 1.0, arch.take_fee_mils, arch.post_fee_mils, arch.size_beta
    if rules.randomise:
        pnl_hs += rules.pnl_jitter_hs * (2.0 * uniform(ven.key, 0, 0) - 1.0)
        flow = log_uniform(uniform(ven.key, 0, 1), rules.flow_range[0], rules.flow_range[1])
        shift = rules.fee_jitter_mils * (2.0 * uniform(ven.key, 0, 2) - 1.0)
        take_mils, post_mils = min(30.0, take_mils + shift), min(30.0, post_mils + shift)
    ven.archetype = v
    ven.supply_frac = arch.supply_frac * flow
    ven.kappa_slow = arch.kappa_slow
    ven.kappa_fast = 0.0
    gamma_10 = ep.half_spread_bps * (1.0 - pnl_hs)
    slow_10 = arch.kappa_slow * ep.sigma_slow_bps * -math.expm1(-10.0 / ep.tau_slow_s)
    ven.gamma_run_bps = arch.run_share * gamma_10
    ven.gamma_fast_bps = max(0.0, gamma_10 - ven.gamma_run_bps - slow_10)
    ven.size_beta = beta
    ven.n_sizes = max(1, int(round(arch.size_max_lots * ep.size_scale)))
    ven.take_fee_bps = _mils_to_bps(take_mils, ep.price_usd)
    ven.post_fee_bps = _mils_to_bps(post_mils, ep.price_usd)
    ven.min_quantity_shares = 0
    ven.leak_weight = 0.0
    ven.has_regime = 0


@compiled
def _draw_dark(rules: Rules, ep: Row, ven: Row, a: int) -> None:
    arch = rules.dark[a]
    key = ven.key
    ven.archetype = a
    ven.life_s = arch.life_s
    ven.supply_frac, ven.size_beta, ven.leak_weight = arch.supply_frac, arch.size_beta, arch.leak_weight
    ven.kappa_fast, ven.kappa_slow = arch.kappa_fast, arch.kappa_slow
    fee_mils, lots = arch.take_fee_mils, arch.min_quantity_lots
    ven.has_regime = 0
    if rules.randomise:
        ven.supply_frac *= log_uniform(uniform(key, 0, 0), rules.supply_range[0], rules.supply_range[1])
        if uniform(key, 0, 1) < rules.independent_prob:
            fast, slow = rules.kappa_fast_range, rules.kappa_slow_range
            ven.kappa_fast = fast[0] + uniform(key, 0, 2) * (fast[1] - fast[0])
            ven.kappa_slow = slow[0] + uniform(key, 0, 3) * (slow[1] - slow[0])
        else:
            ven.kappa_fast *= 1.0 + rules.toxicity_jitter * (2.0 * uniform(key, 0, 2) - 1.0)
            ven.kappa_slow *= 1.0 + rules.toxicity_jitter * (2.0 * uniform(key, 0, 3) - 1.0)
        ven.leak_weight = 0.0
        if uniform(key, 0, 4) >= rules.leak_zero_prob:
            ven.leak_weight = log_uniform(uniform(key, 0, 5), rules.leak_range[0], rules.leak_range[1])
        ven.size_beta += rules.beta_jitter * (2.0 * uniform(key, 0, 6) - 1.0)
        n = rules.min_quantity_lots.shape[0]
        lots = rules.min_quantity_lots[min(n - 1, int(uniform(key, 0, 7) * n))]
        fee_mils = min(30.0, fee_mils + rules.fee_jitter_mils * (2.0 * uniform(key, 0, 8) - 1.0))
        ven.has_regime = 1 if uniform(derive(ep.key, STREAM_STOCK), 0, 3) < rules.regime_prob else 0
    ven.min_quantity_shares = lots * rules.lot_shares
    ven.n_sizes = 0 if arch.size_max_lots == 0 else max(1, int(round(arch.size_max_lots * ep.size_scale)))
    ven.take_fee_bps = _mils_to_bps(fee_mils, ep.price_usd)
    ven.post_fee_bps = 0.0
    ven.gamma_run_bps = 0.0
    ven.gamma_fast_bps = 0.0
    ven.zero_prob = arch.zero_prob
    ven.adverse_charge_bps = arch.adverse_charge_bps


@compiled
def _size_law(rules: Rules, ep: Row, ven: Row, cdf: np.ndarray) -> None:
    """Cumulative law Pr[S <= k] of Pr[S = k] ~ k^-beta, k = 1..n_sizes lots, and its mean in shares."""
    if ven.n_sizes == 0:
        ven.mean_size_shares = float(UNLIMITED_SHARES)
        return
    total, moment = 0.0, 0.0
    for k in range(1, ven.n_sizes + 1):
        weight = math.exp(-ven.size_beta * math.log(k))
        total += weight
        moment += weight * k
        cdf[k - 1] = total
    for k in range(ven.n_sizes):
        cdf[k] /= total
    cdf[ven.n_sizes - 1] = 1.0
    ven.mean_size_shares = moment / total * rules.lot_shares


@compiled
def generate_tape(rules: Rules, b: Batch, e: int) -> None:
    """Fill the tape of row `e`: volume, then mid and signals, then benchmark and schedule."""
    if rules.slot_volumes.shape[0] > 0:
        _fixed_rows(rules, b, e)
    else:
        _draw_volume(rules, b, e)
        _draw_mid(rules, b, e)
    finish_tape(rules, b, e)


@compiled
def _fixed_rows(rules: Rules, b: Batch, e: int) -> None:
    """A motionless market with stated volumes: problems with a known optimum."""
    ep = b.episode[e]
    for n in range(ep.n_slots + rules.n_after):
        row = b.tape[e, n]
        row.half_spread_bps = ep.half_spread_bps
        row.volume_shares = rules.slot_volumes[min(n, ep.n_slots - 1)]
        row.forecast_shares = row.volume_shares
        row.vol_bps = ep.vol_bps
        row.vol_curve, row.supply_factor, row.vol_ratio, row.eps_var = 1.0, 1.0, 1.0, 1.0


@compiled
def _draw_volume(rules: Rules, b: Batch, e: int) -> None:
    """Dirichlet over five-minute bins, shared among the slots of a bin log-normally; forecast = ADV x curve."""
    ep, dt = b.episode[e], rules.interval_s
    curve = rules.stock[ep.stock].volume_curve
    key = derive(ep.key, STREAM_VOLUME)
    sd = rules.day_volume_log_sd
    day = ep.adv_shares * math.exp(sd * normal(key, 0, 0) - 0.5 * sd * sd)
    shares = np.zeros(N_CURVE_BINS)
    for k in range(N_CURVE_BINS):
        shares[k] = gamma(key, 1 + k, max(1e-9, rules.volume_concentration * curve[k]))
    shares *= day / shares.sum()
    first = int(round(ep.start_s / dt))
    per_bin = max(1, int(round(_BIN_S / dt)))
    supply_key = derive(key, 1)
    sd_g, rho = rules.supply_noise
    load = rules.supply_volume_load
    state = normal(supply_key, 0, 0)
    weight_bin, weight_total = -1, 1.0
    for n in range(ep.n_slots):
        k = min(N_CURVE_BINS - 1, int((ep.start_s + n * dt) / _BIN_S))
        row = b.tape[e, n]
        surprise = normal(key, 1000 + first + n, 0)
        if dt <= _BIN_S:
            if k != weight_bin:
                weight_bin, weight_total = k, 0.0
                for j in range(k * per_bin, (k + 1) * per_bin):
                    weight_total += math.exp(rules.slot_volume_log_sd * normal(key, 1000 + j, 0))
            row.volume_shares = shares[k] * math.exp(rules.slot_volume_log_sd * surprise) / weight_total
        else:
            row.volume_shares = shares[k : k + int(round(dt / _BIN_S))].sum()
        start = ep.start_s + n * dt
        row.forecast_shares = expected_volume(rules, ep, start, start + dt)
        state = rho * state + math.sqrt(1.0 - rho * rho) * normal(supply_key, 1 + n, 0)
        g = load * surprise + math.sqrt(1.0 - load * load) * state
        row.supply_factor = math.exp(sd_g * g - 0.5 * sd_g * sd_g)


@compiled
def _draw_mid(rules: Rules, b: Batch, e: int) -> None:
    """Volatility, spread, the two alphas, the mid and what of them can be seen."""
    ep, dt = b.episode[e], rules.interval_s
    stock = rules.stock[ep.stock]
    key, noise_key = derive(ep.key, STREAM_MID), derive(ep.key, STREAM_NOISE)
    sd_h, rho_h = rules.spread_noise
    sd_v, rho_v = rules.vol_noise
    e_f, e_s = math.exp(-dt / ep.tau_fast_s), math.exp(-dt / ep.tau_slow_s)
    cov_f, cov_s = (
        ep.sigma_fast_bps * e_f * math.sqrt((1 - e_f) / (1 + e_f)),
        ep.sigma_slow_bps * e_s * math.sqrt((1 - e_s) / (1 + e_s)),
    )
    white = math.sqrt(max(0.0, 1.0 - ep.signal_fast**2 - ep.signal_slow**2))
    history = int(math.ceil(300.0 / dt))
    recent = np.zeros(history)
    log_v, log_h = normal(noise_key, 0, 0), normal(noise_key, 0, 1)
    z_f, z_s, zeta = normal(key, 0, 0), normal(key, 0, 1), normal(key, 0, 2)
    mid = 0.0
    for n in range(-history, ep.n_slots + rules.n_after):
        k = min(N_CURVE_BINS - 1, max(0, int((ep.start_s + n * dt) / _BIN_S)))
        at = n + history + 1
        log_v = rho_v * log_v + math.sqrt(1.0 - rho_v * rho_v) * normal(noise_key, at, 0)
        floor = ep.vol_floor_frac * ep.vol_bps
        vol = max(floor, ep.vol_bps * stock.vol_curve[k] * math.exp(sd_v * log_v - sd_v * sd_v))
        if n >= 0:
            row = b.tape[e, n]
            reference = max(floor, ep.vol_bps * stock.vol_curve[k] * math.exp(-sd_v * sd_v))
            measured = math.sqrt(recent.mean()) * (1.0 + normal(noise_key, at, 2) / math.sqrt(600.0))
            row.vol_ratio = max(0.0, measured) / reference if reference > 0 else 1.0
            mean_moves = ep.nbbo_moves_per_10s * math.sqrt(recent[(n - 1) % history]) / max(ep.vol_bps, 1e-12)
            row.nbbo_moves = max(0.0, math.floor(mean_moves + math.sqrt(mean_moves) * normal(noise_key, at, 3) + 0.5))
            log_h = rho_h * log_h + math.sqrt(1.0 - rho_h * rho_h) * normal(noise_key, at, 1)
            row.half_spread_bps = (
                ep.half_spread_bps * stock.spread_curve[k] * math.exp(sd_h * log_h - 0.5 * sd_h * sd_h)
            )
            row.vol_bps, row.vol_curve, row.quote_state = vol, stock.vol_curve[k], 0.0
            seen = ep.signal_fast * z_f + ep.signal_slow * z_s + white * zeta
            row.imbalance = math.erf(seen * ep.side / math.sqrt(2.0))
            row.fast_z, row.slow_z = z_f * ep.side, z_s * ep.side
            row.mid_bps = mid * ep.side
            x_f, x_s, x_m = normal(key, n + 1, 0), normal(key, n + 1, 1), normal(key, n + 1, 2)
            row.eps_var = vol * vol * dt - ep.sigma_fast_bps**2 * (1 - e_f) ** 2 - ep.sigma_slow_bps**2 * (1 - e_s) ** 2
            eps = math.sqrt(max(0.0, row.eps_var - cov_f * cov_f - cov_s * cov_s)) * x_m - cov_f * x_f - cov_s * x_s
            base = mid + ep.sigma_fast_bps * z_f * (1.0 - e_f)
            row.eps_bps, row.base_bps = eps * ep.side, base * ep.side
            mid = base + ep.sigma_slow_bps * z_s * (1.0 - e_s) + eps
            z_f = e_f * z_f + math.sqrt(1.0 - e_f * e_f) * x_f
            z_s = e_s * z_s + math.sqrt(1.0 - e_s * e_s) * x_s
            zeta = e_f * zeta + math.sqrt(1.0 - e_f * e_f) * normal(key, n + 1, 3)
        recent[n % history] = vol * vol


@compiled
def finish_tape(rules: Rules, b: Batch, e: int) -> None:
    """Benchmark weights, suffix sums and the schedule; needs volumes, mids and forecasts (synthetic or replayed)."""
    ep = b.episode[e]
    n_slots = ep.n_slots
    total, value = 0.0, 0.0
    for n in range(n_slots):
        row = b.tape[e, n]
        if ep.replayed == 0:
            row.slot_vwap_bps = 0.5 * (row.mid_bps + b.tape[e, n + 1].mid_bps)
        total += row.volume_shares
        value += row.volume_shares * row.slot_vwap_bps
    ep.market_volume = total
    ep.market_vwap_bps = value / total
    left, price_left, mart_left = 0.0, 0.0, 0.0
    for n in range(n_slots, b.tape.shape[1]):
        b.tape[e, n].volume_left_frac = 0.0
        b.tape[e, n].benchmark_left = 0.0
        b.tape[e, n].martingale_left = 0.0
    for n in range(n_slots - 1, -1, -1):
        row = b.tape[e, n]
        frac = row.volume_shares / total if rules.vwap_benchmark else 0.0
        left += frac
        price_left += frac * row.slot_vwap_bps
        mart_left += row.eps_bps * (0.5 * frac - left)
        row.volume_left_frac, row.benchmark_left, row.martingale_left = left, price_left, mart_left
    _write_schedule(rules, b, e)


@compiled
def _write_schedule(rules: Rules, b: Batch, e: int) -> None:
    """Share of the order still to do now and after the slot: forecast volume to come over seen plus to come.

    With `follow_volume` the forecast of what is to come is scaled by seen over expected, shrunk to 1 with the weight of
    15 % of the horizon's volume; only volume before the slot enters.
    """
    ep = b.episode[e]
    to_come = 0.0
    for n in range(ep.n_slots):
        to_come += b.tape[e, n].forecast_shares
    prior = 0.15 * to_come
    seen, expected = 0.0, 0.0
    for n in range(ep.n_slots):
        row = b.tape[e, n]
        scale = (seen + prior) / (expected + prior) if rules.follow_volume else 1.0
        done = seen if rules.follow_volume else expected
        after = to_come - row.forecast_shares
        row.schedule_now = to_come * scale / (done + to_come * scale)
        row.schedule_next = max(0.0, after * scale / (done + to_come * scale)) if n < ep.n_slots - 1 else 0.0
        to_come = after
        seen += row.volume_shares
        expected += row.forecast_shares
    for n in range(ep.n_slots, b.tape.shape[1]):
        b.tape[e, n].schedule_now = 0.0
        b.tape[e, n].schedule_next = 0.0
