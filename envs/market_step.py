"""The compiled step: one interval of parent orders. The batch loops over it; the single environment is a batch of 1.

Order inside a slot: pings and the node part of rests at t_n, lit take at t_n, then rests and posts until t_{n+1}, then
the close of the slot (impact, leak, scorecards, accounts). Equations: market model, sections 2.3, 3 and 5. All prices
are in bps of the arrival mid; `s` is the client's side; costs are positive when they hurt.
"""

from __future__ import annotations

import math

from .compiled import compiled, leaf
from .counter_rng import derive, exponential, normal, uniform
from .scorecard import CARD_OF, KAPPA_CAP, settle
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

# Streams of a venue. In those of contra orders the i-th order has four draws, at index 4 i: the gap before it, its
# size,
# its type, its own fast alpha; a standing order has no alpha, so there index 3 says whether the leftover stayed.
_ONE_SHOT, _REGIME = 6, 7
_GAP, _SIZE, _TYPE, _ALPHA, _STAYS = 0, 1, 2, 3, 3
_COMMON_POOL = 0x504F4F4C  # stream of the factor that one-shot pools share


@compiled
def start_order(rules: Rules, b: Batch, e: int) -> None:
    """A fresh parent: nothing done, no pool visited, no impact."""
    order, costs, total = b.order[e], b.cost_bps, b.total
    order.slot, order.remaining_shares, order.active = 0, b.episode[e].shares, 1
    order.transient_1, order.transient_2, order.leak_1, order.leak_2 = 0.0, 0.0, 0.0, 0.0
    order.executed_adv, order.display_bps = 0.0, 0.0
    order.take_shares, order.post_shares, order.dark_shares = 0, 0, 0
    order.reward_bps, order.martingale_bps, order.penalty_bps, order.cost_bps = 0.0, 0.0, 0.0, 0.0
    order.martingale_sum_bps = 0.0
    order.own_weighted_mid_bps, order.affected_volume_bps = 0.0, 0.0
    for c in range(costs.shape[1]):
        costs[e, c] = 0.0
    for v in range(rules.n_venues):
        state, venue = b.venue_state[e, v], b.venue[e, v]
        state.last_visit_s, state.leftover_shares, state.last_filled_frac = -math.inf, 0, 0.0
        state.regime = 0
        if venue.has_regime == 1:
            state.regime = 1 if uniform(derive(venue.key, _REGIME), 0, 0) < 0.5 else -1
    for i in range(b.n_pending.shape[1]):
        b.n_pending[e, i] = 0
    for r in range(total.shape[1]):
        row = total[e, r]
        row.attempts, row.filled_orders, row.routed_shares, row.filled_shares = 0, 0, 0, 0


@leaf
def toxicity(settings: Row, row: Row, state: Row, kappa: float) -> float:
    """Tilt of the venue in this slot: kappa (sigma_n / sigma)^nu times the regime's factor, capped."""
    factor = row.toxicity_factor
    if state.regime != 0:
        factor *= settings.toxic_factor if state.regime > 0 else settings.calm_factor
    return min(kappa * factor, KAPPA_CAP)


@leaf
def supply_shares(settings: Row, ven: Row, row: Row, lit: bool) -> float:
    """Contra shares of the slot before any tilt (equation 2; for posts the first factor of equation 6)."""
    return ven.supply_frac * (row.volume_shares if lit else row.dark_flow_shares)


@leaf
def node_tilt(ep: Row, ven: Row, row: Row, fast: float, slow: float, fast_z: float, slow_z: float) -> float:
    """Factor on the rate of orders standing at a node: both alphas (synthetic) or the forward move (replay)."""
    if ep.replayed == 1:
        return math.exp(-ven.theta_node * ep.side * row.slow_z - ven.log_norm_node)
    return math.exp(-fast * (ep.side * fast_z + 0.5 * fast) - slow * (ep.side * slow_z + 0.5 * slow))


@leaf
def slot_log_tilt(ep: Row, ven: Row, row: Row, slow: float, slow_z: float) -> float:
    """Log of the factor on orders arriving inside a slot: the slow part alone; the fast part is in their prints."""
    if ep.replayed == 1:
        return -ven.theta_slot * ep.side * row.slow_z - ven.log_norm_slot
    return -slow * (ep.side * slow_z + 0.5 * slow)


