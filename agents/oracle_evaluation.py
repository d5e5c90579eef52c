"""The exact cost of a learned policy on a problem with a known optimum, and the regret of its decisions.

Decisions go through the simulator's own observation, pace, weights and controls; costs are sums over all fill paths.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.controls import release_rows
from ..envs.features import N_GLOBAL, observe_rows
from ..envs.market import Market, proposals_from_scores, stream_key
from .oracle_markets import CONTINUOUS_SHARES, LOT_SHARES, FillParams, OracleParams, market_of
from .oracle_views import SIGNAL
from .oracles.fill_paths import DarkFillPolicy, cost_of_policy, regrets_on_paths
from .oracles.fill_recursion import solve_fill_problem
from .oracles.lot_problem import LotRoutingParams
from .oracles.lot_regimes import belief_chain, evaluate_lot_regimes, propagate_lot_regimes, regime_action_regret
from .oracles.lot_routing import action_regret, evaluate_lot_policy, propagate_lot_policy
from .router import ScoringRouter

IntArray = npt.NDArray[np.int64]


class StateDecisions:
    """What a score policy sends in given states, through the simulator's own observation, pace, weights and release."""

    def __init__(self, params: OracleParams, policy: ScoringRouter) -> None:
        self.market = Market(market_of(params))
        self.policy = policy

    def child_shares(self, slots: IntArray, remaining_shares: IntArray, belief: float | None = None) -> IntArray:
        """(n, R) shares released in slot `slots` (n,) with `remaining_shares` (n,) > 0 left, routes lit first.

        `belief` in the first regime, where one is hidden.
        """
        n, market = len(slots), self.market
        b, obs = market.batch(n)
        market.reset(stream_key(0, "test"), np.arange(n), np.zeros(n, np.int64), b, obs)
        opening = obs[:, N_GLOBAL:].copy()
        b.order["slot"], b.order["remaining_shares"] = slots, remaining_shares
        observe_rows(market.rules, b, 0, len(slots), obs, 0)
        obs[:, N_GLOBAL:] = opening
        if belief is not None:
            obs[:, SIGNAL] = 2 * belief - 1
        work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
        proposals_from_scores(market.rules, b, self.policy.scores(obs), work, weights)
        release_rows(market.rules, b, work, weights)
        return b.child_shares


def lot_actions(params: LotRoutingParams, policy: ScoringRouter, belief: float | None = None) -> IntArray:
    """(n_slots, lots + 1, 1 + n_pools) lots that the policy sends in every state; nothing when nothing is left."""
    n_slots = len(params.u)
    slots, lots = np.repeat(np.arange(n_slots), params.lots), np.tile(np.arange(1, params.lots + 1), n_slots)
    sent = StateDecisions(params, policy).child_shares(slots, lots * LOT_SHARES, belief) // LOT_SHARES
    actions = np.zeros((n_slots, params.lots + 1, sent.shape[1]), np.int64)
    actions[slots, lots] = sent
    return actions


def regime_actions(params: LotRoutingParams, policy: ScoringRouter) -> IntArray:
    """(n_slots, B, lots + 1, 1 + n_pools) lots that the policy sends, by the belief states of `belief_chain`."""
    beliefs = belief_chain(params).prob
    return np.stack([lot_actions(params, policy, float(belief)) for belief in beliefs], axis=1)


def quantities_of(params: FillParams, policy: ScoringRouter) -> DarkFillPolicy:
    """(slot, remaining) -> the (lit, dark) quantities that the policy sends, in the problem's unit."""
    decisions, x0 = StateDecisions(params, policy), params.fill_problem().x0

    def quantities(slot: int, remaining: float) -> tuple[float, float]:
        left = max(1, round(remaining / x0 * CONTINUOUS_SHARES))
        lit, dark = decisions.child_shares(np.array([slot]), np.array([left]))[0] / left * remaining
        return float(lit), float(dark)

    return quantities


def exact_cost(params: OracleParams, policy: ScoringRouter) -> float:
    """Expected cost of the deterministic policy in the problem's unit, over all fill paths."""
    if not isinstance(params, LotRoutingParams):
        return cost_of_policy(params.fill_problem(), quantities_of(params, policy))
    if params.regimes is not None:
        return evaluate_lot_regimes(params, regime_actions(params, policy))
    return evaluate_lot_policy(params, lot_actions(params, policy))


def worst_regret(params: OracleParams, policy: ScoringRouter) -> float:
    """The largest regret Q*(s, a) - V*(s) of a decision that the policy comes to with a probability of 1 % or more."""
    if not isinstance(params, LotRoutingParams):
        problem = params.fill_problem()
        best = solve_fill_problem(problem).policy
        return max(r for prob, r in regrets_on_paths(problem, quantities_of(params, policy), best) if prob >= 0.01)
    if params.regimes is not None:
        by_belief = regime_actions(params, policy)
        law, regret = propagate_lot_regimes(params, by_belief), regime_action_regret(params, by_belief)
    else:
        actions = lot_actions(params, policy)
        law, regret = propagate_lot_policy(params, actions).lots_left_prob[:-1], action_regret(params, actions)
    return float(regret[law >= 0.01].max())
