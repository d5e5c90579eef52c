"""O10: what seeing a hidden regime is worth. O9 with adverse charges that follow a two-state chain.

A state is (slot, lots left, belief): known before acting, the belief is 1 or 0; seen through fills alone it is 1/2, or
that of a regime revealed j slots ago, 1/2 +- 1/2 (2 stay - 1)^j, so the problem stays finite; never seen, always 1/2.
Costs are linear in the charges, so inside a slot only their mean at the belief counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .lot_problem import LotRoutingParams, PoolParams, fills_law, leftover_cost, lit_cost, size_prob, tracking_cost
from .lot_routing import checked_actions, expected_after_fills, keep_cheaper, with_lit
from .parameters import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class LotRegimesSolution:
    """The optimum of O10.

    value: from all lots at the stationary start.
    beliefs: (B,) belief in the first regime of each belief state; the first is 1/2 (`before_acting`: 1, then 0).
    V: (n_slots + 1, B, lots + 1) least expected cost. action: (n_slots, B, lots + 1, 1 + n_pools) lots.
    """

    value: float
    beliefs: FloatArray
    V: FloatArray
    action: IntArray


@dataclass(frozen=True, slots=True)
class BeliefChain:
    """How beliefs move: state i becomes after[i] if nothing is revealed, known[z] if regime z is."""

    prob: FloatArray
    after: IntArray
    known: tuple[int, int]
    start: tuple[tuple[int, float], ...]


def belief_chain(params: LotRoutingParams) -> BeliefChain:
    """The belief states of a problem with regimes and their moves."""
    if params.regimes is None:
        raise ValueError("a problem without regimes has no beliefs")
    if params.regimes.seen == "before_acting":
        return BeliefChain(np.array([1.0, 0.0]), np.arange(2), (0, 1), ((0, 0.5), (1, 0.5)))
    if params.regimes.seen == "never":
        return BeliefChain(np.array([0.5]), np.zeros(1, np.int64), (0, 0), ((0, 1.0),))
    ages = max(1, len(params.u) - 1)
    shift = 0.5 * (2 * params.regimes.stay - 1) ** np.arange(1, ages + 1)
    prob = np.concatenate(([0.5], 0.5 + shift, 0.5 - shift))
    older = np.minimum(np.arange(1, ages + 1) + 1, ages)  # the last age is never left inside the horizon
    after = np.concatenate(([0], older, ages + older))
    return BeliefChain(prob, after, (1, 1 + ages), ((0, 1.0),))


def solve_lot_regimes(params: LotRoutingParams) -> LotRegimesSolution:
    """Backward induction over (slot, belief, lots left)."""
    chain = belief_chain(params)
    n_slots, n_beliefs, n_pools = len(params.u), len(chain.prob), len(params.pools)
    values = np.empty((n_slots + 1, n_beliefs, params.lots + 1))
    values[-1] = leftover_cost(params)
    action = np.zeros((n_slots, n_beliefs, params.lots + 1, 1 + n_pools), np.int64)
    for slot in range(n_slots - 1, -1, -1):
        track = tracking_cost(params, slot)
        for i, belief in enumerate(chain.prob):
            pools = params.in_regime(float(belief)).pools
            unseen, seen = (v + track for v in continuations(params, chain, i, values[slot + 1]))
            dark, orders = np.full(params.lots + 1, np.inf), np.zeros((params.lots + 1, n_pools), np.int64)
            for sent, expected in _expected(pools, params.revealing_pool(), unseen, seen):
                keep_cheaper(dark, orders, sum(sent), expected, np.array(sent, np.int64))
            values[slot, i], action[slot, i, :, 1:] = dark, orders
            for x, cost in enumerate(lit_cost(params, slot)[1 : params.lots + 1], start=1):
                keep_cheaper(values[slot, i], action[slot, i], x, cost + dark[:-x], with_lit(x, orders[:-x]))
    start = sum(prob * values[0, i, -1] for i, prob in chain.start)
    return LotRegimesSolution(float(start), chain.prob, values, action)


def evaluate_lot_regimes(params: LotRoutingParams, actions: IntArray) -> float:
    """Exact expected cost of a deterministic policy on O10, from all lots at the stationary start.

    Args:
        actions: (n_slots, B, lots + 1, 1 + n_pools) whole lots (lit, pool, pool...) by slot, belief state (those of
            `belief_chain`) and lots left.

    Raises:
        UserError: as `propagate_lot_policy`.
    """
    chain = belief_chain(params)
    values = np.tile(leftover_cost(params), (len(chain.prob), 1))
    for slot in range(len(params.u) - 1, -1, -1):
        values = _action_values(params, chain, slot, actions, values)
    return float(sum(prob * values[i, -1] for i, prob in chain.start))


def regime_action_regret(params: LotRoutingParams, actions: IntArray) -> FloatArray:
    """Q*(t, belief, q, action) - V*(t, belief, q), (n_slots, B, lots + 1): as `action_regret` of O9.

    Raises:
        UserError: as `propagate_lot_policy`.
    """
    chain, best = belief_chain(params), solve_lot_regimes(params).V
    chosen = [_action_values(params, chain, slot, actions, best[slot + 1]) for slot in range(len(params.u))]
    return np.stack(chosen) - best[:-1]


def propagate_lot_regimes(params: LotRoutingParams, actions: IntArray) -> FloatArray:
    """Pr[belief state, q lots left before slot t] under a policy, (n_slots, B, lots + 1).

    Raises:
        UserError: as `propagate_lot_policy`.
    """
    chain, revealing = belief_chain(params), params.revealing_pool()
    law = np.zeros((len(params.u) + 1, len(chain.prob), params.lots + 1))
    for i, prob in chain.start:
        law[0, i, -1] = prob
    # where each belief state goes: transposes of what `continuations` averages
    moves = [continuations(params, chain, i, np.eye(len(chain.prob))) for i in range(len(chain.prob))]
    for slot in range(len(params.u)):
        for i, left in np.argwhere(law[slot] > 0):
            x, *orders = checked_actions(params, actions[:, i])[slot, left]
            others = params.pools[:revealing] + params.pools[revealing + 1 :]
            shown_prob, _ = fills_law([params.pools[revealing]], [orders[revealing]])
            other_prob, _ = fills_law(others, orders[:revealing] + orders[revealing + 1 :])
            for fill, prob in enumerate(shown_prob):
                to, most = moves[i][1 if fill else 0], left - x - fill
                mass = law[slot, i, left] * prob * other_prob[::-1]
                law[slot + 1, :, most - len(other_prob) + 1 : most + 1] += to[:, None] * mass
    return law[:-1]


def _action_values(
    params: LotRoutingParams, chain: BeliefChain, slot: int, actions: IntArray, after: FloatArray
) -> FloatArray:
    """(B, lots + 1) cost of each state's action in a slot, and (B, lots + 1) `after` it."""
    revealing, lit, track = params.revealing_pool(), lit_cost(params, slot), tracking_cost(params, slot)
    values = np.empty_like(after)
    for i, calm in enumerate(chain.prob):
        chosen = checked_actions(params, actions[:, i])[slot]
        pools = params.in_regime(float(calm)).pools
        others = pools[:revealing] + pools[revealing + 1 :]
        unseen, seen = (v + track for v in continuations(params, chain, i, after))
        for left in range(params.lots + 1):
            x, *orders = chosen[left]
            shown_prob, shown_charge = fills_law([pools[revealing]], [orders[revealing]])
            other_prob, other_charge = fills_law(others, orders[:revealing] + orders[revealing + 1 :])
            values[i, left] = lit[x] + shown_charge + other_charge
            for fill, prob in enumerate(shown_prob):
                next_value, most = (seen if fill else unseen), left - x - fill
                values[i, left] += prob * (other_prob[::-1] @ next_value[most - len(other_prob) + 1 : most + 1])
    return values


