"""Exact solvers for two routing problems with a known optimum, and the exact cost of any policy on them.

O1 (`dark_fill_quadratic`): one lit market, one dark pool that fills whole or not at all; costs are quadratic.
O9 (`lot_routing`): one lit market and dark pools with censored partial fills, in whole lots over a few slots.

Costs are positive when they hurt. Nothing here samples: every cost is a sum over all fill paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from ..configs.errors import UserError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
DarkFillPolicy = Callable[[int, float], tuple[float, float]]  # (slot, remaining) -> (lit x, dark y)

Finite = Annotated[float, Field(ge=-1e100, le=1e100)]  # cubes stay within float64; NaN fails both bounds
NonNegative = Annotated[float, Field(ge=0, le=1e100)]
Positive = Annotated[float, Field(gt=0, le=1e100)]
Probability = Annotated[float, Field(ge=0, le=1)]

_SLACK = 1e-9  # of the position: how far x + y may pass it by rounding before the policy is refused
_TIE = 1e-12  # relative: an action replaces an earlier one only if it is cheaper by more than rounding
_MAX_POSITIONS = 1_000_000  # twenty slots of a policy whose fill paths never meet again


# ---------------------------------------------------------------------------------------------- O1, all-or-nothing fill


class DarkFillQuadraticParams(BaseModel):
    """Problem file of kind `dark_fill_quadratic` (O1): slot cost q X_n^2 + lam x_n^2, dark fill with probability p."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dark_fill_quadratic"] = "dark_fill_quadratic"
    q: NonNegative  # cost of holding one squared unit through one slot
    p: Probability  # that the whole dark order fills in a slot
    n_slots: Annotated[int, Field(ge=1)]
    lam: Positive  # lit impact: x costs lam x^2
    x0: Positive  # units to trade


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticSolution:
    """The optimum of O1: V_n(X) = cost_coef[n] X^2.

    value: V_0(x0).
    cost_coef: (n_slots,) the coefficients C_n.
    lit_of_remaining_frac: (n_slots,) x_n / X_n; the rest rests in the dark pool. The last is 1.
    lit_frac_no_fill: (n_slots,) x_n / x0 along the path on which the dark order never fills; sums to 1.
    """

    value: float
    cost_coef: FloatArray
    lit_of_remaining_frac: FloatArray
    lit_frac_no_fill: FloatArray

    def policy(self, slot: int, remaining: float) -> tuple[float, float]:
        """The optimal (lit, dark) quantities; everything that is not sent lit rests in the dark pool."""
        lit = float(self.lit_of_remaining_frac[slot]) * remaining
        return lit, remaining - lit


def solve_dark_fill_quadratic(params: DarkFillQuadraticParams) -> QuadraticSolution:
    """Solve O1 by its scalar recursion; every term is positive, so no digits cancel.

    C_{N-1} = lam + q,  C_n = q + lam w_n,  x_n = w_n X_n,  w_n = (1-p) C_{n+1} / (lam + (1-p) C_{n+1}).

    Source: setting of Kratz & Schoeneborn (2014), Quantitative Finance 14(9). Filling everything makes the
    continuation zero, the least possible, so y = X - x and a scalar quadratic is left.
    """
    n_slots = params.n_slots
    cost_coef, lit_of_remaining = np.empty(n_slots), np.ones(n_slots)
    cost_coef[-1] = params.lam + params.q
    for n in range(n_slots - 2, -1, -1):
        unfilled_cost = (1 - params.p) * cost_coef[n + 1]
        lit_of_remaining[n] = unfilled_cost / (params.lam + unfilled_cost)
        cost_coef[n] = params.q + params.lam * lit_of_remaining[n]
    kept_frac = np.concatenate(([1.0], np.cumprod(1 - lit_of_remaining[:-1])))
    return QuadraticSolution(
        value=float(cost_coef[0] * params.x0**2),
        cost_coef=cost_coef,
        lit_of_remaining_frac=lit_of_remaining,
        lit_frac_no_fill=kept_frac * lit_of_remaining,
    )


