"""Pre-trade controls: which routes are masked, and how a proposal becomes child orders. Every router passes here."""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled
from .scorecard import CARD_OF
from .state import PING, POST, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, TAKE, Batch
from .venues import Rules

MASK_NONE, MASK_NO_QUOTE, MASK_CROSSED, MASK_LOCKED, MASK_TOXICITY, MASK_CAP = range(6)
MASK_CODES = ("", "MASKED_HALT", "MASKED_CROSSED", "MASKED_LOCKED", "MASKED_TOXICITY", "MASKED_CAP")


@compiled
def mask_code(rules: Rules, b: Batch, e: int, r: int) -> int:
    """The first control that forbids route `r` now, or MASK_NONE.

    No quote (halt) or crossed: no route. Locked: no dark. Toxicity: the scorecard's raw markout is below the limit with
    enough sample. Cap: the parent's dark share is used up.
    """
    ep, order = b.episode[e], b.order[e]
    state = int(b.tape[e, order.slot].quote_state)
    if state == QUOTE_NONE:
        return MASK_NO_QUOTE
    if state == QUOTE_CROSSED:
        return MASK_CROSSED
    kind = rules.route_type[r]
    if kind < PING:
        return MASK_NONE
    if state == QUOTE_LOCKED:
        return MASK_LOCKED
    card = b.card[e, rules.route_venue[r], CARD_OF[kind]]
    if (
        card.attempts >= rules.toxicity_min_attempts
        and card.markouts >= rules.toxicity_min_fills
        and card.markout_hs_sum < rules.toxicity_limit_hs * card.markouts
    ):
        return MASK_TOXICITY
    if order.dark_shares >= rules.max_dark_frac * ep.shares:
        return MASK_CAP
    return MASK_NONE


@compiled
def pace_band(rules: Rules, b: Batch, e: int) -> tuple[float, float]:
    """[lo, hi] shares that may be worked in this slot: clip(q - X (R_next +- band), 0, q)."""
    ep, order = b.episode[e], b.order[e]
    q = float(order.remaining_shares)
    if rules.full_band:
        return 0.0, q
    target = b.tape[e, order.slot].schedule_next
    lo = min(max(q - ep.shares * (target + rules.band_frac), 0.0), q)
    hi = min(max(q - ep.shares * (target - rules.band_frac), 0.0), q)
    return lo, hi


@compiled
def is_last_slot(b: Batch, e: int) -> bool:
    return b.order[e].slot == b.episode[e].n_slots - 1


@compiled
def completing_route(rules: Rules, b: Batch, e: int) -> int:
    """The lit take that completes an order: lowest take fee, ties in MIC order."""
    best, best_fee = -1, 0.0
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] == TAKE:
            fee = b.venue[e, rules.route_venue[r]].take_fee_bps
            if best < 0 or fee < best_fee:
                best, best_fee = r, fee
    return best


@compiled
def weights_from_scores(scores: np.ndarray, masked: np.ndarray, weights: np.ndarray) -> None:
    """Masked softmax."""
    top = -math.inf
    for r in range(scores.shape[0]):
        if not masked[r] and scores[r] > top:
            top = scores[r]
    total = 0.0
    for r in range(scores.shape[0]):
        weights[r] = 0.0 if masked[r] else math.exp(scores[r] - top)
        total += weights[r]
    if total > 0.0:
        for r in range(scores.shape[0]):
            weights[r] /= total


@compiled
def keep_best_routes(weights: np.ndarray, max_routes: int, cut: float) -> None:
    """Weights below the cut become exact zeros, the best `max_routes` stay (ties: route order), renormalised."""
    n = weights.shape[0]
    kept_total, kept = 0.0, 0
    chosen = np.zeros(n, np.bool_)
    while kept < max_routes:
        best = -1
        for r in range(n):
            if not chosen[r] and weights[r] > 0.0 and (weights[r] >= cut or kept == 0):
                if best < 0 or weights[r] > weights[best]:
                    best = r
        if best < 0:
            break
        chosen[best] = True
        kept += 1
        kept_total += weights[best]
    for r in range(n):
        weights[r] = weights[r] / kept_total if chosen[r] else 0.0


