"""The compiled step: one interval of parent orders. The batch loops over it; the single environment is a batch of 1.

Order inside a slot: pings and the node part of rests at t_n, lit take at t_n, then rests and posts until t_{n+1}, then
the close of the slot (impact, leak, scorecards, accounts). Equations: market model, sections 2.3, 3 and 5. All prices
are in bps of the arrival mid; `s` is the client's side; costs are positive when they hurt.
"""

from __future__ import annotations

import math

from .compiled import compiled, leaf, prefetch
from .counter_rng import derive, uniform
from .fills import fill_post, fill_rest, meet_one_shot, meet_queue, meet_standing, toxicity
from .scorecard import CARD_OF, settle
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
from .venues import Rules

_REGIME = 7  # stream of a venue: its hidden toxicity; its other streams are in fills.py


@compiled
def start_order(rules: Rules, b: Batch, e: int) -> None:
    """A fresh parent: nothing done, no pool visited, no impact."""
    settings = rules.settings[0]
    order, costs, total = b.order[e], b.cost_bps, b.total
    order.slot, order.remaining_shares, order.active = 0, b.episode[e].shares, 1
    order.transient_1, order.transient_2, order.leak_1, order.leak_2 = 0.0, 0.0, 0.0, 0.0
    order.executed_adv, order.display_bps = 0.0, 0.0
    order.regime_slot = rules.settings[0].regime_slots
    order.take_shares, order.post_shares, order.dark_shares = 0, 0, 0
    order.reward_bps, order.martingale_bps, order.penalty_bps, order.cost_bps = 0.0, 0.0, 0.0, 0.0
    order.martingale_sum_bps = 0.0
    order.own_weighted_mid_bps, order.affected_volume_bps = 0.0, 0.0
    for c in range(costs.shape[1]):
        costs[e, c] = 0.0
    for v in range(settings.n_venues):
        state, venue = b.venue_state[e, v], b.venue[e, v]
        state.last_visit_s, state.leftover_shares, state.last_filled_frac = -math.inf, 0, 0.0
        state.regime = 0
        for card in range(3):
            b.card[e, v, card].shown = 0
        if venue.has_regime == 1:
            state.regime = 1 if uniform(derive(venue.key, _REGIME), 0, 0) < 0.5 else -1
    for i in range(b.n_pending.shape[1]):
        b.n_pending[e, i] = 0
    for r in range(total.shape[1]):
        row = total[e, r]
        row.attempts, row.filled_orders, row.routed_shares, row.filled_shares = 0, 0, 0, 0


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
    n_routes, n_venues, n_lit = route_type.shape[0], settings.n_venues, settings.n_lit
    ring_mask = n_pending.shape[1] - 1
    for e in range(first, last):
        prefetch(orders[min(e + 6, last - 1)], 3)
        soon = min(e + 3, last - 1)  # far enough to arrive in time, near enough to be still there
        if orders[soon].active == 1:
            prefetch(episode[soon], 2)
            prefetch(tape[soon, orders[soon].slot], 6)
        order = orders[e]
        if order.active == 0:
            continue
        ep, n = episode[e], order.slot
        row, next_mid = tape[e, n], tape[e, n + 1].mid_bps
        s, size, half = ep.side, float(ep.shares), row.half_spread_bps
        n_sub = ep.n_sub
        if n == order.regime_slot:  # hidden toxicity may switch
            order.regime_slot += settings.regime_slots
            for v in range(n_lit, n_venues):
                regime = venue_state[e, v]
                if regime.regime != 0 and uniform(derive(venue[e, v].key, _REGIME), n, 1) >= settings.regime_stay:
                    regime.regime = -regime.regime
        take, post, dark, lost, node_shares, rest_inside, unfilled_pings = 0, 0, 0, 0.0, 0, 0, 0
        spread_cost, fee_cost, adverse_cost, timing_cost = 0.0, 0.0, 0.0, 0.0
        pull, shock, own_mid = 0.0, 0.0, 0.0
        for i in range(2 * n_routes):
            flat_fills[e, i] = 0
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
            if node > 0:
                fill_mid[e, r, NODE] = row.mid_bps
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
                charge_bps = ven.adverse_charge_bps  # of expected accounting; the regime scales it as it does toxicity
                if state.regime != 0:
                    charge_bps *= settings.toxic_factor if state.regime > 0 else settings.calm_factor
                adverse_cost += filled * charge_bps if settings.expected_accounting == 1 else against_close
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
                card.shown = 0
                if filled > 0:
                    card.filled += 1
                    slot = (n + settings.markout_lag + (1 if inside > 0 else 0)) & ring_mask
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
            masked[e, :] = True  # so that no score of a finished order is looked at
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
        due = (n + 1) & ring_mask
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