def evaluate_dark_fill_policy(params: DarkFillQuadraticParams, policy: DarkFillPolicy) -> float:
    """Exact expected cost of a deterministic policy on O1, over all fill paths.

    Args:
        policy: called as policy(slot, remaining) with slot in 0..n_slots-2 and remaining in (0, x0]; returns
            the lit quantity x and the dark quantity y, both >= 0, x + y <= remaining, in the unit of x0. The
            last slot takes what is left without asking.

    Raises:
        UserError: an action outside those bounds, or more positions than can be held (20 slots of branching).
    """
    cost = 0.0
    law = {params.x0: 1.0}  # position -> probability; paths that meet again are one position
    for slot in range(params.n_slots - 1):
        law_after: dict[float, float] = {}
        for remaining, prob in law.items():
            lit, dark = _checked_dark_fill_action(slot, remaining, *policy(slot, remaining))
            cost += prob * (params.q * remaining**2 + params.lam * lit**2)
            unfilled = max(remaining - lit, 0.0)
            for after, branch_prob in ((unfilled, 1 - params.p), (max(unfilled - dark, 0.0), params.p)):
                if after > 0 and branch_prob > 0:  # a finished order costs nothing more
                    law_after[after] = law_after.get(after, 0.0) + prob * branch_prob
        if len(law_after) > _MAX_POSITIONS:
            raise UserError(
                f"The policy reaches more than {_MAX_POSITIONS:,} positions by slot {slot + 1}, too many for an exact "
                f"cost. Lower n_slots ({params.n_slots}) to 20 or fewer."
            )
        law = law_after
    return cost + sum(prob * (params.q + params.lam) * remaining**2 for remaining, prob in law.items())


def _checked_dark_fill_action(slot: int, remaining: float, lit: float, dark: float) -> tuple[float, float]:
    lit, dark = float(lit), float(dark)
    if not (lit >= 0 and dark >= 0 and lit + dark <= remaining * (1 + _SLACK)):  # written so that NaN is refused too
        raise UserError(
            f"An action must have lit >= 0, dark >= 0 and lit + dark <= remaining, but the policy returned ({lit}, "
            f"{dark}) in slot {slot} with {remaining} remaining. Clip the policy's output to what is left."
        )
    return lit, dark


# ---------------------------------------------------------------------------------------------------- O9, lot routing


class LitCost(BaseModel):
    """Cost of x lit lots in slot t: linear x + quadratic x^2 / u_t, at most `max` lots a slot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linear: Finite
    quadratic: NonNegative
    max: Annotated[int, Field(ge=0)]


class LeftoverCost(BaseModel):
    """Cost of q lots left after the last slot: linear q + quadratic q^2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linear: Finite
    quadratic: Finite


class PoolParams(BaseModel):
    """A dark pool: contra size Pr[S = 0] = p0, Pr[S = s] ~ s^-beta for s = 1..m lots; fill min(S, order)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p0: Probability
    beta: Annotated[float, Field(ge=-100, le=100)]  # power-law exponent of the contra size
    m: Annotated[int, Field(ge=1)]  # largest contra size, lots
    max: Annotated[int, Field(ge=0)]  # largest order, lots
    fee: Finite  # per filled lot
    adverse: Finite  # expected adverse move, per filled lot


class LotRoutingParams(BaseModel):
    """Problem file of kind `lot_routing` (O9) without regimes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["lot_routing"] = "lot_routing"
    lots: Annotated[int, Field(ge=1)]
    u: Annotated[tuple[Positive, ...], Field(min_length=1)]  # relative volume, one entry a slot
    lit: LitCost
    leftover: LeftoverCost
    tracking: NonNegative = 0.0  # times (lots left - target)^2 after every slot
    pools: Annotated[tuple[PoolParams, ...], Field(max_length=5)] = ()  # run time grows as the product of their `max`


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


@dataclass(frozen=True, slots=True)
class SimpleRule:
    """A hand-written rule for O9 and its exact expected cost; pools are called A, B, ... in the order of the file."""

    name: str
    cost: float


