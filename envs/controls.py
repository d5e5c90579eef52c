"""Pre-trade controls: which routes are masked, and how a proposal becomes child orders. Every router passes here."""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled, leaf
from .scorecard import CARD_OF
from .state import PING, POST, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, TAKE, Batch, Row
from .venues import Rules

MASK_NONE, MASK_NO_QUOTE, MASK_CROSSED, MASK_VENUE_DOWN, MASK_LOCKED, MASK_TOXICITY, MASK_CAP = range(7)
MASK_CODES = (
    "", "MASKED_HALT", "MASKED_CROSSED", "MASKED_VENUE_DOWN", "MASKED_LOCKED", "MASKED_TOXICITY", "MASKED_CAP",
)  # fmt: skip


NOT_LAST = -1  # in place of the route that completes the order


@leaf
def mask_of(settings: Row, ep: Row, order: Row, row: Row, ven: Row, card: Row, kind: int) -> int:
    """The first control that forbids a route now, or MASK_NONE; `card` is the route's scorecard row, if it has one.

    No quote (halt) or crossed: no route. Venue down: none of its routes. Locked: no dark. Toxicity: the scorecard's raw
    markout is below the limit with enough sample. Cap: the parent's dark share is used up.
    """
    state = int(row.quote_state)
    if state == QUOTE_NONE:
        return MASK_NO_QUOTE
    if state == QUOTE_CROSSED:
        return MASK_CROSSED
    if ven.down_from <= order.slot < ven.down_until:
        return MASK_VENUE_DOWN
    if kind < PING:
        return MASK_NONE
    if state == QUOTE_LOCKED:
        return MASK_LOCKED
    if (
        card.attempts >= settings.toxicity_min_attempts
        and card.markouts >= settings.toxicity_min_fills
        and card.markout_hs_sum < settings.toxicity_limit_hs * card.markouts
    ):
        return MASK_TOXICITY
    if order.dark_shares >= settings.max_dark_frac * ep.shares:
        return MASK_CAP
    return MASK_NONE


@compiled
def mask_code(rules: Rules, b: Batch, e: int, r: int) -> int:
    """The first control that forbids route `r` now, or MASK_NONE."""
    v, kind, order = rules.route_venue[r], rules.route_type[r], b.order[e]
    card = b.card[e, v, max(0, CARD_OF[kind])]
    return mask_of(rules.settings[0], b.episode[e], order, b.tape[e, order.slot], b.venue[e, v], card, kind)


@compiled
def pace_band(rules: Rules, b: Batch, e: int) -> tuple[float, float]:
    """[lo, hi] shares that may be worked in this slot: clip(q - X (R_next +- band), 0, q)."""
    settings = rules.settings[0]
    ep, order = b.episode[e], b.order[e]
    q = float(order.remaining_shares)
    if settings.full_band:
        return 0.0, q
    target = b.tape[e, order.slot].schedule_next
    lo = min(max(q - ep.shares * (target + settings.band_frac), 0.0), q)
    hi = min(max(q - ep.shares * (target - settings.band_frac), 0.0), q)
    return lo, hi


@compiled
def completing_route(rules: Rules, b: Batch, e: int) -> int:
    """The lit take that completes an order: lowest fee among the open ones, ties in MIC order; if none is open, of
    all."""
    best, best_fee = -1, 0.0
    for open_only in (True, False):
        for r in range(rules.route_type.shape[0]):
            if rules.route_type[r] == TAKE and not (open_only and b.masked[e, r]):
                fee = b.venue[e, rules.route_venue[r]].take_fee_bps
                if best < 0 or fee < best_fee:
                    best, best_fee = r, fee
        if best >= 0:
            return best
    return best


@compiled
def weights_from_scores(scores: np.ndarray, masked: np.ndarray, route_type: np.ndarray, weights: np.ndarray) -> None:
    """Softmax over the best open take and every open passive route, row by row: scores, masks, weights are (E, R).

    One take a slot (ties: route order): takes are alike but for their fee, so that a share spread over several would
    only be dearer, and would use up the places of `max_routes`.
    """
    n_routes = weights.shape[1]
    for e in range(weights.shape[0]):
        top, total, take = -math.inf, 0.0, -1
        for r in range(n_routes):
            if not masked[e, r]:
                top = max(top, scores[e, r])
                if route_type[r] == TAKE and (take < 0 or scores[e, r] > scores[e, take]):
                    take = r
        if top == -math.inf:
            weights[e, :] = 0.0
            continue
        for r in range(n_routes):
            enters = not masked[e, r] and (route_type[r] != TAKE or r == take)
            weights[e, r] = math.exp(scores[e, r] - top) if enters else 0.0
            total += weights[e, r]
        for r in range(n_routes):
            weights[e, r] /= total