@leaf
def draw_size(law: Row, lot_shares: float, u: float) -> int:
    """Contra size in shares by inverting the cumulative law."""
    if law.n_lots == 0:
        return UNLIMITED_SHARES
    lo, hi = 0, law.n_lots - 1
    while lo < hi:
        middle = (lo + hi) // 2
        if law.cdf[middle] < u:
            lo = middle + 1
        else:
            hi = middle
    return (lo + 1) * int(lot_shares)


@leaf
def matched(leaves: int, contra: int, min_quantity: int) -> int:
    """Shares of one match: nothing unless it reaches min(minimum quantity, own leaves)."""
    print_shares = min(leaves, contra)
    return print_shares if print_shares >= min(min_quantity, leaves) else 0


@leaf
def normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@leaf
def one_shot_uniform(settings: Row, ep: Row, ven: Row, row: Row, n: int) -> float:
    """The uniform of a one-shot pool; above zero_prob it fills.

    u = 1 - Phi(Z), corr(Z, alpha) = r for a buy (probit variant, market model 2.1), and the pools' own parts of Z share
    a factor with correlation `fill_copula` (2.4). Without either it is a plain draw.
    """
    key = derive(ven.key, _ONE_SHOT)
    r, c = settings.probit_correlation, settings.fill_copula
    if r == 0.0 and c == 0.0:
        return uniform(key, n, 0)
    common = normal(derive(ep.key, _COMMON_POOL), n, 0)
    own = math.sqrt(c) * common + math.sqrt(1.0 - c) * normal(key, n, 0)
    return normal_cdf(-(r * ep.side * row.fast_z + math.sqrt(1.0 - r * r) * own))


@leaf
def meet_one_shot(settings: Row, ep: Row, ven: Row, row: Row, law: Row, n: int, leaves: int) -> int:
    """At most one contra order a pool and slot, with a zero bin."""
    u = one_shot_uniform(settings, ep, ven, row, n)
    if u < ven.zero_prob:
        return 0
    contra = draw_size(law, settings.lot_shares, (u - ven.zero_prob) / (1.0 - ven.zero_prob))
    return matched(leaves, contra, ven.min_quantity_shares)


@leaf
def meet_queue(settings: Row, ep: Row, ven: Row, row: Row, n: int, leaves: int) -> int:
    """One-shot post: (outflow - shares ahead)+, up to its size; outflow exponential, tilted by the slow alpha."""
    kappa = ven.kappa_slow
    tilt = math.exp(-kappa * (ep.side * row.slow_z + 0.5 * kappa))
    outflow = settings.outflow_mean_shares * tilt * exponential(derive(ven.key, _ONE_SHOT), n, 1)
    return min(leaves, max(0, int(math.floor(outflow - settings.queue_shares))))


@leaf
def meet_standing(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, law: Row, informed: Row, n: int, leaves: int
) -> int:
    """Shares filled at t_n against what stands in the pool: the leftover of the contra met last, then fresh orders.

    Fresh orders since the last visit, a seconds ago, are Poisson(rate x tilt x life (1 - e^(-a/life))): a visitor who
    takes what he meets finds little more by coming back at once (market model, 2.3).
    """
    now_s = n * settings.interval_s
    survival = math.exp(-(now_s - state.last_visit_s) / ven.life_s)
    filled = 0
    if state.leftover_shares > 0:
        if uniform(ven.stock_key, n, _STAYS) < survival:
            filled = matched(leaves, state.leftover_shares, ven.min_quantity_shares)
            state.leftover_shares -= filled
        else:
            state.leftover_shares = 0
    p = ven.informed_frac if ep.replayed == 0 else 0.0
    share = 1.0 if p == 0.0 else p  # without two types the whole pool is tilted
    fast = toxicity(settings, row, state, ven.kappa_fast / share)
    slow = toxicity(settings, row, state, ven.kappa_slow / share)
    tilted = share * node_tilt(ep, ven, row, fast, slow, row.fast_z, row.slow_z)
    mean = supply_shares(settings, ven, row, False) / (settings.interval_s * ven.mean_size_shares)
    mean *= (tilted + 1.0 - share) * ven.life_s * (1.0 - survival)
    clock, i = exponential(ven.stock_key, n, _GAP), 0
    while clock < mean and filled < leaves:
        from_informed = p > 0.0 and uniform(ven.stock_key, n, i + _TYPE) * (tilted + 1.0 - p) < tilted
        u = uniform(ven.stock_key, n, i + _SIZE)
        contra = (
            draw_size(informed, settings.lot_shares, u) if from_informed else draw_size(law, settings.lot_shares, u)
        )
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            state.leftover_shares = contra - got
        i += 4
        clock += exponential(ven.stock_key, n, i + _GAP)
    return filled