def solve_lot_routing(params: LotRoutingParams) -> LotRoutingSolution:
    """Solve O9 by backward induction over (slot, lots left): V_t(q) = min E[cost + V_{t+1}(q - x - fills)].

    All orders of a slot act through q - x alone, so the best pool orders are found once for each r = q - x.
    """
    n_slots, n_pools = len(params.u), len(params.pools)
    values = np.empty((n_slots + 1, params.lots + 1))
    values[-1] = _leftover_cost(params)
    action = np.empty((n_slots, params.lots + 1, 1 + n_pools), np.int64)
    for slot in range(n_slots - 1, -1, -1):
        after = values[slot + 1] + _tracking_cost(params, slot)
        dark_value, dark_orders = _best_pool_orders(params.pools, after)
        values[slot], action[slot, :, 0], action[slot, :, 1:] = dark_value, 0, dark_orders
        for x, lit_cost in enumerate(_lit_cost(params, slot)[1 : params.lots + 1], start=1):
            _keep_cheaper(values[slot], action[slot], x, lit_cost + dark_value[:-x], _with_lit(x, dark_orders[:-x]))
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
    actions = _checked_actions(params, actions)
    law = np.zeros((len(params.u) + 1, params.lots + 1))
    law[0, -1] = 1.0
    cost = 0.0
    for slot in range(len(params.u)):
        lit_cost = _lit_cost(params, slot)
        for left in np.flatnonzero(law[slot]):
            x, *orders = actions[slot, left]
            fills_prob, dark_cost = _fills_law(params.pools, orders)
            cost += law[slot, left] * (lit_cost[x] + dark_cost)
            most_left = left - x
            law[slot + 1, most_left - len(fills_prob) + 1 : most_left + 1] += law[slot, left] * fills_prob[::-1]
        cost += float(law[slot + 1] @ _tracking_cost(params, slot))
    return LotPolicyOutcome(cost=float(cost + law[-1] @ _leftover_cost(params)), lots_left_prob=law)


def action_regret(params: LotRoutingParams, actions: IntArray) -> FloatArray:
    """Q*(t, q, action) - V*(t, q): what each action costs if everything after it is optimal.

    Args:
        actions: as for `propagate_lot_policy`.

    Returns:
        (n_slots, lots + 1), zero where the action is optimal, else positive (both up to rounding).

    Raises:
        UserError: as `propagate_lot_policy`.
    """
    actions = _checked_actions(params, actions)
    best = solve_lot_routing(params).V
    regret = np.empty_like(best[:-1])
    for slot, left in np.ndindex(regret.shape):
        x, *orders = actions[slot, left]
        after = best[slot + 1] + _tracking_cost(params, slot)
        fills_prob, dark_cost = _fills_law(params.pools, orders)
        most_left = left - x
        continuation = fills_prob[::-1] @ after[most_left - len(fills_prob) + 1 : most_left + 1]
        regret[slot, left] = _lit_cost(params, slot)[x] + dark_cost + continuation - best[slot, left]
    return regret


def best_simple_rule(params: LotRoutingParams) -> SimpleRule:
    """The cheapest of `simple_rules`, with its exact cost; of equal costs the first."""
    rules = [SimpleRule(name, evaluate_lot_policy(params, actions)) for name, actions in simple_rules(params).items()]
    return min(rules, key=lambda rule: rule.cost)


def simple_rules(params: LotRoutingParams) -> dict[str, IntArray]:
    """{VWAP, TWAP} x {lit only; catch-up lit, then the rest to the pools in each fixed order of one or all pools}.

    The lit order brings the position down to the schedule's target, in whole lots rounded half up:
    x = min(max, (q - target_t)+). What is left goes to the pools in order, each up to its `max`.

    Returns:
        Name -> actions (n_slots, lots + 1, 1 + n_pools), as for `propagate_lot_policy`.
    """
    pools = range(len(params.pools))
    orders_of_pools = dict.fromkeys([(), *((i,) for i in pools), *permutations(pools)])  # a dict drops repeats in order
    rules = {}
    for schedule, weights in (("VWAP", params.u), ("TWAP", (1.0,) * len(params.u))):
        for pool_order in orders_of_pools:
            pool_names = " then ".join(chr(ord("A") + i) for i in pool_order)
            name = f"{schedule} catch-up, rest to {pool_names}" if pool_order else f"{schedule} lit only"
            rules[name] = _catch_up_actions(params, weights, pool_order)
    return rules


def _catch_up_actions(params: LotRoutingParams, weights: Sequence[float], pool_order: Sequence[int]) -> IntArray:
    actions = np.zeros((len(weights), params.lots + 1, 1 + len(params.pools)), np.int64)
    half_up = 0.5 + 1e-9  # an exact half may come out of the float division a little low
    for slot, target in enumerate(np.floor(_target_lots(params.lots, weights) + half_up).astype(np.int64)):
        rest = np.arange(params.lots + 1)
        for venue, cap in ((0, params.lit.max), *((1 + i, params.pools[i].max) for i in pool_order)):
            wanted = np.maximum(rest - target, 0) if venue == 0 else rest
            actions[slot, :, venue] = np.minimum(wanted, cap)
            rest = rest - actions[slot, :, venue]
    return actions


