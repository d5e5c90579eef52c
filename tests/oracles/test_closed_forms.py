"""Reference values of every other problem, through the same files and parameter names that a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from glasspool.agents.oracle_problems import KINDS, problems_of, solve_files
from glasspool.agents.oracles.almgren_chriss import AlmgrenChrissParams, almgren_chriss
from glasspool.agents.oracles.lot_problem import LotRoutingParams
from glasspool.agents.oracles.lot_regimes import solve_lot_regimes
from glasspool.agents.oracles.meq_mix import MeqMixParams, meq_kept
from glasspool.agents.oracles.pool_split import HiddenPool, censored_counts, greedy_split, kaplan_meier, tails
from glasspool.agents.oracles.transient_schedule import TransientScheduleParams, impact_matrix, transient_schedule
from glasspool.configs.errors import UserError

POOLS = [{"p0": p0, "beta": beta, "m": 50} for p0, beta in ((0.70, 0.5), (0.80, 0.9), (0.90, 0.25), (0.60, 1.3))]
PAIRS = [(5, 0), (5, 2), (5, 5), (3, 3), (3, 1), (2, 2), (4, 0), (4, 4), (1, 1), (6, 2)]
AC = {"kind": "almgren_chriss", "shares": 1e6, "days": 5, "n_slots": 5, "sigma": 0.95, "eps": 0.0625,
      "gamma": 2.5e-7, "eta": 2.5e-6}  # fmt: skip
AC_2005 = {"kind": "almgren_2005", "adv_shares": 6.561e6, "shares_outstanding": 1728e6, "sigma_daily_pct": 1.57,
           "size_frac_adv": 0.1}  # fmt: skip
POST = {"kind": "take_or_post", "half_spread": 0.01, "take_fee": 0.003, "rebate": 0.002, "theta": 0.0005,
        "queue": 2000, "size": 1000, "outflow_mean": 2500}  # fmt: skip
CURVE = [0.24, 0.14, 0.12, 0.12, 0.14, 0.24]
LOTS = {
    "kind": "lot_routing", "lots": 16, "u": [1.6, 1, 0.8, 0.6, 0.6, 0.8, 1, 1.6], "tracking": 0.0,
    "lit": {"linear": 1.0, "quadratic": 0.15, "max": 4}, "leftover": {"linear": 1.0, "quadratic": 0.6},
    "pools": [{"p0": 0.6, "beta": 0.5, "m": 8, "max": 8, "fee": 0.10, "adverse": 0.3},
              {"p0": 0.8, "beta": 0.2, "m": 8, "max": 8, "fee": 0.05, "adverse": 0.9}],
}  # fmt: skip
MEQ = {"kind": "meq_mix", "informed_frac": 0.5, "kappa_informed": 1.33, "sigma_a": 1.5,
       "informed": {"beta": 3, "m": 50}, "uninformed": {"beta": 1.2, "m": 50}}  # fmt: skip


def regimes(seen: str) -> dict[str, Any]:
    return {**LOTS, "regimes": {"adverse": [[0.3, 0.1], [0.3, 1.7]], "stay": 0.9, "seen": seen, "pool": 1}}


def transient(n: int, **kernel: Any) -> dict[str, Any]:
    return {"kind": "transient_schedule", "n": n, "kernel": kernel}


REFERENCE: list[tuple[dict[str, Any], float, float]] = [  # file, value, half a unit of the last printed digit
    ({"kind": "dark_fill_continuous", "eta": 1, "risk": 1, "theta": 0, "horizon": 1}, 1.313035285499, 5.1e-13),
    ({"kind": "dark_fill_continuous", "eta": 1, "risk": 1, "theta": 1, "horizon": 1}, 0.885619253897, 5.1e-13),
    ({"kind": "dark_fill_continuous", "eta": 1, "risk": 0, "theta": 2, "horizon": 1}, 0.313035285499, 5.1e-13),
    ({**AC, "risk_aversion": 0}, 662_500, 1e-6),
    ({**AC, "risk_aversion": 1e-6}, 1_275_355.5584, 5.1e-5),
    ({**AC, "risk_aversion": 2e-6}, 1_544_577.7414, 5.1e-5),
    ({**AC_2005, "horizon_days": 0.1}, 32.223850955926, 5.1e-13),
    ({**AC_2005, "horizon_days": 0.2}, 24.638405637312, 5.1e-13),
    ({**AC_2005, "horizon_days": 0.5}, 18.417863137873, 5.1e-13),
    ({"kind": "pool_split", "pools": POOLS, "volume": 4}, 1.238743248701, 5.1e-13),
    ({"kind": "pool_split", "pools": POOLS, "volume": 20}, 4.438196349822, 5.1e-13),
    ({"kind": "pool_split", "pools": POOLS, "volume": 20, "weights": [1, 0.4, 1.5, -0.2]}, 3.913605455878, 5.1e-13),
    ({"kind": "kaplan_meier", "pairs": [list(p) for p in PAIRS]}, 0.411428571429, 5.1e-13),
    ({"kind": "llp_exponential", "means": [0.3, 0.6], "rebates": [1, 0.8]}, 0.524679074647, 5.1e-13),
    ({**POST, "underfill": 0.01}, 2.667420188468, 5.1e-13),
    ({**POST, "underfill": 0.025}, 11.957043634889, 5.1e-13),
    ({**POST, "underfill": 0.04}, 13.5, 1e-12),
    (regimes("before_acting"), 10.590508822866, 5.1e-13),
    (regimes("never"), 11.772068960408, 5.1e-13),
    (regimes("fills_only"), 11.605095065060, 5.1e-13),
    (transient(5, type="exponential", weights=[1], rates=[0.6931471805599453]), 0.1875, 1e-14),
    (transient(10, type="exponential", weights=[1], rates=[0.4]), 0.168137691999, 5.1e-13),
    (transient(10, type="power", g=0.4), 0.294966279584, 5.1e-13),
    (transient(10, type="power", g=0.5), 0.262380772762, 5.1e-13),
    ({"kind": "participation_schedule", "u": CURVE, "beta": 0.3, "eta": 1}, 1.017882400184, 5.1e-13),
    ({"kind": "participation_schedule", "u": CURVE, "beta": 1, "eta": 1}, 1.091269841270, 5.1e-13),
    ({"kind": "markout_law", "kappa": 0.6, "sigma_a": 1.5, "tau": 60, "horizons": [10, 60]}, -0.5689, 5.1e-5),
    ({"kind": "probit_fill", "p": 0.3, "r": 0.4, "sigma_a": 1.5}, -0.69539, 5.1e-6),
    ({**MEQ, "meq": 2}, -0.39, 5.1e-3),
    ({**MEQ, "meq": 10}, -0.03, 5.1e-3),
]  # fmt: skip


@pytest.mark.parametrize(("data", "value", "tolerance"), REFERENCE)
def test_a_problem_file_gives_the_reference_value(
    data: dict[str, Any], value: float, tolerance: float, tmp_path: Path
) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text(yaml.safe_dump(data))
    assert solve_files([path])[0]["value"] == pytest.approx(value, abs=tolerance)


def test_every_kind_has_a_reference_value_here_or_in_a_test_of_its_own() -> None:
    assert set(KINDS) == {row[0]["kind"] for row in REFERENCE} | {
        "dark_fill_quadratic", "dark_fill_adverse", "vwap_tracking",
    }  # fmt: skip


def test_positions_of_the_mean_variance_schedule_are_the_published_ones() -> None:
    x, cost, variance = almgren_chriss(AlmgrenChrissParams.model_validate({**AC, "risk_aversion": 1e-6}))
    assert x[1:5] == pytest.approx([541955.5544, 289854.2194, 147897.4878, 62141.8016], abs=5.1e-5)
    assert (cost, variance**0.5) == pytest.approx((911_226.9863, 603_430.6688), abs=5.1e-5)


def test_splits_and_tails_are_the_stated_ones() -> None:
    pools = [HiddenPool.model_validate(p) for p in POOLS]
    weights = np.array([1, 0.4, 1.5, -0.2])
    for volume, plain, weighted in ((4, [2, 0, 0, 2], [4, 0, 0, 0]), (10, [7, 0, 0, 3], [10, 0, 0, 0]),
                                    (20, [14, 2, 0, 4], [17, 0, 3, 0])):  # fmt: skip
        assert greedy_split(tails(pools, volume), volume).tolist() == plain
        assert greedy_split(tails(pools, volume), volume, weights).tolist() == weighted
    died, at_risk = censored_counts(PAIRS)
    assert list(zip(died.tolist(), at_risk.tolist(), strict=True))[:5] == [(2, 10), (1, 7), (2, 5), (0, 2), (0, 1)]
    assert kaplan_meier(died, at_risk)[:5] == pytest.approx([0.8, 24 / 35, 14.4 / 35, 14.4 / 35, 14.4 / 35])


def test_seeing_the_regime_changes_the_first_action() -> None:
    seen = solve_lot_regimes(LotRoutingParams.model_validate(regimes("before_acting")))
    assert seen.V[0, :, 16] == pytest.approx([9.547060773060, 11.633956872672], abs=5.1e-13)
    assert seen.action[0, :, 16].tolist() == [[0, 8, 8], [1, 8, 0]]
    hidden = solve_lot_regimes(LotRoutingParams.model_validate(regimes("fills_only")))
    assert hidden.action[0, 0, 16].tolist() == [0, 8, 3]


def test_without_memory_fills_tell_nothing_and_with_certainty_before_acting_beats_them() -> None:
    for stay in (0.5, 0.7, 1.0):
        value = {}
        for seen in ("before_acting", "fills_only", "never"):
            data = regimes(seen)
            data["regimes"]["stay"] = stay
            value[seen] = solve_lot_regimes(LotRoutingParams.model_validate(data)).value
        assert value["before_acting"] < value["fills_only"] <= value["never"] + 1e-12
        if stay == 0.5:
            assert value["fills_only"] == pytest.approx(value["never"], rel=1e-12)


def test_the_schedule_under_transient_impact_is_a_u() -> None:
    params = TransientScheduleParams.model_validate(transient(10, type="exponential", weights=[1], rates=[0.4]))
    x = transient_schedule(params)
    assert (x[0], x[5]) == pytest.approx((0.201323922799, 0.066372461600), abs=5.1e-13)
    assert np.linalg.eigvalsh(impact_matrix(params))[0] == pytest.approx(0.201153923545, abs=5.1e-13)


def test_a_minimum_quantity_keeps_the_stated_share_of_arrivals() -> None:
    kept = [meq_kept(MeqMixParams.model_validate({**MEQ, "meq": m}))[0] for m in (1, 2, 5, 10)]
    assert kept == pytest.approx([1, 0.43, 0.22, 0.14], abs=5.1e-3)


def test_a_kind_without_a_market_is_solved_but_not_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "post.yaml"
    path.write_text(yaml.safe_dump({**POST, "underfill": 0.01}))
    with pytest.raises(UserError, match="is solved .--solve., not trained on"):
        problems_of([str(path)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adverse": [[0.3], [0.3]]}, "two rows .one a regime. of 2 charges"),
        ({"pool": 2}, "pools count from 0 to 1"),
        ({"pool": None, "adverse": [[0.3, 0.1], [0.2, 1.7]]}, "regimes.pool is needed: 2 pools differ"),
    ],
)
def test_regimes_that_do_not_fit_the_pools_are_refused(change: dict[str, Any], message: str) -> None:
    data = regimes("fills_only")
    data["regimes"] |= change
    with pytest.raises(ValueError, match=message):
        LotRoutingParams.model_validate(data)