@leaf
def meet_arrivals(
    settings: Row, ep: Row, ven: Row, state: Row, law: Row, informed: Row, at: int, leaves: int, mean: float,
    informed_prob: float, displacement_bps: float, own_alpha: bool,
) -> tuple[int, float]:  # fmt: skip
    """Shares filled inside a sub-step by Poisson(mean) contra orders, and the sum of shares x own fast alpha, bps.

    With `own_alpha` each arrival draws a ~ N(-s gamma, sigma_f^2), gamma = `displacement_bps` (market model, 1);
    of two contra types only the informed one is displaced. `at` counts sub-steps.
    """
    filled, alpha_sum = 0, 0.0
    clock, i = exponential(ven.flow_key, at, _GAP), 0
    while clock < mean and filled < leaves:
        from_informed = informed_prob > 0.0 and uniform(ven.flow_key, at, i + _TYPE) < informed_prob
        u = uniform(ven.flow_key, at, i + _SIZE)
        contra = (
            draw_size(informed, settings.lot_shares, u) if from_informed else draw_size(law, settings.lot_shares, u)
        )
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            if own_alpha:
                gamma = displacement_bps if from_informed or ven.informed_frac == 0.0 else 0.0
                alpha = ep.sigma_fast_bps * normal(ven.flow_key, at, i + _ALPHA) - gamma
                alpha_sum += got * ep.side * alpha
            state.leftover_shares = contra - got
        i += 4
        clock += exponential(ven.flow_key, at, i + _GAP)
    return filled, alpha_sum


@leaf
def fill_rest(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, node: Row, law: Row, informed: Row, at: int, leaves: int
) -> tuple[int, float]:
    """A resting order in one sub-step: (shares, sum of shares x unaffected mid of their prints, bps)."""
    p = ven.informed_frac if ep.replayed == 0 else 0.0
    share = 1.0 if p == 0.0 else p
    fast = toxicity(settings, row, state, ven.kappa_fast / share)
    slow = toxicity(settings, row, state, ven.kappa_slow / share)
    if ep.fast_in_slot == 1:
        tilted = share * math.exp(slot_log_tilt(ep, ven, row, slow, node.slow_z))
    else:
        tilted = share * node_tilt(ep, ven, row, fast, slow, node.fast_z, node.slow_z)
    mean = supply_shares(settings, ven, row, False) / (ep.n_sub * ven.mean_size_shares) * (tilted + 1.0 - share)
    informed_prob = tilted / (tilted + 1.0 - p) if p > 0.0 else 0.0
    got, alpha_sum = meet_arrivals(
        settings, ep, ven, state, law, informed, at, leaves, mean, informed_prob, fast * ep.sigma_fast_bps,
        ep.fast_in_slot == 1,
    )  # fmt: skip
    base = node.base_bps if ep.fast_in_slot == 1 else node.mid_bps
    return got, got * base - alpha_sum


@leaf
def fill_post(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, node: Row, law: Row, at: int, leaves: int
) -> tuple[int, float]:
    """A pegged post in one sub-step: flow (6), fewer fills when the price runs our way; print at B + eps/2 - a."""
    run, fast = ven.gamma_run_bps * row.toxicity_factor, ven.gamma_fast_bps * row.toxicity_factor
    log_tilt = slot_log_tilt(ep, ven, row, toxicity(settings, row, state, ven.kappa_slow), node.slow_z)
    if node.eps_var > 0.0:
        log_tilt -= 2.0 * run * (ep.side * node.eps_bps + run) / node.eps_var
    mean = supply_shares(settings, ven, row, True) / (ep.n_sub * ven.mean_size_shares) * math.exp(log_tilt)
    got, alpha_sum = meet_arrivals(settings, ep, ven, state, law, law, at, leaves, mean, 0.0, fast, True)
    base = node.base_bps if ep.fast_in_slot == 1 else node.mid_bps
    return got, got * (base + 0.5 * node.eps_bps) - alpha_sum


@compiled
def market_step(rules: Rules, b: Batch, e: int) -> None:
    """Work the released children of row `e` for one slot and move the order to the next."""
    work_rows(rules, b, e, e + 1)


