"""The compiled step: one interval of one parent order. The batch loops over it; the single environment is a batch of 1.

Order inside a slot: pings and the node part of rests at t_n, lit take at t_n, then rests and posts until t_{n+1}, then
the close of the slot (impact, leak, scorecards, accounts). Equations: market model, sections 2.3, 3 and 5. All prices
are in bps of the arrival mid; `s` is the client's side; costs are positive when they hurt.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled
from .counter_rng import derive, exponential, normal, uniform
from .scorecard import record_fills
from .state import (
    ADVERSE,
    DISPLAY,
    FEE,
    IN_SLOT,
    INSTANT,
    LEAK,
    LEFTOVER,
    NODE,
    PERMANENT,
    PING,
    POST,
    REST,
    SPREAD,
    TAKE,
    TIMING,
    TRANSIENT,
    Batch,
    Row,
)
from .venues import UNLIMITED_SHARES, Rules

# What a venue draws in a slot, by index within the counter: blocks far apart, because a Poisson count has no cap.
_STOCK_GAP, _STOCK_SIZE, _FLOW_GAP, _FLOW_SIZE, _FLOW_ALPHA, _LEFTOVER_STAYS, _ONE_SHOT, _REGIME = range(8)
_KAPPA_CAP = 2.5


@compiled
def start_order(rules: Rules, b: Batch, e: int) -> None:
    """A fresh parent: nothing done, no pool visited, no impact."""
    order = b.order[e]
    order.slot, order.remaining_shares, order.active = 0, b.episode[e].shares, 1
    order.transient_1, order.transient_2, order.leak_1, order.leak_2 = 0.0, 0.0, 0.0, 0.0
    order.executed_adv, order.display_bps = 0.0, 0.0
    order.take_shares, order.post_shares, order.dark_shares = 0, 0, 0
    order.reward_bps, order.martingale_bps, order.penalty_bps, order.cost_bps = 0.0, 0.0, 0.0, 0.0
    order.martingale_sum_bps = 0.0
    order.own_weighted_mid_bps, order.affected_volume_bps = 0.0, 0.0
    b.cost_bps[e, :] = 0.0
    for v in range(rules.n_venues):
        state = b.venue_state[e, v]
        state.last_visit_s, state.leftover_shares, state.last_filled_frac = -math.inf, 0, 0.0
        state.regime = 0
        if b.venue[e, v].has_regime == 1:
            state.regime = 1 if uniform(derive(b.venue[e, v].key, _REGIME), 0, 0) < 0.5 else -1
        for card in range(b.pending.shape[2]):
            for i in range(b.pending.shape[3]):
                b.pending[e, v, card, i].count = 0
                b.pending[e, v, card, i].mid_bps_sum = 0.0
    for r in range(b.total.shape[1]):
        total = b.total[e, r]
        total.attempts, total.filled_orders, total.routed_shares, total.filled_shares = 0, 0, 0, 0


@compiled
def toxicity(rules: Rules, b: Batch, e: int, v: int, kappa: float) -> float:
    """Tilt of the venue in this slot: kappa (sigma_n / sigma)^nu times the regime's factor, capped."""
    vol_ratio = b.tape[e, b.order[e].slot].vol_bps / max(b.episode[e].vol_bps, 1e-12)
    factor = vol_ratio**rules.toxicity_vol_exponent
    regime = b.venue_state[e, v].regime
    if regime != 0:
        factor *= rules.regime_factors[1] if regime > 0 else rules.regime_factors[0]
    return min(kappa * factor, _KAPPA_CAP)


@compiled
def supply_rate(rules: Rules, b: Batch, e: int, v: int) -> float:
    """Contra orders a second before any tilt (market model, equation 2; for posts the first factor of equation 6)."""
    ep, ven = b.episode[e], b.venue[e, v]
    row = b.tape[e, b.order[e].slot]
    rate = ven.supply_frac * row.volume_shares / rules.interval_s / ven.mean_size_shares
    if v >= rules.n_lit:
        rate *= row.supply_factor
        if ep.half_spread_bps > 0.0:
            rate *= (row.half_spread_bps / ep.half_spread_bps) ** rules.supply_spread_exponent
        rate *= (row.vol_bps / max(ep.vol_bps, 1e-12)) ** rules.supply_vol_exponent
    return rate


