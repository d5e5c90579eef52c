"""Pre-trade controls: which routes are masked, and how a proposal becomes child orders. Every router passes through here."""

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
    """Whole lots by largest remainder (ties: route order); overflow of a cap goes to the next remainder. Returns lots placed."""
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
def release(rules: Rules, b: Batch, e: int, work_shares: float, weights: np.ndarray) -> None:
    """Turn a proposal (shares to work, weights over routes) into released child orders `b.child_shares[e]`.

    Masked routes get nothing. In the last slot all that is left goes to the completing take, unless leaves are charged
    (problems with a known optimum) or the quote forbids every route. Work is rounded to the
    nearest whole lot; an odd lot goes out only with the last shares.
    `weights` is overwritten with what was used.
    """
    order = b.order[e]
    child = b.child_shares[e]
    child[:] = 0
    q, lot = order.remaining_shares, rules.lot_shares
    n = weights.shape[0]
    if is_last_slot(b, e) and not rules.leftover_charged:
        r = completing_route(rules, b, e)
        weights[:] = 0.0
        if not b.masked[e, r]:
            weights[r] = 1.0
            child[r] = q
        return
    for r in range(n):
        if b.masked[e, r]:
            weights[r] = 0.0
    keep_best_routes(weights, rules.max_routes, rules.weight_cut)
    work = min(max(work_shares, 0.0), float(q))
    lots = min(q // lot, int(math.floor(work / lot + 0.5)))
    if q < lot and work > 0.0:
        best = 0
        for r in range(n):
            if weights[r] > weights[best]:
                best = r
        if weights[best] > 0.0:
            child[best] = q
        return
    if lots == 0:
        return
    caps = np.empty(n, np.int64)
    for r in range(n):
        caps[r] = rules.route_cap[r] // lot
    split_lots(lots, weights, caps, child)
    for r in range(n):
        child[r] *= lot
    _respect_dark_cap(rules, b, e, child)


@compiled
def _respect_dark_cap(rules: Rules, b: Batch, e: int, child: np.ndarray) -> None:
    """Clip dark children so that even if all fill, the parent's dark share stays within its cap (down to a round lot)."""
    room = int(rules.max_dark_frac * b.episode[e].shares) - b.order[e].dark_shares
    for r in range(child.shape[0]):
        if rules.route_type[r] > POST and child[r] > 0:
            allowed = max(0, room) // rules.lot_shares * rules.lot_shares
            child[r] = min(child[r], allowed)
            room -= child[r]
