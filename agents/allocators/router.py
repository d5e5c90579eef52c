"""The allocators in the market: the passive part of the slice is split over the pools, the late part is taken.

Which order type: a *rest* (a ping where a pool takes no rests). The published setting is one order a round, of which
the part that fills is told at the round's end; a rest meets every arrival of its slot, so it is that, and a ping would
see the node's stock only, and leak. The lit part follows the schedule as the rule SOR's does (`split_due`): what is
later than `behind_s` is taken, up to `max_slices` slices are offered to the pools. Where no pool is open or worth it,
what is due is taken at once.

Learning:

- *within an order*, from its own child orders: shares sent and filled since the last decision.
- *across orders*: an order starts from what is known of its own pools. (1) The scorecard that every router reads is the
  pool's history: its attempts and fills are D and N at the first lot (weight at most `history_attempts`), its fill rate
  sets the weights of the other rules. (2) Where pools are the same venues in every order (a market that does not deal
  archetypes over slots), `warm_up` orders of the training stream, seed 0, are worked first, one after the other, each
  starting from the state the last one of its stock class left; every order of an evaluation then starts from the state
  they leave. So an order's outcome depends neither on the others of its batch nor on the number of processes.

Markout-aware forms put b_i = half spread + cheapest take fee - pool fee + markout of the scorecard, shrunk by its
count, in place of 1, and leave out pools where b_i <= 0.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...configs.allocator import ALLOCATOR_CONFIGS, AllocatorConfig
from ...envs.compiled import compiled
from ...envs.counter_rng import derive, key_of, uniform
from ...envs.market import Market, step_proposals, stream_key
from ...envs.scorecard import CARD_OF, shrunk_fill_rate, shrunk_markout_hs
from ...envs.state import PING, REST, Batch
from ...envs.venues import Rules
from ..rule_based import best_take, split_due
from . import exponentiated_gradient, kaplan_meier, lagrangian, thompson
from .rounding import keep_largest, systematic_round

Floats = NDArray[np.float64]
Rule = Literal["ganchev", "agarwal", "llp", "thompson"]
RULES: tuple[Rule, ...] = ("ganchev", "agarwal", "llp", "thompson")
_GANCHEV, _AGARWAL, _LLP, _THOMPSON = range(4)

LOTS = 150  # most lots a slot that go to the pools: three child orders of 50, the default caps


class Settings(NamedTuple):
    """A rule's settings for compiled code; what it does not have is 0 and not read."""

    behind_s: float
    max_slices: float
    history_attempts: float = 0.0
    least_tries: float = 0.0
    rate_ratio: float = 0.0
    explore_frac: float = 0.0


# What is remembered of a row's order: which it is, the last slot decided, and the lots offered then.
MEMORY = np.dtype([("key", "u8"), ("slot", "i8"), ("lots", "i8")])


@compiled
def pool_values(
    rules: Rules, b: Batch, e: int, route: np.ndarray, aware: bool, take_fee_bps: float, value: np.ndarray
) -> None:  # fmt: skip
    """Write `value` (P,): net value of a filled share in bps, or 1; 0 where the pool's route is masked.

    Half spread + take fee - pool fee + scorecard markout (10 s, shrunk by its count; - = adverse).
    """
    half, unit = b.tape[e, b.order[e].slot].half_spread_bps, b.episode[e].half_spread_bps
    for i in range(route.shape[0]):
        v, kind = rules.route_venue[route[i]], rules.route_type[route[i]]
        value[i] = 1.0
        if aware:
            markout_bps = shrunk_markout_hs(b.card[e, v, CARD_OF[kind]]) * unit
            value[i] = half + take_fee_bps - b.venue[e, v].take_fee_bps + markout_bps
        if b.masked[e, route[i]]:
            value[i] = 0.0