@compiled
def node_tilt(rules: Rules, b: Batch, e: int, v: int) -> float:
    """Factor on the rate of orders standing at t_n: both alphas (synthetic) or the forward move (replay)."""
    ep, ven = b.episode[e], b.venue[e, v]
    row = b.tape[e, b.order[e].slot]
    if ep.replayed == 1:
        return math.exp(-ven.theta_node * ep.side * row.slow_z - ven.log_norm_node)
    k_f, k_s = toxicity(rules, b, e, v, ven.kappa_fast), toxicity(rules, b, e, v, ven.kappa_slow)
    return math.exp(-k_f * ep.side * row.fast_z - 0.5 * k_f * k_f - k_s * ep.side * row.slow_z - 0.5 * k_s * k_s)


@compiled
def slot_tilt(rules: Rules, b: Batch, e: int, v: int) -> float:
    """Factor on the rate of orders arriving inside the slot: the slow part alone; the fast part is in their prints."""
    ep, ven = b.episode[e], b.venue[e, v]
    row = b.tape[e, b.order[e].slot]
    if ep.replayed == 1:
        return math.exp(-ven.theta_slot * ep.side * row.slow_z - ven.log_norm_slot)
    k_s = toxicity(rules, b, e, v, ven.kappa_slow)
    return math.exp(-k_s * ep.side * row.slow_z - 0.5 * k_s * k_s)


@compiled
def draw_size(rules: Rules, b: Batch, e: int, v: int, u: float) -> int:
    """Contra size in shares by inverting the venue's cumulative law."""
    n = b.venue[e, v].n_sizes
    if n == 0:
        return UNLIMITED_SHARES
    cdf = b.sizes[e, v]
    lo, hi = 0, n - 1
    while lo < hi:
        middle = (lo + hi) // 2
        if cdf[middle] < u:
            lo = middle + 1
        else:
            hi = middle
    return (lo + 1) * rules.lot_shares


@compiled
def matched(leaves: int, contra: int, min_quantity: int) -> int:
    """Shares of one match: nothing unless it reaches min(minimum quantity, own leaves)."""
    print_shares = min(leaves, contra)
    return print_shares if print_shares >= min(min_quantity, leaves) else 0


@compiled
def meet_standing(rules: Rules, b: Batch, e: int, v: int, leaves: int) -> int:
    """Shares filled at t_n against what stands in pool `v`: the leftover of the contra met last, then fresh orders.

    Fresh orders since the last visit, a seconds ago, are Poisson(rate x tilt x life (1 - e^(-a/life))): a visitor who
    takes what he meets finds little more by coming back at once (market model, 2.3).
    """
    ven, state = b.venue[e, v], b.venue_state[e, v]
    n = b.order[e].slot
    if rules.one_shot:
        u = uniform(derive(ven.key, _ONE_SHOT), n, 0)
        if u < ven.zero_prob:
            return 0
        contra = draw_size(rules, b, e, v, (u - ven.zero_prob) / (1.0 - ven.zero_prob))
        return matched(leaves, contra, ven.min_quantity_shares)
    now_s = n * rules.interval_s
    age_s = now_s - state.last_visit_s
    survival = math.exp(-age_s / ven.life_s)
    filled = 0
    if state.leftover_shares > 0 and uniform(derive(ven.key, _LEFTOVER_STAYS), n, 0) < survival:
        got = matched(leaves, state.leftover_shares, ven.min_quantity_shares)
        filled += got
        state.leftover_shares -= got
    else:
        state.leftover_shares = 0
    mean = supply_rate(rules, b, e, v) * node_tilt(rules, b, e, v) * ven.life_s * (1.0 - survival)
    gap_key, size_key = derive(ven.key, _STOCK_GAP), derive(ven.key, _STOCK_SIZE)
    clock, i = exponential(gap_key, n, 0), 0
    while clock < mean and filled < leaves:
        contra = draw_size(rules, b, e, v, uniform(size_key, n, i))
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            state.leftover_shares = contra - got
        i += 1
        clock += exponential(gap_key, n, i)
    return filled