@compiled
def work_rows(rules: Rules, b: Batch, first: int, last: int) -> None:
    """Work the released children of the active rows first..last-1 for one slot, and move their orders to the next.

    A fill's markout is valued at the first node at least 10 s after it: exactly 10 s for a node fill, 10 to 20 s for a
    fill inside a slot of 10 s, which shows up to 8 % more of the slow alpha. No markout is used before its time.
    """
    settings, size_law = rules.settings[0], rules.size_law
    route_type, route_venue = rules.route_type, rules.route_venue
    episode, venue, tape, nodes, orders = b.episode, b.venue, b.tape, b.nodes, b.order
    venue_state, cards, pending, n_pending, totals = b.venue_state, b.card, b.pending, b.n_pending, b.total
    cost_bps, child, masked = b.cost_bps, b.child_shares, b.masked
    fills, fill_mid, extra = b.fill_shares, b.fill_mid_bps, b.fill_extra_bps
    flat_fills = fills.reshape(fills.shape[0], 2 * fills.shape[1])  # to clear a row in one sweep
    flat_mid = fill_mid.reshape(fills.shape[0], 2 * fills.shape[1])
    n_routes, n_venues, n_lit, ring = route_type.shape[0], settings.n_venues, settings.n_lit, n_pending.shape[1]
    for e in range(first, last):
        order = orders[e]
        if order.active == 0:
            continue
        ep, n = episode[e], order.slot
        row, next_mid = tape[e, n], tape[e, n + 1].mid_bps
        s, size, half = ep.side, float(ep.shares), row.half_spread_bps
        n_sub = ep.n_sub
        if n > 0 and n % settings.regime_slots == 0:  # hidden toxicity may switch
            for v in range(n_lit, n_venues):
                regime = venue_state[e, v]
                if regime.regime != 0 and uniform(derive(venue[e, v].key, _REGIME), n, 1) >= settings.regime_stay:
                    regime.regime = -regime.regime
        take, post, dark, lost, node_shares, rest_inside, unfilled_pings = 0, 0, 0, 0.0, 0, 0, 0
        spread_cost, fee_cost, adverse_cost, timing_cost = 0.0, 0.0, 0.0, 0.0
        pull, shock, own_mid = 0.0, 0.0, 0.0
        for i in range(2 * n_routes):
            flat_fills[e, i] = 0
        for i in range(2 * n_routes):
            flat_mid[e, i] = 0.0
        for r in range(n_routes):
            sent = child[e, r]
            if sent == 0:
                continue
            kind, v = route_type[r], route_venue[r]
            ven, state = venue[e, v], venue_state[e, v]
            node, inside, inside_sum = 0, 0, 0.0
            law, informed = size_law[ven.size_law], size_law[ven.informed_law]
            if kind == TAKE:
                node = sent
            elif kind == POST:
                if settings.one_shot == 1:
                    inside = meet_queue(settings, ep, ven, row, n, sent)
                    inside_sum = inside * row.base_bps
                else:
                    for k in range(n_sub):
                        at = n * n_sub + k
                        if n_sub == 1:
                            got, got_sum = fill_post(settings, ep, ven, state, row, row, law, at, sent)
                        else:
                            inner = nodes[e, at]
                            got, got_sum = fill_post(settings, ep, ven, state, row, inner, law, at, sent - inside)
                        inside += got
                        inside_sum += got_sum
            elif settings.one_shot == 1:
                node = meet_one_shot(settings, ep, ven, row, law, n, sent)
            else:
                node = meet_standing(settings, ep, ven, state, row, law, informed, n, sent)
                if kind == REST and node < sent:
                    for k in range(n_sub):
                        at = n * n_sub + k
                        left = sent - node - inside
                        if n_sub == 1:
                            got, got_sum = fill_rest(settings, ep, ven, state, row, row, law, informed, at, left)
                        else:
                            inner = nodes[e, at]
                            got, got_sum = fill_rest(settings, ep, ven, state, row, inner, law, informed, at, left)
                        inside += got
                        inside_sum += got_sum
            filled = node + inside
            if kind >= PING:
                whole_slot = kind == REST and settings.one_shot == 0
                state.last_visit_s = settings.interval_s * (n + (1 if whole_slot else 0))
                state.last_filled_frac = filled / sent
            fills[e, r, NODE], fills[e, r, IN_SLOT] = node, inside
            fill_mid[e, r, NODE] = row.mid_bps if kind != POST else 0.0
            if inside > 0:
                fill_mid[e, r, IN_SLOT] = inside_sum / inside
            # accounts of the route
            mid_sum = node * row.mid_bps + inside_sum
            own_mid += mid_sum
            against_close = s * (mid_sum - filled * next_mid)
            node_shares += node
            if kind == TAKE:
                take += filled
                fee_cost += filled * ven.take_fee_bps
                timing_cost += against_close
            elif kind == POST:
                post += filled
                pull += settings.display_leak_frac * half * sent / (sent + ep.depth_shares)
                fee_cost += filled * ven.post_fee_bps
                adverse_cost += against_close
                shock += s * (inside_sum - inside * (row.base_bps + 0.5 * row.eps_bps))
                shock -= inside * ven.gamma_fast_bps * row.toxicity_factor
            else:
                dark += filled
                rest_inside += inside
                if kind == PING:
                    lost += ven.leak_weight * (sent - filled)
                    unfilled_pings += sent - filled
                fee_cost += filled * ven.take_fee_bps
                adverse_cost += filled * ven.adverse_charge_bps if settings.expected_accounting == 1 else against_close
                if inside > 0:
                    gamma = toxicity(settings, row, state, ven.kappa_fast) * ep.sigma_fast_bps
                    shock += s * (inside_sum - inside * row.base_bps) - inside * gamma
            total = totals[e, r]
            total.attempts += 1
            total.filled_orders += 1 if filled > 0 else 0
            total.routed_shares += sent
            total.filled_shares += filled
            which = CARD_OF[kind]
            if which >= 0:
                card = cards[e, v, which]
                card.attempts += 1
                if filled > 0:
                    card.filled += 1
                    slot = (n + settings.markout_lag + (1 if inside > 0 else 0)) % ring
                    wait = pending[e, slot, n_pending[e, slot]]
                    wait.venue, wait.card, wait.mid_bps = v, which, mid_sum / filled
                    n_pending[e, slot] += 1
        fallback = -1
        if settings.ping_fallback == 1 and unfilled_pings > 0:  # at once, in the same slot, to the cheapest open take
            for r in range(n_routes):
                if route_type[r] == TAKE and not masked[e, r]:
                    best_fee = venue[e, route_venue[max(0, fallback)]].take_fee_bps
                    if fallback < 0 or venue[e, route_venue[r]].take_fee_bps < best_fee:
                        fallback = r
        if fallback >= 0:
            moved = unfilled_pings
            child[e, fallback] += moved
            fills[e, fallback, NODE] += moved
            fill_mid[e, fallback, NODE] = row.mid_bps
            fallback_total = totals[e, fallback]
            fallback_total.attempts += 1
            fallback_total.filled_orders += 1
            fallback_total.routed_shares += moved
            fallback_total.filled_shares += moved
            take += moved
            node_shares += moved
            own_mid += moved * row.mid_bps
            fee_cost += moved * venue[e, route_venue[fallback]].take_fee_bps
            timing_cost += s * moved * (row.mid_bps - next_mid)
        spread_cost = (take - post) * half
        # close of the slot
        filled_all = take + post + dark
        left = order.remaining_shares - filled_all
        end = n == ep.n_slots - 1
        instant_bps = instant_cost_bps(settings, ep, row, float(take))
        leaves = left if end and settings.leftover_charged == 0 else 0
        effective = take + post + settings.dark_weight * dark + leaves
        paying = float(filled_all + leaves)
        transient_bps, permanent_bps, leak_bps, display_bps = move_impact(settings, ep, order, effective, pull, lost)
        order.affected_volume_bps += row.volume_shares * (transient_bps + permanent_bps + leak_bps + display_bps)
        leftover_cost = 0.0
        if leaves > 0:  # a control forbade completion: cost what is left as a take at the end mid
            leftover_cost = leaves * (half + instant_cost_bps(settings, ep, row, float(leaves)))
        elif end and left > 0:
            lots = left / settings.lot_shares
            leftover_cost = (
                settings.lot_shares * lots * (settings.leftover_linear_bps + settings.leftover_quadratic_bps * lots)
            )
        carry = order.remaining_shares / size - row.volume_left_frac
        frac = row.volume_left_frac - tape[e, n + 1].volume_left_frac
        if settings.expected_accounting == 0:
            timing_cost += size * s * (carry * (next_mid - row.mid_bps) - frac * (row.slot_vwap_bps - next_mid))
        order.martingale_bps = 0.0
        if n_sub == 1:
            weight = carry + 0.5 * frac - (node_shares + rest_inside) / size
            order.martingale_bps = s * row.eps_bps * weight + shock / size
        order.take_shares += take
        order.post_shares += post
        order.dark_shares += dark
        order.own_weighted_mid_bps += own_mid
        order.remaining_shares = left
        order.slot = n + 1
        if left == 0 or end:
            order.active = 0
            if not end:  # done early: what the benchmark still does
                after = tape[e, n + 1]
                timing_cost -= size * s * (after.benchmark_left - after.volume_left_frac * next_mid)
                order.martingale_bps += s * after.martingale_left
        order.martingale_sum_bps += order.martingale_bps
        extra[e, 0] = transient_bps + permanent_bps + leak_bps
        extra[e, 1] = instant_bps
        extra[e, 2] = display_bps
        extra[e, 3] = half
        per = 1.0 / size
        cost_bps[e, SPREAD] += spread_cost * per
        cost_bps[e, INSTANT] += take * instant_bps * per
        cost_bps[e, TRANSIENT] += paying * transient_bps * per
        cost_bps[e, PERMANENT] += paying * permanent_bps * per
        cost_bps[e, LEAK] += paying * leak_bps * per
        cost_bps[e, DISPLAY] += paying * display_bps * per
        cost_bps[e, FEE] += fee_cost * per
        cost_bps[e, ADVERSE] += adverse_cost * per
        cost_bps[e, TIMING] += timing_cost * per
        cost_bps[e, LEFTOVER] += leftover_cost * per
        priced = take * instant_bps + paying * (transient_bps + permanent_bps + leak_bps + display_bps)
        slot_cost = (spread_cost + priced + fee_cost + adverse_cost + timing_cost + leftover_cost) * per
        order.penalty_bps = 0.0
        if settings.tracking_bps > 0.0:
            target = 0.0 if settings.track_to_zero == 1 else row.schedule_next
            off_schedule = (left / size - target) ** 2
            if left == 0 and settings.track_to_zero == 0:
                for k in range(n + 1, ep.n_slots):  # done early: ahead of the schedule in every slot to come
                    off_schedule += tape[e, k].schedule_next ** 2
            order.penalty_bps = settings.tracking_bps * off_schedule
        order.cost_bps += slot_cost
        order.reward_bps = -slot_cost
        # the start of the next slot: markouts that are known by then enter the scorecards
        due = (n + 1) % ring
        if n_pending[e, due] > 0:
            if order.active == 1:
                unit = max(ep.half_spread_bps, 1e-9)
                for i in range(n_pending[e, due]):
                    wait = pending[e, due, i]
                    settle(cards[e, wait.venue, wait.card], s, next_mid, wait.mid_bps, unit)
            n_pending[e, due] = 0


