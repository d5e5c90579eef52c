"""What a user's own router is shown: the public state of the open orders, as read-only copies, and nothing latent."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..envs.compiled import compiled
from ..envs.features import observation_names
from ..envs.market import Market
from ..envs.quotes import quote_e6
from ..envs.scorecard import CARD_OF
from ..envs.state import POST, TAKE, Batch
from ..envs.venues import Route, Rules

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PublicMarket:
    """Names and limits of a market. Columns of every (n, R) array are `routes`, of the observation `features`."""

    name: str
    interval_s: float
    lot_shares: int
    max_routes: int  # child orders that one decision may release
    max_dark_frac: float  # of the order
    routes: tuple[Route, ...]
    features: tuple[str, ...]

    @classmethod
    def of(cls, market: Market) -> PublicMarket:
        settings = market.rules.settings[0]
        return cls(
            market.config.name, float(settings["interval_s"]), int(settings["lot_shares"]),
            int(settings["max_routes"]), float(settings["max_dark_frac"]), tuple(market.routes),
            tuple(observation_names(market.routes)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """n open orders at one decision, row by row: the fields of `RoutingState` as arrays that cannot be written to.

    Shares are whole, quotes in $0.000001, times in seconds from the session's open; R routes.
    """

    number: Ints  # (n,) tells orders of one evaluation apart
    side: Ints  # +1 buy, -1 sell
    ordered_shares: Ints
    remaining_shares: Ints
    dark_shares: Ints  # filled dark so far
    adv_shares: Ints
    slot: Ints
    n_slots: Ints
    time_s: Floats
    target_shares: Floats  # left to do after this slot, by the schedule
    slice_shares: Floats  # scheduled for this slot
    bid_e6: Ints
    ask_e6: Ints
    tick_e6: Ints
    half_spread_bps: Floats
    vol_ratio: Floats  # NaN: no reference
    nbbo_moves_10s: Ints
    arrival_usd: Floats
    masked: NDArray[np.bool_]  # (n, R) the controls will send nothing there
    fee_bps: Floats  # (n, R) - = rebate
    attempts: Ints  # (n, R) scorecard of the route; a take has none: 0
    filled: Ints
    markouts: Ints
    markout_hs_sum: Floats
    min_quantity_shares: Ints  # (n, R)
    observation: Floats  # (n, n_obs)

    @classmethod
    def of(cls, market: Market, b: Batch, obs: Floats, rows: Ints) -> OpenOrders:
        """Copies of `rows` of a batch; nothing latent is read."""
        ep, order = b.episode[rows], b.order[rows]
        tape = b.tape[rows, order["slot"]]
        types, venues = market.rules.route_type, market.rules.route_venue
        venue, card = b.venue[rows][:, venues], b.card[rows][:, venues, np.maximum(CARD_OF[types], 0)]
        quotes = np.zeros((len(rows), 2), np.int64)
        _quotes(market.rules, b, rows, quotes)
        has_card = types != TAKE
        view = cls(
            number=ep["number"],
            side=ep["side"].astype(np.int64),
            ordered_shares=ep["shares"],
            remaining_shares=order["remaining_shares"],
            dark_shares=order["dark_shares"],
            adv_shares=ep["adv_shares"],
            slot=order["slot"],
            n_slots=ep["n_slots"],
            time_s=ep["start_s"] + order["slot"] * market.rules.interval_s,
            target_shares=ep["shares"] * tape["schedule_next"],
            slice_shares=ep["shares"] * (tape["schedule_now"] - tape["schedule_next"]),
            bid_e6=quotes[:, 0],
            ask_e6=quotes[:, 1],
            tick_e6=np.rint(ep["tick_usd"] * 1e6).astype(np.int64),
            half_spread_bps=tape["half_spread_bps"],
            vol_ratio=tape["vol_ratio"],
            nbbo_moves_10s=tape["nbbo_moves"].astype(np.int64),
            arrival_usd=ep["price_usd"],
            masked=b.masked[rows],
            fee_bps=np.where(types == POST, venue["post_fee_bps"], venue["take_fee_bps"]),
            attempts=np.where(has_card, card["attempts"], 0),
            filled=np.where(has_card, card["filled"], 0),
            markouts=np.where(has_card, card["markouts"], 0),
            markout_hs_sum=np.where(has_card, card["markout_hs_sum"], 0.0),
            min_quantity_shares=venue["min_quantity_shares"],
            observation=obs[rows],
        )
        for field in fields(cls):  # a field of a record array is a view of all of it, latents included: copy it out
            array = np.array(getattr(view, field.name))
            array.setflags(write=False)
            object.__setattr__(view, field.name, array)
        return view

    def __len__(self) -> int:
        return len(self.number)


@compiled
def _quotes(rules: Rules, b: Batch, rows: np.ndarray, out: np.ndarray) -> None:
    for i in range(rows.shape[0]):
        out[i, 0], out[i, 1] = quote_e6(rules, b, rows[i])


__all__ = ["OpenOrders", "PublicMarket"]