@compiled
def meet_arrivals(
    rules: Rules, b: Batch, e: int, v: int, leaves: int, mean: float, gamma_bps: float
) -> tuple[int, float]:
    """Shares filled inside the slot by Poisson(mean) contra orders, and the sum of shares x own fast alpha, bps.

    Each arrival draws its own tilted fast alpha a ~ N(-s gamma, sigma_f^2) (market model, section 1); only the part
    that the arrival's tilt displaces is kept, its mean, plus noise.
    """
    ep, ven, state = b.episode[e], b.venue[e, v], b.venue_state[e, v]
    n = b.order[e].slot
    gap_key, size_key = derive(ven.key, _FLOW_GAP), derive(ven.key, _FLOW_SIZE)
    alpha_key = derive(ven.key, _FLOW_ALPHA)
    filled, alpha_sum = 0, 0.0
    clock, i = exponential(gap_key, n, 0), 0
    while clock < mean and filled < leaves:
        contra = draw_size(rules, b, e, v, uniform(size_key, n, i))
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            alpha_sum += got * ep.side * (ep.sigma_fast_bps * normal(alpha_key, n, i) - gamma_bps)
            state.leftover_shares = contra - got
        i += 1
        clock += exponential(gap_key, n, i)
    return filled, alpha_sum


@compiled
def _fill_dark(rules: Rules, b: Batch, e: int, r: int) -> None:
    """Ping or rest: node fills at M_n; a rest's later fills at B_n less the arrival's own alpha."""
    ep, v = b.episode[e], rules.route_venue[r]
    ven, state, row = b.venue[e, v], b.venue_state[e, v], b.tape[e, b.order[e].slot]
    sent = b.child_shares[e, r]
    node = meet_standing(rules, b, e, v, sent)
    b.fill_shares[e, r, NODE] = node
    b.fill_mid_bps[e, r, NODE] = row.mid_bps
    end_s = b.order[e].slot * rules.interval_s
    if rules.route_type[r] == REST and not rules.one_shot:
        end_s += rules.interval_s
        if node < sent:
            mean = supply_rate(rules, b, e, v) * rules.interval_s * slot_tilt(rules, b, e, v)
            gamma = toxicity(rules, b, e, v, ven.kappa_fast) * ep.sigma_fast_bps
            inside, alpha_sum = meet_arrivals(rules, b, e, v, sent - node, mean, gamma)
            b.fill_shares[e, r, IN_SLOT] = inside
            if inside > 0:
                b.fill_mid_bps[e, r, IN_SLOT] = row.base_bps - alpha_sum / inside
    state.last_visit_s = end_s
    state.last_filled_frac = (b.fill_shares[e, r, NODE] + b.fill_shares[e, r, IN_SLOT]) / sent


@compiled
def _fill_post(rules: Rules, b: Batch, e: int, r: int) -> None:
    """Pegged post: flow (6), fewer fills when the price runs our way; print at B_n + eps/2 - a less the half spread."""
    ep, v = b.episode[e], rules.route_venue[r]
    ven, row = b.venue[e, v], b.tape[e, b.order[e].slot]
    vol_ratio = (row.vol_bps / max(ep.vol_bps, 1e-12)) ** rules.toxicity_vol_exponent
    run, fast = ven.gamma_run_bps * vol_ratio, ven.gamma_fast_bps * vol_ratio
    tilt = 1.0
    if row.eps_var > 0.0:
        theta = 2.0 * run / row.eps_var
        tilt = math.exp(-theta * ep.side * row.eps_bps - 0.5 * theta * theta * row.eps_var)
    mean = supply_rate(rules, b, e, v) * rules.interval_s * slot_tilt(rules, b, e, v) * tilt
    filled, alpha_sum = meet_arrivals(rules, b, e, v, b.child_shares[e, r], mean, fast)
    b.fill_shares[e, r, IN_SLOT] = filled
    if filled > 0:
        b.fill_mid_bps[e, r, IN_SLOT] = row.base_bps + 0.5 * row.eps_bps - alpha_sum / filled


@compiled
def market_step(rules: Rules, b: Batch, e: int) -> None:
    """Work the released children of row `e` for one slot and move the order to the next."""
    order = b.order[e]
    b.fill_shares[e, :, :] = 0
    b.fill_mid_bps[e, :, :] = 0.0
    _advance_regimes(rules, b, e)
    for r in range(rules.route_type.shape[0]):
        if b.child_shares[e, r] == 0:
            continue
        kind = rules.route_type[r]
        if kind == TAKE:
            b.fill_shares[e, r, NODE] = b.child_shares[e, r]
            b.fill_mid_bps[e, r, NODE] = b.tape[e, order.slot].mid_bps
        elif kind == POST:
            _fill_post(rules, b, e, r)
        else:
            _fill_dark(rules, b, e, r)
    record_fills(rules, b, e, order.slot)
    _account(rules, b, e)