@leaf
def instant_cost_bps(settings: Row, ep: Row, row: Row, take: float) -> float:
    """eta sigma_d m_sigma (x / V_n)^b, the slot's takes together (splitting them over venues saves nothing)."""
    if take <= 0.0:
        return 0.0
    volume = max(row.volume_shares, 1e-9 if settings.fixed_volumes == 1 else settings.lot_shares)
    return settings.eta * ep.daily_vol_bps * row.vol_curve * math.exp(settings.exponent * math.log(take / volume))


@leaf
def move_impact(
    settings: Row, ep: Row, order: Row, effective: float, pull: float, lost: float
) -> tuple[float, float, float, float]:
    """What a share pays for transient and permanent impact, leak and display; then moves the kernels (4)."""
    adv = float(ep.adv_shares)
    scale = ep.daily_vol_bps / adv
    w_1, w_2 = settings.weight_1, settings.weight_2
    transient = order.transient_1 + order.transient_2 + 0.5 * (w_1 + w_2) * scale * effective
    permanent = ep.permanent_coef * (order.executed_adv + 0.5 * effective / adv)
    leak = order.leak_1 + order.leak_2
    displayed = order.display_bps * settings.display_decay + pull * (1.0 - settings.display_decay)
    display = 0.5 * (order.display_bps + displayed)
    order.transient_1 = (order.transient_1 + w_1 * scale * effective) * settings.decay_1
    order.transient_2 = (order.transient_2 + w_2 * scale * effective) * settings.decay_2
    order.leak_1 = (order.leak_1 + w_1 * scale * lost) * settings.decay_1
    order.leak_2 = (order.leak_2 + w_2 * scale * lost) * settings.decay_2
    order.executed_adv += effective / adv
    order.display_bps = displayed
    return transient, permanent, leak, display


__all__ = ["market_step", "matched", "start_order", "work_rows"]
