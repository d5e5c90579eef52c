"""O9: the published optimum of routing whole lots to lit and censored dark pools, and the rules it is measured by."""

from __future__ import annotations

from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from glasspool.agents.oracles.lot_problem import LotRoutingParams
from glasspool.agents.oracles.lot_routing import (
    action_regret,
    evaluate_lot_policy,
    propagate_lot_policy,
    solve_lot_routing,
)
from glasspool.agents.oracles.lot_rules import best_simple_rule, simple_rules
from glasspool.configs.errors import UserError

ADVERSE = {"M1": (0.3, 0.9), "M2": (0.0, 0.0), "M3": (1.2, 1.6), "M4": (0.3, 0.9)}


def problem(case: str, n_pools: int = 2) -> LotRoutingParams:
    adverse_a, adverse_b = ADVERSE[case]
    pools = [
        {"p0": 0.6, "beta": 0.5, "m": 8, "max": 8, "fee": 0.10, "adverse": adverse_a},
        {"p0": 0.8, "beta": 0.2, "m": 8, "max": 8, "fee": 0.05, "adverse": adverse_b},
    ]
    return LotRoutingParams.model_validate(
        {
            "lots": 16,
            "u": [1.6, 1, 0.8, 0.6, 0.6, 0.8, 1, 1.6],
            "lit": {"linear": 1.0, "quadratic": 0.15, "max": 4},
            "leftover": {"linear": 1.0, "quadratic": 0.6},
            "tracking": 0.05 if case == "M4" else 0.0,
            "pools": pools[:n_pools],
        }
    )


pool_strategy = st.fixed_dictionaries(
    {
        "p0": st.floats(0, 1),
        "beta": st.floats(-1, 3),
        "m": st.integers(1, 4),
        "max": st.integers(0, 4),
        "fee": st.floats(-0.5, 0.5),
        "adverse": st.floats(-0.5, 2),
    }
)


@st.composite
def small_problems(draw: st.DrawFn, max_pools: int = 3) -> LotRoutingParams:
    n_slots = draw(st.integers(1, 3))
    return LotRoutingParams.model_validate(
        {
            "lots": draw(st.integers(1, 5)),
            "u": draw(st.lists(st.floats(0.2, 2), min_size=n_slots, max_size=n_slots)),
            "lit": {
                "linear": draw(st.floats(-1, 2)),
                "quadratic": draw(st.floats(0, 1)),
                "max": draw(st.integers(0, 6)),
            },
            "leftover": {"linear": draw(st.floats(0, 2)), "quadratic": draw(st.floats(0, 1))},
            "tracking": draw(st.sampled_from([0.0, 0.1])),
            "pools": draw(st.lists(pool_strategy, max_size=max_pools)),
        }
    )


def legal_actions(params: LotRoutingParams, left: int) -> list[tuple[int, ...]]:
    caps = [params.lit.max, *(pool.max for pool in params.pools)]
    return [action for action in product(*(range(min(cap, left) + 1) for cap in caps)) if sum(action) <= left]


def value_by_enumeration(params: LotRoutingParams, slot: int, left: int, memo: dict[tuple[int, int], float]) -> float:
    """The definition, written out with none of the solver's short cuts: every action, every contra size."""
    if (slot, left) in memo:
        return memo[slot, left]
    if slot == len(params.u):
        return params.leftover.linear * left + params.leftover.quadratic * left**2
    laws = []
    for pool in params.pools:
        weights = [s**-pool.beta for s in range(1, pool.m + 1)]
        laws.append([pool.p0, *((1 - pool.p0) * w / sum(weights) for w in weights)])
    target = params.lots * (1 - sum(params.u[: slot + 1]) / sum(params.u))
    best = np.inf
    for x, *orders in legal_actions(params, left):
        cost = params.lit.linear * x + params.lit.quadratic * x * x / params.u[slot]
        for sizes in product(*(range(len(law)) for law in laws)):
            prob = np.prod([law[s] for law, s in zip(laws, sizes, strict=True)])
            fills = [min(s, order) for s, order in zip(sizes, orders, strict=True)]
            charge = sum((pool.fee + pool.adverse) * fill for pool, fill in zip(params.pools, fills, strict=True))
            after = left - x - sum(fills)
            tracking = params.tracking * (after - target) ** 2
            cost += prob * (charge + tracking + value_by_enumeration(params, slot + 1, after, memo))
        best = min(best, cost)
    memo[slot, left] = best
    return best