@compiled
def _advance_regimes(rules: Rules, b: Batch, e: int) -> None:
    """Hidden toxicity may switch at every 300 s of the order."""
    n = b.order[e].slot
    per_block = max(1, int(round(300.0 / rules.interval_s)))
    if n == 0 or n % per_block != 0:
        return
    for v in range(rules.n_lit, rules.n_venues):
        state = b.venue_state[e, v]
        if state.regime != 0 and uniform(derive(b.venue[e, v].key, _REGIME), n, 1) >= rules.regime_stay:
            state.regime = -state.regime


@compiled
def _account(rules: Rules, b: Batch, e: int) -> None:
    """Price the slot's fills, update impact, and write reward, martingale part and penalties."""
    ep, order = b.episode[e], b.order[e]
    n = order.slot
    row, next_mid = b.tape[e, n], b.tape[e, n + 1].mid_bps
    s, size = ep.side, float(ep.shares)
    cost = np.zeros(b.cost_bps.shape[1])
    take, post, dark, lost, node_shares, rest_inside = 0, 0, 0, 0.0, 0, 0
    pull, shock, own_mid = 0.0, 0.0, 0.0
    for r in range(rules.route_type.shape[0]):
        sent = b.child_shares[e, r]
        if sent == 0:
            continue
        kind, ven = rules.route_type[r], b.venue[e, rules.route_venue[r]]
        node, inside = b.fill_shares[e, r, NODE], b.fill_shares[e, r, IN_SLOT]
        filled = node + inside
        mid_sum = node * b.fill_mid_bps[e, r, NODE] + inside * b.fill_mid_bps[e, r, IN_SLOT]
        own_mid += mid_sum
        against_close = s * (mid_sum - filled * next_mid)
        node_shares += node
        if kind == TAKE:
            take += filled
            cost[SPREAD] += filled * row.half_spread_bps
            cost[FEE] += filled * ven.take_fee_bps
            cost[TIMING] += against_close
        elif kind == POST:
            post += filled
            pull += rules.display_leak_frac * row.half_spread_bps * sent / (sent + ep.depth_shares)
            cost[SPREAD] -= filled * row.half_spread_bps
            cost[FEE] += filled * ven.post_fee_bps
            cost[ADVERSE] += against_close
            fast = ven.gamma_fast_bps * (row.vol_bps / max(ep.vol_bps, 1e-12)) ** rules.toxicity_vol_exponent
            shock += s * (mid_sum - inside * (row.base_bps + 0.5 * row.eps_bps)) - inside * fast
        else:
            dark += filled
            rest_inside += inside
            lost += ven.leak_weight * (sent - filled) if kind == PING else 0.0
            cost[FEE] += filled * ven.take_fee_bps
            cost[ADVERSE] += filled * ven.adverse_charge_bps if rules.expected_accounting else against_close
            if inside > 0:
                fast = toxicity(rules, b, e, rules.route_venue[r], ven.kappa_fast) * ep.sigma_fast_bps
                shock += s * inside * (b.fill_mid_bps[e, r, IN_SLOT] - row.base_bps) - inside * fast
        total = b.total[e, r]
        total.attempts += 1
        total.filled_orders += 1 if filled > 0 else 0
        total.routed_shares += sent
        total.filled_shares += filled
    filled_all = take + post + dark
    left = order.remaining_shares - filled_all
    last = n == ep.n_slots - 1
    instant_bps = _instant_bps(rules, ep, row, float(take))
    cost[INSTANT] = take * instant_bps
    leaves = left if last and not rules.leftover_charged else 0
    effective = take + post + rules.dark_weight * dark + leaves
    _impact(rules, ep, order, row, effective, filled_all + leaves, pull, lost, cost, b.fill_extra_bps[e])
    if leaves > 0:  # a control forbade completion: cost what is left as a take at the end mid
        cost[LEFTOVER] += leaves * (row.half_spread_bps + _instant_bps(rules, ep, row, float(leaves)))
    elif last and left > 0:
        lots = left / rules.lot_shares
        cost[LEFTOVER] += rules.lot_shares * (
            rules.leftover_linear_bps * lots + rules.leftover_quadratic_bps * lots * lots
        )
    carry = order.remaining_shares / size - row.volume_left_frac
    frac = row.volume_left_frac - b.tape[e, n + 1].volume_left_frac
    if not rules.expected_accounting:
        cost[TIMING] += size * s * (carry * (next_mid - row.mid_bps) - frac * (row.slot_vwap_bps - next_mid))
    order.martingale_bps = s * row.eps_bps * (carry + 0.5 * frac - (node_shares + rest_inside) / size) + shock / size
    order.take_shares += take
    order.post_shares += post
    order.dark_shares += dark
    order.own_weighted_mid_bps += own_mid
    order.remaining_shares = left
    order.slot = n + 1
    if left == 0 or last:
        order.active = 0
        if not last:  # done early: what the benchmark still does
            rest = b.tape[e, n + 1]
            cost[TIMING] -= size * s * (rest.benchmark_left - rest.volume_left_frac * next_mid)
            order.martingale_bps += s * rest.martingale_left
    order.martingale_sum_bps += order.martingale_bps
    b.fill_extra_bps[e, 1] = instant_bps
    b.fill_extra_bps[e, 3] = row.half_spread_bps
    slot_cost = 0.0
    for c in range(cost.shape[0]):
        b.cost_bps[e, c] += cost[c] / size
        slot_cost += cost[c] / size
    target = 0.0 if rules.track_to_zero else b.tape[e, n].schedule_next
    deviation = left / size - target
    off_schedule = deviation * deviation
    if left == 0 and rules.tracking_bps > 0.0 and not rules.track_to_zero:
        for k in range(n + 1, ep.n_slots):  # done early: ahead of the schedule in every slot to come
            off_schedule += b.tape[e, k].schedule_next ** 2
    order.penalty_bps = rules.tracking_bps * off_schedule
    order.cost_bps += slot_cost
    order.reward_bps = -slot_cost


