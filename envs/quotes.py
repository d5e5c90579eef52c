"""The quote that a router sees: affected by own impact, on legal ticks, as exact integers of $0.000001."""

from __future__ import annotations

import math

from .compiled import compiled
from .state import QUOTE_CROSSED, QUOTE_LOCKED, Batch
from .venues import Rules


@compiled
def own_impact_bps(b: Batch, e: int) -> float:
    """Displacement of the affected mid against the client at the decision, bps."""
    order = b.order[e]
    permanent = b.episode[e].permanent_coef * order.executed_adv
    return order.transient_1 + order.transient_2 + order.leak_1 + order.leak_2 + order.display_bps + permanent


@compiled
def quote_e6(rules: Rules, b: Batch, e: int) -> tuple[int, int]:
    """Bid and ask at the decision, each at the nearest legal tick, at least one apart unless locked or crossed."""
    ep = b.episode[e]
    row = b.tape[e, b.order[e].slot]
    mid_bps = row.mid_bps + ep.side * own_impact_bps(b, e)
    mid = ep.price_usd * (1.0 + 1e-4 * mid_bps)
    half = ep.price_usd * 1e-4 * row.half_spread_bps
    bid = math.floor((mid - half) / ep.tick_usd + 0.5)
    ask = math.ceil((mid + half) / ep.tick_usd - 0.5)
    state = int(row.quote_state)
    if state == QUOTE_LOCKED:
        ask = bid
    elif state == QUOTE_CROSSED:
        ask = bid - 1
    elif ask <= bid:
        ask = bid + 1
    tick_e6 = int(round(ep.tick_usd * 1e6))
    return int(bid) * tick_e6, int(ask) * tick_e6
