"""O10 in the simulator: charges that follow a hidden regime, and what the policy is shown of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool.agents.oracle_markets import LOT_SHARES, cost_in_problem_units, market_of
from glasspool.agents.oracle_problems import PROBLEMS
from glasspool.agents.oracle_views import SIGNAL, ProblemView
from glasspool.agents.oracles.lot_problem import LotRoutingParams
from glasspool.agents.oracles.lot_regimes import (
    belief_chain,
    evaluate_lot_regimes,
    propagate_lot_regimes,
    regime_action_regret,
    solve_lot_regimes,
)
from glasspool.agents.oracles.lot_routing import evaluate_lot_policy
from glasspool.agents.oracles.lot_rules import simple_rules
from glasspool.configs.errors import UserError
from glasspool.envs.market import Market, step_proposals, stream_key

CASES = ("O10-seen", "O10-fills", "O10-never")
N_ORDERS = 40_000


def problem(case: str, **regimes: Any) -> LotRoutingParams:
    params = PROBLEMS[case].params.model_dump()
    return LotRoutingParams.model_validate(params | {"regimes": params["regimes"] | regimes})


def simulated_costs(
    params: LotRoutingParams, actions: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cost of every order, its actions looked up by the belief that the view shows, and the beliefs shown (n, slots),
    NaN once done."""
    chain = belief_chain(params)
    market = Market(market_of(params))
    view = ProblemView(market.rules, params)
    b, obs = market.batch(n)
    market.reset(stream_key(3, "test"), np.arange(n), np.arange(n), b, obs)
    penalty_bps, beliefs = np.zeros(n), []
    while (rows := np.flatnonzero(b.order["active"])).size:
        belief = (view(b, obs)[:, SIGNAL] + 1) / 2
        beliefs.append(np.where(b.order["active"] == 1, belief, np.nan))
        state = np.abs(belief[:, None] - chain.prob).argmin(1)
        assert np.abs(belief - chain.prob[state])[rows].max() < 1e-12
        meant = np.zeros((n, len(market.routes)), np.int64)
        lots = b.order["remaining_shares"] // LOT_SHARES
        slots = np.minimum(b.order["slot"], len(params.u) - 1)
        meant[rows] = actions[slots, state, lots][rows] * LOT_SHARES
        work = meant.sum(1).astype(float)
        step_proposals(market.rules, b, work, meant / np.maximum(work, 1)[:, None], obs)
        assert (b.child_shares[rows] == meant[rows]).all()
        penalty_bps[rows] += b.order["penalty_bps"][rows]
    return cost_in_problem_units(params, b.order["cost_bps"], penalty_bps), np.array(beliefs).T


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_with_a_hidden_regime_is_the_mean_over_simulated_orders(case: str) -> None:
    params = problem(case)
    solution = solve_lot_regimes(params)
    costs, _ = simulated_costs(params, solution.action, N_ORDERS)
    error = costs.std(ddof=1) / np.sqrt(N_ORDERS)
    assert 0 < error < 0.005 * solution.value
    assert abs(costs.mean() - solution.value) < 4 * error


@pytest.mark.parametrize("case", CASES)
def test_the_optimal_actions_are_worth_the_optimum(case: str) -> None:
    params = problem(case)
    solution = solve_lot_regimes(params)
    assert evaluate_lot_regimes(params, solution.action) == pytest.approx(solution.value, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_rule_that_ignores_the_regime_costs_what_it_costs_at_the_mean_charge(case: str) -> None:
    params = problem(case)
    for actions in simple_rules(params.in_regime(0.5)).values():
        blind = np.repeat(actions[:, None], len(belief_chain(params).prob), axis=1)
        exact = evaluate_lot_policy(params.in_regime(0.5), actions)
        assert evaluate_lot_regimes(params, blind) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_regrets_on_the_way_add_up_to_the_gap(case: str) -> None:
    params = problem(case)
    solution = solve_lot_regimes(params)
    rule = simple_rules(params.in_regime(0.5))["VWAP catch-up, rest to B then A"]
    actions = np.repeat(rule[:, None], len(solution.beliefs), axis=1)
    law, regret = propagate_lot_regimes(params, actions), regime_action_regret(params, actions)
    assert law.sum(axis=(1, 2)) == pytest.approx(1.0)
    gap = evaluate_lot_regimes(params, actions) - solution.value
    assert gap > 1 and (law * regret).sum() == pytest.approx(gap, rel=1e-10)
    assert np.abs(regime_action_regret(params, solution.action)).max() < 1e-10


def test_a_policy_that_uses_the_regime_wrongly_costs_more_than_one_that_ignores_it() -> None:
    params = problem("O10-seen")
    actions = solve_lot_regimes(params).action
    assert evaluate_lot_regimes(params, actions[:, ::-1]) > solve_lot_regimes(problem("O10-never")).value


def test_the_beliefs_shown_are_calibrated() -> None:
    """Of the slots worked at a belief p in calm, a share p is calm; before acting it is 1 or 0, never seen 1/2."""
    params = problem("O10-fills")
    _, beliefs = simulated_costs(params, solve_lot_regimes(params).action, 4_000)
    _, truth = simulated_costs(problem("O10-seen"), blind_actions("O10-seen"), 4_000)
    assert set(np.unique(truth)) == {0.0, 1.0}
    n_slots = min(beliefs.shape[1], truth.shape[1])
    shown, calm = beliefs[:, :n_slots].ravel(), truth[:, :n_slots].ravel()
    assert len(np.unique(shown)) > 5 and not np.isnan(calm).any()
    for belief in np.unique(shown[~np.isnan(shown)]):
        at = shown == belief
        assert abs(calm[at].mean() - belief) < 4.5 * np.sqrt(max(belief * (1 - belief), 0.01) / at.sum())
    assert set(np.unique(simulated_costs(problem("O10-never"), blind_actions("O10-never"), 50)[1])) == {0.5}


def blind_actions(case: str) -> NDArray[np.int64]:
    """One lot to the first pool in every slot: orders stay open to the end, so that every slot's regime is shown."""
    params = problem(case)
    actions = np.zeros((len(params.u), len(belief_chain(params).prob), params.lots + 1, 3), np.int64)
    actions[:, :, 1:, 1] = 1
    return actions


def test_regimes_of_two_pools_are_solved_but_have_no_market() -> None:
    params = problem("O10-seen", adverse=[[0.1, 0.1], [1.7, 1.7]], pool=1)
    assert solve_lot_regimes(params).value > 0
    with pytest.raises(UserError, match="2 pools differ between the regimes"):
        market_of(params)