@compiled
def _instant_bps(rules: Rules, ep: Row, row: Row, take: float) -> float:
    """eta sigma_d m_sigma (x / V_n)^b, the slot's takes together (splitting them over venues saves nothing)."""
    if take <= 0.0:
        return 0.0
    volume = max(row.volume_shares, 1e-9 if rules.slot_volumes.shape[0] > 0 else float(rules.lot_shares))
    return rules.eta * ep.daily_vol_bps * row.vol_curve * (take / volume) ** rules.exponent


@compiled
def _impact(
    rules: Rules, ep: Row, order: Row, row: Row, effective: float, paying: int, pull: float, lost: float,
    cost: np.ndarray, extra: np.ndarray,
) -> None:  # fmt: skip
    """Charge the slot's `paying` shares for impact and leak, then move the kernels (equation 4)."""
    adv = float(ep.adv_shares)
    scale = ep.daily_vol_bps / adv
    w_1, w_2 = rules.weight_1, rules.weight_2
    transient = order.transient_1 + order.transient_2 + 0.5 * (w_1 + w_2) * scale * effective
    permanent = ep.permanent_coef * (order.executed_adv + 0.5 * effective / adv)
    leak = order.leak_1 + order.leak_2
    displayed = order.display_bps * rules.display_decay + pull * (1.0 - rules.display_decay)
    display = 0.5 * (order.display_bps + displayed)
    cost[TRANSIENT] += paying * transient
    cost[PERMANENT] += paying * permanent
    cost[LEAK] += paying * leak
    cost[DISPLAY] += paying * display
    extra[0] = transient + permanent + leak
    extra[2] = display
    order.affected_volume_bps += row.volume_shares * (transient + permanent + leak + display)
    order.transient_1 = (order.transient_1 + w_1 * scale * effective) * rules.decay_1
    order.transient_2 = (order.transient_2 + w_2 * scale * effective) * rules.decay_2
    order.leak_1 = (order.leak_1 + w_1 * scale * lost) * rules.decay_1
    order.leak_2 = (order.leak_2 + w_2 * scale * lost) * rules.decay_2
    order.executed_adv += effective / adv
    order.display_bps = displayed


__all__ = ["market_step", "matched", "start_order"]