@compiled
def split_lots(lots: int, weights: np.ndarray, cap_lots: np.ndarray, out: np.ndarray) -> int:
    """Whole lots by largest remainder (ties: route order); overflow of a cap goes to the next remainder.

    Returns the lots placed.
    """
    n = weights.shape[0]
    placed = 0
    remainder = np.zeros(n)
    for r in range(n):
        exact = lots * weights[r]
        whole = min(math.floor(exact + 1e-9), cap_lots[r]) if weights[r] > 0.0 else 0
        out[r] = whole
        placed += whole
        remainder[r] = exact - whole
    while placed < lots:
        best = -1
        for r in range(n):
            if weights[r] > 0.0 and out[r] < cap_lots[r] and (best < 0 or remainder[r] > remainder[best] + 1e-12):
                best = r
        if best < 0:
            break
        out[best] += 1
        placed += 1
        remainder[best] -= 1.0
    return placed


@compiled
def child_orders(
    remaining_shares: int, work_shares: float, weights: np.ndarray, masked: np.ndarray, route_type: np.ndarray,
    route_cap: np.ndarray, lot_shares: int, max_routes: int, weight_cut: float, completing: int, dark_room: int,
    child: np.ndarray,
) -> None:  # fmt: skip
    """What a proposal becomes, from plain values alone: `child` (R,) shares. Simulation and audit call this function.

    `completing`: the route that takes all that is left because this is the last slot, or -1. `dark_room`: shares that
    may still be sent dark. `weights` (R,) is overwritten with what was used.
    """
    child[:] = 0
    n = weights.shape[0]
    if completing >= 0:
        weights[:] = 0.0
        if not masked[completing]:
            weights[completing] = 1.0
            child[completing] = remaining_shares
        return
    for r in range(n):
        if masked[r]:
            weights[r] = 0.0
    keep_best_routes(weights, max_routes, weight_cut)
    work = min(max(work_shares, 0.0), float(remaining_shares))
    lots = min(remaining_shares // lot_shares, int(math.floor(work / lot_shares + 0.5)))
    if remaining_shares < lot_shares and work > 0.0:
        _odd_lot(remaining_shares, weights, route_type, route_cap, dark_room, child)
        return
    if lots == 0:
        return
    caps = np.empty(n, np.int64)
    for r in range(n):
        caps[r] = route_cap[r] // lot_shares
    split_lots(lots, weights, caps, child)
    for r in range(n):
        child[r] *= lot_shares
        if route_type[r] > POST and child[r] > 0:  # even if all fill, the dark share stays within its cap
            child[r] = min(child[r], max(0, dark_room) // lot_shares * lot_shares)
            dark_room -= child[r]


@compiled
def _odd_lot(
    shares: int, weights: np.ndarray, route_type: np.ndarray, route_cap: np.ndarray, dark_room: int, child: np.ndarray
) -> None:
    """The last shares, under one lot, go whole to the best route that may still take them."""
    best = -1
    for r in range(weights.shape[0]):
        fits = weights[r] > 0.0 and route_cap[r] >= shares and (route_type[r] <= POST or dark_room >= shares)
        if fits and (best < 0 or weights[r] > weights[best]):
            best = r
    if best >= 0:
        child[best] = shares


@compiled
def dark_room_shares(rules: Rules, b: Batch, e: int) -> int:
    """Shares that may still be sent dark under the parent's cap."""
    return int(rules.max_dark_frac * b.episode[e].shares) - b.order[e].dark_shares


@compiled
def release(rules: Rules, b: Batch, e: int, work_shares: float, weights: np.ndarray) -> None:
    """Turn a proposal (shares to work, weights over routes) into released child orders `b.child_shares[e]`.

    Masked routes get nothing. In the last slot all that is left goes to the completing take, unless leaves are charged
    (problems with a known optimum) or the quote forbids every route. Work is rounded to the nearest
    whole lot; an odd lot goes out only with the last shares. `weights` is overwritten with what was used.
    """
    completing = -1
    if is_last_slot(b, e) and not rules.leftover_charged:
        completing = completing_route(rules, b, e)
    child_orders(
        b.order[e].remaining_shares, work_shares, weights, b.masked[e], rules.route_type, rules.route_cap,
        rules.lot_shares, rules.max_routes, rules.weight_cut, completing, dark_room_shares(rules, b, e),
        b.child_shares[e],
    )  # fmt: skip