@compiled
def child_orders(
    remaining_shares: np.ndarray, work_shares: np.ndarray, weights: np.ndarray, masked: np.ndarray,
    route_type: np.ndarray, route_cap: np.ndarray, lot_shares: int, max_routes: int, weight_cut: float,
    completing: np.ndarray, dark_room: np.ndarray, child: np.ndarray,
) -> None:  # fmt: skip
    """What proposals become, from plain values alone: `child` (E, R) shares. Simulation and audit call this function.

    Row by row: `remaining_shares`, `work_shares`, `completing` and `dark_room` are (E,), weights, masks and children
    (E, R). A row without remaining shares is left alone. `completing`: the route that takes all that is left because
    this is the last slot, or NOT_LAST. `dark_room`: shares that may still be sent dark.
    `weights` is overwritten with what was used: masked routes 0, takes of half a lot or more and then the best routes
    at or above `weight_cut`, `max_routes` in all (ties: route order), renormalised; the rest exact zeros. Takes pass
    the cut because a router that posts a multiple of what it takes would else take late and much. Work is rounded to
    the nearest whole lot and cut by largest remainder (ties: route order); overflow of a cap goes to the next
    remainder; an odd lot goes out only with the last shares.
    """
    n_routes = weights.shape[1]
    for e in range(weights.shape[0]):
        remaining = remaining_shares[e]
        if remaining == 0:
            continue
        finishing = completing[e]
        for r in range(n_routes):
            child[e, r] = 0
            if masked[e, r] or finishing != NOT_LAST:
                weights[e, r] = 0.0
        if finishing != NOT_LAST:
            if not masked[e, finishing]:
                weights[e, finishing] = 1.0
                child[e, finishing] = remaining
            continue
        work = min(max(work_shares[e], 0.0), float(remaining))
        kept_total, kept = 0.0, 0
        for takes in (True, False):
            while kept < max_routes:
                best = -1
                for r in range(n_routes):
                    weight = weights[e, r]
                    if takes:
                        counts = route_type[r] == TAKE and weight * work >= 0.5 * lot_shares
                    else:
                        counts = weight >= weight_cut or kept == 0
                    if weight > 0.0 and counts and (best < 0 or weight > weights[e, best]):
                        best = r
                if best < 0:
                    break
                kept += 1
                kept_total += weights[e, best]
                weights[e, best] = -weights[e, best]  # kept routes carry a minus until the end
        for r in range(n_routes):
            weights[e, r] = -weights[e, r] / kept_total if weights[e, r] < 0.0 else 0.0
        room = dark_room[e]
        if remaining < lot_shares:
            if work > 0.0:  # the last shares go whole to the best route that may still take them
                best = -1
                for r in range(n_routes):
                    fits = route_cap[r] >= remaining and (route_type[r] <= POST or room >= remaining)
                    if weights[e, r] > 0.0 and fits and (best < 0 or weights[e, r] > weights[e, best]):
                        best = r
                if best >= 0:
                    child[e, best] = remaining
            continue
        lots = min(remaining // lot_shares, int(math.floor(work / lot_shares + 0.5)))
        placed = 0
        for r in range(n_routes):
            if weights[e, r] > 0.0:
                child[e, r] = min(int(math.floor(lots * weights[e, r] + 1e-9)), route_cap[r] // lot_shares)
                placed += child[e, r]
        while placed < lots:
            best, best_remainder = -1, 0.0
            for r in range(n_routes):
                if weights[e, r] > 0.0 and child[e, r] < route_cap[r] // lot_shares:
                    remainder = lots * weights[e, r] - child[e, r]
                    if best < 0 or remainder > best_remainder + 1e-12:
                        best, best_remainder = r, remainder
            if best < 0:
                break
            child[e, best] += 1
            placed += 1
        for r in range(n_routes):
            if child[e, r] > 0:
                child[e, r] *= lot_shares
                if route_type[r] > POST:  # even if all fill, the dark share stays within its cap
                    child[e, r] = min(child[e, r], max(0, room) // lot_shares * lot_shares)
                    room -= child[e, r]


@compiled
def release_rows(rules: Rules, b: Batch, work_shares: np.ndarray, weights: np.ndarray) -> None:
    """Turn proposals (shares to work (E,), weights over routes (E, R)) into released child orders `b.child_shares`.

    In the last slot all that is left goes to the completing take, unless leaves are charged (problems with a known
    optimum); where every take is forbidden, nothing goes out. `weights` is overwritten with what was used.
    """
    settings = rules.settings[0]
    episode, orders, plan = b.episode, b.order, b.plan
    for e in range(orders.shape[0]):
        order, ep = orders[e], episode[e]
        plan[0, e] = order.remaining_shares if order.active == 1 else 0
        plan[1, e] = NOT_LAST
        plan[2, e] = int(settings.max_dark_frac * ep.shares) - order.dark_shares
        if order.active == 1 and order.slot == ep.n_slots - 1 and not settings.leftover_charged:
            plan[1, e] = completing_route(rules, b, e)
    child_orders(
        plan[0], work_shares, weights, b.masked, rules.route_type, rules.route_cap, settings.lot_shares,
        settings.max_routes, settings.weight_cut, plan[1], plan[2], b.child_shares,
    )  # fmt: skip