@compiled
def open_state(
    rules: Rules, b: Batch, e: int, route: np.ndarray, rule: int, history_attempts: float, state: np.ndarray
) -> None:
    """What the scorecards know of this order's pools, as the rule's opening state."""
    share = np.zeros(route.shape[0])
    state[:, :, :] = 0.0
    for i in range(route.shape[0]):
        which = CARD_OF[rules.route_type[route[i]]]
        card = b.card[e, rules.route_venue[route[i]], which]
        share[i] = shrunk_fill_rate(card, which)
        if (rule == _GANCHEV or rule == _THOMPSON) and card.attempts > 0:
            weight = min(1.0, history_attempts / card.attempts)
            state[1, i, 0] = weight * card.attempts
            state[0, i, 0] = weight * (card.attempts - card.filled)
    if rule == _AGARWAL:
        exponentiated_gradient.start(state, share)
    elif rule == _LLP:
        lagrangian.start(state, share)


@compiled
def propose_all(
    rules: Rules, b: Batch, route: np.ndarray, rule: int, aware: bool, own: Settings, own_key: np.uint64,
    carried: np.ndarray, known: np.ndarray, memory: np.ndarray, totals: np.ndarray, states: np.ndarray,
    work: np.ndarray, weights: np.ndarray,
) -> None:  # fmt: skip
    """Learn from what came back since the last decision, then split; see the head of this file.

    Args:
        route: (P,) each pool's route.
        carried, known: (S, 2, P, L) state by stock class that orders start from, (S,) whether there is one.
        memory, totals, states: (E,), (E, 2, P) shares sent and filled so far, (E, 2, P, L); kept between decisions.
    """
    n_pools, lot = route.shape[0], rules.settings[0].lot_shares
    value, lots, sent, filled = np.zeros(n_pools), np.zeros(n_pools), np.zeros(n_pools), np.zeros(n_pools)
    cap = np.zeros(n_pools)  # of a child order, lots: the controls would move what is over to lit
    for i in range(n_pools):
        cap[i] = min(LOTS, rules.route_cap[route[i]] // lot)
    tail = np.zeros((n_pools, int(cap.max()) if n_pools else 0))
    for e in range(b.order.shape[0]):
        order, ep, seen, state = b.order[e], b.episode[e], memory[e], states[e]
        if order.active == 0:
            continue
        weights[e, :] = 0.0
        work[e] = 0.0
        take_route = best_take(rules, b, e)
        take_fee_bps = b.venue[e, rules.route_venue[max(0, take_route)]].take_fee_bps
        pool_values(rules, b, e, route, aware, take_fee_bps, value)
        same = seen.key == ep.key and order.slot > 0 and (order.slot == seen.slot or order.slot == seen.slot + 1)
        if not same:
            if known[ep.stock]:
                state[:, :, :] = carried[ep.stock]
            else:
                open_state(rules, b, e, route, rule, own.history_attempts, state)
        for i in range(n_pools):
            total = b.total[e, route[i]]
            sent[i] = (total.routed_shares - totals[e, 0, i]) // lot
            filled[i] = (total.filled_shares - totals[e, 1, i]) // lot
            totals[e, 0, i], totals[e, 1, i] = total.routed_shares, total.filled_shares
        if same and order.slot == seen.slot + 1 and sent.sum() > 0.0:
            if rule == _GANCHEV or rule == _THOMPSON:
                kaplan_meier.learn(state, sent, filled)
            elif rule == _LLP:
                before = float(seen.lots)  # the parts as they were before they were rounded
                lagrangian.split(state, value, before, own.explore_frac, lots)
                lagrangian.learn(state, value, sent, filled, np.minimum(lots, 1.0))
            else:
                rate = own.rate_ratio * math.sqrt(math.log(max(2.0, n_pools)) / ep.n_slots)
                exponentiated_gradient.learn(state, value, seen.lots, filled, rate, True)
        seen.key, seen.slot, seen.lots = ep.key, order.slot, 0
        if take_route < 0:
            continue
        weights[e, take_route] = 1.0
        row = b.tape[e, order.slot]
        due = max(0.0, order.remaining_shares - ep.shares * row.schedule_next)
        if n_pools == 0 or value.max() <= 0.0:
            work[e] = due
            continue
        take, passive = split_due(rules, b, e, own.behind_s, own.max_slices)
        volume = min(LOTS, int(passive / lot + 0.5))
        key = derive(ep.key, 0) ^ own_key
        if rule == _GANCHEV:
            kaplan_meier.split(state, value, volume, own.least_tries, key, order.slot, tail, lots)
        elif rule == _THOMPSON:
            thompson.split(state, value, volume, key, order.slot, tail, lots)
        elif rule == _LLP:
            lagrangian.split(state, value, float(volume), own.explore_frac, lots)
            systematic_round(lots, uniform(key, order.slot, 0))
        else:
            exponentiated_gradient.split(state, value, volume, lots)
            systematic_round(lots, uniform(key, order.slot, 0))
        seen.lots = volume
        for i in range(n_pools):
            lots[i] = min(lots[i], cap[i])
        if take > 0.0:
            keep_largest(lots, rules.settings[0].max_routes - 1)  # one route is the lit one's
        work[e] = take + lots.sum() * lot
        if work[e] > 0.0:
            weights[e, take_route] = take / work[e]
            for i in range(n_pools):
                weights[e, route[i]] = lots[i] * lot / work[e]
        work[e] = min(work[e], float(order.remaining_shares))


class AllocatorRouter:
    """One of RULES as a router, `aware` of markouts or not; the head of this file tells what it does."""

    def __init__(
        self, rule: Rule, config: AllocatorConfig | None = None, *, aware: bool = False, warm_up: int = 50
    ) -> None:
        self.name = f"{rule}_markout" if aware else rule
        self.config = config or ALLOCATOR_CONFIGS[rule]()
        self._rule, self._aware, self._warm_up = RULES.index(rule), aware, warm_up
        self._settings = Settings(**self.config.model_dump())
        self._key = key_of(f"glasspool/{rule}")
        self._market: Market | None = None
        self._route = np.zeros(0, np.int64)
        self._carried, self._known = np.zeros((0, 2, 0, LOTS)), np.zeros(0, np.bool_)  # by stock class
        self._memory = np.zeros(0, MEMORY)  # by row, with the next two
        self._totals, self._states = np.zeros((0, 2, 0), np.int64), np.zeros((0, 2, 0, LOTS))

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        if self._market is not market:
            self._meet(market)
        if len(self._memory) != len(b.order):
            self._memory = np.zeros(len(b.order), MEMORY)
            self._totals = np.zeros((len(b.order), 2, len(self._route)), np.int64)
            self._states = np.zeros((len(b.order), 2, len(self._route), LOTS))
        propose_all(
            market.rules, b, self._route, self._rule, self._aware, self._settings, self._key,
            self._carried, self._known, self._memory, self._totals, self._states, work, weights,
        )  # fmt: skip

    def state_of_row(self, e: int) -> Floats:
        """(2, P, LOTS) what is known in row `e`, as the rule keeps it."""
        return self._states[e]

    def _meet(self, market: Market) -> None:
        """Forget other markets; where pools stay the same venues, work the training orders that open the state."""
        self._market = market
        self._route = pool_routes(market)
        self._memory = np.zeros(0, MEMORY)
        n_stocks = len(market.config.stocks)
        self._carried = np.zeros((n_stocks, 2, len(self._route), LOTS))
        self._known = np.zeros(n_stocks, np.bool_)
        if market.rules.permute:
            return
        b, obs = market.batch(1)
        work, weights = np.zeros(1), np.zeros((1, len(market.routes)))
        for number in range(self._warm_up):
            market.reset(stream_key(0, "train"), [0], [number], b, obs, "train")
            while b.order["active"][0]:
                self.propose(market, b, obs, work, weights)
                step_proposals(market.rules, b, work, weights, obs)
            stock = int(b.episode["stock"][0])
            self._carried[stock], self._known[stock] = self._states[0], True


def pool_routes(market: Market) -> NDArray[np.int64]:
    """(P,) the route of each pool in MIC order: its rest, or its ping where it takes no rests."""
    by_pool: dict[str, int] = {}
    for kind in (PING, REST):
        for r, route in enumerate(market.routes):
            if market.rules.route_type[r] == kind:
                by_pool[route.venue] = r
    return np.array([by_pool[name] for name in sorted(by_pool)], np.int64)
