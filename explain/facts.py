"""What one decision is made from, as plain values: everything that re-deciding it later needs, and nothing else.

`Limits` hold for a whole run, `Facts` for one decision. Both come from a market or from log records, so that the writer
of a log and its verifier run the same code on the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.session import SESSION_S
from ..envs.controls import MASK_CODES, completing_route, mask_code
from ..envs.market import Market
from ..envs.routing_state import RoutingState
from ..envs.scorecard import FILL_PRIOR, FILL_PRIOR_WEIGHT
from ..envs.state import CARD_OF_TYPE, CARDS, ORDER_TYPES, PING, POST, TAKE, Batch

Body = dict[str, Any]


def venue_of(route: str) -> str:
    return route.partition(":")[0]


def type_of(route: str) -> int:
    """TAKE, POST, PING or REST of a route's name. Raises ValueError for another name."""
    return ORDER_TYPES.index(route.partition(":")[2])


def is_dark(route: str) -> bool:
    return type_of(route) >= PING


@dataclass(frozen=True, slots=True)
class Limits:
    """Routes and the limits of the pre-trade controls, for one run."""

    routes: tuple[str, ...]
    route_caps_shares: tuple[int, ...]
    interval_s: float
    lot_shares: int
    max_routes: int
    weight_cut: float
    max_child_shares: int
    max_dark_frac: float
    band_frac: float
    full_band: bool  # the pace may be anything from nothing to all that is left
    completes: bool  # the last slot takes all that is left

    @classmethod
    def of(cls, market: Market) -> Limits:
        rules = market.rules
        return cls(
            tuple(r.name for r in market.routes), tuple(rules.route_cap.tolist()), rules.interval_s, rules.lot_shares,
            rules.max_routes, rules.weight_cut, rules.max_child_shares, rules.max_dark_frac, rules.band_frac,
            rules.full_band, not rules.leftover_charged,
        )  # fmt: skip

    def body(self) -> Body:
        """As the `run` record holds it; fractions as repr."""
        return {
            "routes": list(self.routes), "route_caps_shares": list(self.route_caps_shares),
            "interval_s": repr(self.interval_s), "lot_shares": self.lot_shares, "max_routes": self.max_routes,
            "weight_cut": repr(self.weight_cut), "max_child_shares": self.max_child_shares,
            "max_dark_frac": repr(self.max_dark_frac), "band_frac": repr(self.band_frac), "full_band": self.full_band,
            "completes": self.completes,
        }  # fmt: skip

    @property
    def route_types(self) -> NDArray[np.int64]:
        return np.array([type_of(r) for r in self.routes], np.int64)


@dataclass(frozen=True, slots=True)
class Parent:
    """The order that is worked. `side` +1 buy, -1 sell; times in UTC nanoseconds."""

    parent_id: str
    symbol: str
    side: int
    ordered_shares: int
    adv_shares: int
    n_slots: int
    tick_e6: int
    start_ns: int

    @classmethod
    def of(cls, state: RoutingState, parent_id: str, open_ns: int) -> Parent:
        """From the first decision's state; `open_ns` is the session's open."""
        start_ns = open_ns + round(state.time_s * 1e9)
        return cls(
            parent_id, state.symbol, state.side, state.ordered_shares, state.adv_shares, state.n_slots, state.tick_e6,
            start_ns,
        )  # fmt: skip

    def slot_ns(self, limits: Limits, slot: int) -> int:
        """Start of a slot."""
        return self.start_ns + round(slot * limits.interval_s * 1e9)

    def close_ns(self, state: RoutingState) -> int:
        """The session's close, from the first decision's state."""
        return self.start_ns + round((SESSION_S - state.time_s) * 1e9)


@dataclass(frozen=True, slots=True)
class Facts:
    """One decision's inputs. Per-route tuples are in the run's route order; money in $0.000001."""

    slot: int
    remaining_shares: int
    dark_shares: int  # filled dark so far
    children_before: int  # child orders of this parent so far
    schedule_now_frac: float  # of the order, left to do at the slot's start
    schedule_next_frac: float  # ... at its end
    bid_e6: int
    ask_e6: int
    nbbo_moves_10s: int
    vol_ratio: float  # NaN: no reference
    observation: tuple[float, ...]
    masks: tuple[str, ...]  # "" = open
    p_fill_ppm: tuple[int, ...]
    fee_e6: tuple[int, ...]  # a share, + = paid
    min_qty_shares: tuple[int, ...]
    completing_route: int  # lit take with the lowest fee
    measured: tuple[float, ...]  # the observation before the clip to each feature's range; NaN: missing

    @classmethod
    def of(cls, market: Market, b: Batch, e: int, state: RoutingState, children_before: int) -> Facts:
        """Of the decision that row `e` is about to make; nothing latent is read."""
        rules, row = market.rules, b.tape[e, state.slot]
        venues = [market.venues.index(r.venue) for r in market.routes]
        price_usd = float(b.episode[e]["price_usd"])
        return cls(
            slot=state.slot,
            remaining_shares=state.remaining_shares,
            dark_shares=state.dark_shares,
            children_before=children_before,
            schedule_now_frac=float(row["schedule_now"]),
            schedule_next_frac=float(row["schedule_next"]),
            bid_e6=state.bid_e6,
            ask_e6=state.ask_e6,
            nbbo_moves_10s=state.nbbo_moves_10s,
            vol_ratio=state.vol_ratio,
            observation=tuple(state.observation.tolist()),
            masks=tuple(MASK_CODES[mask_code(rules, b, e, r)] for r in range(len(market.routes))),
            p_fill_ppm=tuple(_p_fill_ppm(state, r.venue, ORDER_TYPES.index(r.order_type)) for r in market.routes),
            fee_e6=tuple(round(state.fees_bps[r.name] * 100.0 * price_usd) for r in market.routes),
            min_qty_shares=tuple(int(b.venue[e, v]["min_quantity_shares"]) for v in venues),
            completing_route=int(completing_route(rules, b, e)),
            measured=tuple(np.asarray(state.measured, np.float64).tolist()),
        )

    def limit_e6(self, route: str, side: int) -> int:
        """Price limit on a legal tick: take the far touch, post the near one, dark the midpoint (half ticks too)."""
        kind = type_of(route)
        far, near = (self.ask_e6, self.bid_e6) if side > 0 else (self.bid_e6, self.ask_e6)
        if kind == TAKE:
            return far
        if kind == POST:
            return near
        return self.mid_e6(side)

    def mid_e6(self, side: int) -> int:
        """Midpoint; one that falls between two e6 is rounded passively: down for a buy, up for a sell."""
        both = self.bid_e6 + self.ask_e6
        return both // 2 if side > 0 else -(-both // 2)


def _p_fill_ppm(state: RoutingState, venue: str, kind: int) -> int:
    """Chance that a child order gets a fill: the scorecard's rate, shrunk by attempts as the features have it."""
    if kind == TAKE:
        return 1_000_000
    card = CARD_OF_TYPE[kind]
    row = state.scorecard[venue][CARDS[card]]
    rate = (row["filled"] + FILL_PRIOR_WEIGHT * FILL_PRIOR[card]) / (row["attempts"] + FILL_PRIOR_WEIGHT)
    return round(1e6 * rate)
