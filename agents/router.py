"""The protocol every router speaks: look at a batch of orders, propose shares to work and weights over routes.

Controls turn proposals into child orders (`envs/controls.py`), the same for all. Routers read only the observation, the
scorecards and the public part of the state; what a router may not see is marked in `envs/state.py`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..envs.compiled import compiled
from ..envs.controls import pace_band
from ..envs.counter_rng import derive, uniform
from ..envs.market import Market, proposals_from_scores
from ..envs.state import POST, Batch
from ..envs.venues import Rules
from .rule_based import best_take, split_due

Floats = NDArray[np.float64]


class Router(Protocol):
    """Anything that decides."""

    name: str

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        """Fill `work` (E,) shares and `weights` (E, R) >= 0, summing to 1, for every active row."""


class ScoringRouter(Protocol):
    """A router that scores: (E, n_obs) -> actions (E, 1 + R), pace score then route scores."""

    @property
    def name(self) -> str: ...

    def scores(self, obs: Floats) -> Floats: ...


class ScoreRouter:
    """Makes a Router of a scoring policy."""

    def __init__(self, policy: ScoringRouter) -> None:
        self.policy = policy
        self.name = policy.name

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        proposals_from_scores(market.rules, b, self.policy.scores(obs), work, weights)


@compiled
def _propose_random(rules: Rules, b: Batch, key: np.uint64, work: np.ndarray, weights: np.ndarray) -> None:
    settings = rules.settings[0]
    for e in range(b.order.shape[0]):
        if b.order[e].active == 0:
            continue
        n = b.order[e].slot
        own = derive(b.episode[e].key, 0) ^ key
        lo, hi = pace_band(rules, b, e)
        work[e] = lo + (hi - lo) * uniform(own, n, 0)
        open_routes = 0
        for r in range(weights.shape[1]):
            open_routes += 0 if b.masked[e, r] else 1
        for r in range(weights.shape[1]):
            weights[e, r] = 0.0
        if open_routes == 0:
            continue
        for i in range(min(settings.max_routes, open_routes)):
            pick = int(uniform(own, n, 1 + i) * open_routes)
            for r in range(weights.shape[1]):
                if not b.masked[e, r]:
                    if pick == 0:
                        weights[e, r] += 1.0 / settings.max_routes
                        break
                    pick -= 1


class RandomRouter:
    """Uniform pace within the band, up to three routes drawn uniformly among those not masked."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._key = np.uint64(derive(np.uint64(0x52414E44), seed))

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        _propose_random(market.rules, b, self._key, work, weights)


@compiled
def _propose_lit(rules: Rules, b: Batch, post: int, work: np.ndarray, weights: np.ndarray) -> None:
    for e in range(b.order.shape[0]):
        if b.order[e].active == 0:
            continue
        weights[e, :] = 0.0
        take_route = best_take(rules, b, e)
        if take_route < 0:
            work[e] = 0.0
            continue
        take, passive = split_due(rules, b, e, 60.0, 3.0)
        if post < 0 or b.masked[e, post]:
            row = b.tape[e, b.order[e].slot]
            work[e] = max(0.0, b.order[e].remaining_shares - b.episode[e].shares * row.schedule_next)
            weights[e, take_route] = 1.0
            continue
        work[e] = take + passive
        if work[e] > 0.0:
            weights[e, take_route] = take / work[e]
            weights[e, post] = passive / work[e]


class LitVwap:
    """Take what the schedule says at the cheapest lit venue, every slot."""

    name = "vwap_lit"

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        _propose_lit(market.rules, b, -1, work, weights)


@compiled
def _propose_even(rules: Rules, b: Batch, work: np.ndarray, weights: np.ndarray) -> None:
    for e in range(b.order.shape[0]):
        order, ep = b.order[e], b.episode[e]
        if order.active == 0:
            continue
        weights[e, :] = 0.0
        work[e] = 0.0
        take_route = best_take(rules, b, e)
        if take_route >= 0:
            target = ep.shares * (ep.n_slots - order.slot - 1) / ep.n_slots
            work[e] = max(0.0, order.remaining_shares - target)
            weights[e, take_route] = 1.0


class LitTwap:
    """Take an even share of the order at the cheapest lit venue, every slot."""

    name = "twap_lit"

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        _propose_even(market.rules, b, work, weights)


class AlwaysPost:
    """Post on one venue; what falls more than a minute behind the schedule is taken."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.name = f"post_{venue}"

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        route = [i for i, r in enumerate(market.routes) if r.venue == self.venue and r.order_type == "post"]
        if not route:
            lit = sorted({r.venue for r in market.routes if r.order_type == "post"})
            raise UserError(f"router {self.name!r}: no venue {self.venue!r} takes posts here; try one of {lit}")
        _propose_lit(market.rules, b, route[0], work, weights)


__all__ = ["POST", "AlwaysPost", "LitTwap", "LitVwap", "RandomRouter", "Router", "ScoreRouter", "ScoringRouter"]
