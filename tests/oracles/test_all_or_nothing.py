"""O2 and O3: the reference values, and the laws of the recursion on knots at random parameters."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glasspool.agents.oracles.dark_adverse import DarkFillAdverseParams, solve_dark_fill_adverse
from glasspool.agents.oracles.dark_fill import DarkFillQuadraticParams, solve_dark_fill_quadratic
from glasspool.agents.oracles.fill_paths import FillProblem, cost_of_policy
from glasspool.agents.oracles.fill_recursion import solve_fill_problem
from glasspool.agents.oracles.vwap_tracking import VwapTrackingParams, solve_vwap_tracking

CURVE = (0.24, 0.14, 0.12, 0.12, 0.14, 0.24)


@st.composite
def fill_problems(draw: st.DrawFn) -> FillProblem:
    n = draw(st.integers(1, 6))
    parts = draw(st.lists(st.floats(0.1, 1), min_size=n, max_size=n))
    x0 = draw(st.floats(0.5, 5))
    target = [x0 * (1 - sum(parts[:i]) / sum(parts)) for i in range(n)] + [0.0]
    return FillProblem(
        lam=tuple(draw(st.lists(st.floats(0.1, 5), min_size=n, max_size=n))), target=tuple(target),
        p=draw(st.floats(0, 1)), x0=x0, q=draw(st.floats(0, 2)), gamma=draw(st.floats(-0.5, 2)),
        phi=draw(st.floats(0, 3)),
    )  # fmt: skip


def adverse(gamma: float, **changes: float) -> DarkFillAdverseParams:
    base = {"q": 0.1, "p": 0.5, "n_slots": 5, "lam": 1, "x0": 1}
    return DarkFillAdverseParams.model_validate(base | changes | {"gamma": gamma})


@pytest.mark.parametrize(
    ("gamma", "value", "rows", "last"),
    [
        (0, 0.201056804877, [(0.10105680, 0.89894320, 0), (0.11221929, 0.78672390, 0)], 0.41352111),
        (0.1, 0.268908072632, [(0.13866267, 0.74402705, 0.11731028), (0.14119161, 0.61687497, 0.10327075),
                               (0.16036865, 0.47962439, 0.08015267), (0.21475960, 0.29956291, 0.04545455)], 0.34501746),
        (0.3, 0.360447800294, [(0.21387441, 0.43419476, 0.35193083), (0.19913626, 0.27717710, 0.30981224),
                               (0.18957358, 0.15695774, 0.24045802), (0.18940559, 0.07164653, 0.13636364)], 0.20801016),
        (1e9, 0.398845956692, [], 0.13854061),
    ],
)  # fmt: skip
def test_the_adverse_table_is_reproduced(
    gamma: float, value: float, rows: list[tuple[float, float, float]], last: float
) -> None:
    solution = solve_dark_fill_adverse(adverse(gamma))
    path = solution.no_fill_path(1.0)
    assert solution.value == pytest.approx(value, abs=5.1e-13)
    for (x, y, b), got, threshold in zip(rows, path, solution.threshold, strict=False):
        assert (*got, threshold) == pytest.approx((x, y, b), abs=6e-9)
    assert path[-1][0] == pytest.approx(last, abs=5.1e-9)


@pytest.mark.parametrize(
    ("phi", "p", "gamma", "value", "path"),
    [
        (0, 0, 0, 0.2, CURVE),
        (0, 0.4, 0, 0.036173633441, (0.043408, 0.042203, 0.060289, 0.100482, 0.195382, 0.558235)),
        (0, 0.4, 0.25, 0.176961917203, (0.166278, 0.103326, 0.097609, 0.112681, 0.160768, 0.359338)),
        (1, 0, 0, 0.2, CURVE),
        (1, 0.4, 0.10, 0.169333709956, (0.187321, 0.121909, 0.111693, 0.118709, 0.151233, 0.309134)),
    ],
)
def test_the_tracking_table_is_reproduced(
    phi: float, p: float, gamma: float, value: float, path: tuple[float, ...]
) -> None:
    solution = solve_vwap_tracking(VwapTrackingParams(u=CURVE, eta=0.2, p=p, gamma=gamma, phi=phi))
    assert solution.value == pytest.approx(value, abs=5.1e-13)
    assert [lit for lit, _ in solution.no_fill_path(1.0)] == pytest.approx(path, abs=5.1e-7)


@pytest.mark.parametrize(
    ("phi", "gamma", "thresholds"),
    [
        (0, 0.25, (0.475, 0.3875, 0.3125, 0.2375, 0.15)),
        (1, 0.10, (0.700535, 0.562451, 0.438504, 0.308397, 0.158182)),
    ],
)
def test_dark_orders_leave_the_stated_part(phi: float, gamma: float, thresholds: tuple[float, ...]) -> None:
    solution = solve_vwap_tracking(VwapTrackingParams(u=CURVE, eta=0.2, p=0.4, gamma=gamma, phi=phi))
    assert solution.threshold == pytest.approx(thresholds, abs=5.1e-7)


@given(problem=fill_problems())
def test_enumeration_of_fill_paths_costs_what_the_recursion_says(problem: FillProblem) -> None:
    solution = solve_fill_problem(problem)
    assert cost_of_policy(problem, solution.policy) == pytest.approx(solution.value, rel=1e-10, abs=1e-10)


@settings(max_examples=150)
@given(problem=fill_problems(), data=st.data())
def test_no_other_policy_is_cheaper(problem: FillProblem, data: st.DataObject) -> None:
    n = problem.n_slots
    lit_frac = data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    dark_frac = data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    weight = data.draw(st.floats(0, 1))  # from the optimum to an arbitrary policy
    solution = solve_fill_problem(problem)

    def other(slot: int, remaining: float) -> tuple[float, float]:
        x, y = solution.policy(slot, remaining)
        lit = (1 - weight) * x + weight * lit_frac[slot] * remaining
        dark = (1 - weight) * y + weight * dark_frac[slot] * (1 - lit_frac[slot]) * remaining
        return lit, min(dark, remaining - lit)

    assert cost_of_policy(problem, other) >= solution.value - 1e-11


@given(
    p=st.floats(0, 1), q=st.floats(0, 2), n=st.integers(1, 8), lam=st.floats(0.1, 5), x0=st.floats(0.5, 5),
    low=st.floats(0, 2), step=st.floats(0, 1),
)  # fmt: skip
def test_a_dearer_dark_fill_costs_more_at_a_falling_rate_and_is_used_less(
    p: float, q: float, n: int, lam: float, x0: float, low: float, step: float
) -> None:
    solutions = [
        solve_dark_fill_adverse(adverse(low + i * step, p=p, q=q, n_slots=n, lam=lam, x0=x0)) for i in range(3)
    ]
    first, middle, last = (s.value for s in solutions)
    assert first <= middle * (1 + 1e-12) and middle <= last * (1 + 1e-12)
    assert middle >= (first + last) / 2 * (1 - 1e-12)
    if n > 1:
        (x_a, y_a), (x_b, y_b) = solutions[0].policy(0, x0), solutions[1].policy(0, x0)
        assert y_b <= y_a + 1e-12 and x_b >= x_a - 1e-12


@given(p=st.floats(0, 1), q=st.floats(0, 2), n=st.integers(1, 12))
def test_without_a_charge_it_is_the_scalar_recursion(p: float, q: float, n: int) -> None:
    scalar = solve_dark_fill_quadratic(DarkFillQuadraticParams(q=q, p=p, n_slots=n, lam=1, x0=1)).value
    assert solve_dark_fill_adverse(adverse(0, p=p, q=q, n_slots=n)).value == pytest.approx(scalar, rel=1e-12)


def test_a_heavy_tracking_penalty_does_not_eat_digits() -> None:
    """phi -> inf forces the schedule: the value is eta less gamma-free terms of order 1/phi."""
    value = solve_vwap_tracking(VwapTrackingParams(u=CURVE, eta=0.2, p=0.4, gamma=0.1, phi=1e40)).value
    assert value == pytest.approx(0.2, rel=1e-12)


@given(p=st.floats(0, 1), gamma=st.floats(0, 1), phi=st.floats(0, 5))
def test_the_pool_never_makes_tracking_dearer_than_vwap(p: float, gamma: float, phi: float) -> None:
    assume(phi >= 0)
    assert solve_vwap_tracking(VwapTrackingParams(u=CURVE, eta=0.2, p=p, gamma=gamma, phi=phi)).value <= 0.2 + 1e-12