@pytest.mark.parametrize(
    ("case", "v16", "v8", "first", "slot5_at_16", "slot5_at_8", "slot8_at_8"),
    [
        ("M1", 11.772068960408, 4.339706081588, (0, 8, 4), (2, 8, 6), (0, 7, 1), (4, 3, 1)),
        ("M2", 6.106363894805, 1.673675555437, (0, 8, 8), (1, 8, 7), (0, 5, 3), (4, 3, 1)),
        ("M3", 19.898204620422, 9.3625, (2, 6, 0), (2, 8, 3), (1, 3, 0), (4, 3, 1)),
        ("M4", 14.314754993190, 8.640739874152, (1, 5, 1), (3, 8, 5), (0, 4, 1), (4, 3, 1)),
    ],
)
def test_values_and_actions_are_those_of_the_reference_table(
    case: str,
    v16: float,
    v8: float,
    first: tuple[int, ...],
    slot5_at_16: tuple[int, ...],
    slot5_at_8: tuple[int, ...],
    slot8_at_8: tuple[int, ...],
) -> None:
    solution = solve_lot_routing(problem(case))
    assert (solution.V[0, 16], solution.V[0, 8]) == pytest.approx((v16, v8), abs=5.1e-13)
    assert solution.value == solution.V[0, 16]
    chosen = [tuple(solution.action[t, q].tolist()) for t, q in ((0, 16), (4, 16), (4, 8), (7, 8))]
    assert chosen == [first, slot5_at_16, slot5_at_8, slot8_at_8]


@pytest.mark.parametrize(
    ("case", "lit_only", "lit_and_a"),
    [
        ("M1", 20.8875, 12.172795531327),
        ("M2", 20.8875, 9.356667749756),
        ("M3", 20.8875, 19.898204620422),
        ("M4", 20.8995, 14.667768017629),
    ],
)
def test_fewer_pools_give_the_reference_values(case: str, lit_only: float, lit_and_a: float) -> None:
    assert solve_lot_routing(problem(case, n_pools=0)).value == pytest.approx(lit_only, rel=1e-12)
    assert solve_lot_routing(problem(case, n_pools=1)).value == pytest.approx(lit_and_a, abs=5.1e-13)


def test_pool_b_is_worthless_in_m3() -> None:
    lit_and_a = solve_lot_routing(problem("M3", n_pools=1))
    assert solve_lot_routing(problem("M3")).value == pytest.approx(lit_and_a.value, rel=1e-12)


def test_the_optimum_of_m1_leaves_lots_over_as_often_as_stated() -> None:
    params = problem("M1")
    leftover_prob = propagate_lot_policy(params, solve_lot_routing(params).action).lots_left_prob[-1]
    assert 1 - leftover_prob[0] == pytest.approx(0.327307035167, abs=5.1e-13)
    assert leftover_prob @ np.arange(17) == pytest.approx(0.378382239552, abs=5.1e-13)


@pytest.mark.parametrize(
    ("rule", "costs"),
    [
        ("TWAP lit only", (21.4500, 21.4500, 21.4500)),
        ("VWAP lit only", (20.8875, 20.8875, 20.8875)),
        ("VWAP catch-up, rest to A then B", (13.4236, 10.0827, 21.1126)),
        ("VWAP catch-up, rest to A", (13.5940, 11.2203, 20.7152)),
        ("TWAP catch-up, rest to A then B", (13.3656, 9.7884, 21.2367)),
    ],
)
def test_simple_rules_cost_what_the_reference_says(rule: str, costs: tuple[float, float, float]) -> None:
    for case, cost in zip(("M1", "M2", "M3"), costs, strict=True):
        params = problem(case)
        assert evaluate_lot_policy(params, simple_rules(params)[rule]) == pytest.approx(cost, abs=5.1e-5)


@pytest.mark.parametrize(
    ("case", "name", "cost", "digits"),
    [
        ("M1", "TWAP catch-up, rest to A then B", 13.365611504674, 12),
        ("M2", "TWAP catch-up, rest to A then B", 9.788368, 6),
        ("M3", "VWAP catch-up, rest to A", 20.715159, 6),
        ("M4", "TWAP catch-up, rest to A", 17.941234, 6),
    ],
)
def test_the_best_simple_rule_is_the_stated_one(case: str, name: str, cost: float, digits: int) -> None:
    rule = best_simple_rule(problem(case))
    assert rule.cost == pytest.approx(cost, abs=0.51 * 10**-digits)
    assert rule.name == name


def test_half_a_lot_of_target_is_rounded_up_even_when_the_division_comes_out_low() -> None:
    # Targets 2 (1 - .1/.4) = 1.5 -> 2 and 2 (1 - .3/.4) = .5, in float64 .4999999999999998 -> 1, then 0.
    params = problem("M1", n_pools=0).model_copy(update={"lots": 2, "u": (0.1, 0.2, 0.1)})
    assert simple_rules(params)["VWAP lit only"][:, 2, 0].tolist() == [0, 1, 2]