def _best_pool_orders(pools: Sequence[PoolParams], after: FloatArray) -> tuple[FloatArray, IntArray]:
    """Least expected cost (n,) and its orders (n, n_pools) for r = 0..n-1 lots that may rest in the pools."""
    best, best_orders = np.full(len(after), np.inf), np.zeros((len(after), len(pools)), np.int64)
    for orders, expected in _expected_after_fills(pools, after):
        _keep_cheaper(best, best_orders, sum(orders), expected, np.array(orders, np.int64))
    return best, best_orders


def _expected_after_fills(
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
    reach_prob = np.cumsum(_size_prob(pool)[::-1])[::-1]
    expected = after
    yield from _expected_after_fills(pools[1:], expected, (*orders, 0))
    for v in range(1, min(pool.max, pool.m, n - 1) + 1):  # beyond m lots an order fills no more
        lot_gain = after[: n - v] - after[1 : n - v + 1] + pool.fee + pool.adverse
        expected = expected[1:] + reach_prob[v] * lot_gain
        yield from _expected_after_fills(pools[1:], expected, (*orders, v))


def _keep_cheaper(best: FloatArray, best_action: IntArray, start: int, cost: FloatArray, action: IntArray) -> None:
    """Overwrite the tail of `best` from `start` where `cost` is lower by more than rounding, and its action with it."""
    tail, tail_action = best[start:], best_action[start:]
    margin = np.where(np.isinf(tail), 0.0, _TIE * np.abs(tail))
    cheaper = cost < tail - margin
    tail[cheaper] = cost[cheaper]
    tail_action[cheaper] = np.broadcast_to(action, tail_action.shape)[cheaper]


def _with_lit(x: int, pool_orders: IntArray) -> IntArray:
    return np.column_stack((np.full(len(pool_orders), x), pool_orders))


def _fills_law(pools: Sequence[PoolParams], orders: Sequence[int]) -> tuple[FloatArray, float]:
    """Law of the total fill, Pr[f lots] for f = 0..sum(orders), and the expected charge on the fills."""
    total_prob, charge = np.ones(1), 0.0
    for pool, order in zip(pools, orders, strict=True):
        size_prob = _size_prob(pool)
        fill_prob = np.zeros(order + 1)
        fill_prob[: len(size_prob)] = size_prob[: order + 1]
        fill_prob[-1] += size_prob[order + 1 :].sum()  # min(S, order): a larger contra side fills the order
        charge += (pool.fee + pool.adverse) * float(fill_prob @ np.arange(order + 1))
        total_prob = np.convolve(total_prob, fill_prob)
    return total_prob, charge


def _size_prob(pool: PoolParams) -> FloatArray:
    """Pr[S = s] for s = 0..m lots."""
    log_weight = -pool.beta * np.log(np.arange(1, pool.m + 1))
    weight = np.exp(log_weight - log_weight.max())  # a steep power law may not overflow
    return np.concatenate(([pool.p0], (1 - pool.p0) * weight / weight.sum()))


def _lit_cost(params: LotRoutingParams, slot: int) -> FloatArray:
    x = np.arange(params.lit.max + 1)
    return params.lit.linear * x + params.lit.quadratic * x * x / params.u[slot]


def _leftover_cost(params: LotRoutingParams) -> FloatArray:
    left = np.arange(params.lots + 1)
    return params.leftover.linear * left + params.leftover.quadratic * left * left


def _tracking_cost(params: LotRoutingParams, slot: int) -> FloatArray:
    off_target = np.arange(params.lots + 1) - float(_target_lots(params.lots, params.u)[slot])
    return params.tracking * off_target * off_target


def _target_lots(lots: int, weights: Sequence[float]) -> FloatArray:
    """(n_slots,) lots that the schedule has left after each slot, not rounded; the last is exactly 0."""
    done: FloatArray = np.cumsum(weights, dtype=np.float64)
    return lots * (1 - done / float(done[-1]))


def _checked_actions(params: LotRoutingParams, actions: IntArray) -> IntArray:
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
