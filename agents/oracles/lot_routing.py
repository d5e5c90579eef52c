"""O9: the optimum of routing whole lots by backward induction, and the exact cost of any policy on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...configs.errors import UserError
from .lot_problem import (
    LotRoutingParams,
    PoolParams,
    fills_law,
    leftover_cost,
    lit_cost,
    size_prob,
    tracking_cost,
)
from .parameters import FloatArray, IntArray

_TIE = 1e-12  # relative: an action replaces an earlier one only if it is cheaper by more than rounding


@dataclass(frozen=True, slots=True, eq=False)
class LotRoutingSolution:
    """The optimum of O9.

    value: V[0, lots], the least expected cost from all lots.
    V: (n_slots + 1, lots + 1) least expected cost from slot t with q lots left; the last row is the leftover cost.
    action: (n_slots, lots + 1, 1 + n_pools) the optimal (lit, pool, pool...) in lots; of equal actions the one
        with the fewest lit lots, then the fewest in the first pool, and so on.
    """

    value: float
    V: FloatArray
    action: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class LotPolicyOutcome:
    """What a policy on O9 does, exactly: expected cost, and Pr[q lots left before slot t], (n_slots + 1, lots + 1)."""

    cost: float
    lots_left_prob: FloatArray


def solve_lot_routing(params: LotRoutingParams) -> LotRoutingSolution:
    """Solve O9 by backward induction over (slot, lots left): V_t(q) = min E[cost + V_{t+1}(q - x - fills)].

    All orders of a slot act through q - x alone, so the best pool orders are found once for each r = q - x.
    """
    if params.regimes is not None:
        raise ValueError("this problem has regimes: use solve_lot_regimes")
    n_slots, n_pools = len(params.u), len(params.pools)
    values = np.empty((n_slots + 1, params.lots + 1))
    values[-1] = leftover_cost(params)
    action = np.empty((n_slots, params.lots + 1, 1 + n_pools), np.int64)
    for slot in range(n_slots - 1, -1, -1):
        after = values[slot + 1] + tracking_cost(params, slot)
        dark_value, dark_orders = _best_pool_orders(params.pools, after)
        values[slot], action[slot, :, 0], action[slot, :, 1:] = dark_value, 0, dark_orders
        for x, cost in enumerate(lit_cost(params, slot)[1 : params.lots + 1], start=1):
            keep_cheaper(values[slot], action[slot], x, cost + dark_value[:-x], with_lit(x, dark_orders[:-x]))
    return LotRoutingSolution(value=float(values[0, -1]), V=values, action=action)


def evaluate_lot_policy(params: LotRoutingParams, actions: IntArray) -> float:
    """Exact expected cost of a deterministic policy on O9; see `propagate_lot_policy` for the arguments."""
    return propagate_lot_policy(params, actions).cost


def propagate_lot_policy(params: LotRoutingParams, actions: IntArray) -> LotPolicyOutcome:
    """Push the law of the lots left forward through a policy and add up its expected cost.

    Args:
        actions: (n_slots, lots + 1, 1 + n_pools) whole lots (lit, pool, pool...) for slot t with q lots left.

    Raises:
        UserError: a wrong shape, fractions of a lot, or an action that is not legal in its state.
    """
    actions = checked_actions(params, actions)
    law = np.zeros((len(params.u) + 1, params.lots + 1))
    law[0, -1] = 1.0
    cost = 0.0
    for slot in range(len(params.u)):
        lit_costs = lit_cost(params, slot)
        for left in np.flatnonzero(law[slot]):
            x, *orders = actions[slot, left]
            fills_prob, dark_cost = fills_law(params.pools, orders)
            cost += law[slot, left] * (lit_costs[x] + dark_cost)
            most_left = left - x
            law[slot + 1, most_left - len(fills_prob) + 1 : most_left + 1] += law[slot, left] * fills_prob[::-1]
        cost += float(law[slot + 1] @ tracking_cost(params, slot))
    return LotPolicyOutcome(cost=float(cost + law[-1] @ leftover_cost(params)), lots_left_prob=law)


def action_regret(params: LotRoutingParams, actions: IntArray) -> FloatArray:
    """Q*(t, q, action) - V*(t, q): what each action costs if everything after it is optimal.

    Args:
        actions: as for `propagate_lot_policy`.

    Returns:
        (n_slots, lots + 1), zero where the action is optimal, else positive (both up to rounding).

    Raises:
        UserError: as `propagate_lot_policy`.
    """
    actions = checked_actions(params, actions)
    best = solve_lot_routing(params).V
    regret = np.empty_like(best[:-1])
    for slot, left in np.ndindex(regret.shape):
        x, *orders = actions[slot, left]
        after = best[slot + 1] + tracking_cost(params, slot)
        fills_prob, dark_cost = fills_law(params.pools, orders)
        most_left = left - x
        continuation = fills_prob[::-1] @ after[most_left - len(fills_prob) + 1 : most_left + 1]
        regret[slot, left] = lit_cost(params, slot)[x] + dark_cost + continuation - best[slot, left]
    return regret


def _best_pool_orders(pools: Sequence[PoolParams], after: FloatArray) -> tuple[FloatArray, IntArray]:
    """Least expected cost (n,) and its orders (n, n_pools) for r = 0..n-1 lots that may rest in the pools."""
    best, best_orders = np.full(len(after), np.inf), np.zeros((len(after), len(pools)), np.int64)
    for orders, expected in expected_after_fills(pools, after):
        keep_cheaper(best, best_orders, sum(orders), expected, np.array(orders, np.int64))
    return best, best_orders


def expected_after_fills(
    pools: Sequence[PoolParams], after: FloatArray, orders: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], FloatArray]]:
    """For all orders, smallest first: E[fill charges + after(r - fills)] at r = sum(orders)..len(after from zero).

    One more lot of order changes the cost only where the contra side reaches it, so with g(f) = after(r - f) + charge f
    E g(min(S, v)) = E g(min(S, v - 1)) + Pr[S >= v] (g(v) - g(v - 1)). The array loses its first entry with every
    lot, since r must cover all orders.
    """
    if not pools:
        yield orders, after
        return
    pool, n = pools[0], len(after)
    reach_prob = np.cumsum(size_prob(pool)[::-1])[::-1]
    expected = after
    yield from expected_after_fills(pools[1:], expected, (*orders, 0))
    for v in range(1, min(pool.max, pool.m, n - 1) + 1):  # beyond m lots an order fills no more
        lot_gain = after[: n - v] - after[1 : n - v + 1] + pool.fee + pool.adverse
        expected = expected[1:] + reach_prob[v] * lot_gain
        yield from expected_after_fills(pools[1:], expected, (*orders, v))


def keep_cheaper(best: FloatArray, best_action: IntArray, start: int, cost: FloatArray, action: IntArray) -> None:
    """Overwrite the tail of `best` from `start` where `cost` is lower by more than rounding, and its action with it."""
    tail, tail_action = best[start:], best_action[start:]
    margin = np.where(np.isinf(tail), 0.0, _TIE * np.abs(tail))
    cheaper = cost < tail - margin
    tail[cheaper] = cost[cheaper]
    tail_action[cheaper] = np.broadcast_to(action, tail_action.shape)[cheaper]


def with_lit(x: int, pool_orders: IntArray) -> IntArray:
    return np.column_stack((np.full(len(pool_orders), x), pool_orders))


def checked_actions(params: LotRoutingParams, actions: IntArray) -> IntArray:
    caps = np.array([params.lit.max, *(pool.max for pool in params.pools)])
    shape = (len(params.u), params.lots + 1, len(caps))
    actions = np.asarray(actions)
    if actions.shape != shape or not np.issubdtype(actions.dtype, np.integer):
        raise UserError(
            f"actions must be whole lots (integers) of shape (slots, lots + 1, 1 + pools) = {shape}, but they are "
            f"{actions.dtype} of shape {actions.shape}. Round to whole lots and give every state an action."
        )
    too_many = actions.sum(axis=2) > np.arange(params.lots + 1)
    bad = np.argwhere(too_many | (actions < 0).any(axis=2) | (actions > caps).any(axis=2))
    if len(bad):
        slot, left = bad[0]
        raise UserError(
            f"actions[{slot}, {left}] = {actions[slot, left].tolist()} is not legal ({len(bad)} states are wrong): "
            f"each entry must lie in 0..{caps.tolist()} and together they may not pass the {left} lots left. Clip them."
        )
    return actions.astype(np.int64)
