"""O1: the published optimum of a lit market and an all-or-nothing dark pool, digit for digit, and its laws."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from glasspool.agents.oracles.dark_fill import DarkFillQuadraticParams, solve_dark_fill_quadratic
from glasspool.agents.oracles.fill_paths import cost_of_policy
from glasspool.configs.errors import UserError


def problem(
    q: float = 0.1, p: float = 0.5, n_slots: int = 5, lam: float = 1.0, x0: float = 1.0
) -> DarkFillQuadraticParams:
    return DarkFillQuadraticParams(q=q, p=p, n_slots=n_slots, lam=lam, x0=x0)


problems = st.builds(
    problem,
    q=st.floats(0, 2),
    p=st.floats(0, 1),
    n_slots=st.integers(1, 6),
    lam=st.floats(0.1, 5),
    x0=st.floats(0.5, 10),
)


@pytest.mark.parametrize(
    ("q", "p", "value", "lit"),
    [
        (0, 0, Fraction(1, 5), [0.2, 0.2, 0.2, 0.2, 0.2]),
        (0, 0.2, Fraction(256, 2101), [0.121847, 0.152308, 0.190386, 0.237982, 0.297477]),
        (0, 0.5, Fraction(1, 31), [0.032258, 0.064516, 0.129032, 0.258065, 0.516129]),
        (0.1, 0, Fraction(287891, 721810), [0.298846, 0.228731, 0.181488, 0.152395, 0.138541]),
        (0.1, 0.5, Fraction(777931, 3869210), [0.101057, 0.112219, 0.145766, 0.227437, 0.413521]),
    ],
)
def test_the_reference_table_is_reproduced(q: float, p: float, value: Fraction, lit: list[float]) -> None:
    solution = solve_dark_fill_quadratic(problem(q, p))
    assert solution.value == pytest.approx(float(value), rel=1e-12)
    assert solution.lit_frac_no_fill == pytest.approx(np.array(lit), abs=5.1e-7)


@pytest.mark.parametrize(("p", "value"), [(0, 0.159157554249), (0.25, 0.072512435295)])
def test_thirteen_slots_give_the_printed_values(p: float, value: float) -> None:
    assert solve_dark_fill_quadratic(problem(0.02, p, n_slots=13)).value == pytest.approx(value, abs=5.1e-13)


@given(p=st.floats(1e-3, 1), n_slots=st.integers(1, 12), lam=st.floats(0.01, 100))
def test_without_holding_cost_the_value_is_the_closed_form(p: float, n_slots: int, lam: float) -> None:
    # lam p / ((1-p)^(1-N) - (1-p)), multiplied through by (1-p)^(N-1) so that it also holds at p = 1.
    unfilled_prob = 1 - p
    closed_form = lam * p * unfilled_prob ** (n_slots - 1) / (1 - unfilled_prob**n_slots)
    assert solve_dark_fill_quadratic(problem(0, p, n_slots, lam)).value == pytest.approx(closed_form, rel=1e-9)


@given(q=st.floats(1e-3, 2), lam=st.floats(0.1, 5), n_slots=st.integers(2, 10))
def test_without_fills_the_positions_follow_almgren_and_chriss(q: float, lam: float, n_slots: int) -> None:
    # X_n = X_0 sinh k(N - n) / sinh kN with 2 (cosh k - 1) = q / lam: the discrete Euler equation of q X^2 + lam x^2.
    k = np.arccosh(1 + q / (2 * lam))
    position_frac = np.sinh(k * (n_slots - np.arange(n_slots + 1))) / np.sinh(k * n_slots)
    solution = solve_dark_fill_quadratic(problem(q, 0, n_slots, lam))
    assert solution.lit_frac_no_fill == pytest.approx(-np.diff(position_frac), rel=1e-9)
    cost = q * (position_frac[:-1] ** 2).sum() + lam * (np.diff(position_frac) ** 2).sum()
    assert solution.value == pytest.approx(cost, rel=1e-9)


@given(params=problems, other_p=st.floats(0, 1))
def test_a_pool_that_fills_more_often_never_costs_more(params: DarkFillQuadraticParams, other_p: float) -> None:
    low, high = sorted((params.p, other_p))
    cost_low, cost_high = (solve_dark_fill_quadratic(params.model_copy(update={"p": p})).value for p in (low, high))
    assert cost_high <= cost_low * (1 + 1e-12)
    if high - low > 1e-3 and params.n_slots > 1:
        assert cost_high < cost_low


@given(params=problems)
def test_the_optimal_policy_costs_its_value_over_all_fill_paths(params: DarkFillQuadraticParams) -> None:
    solution = solve_dark_fill_quadratic(params)
    assert cost_of_policy(params.fill_problem(), solution.policy) == pytest.approx(solution.value, rel=1e-11)
    assert solution.lit_frac_no_fill.sum() == pytest.approx(1, rel=1e-12)


@settings(max_examples=200)
@given(params=problems, data=st.data())
def test_no_perturbed_policy_is_cheaper(params: DarkFillQuadraticParams, data: st.DataObject) -> None:
    shifts = data.draw(st.lists(st.floats(-0.5, 0.5), min_size=params.n_slots, max_size=params.n_slots))
    dark_of_rest_fracs = data.draw(st.lists(st.floats(0, 1), min_size=params.n_slots, max_size=params.n_slots))
    solution = solve_dark_fill_quadratic(params)

    def perturbed(slot: int, remaining: float) -> tuple[float, float]:
        lit_frac = np.clip(solution.lit_of_remaining_frac[slot] + shifts[slot], 0, 1)
        return lit_frac * remaining, (1 - lit_frac) * remaining * dark_of_rest_fracs[slot]

    assert cost_of_policy(params.fill_problem(), perturbed) >= solution.value * (1 - 1e-12)


def test_a_policy_with_partial_dark_orders_is_costed_by_hand() -> None:
    # x = .25, y = .5 from 1: fill (p = .5) leaves .25, no fill leaves .75; the second slot takes the rest.
    # 0.1 + .25^2 + .5 (.1 + 1)(.25^2) + .5 (.1 + 1)(.75^2) = .1625 + .55 * .625 = .50625
    cost = cost_of_policy(
        problem(n_slots=2).fill_problem(), lambda slot, remaining: (0.25 * remaining, 0.5 * remaining)
    )
    assert cost == pytest.approx(0.50625, rel=1e-14)


def test_every_one_of_the_sixteen_paths_of_five_slots_is_asked_once() -> None:
    asked: list[tuple[int, float]] = []

    def policy(slot: int, remaining: float) -> tuple[float, float]:
        asked.append((slot, remaining))
        return 0.1 * remaining, 0.37 * remaining + 0.01 * slot * remaining  # no two paths meet

    cost_of_policy(problem().fill_problem(), policy)
    assert [sum(slot == n for slot, _ in asked) for n in range(5)] == [1, 2, 4, 8, 0]


@pytest.mark.parametrize("action", [(-0.1, 0.5), (0.5, -0.1), (0.6, 0.6), (float("nan"), 0.0)])
def test_an_illegal_action_is_refused_with_its_slot(action: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"in slot 0 with 1\.0 remaining.*Clip"):
        cost_of_policy(problem().fill_problem(), lambda slot, remaining: action)


def test_too_many_fill_paths_are_refused_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasspool.agents.oracles.fill_paths._MAX_POSITIONS", 100)
    with pytest.raises(UserError, match=r"more than 100 positions by slot 7.*n_slots \(30\)"):
        cost_of_policy(problem(n_slots=30).fill_problem(), lambda slot, remaining: (0.0, 0.3 ** (slot + 1) * remaining))


@pytest.mark.parametrize(
    "bad",
    [
        {"p": 1.2},
        {"lam": 0},
        {"q": -0.1},
        {"q": float("inf")},
        {"q": float("nan")},
        {"x0": 1e200},
        {"n_slots": 0},
        {"x0": 0},
        {"gamma": 0.1},
    ],
)
def test_parameters_outside_the_model_are_refused_by_name(bad: dict[str, float]) -> None:
    good = {"q": 0.1, "p": 0.5, "n_slots": 5, "lam": 1, "x0": 1}
    with pytest.raises(ValidationError, match=next(iter(bad))):
        DarkFillQuadraticParams.model_validate(good | bad)
