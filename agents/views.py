"""What a policy is shown and what it may set, beside the plain view: the bounds, and routing under another's pace.

A *privileged* policy also sees what nobody on a desk can (`envs/privileged.py`): it bounds what there is to gain. A
*routing-only* policy chooses routes alone: the tuned SOR says how much is worked, and the imbalance is hidden, so what
it saves is saved by routing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..configs.experiment import AgentConfig
from ..envs.features import GLOBAL_FEATURES
from ..envs.market import Market, proposals_from_scores, step_proposals
from ..envs.privileged import LEVELS, Level, PrivilegedColumns
from ..envs.state import Batch
from ..envs.vector_env import EpisodeBatch
from .registry import named_router
from .router import Router, ScoreRouter, ScoringRouter

Floats = NDArray[np.float64]
PACER = "tuned_sor"
_IMBALANCE = [f.name for f in GLOBAL_FEATURES].index("imbalance_signed")


class PrivilegedRouter(ScoreRouter):
    """A policy that sees privileged columns. For bounds: it must meet every order from its first slot on."""

    def __init__(self, policy: ScoringRouter, level: Level) -> None:
        super().__init__(policy)
        self.level: Level = level
        self._columns: tuple[tuple[int, int], PrivilegedColumns] | None = None

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        shape = (id(market), b.order.shape[0])
        if self._columns is None or self._columns[0] != shape:
            self._columns = shape, PrivilegedColumns(market.rules, b.order.shape[0], market.n_obs, self.level)
        super().propose(market, b, self._columns[1].widen(b, obs), work, weights)


class RoutingOnlyRouter(ScoreRouter):
    """Routes by the policy, shares to work by the tuned SOR."""

    def __init__(self, policy: ScoringRouter) -> None:
        super().__init__(policy)
        self._pacer = named_router(PACER)

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        blind = obs.copy()
        blind[:, _IMBALANCE] = 0.0
        super().propose(market, b, blind, work, weights)
        _pace(self._pacer, market, b, obs, work)


class RoutingOnlyBatch(EpisodeBatch):
    """Parents in training whose pace is the tuned SOR's and whose imbalance is hidden."""

    _pacer: Router | None = None

    def reset(self) -> Floats:
        obs = super().reset()
        obs[:, _IMBALANCE] = 0.0
        return obs

    def replace(self, rows: NDArray[np.int64]) -> None:
        super().replace(rows)
        self.obs[:, _IMBALANCE] = 0.0

    def work(self, actions: Floats) -> None:
        if self._pacer is None:
            self._pacer = named_router(PACER)
        proposals_from_scores(self.market.rules, self.batch, actions, self._work, self._weights)
        _pace(self._pacer, self.market, self.batch, self.obs, self._work)
        step_proposals(self.market.rules, self.batch, self._work, self._weights, self.obs)
        self.obs[:, _IMBALANCE] = 0.0


def _pace(pacer: Router, market: Market, b: Batch, obs: Floats, work: Floats) -> None:
    pacer.propose(market, b, obs, work, np.zeros((b.order.shape[0], len(market.routes))))


def router_of(policy: ScoringRouter, agent: AgentConfig) -> ScoreRouter:
    """The policy as the router that it was trained to be."""
    if agent.privileged != "none":
        return PrivilegedRouter(policy, agent.privileged)
    return RoutingOnlyRouter(policy) if agent.routing_only else ScoreRouter(policy)


def training_columns(agent: AgentConfig) -> Level:
    """Privileged columns that training needs: the actor's, or more for the critic."""
    return LEVELS[max(LEVELS.index(agent.privileged), LEVELS.index(agent.critic_privileged))]


__all__ = ["PACER", "PrivilegedRouter", "RoutingOnlyBatch", "RoutingOnlyRouter", "router_of", "training_columns"]
