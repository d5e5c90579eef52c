"""What the rule SOR reads at one decision, as plain values: of a live state, or of a record that is decided again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..configs.errors import UserError
from ..configs.market import MarketConfig
from ..envs.market import Market
from ..envs.quotes import quote_e6
from ..envs.routing_state import RoutingState
from ..envs.state import CARDS, PING, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, QUOTE_NORMAL, Batch
from ..envs.venues import Route, Rules, build_rules
from ..explain.facts import Body, Facts, Limits, Parent, type_of, venue_of

Scorecard = Mapping[str, Mapping[str, Mapping[str, float]]]  # by venue and row, as RoutingState's
COUNTS = ("attempts", "filled", "markouts")


@dataclass(frozen=True, slots=True)
class VenueRules:
    """The venues of a run record: routes, lots and interval of its control limits."""

    rules: Rules
    routes: list[Route]
    venues: list[str]

    @classmethod
    def of(cls, limits: Limits, config: MarketConfig) -> VenueRules:
        """`config`: any market; the rule SOR reads nothing of it that the limits do not replace."""
        routes = [Route(venue_of(name), name.partition(":")[2]) for name in limits.routes]
        dark = {r.venue for r in routes if type_of(r.name) >= PING}
        lit = {r.venue for r in routes} - dark
        venues = sorted(lit) + sorted(dark)
        rules = build_rules(config)._replace(
            route_venue=np.array([venues.index(r.venue) for r in routes]), route_type=limits.route_types,
            route_cap=np.array(limits.route_caps_shares, np.int64),
        )  # fmt: skip
        return cls(
            rules.with_settings(
                n_lit=len(lit), n_venues=len(venues), interval_s=limits.interval_s, lot_shares=limits.lot_shares
            ),
            routes, venues,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleInputs:
    """A RuleState read back from records."""

    side: int
    ordered_shares: int
    remaining_shares: int
    dark_shares: int
    adv_shares: int
    slot: int
    n_slots: int
    bid_e6: int
    ask_e6: int
    tick_e6: int
    arrival_usd: float
    half_spread_bps: float
    vol_ratio: float
    nbbo_moves_10s: int
    schedule_now_frac: float
    schedule_next_frac: float
    scorecard: Scorecard
    fees_bps: Mapping[str, float]
    mask_codes: Mapping[str, str]

    @classmethod
    def of(
        cls, limits: Limits, parent: Parent, facts: Facts, *, arrival_usd: float, half_spread_bps: float,
        fees_bps: Mapping[str, float], scorecard: Scorecard,
    ) -> RuleInputs:  # fmt: skip
        """Raises UserError: fees or scorecards of other routes than the run's."""
        venues = {venue_of(route) for route in limits.routes}
        if set(fees_bps) != set(limits.routes) or set(scorecard) != venues:
            raise UserError("rule_inputs: fees_bps and scorecard do not name the run's routes and venues.")
        return cls(
            parent.side, parent.ordered_shares, facts.remaining_shares, facts.dark_shares, parent.adv_shares,
            facts.slot, parent.n_slots, facts.bid_e6, facts.ask_e6, parent.tick_e6, arrival_usd, half_spread_bps,
            facts.vol_ratio, facts.nbbo_moves_10s, facts.schedule_now_frac, facts.schedule_next_frac, scorecard,
            fees_bps, dict(zip(limits.routes, facts.masks, strict=True)),
        )  # fmt: skip


RuleMarket = Market | VenueRules
RuleState = RoutingState | RuleInputs


def put_state(s: RuleState, market: RuleMarket, b: Batch) -> None:
    """Write a state to row 0 of a batch. Raises UserError: the half spread does not fit the quote."""
    ep, order, row = b.episode[0], b.order[0], b.tape[0, s.slot]
    ep["side"], ep["shares"], ep["adv_shares"], ep["n_slots"] = s.side, s.ordered_shares, s.adv_shares, s.n_slots
    ep["price_usd"], ep["tick_usd"] = s.arrival_usd, s.tick_e6 / 1e6
    order["slot"], order["remaining_shares"], order["dark_shares"], order["active"] = (
        s.slot, s.remaining_shares, s.dark_shares, 1,
    )  # fmt: skip
    row["schedule_now"], row["schedule_next"] = s.schedule_now_frac, s.schedule_next_frac
    row["half_spread_bps"], row["vol_ratio"], row["nbbo_moves"] = s.half_spread_bps, s.vol_ratio, s.nbbo_moves_10s
    halted = "MASKED_HALT" in s.mask_codes.values()
    state = QUOTE_NORMAL if s.ask_e6 > s.bid_e6 else QUOTE_LOCKED if s.ask_e6 == s.bid_e6 else QUOTE_CROSSED
    row["quote_state"] = QUOTE_NONE if halted else state
    _put_venues(s, market, b)
    half_ticks = s.arrival_usd * 1e-4 * s.half_spread_bps / (s.tick_e6 / 1e6)
    ticks = (s.ask_e6 - s.bid_e6) / s.tick_e6  # the quote is the mid -+ the half spread, each at the nearest tick
    mid = (s.bid_e6 / s.tick_e6 + (ticks / 2 if ticks > 1 else min(half_ticks, 0.5))) * s.tick_e6 / 1e6
    row["mid_bps"] = 1e4 * (mid / s.arrival_usd - 1.0)
    if not halted and quote_e6(market.rules, b, 0) != (s.bid_e6, s.ask_e6):
        raise UserError(
            f"half_spread_bps = {s.half_spread_bps!r} does not fit the quote {s.bid_e6} x {s.ask_e6} (bid_e6, ask_e6) "
            f"with tick_e6 = {s.tick_e6}. Pass the state as one reading of the market."
        )


def _put_venues(s: RuleState, market: RuleMarket, b: Batch) -> None:
    for v, name in enumerate(market.venues):
        for r in market.routes:
            if r.venue == name:
                b.venue[0, v]["post_fee_bps" if r.order_type == "post" else "take_fee_bps"] = s.fees_bps[r.name]
        for c, kind in enumerate(CARDS):
            card = b.card[0, v, c]
            for field, value in s.scorecard[name].get(kind, {}).items():
                card[field] = value
            card["shown"] = 0


def inputs_body(s: RuleState) -> Body:
    """What the rule SOR read beyond a decision record's other fields, as the record holds it: exact, floats as repr."""
    return {
        "arrival_usd": repr(s.arrival_usd), "half_spread_bps": repr(s.half_spread_bps),
        "fees_bps": {route: repr(fee) for route, fee in s.fees_bps.items()},
        "scorecard": {
            venue: {
                kind: {name: int(card[name]) for name in COUNTS} | {"markout_hs_sum": repr(card["markout_hs_sum"])}
                for kind, card in cards.items()
            }
            for venue, cards in s.scorecard.items()
        },
    }  # fmt: skip