def test_simple_rules_use_one_pool_or_all_pools_in_each_order() -> None:
    three = problem("M1").model_dump()
    three["pools"] = (*three["pools"], three["pools"][0])
    rules = simple_rules(LotRoutingParams.model_validate(three))
    names = [name.removeprefix("VWAP ") for name in rules if "VWAP" in name]
    orders = ["A", "B", "C", "A then B then C", "A then C then B", "B then A then C", "B then C then A"]
    orders += ["C then A then B", "C then B then A"]
    assert names == ["lit only", *(f"catch-up, rest to {order}" for order in orders)]


@settings(max_examples=60)
@given(params=small_problems())
def test_the_solver_agrees_with_plain_enumeration(params: LotRoutingParams) -> None:
    solution = solve_lot_routing(params)
    memo: dict[tuple[int, int], float] = {}
    for left in range(params.lots + 1):
        assert solution.V[0, left] == pytest.approx(value_by_enumeration(params, 0, left, memo), rel=1e-10, abs=1e-10)


@given(params=small_problems())
def test_the_optimal_actions_cost_the_value_and_have_no_regret(params: LotRoutingParams) -> None:
    solution = solve_lot_routing(params)
    assert evaluate_lot_policy(params, solution.action) == pytest.approx(solution.value, rel=1e-11, abs=1e-11)
    assert np.abs(action_regret(params, solution.action)).max() <= 1e-11


@given(params=small_problems(), seed=st.integers(0, 2**32 - 1))
def test_no_legal_policy_is_cheaper_and_its_gap_is_the_sum_of_its_regrets(params: LotRoutingParams, seed: int) -> None:
    rng = np.random.default_rng(seed)
    actions = solve_lot_routing(params).action
    for slot, left in np.ndindex(actions.shape[:2]):
        if rng.random() < 0.5:
            actions[slot, left] = rng.choice(legal_actions(params, left))
    outcome, best = propagate_lot_policy(params, actions), solve_lot_routing(params).value
    regret = action_regret(params, actions)
    assert regret.min() >= -1e-11
    assert outcome.cost - best == pytest.approx((outcome.lots_left_prob[:-1] * regret).sum(), abs=1e-10)
    assert outcome.lots_left_prob.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_the_order_of_the_pools_does_not_change_the_value() -> None:
    params = problem("M1")
    swapped = params.model_copy(update={"pools": params.pools[::-1]})
    there, back = solve_lot_routing(params), solve_lot_routing(swapped)
    assert back.value == pytest.approx(there.value, rel=1e-12)
    assert back.action[0, 16].tolist() == there.action[0, 16, [0, 2, 1]].tolist()


def test_of_equal_actions_the_smallest_is_taken() -> None:
    params = problem("M1").model_dump()
    params["pools"][0]["p0"] = params["pools"][1]["p0"] = 1.0  # nothing ever fills, so any dark order costs the same
    action = solve_lot_routing(LotRoutingParams.model_validate(params)).action
    assert not action[:, :, 1:].any()


def test_m1_is_solved_in_less_than_a_second() -> None:
    params = problem("M1")
    start = perf_counter()
    solve_lot_routing(params)
    assert perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ((5, 0, 0), r"actions\[2, 16\] = \[5, 0, 0\] is not legal \(1 states are wrong\).*0\.\.\[4, 8, 8\]"),
        ((0, -1, 0), "is not legal"),
        ((4, 8, 8), "may not pass the 16 lots left"),
    ],
)
def test_an_illegal_action_is_refused_with_its_state(action: tuple[int, ...], message: str) -> None:
    params = problem("M1")
    actions = np.zeros((8, 17, 3), np.int64)
    actions[2, 16] = action
    for judge in (evaluate_lot_policy, action_regret):
        with pytest.raises(UserError, match=message):
            judge(params, actions)


@pytest.mark.parametrize("actions", [np.zeros((8, 17, 2), np.int64), np.zeros((8, 17, 3))])
def test_actions_of_a_wrong_shape_or_in_fractions_are_refused(actions: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"shape \(slots, lots \+ 1, 1 \+ pools\) = \(8, 17, 3\)"):
        evaluate_lot_policy(problem("M1"), actions)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("lots",), 0),
        (("u",), []),
        (("u",), [1.0, 0.0]),
        (("tracking",), -0.1),
        (("lit", "quadratic"), -1),
        (("lit", "maximum"), 4),
        (("pools", 0, "p0"), 1.5),
        (("pools", 0, "p0"), float("nan")),
        (("pools", 1, "beta"), float("nan")),
        (("pools", 0, "m"), 0),
    ],
)
def test_parameters_outside_the_model_are_refused_by_name(path: tuple[Any, ...], value: Any) -> None:
    raw = problem("M1").model_dump()
    inner: Any = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError, match=".".join(str(key) for key in path)):
        LotRoutingParams.model_validate(raw)