def continuations(
    params: LotRoutingParams, chain: BeliefChain, belief: int, after: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(lots + 1,) value after a slot in a belief state: without a fill in the revealing pool, and with one."""
    regimes = params.regimes
    if regimes is None:
        raise ValueError("a problem without regimes has no beliefs")
    if regimes.seen == "before_acting":
        mixed = regimes.stay * after[belief] + (1 - regimes.stay) * after[1 - belief]
        return mixed, mixed
    calm = chain.prob[belief]
    return after[chain.after[belief]], calm * after[chain.known[0]] + (1 - calm) * after[chain.known[1]]


def _expected(
    pools: tuple[PoolParams, ...], revealing: int, unseen: FloatArray, seen: FloatArray
) -> Iterator[tuple[tuple[int, ...], FloatArray]]:
    """For all orders: E[fill charges + value] at r = sum(orders)..lots that may rest, in the pools' own order."""
    pool, others = pools[revealing], pools[:revealing] + pools[revealing + 1 :]
    contra = size_prob(pool)
    reach = np.cumsum(contra[::-1])[::-1]
    for v in range(min(pool.max, pool.m, len(unseen) - 1) + 1):
        # a function of the lots that are left when this pool's order of v is done, r = v..lots
        n = len(unseen)
        value = unseen[v:].copy() if v == 0 else contra[0] * unseen[v:]
        for fill in range(1, v + 1):
            prob = reach[v] if fill == v else contra[fill]
            value = value + prob * (seen[v - fill : n - fill] + (pool.fee + pool.adverse) * fill)
        for orders, expected in expected_after_fills(others, value):
            yield (*orders[:revealing], v, *orders[revealing:]), expected
