"""What a router may know at one decision, as plain values: exact integers where rules compare them, features beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .controls import MASK_CODES, mask_code
from .features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES, measure_rows
from .market import Market
from .quotes import quote_e6
from .state import CARDS, Batch


@dataclass(frozen=True, slots=True)
class RoutingState:
    """One decision's view. Shares are whole, quotes in $0.000001, times in seconds from the session's open."""

    symbol: str
    side: int  # +1 buy, -1 sell
    ordered_shares: int
    remaining_shares: int
    adv_shares: int
    slot: int
    n_slots: int
    time_s: float
    interval_s: float
    target_shares: float  # left to do after this slot, by the schedule
    slice_shares: float  # scheduled for this slot
    bid_e6: int
    ask_e6: int
    tick_e6: int
    half_spread_bps: float
    vol_ratio: float
    nbbo_moves_10s: int
    dark_shares: int  # filled dark so far
    scorecard: dict[str, dict[str, dict[str, float]]]  # venue -> row -> attempts, filled, markouts, markout_hs_sum
    fees_bps: dict[str, float]  # by route
    masked: dict[str, bool]  # by route
    features: dict[str, float]  # global features
    route_features: dict[str, dict[str, float]]  # by route
    observation: NDArray[np.float64]  # (n_obs,), the same numbers flat
    measured: NDArray[np.float64]  # (n_obs,), before the clip to each feature's range
    mask_codes: dict[str, str]  # by route: the control that masks it, "" = open
    min_quantity_shares: dict[str, int]  # by venue
    arrival_usd: float  # mid when the order arrived
    schedule_now_frac: float  # of the order, left to do at the slot's start, by the schedule
    schedule_next_frac: float  # ... at its end

    @classmethod
    def from_batch(cls, market: Market, b: Batch, e: int, obs: NDArray[np.float64]) -> RoutingState:
        """Copy row `e` of a batch; nothing latent is read."""
        rules, routes = market.rules, market.routes
        ep, order = b.episode[e], b.order[e]
        row = b.tape[e, order["slot"]]
        bid, ask = quote_e6(rules, b, e)
        shares = int(ep["shares"])
        cards = {
            name: {
                kind: {f: float(b.card[e, v, c][f]) for f in ("attempts", "filled", "markouts", "markout_hs_sum")}
                for c, kind in enumerate(CARDS)
                if (kind == "post") == (v < rules.n_lit)
            }
            for v, name in enumerate(market.venues)
        }
        fees = {}
        for r in routes:
            venue = b.venue[e, market.venues.index(r.venue)]
            fees[r.name] = float(venue["post_fee_bps"] if r.order_type == "post" else venue["take_fee_bps"])
        measured = np.full((1, market.n_obs), np.nan)
        measure_rows(rules, b, e, e + 1, measured, e)
        split = [obs[N_GLOBAL + i * N_ROUTE : N_GLOBAL + (i + 1) * N_ROUTE] for i in range(len(routes))]
        return cls(
            symbol=market.config.stocks[int(ep["stock"])].name,
            side=int(ep["side"]),
            ordered_shares=shares,
            remaining_shares=int(order["remaining_shares"]),
            adv_shares=int(ep["adv_shares"]),
            slot=int(order["slot"]),
            n_slots=int(ep["n_slots"]),
            time_s=float(ep["start_s"] + order["slot"] * rules.interval_s),
            interval_s=rules.interval_s,
            target_shares=float(shares * row["schedule_next"]),
            slice_shares=float(shares * (row["schedule_now"] - row["schedule_next"])),
            bid_e6=int(bid),
            ask_e6=int(ask),
            tick_e6=round(float(ep["tick_usd"]) * 1e6),
            half_spread_bps=float(row["half_spread_bps"]),
            vol_ratio=float(row["vol_ratio"]),
            nbbo_moves_10s=int(row["nbbo_moves"]),
            dark_shares=int(order["dark_shares"]),
            scorecard=cards,
            fees_bps=fees,
            masked={r.name: bool(b.masked[e, i]) for i, r in enumerate(routes)},
            features={f.name: float(x) for f, x in zip(GLOBAL_FEATURES, obs, strict=False)},
            route_features={
                r.name: {f.name: float(x) for f, x in zip(ROUTE_FEATURES, values, strict=True)}
                for r, values in zip(routes, split, strict=True)
            },
            observation=obs.copy(),
            measured=measured[0],
            mask_codes={r.name: MASK_CODES[mask_code(rules, b, e, i)] for i, r in enumerate(routes)},
            min_quantity_shares={v: int(b.venue[e, i]["min_quantity_shares"]) for i, v in enumerate(market.venues)},
            arrival_usd=float(ep["price_usd"]),
            schedule_now_frac=float(row["schedule_now"]),
            schedule_next_frac=float(row["schedule_next"]),
        )
