"""O9: hand-written rules and their exact cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from .lot_problem import LotRoutingParams, target_lots
from .lot_routing import evaluate_lot_policy
from .parameters import IntArray


@dataclass(frozen=True, slots=True)
class SimpleRule:
    """A hand-written rule for O9 and its exact expected cost; pools are called A, B, ... in the order of the file."""

    name: str
    cost: float


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
    for slot, target in enumerate(np.floor(target_lots(params.lots, weights) + half_up).astype(np.int64)):
        rest = np.arange(params.lots + 1)
        for venue, cap in ((0, params.lit.max), *((1 + i, params.pools[i].max) for i in pool_order)):
            wanted = np.maximum(rest - target, 0) if venue == 0 else rest
            actions[slot, :, venue] = np.minimum(wanted, cap)
            rest = rest - actions[slot, :, venue]
    return actions
