"""The measures themselves: what is faithful passes, what is not is found."""

from __future__ import annotations

import numpy as np
import pytest

from glasspool.agents.faithfulness import (
    Sample,
    additivity,
    curves,
    lead_parts,
    monotone_response,
    randomisation,
    rank_correlation,
    stability,
    synthetic_shares,
)  # fmt: skip
from glasspool.agents.reason_outcomes import expected_saving, outcome_tables, realised_saving
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.envs.features import FEATURES, N_GLOBAL, observation_bounds
from glasspool.envs.state import ORDER_TYPES

NAMES = ("pace", *ORDER_TYPES)
KIND = np.array([1, 2, 3, 4, 4])


def additive(seed: int) -> AdditiveRuntime:
    rng = np.random.default_rng(seed)
    table = rng.integers(-(10**9), 10**9, (len(NAMES), len(FEATURES), 9))
    return AdditiveRuntime(table, np.zeros(len(NAMES), np.int64), KIND, NAMES)


def sample(n: int = 200) -> Sample:
    low, high = observation_bounds(len(KIND))
    rng = np.random.default_rng(9)
    parents = np.array([f"P-{i // 5}" for i in range(n)])
    return Sample(rng.uniform(low, high, (n, low.size)), np.full(n, 4), np.full(n, 2), parents)


class Reversed(AdditiveRuntime):
    """Credits features with the opposite of what they do."""

    def contributions_e9(self, obs: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return -super().contributions_e9(obs, out)


def test_an_honest_order_loses_the_lead_first_and_a_reversed_one_last() -> None:
    honest, s = additive(1), sample()
    deleted, inserted = curves(honest, s)
    assert deleted.mean() < -1 and inserted.mean() > 1
    deleted, inserted = curves(Reversed(honest.table_e9, honest.bias_e9, KIND, NAMES), s)
    assert deleted.mean() > 1 and inserted.mean() < -1


def test_parts_of_a_lead_add_up_to_its_change_from_the_reference() -> None:
    policy, s = additive(2), sample(20)
    low, high = observation_bounds(len(KIND))
    scores = policy.scores(np.vstack([s.obs, 0.5 * (low + high)]))
    lead = scores[:, 4] - scores[:, 2]
    assert lead_parts(policy, s.obs, s.mix).sum(axis=1) == pytest.approx(lead[:-1] - lead[-1], abs=1e-9)


def test_parts_that_do_not_add_up_show_in_the_additivity_error() -> None:
    honest = additive(3)
    assert additivity(honest, sample()) == 0
    assert additivity(Reversed(honest.table_e9, honest.bias_e9, KIND, NAMES), sample()) > 1


def test_a_score_that_falls_with_a_better_fill_rate_is_counted() -> None:
    policy = additive(4)
    for i, f in enumerate(FEATURES):
        if f.monotone:
            policy.table_e9[:, i] = np.sort(policy.table_e9[:, i], axis=1)[:, :: f.monotone]
    assert monotone_response(policy, sample()) == 0
    policy.table_e9[:, N_GLOBAL] = policy.table_e9[:, N_GLOBAL, ::-1]
    assert monotone_response(policy, sample()) > 0.2


def test_shuffled_parameters_give_other_attributions_and_the_same_policy_the_same() -> None:
    policy = additive(5)
    assert abs(randomisation(policy, sample())) < 0.2
    assert stability([policy, policy], sample()) == pytest.approx((1.0, 1.0))
    assert rank_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[9.0, 5.0, 1.0]])) == pytest.approx(-1.0)


def test_a_planted_feature_gets_all_and_noise_nothing() -> None:
    """An additive policy fitted in two seconds; the bounds are the claim, 95 % and 1 %."""
    assert synthetic_shares("additive", True)["markout_hs"] >= 0.95
    assert synthetic_shares("additive", False)["imbalance_signed"] <= 0.01


# --- did the reason come true

LIT = {
    "shares": 200,
    "dark": {"p_fill_ppm": 250_000, "cost_e6": 3_000, "impact_e6": 1_000},
    "take": {"p_fill_ppm": 1_000_000, "spread_e6": 10_000, "instant_e6": 5_000, "fee_e6": 3_000, "cost_e6": 20_000,
             "impact_e6": 2_000},
    "post": {"p_fill_ppm": 500_000, "cost_e6": -4_000, "impact_e6": 2_000},
}  # fmt: skip
OUTCOME = {
    "dark": {"shares": 200, "filled_shares": 100, "cost_e6": 1_000},
    "take": {"shares": 200, "filled_shares": 200, "cost_e6": 21_000},
    "post": {"shares": 200, "filled_shares": 0, "cost_e6": None},
}


def test_savings_by_hand() -> None:
    """later = 18,000. Expected: dark 0.25 x 2,000 + 0.75 x 18,000 = 14,000; take 18,000; post 0.5 x -6,000 + 9,000."""
    assert expected_saving(LIT, "take") == 4_000
    assert expected_saving(LIT, "post") == 6_000 - 14_000
    assert realised_saving(LIT, OUTCOME, "take") == 21_000 - (500 + 9_000)
    assert realised_saving(LIT, OUTCOME, "post") == 18_000 - 9_500


def test_a_reason_that_does_not_come_true_is_said_to_disagree() -> None:
    records = []
    for i in range(1_200):
        name, noise = f"P-{i % 40}-{i}", (i * 7919 % 101) - 50
        records.append({"type": "decision", "body": {
            "decision_id": name, "parent_id": f"P-{i % 40}", "reasons": [{"code": "A"}], "lit_alternative": LIT,
            "baseline": {"rule": "R"}, "agrees": "no", "candidates": [{}, {"route": "X:rest", "p_fill_ppm": 250_000}],
            "released": [{"child_id": name, "route": "X:rest"}],
        }})  # fmt: skip
        took = OUTCOME | {"take": {"shares": 200, "filled_shares": 200, "cost_e6": 13_500 + noise}}
        records.append({"type": "lit_outcome", "body": {"decision_id": name, **took}})
        if i % 4 == 0:
            records.append({"type": "fill", "body": {"child_id": name}})
    tables = outcome_tables(records)
    rows = {(r["reason"], r["against"]): r for r in tables["reasons"]}
    assert rows["A", "take"]["agrees"] is True and rows["A", "take"]["n"] == 1_200
    assert rows["A", "post"]["agrees"] is False
    (chance,) = tables["calibration"]
    assert chance["brier"] == pytest.approx(0.25 * 0.75) == chance["brier_of_the_mean"]
