"""Attributions of an additive policy: exact sums, and what the policy does not read gets nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool.agents.runtime import AdditiveRuntime
from glasspool.configs.errors import UserError
from glasspool.envs.features import FEATURES, GLOBAL_FEATURES, observation_bounds
from glasspool.envs.state import ORDER_TYPES
from glasspool.explain.attribution import explain

ROUTES = ("XQLA:take", "XQLA:post", "XQDA:ping", "XQDA:rest", "XQDB:rest")
KIND = np.array([1, 2, 3, 4, 4])
NAMES = ("pace", *ORDER_TYPES)


def random_runtime(seed: int) -> AdditiveRuntime:
    rng = np.random.default_rng(seed)
    table = rng.integers(-2 * 10**9, 2 * 10**9, (len(NAMES), len(FEATURES), 9))
    return AdditiveRuntime(table, rng.integers(-(10**9), 10**9, len(NAMES)), KIND, NAMES)


def observations(n: int, seed: int) -> NDArray[np.float64]:
    low, high = observation_bounds(len(ROUTES))
    return np.random.default_rng(seed).uniform(low, high, (n, low.size))


def test_bias_and_parts_add_up_to_every_score_to_the_last_digit() -> None:
    runtime = random_runtime(1)
    for obs in observations(200, 2):
        explanation = explain(runtime, obs, ROUTES)
        scores = runtime.scores_e9(obs[None])[0].tolist()
        for parts, score in zip((explanation.pace, *explanation.routes), scores, strict=True):
            assert parts.score_e9 == score
            assert parts.bias_e9 + sum(parts.feature_attr_e9.values()) == score
            assert parts.bias_e9 + sum(parts.attr_e9.values()) == score


def test_a_feature_is_credited_with_what_changing_it_alone_changes() -> None:
    """Moving one route's markout moves the attribution of that feature at that route, by the change of its score."""
    runtime, obs = random_runtime(3), observations(1, 4)[0]
    moved = obs.copy()
    at = len(GLOBAL_FEATURES) + 3 * (len(FEATURES) - len(GLOBAL_FEATURES)) + 1  # route 3, markout_hs
    moved[at] = -2.0
    before, after = explain(runtime, obs, ROUTES), explain(runtime, moved, ROUTES)
    change = after.routes[3].feature_attr_e9["markout_hs"] - before.routes[3].feature_attr_e9["markout_hs"]
    assert change == after.routes[3].score_e9 - before.routes[3].score_e9 != 0
    assert [a for r, a in enumerate(after.routes) if r != 3] == [b for r, b in enumerate(before.routes) if r != 3]


def test_a_feature_that_the_policy_ignores_gets_nothing() -> None:
    runtime = random_runtime(5)
    ignored = [f.name for f in FEATURES].index("log_vol_ratio")
    runtime.table_e9[:, ignored] = 0
    for obs in observations(20, 6):
        explanation = explain(runtime, obs, ROUTES)
        assert {p.feature_attr_e9["log_vol_ratio"] for p in (explanation.pace, *explanation.routes)} == {0}


def test_the_pace_reads_global_features_only() -> None:
    pace = explain(random_runtime(7), observations(1, 8)[0], ROUTES).pace
    assert list(pace.feature_attr_e9) == [f.name for f in GLOBAL_FEATURES]
    assert "venue" not in pace.attr_e9


def test_factors_are_the_sums_of_their_features() -> None:
    for parts in explain(random_runtime(9), observations(1, 10)[0], ROUTES).routes:
        for factor, value in parts.attr_e9.items():
            assert value == sum(parts.feature_attr_e9[f.name] for f in FEATURES if f.factor == factor)


def test_leads_are_against_the_best_rival_and_absent_without_one() -> None:
    runtime = random_runtime(11)
    runtime.table_e9[:] = 0
    runtime.bias_e9[:] = [0, 10, 20, 30, 40]
    explanation = explain(runtime, observations(1, 12)[0], ROUTES)
    assert explanation.lead_e9(2, [0, 1, 2]) == 10
    assert explanation.lead_e9(0, [0, 1, 2]) == -20
    assert explanation.lead_e9(0, [0]) is None
    assert explanation.order([4, 0, 3]) == [3, 4, 0]  # equal scores in route order


def test_a_policy_whose_parts_do_not_add_up_is_refused() -> None:
    class OffByOne(AdditiveRuntime):
        def scores_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
            return super().scores_e9(obs) + 1

    whole = random_runtime(13)
    broken = OffByOne(whole.table_e9, whole.bias_e9, whole.kind, whole.kind_names)
    with pytest.raises(UserError, match=r"score of pace.*Only an additive policy"):
        explain(broken, observations(1, 14)[0], ROUTES)


def test_a_batch_is_explained_like_its_decisions_and_fills_the_room_it_is_given() -> None:
    runtime, obs = random_runtime(15), observations(50, 16)
    room = np.full((50, 1 + len(ROUTES), len(FEATURES)), -1)
    batch = runtime.contributions_e9(obs, room)
    assert batch is room
    assert np.array_equal(batch, np.concatenate([runtime.contributions_e9(row[None]) for row in obs]))
    assert np.array_equal(batch.sum(axis=2) + runtime.biases_e9, runtime.scores_e9(obs))
